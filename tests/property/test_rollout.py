"""What must hold of rollouts for any fleet and any reports, and of the files in between for any two files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sidecar.config.load import load_text
from sidecar.config.problems import ConfigError
from sidecar.control.rollout.listeners import hosts_of, listeners, port_of
from sidecar.control.rollout.record import place_of
from sidecar.control.rollout.rules import Rules, wave_size
from sidecar.control.rollout.split import split
from tests.support.rollouts import Mesh, Sidecar, render, tree
from tests.support.thoroughness import examples

HOSTS = ["a", "b", "c", "x.y", "z.x.y", "*.y", "*.x.y", "*"]
ASKED = ["a", "b", "c", "d", "x.y", "z.x.y", "w.x.y", "v.y"]
PATHS = ["/", "/one", "/two"]
PORTS = ["15000", "15100", "15200", "15001"]
IDENTITIES = ["spiffe://shop/a", "spiffe://shop/b", "spiffe://shop/ns/x/sa/c"]
Values = dict[str, Any]

_CLAUSES = st.fixed_dictionaries(
    {"from": st.lists(st.sampled_from(IDENTITIES), min_size=1, max_size=2, unique=True)},
    optional={"path": st.sampled_from(["/x", "/y"])},
)
_RULES = st.tuples(
    st.lists(
        st.one_of(
            st.fixed_dictionaries({"deny": _CLAUSES}, optional={"mode": st.sampled_from(["enforce", "audit"])}),
            st.fixed_dictionaries({"allow": st.one_of(_CLAUSES, st.lists(_CLAUSES, max_size=2))}),
        ),
        max_size=3,
    ),
    st.fixed_dictionaries(
        {"name": st.just("callers"), "allow": st.one_of(_CLAUSES, st.just([]))}, optional={"mode": st.just("audit")}
    ),
).map(lambda pair: [*({"name": f"r{index}", **rule} for index, rule in enumerate(pair[0])), pair[1]])
ADMISSION = st.fixed_dictionaries(
    {},
    optional={
        "tls": st.sampled_from(["off", "permissive", "strict", {"mode": "strict", "clear": [{"path": "/ready"}]}]),
        "authorization": st.fixed_dictionaries(
            {"default": st.sampled_from(["deny", "allow"]), "rules": _RULES},
            optional={"mode": st.sampled_from(["audit", "enforce"]), "unidentified": st.just("deny")},
        ),
    },
)
"""What an inbound side says of who may come in, and how."""


@st.composite
def files(draw: st.DrawFn) -> Values:
    """A compiled file: upstreams with hosts, routes to them, listeners on both sides, of which one may be missing."""
    free = draw(st.permutations(HOSTS))
    upstreams: Values = {}
    for name in draw(st.lists(st.sampled_from("abcde"), unique=True)):
        taken = free[: draw(st.integers(0, 2))]
        free = free[len(taken) :]
        upstreams[name] = {"discover": name, "hosts": taken, "connect_timeout": draw(st.sampled_from(["1s", "2s"]))}
        identities = draw(st.lists(st.sampled_from(IDENTITIES), max_size=2, unique=True))
        if identities:
            upstreams[name]["tls"] = {"identities": identities}
    made: Values = {"service": "shop", "upstreams": upstreams}
    sides = draw(st.sampled_from([("inbound",), ("outbound",), ("inbound", "outbound")]))
    if "inbound" in sides:
        made["inbound"] = {"app": "127.0.0.1:8080", "listen": draw(_listeners("0.0.0.0")), **draw(ADMISSION)}
    if "outbound" in sides:
        made["outbound"] = {
            "listen": draw(_listeners("127.0.0.1")),
            "unmatched": draw(st.sampled_from(["deny", "passthrough"])),
            "routes": [] if not upstreams else draw(st.lists(_routes(sorted(upstreams)), max_size=3)),
        }
    return made


def _listeners(host: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(PORTS), min_size=1, max_size=2, unique=True).map(
        lambda ports: [f"{host}:{port}" for port in ports]
    )


def _routes(upstreams: list[str]) -> st.SearchStrategy[Values]:
    match = st.fixed_dictionaries({}, optional={"host": st.sampled_from(ASKED), "path": st.sampled_from(PATHS)})
    return st.one_of(
        st.fixed_dictionaries({"match": match, "to": st.sampled_from(upstreams)}),
        st.fixed_dictionaries({"match": match, "respond": st.just({"status": 404})}),
    )


def is_valid(made: Mapping[str, Any]) -> bool:
    """Whether the sidecar takes it."""
    try:
        load_text(json.dumps(made).encode(), "file", {})
    except ConfigError:
        return False
    return True


def answer(made: Mapping[str, Any], host: str, path: str) -> str:
    """Where a request of the app goes, by a naive reading of the file; `404` where nothing takes it."""
    outbound = made.get("outbound")
    if outbound is None:
        return "404"
    for route in outbound["routes"]:
        match = route["match"]
        if match.get("host", host) == host and match.get("path", path) == path:
            return f"route to {route.get('to')}"
    owners = {pattern: name for name, one in made["upstreams"].items() for pattern in hosts_of(name, one)}
    suffixes = ["*" + host[index:] for index, letter in enumerate(host) if letter == "."]
    for pattern in (host, *suffixes, "*"):
        if pattern in owners:
            return f"host of {owners[pattern]}"
    return "passthrough" if outbound["unmatched"] == "passthrough" else "404"


def ports(made: Mapping[str, Any], side: str) -> set[str]:
    return {port_of(one["address"]) for one in listeners(made[side], "")} if side in made else set()


@settings(max_examples=examples(250), deadline=None)
@given(old=files(), new=files())
def test_file_in_between_sends_nothing_elsewhere_than_the_file_it_stands_for(old: Values, new: Values) -> None:
    """
    Widened answers as the old file does, routed as the new one; only what would be answered 404 may go where the other
    file sends it. Both are files that a sidecar takes.
    """
    assume(is_valid(old) and is_valid(new))
    parts = split([old], new)
    for made, base, other in ((parts.widened[0], old, new), (parts.routed, new, old)):
        assert is_valid(made)
        for host, path in itertools.product(ASKED, PATHS):
            is_answer = answer(base, host, path)
            if is_answer != "404":
                assert answer(made, host, path) == is_answer
            else:
                # A side that the base does not have may find hosts of upstreams that the base has for its other side.
                names = other["upstreams"] if "outbound" in base else {**base["upstreams"], **other["upstreams"]}
                owned = {f"host of {name}" for name in names}
                allowed = {"404", answer(other, host, path), *owned}
                if other.get("outbound", {}).get("unmatched") == "passthrough":
                    allowed |= {"passthrough"}
                assert answer(made, host, path) in allowed
        assert ports(made, "inbound") >= ports(base, "inbound")
        assert ports(made, "outbound") >= ports(base, "outbound")
        free = ports(other, "inbound") - ports(base, "outbound")
        if "outbound" in base or "outbound" not in other:
            assert ports(made, "inbound") >= free or "inbound" not in base


@settings(max_examples=examples(200), deadline=None)
@given(old=files(), new=files())
def test_both_ends_of_a_call_stand_in_every_part(old: Values, new: Values) -> None:
    """
    A route of any part finds its upstream in its own file; a port that both files of a callee have is open in all
    parts, one that only the new one has from the widening on, one that only the old one has until the narrowing.
    """
    assume(is_valid(old) and is_valid(new))
    parts = split([old], new)
    chain = [old, parts.widened[0], parts.routed, new]
    for made in chain:
        for route in made.get("outbound", {}).get("routes", []):
            assert "to" not in route or route["to"] in made["upstreams"]
    both = ports(old, "inbound") & ports(new, "inbound")
    for made in chain:
        assert ports(made, "inbound") >= both
    for host in HOSTS:
        owners = [[name for name, one in made["upstreams"].items() if host in hosts_of(name, one)] for made in chain]
        assert all(len(owner) <= 1 for owner in owners)
        if owners[0] and owners[0] == owners[3] and "outbound" in old and "outbound" in new:
            assert owners[1] == owners[2] == owners[0], "a host that stays is nowhere missing"


RULES = st.builds(
    Rules,
    waves=st.sampled_from([("one", "10%", "50%", "100%"), ("25%",), ("one",), ("100%",), ("5%", "20%", "60%")]),
    hold_s=st.sampled_from([0.0, 10.0, 30.0]),
    worse_by=st.sampled_from([None, 0.02]),
    thin_after_s=st.sampled_from([0.0, 60.0]),
)


@settings(max_examples=40, deadline=None)
@given(rules=RULES, count=st.integers(0, 40), slow=st.integers(0, 4), data=st.data())
def test_all_accept_and_never_more_than_the_wave_has_it(
    rules: Rules, count: int, slow: int, data: st.DataObject
) -> None:
    """However slowly they accept; movers change in the middle, and the record goes through JSON at each step."""
    mesh = Mesh(rules)
    old, new = tree("old"), tree("new")
    mesh.push(shop=old)
    mesh.fleet("shop", count)
    mesh.until_done()
    delays = {name: data.draw(st.integers(0, slow)) for name in mesh.sidecars}
    for name, one in mesh.sidecars.items():
        one.judges = _late(delays, name)
    mesh.push(shop=new)
    steps = rules.steps
    for _ in range(400):
        mesh.mover = data.draw(st.sampled_from(["one", "one", "one", "one", "two"]))
        mesh.pass_time(5)
        service = mesh.service("shop")
        if service.state == "done":
            break
        assert service.state == "rolling"
        size = wave_size(steps[service.wave], count) if service.limit >= 0 else 0
        assert len(mesh.running("shop", new)) <= size
    mesh.mover = "one"
    mesh.until_done()
    assert len(mesh.running("shop", new)) == count


def _late(delays: dict[str, int], name: str) -> Any:
    def judges(wanted: str) -> str:
        delays[name] -= 1
        return "accept" if delays[name] < 0 else "hang"

    return judges


@settings(max_examples=examples(60), deadline=None)
@given(
    rules=RULES,
    count=st.integers(1, 30),
    refusers=st.sets(st.integers(0, 29), min_size=1),
    is_hanging=st.booleans(),
    is_now=st.booleans(),
)
def test_halted_service_ends_with_everyone_on_the_old_file(
    rules: Rules, count: int, refusers: set[int], is_hanging: bool, is_now: bool
) -> None:
    """Whoever refuses or hangs, in whichever wave; and other services end on the new one."""
    mesh = Mesh(rules)
    old, new = tree("old"), tree("new")
    mesh.push(shop=old, search=old)
    mesh.fleet("shop", count)
    mesh.fleet("search", 3)
    mesh.until_done()
    bad = {number % count for number in refusers}
    for number in bad:
        wanted = render(new).hash
        mesh.sidecars[f"shop-{number}"].judges = lambda one, wanted=wanted: (  # type: ignore[misc]
            "accept" if one != wanted else "hang" if is_hanging else "refuse"
        )
    mesh.push(shop=new, search=new, is_now=is_now)
    mesh.until(lambda: mesh.service("shop").state == "halted" and mesh.service("search").state == "done")
    mesh.pass_time(60)
    assert mesh.service("shop").state == "halted"
    assert len(mesh.running("shop", old)) == count
    assert len(mesh.running("search", new)) == 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 4)),
        st.tuples(st.just("join"), st.integers(0, 1)),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.just("lose"), st.integers(0, 20)),
        st.tuples(st.just("return"), st.integers(0, 20)),
        st.tuples(st.just("time"), st.integers(1, 12)),
        st.tuples(st.just("mover"), st.integers(0, 2)),
        st.tuples(st.just("unseen"), st.integers(0, 1)),
        st.tuples(st.just("now"), st.just(0)),
        st.tuples(st.just("back"), st.integers(1, 3)),
    ),
    max_size=25,
)


@settings(max_examples=examples(250), deadline=None)
@given(steps=STEPS)
def test_whatever_happens_all_end_on_the_wanted_file_and_no_number_falls(steps: list[tuple[str, int]]) -> None:
    """
    Pushes over pushes, joins, losses, takeovers, blindness, haste and rollbacks, in any order; when it has calmed down,
    all run what is wanted. Nobody is ever told a lower number, and a second look takes no step (`Mesh.look`).
    """
    mesh = Mesh(Rules(waves=("one", "50%"), hold_s=10, worse_by=None))
    mesh.push(shop=tree("0"), search=tree("0"))
    mesh.fleet("shop", 6)
    for number, (what, value) in enumerate(steps):
        people = sorted(mesh.sidecars.values(), key=lambda one: one.id)
        someone = people[value % len(people)] if people else None
        if what == "push":
            mesh.push(shop=tree(str(value)), search=tree(str(value % 2)))
        elif what == "join":
            mesh.join("shop" if value else "search", f"late-{number}")
        elif what == "leave" and someone is not None:
            del mesh.sidecars[someone.id]
        elif what == "lose" and someone is not None:
            someone.is_connected, someone.is_stale = False, True
        elif what == "return" and someone is not None:
            _back(mesh, someone)
        elif what == "time":
            mesh.pass_time(5.0 * value)
        elif what == "mover":
            mesh.mover = f"mover-{value}"
        elif what == "unseen":
            mesh.unseen = ("replica",) * value
        elif what == "now":
            mesh.hurry()
        elif what == "back" and mesh.record.revision > value:
            mesh.back(mesh.record.revisions[-min(value, len(mesh.record.revisions))].number)
        mesh.look()
    mesh.unseen = ()
    for one in mesh.sidecars.values():
        _back(mesh, one)
    mesh.until_done()
    for one in mesh.sidecars.values():
        assert one.hash == mesh.record.revisions[-1].files[one.service].hash
        assert one.revisions == sorted(one.revisions)
    assert mesh.record.hashes() == {kept.hash for revision in mesh.record.revisions for kept in revision.files.values()}


def _back(mesh: Mesh, one: Sidecar) -> None:
    if not one.is_connected:
        one.is_connected, one.is_stale, one.connected_s = True, False, mesh.now_s


CALLEE = {"service": "recs", "inbound": {"app": "127.0.0.1:8080", "listen": ["0.0.0.0:15000"]}}
CALLEE_GRPC = {"service": "recs", "inbound": {"app": "127.0.0.1:8080", "listen": ["0.0.0.0:15000", "0.0.0.0:15100"]}}
DIALS = {"recs": "15000", "recs.grpc": "15100"}


def caller(unmatched: str, *called: str) -> Values:
    """A file whose routes call these, each by a path of its own."""
    routes = [{"match": {"path": f"/{name}"}, "to": name} for name in called]
    upstreams = {name: {"discover": name, "hosts": [f"{name}.shop"]} for name in called}
    return {"service": "shop", "outbound": {"unmatched": unmatched, "routes": routes}, "upstreams": upstreams}


@settings(max_examples=examples(80), deadline=None)
@given(
    unmatched=st.sampled_from(["deny", "passthrough"]),
    is_adding=st.booleans(),
    is_now=st.booleans(),
    are_mutual=st.booleans(),
    callers=st.integers(1, 6),
    callees=st.integers(1, 6),
    data=st.data(),
)
def test_revision_of_both_ends_loses_no_call(
    unmatched: str, is_adding: bool, is_now: bool, are_mutual: bool, callers: int, callees: int, data: st.DataObject
) -> None:
    """
    One revision adds a port to the callee and calls of it to the caller, or takes both away, while sidecars accept at
    different speeds and new ones join. At every moment, whatever file a caller runs, what its routes call is listened
    on by every callee.
    """
    before = (caller(unmatched, "recs"), CALLEE)
    after = (caller(unmatched, "recs", "recs.grpc"), CALLEE_GRPC)
    old, new = (before, after) if is_adding else (after, before)
    mesh = Mesh(Rules(waves=("one", "50%"), hold_s=5, worse_by=None))
    mesh.callees = {"shop": ("recs",), "recs": ("shop",) if are_mutual else ()}
    mesh.push(shop=old[0], recs=old[1])
    mesh.fleet("shop", callers)
    mesh.fleet("recs", callees)
    mesh.until_done()
    delays = {name: data.draw(st.integers(0, 4)) for name in mesh.sidecars}
    for name, one in mesh.sidecars.items():
        one.judges = _late(delays, name)
    mesh.push(shop=new[0], recs=new[1], is_now=is_now)
    for number in range(200):
        mesh.pass_time(5)
        _every_call_is_heard(mesh)
        if number < 10 and data.draw(st.integers(0, 3)) == 0:
            mesh.join(data.draw(st.sampled_from(["shop", "recs"])), f"late-{number}")
            _every_call_is_heard(mesh)
        if all(service.state == "done" for service in mesh.record.services.values()):
            break
    assert len(mesh.running("shop", new[0])) + len(mesh.running("recs", new[1])) == len(mesh.sidecars)


def _every_call_is_heard(mesh: Mesh) -> None:
    runs = [(one.service, mesh.trees[one.hash]) for one in mesh.sidecars.values()]
    for service, made in runs:
        if service == "shop":
            for route in made["outbound"]["routes"]:
                assert route["to"] in made["upstreams"]
                for other, heard in runs:
                    assert other != "recs" or DIALS[route["to"]] in ports(heard, "inbound")


@settings(max_examples=examples(50), deadline=None)
@given(names=st.sets(st.text(min_size=1, max_size=20), max_size=60))
def test_first_of_a_wave_are_those_of_the_lowest_places(names: set[str]) -> None:
    """Whatever ids look like, and in whichever order they are seen."""
    mesh = Mesh(Rules(waves=("50%",), worse_by=None))
    mesh.push(shop=tree("old"))
    for name in names:
        mesh.join("shop", name)
    mesh.until_done()
    mesh.push(shop=tree("new"))
    mesh.look(2)
    expected = sorted(names, key=place_of)[: wave_size("50%", len(names))]
    assert mesh.running("shop", tree("new")) == sorted(expected)
