"""Timeouts, retries, pools, ejection and health checks of App Mesh in our words. *Cold, pure.*"""

from __future__ import annotations

from typing import Final

from sidecar.config.values.units import MAX_DURATION_S
from sidecar.importing.account import Mark
from sidecar.importing.checked import ASKED_PATH, checked
from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError
from sidecar.importing.said import Said, within
from sidecar.importing.spelling import LONGEST, duration

PROTOCOLS: Final = ("http", "http2", "grpc", "tcp")
DEFAULT_TIMEOUT_S: Final = 15.0
"""Of a request, on routes and listeners that say nothing (App Mesh's user guide, "Timeouts")."""
EVERY_METHOD: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH")
"""App Mesh repeats whatever the method is."""
MAX_ATTEMPTS: Final = 10
MAX_LIMIT: Final = 1_000_000
_IDLE: Final = Mark(
    "dropped", "a sidecar has one idle limit for all, 5m, as App Mesh's default is",
    "say `limits: {stream_idle_timeout: ...}` in the sidecar's own file",
)  # fmt: skip
_TCP_IDLE: Final = Mark(
    "dropped", "a sidecar has one idle limit for all connections that are no HTTP's, 5m, as App Mesh's default is",
    "say `limits: {tunnel_idle_timeout: ...}` in the sidecar's own file",
)  # fmt: skip
_EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "server-error": ("5xx", "reset_before_response"),
    "gateway-error": ("gateway_error", "reset_before_response"),
    "client-error": ("retriable_4xx",),
    "stream-error": ("refused",),
    "connection-error": ("connect_failure",),
    "cancelled": ("grpc_cancelled",),
    "deadline-exceeded": ("grpc_deadline_exceeded",),
    "internal": ("grpc_internal",),
    "resource-exhausted": ("grpc_resource_exhausted",),
    "unavailable": ("grpc_unavailable",),
}
DEFAULT_RETRY: Final[dict[str, Plain]] = {
    "attempts": 2,
    "on": ["connect_failure", "reset_before_response", "refused", 503],
    "methods": list(EVERY_METHOD),
}
"""What App Mesh does without a policy, in accounts since July 2020."""


def seconds(found: Field) -> float:
    """A duration of App Mesh, `{value, unit}`, in seconds."""
    value, unit = found.need("value"), found.need("unit")
    if unit.text() not in ("s", "ms"):
        raise WrongError(unit, f"expected `s` or `ms`, found `{unit.text()}`")
    number = value.integer()
    if number < 0:
        raise WrongError(value, f"expected a number that is not negative, found {number}")
    return number * (0.001 if unit.text() == "ms" else 1.0)


def put_timeout(block: Field | None, rest: dict[str, Plain]) -> float | None:
    """
    Put a route's timeout.

    Returns:
        What holds for the whole exchange, in seconds; None for no limit.
    """
    per_request = block.get("perRequest") if block is not None else None
    idle = block.get("idle") if block is not None else None
    if idle is not None:
        idle.dropped(_IDLE.how, _IDLE.what_to_do)
    if per_request is None:
        return DEFAULT_TIMEOUT_S
    length = seconds(per_request)
    if length == 0 or length > MAX_DURATION_S:
        rest["timeout"] = LONGEST
        per_request.changed(f"timeout: {LONGEST}, the longest there is", "a call without an end is seldom meant")
        return None
    rest["timeout"] = duration(length)
    per_request.kept(f"timeout: {duration(length)}")
    return length


def drop_tcp_idle(block: Field | None) -> None:
    """Tell what becomes of a timeout of connections, which is one without an octet."""
    idle = block.get("idle") if block is not None else None
    if idle is not None:
        idle.dropped(_TCP_IDLE.how, _TCP_IDLE.what_to_do)


def put_retry(policy: Field | None, timeout_s: float | None, rest: dict[str, Plain]) -> None:
    """Put a route's retry policy."""
    if policy is None:
        return
    on: list[Plain] = []
    for key in ("httpRetryEvents", "tcpRetryEvents", "grpcRetryEvents"):
        for event in policy.each(key):
            words = _EVENTS.get(event.text())
            if words is None:
                why = f"`{event.text()}` is no event of App Mesh"
                event.dropped(why, "see whether it is spelled right", is_lost=True)
                continue
            on += [word for word in words if word not in on]
            event.kept(f"retry.on: {', '.join(words)}")
    retries = policy.need("maxRetries")
    attempts = within(retries, 0, MAX_ATTEMPTS)
    if attempts == retries.integer():
        retries.kept("retry.attempts")
    else:
        retries.changed(f"retry.attempts: {attempts}, the most there is")
    retry: dict[str, Plain] = {"attempts": attempts, "on": on}
    per_try = policy.get("perRetryTimeout")
    if per_try is not None:
        length = seconds(per_try)
        if length == 0 or (timeout_s is not None and length > timeout_s):
            per_try.dropped("it never ends an attempt: it is not shorter than the route's timeout")
        else:
            retry["per_try_timeout"] = duration(length)
            per_try.kept("retry.per_try_timeout")
    retry["methods"] = list(EVERY_METHOD)
    rest["retry"] = retry


def listener_settings(listener: Field, origin: str) -> list[Said]:
    """What a node's listener says of how it is called and of how much its app takes."""
    found: list[Said] = []
    for read in (_timeout, _pool, _outlier, _health):
        try:
            said = read(listener, origin)
        except WrongError as error:
            error.give_up(error.field)
            continue
        found += [said] if said is not None else []
    return found


def _is_stream(listener: Field) -> bool:
    """Whether it takes connections that are no HTTP's."""
    return listener.need("portMapping").need("protocol").text().lower() == "tcp"


def _of_protocol(block: Field | None, *, is_stream: bool) -> Field | None:
    """The one member of a union by protocol; those of HTTP stand for each other."""
    if block is None:
        return None
    names = ("tcp",) if is_stream else PROTOCOLS[:-1]
    return next((one for name in names if (one := block.get(name)) is not None), None)


def _timeout(listener: Field, origin: str) -> Said | None:
    is_stream = _is_stream(listener)
    block = _of_protocol(listener.get("timeout"), is_stream=is_stream)
    if block is None:
        return None
    if is_stream:
        drop_tcp_idle(block)
        return None
    per_request, idle = block.get("perRequest"), block.get("idle")
    if idle is not None:
        idle.dropped(_IDLE.how, _IDLE.what_to_do)
    if per_request is None:
        return None
    length = seconds(per_request)
    word = LONGEST if length == 0 else duration(length)
    return Said(("inbound", "timeout"), per_request, origin, word)


def _pool(listener: Field, origin: str) -> Said | None:
    is_stream = _is_stream(listener)
    block = _of_protocol(listener.get("connectionPool"), is_stream=is_stream)
    if block is None:
        return None
    said = Said(("inbound", "circuit_breaker"), block, origin, {})
    said.put("max_connections", block.get("maxConnections"), lambda found: within(found, 1, MAX_LIMIT))
    if not is_stream:
        said.put("max_pending_requests", block.get("maxPendingRequests"), lambda found: within(found, 0, MAX_LIMIT))
        said.put("max_requests", block.get("maxRequests"), lambda found: within(found, 1, MAX_LIMIT))
    assert isinstance(said.value, dict)
    # What App Mesh does not limit our own defaults would.
    said.value.setdefault("max_pending_requests", MAX_LIMIT)
    said.value.setdefault("max_requests", MAX_LIMIT)
    return said


def _outlier(listener: Field, origin: str) -> Said | None:
    block = listener.get("outlierDetection")
    if block is None:
        return None
    said = Said(("outlier_detection",), block, origin, {})
    said.put("consecutive_5xx", block.need("maxServerErrors"), lambda found: within(found, 1, MAX_LIMIT))
    said.put("interval", block.get("interval"), lambda found: duration(seconds(found)))
    said.put("base_ejection_time", block.get("baseEjectionDuration"), lambda found: duration(seconds(found)))
    said.put("max_ejection_percent", block.get("maxEjectionPercent"), lambda found: f"{within(found, 0, 100)}%")
    return said


def _health(listener: Field, origin: str) -> Said | None:
    block = listener.get("healthCheck")
    if block is None:
        return None
    protocol = block.need("protocol")
    if protocol.text().lower() == "tcp":
        hint = "by DNS without sidecars: outlier_detection takes out what refuses connections"
        block.changed("the default: each sidecar connects to its own app every 5s, and callers are told", hint)
        return None
    said = Said(("health_check",), block, origin, {})
    if protocol.text().lower() == "grpc":
        said.put("grpc", protocol, lambda _: {})
        block.drop("path", "a call of gRPC has a path of its own")
    else:
        said.put("path", block.get("path"), lambda found: checked(found, ASKED_PATH))
    port, mapped = block.get("port"), listener.get("portMapping")
    own = mapped.get("port") if mapped is not None else None
    if port is not None and own is not None and port.integer() == own.integer():
        said.note(port, Mark("kept", "the default: where the app is called"))
    else:
        said.put("port", port, lambda found: within(found, 1, 65535))
    for name, key in (("interval", "intervalMillis"), ("timeout", "timeoutMillis")):
        said.put(name, block.get(key), lambda found: duration(found.integer() / 1000))
    for name, key in (("healthy_threshold", "healthyThreshold"), ("unhealthy_threshold", "unhealthyThreshold")):
        said.put(name, block.get(key), lambda found: within(found, 1, 100))
    return said
