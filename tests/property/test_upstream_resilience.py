"""Any series of results, times and reloads: bounds of ejection, of panic, of limits and budgets always hold."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar import errors
from sidecar.message import RequestHead
from sidecar.net.address import Address, parse_address
from sidecar.upstream.balance.usable import is_usable
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint, Health
from sidecar.upstream.health.outlier import LatencySpec, OutlierSpec, SuccessRateSpec
from sidecar.upstream.limits.adaptive import AdaptiveLimit
from sidecar.upstream.limits.breaker import Breaker, BreakerSpec
from sidecar.upstream.limits.retry_budget import RetryBudget, RetryBudgetSpec
from sidecar.upstream.retry import CONDITIONS, IDEMPOTENT_METHODS, Retry, RetryPolicy, decide
from sidecar.upstream.stats import COUNTS
from tests.support.thoroughness import examples

GET, POST = RequestHead(b"GET", b"/", None, 1), RequestHead(b"POST", b"/", None, 1)
FAILURES = [
    None,
    errors.CONNECT_FAILED,
    errors.UPSTREAM_RESET,
    errors.RESPONSE_CUT,
    errors.RESPONSE_TIMEOUT,
    errors.CLIENT_LEFT,
]
NOT_A_COUNT = {"connections_closed_by"}
GAUGES = {"requests_active", "pending", "concurrency_limit", "ejected", "unhealthy", "panic", "dns_last_success"}
GROWING = [name for name in COUNTS if name not in NOT_A_COUNT]


def addresses(hosts: set[int]) -> dict[Address, float]:
    return {parse_address(f"e{i}:80"): 1.0 for i in sorted(hosts)}


class Upstream(RuleBasedStateMachine):
    """An upstream in trouble: requests end in every way, checks change their minds, addresses come and go."""

    @initialize(
        percent=st.sampled_from([0, 10, 50, 100]),
        panic=st.sampled_from([0.0, 50.0, 100.0]),
        policy=st.sampled_from(["least_request", "round_robin", "random", "peak_ewma"]),
        slow_start_s=st.sampled_from([0.0, 30.0]),
    )
    def start(self, percent: float, panic: float, policy: str, slow_start_s: float) -> None:
        self.now = 100.0
        rules = OutlierSpec(
            consecutive_5xx=3,
            consecutive_gateway_errors=2,
            consecutive_connect_failures=1,
            max_ejection_percent=percent,
            success_rate=SuccessRateSpec(3, 5, 0.5),
            latency=LatencySpec(2.0, 2, 5, 0.01),
        )
        spec = ClusterSpec(
            "web",
            dns=("web", 80),
            policy=policy,  # type: ignore[arg-type]
            outlier=rules,
            breaker=BreakerSpec(max_requests=8, adaptive=True),
            panic_threshold=panic,
            slow_start_s=slow_start_s,
        )
        self.cluster = Cluster(spec)
        self.cluster.set_addresses(addresses({0, 1, 2, 3}), self.now)
        self.running: list[tuple[Endpoint, Breaker]] = []
        self.before = dict.fromkeys(COUNTS, 0)

    @rule(head=st.sampled_from([GET, POST]), count=st.integers(1, 6))
    def send(self, head: RequestHead, count: int) -> None:
        """Requests begin."""
        for _ in range(count):
            breaker = self.cluster.breaker
            assert breaker is not None
            endpoint = self.cluster.choose(head, "10.0.0.1")
            if endpoint is None:
                assert not any(map(is_usable, self.cluster.endpoints))
                continue
            assert endpoint in self.cluster.endpoints
            if breaker.enter():
                self.running.append((endpoint, breaker))
            elif self.cluster.observer is not None:
                self.cluster.observer(endpoint, 0, errors.OVERLOADED, 0.0, self.now)

    @precondition(lambda self: self.running)
    @rule(
        index=st.integers(0, 99),
        status=st.sampled_from([200, 200, 404, 500, 503]),
        failure=st.sampled_from(FAILURES),
        latency_s=st.sampled_from([0.0, 0.01, 0.5]),
    )
    def end(self, index: int, status: int, failure: errors.Reason | None, latency_s: float) -> None:
        """A request ends."""
        endpoint, breaker = self.running.pop(index % len(self.running))
        assert self.cluster.observer is not None
        self.cluster.observer(endpoint, 0 if failure else status, failure, latency_s, self.now)
        breaker.leave()

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 31.0, 400.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.cluster.tick(self.now)

    @rule(index=st.integers(0, 5), health=st.sampled_from([Health.HEALTHY, Health.UNHEALTHY]))
    def check(self, index: int, health: Health) -> None:
        """A check changes its mind."""
        if self.cluster.endpoints:
            self.cluster.set_health(self.cluster.endpoints[index % len(self.cluster.endpoints)], health, self.now)

    @rule(hosts=st.sets(st.integers(0, 6), max_size=6))
    def resolve(self, hosts: set[int]) -> None:
        """DNS answers."""
        self.cluster.set_addresses(addresses(hosts), self.now)

    @invariant()
    def ejections_leave_somebody(self) -> None:
        """Unless nobody could be used anyway, or addresses went, at most the percentage and one are ejected."""
        cluster, stats = self.cluster, self.cluster.stats
        ejected = [endpoint for endpoint in cluster.endpoints if endpoint.ejected_until]
        assert stats.ejected == len(ejected)
        if cluster.spec.outlier is not None and cluster.spec.outlier.max_ejection_percent == 0:
            assert not ejected
        for endpoint in cluster.endpoints:
            assert endpoint.is_on_probation <= bool(endpoint.ejected_until)
            assert endpoint.is_probed <= endpoint.is_on_probation
            assert 0 < endpoint.share <= endpoint.weight

    @invariant()
    def panic_is_exactly_when_too_few_are_usable(self) -> None:
        """And then nobody is left out; else nobody unusable is chosen, but for the one request of a probation."""
        cluster = self.cluster
        good = [endpoint for endpoint in cluster.endpoints if is_usable(endpoint)]
        too_few = 100 * len(good) < cluster.spec.panic_threshold * len(cluster.endpoints)
        assert cluster.is_panicking == (len(good) < len(cluster.endpoints) and too_few)
        assert cluster.stats.panic == cluster.is_panicking
        # Asked past the probation: a look must not spend its one request.
        found = cluster._choose_usable(GET, "10.0.0.1")
        assert (found is None) == (not good and not cluster.is_panicking)
        assert found is None or cluster.is_panicking or is_usable(found)

    @invariant()
    def limits_hold(self) -> None:
        """Who is in is counted in, and never more than the limit when they came."""
        assert self.cluster.breaker is not None
        assert self.cluster.breaker.requests == len(self.running) <= 8
        assert 1 <= self.cluster.breaker.limit <= 8
        assert self.cluster.stats.concurrency_limit == self.cluster.breaker.limit

    @invariant()
    def counters_only_grow(self) -> None:
        """Whatever happens."""
        after = {name: getattr(self.cluster.stats, name) for name in GROWING}
        assert all(after[name] >= self.before[name] for name in after.keys() - GAUGES)
        assert all(value >= 0 for value in after.values())
        self.before = after


TestUpstream = Upstream.TestCase
TestUpstream.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.0, 15.0), st.integers(0, 500), st.integers(0, 60)), min_size=1, max_size=25),
    percent=st.sampled_from([0.0, 20.0, 100.0]),
    per_second=st.sampled_from([0.0, 3.0]),
)
def test_budget_is_never_exceeded_in_any_window(
    steps: list[tuple[float, int, int]], percent: float, per_second: float
) -> None:
    """In no ten seconds are more retries made than the minimum and the part of the requests of a little more."""
    budget = RetryBudget(RetryBudgetSpec(percent, per_second))
    now, requests = 1000.0, 0
    budget.take(now, 0, True)
    came: deque[tuple[float, int]] = deque([(now, 0)])
    made: list[float] = [now]
    for wait_s, new, asked in steps:
        now += wait_s
        requests += new
        came.append((now, new))
        for _ in range(asked):
            if budget.take(now, requests):
                made.append(now)
    for end in {int(at) for at in made}:
        within = sum(end - 9 <= int(at) <= end for at in made)
        # Requests are only known when a retry is asked for, at most 15 s later: the window may reach back so far.
        seen = sum(new for at, new in came if end - 9 - 15 <= at < end + 1)
        assert within <= 1 + per_second * 10 + percent / 100 * seen


@given(
    method=st.sampled_from([b"GET", b"PUT", b"POST", b"PATCH", b"FOO"]),
    failure=st.sampled_from([*errors.REASONS, None]),
    status=st.integers(400, 599),
    retries=st.integers(0, 5),
    attempts=st.integers(0, 4),
    on=st.frozensets(st.sampled_from(sorted(CONDITIONS))),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    has_started=st.booleans(),
    deadline=st.sampled_from([99.0, 100.0, 100.1, 1e9]),
    retry_after_s=st.sampled_from([0.0, 1.0, 60.0]),
    chance=st.floats(0, 0.999),
)
def test_retry_is_always_safe_and_in_time(
    method: bytes,
    failure: errors.Reason | None,
    status: int,
    retries: int,
    attempts: int,
    on: frozenset[str],
    flags: tuple[bool, bool, bool],
    has_started: bool,
    deadline: float,
    retry_after_s: float,
    chance: float,
) -> None:
    """A retry always means: not processed or repeatable, body kept, nothing answered, time and tries left."""
    is_unsent, is_stale, is_kept = flags
    cluster = Cluster(ClusterSpec("web", (("a:80", 1),), breaker=BreakerSpec()))
    before = {name: getattr(cluster.stats, name) for name in COUNTS}
    found = decide(
        RetryPolicy(attempts, on),  # type: ignore[arg-type]
        cluster,
        RequestHead(method, b"/", None, 1),
        failure=failure,
        status=status,
        retries=retries,
        is_unsent=is_unsent,
        is_stale=is_stale,
        is_kept=is_kept,
        has_started=has_started,
        retry_after_s=retry_after_s,
        now=100.0,
        deadline=deadline,
        random=lambda: chance,
    )
    after = {name: getattr(cluster.stats, name) for name in COUNTS}
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert cluster.breaker is not None
    if isinstance(found, Retry):
        assert method in IDEMPOTENT_METHODS or is_unsent
        assert is_kept
        assert not has_started
        assert retries < attempts
        assert retry_after_s <= found.delay_s < deadline - 100.0
        assert changed == {"retries": 1}
        assert cluster.breaker.retries == 1
    else:
        assert changed == ({} if found is None else {f"retry_skipped_{found.reason}": 1})
        assert cluster.breaker.retries == 0


@given(
    samples=st.lists(
        st.tuples(st.floats(1e-6, 10.0), st.integers(0, 5000), st.booleans(), st.floats(0.0, 0.5)), max_size=300
    ),
    max_limit=st.integers(1, 5000),
)
def test_adaptive_limit_stays_within_its_bounds(samples: list[tuple[float, int, bool, float]], max_limit: int) -> None:
    """Any latencies in any order: at least one request may go, and never more than the file says."""
    limit = AdaptiveLimit(max_limit, lambda: 0.5)
    now = 0.0
    for latency_s, in_flight, did_drop, wait_s in samples:
        now += wait_s
        limit.on_sample(latency_s, in_flight, did_drop, now)
        assert 1 <= limit.limit <= max_limit
        assert limit.baseline_s >= 0
