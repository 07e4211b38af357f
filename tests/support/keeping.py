"""
Requests that a ring has kept, as the data path would have: by a plan that was compiled for it, without a socket.

    kept = Keeping(FILE)
    entry = kept.request("GET", "web", "/v1?tenant=a", "cookie: uid=1")
"""

from __future__ import annotations

from sidecar import clock, errors
from sidecar.compile.plan import Compiler
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.peer import Peer
from sidecar.proxy.exchange.steps import find_route, judge
from sidecar.proxy.plan import Plan, Side
from sidecar.proxy.recent import Entry, Recent
from sidecar.routing.actions import Forward, Route
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings
from tests.support.compiling import compiled, draft_of


def head_of(method: str, host: str, target: str, *fields: str) -> RequestHead:
    """A request as the data path's parser reads it."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    return parse_request_head("\r\n".join(lines).encode("utf-8", "surrogateescape"), 1000)


class Keeping:
    """
    A ring, and the plan of a file that says what is kept in it.

    Args:
        text: Of the file.
        recent: A ring that is there already.

    Attributes:
        written: What the file says.
        pace_ns: Between two requests, on a clock that stands still else; None: as fast as all of them are kept.
    """

    def __init__(self, text: str, recent: Recent | None = None) -> None:
        self.recent = recent if recent is not None else Recent(b"k" * 32)
        self.telemetry = Telemetry(TelemetrySettings(access_log_path=None), environment={})
        self.written = draft_of(text).written
        self.plan: Plan = compiled(text, by=Compiler(self.telemetry.scope, self.recent)).plan
        settings = self.written.settings.telemetry.recent_requests
        self.recent.configure(settings.keep, settings.max_size)
        self.count = 0
        self.pace_ns: int | None = None
        self._now_ns = clock.monotonic_ns()

    def request(
        self, method: str, host: str, target: str, *fields: str, side: str = "outbound", ip: str = "127.0.0.1",
        identity: str = "", grpc_status: int = -1,
    ) -> Entry:  # fmt: skip
        """A request that went as the plan says; returns what was kept of it."""
        self.live(head_of(method, host, target, *fields), side, ip, identity, grpc_status)
        return next(iter(self.recent.entries()))

    def live(
        self, head: RequestHead, label: str = "outbound", ip: str = "127.0.0.1", identity: str = "",
        grpc_status: int = -1,
    ) -> Exchange:  # fmt: skip
        """The same of a head; returns what became of it."""
        side: Side = self.plan.side_of[label]
        client = Peer("1.3", "", identity=identity) if identity else None
        exchange = Exchange(side.direction, self._now_ns, head, (ip, 1), side.unrouted, client, side.kept)
        self.telemetry.begin(exchange)
        self.count += 1
        exchange.request_id = b"r%d" % self.count
        found = self._found(side, exchange, head)
        if isinstance(found, Route):
            exchange.scope = found.scope
            if isinstance(found.action, Forward):
                exchange.scope = found.action.choose(head, ip).scope
            exchange.status = 200
        else:
            exchange.reason, exchange.status = found, found.status
        exchange.grpc_status = grpc_status
        self._now_ns += self.recent.gap_ns if self.pace_ns is None else self.pace_ns
        exchange.end_ns = self._now_ns
        self.telemetry.record(exchange)
        return exchange

    def _found(self, side: Side, exchange: Exchange, head: RequestHead) -> Route | Reason:
        if side.authorization is not None and not judge(side.authorization, side, None, exchange, head).is_allowed:
            return errors.AUTHORIZATION_DENIED
        return find_route(side, head, exchange.peer[0])

    @property
    def inbound(self) -> Side:
        """The side of the app."""
        return self.plan.sides[Direction.INBOUND]
