"""Collectors that are dead, silent, slow or full of errors: nobody waits, memory is bounded, all spans are counted."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator

import pytest

from sidecar.telemetry import sinks
from sidecar.telemetry.recorder import TelemetrySettings
from sidecar.telemetry.traces import export
from sidecar.telemetry.traces.export import Exporter
from tests.support.work import Work
from tests.unit.telemetry.cases import Told, over, request
from tests.unit.telemetry.collector import Collector

QUEUE_BYTES = 100_000
COUNT = 2_000
MOST_LINES = 1_000
"""Of Python for one record: 140 usually, 500 where an outcome is bound."""


@contextlib.contextmanager
def collector_of(kind: str) -> Iterator[tuple[str, Collector | None]]:
    """A URL, and the collector if there is one that answers."""
    if kind == "dead":
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{unused.getsockname()[1]}", None
    elif kind == "silent":
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}", None
    else:
        with Collector({"overloaded": 503, "refusing": 400, "slow": 200}[kind]) as collector:
            if kind == "slow":
                collector.may_answer.clear()
            yield collector.url, collector
            collector.may_answer.set()


@pytest.mark.parametrize("kind", ["dead", "silent", "overloaded", "refusing", "slow"])
def test_a_collector_in_trouble_is_felt_by_nobody(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording is as little work as ever, the queue stays in its bound, and exported and dropped add up."""
    monkeypatch.setattr(sinks, "Exporter", functools.partial(Exporter, max_queue_bytes=QUEUE_BYTES))
    monkeypatch.setattr(export, "_PERIOD_S", 0.01)
    most_lines = 0
    most = 0.0

    async def live(url: str, collector: Collector | None) -> Told:
        nonlocal most_lines, most
        telemetry = Told(TelemetrySettings("s", otlp_endpoint=url, access_log_path=None))
        await telemetry.start()
        exporter = telemetry._sinks.exporter
        assert exporter is not None
        for _ in range(COUNT):
            exchange = over(request())
            with Work() as work:
                telemetry.record(exchange)
            most_lines = max(most_lines, work.lines)
            most = max(most, exporter.waiting_bytes)
        if kind == "slow" and collector is not None:
            collector.may_answer.set()
        await telemetry.stop(10 if collector is not None and kind == "slow" else 0.3)
        assert exporter._thread is not None
        await asyncio.to_thread(exporter._thread.join, 10)
        assert not exporter._thread.is_alive()
        return telemetry

    with collector_of(kind) as (url, collector):
        telemetry = asyncio.run(live(url, collector))
        received = len(collector.spans()) if collector is not None and kind == "slow" else 0
    assert most_lines < MOST_LINES
    assert most <= QUEUE_BYTES
    samples = telemetry.samples()
    dropped = {
        name.partition('"')[2].rstrip('"}'): value
        for name, value in samples.items()
        if name.startswith("sidecar_spans_dropped_total")
    }
    exported = samples["sidecar_spans_exported_total"]
    assert exported + sum(dropped.values()) == COUNT
    assert dropped["queue_full"] > 0 or kind == "refusing"
    assert exported == received
    assert (exported > 0) == (kind == "slow")
    assert samples['sidecar_telemetry_queue_bytes{queue="spans"}'] == 0
