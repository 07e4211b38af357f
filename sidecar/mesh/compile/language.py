"""
Which language a compiled file needs: that of the newest key that stands in it. *Cold, pure.*

So a mesh that says nothing new goes on to compile for sidecars of older releases, and who says it in one service's file
needs new sidecars only where that file, or what callers get of it, has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sidecar.mesh.compile.tree import Items, Table, Text, Value

FIRST: Final = 1


def _of_routes(language: int, *keys: str) -> dict[tuple[str, ...], int]:
    """What this language says of routes, of both directions."""
    return {(side, "routes", "*", *keys): language for side in ("inbound", "outbound")}


def _of_rules(language: int, *keys: str) -> dict[tuple[str, ...], int]:
    """What this language says of what rules match."""
    at = ("inbound", "authorization", "rules", "*")
    return {(*at, verb, *form, *keys): language for verb in ("allow", "deny") for form in ((), ("[]",))}


SINCE: Mapping[tuple[str, ...], int] = {
    ("inbound", "tls"): 2,
    ("inbound", "authorization"): 2,
    ("upstreams", "*", "tls"): 2,
    ("tests", "*", "request", "from"): 2,
    ("tests", "*", "expect", "authorization"): 2,
    ("tests", "*", "expect", "rule"): 2,
    ("upstreams", "*", "protocol"): 3,
    ("outbound", "listen", "*", "protocol"): 3,
    ("inbound", "listen", "*", "protocol", "=tcp"): 3,
    ("tests", "*", "given"): 4,
    ("tests", "*", "expect", "split"): 4,
    ("tests", "*", "expect", "sent"): 4,
    ("tests", "*", "expect", "timeout"): 4,
    ("tests", "*", "expect", "retry"): 4,
    ("telemetry", "access_log", "format", "~{http_route}"): 4,
    **_of_routes(4, "match", "path", "template"),
    **_of_routes(4, "match", "*", "path", "template"),
    **_of_routes(4, "mirror", "[]"),
    **_of_routes(4, "to", "*", "rewrite"),
    **_of_routes(4, "to", "*", "redirect"),
    ("upstreams", "*", "protocol", "=auto"): 5,
    ("upstreams", "*", "protocol", "=http1"): 5,
    ("upstreams", "*", "protocol", "=http2"): 5,
    ("upstreams", "*", "http2"): 5,
    ("upstreams", "*", "health_check", "grpc"): 5,
    ("inbound", "health_check", "grpc"): 5,
    ("inbound", "app", "address"): 5,
    ("inbound", "listen", "*", "app", "address"): 5,
    ("tests", "*", "expect", "retry", "on", "~grpc_"): 5,
    ("tests", "*", "expect", "retry", "on", "[]", "~grpc_"): 5,
    **_of_routes(5, "match", "grpc"),
    **_of_routes(5, "match", "[]", "grpc"),
    **_of_routes(5, "retry", "on", "~grpc_"),
    **_of_routes(5, "retry", "on", "[]", "~grpc_"),
    **_of_routes(5, "fault", "abort", "grpc_status"),
    **_of_rules(5, "grpc"),
}
"""
Paths of keys in compiled files that an older sidecar would refuse, and the language from which on they are known: `*`
is any key, or any item, `[]` any item only, `=word` a value, and `~part` a value that holds it. Whoever raises
`LANGUAGE` says here what is new.
"""


def needed(root: Value) -> int:
    """The oldest language in which this file can be read."""
    return max((language for path, language in SINCE.items() if _stands(root, path)), default=FIRST)


def _stands(value: Value, path: tuple[str, ...]) -> bool:
    if not path:
        return True
    inner: Iterable[Value] = ()
    if isinstance(value, Text):
        return path == (f"={value.text}",) or (len(path) == 1 and path[0][:1] == "~" and path[0][1:] in value.text)
    if isinstance(value, Table):
        inner = (below for key, (_, below) in value.entries.items() if path[0] in ("*", key))
    elif isinstance(value, Items) and path[0] in ("*", "[]"):
        inner = value.items
    return any(_stands(one, path[1:]) for one in inner)
