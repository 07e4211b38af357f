"""What the tests of this room share: heads and routes."""

from __future__ import annotations

from sidecar.http1.grammar import field_of
from sidecar.message import RequestHead
from sidecar.routing.actions import Respond, Route
from sidecar.routing.match import Match


class NoTelemetry:
    """Stands for what telemetry binds to a route."""

    route = ""
    upstream = ""


def head_of(
    path: bytes = b"/", *lines: bytes, method: bytes = b"GET", host: bytes = b"shop", port: int | None = None
) -> RequestHead:
    """A normalised head as the parser would make it; `path` may hold a query, `lines` are fields after `Host`."""
    path, mark, query = path.partition(b"?")
    head = RequestHead(method, path, query if mark else None, 1)
    head.host, head.port = host, port
    head.fields = [field_of(line) for line in (b"Host: " + host, *lines)]
    for field in head.fields:
        head.kinds |= field.kind
    return head


def route_of(name: str, *matches: Match) -> Route:
    """A route that answers by itself."""
    return Route(name, matches, Respond(200), NoTelemetry())
