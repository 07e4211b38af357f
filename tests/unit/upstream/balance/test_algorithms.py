"""Balancing: the shares that each policy promises, and who keeps what when endpoints come and go."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from math import sqrt
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.message import RequestHead
from sidecar.net.address import parse_address
from sidecar.upstream.balance.algorithms import HashKey, HashRing
from sidecar.upstream.cluster import Cluster
from tests.unit.upstream.fakes import HEAD, cluster_of, head_with

SOURCE_IP = HashKey("source_ip")
POLICIES = ["round_robin", "least_request", "random", "hash"]


def choices(cluster: Cluster, number: int) -> list[str]:
    """Hosts of this many choices in a row."""
    chosen = [cluster.choose(HEAD, f"10.0.{i >> 8}.{i & 255}") for i in range(number)]
    return [endpoint.host for endpoint in chosen if endpoint is not None]


@pytest.mark.parametrize("policy", POLICIES)
class TestEveryPolicy:
    """What holds whatever the policy."""

    def key(self, policy: str) -> HashKey | None:
        return SOURCE_IP if policy == "hash" else None

    def test_no_endpoint_is_none(self, policy: str) -> None:
        """An empty cluster chooses None, which becomes the reason no_endpoint."""
        assert cluster_of(policy, [], self.key(policy)).choose(HEAD, "10.0.0.1") is None

    def test_only_endpoint_is_always_chosen(self, policy: str) -> None:
        """With one endpoint there is nothing to decide, not even by chance."""
        cluster = cluster_of(policy, [3], self.key(policy), random=lambda: pytest.fail("chance was asked"))
        assert choices(cluster, 3) == ["e0"] * 3

    def test_weight_zero_gets_nothing(self, policy: str) -> None:
        """An endpoint of weight 0 stays in the cluster and is never chosen."""
        cluster = cluster_of(policy, [1, 0, 2], self.key(policy))
        assert len(cluster.endpoints) == 3
        assert set(choices(cluster, 300)) == {"e0", "e2"}
        assert cluster_of(policy, [0, 0], self.key(policy)).choose(HEAD, "10.0.0.1") is None

    @given(data=st.data())
    def test_only_endpoints_of_the_cluster_are_chosen_whatever_chance_says(
        self, policy: str, data: st.DataObject
    ) -> None:
        """At the very edges of chance, and after any change of the addresses, no removed endpoint is chosen."""
        edges = st.sampled_from([0.0, 0.5, 1 - 2**-53])
        weights = data.draw(st.lists(st.floats(0.001, 1000), min_size=1, max_size=6))
        cluster = cluster_of(
            policy, weights, self.key(policy), random=lambda: data.draw(edges | st.floats(0, 1 - 2**-53))
        )
        for _ in range(3):
            names = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=6, unique=True))
            cluster.set_addresses({parse_address(f"e{i}:80"): data.draw(st.sampled_from([1.0, 2.5])) for i in names})
            for endpoint in cluster.endpoints:
                endpoint.active = data.draw(st.integers(0, 3))
            for peer in ("10.0.0.1", "10.0.0.2"):
                chosen = cluster.choose(HEAD, peer)
                assert chosen in cluster.endpoints
                assert chosen is not None
                assert not chosen.is_removed


class TestRoundRobin:
    """Exact shares in every period, spread over it."""

    def test_equal_weights_take_turns(self) -> None:
        """Each endpoint in turn, in the file's order, from wherever it began."""
        assert choices(cluster_of("round_robin", [1, 1, 1], random=lambda: 0.5), 7) == [
            f"e{i}" for i in (1, 2, 0, 1, 2, 0, 1)
        ]

    @given(weights=st.lists(st.integers(1, 20), min_size=2, max_size=8), start=st.floats(0, 1, exclude_max=True))
    def test_shares_are_exact_over_any_period(self, weights: list[int], start: float) -> None:
        """Wherever one begins to count, a period gives each endpoint exactly its weight."""
        cluster = cluster_of("round_robin", list(weights), random=lambda: start)
        counted = Counter(choices(cluster, sum(weights)))
        assert counted == {f"e{i}": weight for i, weight in enumerate(weights)}

    @given(
        weights=st.lists(st.integers(1, 50), min_size=2, max_size=8).filter(lambda weights: len(set(weights)) > 1),
        periods=st.integers(1, 3),
    )
    def test_turns_of_an_endpoint_are_spread_evenly(self, weights: list[int], periods: int) -> None:
        """After any number of choices an endpoint's count is off its share by less than the number of endpoints."""
        cluster = cluster_of("round_robin", list(weights), random=lambda: 0.0)
        counted: Counter[str] = Counter()
        for number, host in enumerate(choices(cluster, periods * sum(weights)), start=1):
            counted[host] += 1
            for i, weight in enumerate(weights):
                assert abs(counted[f"e{i}"] - number * weight / sum(weights)) < len(weights)

    def test_heavy_endpoint_never_waits_for_all_the_light_ones(self) -> None:
        """One endpoint of weight 100 among 100 of weight 1 comes about every other time."""
        hosts = choices(cluster_of("round_robin", [100] + [1] * 100, random=lambda: 0.0), 400)
        turns = [i for i, host in enumerate(hosts) if host == "e0"]
        assert len(turns) == 200
        assert max(after - before for before, after in pairwise(turns)) <= 5

    @pytest.mark.parametrize(
        ("weights", "counts"),
        [([0.5, 1.5], [1, 3]), ([95, 5], [19, 1]), ([1 / 3, 2 / 3], [1, 2]), ([0.1, 0.2], [1, 2])],
    )
    def test_fractions_are_as_exact_as_whole_numbers(self, weights: list[float], counts: list[int]) -> None:
        """Weights are taken in lowest terms, so that the period is as short as it can be."""
        hosts = choices(cluster_of("round_robin", weights, random=lambda: 0.0), sum(counts) * 5)
        assert [hosts.count("e0"), hosts.count("e1")] == [count * 5 for count in counts]

    def test_answer_that_changes_nothing_does_not_disturb_the_turn(self) -> None:
        """Refreshing DNS every five seconds does not begin the round again."""
        cluster = cluster_of("round_robin", [1, 1, 1], random=lambda: 0.0)
        hosts = []
        for _ in range(6):
            hosts += choices(cluster, 1)
            cluster.set_addresses({parse_address(f"e{i}:80"): 1 for i in range(3)})
        assert hosts == ["e0", "e1", "e2"] * 2


class TestLeastRequest:
    """Power of two choices by exchanges in flight per weight."""

    @pytest.mark.parametrize("weights", [[1, 1], [1, 3]])
    def test_of_two_endpoints_the_less_busy_is_always_chosen(self, weights: list[float]) -> None:
        """With two endpoints both are looked at, so chance decides ties only."""
        cluster = cluster_of("least_request", weights)
        cluster.endpoints[0].active = 5
        assert set(choices(cluster, 100)) == {"e1"}

    def test_busyness_is_relative_to_weight(self) -> None:
        """Three exchanges on weight 4 are less than one on weight 1."""
        cluster = cluster_of("least_request", [1, 4])
        cluster.endpoints[0].active, cluster.endpoints[1].active = 1, 3
        assert set(choices(cluster, 100)) == {"e1"}
        cluster.endpoints[1].active = 5
        assert set(choices(cluster, 100)) == {"e0"}

    @pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 1, 2, 4]])
    def test_busiest_of_many_is_never_chosen(self, weights: list[float]) -> None:
        """Two different endpoints are drawn, so the busiest always loses."""
        cluster = cluster_of("least_request", weights)
        cluster.endpoints[3].active = 100
        assert set(choices(cluster, 2000)) == {"e0", "e1", "e2"}

    @pytest.mark.parametrize("weights", [[1, 1], [1, 1, 1], [1, 2], [1, 2, 5]])
    def test_at_rest_each_gets_its_share(self, weights: list[float]) -> None:
        """Ties are decided by weight: an idle cluster is not served by its first endpoint alone."""
        number = 20_000
        counted = Counter(choices(cluster_of("least_request", weights, random=Random(7).random), number))
        for i, weight in enumerate(weights):
            share = weight / sum(weights)
            assert abs(counted[f"e{i}"] - number * share) < 5 * sqrt(number * share * (1 - share))

    def test_slow_endpoint_gets_what_it_finishes(self) -> None:
        """When one endpoint holds each exchange ten times as long, it gets far less than its third."""
        cluster = cluster_of("least_request", [1, 1, 1], random=Random(7).random)
        in_flight: list[tuple[int, int]] = []
        counted: Counter[str] = Counter()
        for now in range(3000):
            for end, i in [entry for entry in in_flight if entry[0] <= now]:
                in_flight.remove((end, i))
                cluster.endpoints[i].active -= 1
            endpoint = cluster.choose(HEAD, "10.0.0.1")
            assert endpoint is not None
            counted[endpoint.host] += 1
            endpoint.active += 1
            in_flight.append((now + (100 if endpoint.host == "e0" else 10), int(endpoint.host[1:])))
        assert counted["e0"] < 3000 * 0.12


class TestRandom:
    """Shares by chance."""

    @pytest.mark.parametrize("weights", [[1, 1, 1], [1, 2, 5]])
    def test_each_gets_its_share(self, weights: list[float]) -> None:
        """Shares come out as the weights say, within five standard deviations."""
        number = 20_000
        counted = Counter(choices(cluster_of("random", weights, random=Random(7).random), number))
        for i, weight in enumerate(weights):
            share = weight / sum(weights)
            assert abs(counted[f"e{i}"] - number * share) < 5 * sqrt(number * share * (1 - share))


class TestHash:
    """Consistent hashing."""

    KEYS = tuple(f"user-{i}" for i in range(2000))

    def owners(self, cluster: Cluster) -> dict[str, str]:
        chosen = {key: cluster.choose(HEAD, key) for key in self.KEYS}
        return {key: endpoint.host for key, endpoint in chosen.items() if endpoint is not None}

    @given(size=st.integers(2, 12), leaves=st.integers(0, 11))
    def test_only_keys_of_the_endpoint_that_leaves_move(self, size: int, leaves: int) -> None:
        """When an endpoint goes, keys of the others stay; when it comes back, it gets exactly its own again."""
        leaves %= size
        cluster = cluster_of("hash", [1] * size, SOURCE_IP)
        before = self.owners(cluster)
        everyone = {parse_address(f"e{i}:80"): 1.0 for i in range(size)}
        cluster.set_addresses({address: 1.0 for i, address in enumerate(everyone) if i != leaves})
        after = self.owners(cluster)
        moved = [key for key in self.KEYS if before[key] != after[key]]
        assert {before[key] for key in moved} <= {f"e{leaves}"}
        assert len(moved) <= 1.6 * len(self.KEYS) / size
        cluster.set_addresses(everyone)
        assert self.owners(cluster) == before

    @pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 2, 5]])
    def test_shares_follow_the_weights(self, weights: list[float]) -> None:
        """Keys fall by weight, within what 128 points of an endpoint can do."""
        counted = Counter(self.owners(cluster_of("hash", weights, SOURCE_IP)).values())
        for i, weight in enumerate(weights):
            assert counted[f"e{i}"] == pytest.approx(len(self.KEYS) * weight / sum(weights), rel=0.4)

    def test_order_in_the_file_does_not_matter(self) -> None:
        """Two sidecars whose files list the same addresses differently agree about every key."""
        forwards, backwards = (cluster_of("hash", [1] * 5, SOURCE_IP) for _ in range(2))
        backwards.set_addresses({parse_address(f"e{i}:80"): 1 for i in reversed(range(5))})
        assert self.owners(forwards) == self.owners(backwards)

    def test_choice_is_the_same_in_every_process(self) -> None:
        """Python's hash() differs from process to process; the ring does not."""
        code = (
            "from tests.unit.upstream.balance.test_algorithms import *\n"
            "print(','.join(TestHash().owners(cluster_of('hash', [1, 2, 3], SOURCE_IP)).values()))"
        )
        outputs = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                cwd=Path(__file__).parents[4],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert outputs == {",".join(self.owners(cluster_of("hash", [1, 2, 3], SOURCE_IP)).values()) + "\n"}

    def test_ring_stays_what_it_was(self) -> None:
        """A new version of the sidecar must not move users: these choices are fixed for ever."""
        owners = self.owners(cluster_of("hash", [1, 1, 1], SOURCE_IP))
        assert [owners[f"user-{i}"] for i in range(8)] == ["e1", "e1", "e1", "e0", "e1", "e2", "e2", "e0"]

    def test_large_cluster_has_a_ring_of_bounded_size(self) -> None:
        """A thousand endpoints are a ring that is built in milliseconds, and each still gets some keys."""
        cluster = cluster_of("hash", [1] * 1000, SOURCE_IP)
        ring = HashRing(cluster.endpoints, SOURCE_IP.reader(), Random(7).random)
        assert len(ring._points) <= 32_000
        assert set(ring._owners) == set(cluster.endpoints)

    def test_request_without_the_key_goes_anywhere(self) -> None:
        """No header, or an empty one, is no key: such requests are spread by weight, not all sent to one endpoint."""
        cluster = cluster_of("hash", [1, 1, 1], HashKey("header", b"x-user"), random=Random(7).random)
        for head in (HEAD, head_with(b"x-user", b"")):
            chosen = Counter(endpoint.host for _ in range(600) if (endpoint := cluster.choose(head, "10.0.0.1")))
            assert min(chosen.values()) > 100

    def test_header_key_joins_repeated_fields(self) -> None:
        """A header that comes several times is hashed on its values joined, as it is matched."""
        read = HashKey("header", b"x-user").reader()
        assert read(head_with(b"x-user", b"a", b"b"), "") == b"a, b"
        assert read(HEAD, "") is None

    def test_cookie_and_query_keys_come_from_the_injected_extractor(self) -> None:
        """Only routing parses cookies and queries: the key is refused without its function, and used with it."""

        def extract(head: RequestHead, peer_ip: str) -> bytes | None:
            return b"uid-of-" + head.method

        assert HashKey("cookie", b"uid", extract).reader()(HEAD, "") == b"uid-of-GET"
        assert HashKey("cookie", b"uid", extract) == HashKey("cookie", b"uid", lambda head, peer_ip: None)
        with pytest.raises(ValueError, match="extractor"):
            HashKey("query", b"uid")
