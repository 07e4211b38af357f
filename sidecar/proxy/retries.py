"""
What follows a try that came to nothing, or to a response that the policy would rather not have. *Cold: after failures.*

Whether there is another try is decided by `upstream.retry`, which has the rules; here it is made: its wait, its span,
its record in the case file.
"""

from __future__ import annotations

from typing import cast

from sidecar import clock, errors
from sidecar.errors import Reason
from sidecar.exchange import Try
from sidecar.message import ResponseHead
from sidecar.proxy.tries import Tries
from sidecar.telemetry.traces.tracecontext import new_span_id
from sidecar.upstream import retry
from sidecar.upstream.endpoint import ClusterState, Endpoint


class Retries(Tries):
    """Tries, one after another; see `Tries` for the arguments."""

    __slots__ = ()

    def _on_try_failed(self, reason: Reason, detail: str, *, is_unsent: bool, is_stale: bool) -> None:
        endpoint = self._endpoint
        assert endpoint is not None
        cluster = endpoint.cluster
        if not (self._has_response and self._is_tunnel):
            self._report(0, reason)
        self._exit()
        other: Endpoint | None = None
        if is_unsent and not self._policy.names(reason):
            # Nobody asked for it, so it must be worth it: at another endpoint, or not at all.
            other = self._choose(endpoint)
            if other is endpoint or other is None:
                self._fail(cluster, reason, detail)
                return
        outcome = retry.decide(
            self._policy,
            cluster,
            self._head,
            failure=reason,
            retries=self._retries,
            is_unsent=is_unsent,
            is_stale=is_stale,
            is_kept=self._body is not None,
            has_started=self._has_response,
            now=self._dialer.timers.time(),
            deadline=self._expires_at,
        )
        if isinstance(outcome, retry.Retry):
            self._retry(outcome.delay_s, endpoint, other, reason, detail, 0, is_fresh=is_stale)
            return
        if outcome is not None:
            self._exchange.retry_skipped = outcome.reason
        self._fail(cluster, reason, detail)

    def _fail(self, cluster: ClusterState, reason: Reason, detail: str) -> None:
        if self._retries and not self._has_response:
            cluster.stats.retries_exhausted += 1
        self._is_over = True
        self._client.on_failed(reason, detail)

    def _is_retried(self, head: ResponseHead, is_end: bool) -> bool:
        """Whether this response is one to discard, for another try."""
        endpoint = self._endpoint
        assert endpoint is not None
        asked = next((field.value for field in head.fields if field.name == b"retry-after"), b"")
        outcome = retry.decide(
            self._policy,
            endpoint.cluster,
            self._head,
            failure=None,
            status=head.status,
            retries=self._retries,
            is_kept=self._body is not None,
            retry_after_s=retry.parse_retry_after(asked, clock.wall_ns(clock.monotonic_ns()) / 1e9) if asked else 0.0,
            now=self._dialer.timers.time(),
            deadline=self._expires_at,
        )
        if not isinstance(outcome, retry.Retry):
            if outcome is not None:
                self._exchange.retry_skipped = outcome.reason
            return False
        connection, self._connection = self._connection, None
        if connection is not None and not is_end:
            connection.abort()
        self._exit()
        self._retry(outcome.delay_s, endpoint, None, None, "", head.status, is_fresh=False)
        return True

    def _retry(
        self,
        delay_s: float,
        failed: Endpoint,
        other: Endpoint | None,
        reason: Reason | None,
        detail: str,
        status: int,
        *,
        is_fresh: bool,
    ) -> None:
        exchange = self._exchange
        self._retries += 1
        self._retry_breaker = failed.cluster.breaker
        if exchange.tries is None:
            exchange.tries = []
        exchange.tries.append(
            Try(failed, exchange.sent_ns or self._began_ns, clock.monotonic_ns(), status, reason, exchange.span_id)
        )
        exchange.sent_ns = 0
        if exchange.sampled and exchange.span_id:
            # Each try is a span of its own, and the upstream is told which: the id stands in the head as it is sent.
            old, exchange.span_id = exchange.span_id, new_span_id()
            self._request = self._request.replace(old, exchange.span_id)

        def again() -> None:
            self._timer = None
            self._began_ns = clock.monotonic_ns()
            self._go_on(self._try(other or self._choose(failed), is_fresh=is_fresh), (reason, detail))

        if delay_s:
            self._timer = self._dialer.later(delay_s, again)
        else:
            again()

    def _go_on(self, refused: Reason | None, before: tuple[Reason | None, str] | None) -> None:
        """After a try was made outside of `start`: tell the client half if it could not be."""
        if refused is None:
            return
        if before is not None:
            self._skip(refused)
        if self._retry_breaker is not None:
            self._retry_breaker.leave_retry()
            self._retry_breaker = None
        self._is_over = True
        reason, detail = before if before is not None and before[0] is not None else (refused, "")
        self._client.on_failed(reason or refused, detail)

    def _skip(self, refused: Reason) -> None:
        """A retry that was decided on cannot be made."""
        why: retry.SkipReason = "no_endpoint" if refused is errors.NO_ENDPOINT else "overloaded"
        self._exchange.retry_skipped = why
        tries = self._exchange.tries
        if tries and tries[-1].endpoint is not None:
            cluster = cast("Endpoint", tries[-1].endpoint).cluster
            retry.skipped(cluster, why)
            cluster.stats.retries_exhausted += 1
