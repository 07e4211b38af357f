"""What idle connections with mutual TLS cost in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from .bench import Bench, Record, Result, faults_of
from .memory_scenario import BODY_BYTES, SETTLE_S, SPARE_CLIENTS, SPARE_FILES, idle, open_files
from .processes import tree_pss_mib
from .rounds import MIB, warm
from .site import Work
from .tls_scenarios import prepared, subjects_of
from .traffic import Traffic

IDLE = 2_000  # each costs the client a handshake, which in Python takes a millisecond


def tlsmemory(bench: Bench) -> Result:
    """PSS before and after connections that each had one request answered and stay: with 1 KiB, and with 1 MiB."""
    base = prepared(bench)
    count = min(IDLE, 500 * bench.seconds, open_files() - SPARE_FILES)
    work = Work(tls=replace(base, is_inward=True, is_mutual=True), clients=count + SPARE_CLIENTS)
    requests = Traffic().requests(seed=3)
    records: list[Record] = []
    for at, (case, body_bytes) in enumerate((("fresh", BODY_BYTES), ("1 MiB", MIB))):
        subjects = subjects_of(bench)
        with (
            bench.grounds("tlsmemory", body_bytes=body_bytes) as grounds,
            bench.all_started(grounds, subjects, work) as entries,
        ):
            time.sleep(SETTLE_S)
            for place, entry in enumerate(entries):
                started_mib = tree_pss_mib(entry.running.process.pid)
                warm(entry.running, entry.sink_port, bench.load())
                record = idle(entry, requests, count, at * len(subjects) + place, case, body_bytes)
                record["started_mib"] = round(started_mib, 2)
                records.append(record)
                print(
                    f"{'tlsmemory':12} {case:>6} {entry.subject:8} {record['before_mib']:6.1f} loaded, "
                    f"{record['with_idle_mib']:6.1f} with {count} idle: {record['kib_each']} KiB each  "
                    f"{'; '.join(faults_of(record))}",
                    flush=True,
                )
    return Result(records)


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"tlsmemory": tlsmemory}
