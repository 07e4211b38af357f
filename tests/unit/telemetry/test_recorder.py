"""An exchange comes in twice and is told about once, in three ways that agree."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from sidecar import errors
from sidecar.errors import REASONS, Reason
from sidecar.exchange import Direction, Exchange, Try
from sidecar.telemetry.recorder import TelemetrySettings
from sidecar.telemetry.traces.tracecontext import parse_traceparent
from tests.support.work import Work
from tests.unit.telemetry.cases import COLLECTOR, Told, attributes, over, request
from tests.unit.telemetry.collector import Collector

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"
TRACEPARENT = b"traceparent: 00-%b-%b-" % (TRACE, PARENT)
NO_EXPORT = TelemetrySettings("storefront", access_log_path="/dev/null")


def sent(lines: bytes) -> dict[str, bytes]:
    """The fields that `begin` wants sent on, by name."""
    assert lines.endswith(b"\r\n")
    found: dict[str, bytes] = {}
    for line in lines[:-2].split(b"\r\n"):
        name, _, value = line.partition(b": ")
        assert name.decode() not in found
        found[name.decode()] = value
    return found


class TestBegin:
    """What goes on to the upstream."""

    def test_a_trace_begins_where_none_was(self) -> None:
        """New ids, sampled, and a new request id."""
        exchange = over(request())
        fields = sent(Told().begin(exchange))
        assert list(fields) == ["traceparent", "x-request-id"]
        assert parse_traceparent(fields["traceparent"]) == (exchange.trace_id, exchange.span_id, True)
        assert fields["x-request-id"] == exchange.request_id
        assert exchange.parent_id == exchange.tracestate == b""
        assert exchange.sampled

    def test_a_trace_goes_on_with_a_span_of_ours(self) -> None:
        """The caller's trace id and state, our span id."""
        exchange = over(request(TRACEPARENT + b"01", b"tracestate: a=1", b"tracestate: b=2", b"x-request-id: r-1"))
        fields = sent(Told().begin(exchange))
        assert parse_traceparent(fields["traceparent"]) == (TRACE, exchange.span_id, True)
        assert exchange.span_id != PARENT
        assert exchange.parent_id == PARENT
        assert fields["tracestate"] == exchange.tracestate == b"a=1,b=2"
        assert fields["x-request-id"] == exchange.request_id == b"r-1"

    def test_a_caller_who_did_not_sample_is_respected_and_context_goes_on(self) -> None:
        """No span, but the trace is not torn."""
        telemetry = Told()
        exchange = over(request(TRACEPARENT + b"00", b"tracestate: a=1"))
        fields = sent(telemetry.begin(exchange))
        assert fields["traceparent"] == b"00-%b-%b-00" % (TRACE, exchange.span_id)
        assert fields["tracestate"] == b"a=1"
        telemetry.record(exchange)
        assert telemetry.raw_spans() == []
        assert len(telemetry.lines()) == 1

    @pytest.mark.parametrize(
        "fields",
        [
            (b"traceparent: nonsense",),
            (TRACEPARENT + b"01", TRACEPARENT + b"01"),
            (TRACEPARENT.replace(TRACE, b"0" * 32) + b"01",),
            (b"tracestate: a=1",),
        ],
    )
    def test_context_that_is_malformed_is_not_passed_on(self, fields: tuple[bytes, ...]) -> None:
        """A new trace begins, and a state without a parent means nothing."""
        exchange = over(request(*fields, b"tracestate: b=2"))
        passed = sent(Told().begin(exchange))
        assert list(passed) == ["traceparent", "x-request-id"]
        assert exchange.trace_id not in (TRACE, b"0" * 32, b"")
        assert exchange.parent_id == b""

    def test_a_malformed_state_is_dropped_and_the_trace_goes_on(self) -> None:
        """4.3: failing to parse tracestate does not affect traceparent."""
        exchange = over(request(TRACEPARENT + b"01", b"tracestate: B=2"))
        assert list(sent(Told().begin(exchange))) == ["traceparent", "x-request-id"]
        assert exchange.trace_id == TRACE

    @pytest.mark.parametrize(
        ("fields", "kept"),
        [
            ((b"x-request-id: a", b"x-request-id: b"), b"a"),
            ((b"x-request-id: a b", b"x-request-id: b"), b"b"),
            ((b'x-request-id: a"b',), None),
            ((b"x-request-id: " + b"x" * 129,), None),
            ((b"x-request-id:",), None),
        ],
    )
    def test_a_request_id_is_kept_if_it_is_sane(self, fields: tuple[bytes, ...], kept: bytes | None) -> None:
        """The first that is; else one is made."""
        exchange = over(request(*fields))
        sent(Told().begin(exchange))
        assert exchange.request_id == kept if kept else len(exchange.request_id) == 36

    @pytest.mark.parametrize(("sample", "least", "most"), [(0.0, 0, 0), (0.25, 180, 320), (1.0, 1000, 1000)])
    def test_traces_that_begin_here_are_sampled_by_ratio(self, sample: float, least: int, most: int) -> None:
        """What is not sampled says so onward."""
        telemetry = Told(TelemetrySettings("s", otlp_endpoint=COLLECTOR, sample=sample))
        count = 0
        for _ in range(1000):
            exchange = over(request())
            parsed = parse_traceparent(sent(telemetry.begin(exchange))["traceparent"])
            assert parsed is not None
            assert parsed[2] == exchange.sampled
            count += exchange.sampled
        assert least <= count <= most  # five standard deviations

    def test_a_sampled_caller_is_followed_whatever_the_ratio(self) -> None:
        """Parent-based: half a trace helps nobody."""
        exchange = over(request(TRACEPARENT + b"01"))
        Told(TelemetrySettings("s", otlp_endpoint=COLLECTOR, sample=0)).begin(exchange)
        assert exchange.sampled

    def test_without_a_collector_the_callers_span_stays_the_parent(self) -> None:
        """Naming a span that is never sent would orphan those that come after."""
        telemetry = Told(NO_EXPORT)
        exchange = over(request(TRACEPARENT + b"01", b"tracestate: a=1"))
        fields = sent(telemetry.begin(exchange))
        assert fields["traceparent"] == (TRACEPARENT + b"01").partition(b": ")[2]
        assert fields["tracestate"] == b"a=1"
        assert not exchange.sampled
        telemetry.record(exchange)
        assert telemetry.lines()[0]["trace_id"] == TRACE.decode()

    def test_without_a_collector_a_trace_begins_all_the_same(self) -> None:
        """So that the log lines of one request can be found, and the app's own spans are of one trace."""
        exchange = over(request())
        assert parse_traceparent(sent(Told(NO_EXPORT).begin(exchange))["traceparent"]) == (
            exchange.trace_id,
            exchange.span_id,
            True,
        )


class TestRecord:
    """Metrics, one line, one span."""

    @pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.name)
    @pytest.mark.parametrize("direction", list(Direction))
    def test_every_reason_is_told_by_all_three(self, direction: Direction, reason: Reason) -> None:
        """Flag, name and status agree; so does the duration."""
        telemetry = Told()
        telemetry.record(over(request(), direction=direction, status=reason.status, reason=reason))
        (line,) = telemetry.lines()
        (span,) = telemetry.spans()
        found = attributes(span)
        code, side = str(reason.status), "server" if direction is IN else "client"
        assert line["response_flags"] == found["sidecar.response_flag"] == reason.flag
        assert line["response_code_details"] == found["error.type"] == reason.name
        assert line["response_code"] == found["http.response.status_code"] == reason.status
        assert line["trace_id"] == span.trace_id.hex()
        assert span.end_time_unix_nano - span.start_time_unix_nano == 12_345_678
        assert line["duration"] == 12.346
        samples = telemetry.samples()
        series = (
            f'sidecar_requests_total{{code="{code}",direction="{direction.label}",flag="{reason.flag}",route="",'
            f'upstream=""}}'
        )
        assert samples[series] == 1
        labels = (
            f'error_type="{reason.name}",http_request_method="GET",http_response_status_code="{code}",http_route="",'
            'route="",server_address="",upstream=""'
        )
        assert samples[f"http_{side}_request_duration_seconds_count{{{labels}}}"] == 1
        assert samples[f"http_{side}_request_duration_seconds_sum{{{labels}}}"] == 0.012345678

    def test_a_request_that_could_not_be_parsed_is_recorded(self) -> None:
        """Though `begin` was never called and there is neither head nor scope."""
        telemetry = Told()
        exchange = over(None, status=400, reason=errors.BAD_REQUEST)
        telemetry.record(exchange)
        (line,) = telemetry.lines()
        (span,) = telemetry.spans()
        assert line["trace_id"] == span.trace_id.hex() != ""
        assert line["request_id"]
        series = [name for name in telemetry.samples() if name.startswith("http_server_request_duration_seconds_count")]
        assert len(series) == 1
        assert 'http_request_method="_OTHER"' in series[0]

    def test_an_exchange_without_a_status_has_that_of_its_reason(self) -> None:
        """A client that left before anything was sent."""
        telemetry = Told()
        telemetry.record(over(request(), status=0, reason=errors.CLIENT_LEFT))
        assert telemetry.lines()[0]["response_code"] == 499

    @pytest.mark.parametrize("duration_ns", [2_350_000, 10_000_000_000])
    def test_overhead_is_what_the_upstream_did_not_take(self, duration_ns: int) -> None:
        """40 us to send on and 10 us after the last octet, however long the body streamed."""
        telemetry = Told()
        telemetry.record(over(request(), endpoint="10.0.0.1:80", duration_ns=duration_ns))
        assert telemetry.samples()['sidecar_overhead_seconds_sum{direction="inbound"}'] == 0.00005

    def test_overhead_of_what_the_upstream_never_finished_is_not_told(self) -> None:
        """Nobody knows what it would have taken."""
        telemetry = Told()
        exchange = over(request(), endpoint="10.0.0.1:80")
        exchange.received_ns = 0
        telemetry.record(exchange)
        assert telemetry.samples()['sidecar_overhead_seconds_count{direction="inbound"}'] == 0

    def test_bodies_are_counted_by_route_and_upstream(self) -> None:
        """Octets of both directions of the exchange."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "r", "u", "h")
        for _ in range(2):
            telemetry.record(over(request(), scope=scope, direction=OUT))
        samples = telemetry.samples()
        labels = '{direction="outbound",route="r",upstream="u"}'
        assert samples[f"sidecar_request_body_bytes_total{labels}"] == 14
        assert samples[f"sidecar_response_body_bytes_total{labels}"] == 84

    def test_exchanges_are_active_from_begin_to_record(self) -> None:
        """By direction; one that was never begun is active for no time at all."""
        telemetry = Told()
        first, second = over(request(), direction=OUT), over(request(), direction=OUT)
        telemetry.begin(first)
        telemetry.begin(second)
        telemetry.record(first)
        telemetry.record(over(None, status=400, reason=errors.BAD_REQUEST))
        samples = telemetry.samples()
        assert samples['sidecar_requests_active{direction="outbound"}'] == 1
        assert samples['sidecar_requests_active{direction="inbound"}'] == 0

    def test_retries_are_counted_by_what_was_wrong(self) -> None:
        """By reason or by the status that was not passed on; the exchange by how it ended; skipped ones by why."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "r", "u", "h")
        for status in (200, 503):
            exchange = over(request(), scope=scope, direction=OUT, endpoint="1.1.1.1:1", attempts=3, status=status)
            exchange.tries = [
                Try(None, 1, 2, 0, errors.CONNECT_FAILED, b"1" * 16),
                Try(None, 2, 3, 502, None, b"2" * 16),
            ]
            exchange.retry_skipped = "budget" if status == 503 else ""
            telemetry.record(exchange)
        samples = telemetry.samples()
        assert {name: value for name, value in samples.items() if "_retr" in name} == {
            'sidecar_upstream_retries_total{reason="connect_failed",upstream="u"}': 2,
            'sidecar_upstream_retries_total{reason="502",upstream="u"}': 2,
            'sidecar_upstream_retried_requests_total{result="success",upstream="u"}': 1,
            'sidecar_upstream_retried_requests_total{result="failure",upstream="u"}': 1,
            'sidecar_upstream_retries_skipped_total{reason="budget",upstream="u"}': 1,
        }

    @pytest.mark.parametrize(
        ("endpoint", "attempts", "reason"),
        [(None, 0, errors.NO_ROUTE), ("h:1", 2, None), ("h:1", 1, errors.RESPONSE_CUT)],
    )
    def test_overhead_is_only_known_of_plain_exchanges(
        self, endpoint: str | None, attempts: int, reason: Reason | None
    ) -> None:
        """One attempt, answered, gone well."""
        telemetry = Told()
        telemetry.record(over(request(), endpoint=endpoint, attempts=attempts, reason=reason))
        assert telemetry.samples()['sidecar_overhead_seconds_count{direction="inbound"}'] == 0

    def test_many_clients_hosts_and_endpoints_are_not_remembered_for_ever(self) -> None:
        """Memory is bounded though a client may invent hosts, methods and addresses."""
        telemetry = Told()
        scope = telemetry.scope(IN, "r", "u", "h")
        for number in range(10_000):
            head = request(line=b"M%d / HTTP/1.1" % (number % 3000), host=b"h%d" % number)
            exchange = over(head, scope=scope, endpoint=f"10.0.{number >> 8}.{number & 255}:80", peer=(f"p{number}", 1))
            exchange.start_ns += number * 1_000_000_000
            telemetry.record(exchange)
        assert len(scope.outcomes) <= 1024
        assert len(telemetry._cache.authorities) <= 4096
        assert len(telemetry._cache.peers[IN]) <= 4096
        assert len(telemetry._cache.destinations[IN]) <= 4096
        assert len(telemetry._cache.seconds) <= 4096
        assert len(telemetry._metrics.requests.children) == 1
        assert len(telemetry._metrics.server_duration.children) == 1

    def test_no_label_comes_from_the_wire(self) -> None:
        """Whatever a request says, the series are those of the configuration."""
        telemetry = Told()
        scope = telemetry.scope(OUT, "r", "u", "configured:80")
        for word in (b"one", b"two"):
            head = request(b"user-agent: " + word, line=b"%b /%b?%b HTTP/1.1" % (word, word, word), host=word)
            for status in (200, 700, 999):
                telemetry.record(over(head, scope=scope, direction=OUT, status=status, endpoint="1.1.1.1:1"))
        text = telemetry.exposition().decode()
        assert "one" not in [part for line in text.splitlines() if line[0] != "#" for part in line.split('"')]
        assert 'code="_OTHER"' in text
        assert 'code="700"' not in text
        assert len(telemetry._metrics.client_duration.children) == 2  # 200 and _OTHER

    def test_the_three_agree_after_many_exchanges(self) -> None:
        """Sums of lines, spans and counters, to the request."""
        telemetry = Told()
        scopes = [None, telemetry.scope(IN, "a", "u", "h"), telemetry.scope(IN, "b", "", "")]
        count = 0
        for reason in (None, *REASONS):
            for scope in scopes:
                for head in (None, request(), request(TRACEPARENT + b"01")):
                    telemetry.record(over(head, scope=scope, status=reason.status if reason else 200, reason=reason))
                    count += 1
        samples = telemetry.samples()
        assert len(telemetry.lines()) == len(telemetry.spans()) == count
        assert sum(value for name, value in samples.items() if name.startswith("sidecar_requests_total")) == count
        durations = "http_server_request_duration_seconds_count"
        assert sum(value for name, value in samples.items() if name.startswith(durations)) == count


class TestObservers:
    """Whoever looks on sees every exchange, and only while looking."""

    def test_an_observer_sees_what_is_recorded_until_it_is_removed(self) -> None:
        """The exchange itself, once, after it was recorded; sampled or not, with a log or without."""
        telemetry = Told(TelemetrySettings("s", access_log_path=None))
        seen: list[Exchange] = []
        exchanges = [over(request()) for _ in range(3)]
        telemetry.record(exchanges[0])
        telemetry.add_observer(seen.append)
        telemetry.record(exchanges[1])
        telemetry.remove_observer(seen.append)
        telemetry.remove_observer(seen.append)
        telemetry.record(exchanges[2])
        assert seen == [exchanges[1]]
        assert telemetry.observers == ()

    def test_an_observer_that_fails_is_removed_and_hurts_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        """The exchange is recorded, others go on looking, and the failure is logged once."""
        telemetry = Told()
        seen: list[Exchange] = []

        def fail(_: Exchange) -> None:
            raise RuntimeError("oops")

        telemetry.add_observer(fail)
        telemetry.add_observer(seen.append)
        for _ in range(2):
            telemetry.record(over(request()))
        assert (len(seen), len(telemetry.lines()), len(telemetry.spans())) == (2, 2, 2)
        assert telemetry.observers == (seen.append,)
        assert [record.message.partition(" ")[0] for record in caplog.records] == ["observer_failed"]


class TestReload:
    """A reload changes what is told from then on and loses nothing."""

    def test_scopes_survive_and_counters_never_go_back(self) -> None:
        """The same names are the same object; a new address is a new series beside the old."""
        telemetry = Told()
        scope = telemetry.scope(IN, "r", "u", "h")
        telemetry.record(over(request(), scope=scope))
        telemetry.reconfigure(TelemetrySettings("other", access_log_path="/dev/null"))
        assert telemetry.scope(IN, "r", "u", "h") is scope
        telemetry.record(over(request(), scope=telemetry.scope(IN, "r", "u", "new")))
        samples = telemetry.samples()
        assert samples['sidecar_requests_total{code="200",direction="inbound",flag="-",route="r",upstream="u"}'] == 2
        durations = [name for name in samples if name.startswith("http_server_request_duration_seconds_count")]
        assert len(durations) == 2

    def test_what_did_not_change_is_kept(self) -> None:
        """The file and the connection to the collector."""
        telemetry = Told()
        log_file, exporter = telemetry._sinks.log_file, telemetry._sinks.exporter
        telemetry.reconfigure(TelemetrySettings("storefront", otlp_endpoint=COLLECTOR, access_log_path="/dev/null"))
        assert telemetry._sinks.log_file is log_file
        assert telemetry._sinks.exporter is exporter

    def test_sinks_can_be_turned_off_and_on(self) -> None:
        """And losses of those that are gone still count."""
        telemetry = Told()
        assert telemetry._sinks.exporter is not None
        telemetry._sinks.exporter._outbox.refused = 3
        telemetry.reconfigure(TelemetrySettings("storefront", access_log_path=None))
        exchange = over(request())
        telemetry.record(exchange)
        assert telemetry.raw_lines() == telemetry.raw_spans() == []
        telemetry.reconfigure(TelemetrySettings("storefront", otlp_endpoint=COLLECTOR, access_log_path="/dev/null"))
        telemetry.record(over(request()))
        assert (len(telemetry.raw_lines()), len(telemetry.raw_spans())) == (1, 1)
        assert telemetry.samples()['sidecar_spans_dropped_total{reason="queue_full"}'] == 3

    def test_an_exchange_sampled_before_the_collector_went_is_no_harm(self) -> None:
        """It began under other settings."""
        telemetry = Told()
        exchange = over(request())
        telemetry.begin(exchange)
        telemetry.reconfigure(NO_EXPORT)
        telemetry.record(exchange)
        assert len(telemetry.lines()) == 1

    def test_an_endpoint_in_the_environment_that_is_no_url_turns_export_off(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The file is checked when it is read; a variable only costs a warning in the log."""
        with caplog.at_level(logging.WARNING, "sidecar.telemetry"):
            telemetry = Told(NO_EXPORT, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"})
        assert telemetry._sinks.exporter is None
        assert "collector:4317" in caplog.text

    def test_state_of_the_configuration_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """First load, a good reload, a bad one."""
        monkeypatch.setattr("sidecar.telemetry.metrics.self_metrics.time.time", lambda: 1234.5)
        telemetry = Told()
        assert telemetry.samples()["sidecar_config_last_reload_successful"] == 0
        telemetry.config_applied("aaa", is_reload=False)
        telemetry.config_applied("bbb", is_reload=True)
        telemetry.config_refused()
        telemetry.config_loaded(0.02, is_ok=True)
        telemetry.config_loaded(3.0, is_ok=False)
        samples = telemetry.samples()
        assert samples['sidecar_config_load_duration_seconds_sum{result="success"}'] == 0.02
        assert samples['sidecar_config_load_duration_seconds_bucket{result="failure",le="2.5"}'] == 0
        assert samples['sidecar_config_load_duration_seconds_bucket{result="failure",le="5.0"}'] == 1
        assert samples["sidecar_config_last_reload_successful"] == 0
        assert samples["sidecar_config_last_reload_success_timestamp_seconds"] == 1234.5
        assert samples['sidecar_config_info{hash="bbb"}'] == 1
        assert 'sidecar_config_info{hash="aaa"}' not in samples
        assert samples['sidecar_config_reloads_total{result="success"}'] == 1
        assert samples['sidecar_config_reloads_total{result="failure"}'] == 1


class TestLife:
    """From start to stop, with threads."""

    def test_everything_recorded_before_the_stop_arrives(self, tmp_path: Path) -> None:
        """Lines in the file, spans at the collector, also of the sinks that a reload replaced."""
        first, second = tmp_path / "first.log", tmp_path / "second.log"

        async def live(url: str) -> None:
            telemetry = Told(TelemetrySettings("s", otlp_endpoint=url, access_log_path=str(first)))
            telemetry.record(over(request()))
            await telemetry.start()
            telemetry.record(over(request()))
            old = telemetry._sinks.log_file
            telemetry.reconfigure(TelemetrySettings("s", otlp_endpoint=url, access_log_path=str(second)))
            telemetry.record(over(request()))
            await telemetry.stop(10)
            assert old is not None
            old.join(10)

        with Collector() as collector:
            asyncio.run(live(collector.url))
        assert first.read_bytes().count(b"\n") == 2
        assert second.read_bytes().count(b"\n") == 1
        assert len(collector.spans()) == 3

    def test_handing_over_never_waits_for_a_sink(self, tmp_path: Path) -> None:
        """With a full disk and nobody at the collector's port, recording is as little work as with all well."""

        async def live() -> int:
            telemetry = Told(TelemetrySettings("s", otlp_endpoint="http://127.0.0.1:1", access_log_path="/dev/full"))
            await telemetry.start()
            most = 0
            for _ in range(2000):
                exchange = over(request())
                with Work() as work:
                    telemetry.record(exchange)
                most = max(most, work.lines)
            await telemetry.stop(0.2)
            losses = telemetry.samples()
            assert losses['sidecar_log_lines_dropped_total{reason="write_failed"}'] == 2000
            lost = sum(value for name, value in losses.items() if name.startswith("sidecar_spans_dropped_total"))
            assert lost == 2000
            return most

        # Lines of Python: 180 usually, 550 where the outcome is bound.
        assert asyncio.run(live()) < 1_000
