"""Edges are what the telemetry counted, each count once, of one process or of several."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from sidecar.errors import CONNECT_FAILED, NO_ENDPOINT
from sidecar.exchange import Decision, Direction
from sidecar.link.edges import EdgeReader
from sidecar.link.report import LATENCY_BOUNDS_S, Asked, Carried, Edge
from sidecar.telemetry.metrics.exposition import SLICE_S, Section
from sidecar.telemetry.metrics.merge import Merged
from sidecar.telemetry.metrics.report import Reporter
from tests.unit.security.authorization.support import peer
from tests.unit.telemetry.cases import Told, over, request
from tests.unit.telemetry.test_tcp import begun, ended

IN, OUT = Direction.INBOUND, Direction.OUTBOUND


def read(reader: EdgeReader) -> dict[tuple[str, str, str], Edge]:
    return {(edge.direction, edge.upstream, edge.route): edge for edge in asyncio.run(reader.read()).edges}


def call(told: Told, status: int = 200, reason: object = None, duration_ns: int = 12_000_000, route: str = "r") -> None:
    scope = told.scope(OUT, route, "b", "b.example")
    told.record(
        over(request(), scope=scope, direction=OUT, status=status, reason=reason, duration_ns=duration_ns)  # type: ignore[arg-type]
    )


def test_what_was_counted_is_told_once() -> None:
    """Requests, failures by flag, classes of statuses, octets, durations; then nothing until there is more."""
    told = Told()
    reader = EdgeReader(told.numbers.sections)
    call(told)
    call(told, 204)
    call(told, 503, NO_ENDPOINT, 3_000_000)
    told.record(over(request(), scope=told.scope(IN, "i", "app", ""), status=404, duration_ns=20_000_000_000))
    edges = read(reader)
    assert set(edges) == {("outbound", "b", "r"), ("inbound", "app", "i")}
    out = edges["outbound", "b", "r"]
    assert (out.requests, out.failures, out.statuses) == (3, {"UH": 1}, {"2xx": 2, "5xx": 1})
    assert (out.request_bytes, out.response_bytes) == (21, 126)
    assert len(out.latency) == len(LATENCY_BOUNDS_S) + 1
    assert out.latency[0] == 1
    assert out.latency[LATENCY_BOUNDS_S.index(0.025)] == 2
    assert edges["inbound", "app", "i"].latency[-1] == 1
    assert edges["inbound", "app", "i"].statuses == {"4xx": 1}
    assert read(reader) == {}
    call(told, 200)
    again = read(reader)
    assert [edge.requests for edge in again.values()] == [1]
    assert sum(again["outbound", "b", "r"].latency) == 1


def test_calls_of_grpc_are_told_by_what_they_came_to() -> None:
    """Each once, as the status that stands for how it ended, also where HTTP's said so already; no class is below 0."""
    told = Told()
    reader = EdgeReader(told.numbers.sections)
    scope = told.scope(OUT, "r", "b", "b.example")
    for status, grpc_status in ((200, 0), (200, 14), (200, 14), (200, 5), (503, 14)):
        told.record(over(request(), scope=scope, direction=OUT, status=status, grpc_status=grpc_status))
    call(told)
    found = read(reader)["outbound", "b", "r"]
    assert (found.requests, found.statuses, found.failures) == (6, {"2xx": 2, "4xx": 1, "5xx": 3}, {})
    assert read(reader) == {}
    told.record(over(request(), scope=scope, direction=OUT, status=200, grpc_status=14, reason=NO_ENDPOINT))
    found = read(reader)["outbound", "b", "r"]
    assert (found.requests, found.statuses, found.failures) == (1, {"5xx": 1}, {"UH": 1})


def test_a_route_with_a_template_is_one_way_under_its_name() -> None:
    """Its durations are told with its requests, and two routes of one template are two ways."""
    told = Told()
    for route in ("canary", "rest"):
        scope = told.scope(OUT, route, "b", "b.example", "/orders/{id}")
        told.record(over(request(), scope=scope, direction=OUT, status=200, duration_ns=12_000_000))
    edges = read(EdgeReader(told.numbers.sections))
    assert {way: (edge.requests, sum(edge.latency)) for way, edge in edges.items()} == {
        ("outbound", "b", "canary"): (1, 1), ("outbound", "b", "rest"): (1, 1),
    }  # fmt: skip


def test_what_was_carried_is_a_way_without_a_route() -> None:
    """Octets while they go by, connections when they are over, and of these those that ended with a flag; each once."""
    told = Told()
    reader = EdgeReader(told.numbers.sections)
    first, second = begun(told), begun(told, "tcp")
    first.bytes_received, first.bytes_sent = 10, 20
    assert read(reader)["outbound", "api", ""].tcp == Carried(0, 0, 10, 20)
    assert read(reader) == {}
    second.bytes_sent, second.reason = 5, CONNECT_FAILED
    ended(told, first)
    ended(told, second)
    call(told)
    edges = read(reader)
    assert edges["outbound", "api", ""].tcp == Carried(2, 1, 0, 5)
    assert edges["outbound", "api", ""].requests == 0
    assert edges["outbound", "b", "r"].tcp == Carried()
    assert read(reader) == {}


def test_who_asked_is_told_by_identity_and_what_rules_were_against_by_rule() -> None:
    """TLS of both directions by way; callers by their identities; refusals, also of who has none; each count once."""
    told = Told()
    reader = EdgeReader(told.numbers.sections)
    app, scope = told.scope(IN, "i", "app", ""), told.scope(OUT, "r", "b", "b.example")
    storefront, ops = peer("spiffe://shop/storefront"), peer("spiffe://shop/ops")
    denied, audit = Decision("denied", "callers", "f:1", app), Decision("audit_denied", "no-internals", "f:2", app)
    passed = Decision("allowed", "callers", "f:1", app, is_unidentified=True)
    for client, decision in [(storefront, None), (storefront, audit), (ops, denied), (None, denied), (None, passed)]:
        exchange = over(request(), scope=app, status=200)
        exchange.client = client
        if decision is not None:
            told.judged(exchange, decision)
        told.record(exchange)
    for reason in (None, NO_ENDPOINT):
        exchange = over(request(), scope=scope, direction=OUT, status=503 if reason else 200, reason=reason)
        exchange.server = peer("spiffe://shop/b")
        told.record(exchange)
    call(told)
    counted = asyncio.run(reader.read())
    edges = {edge.direction: edge for edge in counted.edges}
    assert (edges["inbound"].requests, edges["inbound"].secured, edges["inbound"].clear) == (5, 3, 2)
    assert (edges["outbound"].requests, edges["outbound"].secured, edges["outbound"].clear) == (3, 1, 1)
    assert counted.asked == (
        Asked("", 1, "", "unidentified"),
        Asked("", 1, "callers", "denied"),
        Asked("spiffe://shop/ops", 1, "callers", "denied"),
        Asked("spiffe://shop/storefront", 1, "no-internals", "audit_denied"),
        Asked("spiffe://shop/ops", 1),
        Asked("spiffe://shop/storefront", 2),
    )
    assert asyncio.run(reader.read()) == ((), ())


def test_names_are_what_the_file_says() -> None:
    """Whatever is in them."""
    told = Told()
    reader = EdgeReader(told.numbers.sections)
    call(told, route='a "b"\\n, c="d" {ü}\n')
    assert list(read(reader)) == [("outbound", "b", 'a "b"\\n, c="d" {ü}\n')]


def test_workers_are_told_about_together() -> None:
    """One that ends and one that takes its place never make a number go back."""
    merged = Merged()
    told = [Told(), Told()]
    shares = [merged.join(), merged.join()]
    reporters = [Reporter(one.numbers.sections) for one in told]

    async def report() -> None:
        for share, reporter in zip(shares, reporters, strict=True):
            for piece in reporter.pieces():
                if piece is not None:
                    share.take(piece)

    reader = EdgeReader(merged.sections, report)
    for one in told:
        call(one)
    assert read(reader)["outbound", "b", "r"].requests == 2
    call(told[0])
    asyncio.run(report())
    shares[0].leave()
    told[0], shares[0] = Told(), merged.join()
    reporters[0] = Reporter(told[0].numbers.sections)
    assert read(reader)["outbound", "b", "r"].requests == 1
    call(told[0])
    edge = read(reader)["outbound", "b", "r"]
    assert (edge.requests, sum(edge.latency), edge.statuses) == (1, 1, {"2xx": 1})
    assert min(edge.latency) >= 0
    assert read(reader) == {}


def test_a_series_that_began_anew_counts_from_there() -> None:
    """As a restart does: what it is now is what it grew by."""
    current = [Told()]
    reader = EdgeReader(lambda: current[0].numbers.sections())
    for _ in range(5):
        call(current[0], duration_ns=1_000_000)
    assert read(reader)["outbound", "b", "r"].requests == 5
    current[0] = Told()
    call(current[0], duration_ns=1_000_000)
    call(current[0], duration_ns=1_000_000)
    edge = read(reader)["outbound", "b", "r"]
    assert (edge.requests, edge.latency[0], edge.request_bytes) == (2, 2, 14)


def test_what_is_gone_is_forgotten() -> None:
    """A file that changes its names again and again fills no memory."""
    current = [Told()]
    reader = EdgeReader(lambda: current[0].numbers.sections())
    for number in range(20):
        current[0] = Told()
        call(current[0], route=f"r{number}")
        assert list(read(reader)) == [("outbound", "b", f"r{number}")]
    assert {len(known) for known in reader._known.values()} == {0, 1}  # of inbound there is nothing


def test_reading_gives_way() -> None:
    """A thousand routes are read in slices, between which the loop does other things."""
    told = Told()
    for number in range(1000):
        call(told, route=f"r{number}")
    turns = 0

    def slow() -> Iterator[Section]:
        import time

        for section in told.numbers.sections():
            time.sleep(SLICE_S)
            yield section

    async def main() -> int:
        nonlocal turns
        reading = asyncio.ensure_future(EdgeReader(slow).read())
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        return len(reading.result().edges)

    assert asyncio.run(main()) == 1000
    assert turns > 5
