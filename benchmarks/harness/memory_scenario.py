"""What idle connections cost in memory."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from .bench import Bench, Entry, Record, Result, faults_of
from .processes import tree_pss_mib
from .rounds import warm
from .site import Work
from .traffic import Traffic

IDLE = 10_000
AT_ONCE = 32  # connections that ask at the same time, so that the pool to the upstream stays as it is
PER_ADDRESS = 5_000  # connections from one address of ours: a loopback address has 28,000 ports
SETTLE_S = 1.0  # for what ends with the start, or is given back after a load
SPARE_CLIENTS = 1_000  # more than the connections of the load before
SPARE_FILES = SPARE_CLIENTS + 500
FILES = 65_536
BODY_BYTES = 1024


def memory(bench: Bench) -> Result:
    """PSS before and after 10,000 connections that each had one request answered and stay."""
    subjects = bench.choose(without=("relay",))
    notes = ["the relay holds a connection upstream for each of a client: it is left out"]
    count = min(IDLE, open_files() - SPARE_FILES)
    if count < IDLE:
        notes.append(f"{count} connections instead of {IDLE}: no more open files are allowed here (ulimit -Hn)")
    records: list[Record] = []
    work = Work(is_full=True, clients=count + SPARE_CLIENTS)
    with (
        bench.grounds("memory", sinks=len(subjects)) as grounds,
        bench.all_started(grounds, subjects, work) as entries,
    ):
        requests = Traffic().requests(seed=3)
        time.sleep(SETTLE_S)
        for place, entry in enumerate(entries):
            started_mib = tree_pss_mib(entry.running.process.pid)
            warm(entry.running, entry.sink_port, bench.load())
            record = idle(entry, requests, count, place)
            record["started_mib"] = round(started_mib, 2)
            records.append(record)
            print(
                f"{'memory':12} {entry.subject:8} {started_mib:6.1f} MiB started, {record['before_mib']:6.1f} loaded, "
                f"{record['with_idle_mib']:6.1f} with {count} idle: {record['kib_each']} KiB each  "
                f"{'; '.join(faults_of(record))}",
                flush=True,
            )
    return Result(records, notes)


def open_files() -> int:
    """Raise the limit of open files as far as it is needed and allowed, for the subjects too; gives what it is then."""
    with contextlib.suppress(OSError, ValueError):  # only the superuser may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else FILES


def idle(
    entry: Entry, requests: Sequence[bytes], count: int, place: int, case: str = "", body_bytes: int = BODY_BYTES
) -> Record:
    """
    Open the connections, ask once on each, leave them, and see what they weigh.

    Args:
        place: Of the subject among the others: each gets addresses of its own, for closed connections hold their ports.
        body_bytes: Of each answer.
    """
    client = entry.running.client
    context = client.context() if client is not None else None
    pid = entry.running.process.pid
    time.sleep(SETTLE_S)
    before = tree_pss_mib(pid)
    with contextlib.ExitStack() as held:
        answered = closed = 0
        kept = select.poll()
        while answered < count:
            sockets = [
                _connect(entry.running.port, place, number, context)
                for number in range(answered, min(answered + AT_ONCE, count))
            ]
            for number, each in enumerate(sockets, answered):
                held.callback(each.close)
                each.sendall(requests[number % len(requests)])
            for each in sockets:
                _read_answer(each, body_bytes)
                kept.register(each, select.POLLIN)
            answered += len(sockets)
        time.sleep(SETTLE_S)
        after = tree_pss_mib(pid)
        closed = len(kept.poll(0))  # nobody asked: what can be read is an end
    return {
        "case": case,
        "round": 1,
        "subject": entry.subject,
        "connections": count,
        "before_mib": round(before, 2),
        "with_idle_mib": round(after, 2),
        "kib_each": round((after - before) * 1024 / count, 2),
        "faults": [f"{closed} of {count} connections were closed by the subject"] if closed else [],
    }


def _connect(port: int, place: int, number: int, context: ssl.SSLContext | None) -> socket.socket:
    source = f"127.0.{1 + place}.{1 + number // PER_ADDRESS}", 0
    connected = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=source)
    return context.wrap_socket(connected) if context is not None else connected


def _read_answer(connected: socket.socket, body_bytes: int) -> None:
    """
    Raises:
        OSError: The answer is not a whole 200.
    """
    data = bytearray()
    end = -1
    while end < 0 or len(data) < end + 4 + body_bytes:
        block = connected.recv(65536)
        if not block:
            break
        data += block
        if end < 0:
            end = data.find(b"\r\n\r\n")
    if not data.startswith(b"HTTP/1.1 200 ") or end < 0 or len(data) != end + 4 + body_bytes:
        raise OSError(f"expected an answer with 200, got {len(data)} octets: {bytes(data[:80])!r}")


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"memory": memory}
