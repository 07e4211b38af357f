"""
The retries of one request: whether there is another attempt, and what is told of it. *Cold: after failures.*

Whether there is another is decided by `upstream.retry`, which has the rules; here that is asked, and the record kept:
its span, its row in the case file, its place in the circuit breaker. A request that is answered at once has none.
"""

from __future__ import annotations

from typing import cast

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange, Try
from sidecar.message import ResponseHead
from sidecar.proxy.exchange.request import UpstreamRequest
from sidecar.telemetry.traces.tracecontext import new_span_id
from sidecar.upstream import retry
from sidecar.upstream.endpoint import ClusterState, Endpoint
from sidecar.upstream.limits.breaker import Breaker


class Retries:
    """
    Args:
        policy: What is retried.
        exchange: The record.
        request: What would be sent again; its span id is renewed.

    Attributes:
        count: Retries so far.
    """

    __slots__ = ("_breaker", "_exchange", "_policy", "_request", "count")

    def __init__(self, policy: retry.RetryPolicy, exchange: Exchange, request: UpstreamRequest) -> None:
        self._policy = policy
        self._exchange = exchange
        self._request = request
        self._breaker: Breaker | None = None
        self.count = 0

    def after_failure(
        self,
        cluster: ClusterState,
        failure: Reason,
        now: float,
        deadline: float,
        *,
        is_unsent: bool,
        is_stale: bool,
        has_started: bool,
    ) -> float | None:
        """Seconds to wait before another attempt, or None if this failure is the end."""
        return self._settle(
            retry.decide(
                self._policy,
                cluster,
                self._request.head,
                failure=failure,
                retries=self.count,
                is_unsent=is_unsent,
                is_stale=is_stale,
                is_kept=self._request.body is not None,
                has_started=has_started,
                now=now,
                deadline=deadline,
            )
        )

    def after_response(
        self, cluster: ClusterState, head: ResponseHead, grpc_status: int, now: float, deadline: float
    ) -> float | None:
        """Seconds to wait before another attempt in place of this response, or None if it is the answer."""
        asked = next((field.value for field in head.fields if field.name == b"retry-after"), b"")
        return self._settle(
            retry.decide(
                self._policy,
                cluster,
                self._request.head,
                failure=None,
                status=head.status,
                grpc_status=grpc_status,
                retries=self.count,
                is_kept=self._request.body is not None,
                retry_after_s=retry.parse_retry_after(asked, clock.wall_ns(clock.monotonic_ns()) / 1e9)
                if asked
                else 0.0,
                now=now,
                deadline=deadline,
            )
        )

    def _settle(self, outcome: retry.Retry | retry.Skip | None) -> float | None:
        if isinstance(outcome, retry.Retry):
            return outcome.delay_s
        if outcome is not None:
            self._exchange.retry_skipped = outcome.reason
        return None

    def begin(self, failed: Endpoint, began_ns: int, status: int, reason: Reason | None, grpc_status: int) -> None:
        """There is another attempt: put the one that came to nothing down in the case file."""
        exchange = self._exchange
        self.count += 1
        self._breaker = failed.cluster.breaker
        if exchange.tries is None:
            exchange.tries = []
        sent_ns, now_ns = exchange.sent_ns or began_ns, clock.monotonic_ns()
        exchange.tries.append(Try(failed, sent_ns, now_ns, status, reason, exchange.span_id, grpc_status))
        exchange.sent_ns = exchange.awaited_ns = 0
        if exchange.sampled and exchange.span_id:
            # Each attempt is a span of its own, and the upstream is told which: its id stands in the head as sent.
            old, exchange.span_id = exchange.span_id, new_span_id()
            self._request.added = self._request.added.replace(old, exchange.span_id)

    def on_answered(self, cluster: ClusterState, status: int) -> None:
        """The answer is passed on: was it worth them?"""
        if self.count and status < 500:
            cluster.stats.retries_successful += 1
        elif self.count:
            cluster.stats.retries_exhausted += 1

    def end(self) -> None:
        """The retry under way, if there is one, is over."""
        if self._breaker is not None:
            self._breaker.leave_retry()
            self._breaker = None

    def refuse(self, refused: Reason) -> None:
        """A retry that was decided on cannot be made."""
        why: retry.SkipReason = "no_endpoint" if refused is errors.NO_ENDPOINT else "overloaded"
        self._exchange.retry_skipped = why
        tries = self._exchange.tries
        if tries and tries[-1].endpoint is not None:
            cluster = cast("Endpoint", tries[-1].endpoint).cluster
            retry.skipped(cluster, why)
            cluster.stats.retries_exhausted += 1
