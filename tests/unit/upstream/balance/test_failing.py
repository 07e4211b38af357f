"""An endpoint that fails fast gets no more than its share, whatever the load: simulated, with the real cluster."""

from __future__ import annotations

from random import Random

import pytest

from sidecar import errors
from sidecar.upstream.balance import failing
from sidecar.upstream.balance.algorithms import Policy
from sidecar.upstream.balance.failing import NEGLIGIBLE, TELLING_STATUS, is_failure
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import NO_STATUS, Endpoint
from sidecar.upstream.health.outlier import OutlierSpec
from tests.unit.upstream.fakes import HEAD
from tests.unit.upstream.simulated import Balancing, Server

POLICIES: list[Policy] = ["least_request", "peak_ewma"]
CHANCE = 1.08
"""Of what a share may be above what it is in the long run: some 5,000 draws are counted and not infinitely many."""


def balancing(policy: Policy, servers: list[Server], rate: float, weights: list[float] | None = None) -> Balancing:
    addresses = tuple((f"e{i}:80", weight) for i, weight in enumerate(weights or [1.0] * len(servers)))
    return Balancing(Cluster(ClusterSpec("web", addresses, policy=policy), Random(3).random), servers, rate)


@pytest.mark.parametrize("policy", POLICIES)
class TestShare:
    """Answers take 50 ms, refusals 1 ms: without regard to failures, the endpoint that refuses is always the idlest."""

    @pytest.mark.parametrize("rate", [100, 1000])
    @pytest.mark.parametrize("size", [2, 3, 10])
    @pytest.mark.parametrize("part", [1.0, 0.5, 0.2])
    def test_endpoint_that_fails_fast_gets_at_most_its_share(
        self, policy: Policy, size: int, rate: float, part: float
    ) -> None:
        """All of its answers or a part of them; it got 66 % of the requests to three, 99 % of those to two."""
        simulation = balancing(policy, [Server(bad_part=part), *(Server() for _ in range(size - 1))], rate)
        simulation.run(1)
        shares = simulation.run(5000 / rate)
        assert 0.4 / size < shares[0] < CHANCE / size
        assert max(shares[1:]) < 1.4 / size

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_every_kind_of_refusal_counts(self, policy: Policy, status: int) -> None:
        """A server that answers 429 would draw the more requests the more it refuses."""
        simulation = balancing(policy, [Server(bad_part=1, status=status), Server(), Server()], 1000)
        simulation.run(1)
        assert simulation.run(5)[0] < CHANCE / 3

    @pytest.mark.parametrize("weights", [[1.0, 9.0], [9.0, 1.0], [1.0, 2.0, 3.0]])
    def test_share_is_by_weight(self, policy: Policy, weights: list[float]) -> None:
        """A light endpoint that fails stays light."""
        servers = [Server(bad_part=1), *(Server() for _ in weights[1:])]
        simulation = balancing(policy, servers, 500, weights)
        simulation.run(1)
        assert simulation.run(10)[0] < CHANCE * weights[0] / sum(weights)

    def test_endpoint_that_fails_slowly_is_still_avoided(self, policy: Policy) -> None:
        """Requests that hang in it for seconds count as they did."""
        simulation = balancing(policy, [Server(bad_part=1, bad_s=5), Server(), Server()], 500)
        simulation.run(5)
        assert simulation.run(10)[0] < 0.05

    def test_failures_of_all_leave_the_shares_equal(self, policy: Policy) -> None:
        """An app with a fault fails everywhere; nobody is to blame more than the others."""
        simulation = balancing(policy, [Server(bad_part=0.05, bad_s=0.05) for _ in range(3)], 500)
        simulation.run(5)
        assert all(0.28 < share < 0.39 for share in simulation.run(20))

    def test_endpoint_that_recovers_has_its_share_at_once_and_the_cluster_its_plain_policy(
        self, policy: Policy
    ) -> None:
        """It was never without requests, so nothing has to be waited for."""
        simulation = balancing(policy, [Server(bad_part=1), Server(), Server()], 500)
        simulation.run(5)
        next(iter(simulation.servers.values())).bad_part = 0.0
        assert simulation.run(5)[0] > 0.25
        assert all(endpoint.failing == 0 for endpoint in simulation.cluster.endpoints)
        assert simulation.cluster.choose == simulation.cluster._choose_plainly


class TestCost:
    """What is paid while nothing fails: nothing."""

    @staticmethod
    def cluster_of(size: int, policy: Policy = "least_request", outlier: OutlierSpec | None = None) -> Cluster:
        addresses = tuple((f"e{i}:80", 1.0) for i in range(size))
        return Cluster(ClusterSpec("web", addresses, policy=policy, outlier=outlier))

    @pytest.mark.parametrize(
        ("size", "policy", "outlier", "observed"),
        [
            (1, "least_request", None, NO_STATUS),
            (2, "least_request", None, TELLING_STATUS),
            (2, "round_robin", None, NO_STATUS),
            (2, "random", None, NO_STATUS),
            (2, "peak_ewma", None, 0),
            (1, "least_request", OutlierSpec(), 0),
        ],
    )
    def test_good_answers_are_told_only_to_who_needs_them(
        self, size: int, policy: Policy, outlier: OutlierSpec | None, observed: int
    ) -> None:
        """By default only failures are, and only where there is a choice that they could disturb."""
        cluster = self.cluster_of(size, policy, outlier)
        assert cluster.observes_from == observed
        assert (cluster.observer is None) == (observed == NO_STATUS)

    def test_a_failure_is_forgotten_after_good_answers(self) -> None:
        """Until then good answers are told, too; then the policy is the plain one again."""
        cluster = self.cluster_of(3)
        plain, endpoint = cluster.choose, cluster.endpoints[0]
        cluster.report(endpoint, 503, None, 0.001, 1.0)
        assert cluster.observes_from == 0
        assert cluster.choose != plain
        for _ in range(14):
            cluster.report(endpoint, 200, None, 0.001, 1.0)
        assert (endpoint.failing, cluster.observes_from, cluster.choose) == (0.0, TELLING_STATUS, plain)

    def test_a_failing_endpoint_that_leaves_takes_its_failures_along(self) -> None:
        """A new set of endpoints begins with what those that stay have done."""
        cluster = self.cluster_of(3)
        first = cluster.endpoints[0]
        cluster.report(first, 503, None, 0.001, 1.0)
        rest = ClusterSpec("web", (("e1:80", 1.0), ("e2:80", 1.0)))
        cluster.apply(rest, rest.static_addresses())
        assert cluster.observes_from == TELLING_STATUS
        cluster.report(first, 503, None, 0.001, 1.0)
        assert cluster.observes_from == TELLING_STATUS

    def test_endpoint_on_probation_is_named_first_all_the_same(self) -> None:
        """The failures of another change what is chosen after it."""
        cluster = self.cluster_of(3, outlier=OutlierSpec(consecutive_5xx=1, base_ejection_time_s=1))
        ejected, other = cluster.endpoints[:2]
        cluster.report(ejected, 503, None, 0.001, 1.0)
        cluster.tick(3.0)
        cluster.report(other, 429, None, 0.001, 3.0)
        assert cluster.choose(HEAD, "") is ejected


@pytest.mark.parametrize(
    ("status", "failure", "expected"),
    [
        (200, None, False),
        (404, None, False),
        (429, None, True),
        (500, None, True),
        (0, None, None),
        (0, errors.UPSTREAM_RESET, True),
        (0, errors.CONNECT_FAILED, True),
        (200, errors.RESPONSE_CUT, True),
        (0, errors.CLIENT_LEFT, None),
        (0, errors.PENDING_TIMEOUT, None),
    ],
)
def test_what_is_a_failure(status: int, failure: errors.Reason | None, expected: bool | None) -> None:
    """What the client or the sidecar did says nothing about the endpoint."""
    assert is_failure(status, failure) is expected


def test_part_of_failures_stays_between_nothing_and_all() -> None:
    """However many come."""
    endpoint: Endpoint = TestCost.cluster_of(1).endpoints[0]
    for _ in range(200):
        failing.learn(endpoint, True)
    assert 0.99 < endpoint.failing <= 1.0
    seen = []
    while endpoint.failing:
        failing.learn(endpoint, False)
        seen.append(endpoint.failing)
    assert len(seen) == 30
    assert min(seen[:-1]) >= NEGLIGIBLE
