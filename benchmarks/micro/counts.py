"""
What a request costs in counts: the same on every machine, busy or not, and so what CI holds a change to.

    python -m benchmarks.micro.counts             # print what this interpreter counts, beside the committed ceilings
    python -m benchmarks.micro.counts --write     # commit to it: `make ceilings`
    python -m benchmarks.micro.counts --json      # for `tests/unit/proxy/test_ceilings.py`

Counted on `data_path.DataPath` for the workload of `benchmarks/load.lua`, where every cookie and target is new, and on
`call_path.CallPath` for calls of gRPC over HTTP/2, where timeouts, traces and cookies are:

    python_calls     frames entered
    c_calls          calls of what is written in C, as far as the interpreter reports them
    bytecodes        instructions executed: the nearest to a figure of time that does not move
    containers_made  objects that the cyclic collector tracks, made on the way, however shortly they live
                     (Python 3.12 and later)
    containers_held  of these, such as live while the upstream thinks
    blocks_held      memory blocks that live while the upstream thinks

and what must be nothing: objects and blocks that a request leaves behind (`containers_left`, `blocks_left`), and
objects that only the cyclic collector frees, of a thousand requests together (`cycles`).

Each figure is the median of a row of requests, so that what happens once in a thousand (a memory that is full is
emptied, a second begins) counts nothing. The figures differ between versions of Python, not between machines or runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks.micro import call_path, data_path
from sidecar.http1 import grammar

CEILINGS = Path(__file__).resolve().parent / "ceilings.json"
NOTHING = ("containers_left", "blocks_left", "cycles")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_WARM, _COUNTED, _MANY = 200, 31, 500
_PIECE = b"x" * 65536
# What the scaffold around the data path executes is not the data path's.
_SCAFFOLD = frozenset((call_path.__file__, data_path.__file__, __file__))
Counts = dict[str, float]
Act = Callable[[int], None]


def counted(act: Act) -> Counts:
    """
    Count what `act` does.

    Args:
        act: Does the same kind of work for each number; a number that was not used before is a user not seen before.
    """
    for number in range(_WARM):
        act(number)
    fresh = count(_WARM)
    rows = [_one(act, fresh) for _ in range(_COUNTED)]
    return {name: median(row[name] for row in rows) for name in rows[0]}


def median(values: Iterable[float]) -> float:
    """An integer that occurs."""
    return statistics.median_low(list(values))


def _one(act: Act, fresh: Iterator[int]) -> Counts:
    calls = {"call": 0, "c_call": 0}

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event in calls and frame.f_code.co_filename not in _SCAFFOLD:
            calls[event] += 1

    number = next(fresh)
    sys.setprofile(profile)
    act(number)
    sys.setprofile(None)
    bytecodes = _instructions(act, next(fresh), lambda: None)
    counts: Counts = {"python_calls": calls["call"], "c_calls": calls["c_call"], "bytecodes": bytecodes}
    if sys.version_info >= (3, 12):  # before, tracing makes an object and often a dictionary of each frame
        made = _Made()
        _instructions(act, next(fresh), made.look)
        counts["containers_made"] = made.count
    return counts


class _Made:
    """Adds up by how much the number of tracked objects rises from one instruction to the next."""

    def __init__(self) -> None:
        self.count = 0
        # The collector's counter does not go below 0: without something to fall from, what is freed would be missed.
        self._reserve = _reserve()
        self._last = gc.get_count()[0]

    def look(self) -> None:
        """After each instruction."""
        now = gc.get_count()[0]
        if now > self._last:
            self.count += now - self._last
        self._last = now


def _reserve() -> list[list[None]]:
    return [[] for _ in range(5000)]


def _instructions(act: Act, number: int, look: Callable[[], None]) -> int:
    """How many instructions run, and a look after each."""
    return (_by_monitoring if sys.version_info >= (3, 12) else _by_tracing)(act, number, look)


def _by_tracing(act: Act, number: int, look: Callable[[], None]) -> int:
    executed = 0

    def each(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal executed
        if event == "opcode":
            executed += 1
            look()
        return each

    def begin(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename in _SCAFFOLD:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return each

    sys.settrace(begin)
    act(number)
    sys.settrace(None)
    return executed


def _by_monitoring(act: Act, number: int, look: Callable[[], None]) -> int:
    monitoring = sys.monitoring  # type: ignore[attr-defined]
    executed = 0

    def each(code: CodeType, offset: int) -> None:
        nonlocal executed
        if code.co_filename not in _SCAFFOLD:
            executed += 1
            look()

    tool = monitoring.PROFILER_ID
    monitoring.use_tool_id(tool, "counts")
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, each)
    monitoring.set_events(tool, monitoring.events.INSTRUCTION)
    act(number)
    monitoring.set_events(tool, 0)
    monitoring.free_tool_id(tool)
    return executed


def held(
    send: Callable[[bytes], data_path.Transport], answer: Callable[[data_path.Transport], None], users: Sequence[bytes]
) -> Counts:
    """What lives while the upstream thinks."""
    containers, blocks = [], []
    for user in users:
        before, blocks_before = gc.get_count()[0], sys.getallocatedblocks()
        server = send(user)
        containers.append(gc.get_count()[0] - before)
        blocks.append(sys.getallocatedblocks() - blocks_before)
        answer(server)
    return {"containers_held": median(containers), "blocks_held": median(blocks)}


def left(act: Act) -> Counts:
    """What a thousand requests of known users leave behind, each."""
    for number in range(_MANY):
        act(number)
    gc.collect()
    reserve = _reserve()
    before, blocks_before = gc.get_count()[0], sys.getallocatedblocks()
    for number in range(_MANY):
        act(number)
        act(number)
    containers, blocks = gc.get_count()[0] - before, sys.getallocatedblocks() - blocks_before
    del reserve
    # A free list that a first use fills is no leak: a thousandth of an object a request is none.
    return {
        "containers_left": round(containers / _MANY / 2, 1),
        "blocks_left": round(blocks / _MANY / 2, 1),
        "cycles": gc.collect(),
    }


def _request_counts(*, is_full: bool) -> Counts:
    path = data_path.DataPath(has_log=is_full, has_spans=is_full)
    # One kind of user, so that all requests take the same way; the split's few to `beta` do not move a median.
    users = [user for number, user in enumerate(data_path.requests(1000, seed=1 + is_full)) if number % 10 != 9]

    def act(number: int) -> None:
        path.round_trip(users[number])

    def answer(server: data_path.Transport) -> None:
        path.answer(server, data_path.RESPONSE)

    counts = counted(act) | held(path.send, answer, users[-_COUNTED:]) | left(act)
    path.close()
    return counts


def _call_counts() -> Counts:
    # What others have had remembered may fill the memory in between, and is no call's.
    grammar._remembered.clear()
    path = call_path.CallPath(users=1000, seed=3)
    calls = [call for number, call in enumerate(path.calls) if number % 10 != 9]

    def act(number: int) -> None:
        path.call(calls[number])

    counts = counted(act) | held(path.ask, path.reply, calls[-_COUNTED:]) | left(act)
    path.close()
    return counts


def _piece_counts() -> Counts:
    path = data_path.DataPath()
    server = path.send(data_path.requests(1)[0])
    path.answer(server, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")

    def act(number: int) -> None:
        path.answer(server, _PIECE)

    counts = counted(act) | left(act)
    path.close()
    return counts


def count_all() -> dict[str, Counts]:
    """
    All scenarios: a request with log and span, one with neither, a piece of 64 KiB of a response's body, a call of gRPC
    over HTTP/2 with log and span.
    """
    gc.disable()
    random.seed(1)
    return {
        "full": _request_counts(is_full=True),
        "plain": _request_counts(is_full=False),
        "piece": _piece_counts(),
        "call": _call_counts(),
    }


def main() -> None:
    """Count, and print or commit to it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--write", action="store_true", help=f"write the ceilings of this Python to {CEILINGS.name}")
    parser.add_argument("--json", action="store_true", help="print the counts for a program")
    wants = parser.parse_args()
    counts = count_all()
    if wants.json:
        print(json.dumps(counts))
        return
    ceilings = json.loads(CEILINGS.read_text()) if CEILINGS.exists() else {}
    committed = ceilings.get(VERSION, {})
    print(f"Python {VERSION:<18}{'counted':>10}{'ceiling':>10}")
    for scenario, row in counts.items():
        for name, value in row.items():
            ceiling = 0 if name in NOTHING else committed.get(scenario, {}).get(name, "-")
            print(f"{scenario:<7}{name:<18}{value:>10}{ceiling:>10}")
    if wants.write:
        ceilings[VERSION] = {
            scenario: {name: value for name, value in row.items() if name not in NOTHING}
            for scenario, row in counts.items()
        }
        CEILINGS.write_text(json.dumps(dict(sorted(ceilings.items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
