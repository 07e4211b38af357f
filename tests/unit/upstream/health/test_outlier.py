"""Outlier detection: who is ejected, when, for how long, and the way back."""

from __future__ import annotations

import logging

import pytest

from sidecar import errors
from sidecar.message import Framing, RequestHead
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, Health
from sidecar.upstream.health.outlier import LatencySpec, OutlierSpec, SuccessRateSpec
from sidecar.upstream.stats import COUNTS
from tests.unit.upstream.fakes import HEAD

POST = RequestHead(b"POST", b"/", None, 1)
START = 1000.0


def cluster_of(count: int = 4, **settings: object) -> Cluster:
    endpoints = tuple((f"e{i}:80", 1.0) for i in range(count))
    spec = ClusterSpec(
        "web",
        endpoints,
        policy="round_robin",
        panic_threshold=0,
        outlier=OutlierSpec(**settings),  # type: ignore[arg-type]
    )
    cluster = Cluster(spec, lambda: 0.0)
    cluster.tick(START)
    return cluster


def tell(
    cluster: Cluster,
    endpoint: Endpoint,
    *results: int | errors.Reason | None,
    latency_s: float = 0.0,
    now: float = START,
) -> None:
    """Report these statuses and failures."""
    assert cluster.observer is not None
    for result in results:
        status = result if isinstance(result, int) else 0
        failure = result if isinstance(result, errors.Reason) else None
        cluster.observer(endpoint, status, failure, latency_s, now)


def chosen(cluster: Cluster, count: int = 12, head: RequestHead = HEAD) -> set[str]:
    return {endpoint.host for _ in range(count) if (endpoint := cluster.choose(head, ""))}


class TestConsecutive:
    """Failures in a row eject at once."""

    @pytest.mark.parametrize(
        "failure", [500, 503, 599, errors.CONNECT_FAILED, errors.UPSTREAM_RESET, errors.BAD_RESPONSE]
    )
    def test_fifth_failure_in_a_row_ejects(self, failure: int | errors.Reason) -> None:
        """Four do not; a good answer between them begins the count anew."""
        cluster = cluster_of()
        bad = cluster.endpoints[0]
        tell(cluster, bad, *[failure] * 4, 200, *[failure] * 4)
        assert (bad.ejected_until, chosen(cluster)) == (0, {"e0", "e1", "e2", "e3"})
        tell(cluster, bad, failure)
        assert bad.ejected_until == START + 30
        assert chosen(cluster) == {"e1", "e2", "e3"}
        assert (cluster.stats.ejected, cluster.stats.ejections, cluster.stats.ejections_consecutive_5xx) == (1, 1, 1)

    @pytest.mark.parametrize("result", [404, 499, None, errors.CLIENT_LEFT, errors.BAD_REQUEST_BODY, errors.OVERLOADED])
    def test_what_is_not_the_endpoints_fault_does_not_count(self, result: int | errors.Reason | None) -> None:
        """Neither the client's mistakes nor our own limits eject a server."""
        cluster = cluster_of()
        tell(cluster, cluster.endpoints[0], *[result] * 50)
        assert cluster.stats.ejections == 0

    def test_gateway_errors_are_counted_apart(self) -> None:
        """A 500 ends a row of gateway errors, a 503 or a broken connection does not."""
        cluster = cluster_of(consecutive_5xx=0, consecutive_gateway_errors=3)
        bad = cluster.endpoints[0]
        tell(cluster, bad, 502, 503, 500, 504, errors.UPSTREAM_CLOSED)
        assert cluster.stats.ejections == 0
        tell(cluster, bad, 502)
        assert cluster.stats.ejections_consecutive_gateway_errors == 1

    def test_connect_failures_are_counted_apart(self) -> None:
        """An address where nobody listens may go sooner than a server that fails."""
        cluster = cluster_of(consecutive_connect_failures=2)
        bad = cluster.endpoints[0]
        tell(cluster, bad, errors.CONNECT_FAILED, 503, errors.CONNECT_TIMEOUT)
        assert cluster.stats.ejections == 0
        tell(cluster, bad, errors.CONNECT_FAILED)
        assert cluster.stats.ejections_consecutive_connect_failures == 1

    def test_results_that_come_after_the_ejection_do_not_prolong_it(self) -> None:
        """What was in flight when it was ejected fails too, and proves nothing new."""
        cluster = cluster_of()
        bad = cluster.endpoints[0]
        tell(cluster, bad, *[500] * 5)
        tell(cluster, bad, *[500] * 20, now=START + 5)
        assert (bad.ejected_until, cluster.stats.ejections) == (START + 30, 1)


class TestBrokenAnswers:
    """An answer that breaks off was a success when its head came."""

    def test_endpoint_whose_answers_break_off_is_ejected(self) -> None:
        """Five in an interval, though a good head came before each."""
        cluster = cluster_of()
        bad = cluster.endpoints[0]
        tell(cluster, bad, *[200, errors.RESPONSE_CUT] * 4)
        assert cluster.stats.ejections == 0
        tell(cluster, bad, 200, 200, errors.RESPONSE_CUT, errors.BAD_RESPONSE_BODY)
        assert chosen(cluster) == {"e1", "e2", "e3"}
        assert cluster.stats.ejections_broken_answers == 1

    def test_few_among_many_do_not_eject(self) -> None:
        """Five of twenty, or of two intervals, are accidents; a client that leaves is none at all."""
        cluster = cluster_of()
        bad = cluster.endpoints[0]
        tell(cluster, bad, *[200] * 20, *[errors.RESPONSE_CUT] * 5)
        for _ in range(5):
            tell(cluster, bad, *[200, errors.CLIENT_LEFT] * 9)
        cluster.tick(START + 10)
        tell(cluster, bad, *[200, errors.RESPONSE_STALLED] * 4)
        cluster.tick(START + 20)
        tell(cluster, bad, *[200, errors.RESPONSE_STALLED] * 4)
        assert cluster.stats.ejections == 0

    def test_they_count_against_the_success_rate(self) -> None:
        """As failures of the same request, not as requests of their own."""
        cluster = cluster_of()
        endpoint = cluster.endpoints[0]
        tell(cluster, endpoint, *[200] * 10, errors.RESPONSE_CUT)
        assert (endpoint.results, endpoint.successes) == (10, 9)


class TestBounds:
    """Some always stay."""

    def test_no_more_than_the_percentage_is_ejected(self) -> None:
        """Half of four are two; the third is left in, and that is counted and said."""
        cluster = cluster_of()
        for endpoint in cluster.endpoints:
            tell(cluster, endpoint, *[500] * 5)
        assert chosen(cluster) == {"e2", "e3"}
        assert (cluster.stats.ejected, cluster.stats.ejections_prevented) == (2, 2)

    def test_one_may_always_be_ejected(self) -> None:
        """10 % of three is none, and yet the one that is dead goes."""
        cluster = cluster_of(3, max_ejection_percent=10)
        for endpoint in cluster.endpoints:
            tell(cluster, endpoint, *[500] * 5)
        assert chosen(cluster) == {"e1", "e2"}

    def test_zero_percent_ejects_none(self) -> None:
        """Then it only counts what it would have done."""
        cluster = cluster_of(max_ejection_percent=0)
        tell(cluster, cluster.endpoints[0], *[500] * 5)
        assert (cluster.stats.ejected, cluster.stats.ejections_prevented) == (0, 1)

    def test_last_usable_endpoint_is_never_ejected(self) -> None:
        """100 % leaves one; so does a cluster of one; one that is unhealthy is not the one that is left."""
        cluster = cluster_of(3, max_ejection_percent=100)
        cluster.set_health(cluster.endpoints[2], Health.UNHEALTHY, START)
        for endpoint in cluster.endpoints:
            tell(cluster, endpoint, *[500] * 5)
        assert chosen(cluster) == {"e1"}
        single = cluster_of(1)
        tell(single, single.endpoints[0], *[500] * 50)
        assert chosen(single) == {"e0"}


class TestReturn:
    """By probation: one real request, then all."""

    def ejected(self, **settings: object) -> tuple[Cluster, Endpoint]:
        cluster = cluster_of(**settings)
        bad = cluster.endpoints[0]
        tell(cluster, bad, *[500] * 5)
        cluster.tick(START + 29.9)
        assert chosen(cluster) == {"e1", "e2", "e3"}
        cluster.tick(START + 30)
        return cluster, bad

    def test_one_request_comes_first(self) -> None:
        """Exactly one is sent there until it is answered; then it has its full share."""
        cluster, bad = self.ejected()
        assert bad.standing == "probation"
        assert [endpoint.host for _ in range(9) if (endpoint := cluster.choose(HEAD, ""))].count("e0") == 1
        tell(cluster, bad, 200, now=START + 31)
        assert (bad.is_on_probation, bad.ejected_until, cluster.stats.ejected) == (False, 0, 0)
        assert chosen(cluster) == {"e0", "e1", "e2", "e3"}

    def test_failure_ejects_again_for_longer(self) -> None:
        """One failure is enough on probation; the second ejection lasts twice as long, the third three times."""
        cluster, bad = self.ejected()
        now = START + 31
        for times in (2, 3):
            chosen(cluster)
            tell(cluster, bad, 503, now=now)
            assert bad.ejected_until == now + 30 * times
            assert chosen(cluster) == {"e1", "e2", "e3"}
            now = bad.ejected_until
            cluster.tick(now)
        assert cluster.stats.ejections_probation == 2

    def test_ejection_time_has_a_maximum(self) -> None:
        """After many, it stays at the maximum."""
        cluster, bad = self.ejected(max_ejection_time_s=70)
        for _ in range(9):
            chosen(cluster)
            tell(cluster, bad, 503, now=bad.ejected_until)
            cluster.tick(bad.ejected_until)
        chosen(cluster)
        tell(cluster, bad, 503, now=5000.0)
        assert bad.ejected_until == 5070

    def test_ejections_are_forgotten_one_an_interval(self) -> None:
        """An endpoint that behaves begins again with the base time."""
        cluster, bad = self.ejected()
        chosen(cluster)
        tell(cluster, bad, 503, now=START + 30)
        cluster.tick(START + 90)
        chosen(cluster)
        tell(cluster, bad, 200, now=START + 90)
        assert bad.ejections == 2
        for second in range(25):
            cluster.tick(START + 91 + second)
        assert bad.ejections == 0

    def test_request_that_can_be_sent_again_is_preferred(self) -> None:
        """A POST, or a GET with a body, goes elsewhere, as long as there may be something better."""
        cluster, _ = self.ejected()
        with_body = RequestHead(b"GET", b"/", None, 1)
        with_body.framing = Framing.CHUNKED
        assert chosen(cluster, 16, POST) | chosen(cluster, 16, with_body) == {"e1", "e2", "e3"}
        first = cluster.choose(HEAD, "")
        assert first is cluster.endpoints[0]

    def test_upstream_that_gets_only_posts_is_not_waited_for_for_ever(self) -> None:
        """After 32 others one has to do."""
        cluster, bad = self.ejected()
        assert chosen(cluster, 32, POST) == {"e1", "e2", "e3"}
        assert cluster.choose(POST, "") is bad

    def test_answer_to_an_earlier_request_is_no_proof(self) -> None:
        """What was sent before the ejection and is answered during probation does not end it."""
        cluster, bad = self.ejected()
        assert cluster.choose(HEAD, "") is bad
        tell(cluster, bad, 200, latency_s=20.0, now=START + 31)
        assert bad.is_on_probation
        tell(cluster, bad, 200, latency_s=0.5, now=START + 31)
        assert not bad.is_on_probation

    def test_request_that_was_given_up_gives_its_place_to_the_next(self) -> None:
        """A client that leaves decides nothing."""
        cluster, bad = self.ejected()
        assert cluster.choose(HEAD, "") is bad
        assert bad.host not in chosen(cluster)
        tell(cluster, bad, None, now=START + 31)
        assert bad.is_on_probation
        assert cluster.choose(HEAD, "") is bad

    def test_request_that_hangs_gives_its_place_to_another(self) -> None:
        """After twice the base time the next request is the one that tells."""
        cluster, bad = self.ejected()
        assert cluster.choose(HEAD, "") is bad
        bad.active += 1
        cluster.tick(START + 89)
        assert bad.host not in chosen(cluster)
        cluster.tick(START + 91)
        assert cluster.choose(HEAD, "") is bad

    def test_request_that_ended_and_told_nothing_gives_its_place_to_another(self) -> None:
        """One that our own limit refused, say: the next sweep sees that nothing is in flight there."""
        cluster, bad = self.ejected()
        assert cluster.choose(HEAD, "") is bad
        cluster.tick(START + 31)
        assert cluster.choose(HEAD, "") is bad

    def test_unhealthy_endpoint_waits_for_its_health(self) -> None:
        """The end of an ejection does not overrule the active checks."""
        cluster, bad = self.ejected()
        cluster.set_health(bad, Health.UNHEALTHY, START + 30)
        assert bad.host not in chosen(cluster)
        cluster.set_health(bad, Health.HEALTHY, START + 40)
        assert cluster.choose(HEAD, "") is bad


class TestComparison:
    """Against the others, once an interval."""

    def test_endpoint_that_fails_more_than_the_others_is_ejected(self) -> None:
        """One of six answers every fifth request with an error, never five in a row."""
        cluster = cluster_of(6, success_rate=SuccessRateSpec())
        for endpoint in cluster.endpoints:
            bad = [500, 200, 200, 200, 200] if endpoint.host == "e0" else [200] * 5
            tell(cluster, endpoint, *bad * 20)
        assert cluster.stats.ejections == 0
        cluster.tick(START + 10)
        assert chosen(cluster) == {"e1", "e2", "e3", "e4", "e5"}
        assert cluster.stats.ejections_success_rate == 1

    @pytest.mark.parametrize(("count", "requests"), [(4, 100), (6, 99)])
    def test_too_few_hosts_or_requests_are_not_compared(self, count: int, requests: int) -> None:
        """Chance must not eject."""
        cluster = cluster_of(count, success_rate=SuccessRateSpec())
        for endpoint in cluster.endpoints:
            tell(cluster, endpoint, *[500 if endpoint.host == "e0" and i % 2 else 200 for i in range(requests)])
        cluster.tick(START + 10)
        assert cluster.stats.ejections == 0

    def test_endpoint_slower_than_the_others_is_ejected(self) -> None:
        """More than three times the median of the others, and slow enough to matter."""
        cluster = cluster_of(4, latency=LatencySpec(request_volume=10))
        for endpoint in cluster.endpoints:
            tell(cluster, endpoint, *[200] * 10, latency_s=0.31 if endpoint.host == "e0" else 0.1)
        cluster.tick(START + 10)
        assert chosen(cluster) == {"e1", "e2", "e3"}
        assert cluster.stats.ejections_latency == 1

    @pytest.mark.parametrize(("slow_s", "others_s"), [(0.29, 0.1), (0.049, 0.001)])
    def test_endpoint_that_is_only_somewhat_slower_stays(self, slow_s: float, others_s: float) -> None:
        """Less than three times, or fast in absolute terms."""
        cluster = cluster_of(4, latency=LatencySpec(request_volume=10))
        for endpoint in cluster.endpoints:
            tell(cluster, endpoint, *[200] * 10, latency_s=slow_s if endpoint.host == "e0" else others_s)
        cluster.tick(START + 10)
        assert cluster.stats.ejections == 0

    def test_each_interval_begins_anew(self) -> None:
        """Ninety requests in one and ninety in the next are not a hundred."""
        cluster = cluster_of(6, success_rate=SuccessRateSpec())
        for second in (0, 10, 20):
            for endpoint in cluster.endpoints:
                tell(cluster, endpoint, *[500 if endpoint.host == "e0" and i % 2 else 200 for i in range(90)])
            cluster.tick(START + second + 10)
        assert cluster.stats.ejections == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"consecutive_5xx": -1},
        {"interval_s": 0},
        {"base_ejection_time_s": float("inf")},
        {"max_ejection_percent": 101},
        {"max_ejection_percent": -1},
    ],
)
def test_rules_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    """A spec is checked when it is made."""
    with pytest.raises(ValueError, match="expected"):
        OutlierSpec(**settings)  # type: ignore[arg-type]


def test_reload_keeps_ejections_and_turning_it_off_ends_them() -> None:
    """Other rules hold for what comes; without rules everybody is back, and nothing watches."""
    cluster = cluster_of()
    bad = cluster.endpoints[0]
    tell(cluster, bad, *[500] * 5)
    rules = OutlierSpec(consecutive_5xx=1)
    other = ClusterSpec("web", cluster.spec.endpoints, policy="round_robin", panic_threshold=0, outlier=rules)
    cluster.apply(other, other.static_addresses())
    assert bad.ejected_until
    tell(cluster, cluster.endpoints[1], 500)
    assert chosen(cluster, 40) == {"e2", "e3"}
    none = ClusterSpec("web", cluster.spec.endpoints, policy="round_robin")
    cluster.apply(none, none.static_addresses())
    assert chosen(cluster, 100) == {"e0", "e1", "e2", "e3"}
    assert (cluster.observer, cluster.stats.ejected, bad.ejections) == (None, 0, 0)


def test_every_cause_has_its_counter_and_ejections_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Who, why and for how long."""
    with caplog.at_level(logging.INFO, logger="sidecar.upstream"):
        cluster = cluster_of()
        tell(cluster, cluster.endpoints[0], *[500] * 5)
    assert caplog.messages == ["endpoint_ejected upstream=web endpoint=e0:80 cause=consecutive_5xx for_s=30"]
    causes = {name for name in COUNTS if name.startswith("ejections_")} - {"ejections_prevented"}
    assert sum(getattr(cluster.stats, name) for name in causes) == cluster.stats.ejections
    assert repr(cluster.outlier) == "<Outlier 1 of 4 ejected>"
