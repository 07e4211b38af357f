"""Spans reach the collector, or are counted."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
from math import inf
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from sidecar import __version__
from sidecar.exchange import Direction
from sidecar.telemetry.otlp_target import Target
from sidecar.telemetry.resource import INSTANCE_ID, encoded_resource, service_attributes
from sidecar.telemetry.traces.export import Exporter, SpanLosses
from sidecar.telemetry.traces.protobuf import string_attribute
from sidecar.telemetry.traces.spans import SpanTemplate, request_span
from tests.unit.telemetry.collector import HANG_UP, Collector

TEMPLATE = SpanTemplate(request_span(Direction.INBOUND, b"GET", 1, "r", "u", 200, None))


def span(number: int = 1, own: bytes = b"") -> bytes:
    """A span whose id is its number."""
    return TEMPLATE.encode(b"1" * 32, b"%016x" % number, b"", b"", 1, 2, own)


def numbers(collector: Collector) -> list[int]:
    """Which spans arrived."""
    return [int.from_bytes(span.span_id, "big") for span in collector.spans()]


class Exporting:
    """An exporter without a thread, whose waits are remembered and take no time."""

    def __init__(
        self, collector: Collector | str, *, gzip: bool = False, max_queue_bytes: int = 1 << 22, **target_of: Any
    ) -> None:
        url = collector if isinstance(collector, str) else collector.url
        self.losses = SpanLosses()
        self.waits: list[float] = []
        target = Target(url + "/v1/traces", (("x-token", "secret"),), gzip, **target_of)
        attributes = service_attributes("storefront", "1.2", "shop", {})
        self.exporter = Exporter(
            target, lambda: encoded_resource(attributes), self.losses, max_queue_bytes, self.waits.append
        )

    def send(self, count: int = 1) -> SpanLosses:
        """Hand over spans 1 to `count` and do one round."""
        for number in range(1, count + 1):
            self.exporter.put(span(number))
        self.exporter.turn()
        return self.losses


class TestSending:
    """OTLP/HTTP with binary protobuf."""

    @pytest.mark.parametrize("is_compressed", [True, False])
    def test_a_batch_is_one_request_with_resource_scope_and_spans(self, is_compressed: bool) -> None:
        """All that a collector needs to attribute them."""
        with Collector() as collector:
            exporting = Exporting(collector, gzip=is_compressed)
            losses = exporting.send(3)
            exporting.exporter._disconnect()
        (request,) = collector.requests
        (resource_spans,) = request.resource_spans
        (scope_spans,) = resource_spans.scope_spans
        resource = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
        assert resource["service.name"] == "storefront"
        assert resource["service.version"] == "1.2"
        assert resource["service.namespace"] == "shop"
        assert resource["service.instance.id"] == INSTANCE_ID
        assert resource["telemetry.sdk.name"] == "opentelemetry"
        assert resource["telemetry.sdk.language"] == "python"
        assert resource["telemetry.sdk.version"]
        assert (scope_spans.scope.name, scope_spans.scope.version) == ("sidecar", __version__)
        assert numbers(collector) == [1, 2, 3]
        assert collector.paths == ["/v1/traces"]
        (headers,) = collector.headers
        assert headers["content-type"] == "application/x-protobuf"
        assert headers["x-token"] == "secret"
        assert headers["user-agent"] == f"sidecar/{__version__}"
        assert headers.get("content-encoding") == ("gzip" if is_compressed else None)
        assert losses.exported == 3

    def test_batches_are_bounded_and_share_a_connection(self) -> None:
        """2,048 spans a request."""
        with Collector() as collector:
            exporting = Exporting(collector)
            losses = exporting.send(5000)
            exporting.exporter._disconnect()
        assert [len(request.resource_spans[0].scope_spans[0].spans) for request in collector.requests] == [
            2048,
            2048,
            904,
        ]
        assert len(collector.connections) == 1
        assert numbers(collector) == list(range(1, 5001))
        assert losses.exported == 5000

    def test_large_spans_make_small_batches(self) -> None:
        """No request grows much over a mebibyte."""
        with Collector() as collector:
            exporting = Exporting(collector, max_queue_bytes=1 << 30)
            for number in range(1, 31):
                exporting.exporter.put(span(number, string_attribute("url.full", "x" * 100_000)))
            exporting.exporter.turn()
            exporting.exporter._disconnect()
        assert [len(request.resource_spans[0].scope_spans[0].spans) for request in collector.requests] == [10, 10, 10]

    def test_the_thread_sends_and_stopping_flushes(self) -> None:
        """Spans handed over before `stop` are at the collector after `join`."""
        with Collector() as collector:
            exporting = Exporting(collector)
            exporting.exporter.start()
            for number in range(1, 101):
                exporting.exporter.put(span(number))
            exporting.exporter.stop(10)
            exporting.exporter.join(10)
        assert numbers(collector) == list(range(1, 101))
        assert exporting.losses.exported == 100

    def test_a_connection_that_the_collector_closed_is_opened_anew_without_waiting(self) -> None:
        """Keep-alive races are no failures."""
        with Collector(200, HANG_UP, 200) as collector:
            exporting = Exporting(collector)
            exporting.send()
            losses = exporting.send()
            exporting.exporter._disconnect()
        assert losses.exported == 2
        assert exporting.waits == []
        assert len(collector.connections) == 2


class TestTrouble:
    """OTLP specification, 1.10: "Failures" and "Throttling" of OTLP/HTTP."""

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_retryable_replies_are_retried_with_growing_waits(self, status: int) -> None:
        """Exponential back-off with jitter."""
        with Collector(status, status, status, 200) as collector:
            exporting = Exporting(collector)
            losses = exporting.send(2)
            exporting.exporter._disconnect()
        assert losses.exported == 2
        assert losses.unavailable == losses.rejected == 0
        for wait_s, longest_s in zip(exporting.waits, (0.5, 1, 2), strict=True):
            assert longest_s / 2 <= wait_s <= longest_s
        assert numbers(collector) == [1, 2] * 4

    @pytest.mark.parametrize(
        ("said", "waited_s"),
        [
            ("7", 7.0),
            ("900", 30.0),
            ("9" * 400, 30.0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 30.0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 99 Nov 1994", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ],
    )
    def test_retry_after_is_heeded_within_reason(self, said: str, waited_s: float | None) -> None:
        """At least so long, at most 30 s; nonsense is ignored."""
        with Collector((503, {"Retry-After": said}, b""), 200) as collector:
            exporting = Exporting(collector)
            exporting.send()
            exporting.exporter._disconnect()
        (wait_s,) = exporting.waits
        assert wait_s == waited_s if waited_s else wait_s <= 0.5

    @pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 301])
    def test_other_replies_drop_the_batch_at_once(self, status: int) -> None:
        """\"The client MUST NOT retry the request when the response is not retryable\"; redirects are not followed."""
        with Collector(status) as collector:
            exporting = Exporting(collector)
            losses = exporting.send(2)
            exporting.exporter._disconnect()
        assert (losses.rejected, losses.exported, len(collector.requests)) == (2, 0, 1)
        assert exporting.waits == []

    def test_retries_are_used_up_and_it_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """Five tries a batch; the log says it once until it works again; no token is in it."""
        with Collector(503) as collector, caplog.at_level(logging.INFO, "sidecar.telemetry"):
            exporting = Exporting(collector)
            exporting.send(2)
            losses = exporting.send(2)
            collector.replies = [200]
            exporting.send(1)
            exporting.exporter._disconnect()
        assert (losses.unavailable, losses.exported) == (4, 1)
        assert len(collector.requests) == 11
        messages = [record.getMessage() for record in caplog.records]
        assert [message.split()[0] for message in messages] == ["span_export_failed", "span_export_recovered"]
        assert "status 503" in messages[0]
        assert "secret" not in "".join(messages)

    def test_a_dead_collector_loses_spans_and_nothing_else(self) -> None:
        """Nobody listens; the next batch is tried all the same."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            exporting = Exporting(f"http://127.0.0.1:{unused.getsockname()[1]}")
            exporting.send(2)
            assert exporting.send(3).unavailable == 5
        assert len(exporting.waits) == 8

    def test_a_collector_that_never_answers_is_given_up(self) -> None:
        """It accepts and says nothing; every try ends by its timeout."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            exporting = Exporting(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.02)
            # The floor of the timeout is for the last moments before the deadline.
            assert exporting.send(2).unavailable == 2
        assert len(exporting.waits) == 4

    def test_stopping_does_not_wait_for_a_collector_that_never_answers(self) -> None:
        """What it holds and what waits is counted as lost."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            exporting = Exporting(f"http://127.0.0.1:{silent.getsockname()[1]}")
            exporting.exporter.start()
            exporting.exporter.put(span())
            exporting.exporter.stop(0.2)
            exporting.exporter.join(0.2)
            assert exporting.exporter._thread is not None
            exporting.exporter._thread.join(5)
            assert not exporting.exporter._thread.is_alive()
        assert exporting.losses.unavailable + exporting.losses.shutdown == 1

    def test_the_queue_is_bounded(self) -> None:
        """What nobody takes is refused and counted."""
        exporting = Exporting("http://127.0.0.1:1", max_queue_bytes=10 * len(span()))
        for number in range(15):
            exporting.exporter.put(span(number))
        assert exporting.exporter.refused == 5

    def test_partial_success_counts_what_the_collector_refused(self) -> None:
        """\"The client MUST NOT retry the request when it receives a partial success response\"."""
        partial = ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
        reply = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
        with Collector((200, {}, reply)) as collector:
            exporting = Exporting(collector)
            losses = exporting.send(5)
            exporting.exporter._disconnect()
        assert (losses.exported, losses.rejected) == (3, 2)

    @pytest.mark.parametrize("reply", [b"\xff\xff\xff", b"{}", b"x" * 200_000])
    def test_a_reply_that_is_no_protobuf_is_taken_as_success(self, reply: bytes) -> None:
        """The status says so."""
        with Collector((200, {}, reply)) as collector:
            exporting = Exporting(collector)
            losses = exporting.send(5)
            exporting.exporter._disconnect()
        assert losses.exported == 5

    def test_a_failing_resource_loses_the_batch_and_not_the_thread(self) -> None:
        """Whatever the SDK does with the environment."""

        def fail() -> bytes:
            raise RuntimeError("no detector")

        losses = SpanLosses()
        exporter = Exporter(Target("http://127.0.0.1:1/v1/traces", (), False), fail, losses)
        exporter.put(span())
        exporter.turn()
        assert losses.unavailable == 1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of `localhost` that vouches for itself, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return certificate, key


class TestTls:
    """OTLP exporter specification, "Certificate File"."""

    def test_a_collector_is_known_by_the_certificates_of_a_file(self, files: tuple[str, str]) -> None:
        """And not believed without them."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        with Collector(tls=context) as collector:
            believing = Exporting(collector, ca_file=files[0], timeout_s=inf)
            assert believing.send(2).exported == 2
            believing.exporter._disconnect()
            assert Exporting(collector).send(2).unavailable == 2
            assert Exporting(collector, ca_file="/nowhere.pem").send(2).unavailable == 2
        assert numbers(collector) == [1, 2]

    def test_a_collector_may_want_to_know_us(self, files: tuple[str, str]) -> None:
        """Mutual TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files[0])
        with Collector(tls=context) as collector:
            known = Exporting(collector, ca_file=files[0], client_cert_file=files[0], client_key_file=files[1])
            assert known.send().exported == 1
            known.exporter._disconnect()
            assert Exporting(collector, ca_file=files[0]).send().unavailable == 1


class TestResource:
    """Who the telemetry is about."""

    def test_the_file_wins_over_the_environment(self) -> None:
        """Then OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES."""
        environment = {
            "OTEL_SERVICE_NAME": "named",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=listed,service.namespace=ns%201,k8s.pod.name=p-1,broken",
        }
        found = service_attributes("file", "", "", environment)
        assert (found["service.name"], found["service.namespace"]) == ("file", "ns 1")
        assert found["k8s.pod.name"] == "p-1"
        assert service_attributes("", "", "", environment)["service.name"] == "named"
        del environment["OTEL_SERVICE_NAME"]
        assert service_attributes("", "", "", environment)["service.name"] == "listed"
        assert service_attributes("", "", "", {})["service.name"] == "unknown_service:sidecar"
