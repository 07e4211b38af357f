"""
A change of one compiled file, cut into what widens, what changes, and what narrows. *Cold, pure.*

What a revision does to several services cannot happen at one moment. So at every moment some sidecars run the old file
of their service and some the new one, and each must find what it calls. A call has two ends, and in a mesh both are
sidecars:

    the callee's end     its listeners and ports, who is admitted, in clear or by TLS (`admission`)
    the caller's end     its upstreams, the hosts that lead to them, whom it accepts there; its own listeners, its
                         routes

A callee's end that is only **added** harms nobody and must be there before the first caller uses it. One that is
**taken away** must stay until the last caller has stopped using it. In between callers change their minds, which is
what may go wrong, and what the waves are for. Hence the three files:

    widened    the old file, and what the new one has in addition:     old routes, old settings
    routed     the new file, and what the old one had in addition:     new routes, new settings
    narrowed   the new file

`widened` and `routed` are made by one operation, `union(base, other)`: everything of `base` as it is, and of `other`
only what stands beside it without changing where any request goes that `base` has an answer to. Therefore

- an upstream of both files is the base's, with hosts that only the other one names. One that only the other names is
  added if a host leads to it; without a host nothing in the base could call it, and every sidecar would read a file for
  nothing.
- a host is added only if no pattern of the base takes it (also not `*.example.com`, nor the host without its port):
  else a request would go elsewhere, and **what moves a request is a route**, whichever key it is written in.
- for the same reason no host is added where the base lets unmatched requests pass (`unmatched: passthrough`, the
  default in a mesh): they went where they were addressed, and for them the host is a new route. Only where they were
  answered 404 does it widen. The same holds of hosts that go.
- `unmatched` itself is `passthrough` in all three files if it is so before or after.
- a listener is added where its port (and its name) is free in the base. A port that changes hands changes with the
  routes; so does one whose `app` or `protocol` changes.
- who is admitted, how, and which identities of a callee are accepted, is what either file says (`admission`).
- a whole side (`inbound`, `outbound`) that the base does not have is added with the upstreams that its routes use.

Where what is made says what one of the two files says, it is that file: a change that only adds is over with its
widening, and one that only takes away is all narrowing.

What else the file says (routes, timeouts, limits, the app's address, telemetry) is a setting, and the base's. A step
that would change nothing gives the same tree, and is left out. Tests belong to the file for which they were written, so
the files in between have none: `expect: {status: 404}` may rightly fail while a host is still, or already, there.

A caller's own narrowing needs nobody's leave but that of its own service. So there is no order between the narrowings
of two services that call each other, and no circle in what waits for what: routes wait for widenings, narrowings for
routes (`mover`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.control.rollout.admission import with_admission_of, with_identities_of
from sidecar.control.rollout.listeners import (
    DEFAULTS,
    Tree,
    bound,
    covers,
    hosts_of,
    listeners,
    ports_of,
    with_listeners_of,
)


@dataclass(frozen=True, slots=True)
class Split:
    """
    The files in between.

    Attributes:
        widened: For each of the old trees, in their order; the tree itself where nothing widens.
        routed: For all; the new tree itself where nothing narrows.
    """

    widened: tuple[Tree, ...]
    routed: Tree


def split(olds: Sequence[Tree], new: Tree) -> Split:
    """
    Cut a change into its parts.

    Args:
        olds: The trees that instances of the service run now: one, or more if a rollout is superseded in its middle.
        new: The tree that all are to run.
    """
    routed = new
    for old in olds:
        routed = union(routed, old, is_passing=_is_passing(new))
    widened = [_one_of((old, new), union(old, new, is_passing=_is_passing(old))) for old in olds]
    return Split(tuple(widened), _one_of((new, *olds), routed))


def _one_of(files: Iterable[Tree], made: Tree) -> Tree:
    """One of the files if it says the same as what was made, tests aside: then nothing is left for another part."""
    if any(made is one for one in files):
        return made
    plain = _plain(made)
    return next((one for one in files if _plain(one) == plain), made)


def _plain(tree: Tree) -> dict[str, Any]:
    """What a file says, whichever form it says it in: listeners and hosts in their long form and in one order."""
    plain = {key: value for key, value in tree.items() if key != "tests"}
    for name, default in DEFAULTS.items():
        if name in tree:
            listens = sorted(listeners(tree[name], default), key=lambda one: str(one["address"]))
            plain[name] = {**tree[name], "listen": listens}
    upstreams = tree.get("upstreams", {})
    plain["upstreams"] = {name: {**one, "hosts": sorted(hosts_of(name, one))} for name, one in upstreams.items()}
    return plain


def union(base: Tree, other: Tree, *, is_passing: bool) -> Tree:
    """
    The base, and what the other has in addition without changing where the base sends anything.

    Args:
        base: A compiled file.
        other: Another one of the same service.
        is_passing: Whether unmatched requests pass in the file that the base stands for.

    Returns:
        A tree that is valid if both are; `base` itself where nothing is added.
    """
    needed: set[str] = set()
    taken = bound(base)
    whole: dict[str, Any] = {}
    for name, default in DEFAULTS.items():
        if name in other and name not in base:
            ports = ports_of(other[name], default)
            if ports & taken:
                continue  # it comes with the routes, as every port that changes hands
            taken |= ports
            whole[name] = other[name]
            needed |= set(_called(other[name]))
    upstreams = _upstreams(base, other, needed, is_passing=is_passing and "outbound" in base)
    made: dict[str, Any] = {**base, **whole}
    if upstreams:
        made["upstreams"] = upstreams
    known = [host for name, upstream in upstreams.items() for host in hosts_of(name, upstream)]
    for name, default in DEFAULTS.items():
        if name in base and name in other:
            hosts = known if name == "outbound" else None
            made[name] = with_listeners_of(base[name], other[name], default, taken, hosts)
    if "inbound" in base and "inbound" in other:
        made["inbound"] = with_admission_of(made["inbound"], other["inbound"])
    if "outbound" in base and _is_passing(other) and not _is_passing(base):
        made["outbound"] = {**made["outbound"], "unmatched": "passthrough"}
    if made == dict(base):
        return base
    made.pop("tests", None)
    return made


def _upstreams(base: Tree, other: Tree, needed: set[str], *, is_passing: bool) -> dict[str, Any]:
    own: dict[str, Any] = dict(base.get("upstreams", {}))
    owned = [host for name, upstream in own.items() for host in hosts_of(name, upstream)]
    for name, upstream in other.get("upstreams", {}).items():
        named = hosts_of(name, upstream)
        free = [] if is_passing else [host for host in named if not covers(owned, host)]
        if name in own:
            own[name] = with_identities_of(own[name], upstream)
            if free:
                own[name] = {**own[name], "hosts": hosts_of(name, own[name]) + free}
        elif free or name in needed:
            own[name] = upstream if free == named else {**upstream, "hosts": free}
    return own


def _called(side: Tree) -> Iterator[str]:
    """The upstreams that the routes of a side name."""
    for route in side.get("routes", []):
        to = route.get("to", [])
        if isinstance(to, str):
            yield to
        else:  # names as keys, or a list of names and of mappings with `upstream` or `redirect`
            named = (one for one in to if isinstance(one, str) or "upstream" in one)
            yield from (one if isinstance(one, str) else one["upstream"] for one in named)
        mirrors = route.get("mirror", [])
        for mirror in mirrors if isinstance(mirrors, list) else [mirrors]:
            yield mirror if isinstance(mirror, str) else mirror["to"]


def _is_passing(tree: Tree) -> bool:
    return bool(tree.get("outbound", {}).get("unmatched", "deny") == "passthrough")
