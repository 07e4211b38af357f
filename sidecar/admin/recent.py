"""The last requests, for whoever asks: `GET /requests`. *Cold.* `docs/live.md` has the parameters and the keys."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sidecar import clock, grpc
from sidecar.redact import Secrets

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
"""Of requests in one answer, which is some 350 KB then."""
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RequestsWish:
    """
    Which requests are asked for.

    Attributes:
        limit: So many at most.
        request_id: Only those of this id; empty for any.
    """

    limit: int = DEFAULT_LIMIT
    request_id: str = ""


class EntryLike(Protocol):
    """A request that was kept; `proxy.recent.Entry` is it."""

    @property
    def kept(self) -> Any:
        """Says of which direction it was."""

    start_ns: int
    end_ns: int
    request_id: bytes
    method: bytes
    host: bytes
    port: int | None
    path: bytes
    route: str
    upstream: str
    endpoint: str
    status: int
    grpc_status: int
    flag: str
    attempts: int


class RecentLike(Protocol):
    """Where requests are kept; `proxy.recent.Recent` is it."""

    keep: int
    not_kept: int
    passed_over: int

    def __len__(self) -> int:
        """How many there are."""

    def entries(self) -> Iterable[EntryLike]:
        """Newest first."""


def requests_wish(params: Iterable[tuple[str, str]]) -> RequestsWish:
    """
    What the parameters of the address ask for.

    Raises:
        ValueError: A parameter is unknown or its value is; the text says what was expected.
    """
    limit, request_id = DEFAULT_LIMIT, ""
    for name, value in params:
        if name == "request_id":
            request_id = value
        elif name != "limit":
            raise ValueError(f"unknown parameter {name!r}; there are limit, request_id")
        elif not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_LIMIT):
            raise ValueError(f"limit: expected a whole number from 1 to {MAX_LIMIT}, got {value!r}")
        else:
            limit = int(value)
    return RequestsWish(limit, request_id)


def shown_requests(
    recent: RecentLike, wish: RequestsWish, secrets: Secrets
) -> Generator[None, None, dict[str, object]]:
    """The page, ready for JSON; work in steps (`compile.time_slices`)."""
    shown: list[dict[str, object]] = []
    wanted = wish.request_id.encode("utf-8", "replace")
    for entry in recent.entries():
        if len(shown) >= wish.limit:
            break
        if not wanted or entry.request_id == wanted:
            shown.append(secrets.shown(shown_entry(entry)))
            yield
    return {
        "keep": recent.keep,
        "kept": len(recent),
        "not_kept": recent.not_kept,
        "passed_over": recent.passed_over,
        "requests": shown,
    }


def shown_entry(entry: EntryLike) -> dict[str, object]:
    """One request; of its fields, cookies and parameters nothing."""
    host = text_of(entry.host)
    call: dict[str, object] = {}
    if entry.grpc_status >= 0:
        judged = grpc.counts_as(entry.status, entry.grpc_status)
        call = {"grpc_status": grpc.NAMES[entry.grpc_status], "counts_as": judged}
    return {
        "time": time_of(clock.wall_ns(entry.start_ns)),
        "request_id": text_of(entry.request_id),
        "direction": entry.kept.direction,
        "method": text_of(entry.method),
        "host": host if entry.port is None else f"{host}:{entry.port}",
        "path": text_of(entry.path),
        "status": entry.status,
        **call,
        "flag": entry.flag,
        "route": entry.route or None,
        "upstream": entry.upstream or None,
        "endpoint": entry.endpoint or None,
        "attempts": entry.attempts,
        "duration_ms": round((entry.end_ns - entry.start_ns) / 1e6, 3),
    }


def merge_requests(pages: Iterable[Mapping[str, Any]], limit: int) -> dict[str, object]:
    """Several workers' pages as one, by time."""
    merged: dict[str, Any] = {"keep": 0, "kept": 0, "not_kept": 0, "passed_over": 0, "requests": []}
    for page in pages:
        for name, value in page.items():
            merged[name] += value
    merged["requests"] = sorted(merged["requests"], key=lambda one: str(one["time"]), reverse=True)[:limit]
    return merged


def text_of(octets: bytes) -> str:
    """As a person reads it: UTF-8, or octet by octet."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def time_of(since_epoch_ns: int) -> str:
    """RFC 3339 in UTC, to the microsecond, by which the requests of several workers are put in order."""
    second, rest = divmod(since_epoch_ns, _NS)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"
