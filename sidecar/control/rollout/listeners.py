"""Where a compiled file listens, so that listeners of two files can stand side by side. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Tree = Mapping[str, Any]

DEFAULTS = {"inbound": "0.0.0.0:15000", "outbound": "127.0.0.1:15001"}
_ADMIN = "127.0.0.1:9901"
_METRICS = "0.0.0.0:15020"


def listeners(side: Tree, default: str) -> list[dict[str, Any]]:
    """The listeners of `inbound` or `outbound` in their long form."""
    said = side.get("listen", default)
    return [{"address": one} if isinstance(one, str) else dict(one) for one in _listed(said)]


def bound(tree: Tree) -> set[str]:
    """
    Everything that a file binds, by `port_of`.

    Two addresses of one port count as one, whether or not the system would let both be bound: what is left out of a
    step for being too careful still comes with the next.
    """
    admin = _listed(tree.get("admin", {}).get("listen", _ADMIN))
    metrics = _listed(tree.get("telemetry", {}).get("metrics", {}).get("listen", _METRICS))
    found = {port_of(str(one)) for one in (*admin, *metrics)}
    for name, default in DEFAULTS.items():
        if name in tree:
            found |= ports_of(tree[name], default)
    return found


def ports_of(side: Tree, default: str) -> set[str]:
    """What one side binds."""
    return {port_of(str(one["address"])) for one in listeners(side, default)}


def port_of(address: str) -> str:
    """`0.0.0.0:15000` -> `15000`; the path of a Unix socket as it is."""
    return address if address.startswith("unix:") else address.rpartition(":")[2]


def with_listeners_of(
    side: Tree, other: Tree, default: str, taken: set[str], hosts: Iterable[str] | None
) -> dict[str, Any]:
    """
    A side with those listeners of another one that can be bound beside its own.

    Args:
        side: `inbound` or `outbound` of a file.
        other: The same of another file.
        default: Where the side listens if it does not say.
        taken: Ports of the first file; those that are added here are put into it.
        hosts: Hosts that the result will know; a listener for another one is left out. None: all are known.

    Returns:
        `side` itself where nothing is added.
    """
    own = listeners(side, default)
    names = {one["name"] for one in own if "name" in one}
    added = []
    for one in listeners(other, default):
        port = port_of(str(one["address"]))
        is_known = hosts is None or "host" not in one or covers(hosts, str(one["host"]))
        if port not in taken and one.get("name") not in names and is_known:
            taken.add(port)
            added.append(one)
    return {**side, "listen": own + added} if added else dict(side)


def covers(patterns: Iterable[str], host: str) -> bool:
    """Whether one of the patterns takes requests for this host, or for some hosts of this pattern."""
    plain = _without_port(host)
    for pattern in patterns:
        if pattern in (host, plain, "*"):
            return True
        if pattern.startswith("*.") and (host.endswith(pattern[1:]) or plain.endswith(pattern[1:])):
            return True
    return False


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def hosts_of(name: str, upstream: Tree) -> list[str]:
    """The hosts by which an upstream is called, lower case; its own name where it does not say."""
    said = upstream.get("hosts")
    return [one.lower().removesuffix(".") for one in ([name] if said is None else _listed(said))]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
