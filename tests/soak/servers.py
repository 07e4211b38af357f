"""The recording servers as processes: started, told their temper, stopped, continued, killed; and their records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.soak.recorder import Temper
from tests.support.signals import stop

ROOT = Path(__file__).parent.parent.parent


class Server:
    """
    One recorder; its journal outlives the process.

    Args:
        name: What it answers in `x-server`.
        directory: Where the journal is kept.
        addresses: `host:port`, the same after each start.
        calm: Its temper when nothing is wrong with it.
    """

    def __init__(self, name: str, directory: Path, *addresses: str, calm: Temper = Temper()) -> None:  # noqa: B008
        self.name = name
        self.addresses = addresses
        self.journal = directory / f"{name}.journal"
        self.calm = calm
        self.process: subprocess.Popen[bytes] | None = None

    def program(self) -> list[str]:
        """A module and its arguments."""
        return ["tests.soak.recorder", self.name, str(self.journal), *self.addresses]

    def start(self) -> None:
        """Start it; it listens when this returns."""
        self.launch()
        self.wait_up()

    def launch(self) -> None:
        """Start it; `wait_up` must follow."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.program()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def wait_up(self) -> None:
        """It listens when this returns."""
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n", f"{self.name} did not start"
        self.temper(self.calm)

    def temper(self, temper: Temper) -> None:
        """Behave like this from now on."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(temper)).encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, which has taken effect when this returns, or SIGCONT."""
        assert self.process is not None
        if number is signal.SIGSTOP:
            stop(self.process.pid)
        else:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(15)
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
            self.process = None


@dataclass
class Seen:
    """
    What the servers saw of one request.

    Attributes:
        methods: Of each arrival.
        callers: Whom each came from; empty for who is nobody.
        began, ended: Answers begun and wholly handed to the kernel.
        hurt: How it was hurt on purpose.
    """

    methods: list[str] = field(default_factory=list)
    callers: set[str] = field(default_factory=set)
    began: int = 0
    ended: int = 0
    hurt: list[str] = field(default_factory=list)


class Journals:
    """
    What all servers together recorded.

    Attributes:
        seen: By id.
        wrong: Requests that were not as their id says.
        arrivals: By server.
        handshakes: By what came of them, of servers by TLS.
    """

    def __init__(self, servers: list[Server]) -> None:
        self.seen: dict[str, Seen] = defaultdict(Seen)
        self.wrong: list[str] = []
        self.arrivals: Counter[str] = Counter()
        self.handshakes: Counter[str] = Counter()
        for server in servers:
            self._read(server)

    def _read(self, server: Server) -> None:
        if not server.journal.exists():
            return
        for line in server.journal.read_text().splitlines():
            kind, tag, *rest = line.split(" ")
            if kind == "H":
                self.handshakes[rest[0]] += 1
                continue
            seen = self.seen[tag]
            if kind == "R":
                seen.methods.append(rest[0])
                seen.callers.add(rest[1] if len(rest) > 1 else "")
                self.arrivals[server.name] += 1
            elif kind == "S":
                seen.began += 1
            elif kind == "E":
                seen.ended += 1
            elif kind == "X":
                seen.hurt.append(rest[0])
            elif kind == "W":
                self.wrong.append(f"{server.name}: {line}")
