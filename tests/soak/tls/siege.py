"""
The part of a storm that TLS plays: what the sidecar's file says of it, who is there, and what befalls them.

Three things go on at the same time, each in a thread: certificates change (`rotation`), servers are hurt one at a time
(`servers`), and clients come that speak TLS badly, or all at once (`intruders`). Good requests go on all the while.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.clients import PATIENCE_S, Clients
from tests.soak.outcome import Kind, Outcome
from tests.soak.servers import Journals
from tests.soak.surroundings import StormSidecar
from tests.soak.tls.intruders import KINDS as VISITORS
from tests.soak.tls.intruders import Intruders
from tests.soak.tls.recorder import SealedTemper
from tests.soak.tls.rotation import COURSE, SHORT_COURSE, Rotation, Step
from tests.soak.tls.servers import SealedServer, Strikes
from tests.soak.tls.verdict import Provoked, Told, disagreements
from tests.soak.tls.world import CALLERS, PARTNER, PARTNER_HOST, SEALED, STORM, WELL, World

SEALED_GET = Kind("sealed get", "GET", "sealed", caller=STORM)
SEALED_POST = Kind("sealed post", "POST", "sealed", caller=STORM)
SEALED_KEYED = Kind("sealed keyed post", "POST", "sealed", is_keyed=True, caller=STORM)
MESH_GET = Kind("mesh get", "GET", "secured", caller=STORM)
MESH_POST = Kind("mesh post", "POST", "secured", caller=STORM)
PARTNER_GET = Kind("partner get", "GET", "partner", caller=PARTNER)
PARTNER_POST = Kind("partner post", "POST", "partner", caller=PARTNER)
TLS_GETS = tuple(Kind("tls get", "GET", "", caller=caller, is_secured=True) for caller in CALLERS)
TLS_POSTS = tuple(Kind("tls post", "POST", "", caller=caller, is_secured=True) for caller in CALLERS)
SLOW_TLS_READ = Kind("slow tls read", "GET", "", caller=CALLERS[0], is_secured=True)
SLOW_TLS_WRITE = Kind("slow tls write", "POST", "", caller=CALLERS[1], is_secured=True)

_FAILURES = "sidecar_tls_handshake_failures_total"
_SIDES = ("client", "server")

SHARES: dict[Kind, int] = {
    SEALED_GET: 12,
    SEALED_POST: 4,
    SEALED_KEYED: 4,
    MESH_GET: 4,
    MESH_POST: 3,
    PARTNER_GET: 4,
    PARTNER_POST: 3,
    **dict.fromkeys(TLS_GETS, 4),
    **dict.fromkeys(TLS_POSTS, 2),
}
"""Beside a hundred of what goes in clear."""


@dataclass(frozen=True)
class SiegePlan:
    """
    How hard.

    Attributes:
        is_short: Few certificates, as fast as the sidecar takes them up.
        rotation_s: From one change of certificates to the next.
        visits_s: From one visit of each kind of intruder to the next.
        crowd: Good clients that connect at once, after each visit.
        pace: By which the length of each harm to a server is multiplied.
    """

    is_short: bool = False
    rotation_s: float = 10.0
    visits_s: float = 10.0
    crowd: int = 200
    pace: float = 1.0

    @property
    def course(self) -> Sequence[Step]:
        """Of certificates; the first step comes before all else."""
        return SHORT_COURSE if self.is_short else COURSE


@dataclass
class SiegeFigures:
    """What came of it."""

    changes: Counter[str] = field(default_factory=Counter)
    dropped_roots: int = 0
    strikes: Counter[str] = field(default_factory=Counter)
    provoked: Provoked = field(default_factory=Provoked)
    told: Told = field(default_factory=Told)
    resumed: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told, provoked = self.told, self.provoked
        return "\n".join(
            (
                f"handshakes        {told.clients} with clients ({provoked.opened} good ones),"
                f" {told.servers} with servers; {self.resumed} taken up again",
                f"  failed, clients {_listed(told.clients_failed)}",
                f"  failed, servers {_listed(told.servers_failed)}",
                f"certificates      {_listed(self.changes)}; roots dropped {self.dropped_roots}",
                f"servers hurt      {sum(self.strikes.values())} ({_listed(self.strikes)})",
                f"intruders         {sum(provoked.visits.values())} ({_listed(provoked.visits)})",
                f"disagreements     {'; '.join(self.wrong) or 'none'}",
            )
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


class Siege:
    """
    Args:
        directory: For files and journals.
        plan: How hard.
        seed: Decides about everything but timing.
        clients: Who asks.
        sidecar: Who is besieged, now.
        ports: Four free ones.

    Attributes:
        servers: To be started and killed with the others; their journals count.
        figures: What came of it.
    """

    def __init__(
        self,
        directory: Path,
        plan: SiegePlan,
        seed: str,
        clients: Clients,
        sidecar: Callable[[], StormSidecar],
        ports: Sequence[int],
    ) -> None:
        self.plan = plan
        self.figures = SiegeFigures()
        self._world = world = World(directory / "certificates")
        self._sealed = [
            SealedServer(f"sealed{number}", directory, lambda: world.sealed, f"127.0.0.1:{port}")
            for number, port in enumerate(ports[:3])
        ]
        self._secured = SealedServer("secured", directory, lambda: world.well, f"127.0.0.1:{ports[3]}", SealedTemper())
        self.servers = [*self._sealed, self._secured]
        self._clients, self._sidecar = clients, sidecar
        clients.contexts, clients.speaks_with = world.contexts, STORM
        self._rotation = Rotation(world, sidecar, self._tell_servers)
        self._is_over = threading.Event()
        self._strikes = Strikes(self._sealed, f"{seed}/strikes", self._is_over.wait, plan.pace)
        self._intruders = Intruders(world, f"{seed}/intruders", lambda: sidecar().inbound_port)
        self._threads = ThreadPoolExecutor(3)
        self._at_work: list[Future[None]] = []
        self._first: Future[None] | None = None
        self._has_turned = False
        self._rotation.begin()

    # --- the sidecar's file --------------------------------------------------------------------------------------

    def identity(self) -> str:
        """Who the sidecar is."""
        return f"{{from: {{files: {self._files(self._world.identity.path)}}}, trust_domain: shop}}"

    @staticmethod
    def _files(folder: Path) -> str:
        return f"{{certificate: '{folder}/tls.crt', key: '{folder}/tls.key', trust: '{folder}/ca.crt'}}"

    def upstreams(self) -> dict[str, str]:
        """By name: servers that are hurt, and one that is well, as a sidecar and as somebody outside."""
        pair = self._files(self._world.partner.path).removeprefix("{")
        sealed = ", ".join(f"'{server.addresses[0]}'" for server in self._sealed)
        # However long a machine that is busy takes for its handshakes: there is no other to go to.
        well = f"endpoints: ['{self._secured.addresses[0]}'], idle_timeout: 1s, connect_timeout: {PATIENCE_S:g}s"
        return {
            "sealed": f"{{hosts: [], endpoints: [{sealed}], tls: {{identities: '{SEALED}'}}, idle_timeout: 1s, "
            "load_balancing: round_robin, connect_timeout: 1500ms, retry_budget: {percent: 100%, min_per_second: 100}}",
            "secured": f"{{{well}, tls: {{identities: '{WELL}'}}}}",
            "partner": f"{{{well}, tls: {{server_name: {PARTNER_HOST}, {pair}}}",
        }

    # --- its course ------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """The first change of certificates, which takes some seconds, while the sidecar warms up."""
        self._first = self._threads.submit(self._rotation.step, self.plan.course[0])
        # What memory a crowd needs at once is the process's for good.
        self._clients.crowd(TLS_GETS, self._sidecar().inbound_port, 2 * self.plan.crowd)

    def begin(self) -> None:
        """Certificates, servers, intruders."""
        self._at_work = [self._threads.submit(one) for one in (self._rotate, self._strike, self._intrude)]

    @property
    def has_done_all(self) -> bool:
        """Whether each kind of everything has come once, or something went wrong."""
        if any(one.done() and one.exception() is not None for one in self._at_work):
            return True
        return self._strikes.has_done_all and self._has_turned and len(self._intruders.visits) >= len(VISITORS) - 1

    def end(self) -> None:
        """All of it; what has begun is gone through with. Raises what went wrong."""
        self._is_over.set()
        for one in self._at_work:
            one.result(180)

    def close(self) -> None:
        """Whatever it was doing."""
        self._is_over.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _rotate(self) -> None:
        assert self._first is not None
        self._first.result()
        course = self.plan.course
        for number in itertools.count(1):
            due_s = time.monotonic() + self.plan.rotation_s
            self._rotation.step(course[number % len(course)])
            self._has_turned = self._has_turned or number + 1 == len(course)
            if self._has_turned and (self.plan.is_short or self._is_over.is_set()):
                return
            self._is_over.wait(max(0.0, due_s - time.monotonic()))

    def _strike(self) -> None:
        while not self._is_over.is_set():
            self._strikes.strike()

    def _intrude(self) -> None:
        while True:
            self._clients.crowd(TLS_GETS, self._sidecar().inbound_port, self.plan.crowd)
            self._clients.do(self._intruders.come())
            if self._is_over.wait(self.plan.visits_s):
                return

    def _tell_servers(self) -> None:
        for server in self.servers:
            server.renew()

    def turn(self) -> Step:
        """Before a takeover: other files, which the successor starts with; `see` waits until it shows them."""
        step = self._rotation.last()
        self._rotation.put(step)
        return step

    def see(self, step: Step) -> None:
        """The successor has what `turn` has put there, and lets nobody in by a root that was dropped."""
        self._rotation.see(step, is_counted=False)
        if self._world.dropped is not None:
            self._clients.do(self._intruders.visit("dropped root"))
            refused = self._sidecar().metric(_FAILURES, reason="client_certificate_untrusted")
            if refused != 1:
                self.figures.wrong.append("a successor let somebody in by a root that was dropped")

    # --- what came of it -----------------------------------------------------------------------------------------

    def count(self) -> None:
        """What the sidecar says, while it does nothing, before another takes over."""
        figures, sidecar = self.figures, self._sidecar()
        failed = [sidecar.by_label(_FAILURES, "reason", side=side) for side in _SIDES]
        done = [int(sidecar.metric("sidecar_tls_handshakes_total", side=side)) for side in _SIDES]
        figures.told = Told(done[0], done[1], failed[0], failed[1])
        figures.resumed = int(sidecar.metric("sidecar_tls_handshakes_total", resumed="true"))
        figures.provoked.visits = Counter(self._intruders.visits)
        figures.provoked.opened = self._clients.handshakes
        figures.provoked.at_servers = Journals(list(self.servers)).handshakes
        figures.strikes = self._strikes.counts
        figures.changes = Counter(self._rotation.kinds)
        figures.dropped_roots = self._rotation.dropped
        for (place, outcome), count in sorted(self._rotation.counts.items()):
            told = sidecar.metric("sidecar_identity_rotations_total", purpose=place, outcome=outcome)
            if told != count:
                figures.wrong.append(f"certificates of {place} {outcome}: {count} times, {told:g} are told")

    def judge(self, outcomes: Sequence[Outcome]) -> None:
        """Compare; `outcomes` are those of the time that was counted."""
        figures = self.figures
        left = [one.kind for one in outcomes if one.failure == "left"]
        figures.provoked.left = sum(kind.is_secured for kind in left)
        figures.provoked.left_behind = sum(bool(kind.caller) and not kind.is_secured for kind in left)
        figures.wrong += disagreements(figures.provoked, figures.told)
