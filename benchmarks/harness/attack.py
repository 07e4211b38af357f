"""The hostile peer that a load stands beside: `resets.py` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType

from .load import pin
from .site import HERE

OVER_WITHIN_S = 30.0


class Attack:
    """
    Resets from the first connection until the block ends.

    Attributes:
        figures: Of a record, once it is over: resets that were sent, requests that the subject took in, if it says so,
            connections that were made and that could not be made, each a second; the share of a core that the peer
            used; and how many connections ended how.
    """

    def __init__(self, port: int, rate: float, behind: int, cpus: tuple[int, ...]) -> None:
        """
        Begin.

        Args:
            behind: So many requests are begun before each is reset.
        """
        order = {"port": port, "rate": rate, "behind": behind, "seed": 4}
        self.figures: dict[str, object] = {}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "resets.py"), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=pin(cpus),
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "BEGUN\n":
            self._process.kill()
            self._process.wait()
            raise RuntimeError("the hostile peer could not begin")

    def __enter__(self) -> Attack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        printed, _ = self._process.communicate(timeout=OVER_WITHIN_S)
        found = json.loads(printed)
        seconds = found["seconds"]
        for name in ("resets", "taken", "connections", "failed"):
            if name != "taken" or found[name]:  # none at all: it says nothing of it
                self.figures[f"{name}_s"] = round(found[name] / seconds, 1)
        self.figures |= {"peer_busy": round(found["cpu_s"] / seconds, 3), "ends": found["ends"]}


def ends_of(figures: list[dict[str, object]]) -> str:
    """How the connections of all these ended, in words."""
    found: dict[str, int] = {}
    for each in figures:
        ends = each.get("ends")
        for how, count in ends.items() if isinstance(ends, dict) else ():
            found[how] = found.get(how, 0) + count
    return ", ".join(f"GOAWAY {how}: {count}" if how.isdigit() else f"{how}: {count}" for how, count in found.items())
