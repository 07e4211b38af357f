"""
The stages of a request in the order of its walk, each alone: what it does, to what, and what it may cost.

A stage takes requests nobody has sent before, as `benchmarks/load.lua` sends them, through the very functions that the
data path calls. Stages of one request follow each other, and whole requests run in between: alone in a loop each would
take little more than half of that (head 4.8 us instead of 7.8), because the processor learns the way through so little
code by heart, as it never can in a proxy. Budgets are microseconds of CPU
on the machine of docs/performance.md. Together they are what the goal of 2.5 times a bare relay leaves: 23.2 us less
the relay's 9.3, which pay for the event loop and the system calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from benchmarks.micro.data_path import RESPONSE, DataPath, requests
from sidecar import clock
from sidecar.exchange import Direction, Exchange
from sidecar.http1.forward import response_bytes
from sidecar.http1.head import find_head_end, parse_request_head, response_head
from sidecar.proxy.exchange.steps import find_route, request_to_send
from sidecar.proxy.server.http1 import ServerConnection
from sidecar.routing.actions import Forward, Route
from sidecar.upstream import pool

Work = Callable[[], object]
Paths = tuple[DataPath, DataPath, DataPath]

PEER = ("192.0.2.1", 40000)
FORWARDED = b"x-forwarded-proto: http\r\n"
ADDED = (
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
    b"x-request-id: 0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\r\n"
)


@dataclass(frozen=True, slots=True)
class Stage:
    """
    One row of the table.

    Attributes:
        name: As in the issue and in docs/performance.md.
        what: Which functions it is.
        budget_us: On the reference machine.
    """

    name: str
    what: str
    budget_us: float


STAGES = (
    Stage("head", "find_head_end, parse_request_head: eight fields, cookie and target new", 2.2),
    Stage("begin", "Exchange, Telemetry.begin: ids, lines to add", 0.9),
    Stage("match", "find_route: 22 routes, by host, prefix and cookie", 0.8),
    Stage("choose", "Forward.choose, Cluster.choose: 95 to 5, then an endpoint", 0.4),
    Stage("forward", "request_to_send: edits, and the head in bytes", 0.8),
    Stage("acquire", "pool.take, is_quiet (a system call), pool.release", 0.7),
    Stage("answer", "response_head: a head like the last one", 0.7),
    Stage("reply", "response_bytes", 0.5),
    Stage("record", "Telemetry.record: metrics only", 0.7),
    Stage("log", "what a JSON line adds to it", 1.2),
    Stage("span", "what an encoded span adds to it", 1.2),
    Stage("rest", "callbacks, states, deadlines, the attempt, the flush: whole less stages", 3.6),
    Stage("collector", "cyclic garbage: whole with it less whole without", 0.2),
)


class Walk:
    """
    One request on its walk, a stage at a time.

    Args:
        paths: With log and span, with the log, with neither.
        user: The request in bytes, not seen before.
    """

    def __init__(self, paths: Paths, user: bytes) -> None:
        self._full, self._logged, self._plain = paths
        self._user = user
        self._side = self._full.plan.sides[Direction.OUTBOUND]
        self._listener = self._full.plan.listeners[0]

    def works(self) -> Iterator[tuple[str, Work]]:
        """Whatever is timed, in order, each to be done before the next is asked for."""
        yield "nothing", self.nothing
        yield "head", self.read_head
        yield "begin", self.begin
        yield "match", self.match
        self.action = cast("Forward", self.route.action)
        yield "choose", self.choose
        yield "forward", self.forward
        self.endpoint = self._full.plan.clusters["v1"].endpoints[0]
        yield "acquire", self.acquire
        yield "answer", self.read_answer
        yield "reply", self.reply
        # Telemetry's part at the end, with more of it on each time: log and span are the differences.
        yield "record", self._recorded(self._plain)
        yield "record_log", self._recorded(self._logged)
        yield "record_log_span", self._recorded(self._full)

    def nothing(self) -> None:
        """What calling a stage costs by itself."""

    def read_head(self) -> None:
        """First, so that its lines are new; the others use the head."""
        data = self._user
        self.head = parse_request_head(data[: find_head_end(data, 0)], 64)

    def begin(self) -> None:
        """Its ids."""
        self._full.telemetry.begin(Exchange(Direction.OUTBOUND, clock.monotonic_ns(), self.head, PEER))

    def match(self) -> None:
        """One of the last two of twenty routes."""
        self.route = cast("Route", find_route(self._side, self.head, PEER[0]))

    def choose(self) -> None:
        """A target, and its upstream's endpoint."""
        self.target = self.action.choose(self.head, PEER[0])
        self.target.upstream.choose(self.head, PEER[0])

    def forward(self) -> None:
        """The head that the upstream receives."""
        request_to_send(self.head, self.target, self._listener, FORWARDED, ADDED, b"")

    def acquire(self) -> None:
        """Out of the pool, asked for what it may hold, and back."""
        connection = cast("ServerConnection", pool.take(self.endpoint))
        connection.is_quiet()
        pool.release(connection)

    def read_answer(self) -> None:
        """Six fields, seen before as a whole."""
        block, _, _ = RESPONSE.partition(b"\r\n\r\n")
        self.answer = response_head(block, 64, b"GET")

    def reply(self) -> None:
        """The head that the client receives."""
        response_bytes(self.answer, self.answer.fields, self.answer.framing, b"")

    def _recorded(self, path: DataPath) -> Work:
        start_ns = clock.monotonic_ns()
        exchange = Exchange(Direction.OUTBOUND, start_ns, self.head, PEER)
        path.telemetry.begin(exchange)
        exchange.scope = path.telemetry.scope(Direction.OUTBOUND, self.route.name, self.target.name, self.target.name)
        exchange.endpoint = self.endpoint
        exchange.attempts, exchange.status, exchange.bytes_sent = 1, 200, 1024
        exchange.sent_ns, exchange.first_byte_ns = start_ns + 30_000, start_ns + 1_200_000
        exchange.received_ns, exchange.end_ns = exchange.first_byte_ns, start_ns + 1_230_000
        return lambda: path.telemetry.record(exchange)


def make_paths() -> Paths:
    """Data paths with log and span, with the log, with neither; each has answered some requests."""
    made = (DataPath(), DataPath(has_spans=False), DataPath(has_log=False, has_spans=False))
    for path in made:
        for user in requests(100, seed=99):
            path.round_trip(user)
    return made
