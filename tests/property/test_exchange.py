"""
Any interleaving of what clients, upstreams, and time can do: every exchange is recorded once, every count comes back,
nothing of one response reaches another client, no connection is lost from sight, and no request of which a byte was
sent is sent twice unless it may be.

Each request carries an id that the upstream sends back in head and body; what a client received is read by h11 at the
end and must be, in order, the answers to its own requests, or the proxy's own.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from math import inf

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.proxy.exchange.policies import Fault, Mirror
from sidecar.proxy.server.state import State
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.limits.retry_budget import RetryBudgetSpec
from sidecar.upstream.retry import CONDITIONS, IDEMPOTENT_METHODS, RetryPolicy
from tests.support.fakes import LIMITS, Client, Server, World
from tests.support.thoroughness import examples

_TARGET = re.compile(rb"(?:GET|HEAD|POST|PUT) /(\d+) HTTP/1\.1\r\n")
_SENT = re.compile(rb"(GET|HEAD|POST|PUT) /(\d+) HTTP/1\.1\r\n((?:[^\r]+\r\n)*)")

_RETRIES = st.builds(
    RetryPolicy,
    attempts=st.integers(0, 3),
    on=st.sets(st.sampled_from(sorted(CONDITIONS))).map(frozenset) | st.just(CONDITIONS),
    per_try_timeout_s=st.sampled_from([inf, 0.2, 2.0]),
    backoff_base_s=st.sampled_from([0.0, 0.1]),
    backoff_max_s=st.just(1.0),
    max_body_bytes=st.sampled_from([0, 100, 1_000_000]),
)
_BREAKERS = st.builds(
    BreakerSpec,
    max_connections=st.integers(1, 3),
    max_pending_requests=st.integers(0, 3),
    max_requests=st.integers(1, 5),
    max_retries=st.integers(0, 2),
    pending_timeout_s=st.sampled_from([0.3, 3.0]),
)


class Errors(logging.Handler):
    """Collects what the process would have logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage() + str(record.exc_info))


def is_repeatable(method: bytes, fields: bytes) -> bool:
    """Whether a request that a server saw may be seen again."""
    return method in IDEMPOTENT_METHODS or b"idempotency-key" in fields.lower()


def request(number: int, method: bytes, body: bytes, framing: str, connection: bytes, is_keyed: bool) -> bytes:
    head = b"%b /%d HTTP/1.1\r\nHost: web\r\n" % (method, number)
    if connection:
        head += b"Connection: %b\r\n" % connection
    if is_keyed:
        head += b"Idempotency-Key: %d\r\n" % number
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if framing == "chunked":
        chunks = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"\r\n"


def response(number: int, status: int, body: bytes, framing: str, junk: bytes) -> bytes:
    head = b"HTTP/1.1 %d x\r\nX-Id: %d\r\n" % (status, number)
    body = b"<%d>%b</%d>" % (number, body, number)
    if framing == "chunked":
        head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif framing == "close":
        return head + b"\r\n" + body  # whatever is behind it is of it
    else:
        head += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return head + junk


BRIEF = replace(
    LIMITS, idle_timeout_s=20.0, client_idle_timeout_s=20.0, stream_idle_timeout_s=20.0, tunnel_idle_timeout_s=20.0
)
"""All of them are over within a minute, as is a pool's own: each minute is a thousand ticks of the clock."""


class Exchanges(RuleBasedStateMachine):
    """Clients, servers and the clock, in any order."""

    @initialize(
        timeout=st.sampled_from([None, 5.0]),
        endpoints=st.integers(1, 3),
        retry=st.none() | _RETRIES,
        breaker=st.none() | _BREAKERS,
        budget=st.sampled_from([None, RetryBudgetSpec(), RetryBudgetSpec(0, 0.1)]),
        outlier=st.sampled_from([None, OutlierSpec(consecutive_5xx=2, base_ejection_time_s=2)]),
        fault=st.sampled_from([None, None, Fault(delay_percent=50, delay_s=0.5, abort_percent=20)]),
        mirrors=st.booleans(),
    )
    def begin(
        self,
        timeout: float | None,
        endpoints: int,
        retry: RetryPolicy | None,
        breaker: BreakerSpec | None,
        budget: RetryBudgetSpec | None,
        outlier: OutlierSpec | None,
        fault: Fault | None,
        mirrors: bool,
    ) -> None:
        addresses = [f"10.0.0.{number}:80" for number in range(endpoints)]
        self.world = World(
            endpoints=addresses,
            timeout_s=timeout,
            limits=BRIEF,
            retry=retry,
            breaker=breaker,
            retry_budget=budget,
            outlier=outlier,
            fault=fault,
            mirror=Mirror if mirrors else None,
        )
        self.attempts = 1 if retry is None else retry.attempts
        self.number = 0
        self.unsent: dict[int, bytes] = {}
        self.asked: dict[int, list[tuple[int, bytes]]] = {}
        self.answering: dict[int, bytes] = {}
        self.answered: dict[int, int] = {}
        self.gone: set[int] = set()
        self.errors = Errors()
        logging.getLogger("sidecar").addHandler(self.errors)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            for client in world.clients:
                client.read()
            for client in world.clients:
                if not client.transport.is_lost:
                    client.leave()
            while world.dials.under_way:
                world.refuse()
            world.loop.run()
            for server in world.servers:
                server.read()
            world.advance(16)  # what copies are still under way
            while world.dials.under_way:
                world.refuse()
            world.assert_at_rest()
            world.advance(60)
            for server in world.servers:
                assert server.transport.is_lost, server.connection
            assert not any(endpoint.idle for endpoint in world.endpoints)
            self.answers_are_their_own()
            self.nothing_was_sent_twice()
            assert not self.errors.records
        finally:
            logging.getLogger("sidecar").removeHandler(self.errors)
            world.close()

    # --- clients ---------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.clients) < 4)
    @rule()
    def client_connects(self) -> None:
        client = self.world.client()
        self.unsent[id(client)] = b""
        self.asked[id(client)] = []

    def client(self, data: st.DataObject) -> Client:
        return data.draw(st.sampled_from([client for client in self.world.clients if not client.transport.is_lost]))

    def has_clients(self) -> bool:
        return any(not client.transport.is_lost for client in self.world.clients)

    @precondition(has_clients)
    @rule(
        data=st.data(),
        method=st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"PUT"]),
        body=st.sampled_from([b"", b"x", b"hello" * 20, b"y" * 100_000]),
        framing=st.sampled_from(["none", "none", "length", "chunked"]),
        connection=st.sampled_from([b"", b"", b"", b"close"]),
        is_keyed=st.booleans(),
    )
    def client_prepares_a_request(
        self, data: st.DataObject, method: bytes, body: bytes, framing: str, connection: bytes, is_keyed: bool
    ) -> None:
        client = self.client(data)
        self.number += 1
        self.asked[id(client)].append((self.number, method))
        self.unsent[id(client)] += request(self.number, method, body, framing, connection, is_keyed)

    @precondition(has_clients)
    @rule(data=st.data(), size=st.sampled_from([1, 7, 50, 1000, 10**6, 10**6]))
    def client_sends(self, data: st.DataObject, size: int) -> None:
        client = self.client(data)
        if id(client) in self.gone:
            return
        unsent = self.unsent[id(client)]
        if unsent:
            self.unsent[id(client)] = unsent[size:]
            _ = client >> unsent[:size]

    @precondition(has_clients)
    @rule(
        data=st.data(),
        method=st.sampled_from([b"GET", b"POST", b"PUT"]),
        framing=st.sampled_from(["none", "length", "chunked"]),
        is_keyed=st.booleans(),
    )
    def client_asks(self, data: st.DataObject, method: bytes, framing: str, is_keyed: bool) -> None:
        """A request at once and whole, behind whatever was not sent yet."""
        client = self.client(data)
        if id(client) in self.gone:
            return
        self.number += 1
        self.asked[id(client)].append((self.number, method))
        unsent = self.unsent[id(client)] + request(self.number, method, b"body", framing, b"", is_keyed)
        self.unsent[id(client)] = b""
        _ = client >> unsent

    @precondition(has_clients)
    @rule(data=st.data(), how=st.sampled_from(["eof", "leave", "reset"]))
    def client_goes(self, data: st.DataObject, how: str) -> None:
        client = self.client(data)
        if how == "eof":
            if id(client) not in self.gone:
                self.gone.add(id(client))
                client.eof()
        else:
            getattr(client, how)()

    @precondition(has_clients)
    @rule(data=st.data(), is_slow=st.booleans())
    def client_reads_or_not(self, data: st.DataObject, is_slow: bool) -> None:
        client = self.client(data)
        client.stop_reading() if is_slow else client.read()

    @precondition(has_clients)
    @rule(data=st.data(), how=st.sampled_from(["drain", "abort"]))
    def connection_is_told_to_end(self, data: st.DataObject, how: str) -> None:
        getattr(self.client(data).connection, how)()
        self.world.loop.run()

    # --- upstreams -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.dials.under_way)
    @rule(is_good=st.sampled_from([True, True, True, False]), is_slow=st.sampled_from([False, False, True]))
    def dial_ends(self, is_good: bool, is_slow: bool) -> None:
        if is_good:
            self.world.accept(is_slow=is_slow)
        else:
            self.world.refuse()

    def busy(self) -> list[Server]:
        return [
            server
            for server in self.world.servers
            if not server.transport.is_lost and server.connection.state not in (State.IDLE, State.CLOSED)
        ]

    @precondition(lambda self: bool(self.busy()))
    @rule(
        data=st.data(),
        size=st.sampled_from([1, 20, 60, 10**7, 10**7, 10**7]),
        status=st.sampled_from([200, 200, 409, 500, 503]),
        body=st.sampled_from([b"", b"b", b"z" * 300_000]),
        framing=st.sampled_from(["length", "chunked", "close"]),
        junk=st.sampled_from([b"", b"", b"", b"HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 4\r\n\r\nEVIL"]),
        first=st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"garbage\r\n\r\n"]),
    )
    def server_answers(
        self, data: st.DataObject, size: int, status: int, body: bytes, framing: str, junk: bytes, first: bytes
    ) -> None:
        """Begin the answer to the request read last, or go on with it; perhaps early, perhaps wrong."""
        server = data.draw(st.sampled_from(self.busy()))
        requests = [int(number) for number in _TARGET.findall(server.received)]
        rest = self.answering.get(id(server), b"")
        if not rest and len(requests) > self.answered.get(id(server), 0):
            self.answered[id(server)] = len(requests)
            method = re.findall(rb"(GET|HEAD|POST|PUT) /\d+ HTTP", server.received)[-1]
            rest = response(requests[-1], status, body, framing, junk)
            if method == b"HEAD":
                rest = rest.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            rest = first + rest
        piece, self.answering[id(server)] = rest[:size], rest[size:]
        if piece:
            _ = server >> piece
        if not self.answering[id(server)] and framing == "close" and rest:
            server.eof()
        if server.connection.state in (State.IDLE, State.CLOSED):
            self.answering[id(server)] = b""

    @precondition(lambda self: any(not server.transport.is_lost for server in self.world.servers))
    @rule(data=st.data(), how=st.sampled_from(["eof", "leave", "reset", "junk"]))
    def server_goes(self, data: st.DataObject, how: str) -> None:
        server = data.draw(st.sampled_from([each for each in self.world.servers if not each.transport.is_lost]))
        if how == "junk":
            if server.connection.state is State.IDLE:
                _ = server >> b"HTTP/1.1 200 OK\r\nX-Id: 0\r\nContent-Length: 4\r\n\r\nEVIL"
        else:
            getattr(server, how)()

    @precondition(lambda self: self.world.servers)
    @rule(data=st.data(), is_slow=st.booleans())
    def server_reads_or_not(self, data: st.DataObject, is_slow: bool) -> None:
        server = data.draw(st.sampled_from(self.world.servers))
        if not server.transport.is_lost:
            server.stop_reading() if is_slow else server.read()

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 11.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    # --- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def counts_agree(self) -> None:
        world = self.world
        begun, recorded = len(world.telemetry.begun), len(world.recorded)
        for cluster in world.clusters:
            assert cluster.stats.requests_active == sum(endpoint.active for endpoint in cluster.endpoints)
            assert cluster.stats.pending == sum(len(endpoint.pending) for endpoint in cluster.endpoints)
        assert world.cluster.stats.requests_active <= begun - recorded
        breaker = world.cluster.breaker
        if breaker is not None:
            assert breaker.requests == world.cluster.stats.requests_active <= breaker.spec.max_requests
            assert 0 <= breaker.retries <= breaker.spec.max_retries
        assert begun - recorded <= len(world.clients)
        for endpoint in world.endpoints:
            assert endpoint.connecting == sum(dial.endpoint is endpoint for dial in world.dials.under_way)
            for idle in endpoint.idle:
                assert idle.is_usable()

    @invariant()
    def memory_is_bounded(self) -> None:
        for peer in (*self.world.clients, *self.world.servers):
            assert peer.transport.unsent <= 1_500_000

    def answers_are_their_own(self) -> None:
        for client in self.world.clients:
            asked = self.asked[id(client)]
            rest, number = client.received, 0
            while rest:
                assert number < len(asked) or b" 408 " in rest or b" 503 " in rest, rest[:200]
                own, method = asked[number] if number < len(asked) else (-1, b"GET")
                rest = self.one_answer(rest, own, method)
                number += 1

    def nothing_was_sent_twice(self) -> None:
        """A server saw a byte of it: then only a request that may be repeated was sent again."""
        world = self.world
        seen: dict[bytes, int] = {}
        shadow = world.shadow.endpoints[0]
        for server in world.servers:
            for method, number, fields in _SENT.findall(server.received):
                if server.endpoint is not shadow and not is_repeatable(method, fields):
                    seen[number] = seen.get(number, 0) + 1
        assert all(count == 1 for count in seen.values()), seen
        for exchange in world.recorded:
            assert exchange.attempts - 1 <= len(exchange.tries or ()) <= exchange.attempts
            assert exchange.attempts <= self.attempts + 1

    def one_answer(self, data: bytes, own: int, method: bytes) -> bytes:
        """Check one answer, and return what is behind it; nothing if it is not whole."""
        if data.startswith(b"HTTP/1.1 408 ") and b"head_timeout" in data:
            method = b"GET"  # whatever it would have become
        reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(data)
        while isinstance(event := reader.next_event(), h11.InformationalResponse):
            pass
        if not isinstance(event, h11.Response):
            return b""
        ids = [int(value) for name, value in event.headers if name == b"x-id"]
        if event.status_code in (200, 409):
            assert ids == [own], f"asked {own}, was answered {ids}"
        assert ids in ([], [own])
        body = b""
        while isinstance(event := reader.next_event(), h11.Data):
            body += bytes(event.data)
        if ids:
            assert b"<%d>" % own == body[: len(b"<%d>" % own)] or len(body) < 10
            assert b"EVIL" not in body
        if not isinstance(event, h11.EndOfMessage):
            return b""
        if ids and method != b"HEAD":
            assert body.endswith(b"</%d>" % own), "cut, and not told"
        return bytes(reader.trailing_data[0])


Exchanges.TestCase.settings = settings(
    deadline=None, max_examples=examples(120), stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow]
)
TestExchanges = Exchanges.TestCase


@settings(deadline=None, max_examples=examples(150))
@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", b"\r\n\r\n"])))
def test_no_octets_of_a_client_raise_out_of_its_connection(pieces: list[bytes]) -> None:
    """Whatever comes, it is answered, refused or waited for, and nothing is left behind."""
    with World() as world:
        client = world.client()
        for piece in pieces:
            if piece and client.is_open:
                _ = client >> piece
        while world.dials.under_way:
            world.refuse()
        client.leave()
        assert not [exchange for exchange in world.recorded if exchange.reason and exchange.reason.name == "internal"]
        world.assert_at_rest()


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n"])
@settings(deadline=None, max_examples=examples(150))
@given(
    pieces=st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", b"\r\n"])
    )
)
def test_no_octets_of_an_upstream_raise_out_of_its_connection(request_: bytes, pieces: list[bytes]) -> None:
    """Whatever comes, the client gets a response, a cut, or goes on waiting."""
    with World() as world:
        client = world.client()
        _ = client >> request_
        server = world.accept()
        for piece in pieces:
            if piece and server.is_open:
                _ = server >> piece
        if server.is_open:
            server.eof()
        assert len(world.recorded) == 1
        client.leave()
        world.assert_at_rest()
