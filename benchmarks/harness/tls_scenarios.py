"""The scenarios of TLS and authorization whose figure is CPU time per request or per connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from .bench import Bench, Entry, Record, Result
from .load import Load
from .rounds import MIB, Stage
from .site import Subject, Work
from .tls_certificates import Certificates
from .tls_client import Tls, build_wrk_tls
from .traffic import Traffic

WITHOUT = ("relay", "haproxy", "aiohttp")
AT_ONCE = 8  # connections where each has but one request: more would wait for the handshakes of the others
RULES = 1_000


def prepared(bench: Bench) -> Tls:
    """Certificates for a scenario and what wrk needs, all in clear so far."""
    folder = bench.folder / "certificates"
    return Tls(Certificates(folder), build_wrk_tls(bench.folder))


def subjects_of(bench: Bench, *without: str) -> list[Subject]:
    """Those that are compared over TLS."""
    return bench.choose(without=(*WITHOUT, *without))


def tls(bench: Bench) -> Result:
    """
    Routing only, in clear, with TLS from clients, with mutual TLS to upstreams; and the whole thing with mutual TLS on
    both sides: access log, spans and scraped metrics.
    """
    base, subjects = prepared(bench), subjects_of(bench)
    cases = {
        "clear": Work(),
        "in": Work(tls=replace(base, is_inward=True)),
        "out": Work(tls=replace(base, is_outward=True)),
        "both": Work(is_full=True, tls=replace(base, is_inward=True, is_mutual=True, is_outward=True)),
    }
    records: list[Record] = []
    for case, work in cases.items():
        files = base.files if work.is_outward else None
        with (
            bench.grounds("tls", sinks=len(subjects) if work.is_full else 0, files=files) as grounds,
            bench.all_started(grounds, subjects, work) as entries,
        ):
            contests = [(Stage(case, 0), entry, bench.load()) for entry in entries]
            records += bench.take_turns("tls", contests, bench.rounds)
    return Result(records)


def tlsbodies(bench: Bench) -> Result:
    """Responses of 1 MiB, with TLS from clients, and with mutual TLS to upstreams."""
    base, records = prepared(bench), list[Record]()
    load = bench.load(seconds=bench.short_s, connections=8)
    for case, legs in (("in", replace(base, is_inward=True)), ("out", replace(base, is_outward=True))):
        with (
            bench.grounds("tlsbodies", body_bytes=MIB, files=base.files if legs.is_outward else None) as grounds,
            bench.all_started(grounds, subjects_of(bench), Work(tls=legs)) as entries,
        ):
            contests = [(Stage(case, 0, MIB), entry, load) for entry in entries]
            records += bench.take_turns("tlsbodies", contests, min(bench.rounds, 3))
    return Result(records)


def tlsconnections(bench: Bench) -> Result:
    """A connection for each request: it is accepted, both show certificates, one GET is answered, it is closed."""
    base = prepared(bench)
    work = Work(tls=replace(base, is_inward=True, is_mutual=True))
    traffic = Traffic(closes=True)
    loads = {case: bench.load(traffic, connections=AT_ONCE, resumes=case == "resumed") for case in ("full", "resumed")}
    with (
        bench.grounds("tlsconnections") as grounds,
        bench.all_started(grounds, subjects_of(bench), work) as entries,
    ):
        contests = [
            (Stage(case, 0, connections=case), entry, load) for case, load in loads.items() for entry in entries
        ]
        return Result(bench.take_turns("tlsconnections", contests, min(bench.rounds, 3)))


def authorization(bench: Bench) -> Result:
    """
    Mutual TLS from clients without rules, and with 1,000, each of which takes a caller, a method and a path: the last
    lets the load in, and a tenth of the others is for it, but for other paths.
    """
    base = prepared(bench)
    contests: list[tuple[Stage, Entry, Load]] = []
    with bench.grounds("authorization") as grounds, contextlib.ExitStack() as started:
        for rules in (0, RULES):
            for subject in subjects_of(bench, "nginx"):
                work = Work(tls=replace(base, is_inward=True, is_mutual=True), rules=rules)
                entry = bench.start(grounds, subject, work, 0, f"{subject.name}-{rules}")
                started.callback(entry.running.process.stop)
                contests.append((Stage(f"{rules}", 0), entry, bench.load()))
        records = bench.take_turns("authorization", contests, bench.rounds)
    return Result(records, ["nginx has no such rules: it is left out"])


SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    each.__name__: each for each in (tls, tlsbodies, tlsconnections, authorization)
}
