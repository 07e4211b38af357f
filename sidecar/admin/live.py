"""
Requests as they happen, for whoever looks on: `GET /tap`. *An observer of the data path while connected, else nothing.*

A tap filters where the requests are, so that what nobody asked for is never written. It may be slow, or ask for more
than can be shown; then events are left out and counted, the count is part of the stream, and the data path never
waits. `docs/live.md` has the parameters and the form of the events.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from sidecar import clock, grpc
from sidecar.admin.recent import text_of
from sidecar.admin.tap_filter import Filter
from sidecar.exchange import Exchange
from sidecar.message import Field, Version
from sidecar.redact import HIDDEN, NO_SECRETS, Secrets, is_sensitive, is_sensitive_parameter

CONTENT_TYPE = b"application/x-ndjson"
"""Of a tap: JSON, an event a line."""

DEFAULT_RATE = 1000
MAX_RATE = 10_000
"""Events a second. One costs about 20 us on the event loop: two hundredths of it at the default."""

MAX_BUFFER_BYTES = 256 * 1024
"""Of one tap, beside the kernel's and the transport's buffers: some 300 events."""

BATCH_S = 0.05
"""For how long events are gathered before they are written: no eye sees it, and it saves a write a request."""

HEARTBEAT_S = 15.0
"""After so long without an event an empty line is sent, or a client that vanished would never be noticed."""

_MAX_RAW_LINE_BYTES = 256
_NS = 1_000_000_000

Observer = Callable[[Exchange], None]


class Watched(Protocol):
    """Where exchanges can be looked at."""

    def add_observer(self, observer: Observer) -> bool:
        """Call `observer` with every exchange that is over; False if too many look on already."""
        ...

    def remove_observer(self, observer: Observer) -> None:
        """Call it no more."""
        ...


class Tap:
    """
    One client that looks on: an `endpoints.Stream` of JSON lines.

    Args:
        watched: Where to look.
        accepts: Which exchanges are shown.
        rate: Events a second at most, and as many at once.
        limit: Events after which the stream ends; 0 for none.
        secrets: What no event may show, beside what its name gives away.
    """

    def __init__(
        self,
        watched: Watched,
        accepts: Filter,
        rate: int = DEFAULT_RATE,
        limit: int = 0,
        secrets: Secrets = NO_SECRETS,
    ) -> None:
        self._watched = watched
        self._accepts = accepts
        self._secrets = secrets
        self._rate = rate
        self._left = limit or -1
        self._tokens = float(rate)
        self._last_ns = 0
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = {"rate": 0, "slow_reader": 0}
        self._is_finished = False
        self._wake = asyncio.Event()

    def open(self) -> bool:
        """Begin to look; False if too many do already."""
        return self._watched.add_observer(self)

    def finish(self) -> None:
        """Look no more, and end the stream after what is there."""
        self._watched.remove_observer(self)
        self._is_finished = True
        self._wake.set()

    def close(self) -> None:
        """Look no more; nobody reads."""
        self._watched.remove_observer(self)
        self._lines.clear()

    async def next(self) -> bytes:
        """Wait for events and return those that are there, as lines; empty at the end of the stream."""
        if not self._has_news() and not self._is_finished:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
            except TimeoutError:
                return b"\n"
        if not self._is_finished:
            await asyncio.sleep(BATCH_S)
        self._wake.clear()
        if any(self._dropped.values()):
            self._lines.append(_line({"dropped": self._dropped}))
            self._dropped = dict.fromkeys(self._dropped, 0)
        data = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        return data

    def __call__(self, exchange: Exchange) -> None:
        """Take note of an exchange, on the event loop, in microseconds."""
        if not self._accepts(exchange):
            return
        if not self._has_token(exchange.end_ns):
            self._dropped["rate"] += 1
        elif self._size >= MAX_BUFFER_BYTES:
            self._dropped["slow_reader"] += 1
        else:
            event = event_of(exchange)
            # Value by value: within JSON a secret could begin in the middle of an escape.
            line = _line(self._secrets.shown(event) if self._secrets else event)
            self._lines.append(line)
            self._size += len(line)
            self._left -= 1
            if not self._left:
                self.finish()
        self._wake.set()

    def _has_news(self) -> bool:
        return bool(self._lines) or any(self._dropped.values())

    def _has_token(self, now_ns: int) -> bool:
        """A bucket of `rate` tokens that fills in a second."""
        self._tokens = min(self._rate, self._tokens + max(0, now_ns - self._last_ns) * self._rate / _NS)
        self._last_ns = now_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def tap_of(watched: Watched, params: Iterable[tuple[str, str]], secrets: Secrets = NO_SECRETS) -> Tap:
    """
    A tap from the parameters of its address, not yet open.

    Raises:
        ValueError: As `wish_of`.
    """
    return Tap(watched, *wish_of(params), secrets)


def wish_of(params: Iterable[tuple[str, str]]) -> tuple[Filter, int, int]:
    """
    What the parameters of a tap's address ask for: which exchanges, how many a second, how many in all.

    Raises:
        ValueError: A parameter is unknown or its value is; the text says what was expected.
    """
    numbers = {"rate": (DEFAULT_RATE, 1, MAX_RATE), "limit": (0, 1, 10**9)}
    values = {name: default for name, (default, _, _) in numbers.items()}
    criteria: list[tuple[str, str]] = []
    for name, text in params:
        if name not in numbers:
            criteria.append((name, text))
            continue
        _, low, high = numbers[name]
        if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
            raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {text!r}")
        values[name] = int(text)
    return Filter(criteria), values["rate"], values["limit"]


def event_of(exchange: Exchange) -> dict[str, object]:
    """
    What is shown of an exchange: the access log's keys and meanings, and the request's header fields.

    Values of fields and of query parameters whose names speak of secrets are replaced by `[redacted]`.
    """
    head, scope, reason = exchange.head, exchange.scope, exchange.reason
    # Of what is no HTTP, the head only says where it is meant to go.
    request = head if not exchange.protocol else None
    upstream = (scope.upstream if scope is not None else "") or None
    waited_ns = exchange.first_byte_ns - (exchange.awaited_ns or exchange.sent_ns)
    event: dict[str, object] = {
        "start_time": _time(clock.wall_ns(exchange.start_ns)),
        "direction": exchange.direction.label,
        "method": text_of(request.method) if request is not None else None,
        "path": _target(request.path, request.query) if request is not None else None,
        "protocol": Version.NAMES[request.version] if request is not None else exchange.protocol or None,
        "response_code": exchange.status if not exchange.protocol else 0,
        "response_flags": reason.flag if reason is not None else "-",
        "response_code_details": reason.name if reason else "via_upstream" if upstream else "direct_response",
        "route_name": (scope.route if scope is not None else "") or None,
        "upstream_cluster": upstream,
        "upstream_host": exchange.endpoint.label if exchange.endpoint is not None else None,
        "bytes_received": exchange.bytes_received,
        "bytes_sent": exchange.bytes_sent,
        "duration": round((exchange.end_ns - exchange.start_ns) / 1e6, 3),
        "upstream_service_time": round(waited_ns / 1e6, 3) if exchange.first_byte_ns else None,
        "request_id": text_of(exchange.request_id),
        "trace_id": text_of(exchange.trace_id),
        "authority": _authority(head.host, head.port) if head is not None else None,
        "downstream_remote_address": _address(*exchange.peer),
        "attempts": exchange.attempts,
        "headers": _shown(request.fields) if request is not None else None,
    }
    if exchange.direct_peer is not None:
        event["downstream_direct_remote_address"] = _address(*exchange.direct_peer)
    if exchange.grpc_status >= 0:
        event["grpc_status"] = grpc.NAMES[exchange.grpc_status]
    if exchange.detail:
        event["detail"] = exchange.detail
    if head is None:
        event["raw_line"] = text_of(exchange.raw_line[:_MAX_RAW_LINE_BYTES])
    return event


def _line(event: Mapping[str, object]) -> bytes:
    # ASCII, and DEL escaped too: whoever prints the stream as it is, prints no command to the terminal.
    return json.dumps(event, separators=(",", ":")).replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _time(since_epoch_ns: int) -> str:
    # In whole numbers as the access log does it: a float of today is exact to 0.2 us only, and told a request that
    # began so little before a millisecond as begun in the next.
    second, rest = divmod(since_epoch_ns, _NS)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"


def _authority(host: bytes, port: int | None) -> str:
    return text_of(host) if port is None else f"{text_of(host)}:{port}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(maxsize=4096)
def _is_secret(name: bytes) -> bool:
    return is_sensitive(name.decode("latin-1"))


def _shown(fields: Iterable[Field]) -> list[tuple[str, str]]:
    return [
        (field.name.decode("latin-1"), HIDDEN if _is_secret(field.name) else text_of(field.value)) for field in fields
    ]


def _target(path: bytes, query: bytes | None) -> str:
    if query is None:
        return text_of(path)
    return f"{text_of(path)}?{'&'.join(_parameter(pair) for pair in text_of(query).split('&'))}"


def _parameter(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={HIDDEN}" if equals and is_sensitive_parameter(name) else pair
