"""One table: the exposition, the page and promtool agree with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from sidecar import clock, errors
from sidecar.exchange import Decision, Direction, Try
from sidecar.net.tls.settings import ControlIdentity, ServerTls
from sidecar.peer import Peer
from sidecar.security.identity.certificates.facts import Facts
from sidecar.security.identity.holder import Identity
from sidecar.security.identity.making import Held, Made
from sidecar.security.identity.numbers import sections
from sidecar.security.tokens.holder import TokenKeys
from sidecar.security.tokens.shown import sections as token_sections
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.control import ControlNumbers
from sidecar.telemetry.metrics.exposition import Format, Numbers, labelled
from sidecar.telemetry.metrics.instruments import (
    KNOWN_METHODS,
    CounterFamily,
    Histogram,
    HistogramFamily,
    code_label,
    method_label,
)
from sidecar.telemetry.metrics.reference import reference
from sidecar.upstream.stats import ClusterStats
from tests.unit.telemetry.cases import Told, over, request

ROOT = Path(__file__).resolve().parents[4]


def stats() -> ClusterStats:
    """Counters of one upstream, each different."""
    found = ClusterStats()
    numbers = {
        "requests": 10,
        "requests_active": 2,
        "pending": 1,
        "resets": 3,
        "connections_opened": 7,
        "connections_closed": 4,
        "connections_reused": 5,
        "connect_failures": 8,
        "connect_timeouts": 9,
        "dns_successes": 11,
        "dns_failures": 12,
        "dns_last_success": 1_700_000_000,
        "pending_timeouts": 13,
        "ejected": 14,
        "unhealthy": 15,
        "ejections_latency": 16,
        "ejections_prevented": 17,
        "health_checks": 20,
        "health_check_failures": 1,
        "panic": 1,
        "panics": 21,
        "overflow_pending": 22,
        "concurrency_limit": 23,
        "mirror_skipped_body_too_large": 24,
        "resolve_failures_timeout": 25,
        "discovery_updates": 26,
        "discovery_failures": 27,
        "discovery_last_success": 1_700_000_001,
    }
    for name, value in numbers.items():
        setattr(found, name, value)
    found.connections_closed_by = {"idle_timeout": 3, "lost": 1}
    return found


def held() -> Identity:
    """A certificate that has replaced another, and an upstream that nobody verifies."""
    identity = Identity(machine_trust="")
    identity.configure(ControlIdentity())
    leaf = Facts("CN=us", "CN=root", "1", 0.0, 1_900_000_000.0, "")
    identity.workload.made = Made(None, None, (Held("leaf", leaf, "tls.crt"),))
    identity.rotations["identity", "replaced"] = 1
    identity.client_side("recommendations", ServerTls(is_verified=False))
    return identity


identity = held()


class Shared:
    """Three connections that are shared."""

    def counts(self) -> tuple[int, int, int]:
        """With 40 requests on them, and one that is being opened."""
        return 3, 40, 1


class Pool:
    """An endpoint with idle connections, and shared ones."""

    idle = (object(), object())
    shared = Shared()


class Cluster:
    """An upstream with two endpoints."""

    name = "recommendations"
    stats = stats()
    endpoints = (Pool(), Pool())


def busy() -> Told:
    """Telemetry in which every metric has a series."""
    telemetry = Told(clusters=lambda: [Cluster()], connections=lambda: {Direction.INBOUND: 3})
    telemetry.config_applied("0123456789ab", is_reload=True)
    telemetry.connected("recommendations", 2_000_000)
    telemetry.connection_opened(Direction.INBOUND)
    telemetry.secured(Peer("1.3", "TLS_AES_128_GCM_SHA256"), is_client=True)
    exchange = over(request(), status=200)
    exchange.client = Peer("1.3", "TLS_AES_128_GCM_SHA256")
    telemetry.record(exchange)
    telemetry.record(over(request(), status=200))
    call = over(request(b"content-type: application/grpc"))
    call.grpc_status = 14
    telemetry.record(call)
    telemetry.not_secured(errors.UPSTREAM_TLS_FAILED, is_client=False)
    for direction in Direction:
        scope = telemetry.scope(direction, 'a "route"\\\n', "recommendations", "10.0.0.1:80")
        exchange = over(request(), scope=scope, direction=direction, endpoint="10.0.0.1:80", attempts=2)
        exchange.tries = [Try(None, 1, 2, 0, errors.CONNECT_FAILED, b"1" * 16)]
        exchange.retry_skipped = "budget"
        telemetry.record(exchange)
        telemetry.record(over(None, direction=direction, status=400, reason=errors.BAD_REQUEST))
    telemetry.detected(Direction.OUTBOUND, "tcp", has_waited=True)
    carried = over(request(), scope=scope, direction=Direction.OUTBOUND, endpoint="10.0.0.1:5432")
    carried.protocol = "tcp"
    telemetry.record(carried)
    telemetry.judged(exchange, Decision("allowed", 'a "rule"', "", scope))
    control = telemetry.numbers.control = ControlNumbers()
    control.connected(True, 7)
    control.in_force(7, "pushed", 1_700_000_000.0)
    telemetry.numbers.certificates = lambda: sections(identity)
    keys = TokenKeys(machine_trust="")
    keys.counts["accepted"] = 1
    proved = [(("outgoing", "IPv4"), 1)]
    telemetry.numbers.capture = lambda: iter(
        [
            Numbers(catalogue.CAPTURE_PROVED, labelled(catalogue.CAPTURE_PROVED, proved)),
            Numbers(catalogue.CAPTURE_INBOUND_SEEN, labelled(catalogue.CAPTURE_INBOUND_SEEN, [((), 1)])),
        ]
    )
    telemetry.numbers.tokens = lambda: token_sections(keys)
    return telemetry


def test_the_page_is_made_from_the_table() -> None:
    """docs/metrics.md is what `python -m sidecar.telemetry.metrics.reference` prints."""
    assert (ROOT / "docs" / "metrics.md").read_text() == reference()


@pytest.mark.parametrize("form", list(Format))
def test_the_exposition_holds_the_table_and_nothing_else(form: Format) -> None:
    """Every row with its type, help and labels; beside them only what prometheus-client knows of the process."""
    parse = text_string_to_metric_families if form is Format.TEXT else openmetrics_families
    families = {family.name: family for family in parse(busy().exposition(form).decode())}
    for row in catalogue.METRICS:
        is_info = row.name.endswith("_info") and form is Format.OPENMETRICS
        family = families.pop(row.name.removesuffix("_total").removesuffix("_info" if is_info else "!"))
        assert (family.type, family.documentation) == ("info" if is_info else row.type, row.help)
        assert family.samples, row.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(row.labels), row.name
            assert sample.name.startswith(row.name)
    assert [name for name in families if not name.startswith(("process_", "python_"))] == []


def test_openmetrics_ends_as_it_must_and_says_its_units() -> None:
    """ "The combined exposition MUST end with EOF"; a unit is a suffix of the name."""
    text = busy().exposition(Format.OPENMETRICS)
    assert text.endswith(b"\n# EOF\n")
    assert text.count(b"# EOF") == 1
    assert b"# UNIT http_server_request_duration_seconds seconds\n" in text
    assert b"# UNIT sidecar_request_body_bytes bytes\n" in text


def test_buckets_have_the_trace_of_a_recent_request_in_openmetrics_only() -> None:
    """The last sampled one of each bucket, with its duration and the time of its end."""
    telemetry = Told()
    for duration_ns in (1_000_000, 2_000_000, 30_000_000):
        exchange = over(request(), duration_ns=duration_ns)
        telemetry.record(exchange)
    unsampled = over(request(b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"))
    telemetry.record(unsampled)
    text = telemetry.exposition(Format.OPENMETRICS).decode()
    found = [
        sample.exemplar
        for family in openmetrics_families(text)
        if family.name == "http_server_request_duration_seconds"
        for sample in family.samples
        if sample.exemplar
    ]
    assert [exemplar.value for exemplar in found] == [0.002, 0.03]
    assert found[1].labels == {"trace_id": exchange.trace_id.decode(), "span_id": exchange.span_id.decode()}
    assert float(found[1].timestamp) == pytest.approx(clock.wall_ns(exchange.end_ns) / 1e9, abs=0.001)
    assert unsampled.trace_id.decode() not in text
    assert b"trace_id=" not in telemetry.exposition(Format.TEXT)


def test_names_and_units_follow_prometheus_customs() -> None:
    """Counters end in _total, times in _seconds, and every name is unique."""
    names = [row.name for row in catalogue.METRICS]
    assert len(set(names)) == len(names)
    for row in catalogue.METRICS:
        assert re.fullmatch(r"(http|sidecar|target)_[a-z_]+", row.name)
        assert row.name.endswith("_total") == (row.type == "counter")
        base = row.name.removesuffix("_total")
        assert base.endswith("_seconds") == (row.unit == "s")
        assert base.endswith("_bytes") == (row.unit == "By")
        assert bool(row.buckets) == (row.type == "histogram")
        assert list(row.buckets) == sorted(set(row.buckets))
        assert row.help
        assert not row.help.endswith(".")


def test_upstreams_and_connections_are_read_when_scraped() -> None:
    """From the objects that count, not from copies."""
    samples = busy().samples()
    of_upstream = {
        name.removeprefix("sidecar_upstream_").replace('upstream="recommendations"', "").replace("{}", ""): value
        for name, value in samples.items()
        if name.startswith("sidecar_upstream_")
        and not any(other in name for other in ("connect_duration", "_retr", "_tls_"))
    }
    for name in [name for name, value in of_upstream.items() if not value and name.startswith(("eject", "overfl"))]:
        del of_upstream[name]  # causes that did not come up
    assert of_upstream == {
        "requests_total": 10,
        "requests_active": 2,
        "requests_pending": 1,
        "resets_total": 3,
        "connections_opened_total": 7,
        'connections_closed_total{reason="idle_timeout",}': 3,
        'connections_closed_total{reason="lost",}': 1,
        "connections_reused_total": 5,
        'connect_failures_total{reason="failed",}': 8,
        'connect_failures_total{reason="timeout",}': 9,
        "connections_idle": 4,
        "connections_shared": 6,
        "streams_active": 80,
        "endpoints": 2,
        'dns_lookups_total{result="success",}': 11,
        'dns_lookups_total{result="failure",}': 12,
        "dns_last_success_timestamp_seconds": 1_700_000_000,
        "pending_timeouts_total": 13,
        "endpoints_ejected": 14,
        "endpoints_unhealthy": 15,
        'ejections_total{reason="latency",}': 16,
        "ejections_prevented_total": 17,
        'health_checks_total{result="success",}': 19,
        'health_checks_total{result="failure",}': 1,
        "panic": 1,
        "panics_total": 21,
        'overflows_total{limit="pending",}': 22,
        "concurrency_limit": 23,
        'mirror_skipped_total{reason="body_too_large",}': 24,
        'resolve_failures_total{reason="timeout",}': 25,
        'discoveries_total{result="success",}': 26,
        'discoveries_total{result="failure",}': 27,
        "discovery_last_success_timestamp_seconds": 1_700_000_001,
    }
    assert samples['sidecar_upstream_connect_duration_seconds_sum{upstream="recommendations"}'] == 0.002
    assert samples['sidecar_downstream_connections_opened_total{direction="inbound"}'] == 1
    assert samples['sidecar_downstream_connections_closed_total{direction="inbound"}'] == 0
    assert samples['sidecar_downstream_connections_active{direction="inbound"}'] == 3
    assert samples['sidecar_downstream_connections_active{direction="outbound"}'] == 0


def test_promtool_finds_nothing_to_say() -> None:
    """`promtool check metrics`, on an exposition in which every metric has a series."""
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed; it comes with Debian's package prometheus")
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=busy().exposition(), capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class TestNumbers:
    """Plain integers."""

    @pytest.mark.parametrize(
        ("value_ns", "bucket"),
        [(0, 0), (4_999_999, 0), (5_000_000, 0), (5_000_001, 1), (10_000_000_000, 13), (10_000_000_001, 14)],
    )
    def test_bounds_are_inclusive(self, value_ns: int, bucket: int) -> None:
        """`le` means less or equal."""
        histogram: Histogram = HistogramFamily(catalogue.SERVER_DURATION).child(*"abcdefg")
        histogram.observe(value_ns)
        assert histogram.counts.index(1) == bucket
        assert histogram.sum == value_ns

    def test_buckets_are_cumulative_and_end_with_the_count(self) -> None:
        """As Prometheus wants them."""
        telemetry = Told()
        for duration_ns in (1, 20_000_000, 20_000_000, 60_000_000_000):
            telemetry.record(over(request(), duration_ns=duration_ns))
        prefix = "http_server_request_duration_seconds_bucket"
        buckets = [value for name, value in telemetry.samples().items() if name.startswith(prefix)]
        assert buckets == [1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4]

    def test_a_child_is_found_again_and_needs_every_label(self) -> None:
        """One series for the same values."""
        family = CounterFamily(catalogue.RELOADS)
        assert family.child("success") is family.child("success")
        with pytest.raises(ValueError, match="expected 1 labels, got 2"):
            family.child("a", "b")

    def test_methods_are_a_closed_set(self) -> None:
        """Known in exactly this spelling, else `_OTHER`."""
        assert {method_label(method) for method in KNOWN_METHODS} == {method.decode() for method in KNOWN_METHODS}
        for method in (None, b"get", b"PURGE", b"", b"\xff", b"GET "):
            assert method_label(method) == "_OTHER"

    def test_codes_are_a_closed_set(self) -> None:
        """100 to 599, else `_OTHER`."""
        assert {code_label(status) for status in range(-1, 1100)} == {*map(str, range(100, 600)), "_OTHER"}
