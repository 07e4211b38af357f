"""The scenarios whose figure is CPU time per request, at saturation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from .bench import AVAILABLE, Bench, Entry, Record, Result
from .load import Load
from .processes import StartError
from .records import CORES_FOR_RATE, OURS
from .rounds import MIB, Stage
from .site import Work
from .traffic import Traffic

TABLES = (10, 100, 1_000, 10_000)  # routes
BODIES = (1024, MIB, 16 * MIB)
LONG_USERS = 4  # of uploads: as many different requests, each with its body, are kept in memory
CONNECTIONS = (1, 64, 1_000)


def plain(bench: Bench) -> Result:
    """Routing only."""
    return _everyone(bench, "plain", Work())


def full(bench: Bench) -> Result:
    """Routing, access log, spans and scraped metrics: the whole thing."""
    return _everyone(bench, "full", Work(is_full=True))


def _everyone(bench: Bench, name: str, work: Work) -> Result:
    subjects = bench.choose()
    with (
        bench.grounds(name, sinks=len(subjects)) as grounds,
        bench.all_started(grounds, subjects, work) as entries,
    ):
        contests = [(Stage("", 0), entry, bench.load()) for entry in entries]
        return Result(bench.take_turns(name, contests, bench.rounds))


def routes(bench: Bench) -> Result:
    """Tables of 10 to 10,000 routes, of which the last two are asked for."""
    subjects = bench.choose(without=("relay", "aiohttp"))
    contests: list[tuple[Stage, Entry, Load]] = []
    with bench.grounds("routes") as grounds, contextlib.ExitStack() as started:
        for count in TABLES:
            for subject in subjects:
                entry = bench.start(grounds, subject, Work(routes=count), 0, f"{subject.name}-{count}")
                started.callback(entry.running.process.stop)
                contests.append((Stage(f"{count}", 0), entry, bench.load(seconds=bench.short_s)))
        return Result(bench.take_turns("routes", contests, min(bench.rounds, 3)))


def bodies(bench: Bench) -> Result:
    """Responses of 1 KiB, 1 MiB and 16 MiB."""
    return _by_size(bench, "bodies", is_upload=False)


def uploads(bench: Bench) -> Result:
    """Requests with bodies of 1 KiB, 1 MiB and 16 MiB."""
    return _by_size(bench, "uploads", is_upload=True)


def _by_size(bench: Bench, name: str, *, is_upload: bool) -> Result:
    records: list[Record] = []
    for size in BODIES:
        is_long = size > BODIES[0]
        users = LONG_USERS if is_upload and is_long else Traffic().users
        load = bench.load(
            Traffic(users=users, upload_bytes=size if is_upload else 0),
            seconds=bench.short_s,
            connections=8 if is_long else 32,
        )
        with (
            bench.grounds(name, body_bytes=size, uploads=is_upload) as grounds,
            bench.all_started(grounds, bench.choose(), Work()) as entries,
        ):
            stage = Stage(_size(size), 0, size, grounds.v1_port if is_upload else None)
            contests = [(stage, entry, load) for entry in entries]
            records += bench.take_turns(name, contests, min(bench.rounds, 3))
    return Result(records)


def _size(octets: int) -> str:
    return f"{octets // MIB} MiB" if octets >= MIB else f"{octets // 1024} KiB"


def connections(bench: Bench) -> Result:
    """1, 64 and 1,000 connections that are kept, and a new one for each request."""
    loads: list[tuple[str, Load]] = [
        (f"{count}", bench.load(seconds=bench.short_s, connections=count)) for count in CONNECTIONS
    ]
    loads.append(("new each", bench.load(Traffic(closes=True), seconds=bench.short_s)))
    with (
        bench.grounds("connections") as grounds,
        bench.all_started(grounds, bench.choose(), Work()) as entries,
    ):
        contests = [(Stage(case, 0), entry, load) for case, load in loads for entry in entries]
        return Result(bench.take_turns("connections", contests, min(bench.rounds, 3)))


def workers(bench: Bench) -> Result:
    """The sidecar with one worker and with two; nothing is pinned but, where cores suffice, the load."""
    subjects = bench.choose(*OURS)
    notes = []
    cpus, others = AVAILABLE[:2], AVAILABLE[2:]
    if len(AVAILABLE) < CORES_FOR_RATE:
        notes.append(
            f"{len(AVAILABLE)} cores: workers and load share them, so that only CPU time per request can be compared; "
            "the rate needs two cores for the workers and two for the load"
        )
        cpus, others = AVAILABLE, AVAILABLE
    spread = replace(bench, subject_cpus=cpus, other_cpus=others)
    contests: list[tuple[Stage, Entry, Load]] = []
    with spread.grounds("workers", sinks=2 * len(subjects)) as grounds, contextlib.ExitStack() as started:
        sink_ports = iter(grounds.sink_ports)
        for count in (1, 2):
            for subject in subjects:
                work = Work(is_full=True, workers=count)
                try:
                    entry = spread.start(grounds, subject, work, next(sink_ports), f"{subject.name}-{count}")
                except StartError as problem:
                    return Result([], [f"{subject.name} refuses `workers: {count}`: {_refusal(problem)}"])
                started.callback(entry.running.process.stop)
                contests.append((Stage(f"{count}", 0), entry, spread.load(connections=64)))
        return Result(spread.take_turns("workers", contests, min(spread.rounds, 3)), notes)


def _refusal(problem: StartError) -> str:
    lines = [line for line in str(problem).splitlines() if "workers" in line]
    return lines[0].rpartition("/")[2] if lines else str(problem)


SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    each.__name__: each for each in (plain, full, routes, bodies, uploads, connections, workers)
}
