"""The scenario of HTTP/2 between two sidecars: whether ordinary requests are cheaper by it than by HTTP/1.1."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from .bench import Bench, Record, Result, faults_of
from .load import Load, saturate
from .processes import Others, tree_cpu_s
from .records import OURS
from .sidecar_pair import SidecarPair, start_pair
from .subjects import COMMANDS
from .tls_certificates import Certificates

PROTOCOLS = ("http1", "http2")
CONNECTIONS = (64, 8)  # of clients, each with a request under way
SHOWN = "{} {}"  # a subject's name in the records, with what is spoken between the two


def h2mesh(bench: Bench) -> Result:
    """
    Requests of HTTP/1.1 through the client's sidecar and, by mutual TLS, the server's to an app that speaks HTTP/1.1,
    from 64 connections and from 8; between the sidecars HTTP/1.1, and HTTP/2. Routing only. Both are on the core of the
    subject.
    """
    files = Certificates(bench.folder / "certificates")
    loads = {f"{count}": bench.load(connections=count) for count in CONNECTIONS}
    records: list[Record] = []
    with bench.grounds("h2mesh") as grounds, contextlib.ExitStack() as started:
        pairs: dict[tuple[str, str], SidecarPair] = {}
        for subject in bench.choose(*OURS):
            for protocol in PROTOCOLS:
                folder = grounds.folder / f"{subject.name}-{protocol}"
                command = COMMANDS[subject.name]()
                pair = start_pair(command, folder, bench.subject_cpus, files, protocol, grounds.v1_port)
                started.callback(pair.stop)
                saturate(pair.port, loads["64"], 1)
                pairs[subject.name, protocol] = pair
        for number in range(1, bench.rounds + 1):
            for case, load in loads.items():
                for (name, protocol), pair in pairs.items():
                    record = _measured(pair, load, protocol)
                    record |= {"case": case, "round": number, "subject": SHOWN.format(name, protocol)}
                    records.append(record)
                    _show(record)
    return Result(records)


def _measured(pair: SidecarPair, load: Load, protocol: str) -> Record:
    """One load, and what it cost either of the two."""
    others = Others()
    before = [tree_cpu_s(each.pid) for each in (pair.near, pair.far)]
    result = saturate(pair.port, load)
    near_s, far_s = (tree_cpu_s(each.pid) - was for each, was in zip((pair.near, pair.far), before, strict=True))
    foreign, steal = others.cores()
    requests, seconds = result["requests"] - result["non_2xx"], result["duration_us"] / 1e6
    failed = sum(result[each] for each in ("non_2xx", "connect", "read", "write", "timeout"))
    opened = pair.opened()
    faults = [f"{failed} of {requests + failed} requests failed"] if failed else []
    if (opened < max(CONNECTIONS)) != (protocol == "http2"):
        faults.append(f"{opened} connections were made between the sidecars by {protocol}")
    return {
        "requests": requests,
        "failed": failed,
        "cpu_us": round((near_s + far_s) / max(requests, 1) * 1e6, 2),
        "near_us": round(near_s / max(requests, 1) * 1e6, 2),
        "far_us": round(far_s / max(requests, 1) * 1e6, 2),
        "rate": round(requests / seconds, 1),
        "busy": round((near_s + far_s) / seconds, 3),
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "opened": opened,
        "generator": round(result["cpu_us"] / 1e6 / seconds, 3),
        "foreign": round(foreign, 4),
        "steal": round(steal, 4),
        "faults": faults,
    }


def _show(record: Record) -> None:
    print(
        f"{'h2mesh':12} {record['case']:>3} {record['round']} {record['subject']:16} {record['cpu_us']:6} us, of which "
        f"{record['near_us']} the client's  {record['rate']}/s  {record['opened']} connections  "
        f"{'; '.join(faults_of(record))}",
        flush=True,
    )


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"h2mesh": h2mesh}
