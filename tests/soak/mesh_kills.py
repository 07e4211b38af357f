"""
kill -9 of everything that a mesh consists of, one at a time, as a seed decides: who, for how long, and what is edited
meanwhile.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.integration.test_mesh_faults import back
from tests.soak.app import App
from tests.soak.steady import Trouble
from tests.support.control import Control
from tests.support.mesh import Member
from tests.support.mesh_on_etcd import MeshOnEtcd
from tests.support.wait import eventually

SLACK_S = 2.0
"""After somebody's return what he was hurt by still arrives: a request that waits for another try."""
SETTLED_S = 150.0
"""Back-offs of sidecars (30 s), the announcement of a replica that died (20 s), and a wave that is held anew."""


class Kills:
    """
    Args:
        apps: By instance, the app beside each sidecar that may be killed, or whose app may be.
        seed: Decides.

    Attributes:
        counts: Kills, by what was killed.
        troubles: When which of them could hurt a request.
        edition: Of `back`'s file, as it was pushed last.
        refused_pushes: Pushes that were not taken, for nobody was there to take them.
        slowest_return_s: The longest that it took until all was as before, from a return on.
    """

    def __init__(self, mesh: MeshOnEtcd, front: Member, apps: dict[str, App], seed: str) -> None:
        self.counts: Counter[str] = Counter()
        self.troubles: list[Trouble] = []
        self.edition = 1
        self.refused_pushes = 0
        self.slowest_return_s = 0.0
        self._mesh = mesh
        self._front = front
        self._apps = apps
        self._chance = random.Random(seed)
        self._left: list[Callable[[], None]] = []

    def strike(self) -> None:
        """One kill, until everything is as before; all kinds come before one comes again."""
        if not self._left:
            kinds = [self._control, self._sidecar, self._app, self._etcd, self._compiler]
            self._left = self._chance.sample(kinds, len(kinds))
        if self._chance.random() < 0.5:
            self._edit()
            time.sleep(self._chance.uniform(0.0, 2.0))  # into the middle of its rollout
        self._left.pop()()
        if self._chance.random() < 0.5:
            self._edit()
        began_s = time.monotonic()
        self._settle()
        self.slowest_return_s = max(self.slowest_return_s, time.monotonic() - began_s)

    # --- who -----------------------------------------------------------------------------------------------------

    def _control(self) -> None:
        victim = self._chance.choice(self._mesh.replicas)
        self.counts["control plane"] += 1
        victim.stop(signal.SIGKILL)
        self._mesh.ask(next(one for one in self._mesh.replicas if one is not victim))
        self._wait(0.5, 5.0)
        victim.start(is_ready=False)

    def _sidecar(self) -> None:
        victim = self._mesh.members[self._chance.choice(sorted(self._apps))]
        self.counts["sidecar"] += 1
        began_s = time.monotonic()
        victim.kill()
        self._wait(0.2, 2.0)
        victim.begin()
        eventually(victim.is_ready, f"{victim.id} to be ready", 60)
        self._hurt("sidecar", began_s)

    def _app(self) -> None:
        victim = self._apps[self._chance.choice(sorted(self._apps))]
        self.counts["app"] += 1
        began_s = time.monotonic()
        victim.kill()
        self._wait(0.1, 2.0)
        victim.start()
        self._hurt("app", began_s)

    def _etcd(self) -> None:
        victim = self._chance.choice(self._mesh.cluster.members)
        self.counts["etcd member"] += 1
        victim.kill()
        self._wait(0.5, 5.0)
        self._mesh.cluster.start(victim)

    def _compiler(self) -> None:
        """While it judges, as far as the edit has come to it."""
        self._edit()
        pids = [pid for one in self._mesh.replicas for pid in compilers(one)]
        if pids:
            self.counts["compiling process"] += 1
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(pids), signal.SIGKILL)

    # --- and what else -----------------------------------------------------------------------------------------------

    def _edit(self) -> None:
        try:
            taken = self._mesh.try_push(back(self.edition + 1))
        except OSError:
            taken = 0
        if taken:
            self.edition += 1
        else:
            self.refused_pushes += 1

    def _hurt(self, what: str, began_s: float) -> None:
        self.troubles.append(Trouble(what, began_s, time.monotonic() + SLACK_S))

    def _wait(self, least_s: float, most_s: float) -> None:
        time.sleep(self._chance.uniform(least_s, most_s))

    def _settle(self) -> None:
        """Until all run what was pushed last, and all of them are called."""
        mesh = self._mesh
        for one in mesh.replicas:
            eventually(one.is_ready, f"{one.directory.name} to be ready: {one.log()[-3000:]}", 60)
        for member in mesh.cluster.members:
            eventually(member.is_well, f"{member.name} to be well", 60)
        mesh.wait_settled(timeout_s=SETTLED_S)
        backs = [mesh.members[name] for name in self._apps]
        self._front.wait_knows("back", *backs)
        wanted = str(self.edition)
        eventually(
            lambda: all(member.inbound("/").headers.get("x-edition") == wanted for member in backs),
            f"edition {wanted} everywhere",
            SETTLED_S,
        )


def compilers(control: Control) -> list[int]:
    """The processes in which a control plane compiles."""
    assert control.process is not None
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            is_child = f"\nPPid:\t{control.process.pid}\n" in status.read_text()
            if is_child and b"spawn_main" in status.with_name("cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found
