"""Which endpoints are used: health, panic, slow start, zones; and choosing by latency."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from sidecar import errors
from sidecar.net.address import parse_address
from sidecar.upstream.balance import ewma, usable
from sidecar.upstream.balance.algorithms import HashKey
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Health
from tests.unit.upstream.fakes import HEAD


def cluster_of(count: int = 4, weight: float = 1.0, **settings: object) -> Cluster:
    endpoints = tuple((f"e{i}:80", weight) for i in range(count))
    return Cluster(ClusterSpec("web", endpoints, **settings))  # type: ignore[arg-type]


def shares(cluster: Cluster, count: int = 4000) -> dict[str, float]:
    """Part of the choices that each endpoint gets, to a hundredth."""
    hosts = Counter(endpoint.host for _ in range(count) if (endpoint := cluster.choose(HEAD, "")))
    return {host: round(number / count, 2) for host, number in sorted(hosts.items())}


class TestHealth:
    """What the active checks say decides, unless too many are ill."""

    def test_unhealthy_endpoint_gets_nothing(self) -> None:
        """And gets its share again when it is well."""
        cluster = cluster_of(policy="round_robin")
        cluster.set_health(cluster.endpoints[1], Health.UNHEALTHY, 1.0)
        assert shares(cluster).keys() == {"e0", "e2", "e3"}
        assert cluster.stats.unhealthy == 1
        cluster.set_health(cluster.endpoints[1], Health.HEALTHY, 2.0)
        assert shares(cluster).keys() == {"e0", "e1", "e2", "e3"}
        assert cluster.stats.unhealthy == 0

    def test_endpoint_that_was_not_checked_yet_is_used(self) -> None:
        """A start does not wait for the first checks."""
        assert cluster_of().endpoints[0].standing == "unchecked"
        assert usable.is_usable(cluster_of().endpoints[0])

    def test_weight_zero_stays_without_traffic_in_panic_too(self) -> None:
        """It counts for nothing."""
        cluster = Cluster(ClusterSpec("web", (("a:80", 0.0), ("b:80", 1.0))))
        cluster.set_health(cluster.endpoints[1], Health.UNHEALTHY, 1.0)
        assert cluster.is_panicking
        assert shares(cluster) == {"b": 1.0}


class TestPanic:
    """When too few are usable, all are used."""

    def test_below_the_threshold_all_are_used_and_it_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        """Two of four are half, which is enough; one is not."""
        cluster = cluster_of(policy="round_robin")
        with caplog.at_level(logging.INFO, logger="sidecar.upstream"):
            for endpoint in cluster.endpoints[:2]:
                cluster.set_health(endpoint, Health.UNHEALTHY, 1.0)
            assert (cluster.is_panicking, len(shares(cluster))) == (False, 2)
            cluster.set_health(cluster.endpoints[2], Health.UNHEALTHY, 1.0)
            assert (cluster.is_panicking, cluster.stats.panic, cluster.stats.panics) == (True, 1, 1)
            assert len(shares(cluster)) == 4
            cluster.set_health(cluster.endpoints[3], Health.UNHEALTHY, 1.0)
            assert len(shares(cluster)) == 4
            for endpoint in cluster.endpoints[:2]:
                cluster.set_health(endpoint, Health.HEALTHY, 2.0)
        assert (cluster.is_panicking, cluster.stats.panic, cluster.stats.panics) == (False, 0, 1)
        assert shares(cluster).keys() == {"e0", "e1"}
        assert caplog.messages == [
            "upstream_panic upstream=web usable=1 total=4",
            "upstream_panic_over upstream=web usable=2",
        ]

    def test_threshold_zero_never_panics(self) -> None:
        """Then an upstream without a healthy endpoint has none."""
        cluster = cluster_of(panic_threshold=0)
        for endpoint in cluster.endpoints:
            cluster.set_health(endpoint, Health.UNHEALTHY, 1.0)
        assert cluster.choose(HEAD, "") is None
        assert cluster.choose_other(HEAD, "", ()) is None

    def test_reload_without_checks_forgets_what_they_said(self) -> None:
        """Nobody would ever correct it."""
        cluster = cluster_of()
        for endpoint in cluster.endpoints:
            cluster.set_health(endpoint, Health.UNHEALTHY, 1.0)
        cluster.apply(cluster.spec, cluster.spec.static_addresses())
        assert (cluster.is_panicking, cluster.stats.unhealthy) == (False, 0)


class TestSlowStart:
    """An endpoint that comes back warms up."""

    @pytest.mark.parametrize("policy", ["round_robin", "random", "least_request"])
    def test_share_grows_linearly(self, policy: str) -> None:
        """A tenth at first, half at half time, all in the end."""
        cluster = cluster_of(2, policy=policy, slow_start_s=30.0)
        back = cluster.endpoints[0]
        cluster.set_health(back, Health.UNHEALTHY, 100.0)
        cluster.set_health(back, Health.HEALTHY, 1000.0)
        assert shares(cluster)["e0"] == pytest.approx(0.1 / 1.1, abs=0.03)
        cluster.tick(1015.0)
        assert back.share == 0.5
        assert shares(cluster)["e0"] == pytest.approx(0.5 / 1.5, abs=0.03)
        cluster.tick(1030.0)
        assert back.share == 1.0
        assert shares(cluster)["e0"] == pytest.approx(0.5, abs=0.03)

    def test_endpoints_of_the_start_are_warm(self) -> None:
        """Nobody else could serve meanwhile; one that DNS adds later is cold."""
        cluster = Cluster(ClusterSpec("web", dns=("web", 80), slow_start_s=30.0))
        one, two = parse_address("10.0.0.1:80"), parse_address("10.0.0.2:80")
        cluster.set_addresses({one: 1.0}, 500.0)
        assert cluster.endpoints[0].share == 1.0
        cluster.set_addresses({one: 1.0, two: 1.0}, 501.0)
        assert [endpoint.share for endpoint in cluster.endpoints] == [1.0, 0.1]

    def test_hash_moves_no_key_for_it(self) -> None:
        """A key that moved would move back half a minute later."""
        cluster = cluster_of(2, policy="hash", hash_key=HashKey("source_ip"), slow_start_s=30.0)
        before = [cluster.choose(HEAD, f"10.0.0.{i}") for i in range(200)]
        cluster.set_health(cluster.endpoints[0], Health.UNHEALTHY, 100.0)
        cluster.set_health(cluster.endpoints[0], Health.HEALTHY, 1000.0)
        assert [cluster.choose(HEAD, f"10.0.0.{i}") for i in range(200)] == before


class TestZones:
    """The own zone first, as far as it bears."""

    def cluster(self) -> Cluster:
        zones = tuple((f"e{i}:80", "a" if i < 4 else "b") for i in range(8))
        return cluster_of(8, policy="random", zone="a", zones=zones, panic_threshold=0)

    def test_own_zone_takes_all_while_it_can(self) -> None:
        """Three of its four endpoints bear everything (1.4 * 3/4 > 1)."""
        cluster = self.cluster()
        assert shares(cluster).keys() == {"e0", "e1", "e2", "e3"}
        cluster.set_health(cluster.endpoints[0], Health.UNHEALTHY, 1.0)
        assert shares(cluster).keys() == {"e1", "e2", "e3"}

    def test_what_it_cannot_bear_spills_over(self) -> None:
        """With two of four it keeps 70 %, with one 35 %, with none nothing."""
        cluster = self.cluster()
        for ill, part in ((2, 0.7), (3, 0.35), (4, 0.0)):
            for endpoint in cluster.endpoints[:ill]:
                cluster.set_health(endpoint, Health.UNHEALTHY, 1.0)
            near = sum(share for host, share in shares(cluster).items() if host < "e4")
            assert near == pytest.approx(part, abs=0.03)

    def test_zone_without_endpoints_is_no_preference(self) -> None:
        """A sidecar in a third zone uses all."""
        zones = tuple((f"e{i}:80", "a" if i < 4 else "b") for i in range(8))
        assert len(shares(cluster_of(8, zone="c", zones=zones))) == 8


class TestPeakEwma:
    """Choosing by latency."""

    def test_slow_endpoint_gets_little(self) -> None:
        """Of three, the one that takes ten times as long loses against both others."""
        cluster = cluster_of(3, policy="peak_ewma")
        assert cluster.observer is not None
        for endpoint in cluster.endpoints:
            cluster.observer(endpoint, 200, None, 0.5 if endpoint.host == "e0" else 0.05, 10.0)
        assert shares(cluster).keys() == {"e1", "e2"}

    def test_load_counts_as_much_as_latency(self) -> None:
        """Ten requests in flight at the fast one, none at the one that is five times slower."""
        cluster = cluster_of(2, policy="peak_ewma")
        fast, slow = cluster.endpoints
        ewma.observe(fast, 0.01, True, 1.0)
        ewma.observe(slow, 0.05, True, 1.0)
        assert shares(cluster) == {"e0": 1.0}
        fast.active = 10
        assert shares(cluster) == {"e1": 1.0}

    def test_peak_is_taken_at_once_and_left_slowly(self) -> None:
        """One slow answer counts fully; ten seconds of fast ones take two thirds of it away."""
        endpoint = cluster_of().endpoints[0]
        ewma.observe(endpoint, 0.01, True, 1.0)
        ewma.observe(endpoint, 1.0, True, 1.0)
        assert endpoint.latency_s == 1.0
        ewma.observe(endpoint, 0.0, True, 11.0)
        assert endpoint.latency_s == pytest.approx(0.368, abs=0.001)

    def test_error_that_comes_fast_makes_nobody_look_fast(self) -> None:
        """An endpoint that fails at once must not draw all requests; a slow failure counts."""
        cluster = cluster_of(2, policy="peak_ewma")
        endpoint = cluster.endpoints[0]
        assert cluster.observer is not None
        cluster.observer(endpoint, 200, None, 0.1, 1.0)
        cluster.observer(endpoint, 500, None, 0.001, 2.0)
        cluster.observer(endpoint, 0, errors.UPSTREAM_RESET, 0.001, 2.0)
        assert endpoint.latency_s == 0.1
        cluster.observer(endpoint, 0, errors.RESPONSE_TIMEOUT, 2.0, 3.0)
        assert endpoint.latency_s == 2.0

    def test_answer_that_breaks_off_is_not_measured_twice(self) -> None:
        """How long a download had lasted is no latency."""
        cluster = cluster_of(2, policy="peak_ewma")
        endpoint = cluster.endpoints[0]
        assert cluster.observer is not None
        cluster.observer(endpoint, 200, None, 0.1, 1.0)
        cluster.observer(endpoint, 0, errors.RESPONSE_CUT, 60.0, 61.0)
        assert endpoint.latency_s == 0.1

    def test_endpoint_that_always_loses_is_tried_again(self) -> None:
        """What is not measured becomes faster, so that a recovery is seen."""
        cluster = cluster_of(2, policy="peak_ewma")
        good, bad = cluster.endpoints
        ewma.observe(bad, 1.0, True, 0.0)
        for second in range(1, 60):
            ewma.observe(good, 0.05, True, float(second))
            cluster.tick(float(second))
            if cluster.choose(HEAD, "") is bad:
                break
        assert 20 < second < 40

    def test_newcomer_is_taken_to_be_like_the_others(self) -> None:
        """An endpoint without a measurement would otherwise look infinitely fast."""
        cluster = Cluster(ClusterSpec("web", dns=("web", 80), policy="peak_ewma"))
        addresses = {parse_address(f"10.0.0.{i}:80"): 1.0 for i in range(1, 4)}
        cluster.set_addresses(addresses, 1.0)
        for endpoint, latency_s in zip(cluster.endpoints, (0.1, 0.2, 0.3), strict=True):
            ewma.observe(endpoint, latency_s, True, 1.0)
        cluster.set_addresses({**addresses, parse_address("10.0.0.9:80"): 1.0}, 2.0)
        assert cluster.endpoints[3].latency_s == pytest.approx(0.2)

    def test_weights_are_shares_at_rest(self) -> None:
        """With equal latencies a heavy endpoint gets its part more."""
        endpoints = (("e0:80", 3.0), ("e1:80", 1.0))
        cluster = Cluster(ClusterSpec("web", endpoints, policy="peak_ewma"))
        for endpoint in cluster.endpoints:
            ewma.observe(endpoint, 0.05, True, 1.0)
        assert shares(cluster)["e0"] == pytest.approx(0.75, abs=0.03)
        cluster.endpoints[0].active = 30
        assert shares(cluster)["e0"] < 0.6


class TestOther:
    """Another endpoint for another attempt."""

    def test_untried_endpoint_is_found_if_there_is_one(self) -> None:
        """Whatever chance says: with three of four tried it is the fourth."""
        cluster = cluster_of(policy="random")
        tried = set(cluster.endpoints[:3])
        assert {cluster.choose_other(HEAD, "", tried) for _ in range(100)} == {cluster.endpoints[3]}

    def test_unusable_endpoint_is_not_the_other(self) -> None:
        """Better the same again than one that is known to be ill."""
        cluster = cluster_of(3, policy="random", panic_threshold=0)
        cluster.set_health(cluster.endpoints[0], Health.UNHEALTHY, 1.0)
        cluster.set_health(cluster.endpoints[1], Health.UNHEALTHY, 1.0)
        assert cluster.choose_other(HEAD, "", {cluster.endpoints[2]}) is cluster.endpoints[2]

    def test_key_of_a_hash_goes_elsewhere(self) -> None:
        """The ring would name the same endpoint each time."""
        cluster = cluster_of(policy="hash", hash_key=HashKey("source_ip"))
        first = cluster.choose(HEAD, "10.0.0.1")
        assert first is not None
        assert cluster.choose_other(HEAD, "10.0.0.1", {first}) is not first

    def test_single_endpoint_is_named_again(self) -> None:
        """Whether that is worth a try is for the caller."""
        cluster = cluster_of(1)
        assert cluster.choose_other(HEAD, "", set(cluster.endpoints)) is cluster.endpoints[0]


def test_nothing_watches_a_cluster_that_is_not_told_to() -> None:
    """Without settings the proxy has nothing to call and nothing to count."""
    cluster = cluster_of(policy="round_robin")
    assert (cluster.observer, cluster.breaker, cluster.outlier) == (None, None, None)
    assert not cluster.spec.needs_ticks


@pytest.mark.parametrize("settings", [{"panic_threshold": 101}, {"panic_threshold": -1}, {"slow_start_s": -1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    """A spec is checked when it is made."""
    with pytest.raises(ValueError, match="web: expected"):
        ClusterSpec("web", **settings)  # type: ignore[arg-type]
