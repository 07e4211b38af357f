"""Fault, mirror and rate limit: decisions on a clock and with a chance that the test holds."""

from __future__ import annotations

import gc
import random
import weakref

import pytest

from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.proxy.exchange.policies import BothLimits, Fault, Mirror, RateLimit, RateLimiter, happens, retry_after
from sidecar.upstream.cluster import Cluster, ClusterSpec


def head(*fields: str) -> RequestHead:
    return parse_request_head("\r\n".join(("GET / HTTP/1.1", "Host: x", *fields)).encode(), 100)


def draws(*values: float) -> object:
    """A source of chance that gives these and then fails."""
    return iter(values).__next__


class TestHappens:
    """A share of all requests."""

    @pytest.mark.parametrize(
        ("percent", "draw", "expected"),
        [(10.0, 0.0999, True), (10.0, 0.1, False), (100.0, 0.999999, True), (0.5, 0.00499, True), (0.5, 0.005, False)],
    )
    def test_a_draw_below_the_percentage_is_a_hit(self, percent: float, draw: float, expected: bool) -> None:
        """100 hits always, 0.5 one in two hundred."""
        assert happens(percent, draws(draw)) is expected  # type: ignore[arg-type]

    def test_zero_percent_never_happens_and_draws_nothing(self) -> None:
        """So that a share of 0 changes nothing else that is left to chance."""
        assert happens(0.0, draws()) is False  # type: ignore[arg-type]


class TestFault:
    """Delays and aborts."""

    @pytest.mark.parametrize(
        ("chance", "expected"),
        [((0.0, 0.0), (2.0, 418)), ((0.0, 0.9), (2.0, None)), ((0.9, 0.0), (0.0, 418)), ((0.9, 0.9), (0.0, None))],
    )
    def test_delay_and_abort_are_drawn_independently(
        self, chance: tuple[float, float], expected: tuple[float, int | None]
    ) -> None:
        """A request may be hit by either, both or none."""
        assert Fault(50, 2.0, 50, 418).decide(draws(*chance), head()) == expected  # type: ignore[arg-type]

    def test_only_requests_with_the_header_are_hit(self) -> None:
        """For tests in production: everybody else is left alone, and chance is not asked."""
        fault = Fault(100, 1.0, 100, 503, header=lambda head: head.first(b"x-fault") == b"yes")
        assert fault.decide(random.random, head("x-fault: yes")) == (1.0, 503)
        assert fault.decide(draws(), head("x-fault: no")) == (0.0, None)  # type: ignore[arg-type]
        assert fault.decide(draws(), head()) == (0.0, None)  # type: ignore[arg-type]

    def test_the_default_does_nothing(self) -> None:
        """No share is given, so nobody is hit."""
        assert Fault().decide(draws(), head()) == (0.0, None)  # type: ignore[arg-type]


class TestMirror:
    """Copies."""

    def test_a_share_of_the_requests_is_copied(self) -> None:
        """By chance, each request by itself."""
        mirror = Mirror(Cluster(ClusterSpec("shadow")), 25)
        assert [mirror.wants(draws(draw)) for draw in (0.0, 0.249, 0.25)] == [True, True, False]  # type: ignore[arg-type]


class TestRateLimiter:
    """The generic cell rate algorithm against a bucket of tokens."""

    def test_a_burst_passes_then_one_request_an_interval(self) -> None:
        """100 a second with a burst of 3: three at once, then one each 10 ms."""
        limiter = RateLimiter(RateLimit(100, 1.0, 3))
        assert [limiter.allow(b"", 1000.0) for _ in range(3)] == [None, None, None]
        assert limiter.allow(b"", 1000.0) == pytest.approx(0.01)
        assert limiter.allow(b"", 1000.004) == pytest.approx(0.006)
        assert limiter.allow(b"", 1000.01) is None
        assert limiter.allow(b"", 1000.01) == pytest.approx(0.01)

    def test_a_refused_request_is_not_counted(self) -> None:
        """Whoever hammers is not locked out for longer."""
        limiter = RateLimiter(RateLimit(1, 1.0, 1))
        assert limiter.allow(b"", 0.0) is None
        for hundredth in range(1, 100):
            assert limiter.allow(b"", hundredth / 100) is not None
        assert limiter.allow(b"", 1.0) is None

    def test_a_pause_fills_the_bucket_but_not_beyond_the_burst(self) -> None:
        """An hour of silence earns one burst."""
        limiter = RateLimiter(RateLimit(10, 1.0, 5))
        for start in (0.0, 3600.0):
            assert [limiter.allow(b"", start) is None for _ in range(7)] == [True] * 5 + [False] * 2

    def test_keys_have_buckets_of_their_own_and_those_without_a_key_share_one(self) -> None:
        """Leaving the key out wins nothing."""
        limiter = RateLimiter(RateLimit(1, 1.0, 1, ("header", "x-api-key")), lambda head, ip: head.first(b"x-api-key"))
        assert limiter.check(head("x-api-key: a"), "ip", 0.0) is None
        assert limiter.check(head("x-api-key: b"), "ip", 0.0) is None
        assert limiter.check(head("x-api-key: a"), "ip", 0.0) is not None
        assert limiter.check(head(), "ip", 0.0) is None
        assert limiter.check(head("x-api-key:"), "ip", 0.0) is not None

    def test_no_key_counts_all_together(self) -> None:
        """Whoever asks."""
        limiter = RateLimiter(RateLimit(1, 1.0, 1))
        assert limiter.check(head(), "10.0.0.1", 0.0) is None
        assert limiter.check(head(), "10.0.0.2", 0.0) is not None

    def test_the_number_of_keys_is_bounded_and_the_quietest_is_forgotten(self) -> None:
        """A key that comes all the time, even if refused, is not pushed out by many that come once."""
        limiter = RateLimiter(RateLimit(1, 1000.0, 1), max_keys=3)
        assert limiter.allow(b"busy", 0.0) is None
        for number in range(100):
            assert limiter.allow(b"%d" % number, 1.0) is None
            assert limiter.allow(b"busy", 1.0) is not None
        assert len(limiter) == 3

    def test_a_long_key_is_kept_as_its_digest(self) -> None:
        """Long keys that differ at their end are still told apart, and cost 32 bytes."""
        limiter = RateLimiter(RateLimit(1, 1.0, 1), lambda head, ip: head.first(b"k"))
        keys = {limiter.key_of(head("k: " + "a" * 5000 + end), "") for end in "xy"}
        assert [len(key) for key in keys] == [32, 32]

    @pytest.mark.parametrize(("requests", "per_s", "burst"), [(7, 1.0, 3), (100, 60.0, 100), (1, 0.001, 1)])
    def test_never_more_than_the_burst_and_the_rate(self, requests: int, per_s: float, burst: int) -> None:
        """In any span of time at most `burst` plus the rate passes, whenever the requests come."""
        chance = random.Random(7)
        limiter = RateLimiter(RateLimit(requests, per_s, burst))
        now, passed = 5.0, []
        for _ in range(5000):
            now += chance.expovariate(requests / per_s * 3)
            if limiter.allow(b"", now) is None:
                passed.append(now)
        interval = per_s / requests
        for first in range(0, len(passed), 17):
            for last in range(first, len(passed), 41):
                assert last - first + 1 <= burst + (passed[last] - passed[first]) / interval + 1e-6
        assert len(passed) >= (now - 5.0) / interval * 0.7

    def test_after_the_wait_that_it_names_the_next_one_passes(self) -> None:
        """And not a moment sooner."""
        chance = random.Random(3)
        limiter = RateLimiter(RateLimit(9, 1.0, 2))
        now = 1e6
        for _ in range(500):
            wait = limiter.allow(b"", now)
            if wait is not None:
                assert limiter.allow(b"", now + wait * 0.99) is not None
                now += wait
                assert limiter.allow(b"", now) is None
            now += chance.random() * 0.1

    def test_a_limit_that_means_nothing_is_refused(self) -> None:
        """No request, no time, no burst."""
        for values in ((0, 1.0, 1), (1, 0.0, 1), (1, 1.0, 0)):
            with pytest.raises(ValueError, match="expected"):
                RateLimit(*values)

    def test_its_counts_can_be_found_as_long_as_a_plan_holds_it_and_go_with_the_last(self) -> None:
        """So that a reload can take them over."""
        limiter = RateLimiter(RateLimit(1, 1.0, 1))
        reference = weakref.ref(limiter.full_at)
        assert limiter.allow(b"", 0.0) is None
        heir = RateLimiter(limiter.limit, full_at=limiter.full_at)
        del limiter
        assert heir.allow(b"", 0.0) == pytest.approx(1.0)
        assert reference() is heir.full_at
        del heir
        gc.collect()
        assert reference() is None


def test_a_request_that_its_own_limit_refuses_takes_nothing_from_the_common_one() -> None:
    """One client's excess must not use up what all share."""
    own = RateLimiter(RateLimit(1, 1.0, 1), lambda head, ip: ip.encode())
    both = BothLimits(own, RateLimiter(RateLimit(1, 10.0, 2)))
    assert both.check(head(), "a", 0.0) is None
    assert both.check(head(), "a", 0.0) == pytest.approx(1.0)
    assert both.check(head(), "b", 0.0) is None
    assert both.check(head(), "c", 0.0) == pytest.approx(10.0)


@pytest.mark.parametrize(("seconds", "value"), [(0.001, b"1"), (1.0, b"1"), (1.01, b"2"), (59.5, b"60")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, value: bytes) -> None:
    """RFC 9110, 10.2.3: a client that waits that long is not refused for coming too soon."""
    assert retry_after(seconds) == value
