"""
The upstream half of an exchange, between the client half and a connection to an upstream. *Hot path.*

What the client half says goes into the request, or is held until there is a connection; what the connection says goes
to the client half, unless another try is worth more (`retries`). What was sent of a body is kept only up to the
policy's `max_body`, and only until a response begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.errors import Reason
from sidecar.message import ResponseHead
from sidecar.net.timers import NOT_ARMED
from sidecar.proxy.retries import Retries
from sidecar.upstream import retry

# What is held of a body while a connection is being made; then the client is paused.
_MAX_HELD_BYTES: Final = 64 * 1024


class Attempt(Retries):
    """An exchange's way to its upstream; see `Tries` for the arguments."""

    __slots__ = ()

    # --- the client half's side ------------------------------------------------------------------------------

    def start(
        self, body: bytes, is_complete: bool, delay_s: float = 0.0, instead: Callable[[], None] | None = None
    ) -> Reason | None:
        """
        Choose an endpoint and send, or wait for a connection.

        Args:
            body: What there is of the body already, framed for the upstream.
            is_complete: Whether that is all.
            delay_s: Wait so long first.
            instead: Called then, in place of sending.

        Returns:
            A reason if nothing could be tried; the attempt is over then.
        """
        self._is_complete = is_complete
        self._body = [body] if body else []
        self._body_bytes = len(body)
        if delay_s:
            self._timer = self._dialer.later(delay_s, instead or self._begin_late)
            return None
        reason = self._try(self._choose(None), is_fresh=False)
        if reason is not None:
            self._is_over = True
        return reason

    def send_body(self, data: bytes, is_complete: bool) -> None:
        """More of the request, framed for the upstream; empty only together with `is_complete`."""
        self._is_complete = is_complete
        if self.copy is not None:
            self.copy.add(data, is_complete)
        connection = self._connection
        body = self._body
        if body is not None and data:
            self._body_bytes += len(data)
            if connection is None or self._body_bytes <= self._policy.max_body_bytes:
                body.append(data)
            else:
                self._body = None
        if connection is not None:
            if data:
                connection.send_body(data, is_complete)
            else:
                connection.is_request_sent = is_complete
        elif self._body_bytes > _MAX_HELD_BYTES:
            self._client.on_upstream_blocked()

    def send_tunnel(self, data: bytes) -> None:
        """Bytes of the tunnel for the upstream."""
        if self._connection is not None:
            self._connection.write(data)
        else:
            self.send_body(data, False)

    def send_tunnel_eof(self) -> None:
        """The client sends no more."""
        if self._connection is not None:
            self._connection.end_writing()

    def pause(self) -> None:
        """The client does not read."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client reads again."""
        if self._connection is not None:
            self._connection.resume()

    def cancel(self, reason: Reason | None = None) -> None:
        """The exchange is over for the client half, for this reason; a connection that is in use is closed."""
        if self._is_over:
            return
        if not self._has_response:
            self._report(0, reason)
        self._leave()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ticket is not None:
            self._ticket.cancel()
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def finish(self) -> None:
        """Both ends of the tunnel have ended: what was said last is still delivered."""
        if self._connection is not None:
            self._leave()
            self._connection.finish()
            self._connection = None

    # --- the response ----------------------------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        """Passed on."""
        self._client.on_informational(head)

    def on_response(self, head: ResponseHead, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Passed on, unless another try is worth more; at its end the connection is no longer ours."""
        endpoint = self._endpoint
        assert endpoint is not None
        if endpoint.cluster.observer is not None:
            self._report(head.status, None)
        statuses = self._policy.statuses
        if statuses and head.status in statuses and self._is_retried(head, is_end):
            return
        self._has_response = True
        self._body = None
        if self._retries:
            if head.status < 500:
                endpoint.cluster.stats.retries_successful += 1
            else:
                endpoint.cluster.stats.retries_exhausted += 1
        if is_end:
            self._connection = None
            self._leave()
        elif self.bucket != NOT_ARMED and not self.is_bounded_whole:
            self._disarm()
        self._client.on_response(head, payload, is_end, trailers)

    def on_payload(self, payload: bytes, is_end: bool, trailers: list[bytes]) -> None:
        """Passed on; at its end the connection is no longer ours."""
        if is_end:
            self._connection = None
            self._leave()
        self._client.on_payload(payload, is_end, trailers)

    def on_lent(self, payload: memoryview, is_end: bool) -> None:
        """Passed on; at its end the connection is no longer ours."""
        if is_end:
            self._connection = None
            self._leave()
        self._client.on_lent(payload, is_end)

    def on_switched(self, head: ResponseHead, rest: bytes) -> None:
        """Passed on."""
        self._has_response = True
        self._body = None
        self._report(200, None)
        self._is_tunnel = True
        self._policy = retry.NO_POLICY  # a tunnel that breaks is no occasion for anything
        self._disarm()
        self._client.on_switched(head, rest)

    def on_tunnel_data(self, data: bytes) -> None:
        """Passed on."""
        self._client.on_tunnel_data(data)

    def on_tunnel_eof(self) -> bool:
        """Passed on."""
        return self._client.on_tunnel_eof()

    def on_upstream_blocked(self) -> None:
        """Passed on."""
        self._client.on_upstream_blocked()

    def on_upstream_writable(self) -> None:
        """Passed on."""
        self._client.on_upstream_writable()
