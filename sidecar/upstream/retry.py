"""
Whether a request is sent again, when, and if not, why not. *Pure; called only when an attempt has failed.*

Two occasions are retried without being asked for: no connection could be made, so nothing can have been processed; and
a *reused* connection died before any byte of a response (the keep-alive race) under a request that may be sent twice. A
`RetryPolicy` adds occasions. It never adds methods by itself: a request of which a byte may have been processed is sent
again only if its method is idempotent (RFC 9110, 9.2.2: "a proxy MUST NOT automatically retry non-idempotent
requests"), if the client vouches for it with `Idempotency-Key`, or if the file names the method.

Whenever a policy names the occasion and the retry is not made, there is a reason, from a closed list, for the log line,
the span and the metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from random import random as system_random
from typing import Final, Literal, get_args

from sidecar import errors
from sidecar.errors import Phase, Reason, Source
from sidecar.message import RequestHead
from sidecar.upstream.endpoint import ClusterState

Condition = Literal[
    "connect_failure",
    "reset_before_response",
    "refused",
    "gateway_error",
    "5xx",
    "retriable_4xx",
    "timeout",
    "grpc_cancelled",
    "grpc_deadline_exceeded",
    "grpc_internal",
    "grpc_resource_exhausted",
    "grpc_unavailable",
]
CONDITIONS: Final[frozenset[str]] = frozenset(get_args(Condition))

SkipReason = Literal[
    "body_too_large",
    "not_idempotent",
    "budget",
    "deadline",
    "response_started",
    "attempts_used",
    "max_retries",
    "no_endpoint",
    "overloaded",
]
SKIP_REASONS: Final[tuple[SkipReason, ...]] = get_args(SkipReason)

IDEMPOTENT_METHODS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""The safe methods and the idempotent ones (RFC 9110, 9.2.1 and 9.2.2)."""

KEYED_METHODS: Final = frozenset((b"POST", b"PATCH"))
"""Methods that `Idempotency-Key` makes repeatable (draft-ietf-httpapi-idempotency-key-header, 2)."""

MAX_RETRY_AFTER_S: Final = 10.0
"""An upstream that asks for more patience is not waited for: the client is told instead and can decide."""

STATUSES_OF: Final[dict[str, frozenset[int]]] = {
    "gateway_error": frozenset((502, 503, 504)),
    "5xx": frozenset(range(500, 600)),
    "retriable_4xx": frozenset((409,)),  # As in Envoy and App Mesh.
    # The server says that it did not process the request: 408 (RFC 9110, 15.5.9) and 421 (15.5.20). By HTTP/2 it says
    # so without a status: REFUSED_STREAM, or GOAWAY with a lower stream (RFC 9113, 8.7).
    "refused": frozenset((408, 421)),
}

GRPC_STATUS_OF: Final[dict[str, int]] = {
    "grpc_cancelled": 1,
    "grpc_deadline_exceeded": 4,
    "grpc_resource_exhausted": 8,
    "grpc_internal": 13,
    "grpc_unavailable": 14,
}
"""Of an answer that is no more than a gRPC error (doc/statuscodes.md); the words are Envoy's, but for the `_`."""

# Conditions that take no answer for an answer of their kind: what the client would get is a 502, 503 or 504 of ours.
# In Envoy's `RetryStateImpl::wouldRetryFromReset` the two are one branch, for every reset that is not its own overflow:
# a connect that failed, a connection that closed, a try that timed out, an answer that is no HTTP.
_ANY_FAILURE: Final[frozenset[Condition]] = frozenset(("5xx", "gateway_error"))
_UNCONNECTED: Final[frozenset[Condition]] = _ANY_FAILURE | frozenset(("connect_failure",))
_BREAKS: Final[frozenset[Condition]] = _ANY_FAILURE | frozenset(("reset_before_response",))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    What a route retries.

    Attributes:
        attempts: Retries after the first attempt, at most, those of the two occasions above included (Istio's and the
            Gateway API's key of this name counts the same). 0 turns every retry off.
        on: Occasions that are retried, by name.
        on_statuses: Statuses of responses that are retried besides.
        grpc_statuses: Statuses of gRPC (`grpc.NAMES`), said in the head of a response without a body, that are retried;
            with those that `on` names. Calls are POST, and the file vouches for them by naming the status: the method
            is not asked.
        per_try_timeout_s: Seconds from an attempt's begin to its response's head, also of the first; inf for none.
        backoff_base_s: Upper bound of the wait before the first retry; doubles with each.
        backoff_max_s: Upper bound of the waits.
        methods: Methods whose requests may be sent twice.
        max_body_bytes: Bytes of a request body that are kept for sending it again.
        statuses: All statuses that `on` and `on_statuses` name.
    """

    attempts: int = 1
    on: frozenset[Condition] = frozenset()
    on_statuses: frozenset[int] = frozenset()
    per_try_timeout_s: float = inf
    backoff_base_s: float = 0.025
    backoff_max_s: float = 0.25
    methods: frozenset[bytes] = IDEMPOTENT_METHODS
    max_body_bytes: int = 64 * 1024
    grpc_statuses: frozenset[int] = frozenset()
    statuses: frozenset[int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.attempts < 0 or self.max_body_bytes < 0:
            raise ValueError("expected attempts and max_body of at least 0")
        unknown = self.on - CONDITIONS
        if unknown:
            raise ValueError(f"expected conditions among {sorted(CONDITIONS)}, found {sorted(unknown)}")
        if not self.per_try_timeout_s > 0:
            raise ValueError(f"expected a per-try timeout above 0, found {self.per_try_timeout_s}")
        if not 0 <= self.backoff_base_s <= self.backoff_max_s < inf:
            raise ValueError("expected a backoff base of at least 0 and at most the backoff's maximum")
        wrong = [status for status in self.on_statuses if not 400 <= status <= 599]
        if wrong:
            raise ValueError(f"expected statuses from 400 to 599, found {wrong}")
        statuses = self.on_statuses.union(*(STATUSES_OF.get(condition, frozenset()) for condition in self.on))
        object.__setattr__(self, "statuses", statuses)
        of_grpc = [GRPC_STATUS_OF[condition] for condition in self.on if condition in GRPC_STATUS_OF]
        object.__setattr__(self, "grpc_statuses", self.grpc_statuses | frozenset(of_grpc))

    def can_repeat(self, head: RequestHead) -> bool:
        """Whether a request may be sent twice though the first may have been processed."""
        method = head.method
        if method in self.methods:
            return True
        return method in KEYED_METHODS and bool(head.first(b"idempotency-key"))

    def names(self, failure: Reason) -> bool:
        """Whether this failure of an attempt that got no answer is an occasion that the policy names."""
        on = self.on
        if failure.phase is Phase.RESOLVE:
            # No connection could be made, whoever is to blame for it; only a refusal of our own is no occasion.
            return failure.retryable and not _UNCONNECTED.isdisjoint(on)
        if failure.source is not Source.UPSTREAM or failure.phase is Phase.RESPONSE_BODY:
            return False
        if not _ANY_FAILURE.isdisjoint(on):
            return True
        if failure.phase is Phase.CONNECT or failure.phase is Phase.TLS:
            return "connect_failure" in on
        if failure.flag == "UT":
            return "timeout" in on
        if failure is errors.STREAM_REFUSED and "refused" in on:
            return True
        return failure.retryable and "reset_before_response" in on


NO_POLICY: Final = RetryPolicy(max_body_bytes=0)
"""Of a route without `retry`: one retry, only on the two occasions on which it is safe."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Send the request again after `delay_s` seconds. Budget and breaker are charged: `decide` says what is due."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Skip:
    """The policy names the occasion, and yet the request is not sent again; the reason is counted already."""

    reason: SkipReason


def decide(
    policy: RetryPolicy,
    cluster: ClusterState,
    head: RequestHead,
    *,
    failure: Reason | None,
    status: int = 0,
    grpc_status: int = -1,
    retries: int,
    is_unsent: bool = False,
    is_stale: bool = False,
    is_kept: bool,
    has_started: bool = False,
    retry_after_s: float = 0.0,
    now: float,
    deadline: float = inf,
    random: Callable[[], float] = system_random,
) -> Retry | Skip | None:
    """
    Decide what follows an attempt that failed or whose response has a status that the policy names.

    On `Retry` the budget has been charged and, if the cluster has a breaker, `breaker.enter_retry()` was called: call
    `leave_retry()` of that breaker when the retry is over or will not be made. If no endpoint is found for it then, or
    the breaker lets no further request in, call `skipped` with `no_endpoint` or `overloaded`.

    Args:
        policy: Of the route; `NO_POLICY` if it has none.
        cluster: Which was tried: its budget, breaker and counters.
        head: The request.
        failure: Why there is no response, or None if there is one.
        status: Of the response; of no account if `failure` is given.
        grpc_status: That its head says, without a body, in answer to gRPC; else -1.
        retries: Retries made for this request so far.
        is_unsent: Not one byte was sent: no connection could be made.
        is_stale: The connection had served before and died before any byte of a response.
        is_kept: What was sent of the request's body is kept whole, or it has none.
        has_started: Some of a final response was handed to the client.
        retry_after_s: What the response asks for, by `parse_retry_after`.
        now: Seconds of loop time.
        deadline: Loop time at which the whole exchange times out.
        random: From 0 to 1, for the jitter.

    Returns:
        A retry, the reason why not, or None if nothing says that this should be retried.
    """
    stats = cluster.stats
    if policy.attempts == 0:
        return None
    is_transparent = is_unsent or is_stale
    is_vouched = grpc_status >= 0 and grpc_status in policy.grpc_statuses
    if has_started:
        # It cannot be taken back; that is said where the policy names connections that break.
        is_named = failure is not None and failure.source is Source.UPSTREAM and not _BREAKS.isdisjoint(policy.on)
    else:
        is_named = is_vouched or (status in policy.statuses if failure is None else policy.names(failure))
    if not is_named and not (is_transparent and failure is not None and failure.retryable):
        return None
    reason = _objection(policy, head, retries, is_unsent or is_vouched, is_kept, has_started)
    delay_s = 0.0
    if reason is None:
        # At once the first time, if nothing is known against the upstream but one connection or address.
        if not is_transparent or retries:
            # Full jitter ("Exponential Backoff and Jitter", AWS 2015); base and maximum are Envoy's.
            delay_s = random() * min(policy.backoff_max_s, policy.backoff_base_s * 2.0 ** min(retries, 30))
        delay_s = max(delay_s, retry_after_s)
        if now + delay_s >= deadline or retry_after_s > MAX_RETRY_AFTER_S:
            reason = "deadline"
        else:
            reason = _charge(cluster, now, is_forced=is_transparent and not retries)
    if reason is None:
        stats.retries += 1
        return Retry(delay_s)
    if not is_named and reason in ("attempts_used", "not_idempotent", "body_too_large"):
        return None  # Nobody asked for it.
    skipped(cluster, reason)
    return Skip(reason)


def _objection(
    policy: RetryPolicy, head: RequestHead, retries: int, may_repeat: bool, is_kept: bool, has_started: bool
) -> SkipReason | None:
    if has_started:
        return "response_started"
    if retries >= policy.attempts:
        return "attempts_used"
    if not may_repeat and not policy.can_repeat(head):
        return "not_idempotent"
    if not is_kept:
        return "body_too_large"
    return None


def _charge(cluster: ClusterState, now: float, *, is_forced: bool) -> SkipReason | None:
    breaker = cluster.breaker
    if breaker is not None and not breaker.enter_retry():
        return "max_retries"
    budget = cluster.budget
    # The two safe occasions are charged, but never refused, whether a policy names them or not: one retry of each
    # request bounds them.
    if budget is not None and not budget.take(now, cluster.stats.requests - cluster.stats.retries, is_forced):
        if breaker is not None:
            breaker.leave_retry()
        return "budget"
    return None


def skipped(cluster: ClusterState, reason: SkipReason) -> None:
    """Count a retry that was not made."""
    name = f"retry_skipped_{reason}"
    setattr(cluster.stats, name, getattr(cluster.stats, name) + 1)


def parse_retry_after(value: bytes, wall_s: float) -> float:
    """
    Seconds that a response asks to wait (RFC 9110, 10.2.3), 0 if the value is neither a number nor a date.

    Args:
        value: Of the field `Retry-After`.
        wall_s: Now, in seconds since the Unix epoch.
    """
    if value.isdigit() and len(value) < 10:
        return float(value)
    try:
        when = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)  # "-0000" in a date; HTTP's are GMT.
    return max(0.0, (when - datetime.fromtimestamp(wall_s, UTC)).total_seconds())
