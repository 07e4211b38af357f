"""
A storm from its beginning to its end: `Storm(directory, plan).run()` returns the figures; the tests judge them.

    warm up -> measure -> storm -> let settle, measure again -> takeovers under load -> SIGTERM under load -> judge

Traffic goes three ways. *shaky* is an upstream of three servers that are hurt, one at a time, behind a route with a
retry policy. *named* is an upstream found by a name that changes and vanishes; its servers are well. *app* is the
inbound side. What happens at shaky must not be felt by the others. What goes by TLS, in both directions, is in
`tests.soak.tls.siege`, and HTTP/2 in `tests.soak.http2.swift`; both go on at the same time.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import TracebackType

from tests.soak.clients import Clients
from tests.soak.faults import KINDS, SHAKY_CALM, Victims
from tests.soak.http2.servers import SwiftServer
from tests.soak.http2.swift import SHARES as SWIFT_SHARES
from tests.soak.http2.swift import SLOW as SLOW_SWIFT
from tests.soak.http2.swift import Swift, SwiftFigures, SwiftPlan
from tests.soak.outcome import Kind
from tests.soak.recorder import Temper
from tests.soak.servers import Journals, Server
from tests.soak.surroundings import NAME, StormSidecar
from tests.soak.tls.siege import SHARES, SLOW_TLS_READ, SLOW_TLS_WRITE, Siege, SiegeFigures, SiegePlan
from tests.soak.told import disagreements
from tests.soak.verdict import Verdict, judge
from tests.support.wait import eventually, free_port

GET = Kind("get", "GET", "shaky")
POST = Kind("post", "POST", "shaky")
KEYED = Kind("keyed post", "POST", "shaky", is_keyed=True)
NAMED_GET = Kind("named get", "GET", "named")
NAMED_POST = Kind("named post", "POST", "named")
APP_GET = Kind("app get", "GET", "")
APP_POST = Kind("app post", "POST", "")
SLOW_READ = Kind("slow read", "GET", "named")
SLOW_WRITE = Kind("slow write", "POST", "named")

DESCRIPTOR_SLACK = 2
"""The two ends of the pipe for splicing, which is opened with the first large body and stays."""
RELOAD_TIMEOUT_S = 120.0
"""The process that judges a file stands back where others want the CPU."""

_SHARES = {GET: 40, POST: 15, KEYED: 15, NAMED_GET: 8, NAMED_POST: 7, APP_GET: 8, APP_POST: 7, **SHARES, **SWIFT_SHARES}
_SLOW = (SLOW_READ, SLOW_WRITE, SLOW_TLS_READ, SLOW_TLS_WRITE, *SLOW_SWIFT)


@dataclass(frozen=True)
class StormPlan:
    """
    How long and how hard.

    Attributes:
        seconds: Of the storm itself, at least; it ends when each fault has come once.
        per_second: Requests that begin.
        reloads: Configurations in that time.
        slow: Slow readers at once, and as many slow writers, again and again.
        slow_s: How long each of them takes.
        leaves: Share of clients that leave in the middle.
        seed: Decides about everything but timing.
        takeovers: Successors that take over under load, one after the other.
        pace: By which the length of each fault is multiplied.
        header_timeout_s: `limits.header_timeout`, which handshakes have, too.
        siege: What goes by TLS.
        swift: What goes by HTTP/2.
    """

    seconds: float
    per_second: float
    reloads: int
    slow: int
    slow_s: float = 3.0
    leaves: float = 0.03
    seed: str = "1"
    warm_up_s: float = 3.0
    drain_load_s: float = 1.5
    takeover_load_s: float = 3.0
    takeovers: int = 2
    pace: float = 1.0
    header_timeout_s: float = 8.0
    siege: SiegePlan = field(default_factory=SiegePlan)
    swift: SwiftPlan = field(default_factory=SwiftPlan)


@dataclass
class Figures:
    """What came of it; the `before` and `after` are of a sidecar that does nothing."""

    verdict: Verdict = field(default_factory=Verdict)
    takeover: Verdict = field(default_factory=Verdict)
    drain: Verdict = field(default_factory=Verdict)
    requests: int = 0
    storm_requests: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    arrivals: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    reloads: int = 0
    refused_reloads: int = 0
    name_changes: int = 0
    turned_away: int = 0
    memory_before_kib: int = 0
    memory_after_kib: int = 0
    memory_peak_kib: int = 0
    descriptors_before: int = 0
    descriptors_after: int = 0
    descriptors_peak: int = 0
    gauges: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    logged: int = 0
    dropped_lines: int = 0
    retries: int = 0
    takeover_codes: list[int] = field(default_factory=list)
    exit_code: int | None = None
    drain_s: float = 0.0
    slowest_s: float = 0.0
    connections: int = 0
    siege: SiegeFigures = field(default_factory=SiegeFigures)
    swift: SwiftFigures = field(default_factory=SwiftFigures)
    unrecorded: list[str] = field(default_factory=list)
    stderr: str = ""

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        return "\n".join(
            (
                f"requests          {self.requests} ({listed(self.by_kind)})",
                f"arrivals          {self.arrivals} at the servers; {self.retries} retries by the sidecar",
                f"connections       {self.connections} of clients",
                f"faults            {sum(self.faults.values())} ({listed(self.faults)})",
                str(self.siege),
                str(self.swift),
                f"reloads           {self.reloads}, {self.refused_reloads} more refused; names {self.name_changes}",
                f"answered right    {self.verdict.answered}; clients that left: {self.verdict.left}",
                f"failures, why     {listed(self.verdict.explained)}",
                f"verdict           {self.verdict}",
                f"slowest answer    {self.slowest_s:.2f} s",
                f"memory            {self.memory_before_kib / 1024:.1f} -> {self.memory_after_kib / 1024:.1f} MiB,"
                f" peak {self.memory_peak_kib / 1024:.1f} MiB",
                f"descriptors       {self.descriptors_before} -> {self.descriptors_after},"
                f" peak {self.descriptors_peak}",
                f"gauges            {sum(self.gauges.values()):.0f}",
                f"counters, lines   {self.counted}, {self.logged}; dropped {self.dropped_lines}",
                f"not as recorded   {'; '.join(self.unrecorded[:20]) or 'none'}",
                f"takeovers         exits {self.takeover_codes}; {self.takeover.answered} answered,"
                f" failures {listed(self.takeover.explained)}; {self.takeover}",
                f"drain             {self.drain_s:.2f} s, exit {self.exit_code}; {self.drain.answered} answered, "
                f"{self.turned_away} turned away untouched; {self.drain}",
            )
        )


class Storm:
    """
    One; a context manager, so that nothing is left running.

    Args:
        directory: For everybody's files.
        plan: How long and how hard.
    """

    def __init__(self, directory: Path, plan: StormPlan) -> None:
        self.plan = plan
        self.figures = Figures()
        self._chance = random.Random(f"{plan.seed}/storm")
        ports = [free_port() for _ in range(14)]
        self._named_port, self._app_port = ports[4], ports[5]
        self._shaky = [Server(f"shaky{n}", directory, f"127.0.0.1:{ports[n]}", calm=SHAKY_CALM) for n in range(3)]
        self._spare_address = f"127.0.0.1:{ports[3]}"
        named = [f"127.0.0.{host}:{self._named_port}" for host in (2, 3, 4)]
        well = SwiftServer("well", directory, self._spare_address, f"127.0.0.1:{self._app_port}", *named)
        self._shadow = Server("shadow", directory, f"127.0.0.1:{ports[6]}", calm=Temper(mute=0.3, error=0.3))
        self.sidecar = StormSidecar(directory)
        self._clients = Clients(f"{plan.seed}/clients")
        self._siege = Siege(directory, plan.siege, plan.seed, self._clients, lambda: self.sidecar, ports[7:11])
        self._swift = Swift(
            directory, plan.swift, plan.seed, self._clients, lambda: self.sidecar, ports[11:], self._spare_address
        )
        self._recording: list[Server] = [*self._shaky, well, *self._siege.servers, *self._swift.servers]
        self._servers = [*self._recording, self._shadow]
        self._victims = Victims(self._shaky, f"{plan.seed}/victims", self._wait, plan.pace)
        self._generation = 0
        self._is_file_bad = False
        self._next_reload_s = self._next_name_s = self._next_slow_s = self._load_until_s = self._terminated_s = 0.0

    def __enter__(self) -> Storm:
        try:
            for server in self._servers:
                server.launch()
            self.sidecar.know("127.0.0.2", "127.0.0.3")
            self.sidecar.rewrite(self._text())
            self.sidecar.start()
            for server in self._servers:
                server.wait_up()
            self.sidecar.wait_ready()
        except BaseException:
            self._kill()
            raise
        self._clients.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._siege.close()
        self._swift.close()
        self._clients.__exit__()
        self._kill()

    def _kill(self) -> None:
        self.sidecar.kill()
        for server in self._servers:
            server.kill()

    # --- the sidecar's file --------------------------------------------------------------------------------------

    def _text(self) -> str:
        """Another configuration each time: weights, a spare server that comes and goes, a split that moves."""
        chance = self._chance
        endpoints = [f"{{address: {server.addresses[0]!r}, weight: {chance.randint(1, 3)}}}" for server in self._shaky]
        if chance.random() < 0.5:
            endpoints.append(f"{{address: {self._spare_address!r}, weight: 1}}")
        chance.shuffle(endpoints)
        named = f"dns: '{NAME}:{self._named_port}'"
        if not self.sidecar.has_names:
            named = f"endpoints: ['127.0.0.2:{self._named_port}', '127.0.0.3:{self._named_port}']"
        others = self._siege.upstreams() | self._swift.upstreams(chance)
        upstreams = "\n              ".join(f"{name}: {text}" for name, text in others.items())
        balancing = chance.choice(("least_request", "round_robin", "random", "peak_ewma"))
        return f"""
            service: storm
            identity: {self._siege.identity()}
            inbound:
              {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{self._app_port}", tls: permissive}}
            outbound:
              listen: 127.0.0.1:${{OUTBOUND_PORT}}
              routes:
                - name: shaky-{self._generation % 3}
                  match: {{host: shaky}}
                  to: {{shaky: {100 - chance.randint(0, 10)}, spare: {chance.randint(0, 10)}}}
                  timeout: 8s
                  retry:
                    attempts: 3
                    on: [5xx, refused, timeout]
                    per_try_timeout: 1500ms
                    backoff: {{base: 5ms, max: 50ms}}
                  mirror: {{to: shadow, percent: 20%}}
                - name: sealed
                  match: {{host: sealed}}
                  to: sealed
                  timeout: 8s
                  retry:
                    attempts: 3
                    on: [connect_failure, 5xx, refused, timeout]
                    per_try_timeout: 2s
                    backoff: {{base: 5ms, max: 50ms}}{self._swift.ROUTE}
            upstreams:
              shaky:
                hosts: []
                endpoints: [{", ".join(endpoints)}]
                load_balancing: {balancing}
                idle_timeout: 1s
                retry_budget: {{percent: 100%, min_per_second: 100}}
                circuit_breaker: {{max_connections: 1000, max_requests: 2000, max_retries: 1000}}
                outlier_detection:
                  {{consecutive_5xx: 5, interval: 1s, base_ejection_time: 500ms, max_ejection_percent: 34}}
              spare: {{hosts: [], endpoints: ['{self._spare_address}'], idle_timeout: 1s}}
              shadow: {{hosts: [], endpoints: ['{self._shadow.addresses[0]}'], idle_timeout: 1s}}
              named: {{{named}, idle_timeout: 1s}}
              {upstreams}
            limits:
              {{idle_timeout: 30s, stream_idle_timeout: 10s, header_timeout: {self.plan.header_timeout_s:g}s,
              max_connections: 20000}}
            drain: {{timeout: 15s}}
        """

    def _reload(self) -> None:
        self._generation += 1
        self._is_file_bad = self._generation % 10 == 7
        if self._is_file_bad:
            self.sidecar.rewrite(self._text() + "\n            no_such_key: true\n")
            answer = self.sidecar.admin("/reload", method="POST", timeout_s=RELOAD_TIMEOUT_S)
            assert answer.status == 400, answer
            self.figures.refused_reloads += 1
            return
        self.sidecar.rewrite(self._text())
        answer = self.sidecar.admin("/reload", method="POST", timeout_s=RELOAD_TIMEOUT_S)
        assert answer.status == 200, answer
        self.figures.reloads += 1

    def _change_names(self) -> None:
        hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
        self.sidecar.know(*self._chance.sample(hosts, self._chance.choice((0, 1, 1, 2, 3))))
        self.figures.name_changes += 1

    # --- the clients ---------------------------------------------------------------------------------------------

    def _choose(self, chance: random.Random) -> tuple[Kind, int]:
        kind = chance.choices(tuple(_SHARES), tuple(_SHARES.values()))[0]
        return kind, self.sidecar.outbound_port if kind.host else self.sidecar.inbound_port

    def _send_slow_clients(self, count: int) -> None:
        plan, port = self.plan, self.sidecar.outbound_port
        for number in range(count):
            pieces = self._chance.randint(5, 20)
            pause_s = plan.slow_s / pieces
            size = self._chance.choice((20_000, 100_000))
            self._clients.spawn(self._clients.slow_reader(SLOW_READ, port, size, pause_s, pieces))
            self._clients.spawn(self._clients.slow_writer(SLOW_WRITE, port, size, pause_s, pieces))
            if number % 10 == 0:
                inbound = self.sidecar.inbound_port
                self._clients.spawn(self._clients.slow_reader(SLOW_TLS_READ, inbound, size, pause_s, pieces))
                self._clients.spawn(self._clients.slow_writer(SLOW_TLS_WRITE, inbound, size, pause_s, pieces))

    def _begin_load(self, until: float) -> None:
        plan, self._load_until_s = self.plan, until
        self._clients.spawn(
            self._clients.steady(
                plan.per_second, self._choose, plan.leaves, lambda: time.monotonic() > self._load_until_s
            )
        )

    # --- its course ----------------------------------------------------------------------------------------------

    def run(self) -> Figures:
        """All of it; asserts nothing but that reloads are answered as they should be."""
        figures, plan = self.figures, self.plan
        self._begin_load(time.monotonic() + plan.warm_up_s)
        # As many as two bursts that overlap: what memory they need at once is the process's for good.
        self._send_slow_clients(2 * plan.slow)
        self._siege.warm_up()
        self._swift.send_slow_clients(plan.slow // 5, plan.slow_s)
        time.sleep(plan.warm_up_s)
        self._settle()
        figures.memory_before_kib, figures.descriptors_before = self.sidecar.memory_kib(), self.sidecar.descriptors()

        began_s = time.monotonic()
        self._next_reload_s = self._next_name_s = self._next_slow_s = began_s
        self._begin_load(inf)
        self._siege.begin()
        self._swift.begin()
        while (
            time.monotonic() < began_s + plan.seconds
            or len(self._victims.counts()) < len(KINDS)
            or not self._siege.has_done_all
            or not self._swift.has_done_all
        ):
            self._victims.strike()
        self._siege.end()
        self._swift.end()
        self._load_until_s = 0.0
        if self.sidecar.has_names:
            self.sidecar.know("127.0.0.2", "127.0.0.3")
        self._settle()
        figures.memory_after_kib = self.sidecar.memory_kib()
        figures.descriptors_after = self._descriptors(figures.descriptors_before + DESCRIPTOR_SLACK)
        figures.gauges = self.sidecar.gauges()
        self._count()
        stormed = len(self._clients.outcomes)

        self._take_over()
        taken_over = len(self._clients.outcomes)
        self._drain()
        self._judge(stormed, taken_over)
        return figures

    def _wait(self, seconds: float) -> None:
        """Let so much of a fault go by; what else is due happens meanwhile."""
        plan, until = self.plan, time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            figures = self.figures
            figures.descriptors_peak = max(figures.descriptors_peak, self.sidecar.descriptors())
            if now >= self._next_reload_s:
                self._next_reload_s += plan.seconds / plan.reloads
                self._reload()
            if now >= self._next_name_s and self.sidecar.has_names:
                self._next_name_s += 4.0
                self._change_names()
            if now >= self._next_slow_s:
                self._next_slow_s += plan.slow_s + 1.0
                self._send_slow_clients(plan.slow)
                self._swift.send_slow_clients(plan.slow // 10, plan.slow_s)
            time.sleep(0.02)

    def _settle(self) -> None:
        """Until every request is over, clients have hung up and the pools are empty."""
        clients = self._clients
        eventually(lambda: len(clients.outcomes) >= clients.begun, "every request to be over", 60)
        clients.hang_up()
        # Copies that it would never answer are over with it, and need not be waited for.
        self._shadow.kill()
        try:
            eventually(lambda: not any(self.sidecar.gauges().values()), "all to be quiet", 30)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.sidecar.gauge_lines()}") from None
        self._shadow.start()

    def _descriptors(self, most: int) -> int:
        """Those of a sidecar at rest: the connection that asked whether it is may still be on its way out."""
        until = time.monotonic() + 10
        while (count := self.sidecar.descriptors()) > most and time.monotonic() < until:
            time.sleep(0.01)
        return count

    def _count(self) -> None:
        figures, sidecar = self.figures, self.sidecar
        figures.counted = int(sidecar.metric("sidecar_requests_total"))
        figures.retries = int(sidecar.metric("sidecar_upstream_retries_total"))
        figures.connections = int(sidecar.metric("sidecar_downstream_connections_opened_total"))
        self._siege.count()
        figures.dropped_lines = int(sidecar.metric("sidecar_log_lines_dropped_total"))
        eventually(lambda: sidecar.log_lines() >= figures.counted, "every exchange to be logged", 10)
        figures.logged = sidecar.log_lines()
        lines, swift = sidecar.access_log(), self._swift.figures
        calls = sidecar.by_label("sidecar_grpc_requests_total", "grpc_status")
        figures.unrecorded = disagreements(self._clients.outcomes, lines, calls)
        links = self._clients.links
        swift.connections, swift.again, swift.most, swift.wrong = links.opened, links.again, links.most, links.wrong
        swift.by_protocol = Counter(str(line.get("protocol")) for line in lines)
        swift.statuses = Counter(calls)
        figures.memory_peak_kib = sidecar.peak_memory_kib()

    def _take_over(self) -> None:
        """Under load, without a fault: nobody may notice."""
        if self._is_file_bad:  # no successor would start by it
            self._reload()
        for _ in range(self.plan.takeovers):
            first, second = self.sidecar, self.sidecar.successor()
            self._begin_load(time.monotonic() + self.plan.takeover_load_s)
            self._send_slow_clients(20)
            self._swift.send_slow_clients(5, self.plan.slow_s)
            self._swift.send_talks(3, self.plan.slow_s)
            time.sleep(self.plan.takeover_load_s * self._chance.uniform(0.1, 0.3))
            step = self._siege.turn()
            second.start("--takeover")
            self.sidecar = second
            try:
                self.figures.takeover_codes.append(first.wait())
            finally:
                first.kill()
            self._siege.see(step)
            eventually(lambda: time.monotonic() > self._load_until_s, "the load to end", 10)
            self._settle()

    def _drain(self) -> None:
        figures, plan = self.figures, self.plan
        self._begin_load(time.monotonic() + plan.drain_load_s + 1.0)
        time.sleep(plan.drain_load_s * self._chance.uniform(0.1, 0.5))
        self._send_slow_clients(20)
        self._swift.send_slow_clients(5, plan.slow_s)
        self._swift.send_talks(3, plan.slow_s)
        time.sleep(plan.drain_load_s * self._chance.uniform(0.2, 0.5))
        self._terminated_s = time.monotonic()
        self.sidecar.signal(signal.SIGTERM)
        figures.exit_code = self.sidecar.wait()
        figures.drain_s = time.monotonic() - self._terminated_s
        figures.stderr = self.sidecar.stderr()
        eventually(lambda: len(self._clients.outcomes) >= self._clients.begun, "every request to be over", 60)

    def _judge(self, stormed: int, taken_over: int) -> None:
        figures, outcomes = self.figures, self._clients.outcomes
        for server in self._servers:
            server.kill()
        journals, faults = Journals(self._recording), [*self._victims.faults, *self._swift.faults]
        figures.requests = len(outcomes)
        figures.by_kind = Counter(outcome.kind.name for outcome in outcomes)
        figures.arrivals = sum(journals.arrivals.values())
        figures.faults = self._victims.counts()
        figures.slowest_s = max(outcome.ended_s - outcome.began_s for outcome in outcomes if outcome.kind not in _SLOW)
        figures.storm_requests = stormed
        self._siege.judge(outcomes[:stormed])
        figures.siege = self._siege.figures
        figures.swift = self._swift.figures
        figures.swift.faults = Counter(fault.kind for fault in self._swift.faults)
        figures.verdict = judge(outcomes[:stormed], journals, faults)
        figures.takeover = judge(outcomes[stormed:taken_over], journals, faults)
        # Who comes after SIGTERM may be turned away, if nobody has seen the request.
        rest = []
        for outcome in outcomes[taken_over:]:
            is_late = outcome.ended_s > self._terminated_s and outcome.failure in ("refused", "unanswered")
            if is_late and not journals.seen[outcome.id].methods:
                figures.turned_away += 1
            else:
                rest.append(outcome)
        figures.drain = judge(rest, journals, faults)
