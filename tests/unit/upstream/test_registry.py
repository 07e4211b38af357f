"""The registry: what a reload and a DNS answer change, what they keep, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidecar.net.resolve import Resolver
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.registry import Registry
from tests.support.held_loop import HeldLoop, run_held
from tests.support.thoroughness import examples
from tests.unit.upstream.fakes import HEAD, FakeConnection


class Names:
    """A name server that the test edits: addresses, an empty list, an error text, or None to hang."""

    def __init__(self, **answers: Sequence[str] | None) -> None:
        self.answers: dict[str, Sequence[str] | None] = dict(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        answer = self.answers.get(name, "no such name")
        if answer is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
        if isinstance(answer, str):
            raise OSError(answer)
        return answer


def registry_of(names: Names) -> Registry:
    return Registry(Resolver(names), random=lambda: 0.0)


async def reload(registry: Registry, *specs: ClusterSpec) -> dict[str, Cluster]:
    """One whole reload."""
    return (await registry.prepare(specs, timeout_s=2.0)).commit()


def labels(cluster: Cluster) -> list[str]:
    return [endpoint.label for endpoint in cluster.endpoints]


def refreshing() -> list[str]:
    """Names of the refresh tasks that run."""
    return sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("dns "))


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="sidecar.upstream"):
        yield caplog


def test_unchanged_upstream_keeps_object_connections_and_counters() -> None:
    """A reload with an equal spec touches nothing."""

    async def main() -> None:
        registry = registry_of(Names())
        spec = ClusterSpec("web", (("a:80", 1),))
        web = (await reload(registry, spec))["web"]
        connection = FakeConnection(web.endpoints[0])
        web.stats.requests = 7
        choose, endpoints = web.choose, web.endpoints
        after = await reload(registry, ClusterSpec("web", (("a:80", 1),)))
        assert after["web"] is web
        assert (web.choose, web.endpoints, web.stats.requests) == (choose, endpoints, 7)
        assert connection.closed == []
        assert registry.clusters == {"web": web}

    run_held(main())


def test_changed_upstream_keeps_the_endpoints_of_unchanged_addresses() -> None:
    """New timeouts and another second address: the first address keeps its endpoint and connection."""

    async def main() -> None:
        registry = registry_of(Names())
        web = (await reload(registry, ClusterSpec("web", (("a:80", 1), ("b:80", 1)))))["web"]
        kept, gone = web.endpoints
        connections = [FakeConnection(kept), FakeConnection(gone)]
        after = await reload(registry, ClusterSpec("web", (("a:80", 1), ("c:80", 1)), connect_timeout_s=5))
        assert after["web"] is web
        assert web.endpoints[0] is kept
        assert labels(web) == ["a:80", "c:80"]
        assert web.connect_timeout_s == 5
        assert [connection.closed for connection in connections] == [[], ["endpoint_removed"]]

    run_held(main())


def test_removed_upstream_closes_its_connections_and_ends_its_refreshing() -> None:
    """An upstream that left the file keeps neither a connection nor a task; one of its name later is a new one."""

    async def main() -> None:
        registry = registry_of(Names(web=["10.0.0.1"]))
        web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
        connection = FakeConnection(web.endpoints[0])
        assert refreshing() == ["dns web"]
        assert await reload(registry) == {}
        assert connection.closed == ["upstream_removed"]
        await asyncio.sleep(0)
        assert refreshing() == []
        again = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
        assert again is not web
        await registry.stop()

    run_held(main())


def test_nothing_changes_before_commit_nor_by_abandon() -> None:
    """A preparation shows the clusters to come; until it is committed the live ones are as they were."""

    async def main() -> None:
        registry = registry_of(Names(new=["10.0.0.9"]))
        web = (await reload(registry, ClusterSpec("web", (("a:80", 1),))))["web"]
        preparation = await registry.prepare(
            [ClusterSpec("web", (("b:80", 1),)), ClusterSpec("new", dns=("new", 80))], 2
        )
        assert preparation.clusters["web"] is web
        assert labels(web) == ["a:80"]
        assert registry.clusters == {"web": web}
        preparation.abandon()
        assert refreshing() == []
        with pytest.raises(RuntimeError, match="over"):
            preparation.commit()
        assert labels(web) == ["a:80"]
        assert registry.clusters == {"web": web}

    run_held(main())


def test_preparation_that_another_reload_overtook_is_refused() -> None:
    """Committing an old view of the clusters would undo the newer one."""

    async def main() -> None:
        registry = registry_of(Names())
        older = await registry.prepare([ClusterSpec("old", (("a:80", 1),))], 2)
        await reload(registry, ClusterSpec("new", (("a:80", 1),)))
        with pytest.raises(RuntimeError, match="no other reload"):
            older.commit()
        assert set(registry.clusters) == {"new"}

    run_held(main())


def test_same_name_twice_is_refused() -> None:
    """Two clusters of one name would be one of them at random."""
    with pytest.raises(ValueError, match="'web' twice"):
        run_held(registry_of(Names()).prepare([ClusterSpec("web"), ClusterSpec("web")], 2))


class TestDns:
    """Addresses from DNS, on a held clock."""

    def test_every_record_is_an_endpoint_before_the_first_request(self) -> None:
        """The first answer is there at commit: a start does not serve 503 until the first refresh."""

        async def main() -> None:
            registry = registry_of(Names(web=["10.0.0.2", "2001:db8::1", "10.0.0.1"]))
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            assert labels(web) == ["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"]
            assert (web.stats.dns_successes, web.stats.dns_failures) == (1, 0)
            assert web.stats.dns_last_success > 1_700_000_000
            await registry.stop()

        run_held(main())

    def test_answer_is_followed_and_what_stays_keeps_its_connections(self, log: pytest.LogCaptureFixture) -> None:
        """A deployment replaces addresses one by one: those that stay keep endpoint and connections."""

        async def main() -> None:
            names = Names(web=["10.0.0.1", "10.0.0.2"])
            registry = registry_of(names)
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            gone, kept = web.endpoints
            connections = [FakeConnection(gone), FakeConnection(kept)]
            names.answers["web"] = ["10.0.0.3", "10.0.0.2"]
            await asyncio.sleep(5.1)
            assert labels(web) == ["10.0.0.2:80", "10.0.0.3:80"]
            assert web.endpoints[0] is kept
            assert [connection.closed for connection in connections] == [["endpoint_removed"], []]
            assert (gone.is_removed, kept.is_removed) == (True, False)
            assert log.messages[-1] == "endpoints_changed upstream=web added=10.0.0.3:80 removed=10.0.0.1:80 total=2"
            await registry.stop()

        run_held(main())

    @pytest.mark.parametrize("failure", ["server failure", [], None])
    def test_last_good_answer_is_kept_while_dns_fails(
        self, failure: Sequence[str] | None, log: pytest.LogCaptureFixture
    ) -> None:
        """An error, an empty answer and a hanging name server change no endpoint; they are counted, and logged once."""

        async def main() -> None:
            names = Names(web=["10.0.0.1"])
            registry = registry_of(names)
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            endpoint = web.endpoints[0]
            names.answers["web"] = failure
            await asyncio.sleep(31)
            assert web.endpoints == (endpoint,)
            assert web.stats.dns_failures >= 3
            names.answers["web"] = ["10.0.0.1", "10.0.0.2"]
            await asyncio.sleep(11)
            assert labels(web) == ["10.0.0.1:80", "10.0.0.2:80"]
            assert web.endpoints[0] is endpoint
            events = [message.split()[0] for message in log.messages]
            assert events.count("dns_failed") == 1
            assert events.count("dns_recovered") == 1
            await registry.stop()

        run_held(main())

    def test_name_without_an_answer_at_start_is_found_within_a_second(self) -> None:
        """An upstream that is not deployed yet fails no load; it begins empty and is asked for every second."""

        async def main() -> None:
            names = Names()
            registry = registry_of(names)
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            assert web.choose(HEAD, "10.0.0.1") is None
            await asyncio.sleep(3.5)
            names.answers["web"] = ["10.0.0.1"]
            await asyncio.sleep(1)
            assert labels(web) == ["10.0.0.1:80"]
            assert (web.stats.dns_successes, web.stats.dns_failures) == (1, 4)
            await registry.stop()

        run_held(main())

    def test_preparation_is_bounded_however_many_names_hang(self) -> None:
        """All names are looked up at once and given up together; those that answer are not held up."""

        async def main() -> None:
            names = Names(good=["10.0.0.1"], **{f"hangs{i}": None for i in range(5)})
            registry = registry_of(names)
            specs = [ClusterSpec(name, dns=(name, 80)) for name in names.answers]
            began = asyncio.get_running_loop().time()
            clusters = await reload(registry, *specs)
            assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
            assert {name: len(cluster.endpoints) for name, cluster in clusters.items() if cluster.endpoints} == {
                "good": 1
            }
            await registry.stop()

        run_held(main())

    def test_stop_does_not_wait_for_a_lookup_that_hangs(self) -> None:
        """Shutdown takes no time on the clock and leaves no task, and may be asked for twice."""

        async def main() -> None:
            names = Names(web=["10.0.0.1"])
            registry = registry_of(names)
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            connection = FakeConnection(web.endpoints[0])
            names.answers["web"] = None
            await asyncio.sleep(6)
            assert names.asked == ["web", "web"]
            began = asyncio.get_running_loop().time()
            await registry.stop()
            await registry.stop()
            assert asyncio.get_running_loop().time() == began
            assert refreshing() == []
            assert connection.closed == ["shutdown"]
            with pytest.raises(RuntimeError, match="stopped"):
                await reload(registry)

        run_held(main())

    def test_reload_does_not_ask_again_for_a_name_it_knows(self) -> None:
        """Another port or policy keeps the addresses; only another name is looked up before commit."""

        async def main() -> None:
            names = Names(web=["10.0.0.1"], other=["10.0.0.9"])
            registry = registry_of(names)
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            endpoint = web.endpoints[0]
            await reload(registry, ClusterSpec("web", dns=("web", 80), policy="random"))
            assert web.endpoints == (endpoint,)
            await reload(registry, ClusterSpec("web", dns=("web", 81)))
            assert labels(web) == ["10.0.0.1:81"]
            assert names.asked == ["web"]
            names.answers["web"] = ["10.0.0.2"]
            await asyncio.sleep(5.1)
            assert labels(web) == ["10.0.0.2:81"]
            await reload(registry, ClusterSpec("web", dns=("other", 81)))
            assert labels(web) == ["10.0.0.9:81"]
            assert names.asked == ["web", "web", "other"]
            await asyncio.sleep(5.1)
            assert names.asked == ["web", "web", "other", "other"]
            assert refreshing() == ["dns web"]
            await registry.stop()

        run_held(main())

    def test_addresses_of_another_name_are_not_kept(self) -> None:
        """When the new name has no answer the upstream is empty: better no answer than a stranger's."""

        async def main() -> None:
            registry = registry_of(Names(web=["10.0.0.1"]))
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            await reload(registry, ClusterSpec("web", dns=("misspelt", 80)))
            assert web.endpoints == ()
            await registry.stop()

        run_held(main())

    def test_upstream_may_change_between_dns_and_static(self) -> None:
        """An address that both ways name keeps its endpoint, and the refreshing ends with the DNS name."""

        async def main() -> None:
            registry = registry_of(Names(web=["10.0.0.1", "10.0.0.2"]))
            web = (await reload(registry, ClusterSpec("web", dns=("web", 80))))["web"]
            kept = web.endpoints[1]
            await reload(registry, ClusterSpec("web", (("10.0.0.2:80", 3),)))
            await asyncio.sleep(0)
            assert (web.endpoints, kept.weight, refreshing()) == ((kept,), 3, [])
            await reload(registry, ClusterSpec("web", dns=("web", 80)))
            assert (web.endpoints[1], kept.weight, refreshing()) == (kept, 1, ["dns web"])
            await registry.stop()

        run_held(main())


def test_repr_shows_the_state() -> None:
    """A look at the registry says whether it runs and how much there is."""

    async def main() -> None:
        registry = registry_of(Names())
        await reload(registry, ClusterSpec("web", dns=("web", 80)), ClusterSpec("app", (("a:80", 1),)))
        assert repr(registry) == "<Registry [RUNNING | Clusters: 2 | Refreshing: 1]>"
        await registry.stop()
        assert repr(registry) == "<Registry [STOPPED | Clusters: 2 | Refreshing: 0]>"

    run_held(main())


HOSTS = [f"10.0.0.{i}" for i in range(1, 5)]
answers = st.lists(st.sampled_from(HOSTS), max_size=4, unique=True) | st.just("server failure") | st.none()
specs = st.one_of(
    st.builds(
        lambda hosts, weight: {"endpoints": tuple((f"{host}:80", weight) for host in hosts)},
        st.lists(st.sampled_from(HOSTS), max_size=4, unique=True),
        st.sampled_from([1.0, 2.0]),
    ),
    st.builds(lambda name, port: {"dns": (name, port)}, st.sampled_from(["x", "y"]), st.sampled_from([80, 81])),
)


class Reloads(RuleBasedStateMachine):
    """Any series of reloads, DNS changes and waits, compared with a model that knows only names and addresses."""

    @initialize()
    def start(self) -> None:
        self.loop = HeldLoop()
        self.names = Names(x=["10.0.0.1"], y=["10.0.0.2"])
        self.registry = registry_of(self.names)
        self.specs: dict[str, ClusterSpec] = {}
        self.last_good: dict[str, list[str]] = {}
        self.seen: dict[str, dict[str, object]] = {}

    @rule(
        wanted=st.dictionaries(st.sampled_from(["a", "b"]), specs, max_size=2),
        policy=st.sampled_from(["least_request", "round_robin"]),
        is_abandoned=st.sampled_from([False, False, False, True]),
    )
    def reload(self, wanted: dict[str, dict[str, object]], policy: str, is_abandoned: bool) -> None:
        """Bring a new file, and perhaps give it up."""
        new = {name: ClusterSpec(name, policy=policy, **spec) for name, spec in wanted.items()}  # type: ignore[arg-type]
        preparation = self.loop.run_until_complete(self.registry.prepare(new.values(), 1.0))
        if is_abandoned:
            preparation.abandon()
            return
        before = dict(self.registry.clusters)

        async def commit() -> None:
            preparation.commit()

        self.loop.run_until_complete(commit())
        for name, spec in new.items():
            if name in before:
                assert self.registry.clusters[name] is before[name]
            old = self.specs.get(name)
            if spec.dns is not None and (old is None or old.dns is None or old.dns[0] != spec.dns[0]):
                self.last_good[name] = []
                self.learn(name, spec)
        for name in before.keys() - new.keys():
            assert all(endpoint.is_removed and not endpoint.idle for endpoint in before[name].endpoints)
            self.seen.pop(name, None)
        self.specs = new

    def learn(self, name: str, spec: ClusterSpec) -> None:
        assert spec.dns is not None
        answer = self.names.answers[spec.dns[0]]
        if isinstance(answer, list) and answer:
            self.last_good[name] = sorted(answer)

    @rule(name=st.sampled_from(["x", "y"]), answer=answers)
    def change_dns(self, name: str, answer: list[str] | str | None) -> None:
        """The name server says something else from now on, and everybody has asked it since."""
        self.names.answers[name] = answer
        self.loop.run_until_complete(asyncio.sleep(10.5))
        for cluster, spec in self.specs.items():
            if spec.dns is not None and spec.dns[0] == name:
                self.learn(cluster, spec)

    @rule()
    def use(self) -> None:
        """Leave an idle connection with every endpoint."""
        for cluster in self.registry.clusters.values():
            for endpoint in cluster.endpoints:
                FakeConnection(endpoint)

    @invariant()
    def endpoints_are_what_file_and_dns_say(self) -> None:
        assert self.registry.clusters.keys() == self.specs.keys()
        for name, spec in self.specs.items():
            if spec.dns is None:
                expected = [address for address, _ in spec.endpoints]
            else:
                expected = [f"{host}:{spec.dns[1]}" for host in self.last_good[name]]
            cluster = self.registry.clusters[name]
            assert labels(cluster) == expected
            assert cluster.spec == spec
            assert (cluster.choose(HEAD, "") in cluster.endpoints) == bool(expected)
            assert all(endpoint.cluster is cluster for endpoint in cluster.endpoints)
            assert not any(endpoint.is_removed for endpoint in cluster.endpoints)

    @invariant()
    def endpoint_lives_as_long_as_its_address(self) -> None:
        for name, cluster in self.registry.clusters.items():
            now: dict[str, object] = {endpoint.label: endpoint for endpoint in cluster.endpoints}
            before = self.seen.get(name, {})
            assert all(now[label] is before[label] for label in now.keys() & before.keys())
            for label in before.keys() - now.keys():
                assert before[label].is_removed  # type: ignore[attr-defined]
                assert before[label].idle == []  # type: ignore[attr-defined]
            self.seen[name] = now

    @invariant()
    def one_task_refreshes_each_name(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))  # Cancelled tasks end.
        expected = sorted(f"dns {name}" for name, spec in self.specs.items() if spec.dns is not None)
        assert sorted(task.get_name() for task in asyncio.all_tasks(self.loop)) == expected

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.registry.stop())
            assert asyncio.all_tasks(self.loop) == set()
            self.loop.close()


TestReloads = Reloads.TestCase
TestReloads.settings = settings(max_examples=examples(150), stateful_step_count=30, deadline=None)
