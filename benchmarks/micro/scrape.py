"""
What a scrape costs: time, size, and the longest stretch for which it holds the loop, at 20 and at 2,000 routes.

Run `python benchmarks/micro/scrape.py`; every route has its own upstream and one outcome. Times are CPU time of this
process, threads included; stretches are CPU time of the loop's thread between two turns.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from sidecar.exchange import Direction, Exchange
from sidecar.http1.head import parse_request_head
from sidecar.telemetry.recorder import Format, Telemetry, TelemetrySettings
from sidecar.upstream.cluster import Cluster, ClusterSpec

ROUNDS = 9


def telemetry_with(routes: int, compat: tuple[str, ...]) -> Telemetry:
    """Telemetry that has seen one request of each route, and a sampled one."""
    specs = [ClusterSpec(f"upstream-{number}", ((f"10.0.0.1:{number + 1}", 1.0),)) for number in range(routes)]
    clusters = list(map(Cluster, specs))
    settings = TelemetrySettings("storefront", access_log_path=None, compat=compat)
    telemetry = Telemetry(settings, clusters=lambda: clusters, environment={})
    head = parse_request_head(b"GET /v1/items HTTP/1.1\r\nHost: recommendations", 100)
    for number in range(routes):
        exchange = Exchange(Direction.OUTBOUND, 1_000_000_000, head, ("127.0.0.1", 50_123))
        exchange.scope = telemetry.scope(Direction.OUTBOUND, f"route-{number}", f"upstream-{number}", "10.0.0.1")
        exchange.status = 200
        telemetry.begin(exchange)
        exchange.sampled = True
        exchange.end_ns = 1_002_000_000
        telemetry.record(exchange)
    telemetry.config_applied("0123456789ab", is_reload=False)
    return telemetry


async def measure(telemetry: Telemetry, form: Format, *, is_compressed: bool) -> tuple[float, float, int]:
    """CPU time in ms, longest stretch in ms, octets."""
    started = time.process_time_ns()
    scraping = asyncio.ensure_future(telemetry.scrape(form, is_compressed=is_compressed))
    longest, before = 0, time.thread_time_ns()
    while not scraping.done():
        await asyncio.sleep(0)
        now = time.thread_time_ns()
        longest, before = max(longest, now - before), now
    return (time.process_time_ns() - started) / 1e6, longest / 1e6, len(scraping.result())


def main() -> None:
    """Measure and print."""
    out = sys.stdout.write
    for routes in (20, 2000):
        for label, form, is_compressed, compat in (
            ("text", Format.TEXT, False, ()),
            ("text, gzip", Format.TEXT, True, ()),
            ("OpenMetrics, gzip", Format.OPENMETRICS, True, ()),
            ("text, gzip, all compat", Format.TEXT, True, ("envoy", "istio", "linkerd", "appmesh")),
        ):
            telemetry = telemetry_with(routes, compat)
            found = [asyncio.run(measure(telemetry, form, is_compressed=is_compressed)) for _ in range(ROUNDS)]
            cpu = statistics.median(one[0] for one in found)
            stretch = statistics.median(one[1] for one in found)
            out(f"{routes:5} routes, {label:23} {cpu:7.2f} ms  longest {stretch:5.2f} ms  {found[0][2]:9} octets\n")


if __name__ == "__main__":
    main()
