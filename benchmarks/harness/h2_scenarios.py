"""The scenarios of HTTP/2 and gRPC: CPU time a call, latency at a fixed rate and beside an attack, idle memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from .attack import Attack, ends_of
from .bench import Bench, Entry, Record, Result, faults_of
from .load import Calls, Load, pin
from .memory_scenario import SETTLE_S, open_files
from .processes import tree_cpu_s, tree_pss_mib
from .rounds import MIB, Stage, warm
from .site import HERE, Subject, Work
from .time_scenarios import at_half, show_steady, steady_once
from .tls_scenarios import prepared
from .traffic import Traffic

WITHOUT = ("relay", "nginx", "haproxy", "aiohttp")
MESSAGE_BYTES = 133  # of an answer: a message of 128 octets and what gRPC puts before it
BOTH = Work(is_full=True, is_http2_in=True, is_http2_out=True)
SHAPES = {"4 x 16": (4, 16), "32 x 1": (32, 1)}  # connections, and streams of each
IDLE_CONNECTIONS, IDLE_STREAMS, STREAMS_EACH = 2_000, 10_000, 100
SPARE_CLIENTS = 1_000
RESET_RATE = 10_000  # a second
CALM_RATE = 2_000.0  # calls a second of others, meanwhile
ATTACKS: dict[str, int | None] = {"none": None, "at once": 0, "later": 20}  # requests before each is reset
PAUSE_S = 1.5  # in which lines and spans go out that a proof, a warm-up or an attack has left


def subjects_of(bench: Bench) -> list[Subject]:
    """Those that are compared."""
    return bench.choose(without=WITHOUT)


def calls_of(bench: Bench, shape: str, *, has_trailers: bool = True) -> Load:
    """A load of short calls."""
    connections, streams = SHAPES[shape]
    return bench.load(connections=connections, calls=Calls(streams, MESSAGE_BYTES, has_trailers))


def h2(bench: Bench) -> Result:
    """
    Calls with everything on: over HTTP/2 on both sides from 4 connections of 16 streams and from 32 of one, from
    HTTP/1.1 to HTTP/2 and back, and by mutual TLS on both sides.
    """
    mutual = replace(prepared(bench), is_inward=True, is_mutual=True, is_outward=True)
    call = bench.load(Traffic(is_call=True), connections=32)
    cases: dict[str, tuple[Work, Load]] = {
        "2 to 2, 4 x 16": (BOTH, calls_of(bench, "4 x 16")),
        "2 to 2, 32 x 1": (BOTH, calls_of(bench, "32 x 1")),
        "1 to 2": (replace(BOTH, is_http2_in=False), call),
        "2 to 1": (replace(BOTH, is_http2_out=False), calls_of(bench, "4 x 16", has_trailers=False)),
        "mutual TLS": (replace(BOTH, tls=mutual), calls_of(bench, "4 x 16")),
    }
    records: list[Record] = []
    subjects = subjects_of(bench)
    for case, (work, load) in cases.items():
        files = mutual.files if work.is_outward else None
        with (
            bench.grounds("h2", sinks=len(subjects), body_bytes=MESSAGE_BYTES, calls=True, files=files) as grounds,
            bench.all_started(grounds, subjects, work) as entries,
        ):
            contests = [(Stage(case, 0, MESSAGE_BYTES), entry, load) for entry in entries]
            records += bench.take_turns("h2", contests, bench.rounds)
    return Result(records)


def h2bodies(bench: Bench) -> Result:
    """Answers of a message of 1 MiB over HTTP/2, routing only, from 4 connections of 2 streams."""
    load = bench.load(seconds=bench.short_s, connections=4, calls=Calls(2, MIB))
    with (
        bench.grounds("h2bodies", body_bytes=MIB, calls=True) as grounds,
        bench.all_started(grounds, subjects_of(bench), replace(BOTH, is_full=False)) as entries,
    ):
        contests = [(Stage("1 MiB", 0, MIB), entry, load) for entry in entries]
        return Result(bench.take_turns("h2bodies", contests, min(bench.rounds, 3)))


def h2latency(bench: Bench) -> Result:
    """Calls from 4 connections of 16 streams at half of Envoy's saturation rate, everything on."""
    return at_half(bench, "h2latency", "", subjects_of(bench), BOTH, calls_of(bench, "4 x 16"))


def h2reset(bench: Bench) -> Result:
    """
    2,000 calls a second from 4 connections of 16 streams, everything on, with nobody beside them and beside one peer
    that begins 10,000 requests a second and resets each: at once, and when 20 others have begun, so that it may have
    reached the upstream. The peer is on the core of the load.

    Who is not let in by one connection opens another: how often it had to, and how the subject ended them, is noted.
    """
    subjects, records = subjects_of(bench), list[Record]()
    load = replace(calls_of(bench, "4 x 16"), seconds=max(4, 2 * bench.seconds))
    with (
        bench.grounds("h2reset", sinks=len(subjects), body_bytes=MESSAGE_BYTES, calls=True) as grounds,
        bench.all_started(grounds, subjects, BOTH) as entries,
    ):
        for entry in entries:
            warm(entry.running, entry.sink_port, load)
        time.sleep(PAUSE_S)
        for number in range(1, min(bench.rounds, 5) + 1):
            for entry in entries:
                for case, behind in ATTACKS.items():
                    record = _beside(case, behind, entry, number, load)
                    records.append(record)
                    show_steady("h2reset", record)
    notes = []
    for entry in entries:
        for case in ATTACKS:
            mine = [each for each in records if each["subject"] == entry.subject and each["case"] == case]
            if words := ends_of(mine):
                notes.append(f"{entry.subject}, {case}: how connections of the peer ended: {words}")
    return Result(records, notes)


def _beside(case: str, behind: int | None, entry: Entry, number: int, load: Load) -> Record:
    """One load of fixed rate, beside the peer unless there is nothing to be reset."""
    pid, began, cpu_s = entry.running.process.pid, time.monotonic(), tree_cpu_s(entry.running.process.pid)
    if behind is None:
        record = steady_once(case, entry, number, load, CALM_RATE)
    else:
        with Attack(entry.running.port, RESET_RATE, behind, load.cpus) as attack:
            record = steady_once(case, entry, number, load, CALM_RATE, is_alone=False)
        record |= attack.figures
        time.sleep(PAUSE_S)
    record["busy"] = round((tree_cpu_s(pid) - cpu_s) / (time.monotonic() - began), 3)
    return record


def h2memory(bench: Bench) -> Result:
    """PSS before and after 2,000 connections that each had one call answered, and with 10,000 calls under way."""
    subjects, records = subjects_of(bench), list[Record]()
    count = min(IDLE_CONNECTIONS, open_files() - SPARE_CLIENTS)
    work = replace(BOTH, clients=count + SPARE_CLIENTS)
    cases = {"connection": (count, 0, count), "stream": (IDLE_STREAMS // STREAMS_EACH, STREAMS_EACH, IDLE_STREAMS)}
    for case, (connections, streams, held) in cases.items():
        with (
            bench.grounds("h2memory", sinks=len(subjects), body_bytes=MESSAGE_BYTES, calls=True) as grounds,
            bench.all_started(grounds, subjects, work) as entries,
        ):
            for entry in entries:
                load = bench.load(connections=connections, calls=Calls(streams, MESSAGE_BYTES))
                record = _held(entry, load, case, held)
                records.append(record)
                print(
                    f"{'h2memory':12} {case:>10} {entry.subject:8} {record['before_mib']:6.1f} MiB before, "
                    f"{record['with_idle_mib']:6.1f} with {held}: {record['kib_each']} KiB each  "
                    f"{'; '.join(faults_of(record))}",
                    flush=True,
                )
    return Result(records, [f"a stream is one of {STREAMS_EACH} of its connection, and has one to the upstream"])


def _held(entry: Entry, load: Load, case: str, count: int) -> Record:
    """Let the load hold what it opens, and see what that weighs."""
    time.sleep(SETTLE_S)
    pid = entry.running.process.pid
    before = tree_pss_mib(pid)
    assert load.calls is not None
    order = load.calls.order(entry.running.port, load, None, seed=3) | {"hold": True}
    with subprocess.Popen(
        [sys.executable, str(HERE / "calls.py"), json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=pin(load.cpus),
    ) as holding:
        assert holding.stdin is not None
        assert holding.stdout is not None
        first = holding.stdout.readline()
        time.sleep(SETTLE_S)
        after = tree_pss_mib(pid)
        holding.stdin.close()
        last = holding.stdout.readline()
    good = first == last == "HELD 0\n"
    return {
        "case": case,
        "round": 1,
        "subject": entry.subject,
        "connections": load.connections,
        "streams": load.calls.streams,
        "before_mib": round(before, 2),
        "with_idle_mib": round(after, 2),
        "kib_each": round((after - before) * 1024 / count, 2),
        "faults": [] if good else [f"not all were held: {first!r}, then {last!r}"],
    }


SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    each.__name__: each for each in (h2, h2bodies, h2latency, h2reset, h2memory)
}
