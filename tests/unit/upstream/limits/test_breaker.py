"""The circuit breaker: what it lets through, what it counts, and what a reload does to it."""

from __future__ import annotations

import pytest

from sidecar import errors
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.limits.adaptive import FIRST_WINDOW_S, INITIAL_LIMIT, SILENCE_S
from sidecar.upstream.limits.breaker import Breaker, BreakerSpec
from sidecar.upstream.stats import ClusterStats


def breaker_of(**settings: object) -> tuple[Breaker, ClusterStats]:
    stats = ClusterStats()
    return Breaker(BreakerSpec(**settings), stats, lambda: 0.5), stats  # type: ignore[arg-type]


def test_requests_beyond_the_limit_are_refused_and_counted() -> None:
    """As many as the limit says are in flight; when one leaves, one may enter."""
    breaker, stats = breaker_of(max_requests=2)
    assert [breaker.enter() for _ in range(3)] == [True, True, False]
    assert stats.overflow_requests == 1
    breaker.leave()
    assert breaker.enter()
    assert breaker.requests == 2


def test_retries_beyond_the_limit_are_refused_and_counted() -> None:
    """Retries have a limit of their own."""
    breaker, stats = breaker_of(max_retries=1)
    assert [breaker.enter_retry(), breaker.enter_retry()] == [True, False]
    assert stats.overflow_retries == 1
    breaker.leave_retry()
    assert breaker.enter_retry()


def test_connections_beyond_the_limit_are_not_opened() -> None:
    """But an endpoint without any may have one, or whoever waits there would wait for nothing."""
    breaker, stats = breaker_of(max_connections=10)
    assert breaker.has_room(9, here=3)
    assert not breaker.has_room(10, here=3)
    assert breaker.has_room(10, here=0)
    breaker.on_full()
    assert stats.overflow_connections == 1


def test_queue_beyond_the_limit_is_refused() -> None:
    """A queue of none is allowed: then who cannot be served at once is refused."""
    breaker, stats = breaker_of(max_pending_requests=1)
    assert [breaker.may_wait(0), breaker.may_wait(1)] == [True, False]
    assert stats.overflow_pending == 1
    assert not breaker_of(max_pending_requests=0)[0].may_wait(0)


@pytest.mark.parametrize(("timeout_s", "retry_after_s"), [(0.2, 1), (1.0, 1), (2.5, 3)])
def test_retry_after_is_the_time_in_which_the_queue_is_served_or_gone(timeout_s: float, retry_after_s: int) -> None:
    """In whole seconds, at least one, as the field wants it."""
    assert breaker_of(pending_timeout_s=timeout_s)[0].retry_after_s == retry_after_s


@pytest.mark.parametrize(
    "settings",
    [
        {"max_connections": 0},
        {"max_requests": 0},
        {"max_pending_requests": -1},
        {"max_retries": -1},
        {"pending_timeout_s": 0},
        {"pending_timeout_s": float("nan")},
    ],
)
def test_limits_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    """A spec is checked when it is made."""
    with pytest.raises(ValueError, match="expected"):
        BreakerSpec(**settings)  # type: ignore[arg-type]


def test_reload_changes_limits_in_place_and_keeps_who_is_in() -> None:
    """Who entered before a reload leaves the same breaker after it, so the count comes back to zero."""
    spec = ClusterSpec("web", (("a:80", 1),), breaker=BreakerSpec(max_requests=5))
    cluster = Cluster(spec)
    breaker = cluster.breaker
    assert breaker is not None
    assert [breaker.enter() for _ in range(3)] == [True] * 3
    tighter = ClusterSpec("web", (("a:80", 1),), breaker=BreakerSpec(max_requests=2))
    cluster.apply(tighter, tighter.static_addresses())
    assert cluster.breaker is breaker
    assert not breaker.enter()
    assert cluster.stats.concurrency_limit == 2
    for _ in range(3):
        breaker.leave()
    assert breaker.requests == 0
    without = ClusterSpec("web", (("a:80", 1),))
    cluster.apply(without, without.static_addresses())
    assert cluster.breaker is None
    assert cluster.stats.concurrency_limit == 0


class TestAdaptive:
    """What an adaptive limit learns from."""

    @pytest.mark.parametrize(
        ("status", "failure", "seen"),
        [
            (200, None, [False]),
            (404, None, [False]),
            (500, None, []),
            (502, None, []),
            (503, None, [True]),
            (429, None, [True]),
            (0, None, []),
            (0, errors.RESPONSE_TIMEOUT, [True]),
            (200, errors.RESPONSE_CUT, []),
            (0, errors.UPSTREAM_RESET, []),
            (0, errors.CONNECT_FAILED, []),
            (0, errors.CLIENT_LEFT, []),
        ],
    )
    def test_only_good_answers_are_samples_and_only_overload_is_a_drop(
        self, status: int, failure: errors.Reason | None, seen: list[bool]
    ) -> None:
        """An error that comes at once is no proof of speed, and a crash none of overload."""
        breaker, _ = breaker_of(adaptive=True)
        adaptive = breaker.adaptive
        assert adaptive is not None
        # The first tells when to begin.
        adaptive.on_sample(0.01, 1, False, 1.0)
        adaptive.limit = 7
        breaker.on_result(status, failure, 0.01, 1.0 + FIRST_WINDOW_S)
        assert (adaptive._results, adaptive._drops) == (len(seen), sum(seen))
        assert breaker.limit == (7 if seen else 64)

    def test_reload_keeps_what_was_learnt(self) -> None:
        """Another bound does not begin the search anew; turning it off restores the fixed limit."""
        breaker, stats = breaker_of(adaptive=True, max_requests=100)
        adaptive = breaker.adaptive
        breaker.configure(BreakerSpec(adaptive=True, max_requests=50))
        assert breaker.adaptive is adaptive
        assert breaker.limit == 50
        breaker.configure(BreakerSpec(max_requests=50))
        assert breaker.adaptive is None
        assert (breaker.limit, stats.concurrency_limit) == (50, 50)


class TestSettled:
    """Streams and tunnels are in flight and no load."""

    def test_settled_ones_leave_their_place_to_others(self) -> None:
        """As many as the limit says may be at work, however many streams there are, up to `max_requests` in all."""
        breaker, stats = breaker_of(adaptive=True, max_requests=100)
        for _ in range(INITIAL_LIMIT):
            assert breaker.enter()
            breaker.settle()
        assert breaker.enter()
        assert (breaker.requests, breaker.settled, breaker.limit) == (65, 64, 100)
        assert stats.concurrency_limit == INITIAL_LIMIT
        assert sum(breaker.enter() for _ in range(100)) == 35

    def test_whoever_settled_leaves_so(self) -> None:
        """The room that a stream made goes with it."""
        breaker, _ = breaker_of(adaptive=True)
        assert breaker.enter()
        assert breaker.enter()
        breaker.settle()
        breaker.leave(has_settled=True)
        breaker.leave()
        assert (breaker.requests, breaker.settled, breaker.limit) == (0, 0, INITIAL_LIMIT)

    def test_limit_learns_from_those_at_work_only(self) -> None:
        """Sixty streams beside one request do not make it look half used."""
        breaker, _ = breaker_of(adaptive=True)
        adaptive = breaker.adaptive
        assert adaptive is not None
        adaptive.on_sample(0.01, 1, False, 1.0)
        for _ in range(60):
            assert breaker.enter()
            breaker.settle()
        assert breaker.enter()
        breaker.on_result(200, None, 0.01, 3.0)
        assert adaptive._peak == 1

    def test_fixed_limit_counts_them(self) -> None:
        """`max_requests` bounds what is in flight, whatever it does; a reload to an adaptive one finds them settled."""
        breaker, _ = breaker_of(max_requests=2)
        for _ in range(2):
            assert breaker.enter()
            breaker.settle()
        assert not breaker.enter()
        breaker.configure(BreakerSpec(max_requests=100, adaptive=True))
        assert breaker.limit == INITIAL_LIMIT + 2
        breaker.leave(has_settled=True)
        assert breaker.limit == INITIAL_LIMIT + 1

    def test_breaker_comes_back_without_results(self) -> None:
        """Long polls hold every place and none is answered: after a pause one more is let in, told by the cluster."""
        spec = ClusterSpec("web", (("a:80", 1),), breaker=BreakerSpec(adaptive=True))
        assert spec.needs_ticks
        cluster = Cluster(spec)
        breaker = cluster.breaker
        assert breaker is not None
        assert sum(breaker.enter() for _ in range(200)) == INITIAL_LIMIT
        for second in range(1, int(SILENCE_S) + 2):
            assert not breaker.enter()
            cluster.tick(float(second))
        assert [breaker.enter(), breaker.enter()] == [True, False]


def test_repr_shows_the_state() -> None:
    """A look says how much is under way."""
    breaker, _ = breaker_of(max_requests=9)
    breaker.enter()
    assert repr(breaker) == "<Breaker [Requests: 1 of 9 | Retries: 0 of 16]>"
