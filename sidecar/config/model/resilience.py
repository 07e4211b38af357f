"""
How failure and overload are met: retries, limits, ejection, health, copies, faults, rates. *Cold, pure.*

Numbers that are bounded here are those that mean something; the precedents of the defaults are said in
docs/configuration.md.
"""

from __future__ import annotations

from typing import Annotated, Final

from sidecar.config.model.matches import Key, ValueTest
from sidecar.config.problems import did_you_mean
from sidecar.config.values.addresses import Authority
from sidecar.config.values.base import FoldedKeys, Model, OneOrMany, Reads, Short, expected, setting, table
from sidecar.config.values.grpc import STATUSES
from sidecar.config.values.units import (
    Boolean,
    Duration,
    Percent,
    PositiveDuration,
    integer,
    number,
    parse_positive_duration,
    size,
    value_of,
)
from sidecar.config.values.words import (
    EditedHeaderName,
    HeaderName,
    HeaderValue,
    Method,
    Part,
    PathAndQuery,
    Text,
    UpstreamName,
)
from sidecar.config.yaml.scalars import Spelled

RETRY_CONDITIONS: Final = (
    "connect_failure", "reset_before_response", "refused", "gateway_error", "5xx", "retriable_4xx", "timeout",
    "grpc_cancelled", "grpc_deadline_exceeded", "grpc_internal", "grpc_resource_exhausted", "grpc_unavailable",
)  # fmt: skip
"""Words of `retry.on`; `upstream.retry` says what each means, and a test compares the two."""

IDEMPOTENT_METHODS: Final = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")

_CONDITION_SCHEMA = {"anyOf": [{"enum": list(RETRY_CONDITIONS)}, {"type": "integer", "minimum": 400, "maximum": 599}]}


def parse_condition(written: object) -> str | int:
    """Read a word of `RETRY_CONDITIONS`, or a status from 400 to 599."""
    what = "a status from 400 to 599, or one of " + ", ".join(f"`{word}`" for word in RETRY_CONDITIONS)
    value = value_of(written)
    if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
        return value
    if isinstance(written, str) and not isinstance(written, Spelled):
        if written in RETRY_CONDITIONS:
            return str(written)
        raise expected(what, did_you_mean(written, RETRY_CONDITIONS))
    raise expected(what)


def parse_grpc_status(written: object) -> int:
    """Read an error of gRPC, `UNAVAILABLE` or 14, as its number, 1 to 16."""
    what = "an error of gRPC, such as `UNAVAILABLE`, or a number from 1 to 16"
    value = value_of(written)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < len(STATUSES):
        return value
    if isinstance(written, str) and not isinstance(written, Spelled):
        if written in STATUSES[1:]:
            return STATUSES.index(written)
        word = written.upper().replace("-", "_")
        raise expected(what, f"did you mean `{word}`?" if word in STATUSES[1:] else did_you_mean(word, STATUSES[1:]))
    raise expected(what)


def parse_status_range(written: object) -> tuple[int, int]:
    """Read a status as `(200, 200)`, or `2xx` as `(200, 299)`."""
    value = value_of(written)
    if isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 599:
        return value, value
    if isinstance(written, str) and len(written) == 3 and written[0] in "2345" and written[1:] == "xx":
        return int(written[0]) * 100, int(written[0]) * 100 + 99
    raise expected("a status from 200 to 599, or a class such as `2xx`")


_STATUS_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 200, "maximum": 599}, {"enum": ["2xx", "3xx", "4xx", "5xx"]}]
}
_GRPC_STATUS_SCHEMA = {"anyOf": [{"enum": list(STATUSES[1:])}, {"type": "integer", "minimum": 1, "maximum": 16}]}
_Condition = Annotated[str | int, Reads(parse_condition, _CONDITION_SCHEMA)]
_StatusRange = Annotated[tuple[int, int], Reads(parse_status_range, _STATUS_SCHEMA)]


# --- of routes -------------------------------------------------------------------------------------------------


class Backoff(Model):
    """How long is waited before a retry: at random between 0 and a bound that doubles with each (full jitter)."""

    base: Duration = setting(0.025, "Bound of the wait before the first retry.", "25ms")
    max: Duration = setting(0.25, "Bound of every wait.", "250ms")


class Retry(Model):
    """What is tried again. Without it only what cannot have been processed is, once."""

    attempts: Annotated[int, integer(0, 10)] = setting(1, "Retries after the first attempt, at most; 0: none at all.")
    on: Annotated[list[_Condition], OneOrMany(may_be_empty=True)] = setting(
        ["connect_failure", "reset_before_response", "refused"],
        "What is tried again: " + ", ".join(f"`{word}`" for word in RETRY_CONDITIONS) + ", statuses by number.",
    )
    per_try_timeout: PositiveDuration | None = setting(None, "For an attempt to bring a response head; default: none.")
    backoff: Backoff = setting(Backoff(), "How long is waited before a retry.")
    methods: Annotated[list[Method], OneOrMany()] = setting(
        list(IDEMPOTENT_METHODS),
        "Methods that may be sent twice; `POST` and `PATCH` with an `Idempotency-Key` may be in any case.",
    )
    max_body: Annotated[int, size(0, 16 * 1024 * 1024)] = setting(
        65536, "Of a request's body kept for sending it again; longer ones are not tried again.", "64KiB"
    )


class Mirror(Model):
    """A copy of requests to another upstream; its answers are dropped, and nobody waits for it."""

    to: UpstreamName = setting(..., "Name of an upstream of this file.")
    percent: Percent = setting(100.0, "Share of the requests that are copied.", "100%")
    max_body: Annotated[int, size(0, 16 * 1024 * 1024)] = setting(
        65536, "Of a request's body kept for the copy; requests with longer ones are not copied.", "64KiB"
    )


class Delay(Model):
    """Requests that wait before they are sent."""

    percent: Percent = setting(100.0, "Share of the requests.", "100%")
    duration: PositiveDuration = setting(..., "How long they wait.")


class Abort(Model):
    """Requests that are answered instead of sent."""

    percent: Percent = setting(100.0, "Share of the requests.", "100%")
    status: Annotated[int, integer(200, 599)] = setting(503, "The status that they are answered with.")
    grpc_status: Annotated[int, Reads(parse_grpc_status, _GRPC_STATUS_SCHEMA)] | None = setting(
        None, "In the place of `status`: they are answered with this error of gRPC, such as `UNAVAILABLE`, or 1 to 16."
    )


class Fault(Model):
    """Failures on purpose, to see whether the callers stand them."""

    delay: Delay | None = setting(None, "Requests that wait before they are sent.")
    abort: Abort | None = setting(None, "Requests that are answered instead of sent.")
    header: Annotated[dict[HeaderName, ValueTest], FoldedKeys()] = table(
        "Only requests whose header fields pass these tests are hit, as in `match.headers`."
    )


class RateLimit(Model):
    """How often requests may come; more are answered 429."""

    requests: Annotated[int, integer(1, 1_000_000_000)] = setting(..., "So many requests ...")
    per: PositiveDuration = setting(1.0, "... in this time.", "1s")
    burst: Annotated[int, integer(1, 1_000_000_000)] | None = setting(
        None, "So many at once after a pause; default: as many as `requests`."
    )
    key: Key | None = setting(None, "What tells clients apart, each with a limit of its own; default: all together.")


# --- of upstreams ----------------------------------------------------------------------------------------------


class RetryBudget(Model):
    """How much of the upstream's traffic retries may be."""

    percent: Percent = setting(20.0, "Of the requests of the last seconds.", "20%")
    min_per_second: Annotated[float, number(0, 1_000_000)] = setting(3.0, "Retries a second that are always allowed.")


class CircuitBreaker(Model):
    """How much may be under way at once; what exceeds it is answered 503 at once."""

    max_connections: Annotated[int, integer(1, 1_000_000)] = setting(1024, "Connections, all endpoints together.")
    max_pending_requests: Annotated[int, integer(0, 1_000_000)] = setting(1024, "Requests that wait for a connection.")
    max_requests: Annotated[int, integer(1, 1_000_000)] = setting(4096, "Requests in flight, waiting ones included.")
    max_retries: Annotated[int, integer(0, 1_000_000)] = setting(16, "Of those, the ones that are retries.")
    pending_timeout: PositiveDuration = setting(1.0, "How long a request waits for a connection.", "1s")
    adaptive: Boolean = setting(
        False, "true: the limit of requests in flight is found from their latency; `max_requests` bounds it."
    )


class SuccessRate(Model):
    """Ejection of endpoints that fail more often than the others."""

    minimum_hosts: Annotated[int, integer(2, 10_000)] = setting(5, "Endpoints with enough requests to compare.")
    request_volume: Annotated[int, integer(1, 1_000_000)] = setting(100, "Requests in an interval that are enough.")
    stdev_factor: Annotated[float, number(0, 100)] = setting(1.9, "Standard deviations below the mean of all.")


class Latency(Model):
    """Ejection of endpoints that are slower than the others."""

    factor: Annotated[float, number(1, 1000)] = setting(3.0, "Times slower than the median of the others.")
    minimum_hosts: Annotated[int, integer(2, 10_000)] = setting(3, "Endpoints with enough requests to compare.")
    request_volume: Annotated[int, integer(1, 1_000_000)] = setting(100, "Requests in an interval that are enough.")
    min_latency: Duration = setting(0.05, "An endpoint with a mean below this is never too slow.", "50ms")


_Failures = Annotated[int, integer(0, 1_000_000)]


def parse_ping_interval(written: object) -> float | None:
    """Read `off` as None, or a duration in seconds."""
    return None if written == "off" else parse_positive_duration(written)


_PING_SCHEMA = {"anyOf": [{"const": "off"}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"}]}


class UpstreamHttp2(Model):
    """Connections of HTTP/2 to the servers, which many requests share."""

    max_concurrent_streams: Annotated[int, integer(1, 100_000)] = setting(
        100, "Requests that share a connection at most; never more than its server allows."
    )
    ping_interval: Annotated[float | None, Reads(parse_ping_interval, _PING_SCHEMA)] = setting(
        None, "After so long without a word from the server it is asked for a sign of life; `off`: never.", "off"
    )
    ping_timeout: PositiveDuration = setting(
        10.0, "How long that is waited for, before the connection is given up.", "10s"
    )


class OutlierDetection(Model):
    """When an endpoint that fails is taken out for a while, by what real requests see."""

    consecutive_5xx: _Failures = setting(5, "Answers of 500 and above, and requests without one, in a row; 0: off.")
    consecutive_gateway_errors: _Failures = setting(0, "502, 503, 504, and requests without an answer; 0: off.")
    consecutive_connect_failures: _Failures = setting(0, "Connects that fail in a row; 0: off.")
    interval: PositiveDuration = setting(10.0, "Between two comparisons with the others.", "10s")
    base_ejection_time: PositiveDuration = setting(
        30.0, "Of the first ejection; the n-th in a row lasts n times as long.", "30s"
    )
    max_ejection_time: PositiveDuration = setting(300.0, "Of an ejection at most.", "5m")
    max_ejection_percent: Percent = setting(
        50.0, "Of the endpoints that may be ejected at once; one may always be, unless it is 0.", "50%"
    )
    success_rate: SuccessRate | None = setting(None, "Ejection of those that fail more often; default: off.")
    latency: Latency | None = setting(None, "Ejection of those that are slower; default: off.")


class GrpcHealth(Model):
    """A call of `grpc.health.v1.Health/Check`, by HTTP/2."""

    service: Text = setting("", "Of which it is asked, by the name that the server uses; empty: of the whole server.")


class HealthCheck(Model):
    """Requests by which the sidecar itself asks each endpoint how it is."""

    path: PathAndQuery = setting("/", "What is asked for, by GET.")
    grpc: GrpcHealth | None = setting(
        None, "In the place of `path`: gRPC's own health check (grpc.health.v1); `SERVING` is good."
    )
    port: Annotated[int, integer(1, 65535)] | None = setting(None, "Where; default: the endpoint's own port.")
    host: Authority | None = setting(None, "The `Host` of the request; default: the endpoint's address.")
    headers: Annotated[dict[EditedHeaderName, HeaderValue], FoldedKeys()] = table("Further fields of the request.")
    interval: PositiveDuration = setting(5.0, "Between two checks of an endpoint.", "5s")
    jitter: Percent = setting(10.0, "Of the interval by which it is shortened at random.", "10%")
    timeout: PositiveDuration = setting(2.0, "For the whole answer.", "2s")
    healthy_threshold: Annotated[int, integer(1, 100)] = setting(2, "Good answers in a row that bring it back.")
    unhealthy_threshold: Annotated[int, integer(1, 100)] = setting(3, "Bad answers in a row that take it out.")
    expected_statuses: Annotated[list[_StatusRange], OneOrMany()] = setting(
        [(200, 299)], "Statuses that are good, such as `200` or `2xx`; any of them.", "2xx"
    )
    expected_body: Part | None = setting(None, "What a good body holds, within its first 64 KiB.")


MirrorSpec = Annotated[Mirror, Short("to", "an upstream's name, or a mapping `{to, percent, max_body}`")]
