"""What a choice of an endpoint costs, by policy and number of endpoints, and what it costs to bind a policy anew.

    python -m benchmarks.micro.balance

A choice is on every request's way and must not grow with the number of endpoints (the ring's and the turns' logarithm
apart). Binding happens when addresses change, on the event loop: no callback may hold that for more than a few
milliseconds even for a thousand endpoints. Measured on a 2-core virtual machine with Python 3.11; the first table
includes the benchmark's own call:

    choose, ns                          1        2        3       10      100     1000
    round_robin, equal                 55       90       97       93       87      102
    round_robin, 1:2:5                 54      272      293      326      405      524
    least_request, equal               55      225      228      226      235      252
    least_request, 1:2:5               56      571      601      641      752      925
    random, equal                      56      163      163      162      162      182
    random, 1:2:5                      56      287      290      304      369      454
    hash, equal                        55      655      669      685      668      673
    hash, 1:2:5                        50      584      624      651      700      726

    one address changes, ms             1        2        3       10      100     1000
    round_robin                      0.00     0.01     0.01     0.02     0.14     0.97
    least_request                    0.00     0.00     0.01     0.01     0.06     0.60
    random                           0.00     0.00     0.01     0.01     0.07     0.60
    hash                             0.03     0.05     0.05     0.17     2.12     6.91
"""

from __future__ import annotations

from timeit import Timer

from sidecar.message import RequestHead
from sidecar.net.address import Address, TcpAddress
from sidecar.upstream.balance import HashKey, Policy
from sidecar.upstream.cluster import Cluster, ClusterSpec

SIZES = (1, 2, 3, 10, 100, 1000)
POLICIES: tuple[Policy, ...] = ("round_robin", "least_request", "random", "hash")


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


def main() -> None:
    """Print both tables."""
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


if __name__ == "__main__":
    main()
