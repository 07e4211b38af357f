"""What is sent again, and where: whole conversations on a held clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar import clock, errors
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.limits.retry_budget import RetryBudgetSpec
from sidecar.upstream.retry import IDEMPOTENT_METHODS, NO_POLICY, Condition, RetryPolicy
from tests.support.fakes import World
from tests.unit.proxy.retrying import (
    AT_ONCE,
    GET,
    OK,
    POST,
    TWO,
    A,
    B,
    Make,
    answer,
    busy,
    fail,
    requests_seen,
    status_of,
    warm_both,
)


class TestOccasions:
    """What is retried."""

    @pytest.mark.parametrize(
        ("on", "statuses"),
        [
            ("gateway_error", {502, 503, 504}),
            ("5xx", {500, 501, 502, 503, 504, 599}),
            ("retriable_4xx", {409}),
            ("refused", {408, 421}),
            ("reset_before_response", set()),
            ("connect_failure", set()),
            ("timeout", set()),
        ],
    )
    @pytest.mark.parametrize("status", [200, 400, 404, 408, 409, 421, 429, 500, 501, 502, 503, 504, 599])
    def test_a_condition_names_its_statuses(
        self, make_world: Make, on: Condition, statuses: set[int], status: int
    ) -> None:
        """A response of such a status never reaches the client; every other is passed on."""
        world = make_world(retry=replace(AT_ONCE, on=frozenset((on,))))
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> answer(status)
        if status in statuses:
            assert client.received == b""
            _ = server >> OK  # on the same connection, which the whole response left clean
            assert status_of(client) == 200
            assert [(given_up.status, given_up.reason) for given_up in world.recorded[-1].tries or ()] == [
                (status, None)
            ]
        else:
            assert status_of(client) == status
            assert world.recorded[-1].tries is None
        world.assert_at_rest()

    def test_statuses_by_number(self, make_world: Make) -> None:
        """429 and nothing else."""
        world = make_world(retry=RetryPolicy(on_statuses=frozenset((429,)), backoff_base_s=0, backoff_max_s=0))
        for status, final in ((429, 200), (503, 503)):
            client = world.client()
            client.get()
            server = world.servers[0] if world.servers else world.accept()
            _ = server >> answer(status)
            if final == 200:
                _ = server >> OK
            assert status_of(client) == final
        world.assert_at_rest()

    @pytest.mark.parametrize("is_reset", [False, True])
    def test_a_fresh_connection_that_dies_before_the_response(self, make_world: Make, is_reset: bool) -> None:
        """`reset_before_response`, whether anything of the head had come or not."""
        for said in (b"", b"HTTP/1.1 20"):
            world = make_world(endpoints=TWO, retry=replace(AT_ONCE, on=frozenset(("reset_before_response",))))
            client = world.client()
            client.get()
            server = world.accept(A)
            if said:
                _ = server >> said
            server.reset() if is_reset else server.eof()
            second = world.accept(B)
            _ = second << GET
            _ = second >> OK
            _ = client << OK
            assert not world.dials.under_way
            world.assert_at_rest()

    def test_a_connect_failure(self, make_world: Make) -> None:
        """`connect_failure` goes on at the only endpoint, too: somebody asked for it."""
        world = make_world(retry=replace(AT_ONCE, attempts=2, on=frozenset(("connect_failure",))))
        client = world.client()
        client.get()
        world.refuse()
        world.refuse(errors.CONNECT_TIMEOUT)
        _ = world.accept() >> OK
        assert status_of(client) == 200
        exchange = world.recorded[-1]
        assert [given_up.reason for given_up in exchange.tries or ()] == [errors.CONNECT_FAILED, errors.CONNECT_TIMEOUT]
        assert exchange.attempts == 3
        world.assert_at_rest()

    def test_a_gateway_error_is_whatever_the_client_would_get_one_for(self, make_world: Make) -> None:
        """As in Envoy and App Mesh: a reset, a close, a refused connect are ones without any other condition."""
        for how in ("reset", "close", "refuse"):
            world = make_world(retry=replace(AT_ONCE, on=frozenset(("gateway_error",))))
            client = world.client()
            client.get()
            if how == "refuse":
                world.refuse()
            elif how == "close":
                world.accept().leave()
            else:
                world.accept().reset()
            _ = world.accept() >> OK
            assert status_of(client) == 200
            assert world.recorded[-1].attempts == 2
            world.assert_at_rest()

    def test_an_answer_that_is_no_http_is_named_by_5xx_and_gateway_error(self, make_world: Make) -> None:
        """It is a 502 of ours."""
        cases: tuple[tuple[Condition, int], ...] = (("5xx", 2), ("gateway_error", 2), ("reset_before_response", 1))
        for on, attempts in cases:
            world = make_world(retry=replace(AT_ONCE, on=frozenset((on,))))
            client = world.client()
            client.get()
            _ = world.accept() >> b"garbage\r\n\r\n"
            if attempts == 2:
                _ = world.accept() >> OK
            assert world.recorded[-1].attempts == attempts
            assert status_of(client) == (200 if attempts == 2 else 502)
            world.assert_at_rest()

    def test_a_response_that_has_begun_is_never_retried(self, make_world: Make) -> None:
        """The client has some of it already."""
        world = make_world(endpoints=TWO, retry=AT_ONCE)
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal"
        server.reset()
        exchange = world.recorded[-1]
        assert (exchange.attempts, exchange.reason, exchange.status) == (1, errors.RESPONSE_CUT, 200)
        assert exchange.retry_skipped == "response_started"
        assert world.cluster.stats.retry_skipped_response_started == 1
        assert client.transport.ended == "abort"
        world.assert_at_rest()

    def test_a_discarded_response_whose_body_is_still_coming_costs_its_connection(self, make_world: Make) -> None:
        """Nobody waits for the rest of it."""
        world = make_world(endpoints=TWO, retry=AT_ONCE)
        client = world.client()
        client.get()
        first = world.accept(A)
        _ = first >> b"HTTP/1.1 503 x\r\nContent-Length: 1000\r\n\r\nnot all"
        assert first.transport.ended == "abort"
        _ = world.accept(B) >> OK
        _ = client << OK
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "framing", ["Transfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n", "X: y\r\n\r\nsorry"]
    )
    def test_discarded_responses_in_other_framings(self, make_world: Make, framing: str) -> None:
        """A chunked one that is whole leaves the connection usable, one that ends with it does not."""
        world = make_world(retry=AT_ONCE)
        client = world.client()
        client.get()
        first = world.accept()
        _ = first >> f"HTTP/1.1 500 x\r\n{framing}".encode()
        server = first if "chunked" in framing else world.accept()
        _ = server >> OK
        _ = client << OK
        world.assert_at_rest()

    def test_informational_responses_do_not_stand_in_the_way(self, make_world: Make) -> None:
        """The final response has not begun by them."""
        world = make_world(retry=AT_ONCE)
        client = world.client()
        client.get()
        first = world.accept()
        _ = first >> b"HTTP/1.1 103 Early Hints\r\n\r\n"
        first.reset()
        _ = world.accept() >> OK
        assert [response.status for response in client.responses()] == [103, 200]
        world.assert_at_rest()


class TestWithoutAPolicy:
    """What is safe is tried once more, and only that."""

    def test_a_failed_connect_goes_to_another_endpoint(self, make_world: Make) -> None:
        """Nothing was sent, so even a POST may go there."""
        world = make_world(endpoints=TWO)
        client = world.client()
        _ = client >> POST
        assert world.dialed == [A]
        world.refuse()
        server = world.accept(B)
        _ = server << POST
        _ = server >> OK
        _ = client << OK
        exchange = world.recorded[-1]
        assert (exchange.attempts, exchange.retry_skipped) == (2, "")
        (given_up,) = exchange.tries or []
        assert given_up.endpoint is world.cluster.endpoints[0]
        assert given_up.reason is errors.CONNECT_FAILED
        world.assert_at_rest()

    def test_with_one_endpoint_a_failed_connect_is_final(self, world: World) -> None:
        """The same address again, at once, would fail again."""
        client = world.client()
        client.get()
        world.refuse()
        assert not world.dials.under_way
        assert world.outcome() == (503, "connect_failed")
        assert world.cluster.stats.retries == 0
        world.assert_at_rest()

    def test_with_two_dead_endpoints_it_is_tried_twice(self, make_world: Make) -> None:
        """Never more: one retry."""
        world = make_world(endpoints=(A, B, "10.0.0.3:80"))
        client = world.client()
        client.get()
        world.refuse()
        world.refuse()
        assert not world.dials.under_way
        assert world.outcome() == (503, "connect_failed")
        assert world.recorded[-1].attempts == 2
        assert (world.cluster.stats.retries, world.cluster.stats.retries_exhausted) == (1, 1)
        world.assert_at_rest()

    def test_no_status_is_retried(self, make_world: Make) -> None:
        """What the upstream says is passed on."""
        world = make_world(endpoints=TWO)
        client = world.client()
        client.get()
        _ = world.accept() >> answer(503)
        assert status_of(client) == 503
        assert world.recorded[-1].attempts == 1
        world.assert_at_rest()

    def test_a_stale_connection_is_replaced_by_a_fresh_one_at_the_same_upstream(self, make_world: Make) -> None:
        """The keep-alive race; other connections of the pool may be as dead, so none of them is taken."""
        world = make_world()
        one, first = world.warm()
        two = world.client()
        one.get()
        two.get()
        second = world.accept()
        _ = first >> OK
        _ = second >> OK
        assert len(world.cluster.endpoints[0].idle) == 2
        _ = one.take(), two.take()
        one.get()
        second.reset()
        fresh = world.accept()
        _ = fresh >> OK
        assert status_of(one) == 200
        assert world.recorded[-1].attempts == 2
        world.assert_at_rest()

    @pytest.mark.parametrize("policy", [NO_POLICY, AT_ONCE])
    def test_a_stale_connection_under_a_post_is_not_retried(self, make_world: Make, policy: RetryPolicy) -> None:
        """It may have been processed, whatever the connection's age says."""
        world = make_world(endpoints=TWO, retry=policy)
        client, server = world.warm()
        _, other = world.warm(client)
        _ = client >> POST
        assert server.take() + other.take() == POST
        (server if server.connection.sink is not None else other).reset()
        assert status_of(client) == 503
        assert requests_seen(world).count(b"POST") == 1
        assert world.recorded[-1].retry_skipped == ("not_idempotent" if policy is AT_ONCE else "")
        world.assert_at_rest()

    def test_attempts_0_turns_all_of_it_off(self, make_world: Make) -> None:
        """Also the two safe occasions."""
        world = make_world(endpoints=TWO, retry=RetryPolicy(attempts=0, on=frozenset(("connect_failure",))))
        client = world.client()
        client.get()
        world.refuse()
        assert world.outcome() == (503, "connect_failed")
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "policy", [RetryPolicy(attempts=0), RetryPolicy(methods=frozenset((b"POST",)))], ids=["attempts", "methods"]
    )
    def test_a_request_that_may_not_be_sent_again_gets_no_connection_that_is_known_to_be_dead(
        self, make_world: Make, policy: RetryPolicy
    ) -> None:
        """Where the race cannot be repaired, the kernel is asked first, as for a POST."""
        world = make_world(retry=policy)
        client, server = world.warm()
        server.transport.is_kernel_full = True  # an end of file is there, and the loop has not heard of it yet
        client.get()
        assert server.take() == b""
        fresh = world.accept()
        _ = fresh << GET
        _ = fresh >> OK
        _ = client << OK
        world.assert_at_rest()


class TestMethods:
    """RFC 9110, 9.2.2: "a proxy MUST NOT automatically retry non-idempotent requests"."""

    @pytest.mark.parametrize("method", [*sorted(IDEMPOTENT_METHODS), b"POST", b"PATCH", b"LOCK"])
    @pytest.mark.parametrize("how", ["reset", "status", "timeout", "garbage"])
    def test_only_idempotent_ones_are_sent_again_once_sent(self, make_world: Make, method: bytes, how: str) -> None:
        """However it failed."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, per_try_timeout_s=1.0))
        client = world.client()
        _ = client >> method + b" / HTTP/1.1\r\nHost: web\r\n\r\n"
        fail(world, world.accept(), how)
        if method in IDEMPOTENT_METHODS:
            _ = world.accept(B) >> b"HTTP/1.1 204 No Content\r\n\r\n"
            assert status_of(client) == 204
        else:
            assert not world.dials.under_way
            assert status_of(client) in (502, 503, 504)
            assert world.recorded[-1].retry_skipped == "not_idempotent"
            assert world.cluster.stats.retry_skipped_not_idempotent == 1
            assert requests_seen(world) == [method]
        world.assert_at_rest()

    @pytest.mark.parametrize("how", ["reset", "status", "timeout"])
    def test_an_idempotency_key_makes_a_post_repeatable(self, make_world: Make, how: str) -> None:
        """The client vouches for it, and both tries carry the same key."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, per_try_timeout_s=1.0))
        client = world.client()
        keyed = POST.replace(b"Content", b"Idempotency-Key: 7\r\nContent")
        _ = client >> keyed
        fail(world, world.accept(A), how)
        second = world.accept(B)
        _ = second << keyed
        _ = second >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    def test_methods_of_the_policy_replace_the_defaults(self, make_world: Make) -> None:
        """POST because the file says so; GET no more."""
        world = make_world(retry=replace(AT_ONCE, methods=frozenset((b"POST",))))
        client = world.client()
        _ = client >> POST
        world.accept().reset()
        _ = world.accept() >> OK
        client.get()
        _ = busy(world) >> answer(503)
        assert status_of(client) == 503
        assert world.recorded[-1].retry_skipped == "not_idempotent"
        world.assert_at_rest()

    @pytest.mark.parametrize("how", ["refuse", "wait"])
    def test_a_post_that_was_not_sent_may_be_sent_elsewhere(self, make_world: Make, how: str) -> None:
        """Not one byte of it went anywhere: neither a failed connect nor a wait for one that took too long."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, per_try_timeout_s=1.0))
        client = world.client()
        _ = client >> POST
        if how == "refuse":
            world.refuse()
        else:
            world.advance(1.2)
        server = world.accept(B)
        _ = server << POST
        _ = server >> OK
        _ = client << OK
        while world.dials.under_way:
            world.refuse()
        world.assert_at_rest()


class TestEndpoints:
    """Where the next try goes."""

    def test_another_endpoint_is_preferred_each_time(self, make_world: Make) -> None:
        """To and fro between two."""
        world = make_world(endpoints=TWO, retry=replace(AT_ONCE, attempts=3))
        client = world.client()
        client.get()
        for expected in (A, B, A):
            assert world.dialed == [expected]
            world.accept().reset()
        assert world.dialed == [B]
        _ = world.accept() >> OK
        _ = client << OK
        world.assert_at_rest()

    def test_an_endpoint_that_is_gone_costs_its_own_turns_only(self, make_world: Make) -> None:
        """Of two in turn it gets every second request, not every one: a retry takes no turn."""
        world = make_world(endpoints=TWO)
        client = world.client()
        refused = 0
        for _ in range(10):
            client.get()
            if A in world.dialed:
                refused += 1
                world.refuse(at=A)
            server = world.accept(B) if B in world.dialed else busy(world)
            _ = server >> OK
        assert [response.status for response in client.responses()] == [200] * 10
        assert refused == 5
        world.assert_at_rest()

    def test_a_connection_from_the_pool_is_used_for_it(self, make_world: Make) -> None:
        """There is no reason to make one."""
        world = make_world(endpoints=TWO, retry=AT_ONCE)
        warm_both(world)
        client = world.client()
        client.get()
        first = busy(world)
        _ = first >> answer(503)
        second = busy(world)
        assert second is not first
        _ = second >> OK
        _ = client << OK
        assert world.dials.count == 2
        world.assert_at_rest()

    def test_no_endpoint_left_is_said(self, make_world: Make) -> None:
        """All addresses went while it waited: the client hears what the last try came to."""
        world = make_world(retry=replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0))
        client = world.client()
        client.get()
        world.accept().reset()
        world.cluster.set_addresses({}, world.loop.now)
        world.advance(1.0)
        assert world.outcome() == (503, "upstream_reset")
        assert world.recorded[-1].retry_skipped == "no_endpoint"
        stats = world.cluster.stats
        assert (stats.retry_skipped_no_endpoint, stats.retries_exhausted) == (1, 1)
        assert client.is_open
        world.assert_at_rest()

    def test_what_the_detectors_learn(self, make_world: Make) -> None:
        """Each try is told once, with its own end."""
        world = make_world(endpoints=TWO, retry=AT_ONCE, outlier=OutlierSpec())
        told: list[tuple[str, int, str]] = []
        world.cluster.observer = lambda endpoint, status, failure, latency_s, now: told.append(
            (endpoint.label, status, failure.name if failure else "")
        )
        client = world.client()
        client.get()
        world.refuse()
        world.accept(B).reset()
        server = world.accept(A)
        _ = server >> answer(500)
        _ = world.accept(B) >> answer(404)
        assert told == [(A, 0, "connect_failed"), (B, 0, "upstream_reset"), (A, 500, ""), (B, 404, "")]
        world.assert_at_rest()

    def test_the_latency_of_a_try_counts_from_its_own_begin(
        self, make_world: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither the tries before it nor the back-off; an endpoint on probation is judged by it."""
        policy = replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0)
        world = make_world(retry=policy, outlier=OutlierSpec())
        monkeypatch.setattr(clock, "monotonic_ns", lambda: round(world.loop.now * 1e9))
        told: list[float] = []
        world.cluster.observer = lambda endpoint, status, failure, latency_s, now: told.append(latency_s)
        client = world.client()
        client.get()
        for dial_s in (0.5, 0.25, 0.125):
            while not world.dials.under_way:
                world.advance(0.01)
            world.advance(dial_s)
            world.refuse()
        world.advance(1.0)
        server = world.accept()
        world.advance(0.75)
        _ = server >> OK
        assert told == [pytest.approx(seconds, abs=0.011) for seconds in (0.5, 0.25, 0.125, 0.75)]

    @pytest.mark.parametrize("end", ["leave", "timeout"])
    def test_a_try_that_the_client_or_the_deadline_ends_is_told_too(self, make_world: Make, end: str) -> None:
        """As given up, or as the upstream's timeout; an endpoint on probation waits for that word."""
        world = make_world(timeout_s=1.0, outlier=OutlierSpec())
        told: list[tuple[int, str]] = []
        world.cluster.observer = lambda endpoint, status, failure, latency_s, now: told.append(
            (status, failure.source.value if failure else "")
        )
        client = world.client()
        client.get()
        world.accept()
        client.leave() if end == "leave" else world.advance(1.2)
        assert told == [(0, "upstream" if end == "timeout" else "downstream")]
        world.assert_at_rest()


class TestLimits:
    """Retries do not multiply an outage."""

    def test_the_budget(self, make_world: Make) -> None:
        """One retry in ten seconds, and then none: `budget`."""
        world = make_world(retry=AT_ONCE, retry_budget=RetryBudgetSpec(percent=0, min_per_second=0.1))
        client = world.client()
        client.get()
        server = world.accept()
        _ = server >> answer(503)
        _ = server >> answer(503)
        assert status_of(client) == 503
        exchange = world.recorded[-1]
        assert (exchange.attempts, exchange.retry_skipped) == (2, "budget")
        assert (world.cluster.stats.retries, world.cluster.stats.retry_skipped_budget) == (1, 1)
        world.assert_at_rest()

    @pytest.mark.parametrize("policy", [None, AT_ONCE], ids=["no policy", "a policy that names it"])
    def test_the_budget_never_refuses_what_is_safe(self, make_world: Make, policy: RetryPolicy | None) -> None:
        """The failed connect is repaired whatever else goes on; a policy cannot make that worse."""
        world = make_world(endpoints=TWO, retry=policy, retry_budget=RetryBudgetSpec(percent=0, min_per_second=0))
        client = world.client()
        client.get()
        world.refuse()
        _ = world.accept() >> OK
        assert status_of(client) == 200
        world.assert_at_rest()

    def test_max_retries(self, make_world: Make) -> None:
        """As many as the circuit breaker allows at the same time; a back-off counts."""
        policy = replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0)
        world = make_world(endpoints=TWO, retry=policy, breaker=BreakerSpec(max_retries=1))
        one, two = world.client(), world.client()
        one.get()
        two.get()
        _ = world.accept() >> answer(503)
        _ = world.accept() >> answer(503)
        assert world.cluster.breaker is not None
        assert world.cluster.breaker.retries == 1
        assert status_of(two) == 503
        assert world.recorded[-1].retry_skipped == "max_retries"
        world.advance(1.0)
        _ = busy(world) >> OK
        assert status_of(one) == 200
        assert world.cluster.stats.retry_skipped_max_retries == 1
        world.assert_at_rest()

    def test_a_retry_that_the_breaker_refuses_ends_with_what_came_before(self, make_world: Make) -> None:
        """The place of the failed try was taken while it waited."""
        policy = replace(AT_ONCE, backoff_base_s=1.0, backoff_max_s=1.0)
        world = make_world(retry=policy, breaker=BreakerSpec(max_requests=1))
        one, two = world.client(), world.client()
        one.get()
        world.accept().reset()
        two.get()
        world.advance(1.0)
        exchange = world.recorded[0]
        assert (exchange.status, exchange.reason) == (503, errors.UPSTREAM_RESET)
        assert exchange.retry_skipped
        _ = world.accept() >> OK
        assert status_of(two) == 200
        world.assert_at_rest()
