"""The scenarios whose figure is a time: latency at a fixed rate, reload under load, start."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from .bench import AVAILABLE, Bench, Entry, Grounds, Record, Result, faults_of
from .evidence import Evidence, Scraper
from .figures import percentiles_ms
from .load import Load, SteadyLoad, Stream, saturate
from .processes import Others, get, tree_cpu_s
from .rounds import unproven, warm
from .site import HOST, Subject, Work
from .sleepers import sleepers
from .tls_certificates import Certificates
from .traffic import Traffic

STEADY_CONNECTIONS = 64
STEADY_S = 5
ASSUMED_SATURATION = 14_000.0  # requests a second, where there is no Envoy to ask
RELOAD_ROUTES = 10_000
RELOAD_RATE = 4_000.0  # a request every quarter of a millisecond, so that a stall of one is seen
RELOAD_S = 10  # of which two and a half pass before the reload
RELOADS = 3
STARTS = 5
APPLIED_WITHIN_S = 20.0
AFTER_NS = 500_000_000  # how long after the new table answers belongs to the reload


def latency(bench: Bench) -> Result:
    """Everybody at half of Envoy's saturation rate, everything on; latency from the moment a request was due."""
    return at_half(bench, "latency", "", bench.choose(), Work(is_full=True))


def at_half(
    bench: Bench, scenario: str, case: str, subjects: list[Subject], work: Work, calls: Load | None = None
) -> Result:
    """
    One case of such a scenario.

    Args:
        calls: Over HTTP/2, with as many connections and streams as these.
    """
    load = calls or bench.load()
    records: list[Record] = []
    seconds = min(STEADY_S, 2 * bench.seconds)
    files = work.tls.files if work.tls is not None and work.is_outward else None
    with (
        _upstreams(bench, scenario, len(subjects), files, load) as grounds,
        bench.all_started(grounds, subjects, work) as entries,
    ):
        for entry in entries:
            warm(entry.running, entry.sink_port, load)
        saturation = _saturation(load, entries)
        rate = (saturation or ASSUMED_SATURATION) / 2
        note = (
            f"Envoy's saturation rate in this run: {saturation:.0f} requests a second"
            if saturation
            else (
                f"no Envoy to measure: {ASSUMED_SATURATION:.0f} requests a second were assumed as its saturation rate"
            )
        )
        steady = replace(load, seconds=seconds)
        if calls is None:
            steady = replace(steady, connections=STEADY_CONNECTIONS)
        for number in range(1, min(bench.rounds, 3) + 1):
            for entry in entries:
                record = steady_once(case, entry, number, steady, rate)
                records.append(record)
                show_steady(scenario, record)
    return Result(records, [note])


def _upstreams(
    bench: Bench, scenario: str, sinks: int, files: Certificates | None, load: Load
) -> AbstractContextManager[Grounds]:
    if load.calls is None:
        return bench.grounds(scenario, sinks=sinks, files=files)
    return bench.grounds(scenario, sinks=sinks, files=files, calls=True, body_bytes=load.calls.body_bytes)


def steady_once(case: str, entry: Entry, number: int, load: Load, rate: float, *, is_alone: bool = True) -> Record:
    """
    One load of fixed rate with its proof; of a subject that could not follow, no log or span is expected.

    Args:
        is_alone: Nobody else asks meanwhile, so that lines and spans are those of this load.
    """
    evidence, others = Evidence(entry.running, entry.sink_port), Others()
    scraper = Scraper(*entry.running.scrape) if entry.running.scrape is not None else None
    if scraper is not None:
        scraper.start()
    stream = SteadyLoad(entry.running.port, load, rate, entry.running.client).finish()
    if scraper is not None:
        scraper.stop()
    answered = len(stream.latencies_s) - stream.failed - stream.unanswered
    evidence.wait_for(answered)
    record = steady_record(case, number, entry.subject, stream, others)
    faults = [f"{stream.failed} of {len(stream.latencies_s)} requests failed"] if stream.failed else []
    is_proven = is_alone and not stream.unanswered
    record["faults"] = [*faults, *unproven(*evidence.shares(answered))] if is_proven else faults
    return record


def _saturation(load: Load, entries: list[Entry]) -> float | None:
    """Envoy's requests a second when it is loaded as far as it goes."""
    for entry in entries:
        if entry.subject == "envoy":
            found = []
            for _ in range(3):
                evidence = Evidence(entry.running, entry.sink_port)
                result = saturate(entry.running.port, load, client=entry.running.client)
                found.append(result["requests"] / (result["duration_us"] / 1e6))
                evidence.wait_for(result["requests"])
            return statistics.median(found)
    return None


def steady_record(case: str, number: int, subject: str, stream: Stream, others: Others) -> Record:
    foreign, steal = others.cores()
    return {
        "case": case,
        "round": number,
        "subject": subject,
        "offered": round(stream.rate, 1),
        "requests": len(stream.latencies_s),
        "failed": stream.failed,
        "unanswered": stream.unanswered,
        "reopened": stream.reopened,
        **percentiles_ms(stream.latencies_s),
        "generator_busy": round(stream.cpu_s * stream.rate / max(len(stream.latencies_s), 1), 3),
        "lag_p50_ms": round(stream.lag_p50_s * 1000, 4),
        "lag_p99_ms": round(stream.lag_p99_s * 1000, 4),
        "lag_max_ms": round(stream.lag_max_s * 1000, 4),
        "foreign": round(foreign, 4),
        "steal": round(steal, 4),
        "faults": [],
    }


def show_steady(scenario: str, record: Record) -> None:
    figures = "  ".join(
        f"{name} {record[name]}" for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms") if name in record
    )
    late = f"unanswered {record['unanswered']}  lag p99 {record['lag_p99_ms']} ms"
    who = f"{scenario:12} {record['case']:>4} {record['round']} {record['subject']:8}"
    print(f"{who} {figures}  {late}  {'; '.join(faults_of(record))}", flush=True)


def reload(bench: Bench) -> Result:
    """
    Replace a table of 10,000 routes by one with another route, under a load of fixed rate on the first of them.

    The first, because a subject that asks route by route would be overloaded by the last, which is not the matter here.
    """
    subjects = bench.choose(without=("relay", "aiohttp"))
    records: list[Record] = []
    traffic = Traffic(prefix=Work().services[0])
    load = bench.load(traffic, seconds=RELOAD_S, connections=STEADY_CONNECTIONS)
    with (
        bench.grounds("reload") as grounds,
        bench.all_started(grounds, subjects, Work(routes=RELOAD_ROUTES)) as entries,
    ):
        for entry in entries:
            saturate(entry.running.port, load, 1)
        for number in range(1, min(bench.rounds, RELOADS) + 1):
            for entry in entries:
                record = _reload_once(entry, number, load)
                records.append(record)
                show_steady("reload", record)
    return Result(records, ["the relay has no routes and aiohttp's application no reload: both are left out"])


def _reload_once(entry: Entry, number: int, load: Load) -> Record:
    """
    One reload during one load; the window is from the command until half a second after the new route answers.

    Requests that fail are a finding here, not a fault: some proxies close connections that they kept.
    """
    ask = entry.running.reload
    assert ask is not None
    added = f"/reloaded-{number:02d}"
    services = [*entry.work.services, added]
    cpu_before = tree_cpu_s(entry.running.process.pid)
    others = Others()
    with sleepers(AVAILABLE) as stalls:
        steady = SteadyLoad(entry.running.port, load, RELOAD_RATE)
        time.sleep(RELOAD_S / 4)
        asked_ns = time.monotonic_ns()
        ask(services)
        applied_ns = _await_route(entry.running.port, added)
        stream = steady.finish()
    record = steady_record("", number, entry.subject, stream, others)
    if stalls.is_first:
        record["stalled_ms"] = round(stalls.longest_ms(), 3)
        record["awake_max_ms"] = stream.awake_max_ms(stalls)
    record["cpu_s"] = round(tree_cpu_s(entry.running.process.pid) - cpu_before, 3)
    if applied_ns is None:
        record["faults"] = [f"the new route did not answer in {APPLIED_WITHIN_S:g} s"]
        return record
    if applied_ns > stream.end_ns:
        record["faults"] = ["the new route answered only after the load was over"]
    until_ns = max(applied_ns + AFTER_NS, asked_ns + 2 * AFTER_NS)
    around, rest = stream.within([(asked_ns, until_ns)])
    record["applied_s"] = round((applied_ns - asked_ns) / 1e9, 3)
    record["around"] = percentiles_ms(around)
    record["rest"] = percentiles_ms(rest)
    return record


def _await_route(port: int, path: str) -> int | None:
    """The moment at which a new connection finds the new route."""
    deadline = time.monotonic() + APPLIED_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if get(port, path + "/", {"Host": HOST})[0] == 200:
                return time.monotonic_ns()
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.01)
    return None


def start(bench: Bench) -> Result:
    """From the start of the process to the first answer, with 20 routes and with 10,000; nothing is pinned."""
    bench = replace(bench, subject_cpus=AVAILABLE)
    records: list[Record] = []
    with bench.grounds("start", sinks=1) as grounds:
        for number in range(1, min(STARTS, 2 * bench.rounds) + 1):
            for count in (Work().routes, RELOAD_ROUTES):
                for subject in bench.choose(without=("relay",) if count == RELOAD_ROUTES else ()):
                    work, sink_port = Work(is_full=True, routes=count), grounds.sink_ports[0]
                    entry = bench.start(grounds, subject, work, sink_port, proves=number == 1)
                    ready_s = entry.running.process.ready_s
                    cpu_s = tree_cpu_s(entry.running.process.pid)
                    entry.running.process.stop()
                    assert ready_s is not None
                    records.append(
                        {
                            "case": f"{count}",
                            "round": number,
                            "subject": subject.name,
                            "ready_ms": round(ready_s * 1000, 1),
                            "cpu_ms": round(cpu_s * 1000),
                            "faults": [],
                        }
                    )
                    print(f"{'start':12} {count:>6} {number} {subject.name:8} {ready_s * 1000:7.0f} ms", flush=True)
    return Result(records)


SCENARIOS: dict[str, Callable[[Bench], Result]] = {each.__name__: each for each in (latency, reload, start)}
