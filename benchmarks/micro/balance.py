"""What a choice of an endpoint costs, what binding a policy anew costs, and what the guards of an attempt cost.

    python -m benchmarks.micro.balance

A choice is on every request's way and must not grow with the number of endpoints (the ring's and the turns' logarithm
apart). Binding happens when addresses change, on the event loop: no callback may hold that for more than a few
milliseconds even for a thousand endpoints. Measured on a 2-core virtual machine with Python 3.11; the first table
includes the benchmark's own call:

    choose, ns                          1        2        3       10      100     1000
    round_robin, equal                 56       96       98       94       86      101
    round_robin, 1:2:5                 54      259      289      313      403      518
    least_request, equal               53      214      218      217      223      242
    least_request, 1:2:5               53      557      570      627      735      911
    peak_ewma, equal                   53      286      293      282      294      306
    peak_ewma, 1:2:5                   54      629      650      678      796      959
    random, equal                      54      158      154      159      160      172
    random, 1:2:5                      54      281      280      304      353      432
    hash, equal                        53      632      633      647      683      708
    hash, 1:2:5                        55      620      627      654      711      721

    one address changes, ms             1        2        3       10      100     1000
    round_robin                      0.01     0.01     0.01     0.02     0.17     1.34
    least_request                    0.01     0.01     0.01     0.02     0.10     0.87
    peak_ewma                        0.01     0.01     0.01     0.02     0.10     0.91
    random                           0.01     0.01     0.01     0.02     0.09     0.86
    hash                             0.03     0.05     0.06     0.18     2.16     7.29

    an attempt's guards, ns
    nothing configured                 39
    circuit breaker                   109
    outlier detection                 229
    peak_ewma, measuring              195
    adaptive concurrency              431
    all of these                      660
"""

from __future__ import annotations

from itertools import count
from timeit import Timer

from sidecar.message import RequestHead
from sidecar.net.address import Address, TcpAddress
from sidecar.upstream.balance.algorithms import HashKey, Policy
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.limits.breaker import BreakerSpec

SIZES = (1, 2, 3, 10, 100, 1000)
POLICIES: tuple[Policy, ...] = ("round_robin", "least_request", "peak_ewma", "random", "hash")


def cluster_of(policy: Policy, size: int, weights: tuple[float, ...]) -> tuple[Cluster, dict[Address, float]]:
    """A cluster of this many endpoints, whose weights repeat, and its addresses."""
    addresses: dict[Address, float] = {
        TcpAddress(f"10.0.{i >> 8}.{i & 255}", 8080): weights[i % len(weights)] for i in range(size)
    }
    hash_key = HashKey("source_ip") if policy == "hash" else None
    cluster = Cluster(ClusterSpec("benchmark", policy=policy, hash_key=hash_key))
    cluster.set_addresses(addresses)
    return cluster, addresses


def best_ns(timer: Timer, number: int, repeats: int = 7) -> float:
    """Nanoseconds of one run, the least of several rounds: what disturbs only ever adds."""
    return min(timer.repeat(repeats, number)) / number * 1e9


def guards() -> list[tuple[str, float]]:
    """Nanoseconds a request for what watches and bounds an upstream, each alone."""
    endpoints = tuple((f"10.0.0.{i}:8080", 1.0) for i in range(10))
    rows: list[tuple[str, float]] = []

    def attempts_with(label: str, **settings: object) -> None:
        cluster = Cluster(ClusterSpec("benchmark", endpoints, **settings))  # type: ignore[arg-type]
        endpoint, clock = cluster.endpoints[0], count(1000.0, 0.0005)

        def attempt() -> None:
            """What `proxy` does of it for each attempt."""
            breaker = cluster.breaker
            if breaker is not None:
                breaker.enter()
            if cluster.observer is not None:
                cluster.observer(endpoint, 200, None, 0.01, next(clock))
            if breaker is not None:
                breaker.leave()

        rows.append((label, best_ns(Timer(attempt), 20_000)))

    attempts_with("nothing configured")
    attempts_with("circuit breaker", breaker=BreakerSpec())
    attempts_with("outlier detection", outlier=OutlierSpec())
    attempts_with("peak_ewma, measuring", policy="peak_ewma")
    attempts_with("adaptive concurrency", breaker=BreakerSpec(adaptive=True))
    attempts_with("all of these", breaker=BreakerSpec(adaptive=True), outlier=OutlierSpec(), policy="peak_ewma")
    return rows


def main() -> None:
    """Print the tables."""
    head = RequestHead(b"GET", b"/", None, 1)
    print(f"{'choose, ns':28}" + "".join(f"{size:>9}" for size in SIZES))
    for policy in POLICIES:
        for label, weights in (("equal", (1.0,)), ("1:2:5", (1.0, 2.0, 5.0))):
            row = []
            for size in SIZES:
                cluster, _ = cluster_of(policy, size, weights)
                row.append(best_ns(Timer(lambda c=cluster: c.choose(head, "10.9.8.7")), 20_000))
            print(f"{policy + ', ' + label:28}" + "".join(f"{ns:9.0f}" for ns in row))
    print()
    print(f"{'one address changes, ms':28}" + "".join(f"{size:>9}" for size in SIZES))
    for policy in POLICIES:
        row = []
        for size in SIZES:
            cluster, addresses = cluster_of(policy, size, (1.0, 2.0, 5.0))
            other = {**addresses, TcpAddress("10.9.9.9", 8080): 1.0}

            def change(
                cluster: Cluster = cluster, one: dict[Address, float] = addresses, two: dict[Address, float] = other
            ) -> None:
                cluster.set_addresses(two)
                cluster.set_addresses(one)

            row.append(best_ns(Timer(change), 1, 5) / 2 / 1e6)
        print(f"{policy:28}" + "".join(f"{ms:9.2f}" for ms in row))
    print()
    print("an attempt's guards, ns")
    for label, ns in guards():
        print(f"{label:28}{ns:9.0f}")


if __name__ == "__main__":
    main()
