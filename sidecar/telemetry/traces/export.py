"""
Spans to a collector by OTLP/HTTP with protobuf, from a thread. *Hot path: `Exporter.put`.*

A blocking client in a thread of its own keeps names, TLS handshakes, compression and slow collectors off the event
loop. Retries follow the OTLP specification (1.10, "Failures" of OTLP/HTTP): 429, 502, 503, 504 and broken
connections, with back-off and jitter, heeding `Retry-After`; anything else that is not 2xx drops the batch. The queue
is bounded; whatever is lost is counted by reason.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar import __version__
from sidecar.telemetry.background import Background
from sidecar.telemetry.otlp_target import Target
from sidecar.telemetry.traces.protobuf import delimited, length

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("sidecar.telemetry")

MAX_QUEUE_BYTES = 8 * 1024 * 1024
"""Spans that wait for the collector; about 20,000 requests."""
_PERIOD_S = 0.5
_WAKE_BYTES = 512 * 1024
_MAX_BATCH_SPANS = 2048
_MAX_BATCH_BYTES = 1024 * 1024
_MAX_TRIES = 5
_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 30.0
_RETRYABLE = frozenset((429, 502, 503, 504))
_MAX_REPLY_BYTES = 65536

_SCOPE = delimited(b"\x0a", delimited(b"\x0a", b"sidecar") + delimited(b"\x12", __version__.encode()))


class SpanLosses:
    """What became of spans, over all exporters of the process; counters never go back."""

    __slots__ = ("exported", "queue_full", "rejected", "shutdown", "unavailable")

    def __init__(self) -> None:
        self.exported = 0
        self.queue_full = 0
        self.unavailable = 0
        self.rejected = 0
        self.shutdown = 0


class Exporter(Background):
    """
    One collector.

    Args:
        target: Where to.
        resource: Makes the encoded `Resource`; called once, in the thread, for it may be slow.
        losses: Where the fate of spans is counted.
        max_queue_bytes: Of spans that wait.
        sleep: Waits for so many seconds or until the exporter is stopped; tests give their own.
    """

    def __init__(
        self,
        target: Target,
        resource: Callable[[], bytes],
        losses: SpanLosses,
        max_queue_bytes: int = MAX_QUEUE_BYTES,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        super().__init__("otlp-export", max_queue_bytes, _WAKE_BYTES)
        self.target = target
        self._make_resource = resource
        self._resource: bytes | None = None
        self._losses = losses
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._deadline = float("inf")
        self._connection: http.client.HTTPConnection | None = None
        self._is_failing = False
        self.put = self._outbox.put
        """Hand over one encoded span (`SpanTemplate.encode`); never blocks, never raises."""

    def __repr__(self) -> str:
        return f"<Exporter {self.target.shown!r} {self._outbox!r}>"

    def stop(self, timeout_s: float) -> None:
        """Send what waits, for at most so long, then end; does not wait for that. Call `join` to wait."""
        self._deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end after `stop`; then break the connection that it hangs on. Blocks."""
        super().join(timeout_s)
        if self._thread is not None and self._thread.is_alive():
            connection = self._connection
            if connection is not None and connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            self._thread.join(0.5)

    def _run(self) -> None:
        # Now and not with the first batch: the import takes its turns with the event loop for some 50 ms.
        with contextlib.suppress(Exception):
            self._prepare()
        while not self._stopping.is_set():
            self._await_work(_PERIOD_S)
            self.turn()
        self.turn()
        self._losses.shutdown += self._abandon()
        self._disconnect()

    def turn(self) -> None:
        """One round of the thread: send what waits. Tests call it without a thread."""
        while time.monotonic() < self._deadline:
            spans = self._outbox.take(_MAX_BATCH_SPANS, _MAX_BATCH_BYTES)
            if not spans:
                return
            self._send(spans)

    def _send(self, spans: Sequence[bytes]) -> None:
        try:
            self._try_often(spans)
        except Exception as error:
            # A mistake of ours, or an environment that the SDK cannot read; the next batch is tried all the same.
            self._disconnect()
            self._on_lost("unavailable", len(spans), f"{type(error).__name__}: {error}")

    def _try_often(self, spans: Sequence[bytes]) -> None:
        body = self._request(spans)
        backoff_s = _FIRST_BACKOFF_S
        failure = ""
        for number in range(1, _MAX_TRIES + 1):
            wait_s = random.uniform(0.5, 1.0) * backoff_s
            try:
                status, reply, retry_after = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                if 200 <= status < 300:
                    self._on_accepted(len(spans), reply)
                    return
                failure = f"status {status}"
                if status not in _RETRYABLE:
                    self._on_lost("rejected", len(spans), failure)
                    return
                wait_s = max(wait_s, _seconds(retry_after))
            if number == _MAX_TRIES or time.monotonic() + wait_s >= self._deadline:
                break
            self._sleep(min(wait_s, _MAX_BACKOFF_S))
            if self._stopping.is_set() and time.monotonic() >= self._deadline:
                break
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
        self._on_lost("unavailable", len(spans), failure)

    def _prepare(self) -> bytes:
        if self._resource is None:
            self._resource = delimited(b"\x0a", self._make_resource())
        return self._resource

    def _request(self, spans: Sequence[bytes]) -> bytes:
        """An `ExportTraceServiceRequest` with one resource and one scope."""
        resource = self._prepare()
        # Lengths first, so that half a megabyte is copied once and not three times.
        size = len(_SCOPE) + sum(map(len, spans))
        scope_spans = b"\x12" + length(size)
        size += len(resource) + len(scope_spans)
        body = b"".join((b"\x0a", length(size), resource, scope_spans, _SCOPE, *spans))
        return gzip.compress(body, compresslevel=1, mtime=0) if self.target.is_compressed else body

    def _post(self, body: bytes) -> tuple[int, bytes, str]:
        """
        Send one request; returns status, body and `Retry-After` of the reply.

        A connection that was kept open may have been closed by the collector meanwhile: then one more is tried.
        """
        was_open = self._connection is not None
        try:
            return self._exchange(body)
        except (ConnectionError, http.client.BadStatusLine):
            self._disconnect()
            if not was_open:
                raise
        except (OSError, http.client.HTTPException):
            self._disconnect()
            raise
        try:
            return self._exchange(body)
        except (OSError, http.client.HTTPException):
            self._disconnect()
            raise

    def _exchange(self, body: bytes) -> tuple[int, bytes, str]:
        parts = urlsplit(self.target.url)
        if self._connection is None:
            assert parts.hostname is not None
            timeout_s = max(0.1, min(self.target.timeout_s, self._deadline - time.monotonic()))
            limit_s = None if timeout_s == float("inf") else timeout_s
            if parts.scheme == "https":
                context = _tls(self.target)
                self._connection = http.client.HTTPSConnection(
                    parts.hostname, parts.port, timeout=limit_s, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=limit_s)
        headers = {"content-type": "application/x-protobuf", "user-agent": f"sidecar/{__version__}"}
        if self.target.is_compressed:
            headers["content-encoding"] = "gzip"
        headers.update(self.target.headers)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection.request("POST", path, body, headers)
        response = self._connection.getresponse()
        reply = response.read(_MAX_REPLY_BYTES)
        if not response.isclosed():
            self._disconnect()  # a longer reply than any collector has reason to send
        return response.status, reply, response.headers.get("retry-after", "")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _on_accepted(self, count: int, reply: bytes) -> None:
        rejected, message = _partial_success(reply)
        rejected = min(rejected, count)
        self._losses.exported += count - rejected
        if rejected:
            self._on_lost("rejected", rejected, message)
        elif self._is_failing:
            self._is_failing = False
            log.warning("span_export_recovered url=%s", self.target.shown)

    def _on_lost(self, reason: str, count: int, failure: str) -> None:
        setattr(self._losses, reason, getattr(self._losses, reason) + count)
        if not self._is_failing:
            self._is_failing = True
            log.error(
                "span_export_failed url=%s error=%.200r; spans are dropped and counted until it works again",
                self.target.shown,
                failure,
            )


def _tls(target: Target) -> ssl.SSLContext:
    """Whom we believe and who we are; the files are read at each connection, for they are renewed."""
    import ssl

    context = ssl.create_default_context(cafile=target.ca_file or None)
    if target.client_cert_file:
        context.load_cert_chain(target.client_cert_file, target.client_key_file or None)
    return context


def _seconds(retry_after: str) -> float:
    """`Retry-After` as seconds from now (RFC 9110, 10.2.3): a number of them, or a date; 0 for what is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:6])
    try:
        when = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return 0.0
    return when.timestamp() - time.time()


def _partial_success(reply: bytes) -> tuple[int, str]:
    """How many spans a 2xx reply refuses all the same, and why; nothing if the reply is not understood."""
    if not reply:
        return 0, ""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(reply).partial_success
    except DecodeError:
        return 0, ""
    return max(0, partial.rejected_spans), partial.error_message
