"""
The part of a storm that HTTP/2 and gRPC play: what the sidecar's file says of it, who is there, and what befalls them.

*swift* is an upstream of three servers by HTTP/2 that are hurt, one at a time, in a thread, behind a route with a retry
policy; *steady* is one that is well. Clients of either version ask both, and clients of HTTP/2 ask all that the storm
has besides: the shaky servers, which speak HTTP/1.1, those found by a name, and the app, also by mutual TLS.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.clients import Clients
from tests.soak.faults import Fault, Victims
from tests.soak.http2.servers import KINDS, SWIFT_CALM, TEMPERS, SwiftServer
from tests.soak.outcome import Kind
from tests.soak.surroundings import StormSidecar
from tests.soak.tls.world import CALLERS

SWIFT_CALL = Kind("swift call", "POST", "swift", version=2, is_call=True)
KEYED_CALL = Kind("swift keyed call", "POST", "swift", is_keyed=True, version=2, is_call=True)
STEADY_CALL = Kind("steady call", "POST", "steady", version=2, is_call=True)
NAMED_CALL = Kind("named call", "POST", "named", version=2, is_call=True)
APP_CALL = Kind("app call", "POST", "", version=2, is_call=True)
TLS_CALLS = tuple(
    Kind("tls call", "POST", "", caller=caller, is_secured=True, version=2, is_call=True) for caller in CALLERS
)
STALLED = Kind("stalled", "GET", "steady", version=2)
SLOW_READ_2 = Kind("slow read 2", "GET", "steady", version=2)
SLOW_WRITE_2 = Kind("slow write 2", "POST", "steady", version=2)
SLOW_READ_1 = Kind("slow read 2 to 1", "GET", "named", version=2)
SLOW_WRITE_1 = Kind("slow write 2 to 1", "POST", "named", version=2)
SLOW_READ_OF_2 = Kind("slow read 1 to 2", "GET", "steady")
SLOW_WRITE_TO_2 = Kind("slow write 1 to 2", "POST", "steady")
TALKS = tuple(
    Kind(f"{name} talk", "POST", host, version=2, is_call=True)
    for name, host in (("steady", "steady"), ("app", ""), ("named", "named"), ("swift", "swift"))
)
SLOW = frozenset(
    (
        STALLED, SLOW_READ_2, SLOW_WRITE_2, SLOW_READ_1, SLOW_WRITE_1, SLOW_READ_OF_2, SLOW_WRITE_TO_2, *TALKS,
    )
)  # fmt: skip

SHARES: dict[Kind, int] = {
    Kind("swift get", "GET", "swift"): 5,
    Kind("swift post", "POST", "swift"): 3,
    Kind("swift keyed post", "POST", "swift", is_keyed=True): 3,
    Kind("swift get 2", "GET", "swift", version=2): 8,
    Kind("swift post 2", "POST", "swift", version=2): 4,
    Kind("swift keyed post 2", "POST", "swift", is_keyed=True, version=2): 4,
    SWIFT_CALL: 8,
    KEYED_CALL: 8,
    STEADY_CALL: 3,
    Kind("steady get 2", "GET", "steady", version=2): 3,
    Kind("steady post", "POST", "steady"): 2,
    Kind("get 2", "GET", "shaky", version=2): 8,
    Kind("post 2", "POST", "shaky", version=2): 4,
    Kind("keyed post 2", "POST", "shaky", is_keyed=True, version=2): 4,
    Kind("named get 2", "GET", "named", version=2): 2,
    Kind("app get 2", "GET", "", version=2): 3,
    Kind("app post 2", "POST", "", version=2): 2,
    NAMED_CALL: 2,
    APP_CALL: 3,
    **{Kind("tls get 2", "GET", "", caller=caller, is_secured=True, version=2): 2 for caller in CALLERS},
    **dict.fromkeys(TLS_CALLS, 2),
}
"""Beside a hundred of HTTP/1.1 in clear."""
_BURSTS = tuple(one for one in SHARES if one.version == 2 and not one.is_secured)
_SWIFT_BURSTS = tuple(one for one in SHARES if one.host == "swift")
_STALL_BYTES = 100_000


@dataclass(frozen=True)
class SwiftPlan:
    """
    How hard.

    Attributes:
        burst: Requests by HTTP/2 that begin at once, every `burst_s`.
        talks: Streams of messages that begin then, of each kind.
        talk_s: How long they take.
        stalls: Requests whose window is never opened, that begin then.
        pace: By which the length of each harm to a server is multiplied.
    """

    burst: int = 60
    burst_s: float = 2.0
    talks: int = 5
    talk_s: float = 8.0
    stalls: int = 2
    pace: float = 1.0


@dataclass
class SwiftFigures:
    """What came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    again: int = 0
    most: int = 0
    by_protocol: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        def listed(counts: Mapping[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        return "\n".join(
            (
                f"swift, hurt       {sum(self.faults.values())} ({listed(self.faults)})",
                f"by HTTP/2         {self.connections} connections of clients, {self.most} streams of one at most;"
                f" {self.again} asked again, for nobody had looked at them",
                f"records           {listed(self.by_protocol)}; of calls {listed(self.statuses)}",
                f"rules broken      {'; '.join(self.wrong[:20]) or 'none'}",
            )
        )


class Swift:
    """
    Args:
        directory: For journals.
        plan: How hard.
        seed: Decides about everything but timing.
        clients: Who asks.
        sidecar: Who is asked, now.
        ports: Three free ones.
        spare: Address of a server that is well.

    Attributes:
        servers: To be started and killed with the others; their journals count.
        figures: What came of it.
    """

    def __init__(
        self, directory: Path, plan: SwiftPlan, seed: str, clients: Clients, sidecar: Callable[[], StormSidecar],
        ports: Sequence[int], spare: str,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.figures = SwiftFigures()
        self.servers = [
            SwiftServer(f"swift{number}", directory, f"127.0.0.1:{port}", calm=SWIFT_CALM)
            for number, port in enumerate(ports)
        ]
        self._clients, self._sidecar, self._spare = clients, sidecar, spare
        self._chance = random.Random(f"{seed}/swift")
        self._is_over = threading.Event()
        self._victims = Victims(self.servers, f"{seed}/swift victims", self._wait, plan.pace, TEMPERS)
        self._threads = ThreadPoolExecutor(2)
        self._at_work: list[Future[None]] = []

    # --- the sidecar's file --------------------------------------------------------------------------------------

    ROUTE = """
                - name: swift
                  match: {host: swift}
                  to: swift
                  timeout: 8s
                  retry:
                    attempts: 3
                    on: [5xx, refused, timeout, grpc_unavailable]
                    per_try_timeout: 1500ms
                    backoff: {base: 5ms, max: 50ms}
                  mirror: {to: shadow, percent: 5%}"""

    def upstreams(self, chance: random.Random) -> dict[str, str]:
        """By name; another text each time."""
        endpoints = [f"{{address: {one.addresses[0]!r}, weight: {chance.randint(1, 3)}}}" for one in self.servers]
        if chance.random() < 0.5:
            endpoints.append(f"{{address: {self._spare!r}, weight: 1}}")
        chance.shuffle(endpoints)
        balancing = chance.choice(("least_request", "round_robin", "random", "peak_ewma"))
        most = chance.choice((4, 20, 100))
        swift = (
            f"{{hosts: [], protocol: http2, endpoints: [{', '.join(endpoints)}], load_balancing: {balancing}, "
            f"http2: {{max_concurrent_streams: {most}}}, idle_timeout: 1s, "
            "retry_budget: {percent: 100%, min_per_second: 100}, "
            "circuit_breaker: {max_connections: 1000, max_requests: 2000, max_retries: 1000}, outlier_detection: "
            "{consecutive_5xx: 5, interval: 1s, base_ejection_time: 500ms, max_ejection_percent: 34}}"
        )
        steady = f"{{protocol: http2, endpoints: ['{self._spare}'], idle_timeout: 1s}}"
        return {"swift": swift, "steady": steady}

    # --- its course ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Servers are hurt, and clients come that take their time, or all at once."""
        self._at_work = [self._threads.submit(one) for one in (self._strike, self._come)]

    @property
    def has_done_all(self) -> bool:
        """Whether each kind of fault has come once, or something went wrong."""
        if any(one.done() and one.exception() is not None for one in self._at_work):
            return True
        return len(self._victims.counts()) >= len(KINDS)

    @property
    def faults(self) -> list[Fault]:
        """What happened to the servers."""
        return self._victims.faults

    def end(self) -> None:
        """All of it; what has begun is gone through with. Raises what went wrong."""
        self._is_over.set()
        for one in self._at_work:
            one.result(180)

    def close(self) -> None:
        """Whatever it was doing."""
        self._is_over.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def send_slow_clients(self, count: int, slow_s: float) -> None:
        """So many of each kind, through windows that open slowly."""
        port, chance, clients = self._sidecar().outbound_port, self._chance, self._clients
        for _ in range(count):
            pieces = chance.randint(5, 20)
            size, pause_s = chance.choice((20_000, 100_000)), slow_s / pieces
            for kind in (SLOW_READ_2, SLOW_READ_1, SLOW_READ_OF_2):
                clients.spawn(clients.slow_reader(kind, port, size, pause_s, pieces))
            for kind in (SLOW_WRITE_2, SLOW_WRITE_1, SLOW_WRITE_TO_2):
                clients.spawn(clients.slow_writer(kind, port, size, pause_s, pieces))

    def send_talks(self, count: int, talk_s: float) -> None:
        """So many of each kind."""
        for kind in TALKS * count:
            port = self._sidecar().outbound_port if kind.host else self._sidecar().inbound_port
            self._clients.spawn(self._clients.talk(kind, port, talk_s * self._chance.uniform(0.5, 1.0)))

    def _wait(self, seconds: float) -> None:
        self._is_over.wait(seconds)

    def _strike(self) -> None:
        while not self._is_over.is_set():
            self._victims.strike()

    def _come(self) -> None:
        plan, clients = self.plan, self._clients
        while not self._is_over.is_set():
            sidecar = self._sidecar()
            kinds = self._chance.choice((_BURSTS, _SWIFT_BURSTS))
            for kind in self._chance.choices(kinds, k=plan.burst):
                clients.spawn(clients.one(kind, sidecar.outbound_port if kind.host else sidecar.inbound_port))
            self.send_talks(plan.talks, plan.talk_s)
            for _ in range(plan.stalls):
                clients.spawn(clients.stall(STALLED, sidecar.outbound_port, _STALL_BYTES))
            self._is_over.wait(plan.burst_s)
