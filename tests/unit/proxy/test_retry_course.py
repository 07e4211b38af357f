"""The course of retries: waits, deadlines, departures, and what is recorded of each try."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from sidecar import errors
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.retry import RetryPolicy
from tests.unit.proxy.retrying import (
    AT_ONCE,
    GET,
    OK,
    TWO,
    A,
    B,
    Make,
    answer,
    requests_seen,
    status_of,
)


class TestTime:
    """Back-off, `Retry-After`, `per_try_timeout`, and the deadline of the whole."""

    def test_the_first_retry_of_an_answer_waits_at_most_the_base_and_more_than_nothing(self, make_world: Make) -> None:
        """Full jitter: anywhere up to the bound."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=8.0))
        client = world.client()
        client.get()
        _ = world.accept(A) >> answer(503)
        assert not world.dials.under_way
        world.advance(1.0)
        assert world.dialed == [B]
        _ = world.accept() >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    def test_the_bound_doubles_and_ends_at_the_maximum(self, make_world: Make) -> None:
        """What chance makes of 1, 2, 3, 3 seconds, never a moment sooner."""
        policy = RetryPolicy(4, on_statuses=frozenset((500,)), backoff_base_s=1.0, backoff_max_s=3.0)
        world = make_world(retry=policy)
        client = world.client()
        client.get()
        server = world.accept()
        server.take()
        random.seed(1)
        chance = random.Random(1)
        for bound_s in (1.0, 2.0, 3.0, 3.0):
            wait_s = bound_s * chance.random()
            _ = server >> answer(500)
            world.advance(wait_s - 0.01)
            assert server.take() == b""
            world.advance(0.02)
            assert server.take() == GET
        _ = server >> answer(500)
        assert status_of(client) == 500
        exchange = world.recorded[-1]
        assert (exchange.attempts, exchange.retry_skipped) == (5, "attempts_used")
        assert world.cluster.stats.retry_skipped_attempts_used == 1
        world.assert_at_rest()

    def test_retry_after_is_waited_for(self, make_world: Make) -> None:
        """The upstream's word bounds the wait from below."""
        world = make_world(retry=AT_ONCE)
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> answer(503, "Retry-After: 2")
        server.take()
        world.advance(1.99)
        assert server.take() == b""
        world.advance(0.02)
        assert server.take() == GET
        _ = server >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    @pytest.mark.parametrize(
        ("timeout_s", "asked"), [(2.0, "2"), (None, "3600"), (None, "Fri, 31 Dec 2100 23:59:59 GMT")]
    )
    def test_a_retry_after_that_is_too_long_is_passed_on(
        self, make_world: Make, timeout_s: float | None, asked: str
    ) -> None:
        """`deadline`: the client gets the answer at once, with the field, and decides for itself."""
        world = make_world(retry=AT_ONCE, timeout_s=timeout_s)
        client = world.client()
        client.get()
        _ = world.accept() >> answer(503, f"Retry-After: {asked}")
        response = client.responses()[-1]
        assert (response.status, response.headers[b"retry-after"]) == (503, asked.encode())
        assert world.recorded[-1].retry_skipped == "deadline"
        assert world.cluster.stats.retry_skipped_deadline == 1
        world.assert_at_rest()

    def test_no_retry_is_begun_behind_the_deadline(self, make_world: Make) -> None:
        """A back-off that would end behind it is not begun."""
        world = make_world(retry=replace(AT_ONCE, backoff_base_s=1e6, backoff_max_s=1e6), timeout_s=0.5)
        client = world.client()
        client.get()
        _ = world.accept() >> answer(503)
        assert status_of(client) == 503
        assert world.recorded[-1].retry_skipped == "deadline"
        world.assert_at_rest()

    def test_the_deadline_of_the_whole_ends_a_back_off(self, make_world: Make) -> None:
        """The route's timeout counts from the request's begin, over all tries."""
        world = make_world(retry=AT_ONCE, timeout_s=3.0)
        client = world.client()
        client.get()
        server = world.accept()
        world.advance(1.5)
        _ = server >> answer(503, "Retry-After: 1")
        world.advance(1.2)
        assert len(requests_seen(world)) == 2
        world.advance(0.5)
        exchange = world.recorded[-1]
        assert (exchange.status, exchange.reason) == (504, errors.RESPONSE_TIMEOUT)
        assert exchange.attempts == 2
        assert not server.is_open
        world.assert_at_rest()

    def test_a_try_that_takes_too_long_is_given_up_for_another_endpoint(self, make_world: Make) -> None:
        """Neither early nor more than two ticks late."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, per_try_timeout_s=1.0))
        client = world.client()
        client.get()
        first = world.accept(A)
        world.advance(0.99)
        assert not world.dials.under_way
        world.advance(0.11)
        assert world.dialed == [B]
        assert first.transport.ended == "abort"
        _ = world.accept() >> OK
        _ = client << OK
        exchange = world.recorded[-1]
        assert [given_up.reason for given_up in exchange.tries or ()] == [errors.TRY_TIMEOUT]
        world.assert_at_rest()

    def test_it_bounds_the_only_try_too(self, make_world: Make) -> None:
        """504 `UT`, though nothing is retried."""
        world = make_world(retry=RetryPolicy(on=frozenset(("5xx",)), per_try_timeout_s=1.0, methods=frozenset()))
        client = world.client()
        client.get()
        world.accept()
        world.advance(1.2)
        assert world.outcome() == (504, "try_timeout")
        response = client.responses()[-1]
        assert response.headers[b"proxy-status"] == b'sidecar; error=http_response_timeout; details="try_timeout"'
        assert b'"flag": "UT"' in response.body
        assert world.recorded[-1].retry_skipped == "not_idempotent"
        world.assert_at_rest()

    def test_it_counts_for_each_try_and_not_for_the_body_of_a_response(self, make_world: Make) -> None:
        """A response that has begun has all the time that the route gives it."""
        world = make_world(retry=replace(AT_ONCE, per_try_timeout_s=1.0))
        client = world.client()
        client.get()
        server = world.accept()
        world.advance(0.8)
        _ = server >> answer(503)
        world.advance(0.8)
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"
        world.advance(30)
        _ = server >> b"k"
        assert status_of(client) == 200
        world.assert_at_rest()

    def test_a_tunnel_is_not_bounded_by_it(self, make_world: Make) -> None:
        """From the switch on."""
        world = make_world(retry=replace(AT_ONCE, per_try_timeout_s=1.0))
        client = world.client()
        _ = client >> b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        server = world.accept()
        _ = server >> b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        world.advance(60)
        _ = server >> b"hello"
        assert client.received.endswith(b"hello")
        server.eof()
        client.eof()
        world.assert_at_rest()


class TestWhoLeaves:
    """The client, at every point between two tries."""

    @pytest.mark.parametrize("is_reset", [False, True])
    def test_during_a_back_off(self, make_world: Make, is_reset: bool) -> None:
        """No try follows, and nothing is left behind."""
        policy = replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0)
        world = make_world(endpoints=TWO, retry=policy, breaker=BreakerSpec())
        client = world.client()
        client.get()
        world.accept().reset()
        client.reset() if is_reset else client.leave()
        timers = len(world.loop.timed)
        world.advance(2.0)
        assert not world.dials.under_way
        assert world.outcome() == (499, "client_left")
        assert timers == 1, "the back-off's timer is cancelled; the sweep's is left"
        world.assert_at_rest()

    def test_while_the_second_try_waits_for_its_connection(self, make_world: Make) -> None:
        """The dial goes on for others."""
        world = make_world(endpoints=TWO, retry=AT_ONCE, breaker=BreakerSpec())
        client = world.client()
        client.get()
        world.refuse()
        client.leave()
        server = world.accept(B)
        assert server.received == b""
        world.assert_at_rest()

    def test_while_the_second_try_is_under_way(self, make_world: Make) -> None:
        """Its connection is cut."""
        world = make_world(endpoints=TWO, retry=AT_ONCE, breaker=BreakerSpec())
        client = world.client()
        client.get()
        world.accept().reset()
        server = world.accept(B)
        client.leave()
        assert server.transport.ended == "abort"
        assert world.outcome() == (499, "client_left")
        world.assert_at_rest()

    def test_a_client_that_only_ended_its_side_still_gets_the_answer_of_the_second_try(self, make_world: Make) -> None:
        """A half-close is no leaving (RFC 9112, 9.6)."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0))
        client = world.client()
        client.get()
        client.eof()
        world.accept().reset()
        world.advance(1.0)
        _ = world.accept() >> OK
        assert status_of(client) == 200
        world.advance(0.3)
        world.assert_at_rest()

    def test_drain_lets_a_back_off_come_to_its_end(self, make_world: Make) -> None:
        """An exchange that is running is finished; then the connection is closed."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0))
        client = world.client()
        client.get()
        world.accept().reset()
        client.connection.drain()
        world.advance(1.0)
        _ = world.accept() >> OK
        response = client.responses()[-1]
        assert (response.status, response.headers[b"connection"]) == (200, b"close")
        world.assert_at_rest()

    def test_the_end_of_a_drain_ends_a_back_off(self, make_world: Make) -> None:
        """Recorded as ended by the shutdown."""
        policy = replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0)
        world = make_world(endpoints=TWO, retry=policy, breaker=BreakerSpec())
        client = world.client()
        client.get()
        world.accept().reset()
        client.connection.abort()
        world.advance(2.0)
        assert world.outcome() == (503, "draining")
        assert not world.dials.under_way
        world.assert_at_rest()


class TestRecord:
    """What is said of the tries."""

    def test_each_try_has_a_span_of_its_own_and_the_upstream_is_told_which(self, make_world: Make) -> None:
        """The trace is the same."""
        world = make_world(endpoints=TWO, retry=AT_ONCE)
        world.telemetry.exports = True
        client = world.client()
        client.get()
        world.accept(A).reset()
        _ = world.accept(B) >> answer(503)
        _ = world.accept(A) >> OK
        exchange = world.recorded[-1]
        told = [
            re.findall(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\r\n", server.received)[-1]
            for server in world.servers
        ]
        tries = exchange.tries or []
        assert [trace for trace, _ in told] == [exchange.trace_id] * 3
        assert [span for _, span in told] == [*(given_up.span_id for given_up in tries), exchange.span_id]
        assert len({span for _, span in told}) == 3
        assert [(given_up.status, given_up.reason) for given_up in tries] == [(0, errors.UPSTREAM_RESET), (503, None)]
        assert all(given_up.sent_ns <= given_up.end_ns for given_up in tries)
        assert tries[0].end_ns <= tries[1].sent_ns
        world.assert_at_rest()

    def test_a_try_that_sent_nothing_begins_where_the_one_before_it_ended(self, make_world: Make) -> None:
        """Or spans would lie over each other."""
        world = make_world(endpoints=TWO, retry=AT_ONCE)
        client = world.client()
        client.get()
        world.refuse()
        world.refuse()
        _ = world.accept() >> OK
        first, second = world.recorded[-1].tries or []
        assert world.recorded[-1].start_ns <= first.sent_ns < first.end_ns < second.sent_ns < second.end_ns

    def test_stats(self, make_world: Make) -> None:
        """One of each: saved, exhausted, not made."""
        world = make_world(retry=replace(AT_ONCE, attempts=1))
        client = world.client()
        stats = world.cluster.stats
        client.get()
        server = world.accept()
        _ = server >> answer(503)
        _ = server >> OK
        assert (stats.retries, stats.retries_successful, stats.retries_exhausted) == (1, 1, 0)
        client.get()
        _ = server >> answer(503)
        _ = server >> answer(503)
        assert (stats.retries, stats.retries_successful, stats.retries_exhausted) == (2, 1, 1)
        assert stats.retry_skipped_attempts_used == 1
        _ = client >> b"PATCH / HTTP/1.1\r\nHost: web\r\n\r\n"
        _ = server >> answer(503)
        assert (stats.retries, stats.retries_exhausted, stats.retry_skipped_not_idempotent) == (2, 1, 1)
        assert stats.requests == 5
        world.assert_at_rest()

    def test_a_response_that_is_cut_after_a_retry_counts_once(self, make_world: Make) -> None:
        """The retry brought a response: what happened to it later is no failure of the retry."""
        world = make_world(retry=AT_ONCE)
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> answer(503)
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"
        server.reset()
        stats = world.cluster.stats
        assert (stats.retries, stats.retries_successful, stats.retries_exhausted) == (1, 1, 0)
        world.assert_at_rest()

    def test_the_reply_of_the_last_try_says_how_many_there_were(self, make_world: Make) -> None:
        """With the endpoint of the last."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, attempts=1))
        client = world.client()
        client.get()
        world.refuse()
        world.refuse()
        body = client.responses()[-1].body
        assert b'"attempt": 2' in body
        assert B.encode() in body
        world.assert_at_rest()
