"""The scenarios of TLS whose figure is a time or a loss: a fixed rate, a flood of handshakes, certificates replaced."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from .bench import AVAILABLE, Bench, Entry, Record, Result
from .figures import percentiles_ms
from .load import Load, SteadyLoad, saturate
from .processes import Others
from .site import Work
from .sleepers import sleepers
from .time_scenarios import STEADY_CONNECTIONS, at_half, show_steady, steady_record
from .tls_certificates import Pair
from .tls_client import TlsClient
from .tls_proof import serial_of, shown_by
from .tls_scenarios import prepared, subjects_of

RATE = 2_000.0  # requests a second beside floods and rotations
HELLOS = 100  # in a flood
FLOOD_EVERY_S = 1.0
ANSWERED_WITHIN_S = 5.0
BEFORE_NS, AFTER_NS = 50_000_000, 300_000_000  # what is due so near to a flood belongs to it
FIRST_S = 0.5  # after the begin of a load
PERIOD_S = 10.0  # of rotations
LOOK_EVERY_S = 0.1  # a new connection, to see which certificate it is shown


def tlslatency(bench: Bench) -> Result:
    """As `latency`, with TLS from clients, and with mutual TLS to upstreams; each at half of Envoy's own saturation."""
    base, subjects = prepared(bench), subjects_of(bench)
    found = [
        at_half(bench, "tlslatency", case, subjects, Work(is_full=True, tls=legs))
        for case, legs in (("in", replace(base, is_inward=True)), ("out", replace(base, is_outward=True)))
    ]
    notes = [f"{case}: {note}" for case, result in zip(("in", "out"), found, strict=True) for note in result.notes]
    return Result([record for result in found for record in result.records], notes)


def flood(bench: Bench) -> Result:
    """
    100 ClientHellos at once, once a second, beside 2,000 requests a second on connections that are kept.

    Who sent them reads the server's answer, says no more, and closes half-way: what is measured is what a handshake
    does to others, and a client that went on would do it on the core of the load.
    """
    base = prepared(bench)
    records: list[Record] = []
    load = bench.load(seconds=max(4, 2 * bench.seconds), connections=STEADY_CONNECTIONS)
    with (
        bench.grounds("flood") as grounds,
        bench.all_started(grounds, subjects_of(bench), Work(tls=replace(base, is_inward=True, is_mutual=True))) as all_,
    ):
        for entry in all_:
            saturate(entry.running.port, load, 1, entry.running.client)
        for number in range(1, min(bench.rounds, 3) + 1):
            for entry in all_:
                record = _flood_once(entry, number, load)
                records.append(record)
                show_steady("flood", record)
    return Result(records)


def _flood_once(entry: Entry, number: int, load: Load) -> Record:
    client, port = entry.running.client, entry.running.port
    assert client is not None
    floods = max(1, int((load.seconds - FIRST_S) / FLOOD_EVERY_S))
    hellos = _hellos(client, HELLOS * floods)
    others = Others()
    windows: list[tuple[int, int]] = []
    took_ms, answered = [], 0
    with sleepers(AVAILABLE) as stalls:
        steady = SteadyLoad(port, load, RATE, client)
        steady.wait_begun()
        began = time.monotonic()
        for each in range(floods):
            with _Flood(port, hellos[each * HELLOS :][:HELLOS]) as sent:
                time.sleep(max(0.0, began + FIRST_S + each * FLOOD_EVERY_S - time.monotonic()))
                at_ns = time.monotonic_ns()
                answered += sent.send_all()
                over_ns = time.monotonic_ns()
            took_ms.append((over_ns - at_ns) / 1e6)
            windows.append((at_ns - BEFORE_NS, over_ns + AFTER_NS))
        stream = steady.finish()
    record = steady_record("", number, entry.subject, stream, others)
    around, rest = stream.within(windows)
    record |= {
        "floods": floods,
        "hellos": len(hellos),
        "answered": answered,
        "answered_ms": round(max(took_ms), 1),
        "around": percentiles_ms(around),
        "rest": percentiles_ms(rest),
    }
    if stalls.is_first:
        record["stalled_ms"] = round(stalls.longest_ms(), 3)
    faults = [f"{stream.failed} of {len(stream.latencies_s)} requests failed"] if stream.failed else []
    if stream.unanswered:
        faults.append(f"{stream.unanswered} requests were not answered")
    if answered != len(hellos):
        faults.append(f"{answered} of {len(hellos)} hellos were answered in {ANSWERED_WITHIN_S:g} s")
    if windows[0][0] < stream.start_ns or windows[-1][0] > stream.end_ns:
        faults.append("not all floods came during the load")
    record["faults"] = faults
    return record


def _hellos(client: TlsClient, count: int) -> list[bytes]:
    """What so many clients send first; made before, for it takes time."""
    context = client.context()
    found = []
    for _ in range(count):
        outgoing = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
        found.append(outgoing.read())
    return found


class _Flood:
    """Connections that were accepted and have said nothing yet."""

    def __init__(self, port: int, hellos: Sequence[bytes]) -> None:
        self._hellos = hellos
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in hellos]

    def __enter__(self) -> _Flood:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()

    def send_all(self) -> int:
        """Send all hellos; gives how many were answered with a handshake in time."""
        for each, hello in zip(self._sockets, self._hellos, strict=True):
            each.sendall(hello)
        waiting = select.poll()
        by_descriptor = {each.fileno(): each for each in self._sockets}
        for descriptor in by_descriptor:
            waiting.register(descriptor, select.POLLIN)
        answered = 0
        deadline = time.monotonic() + ANSWERED_WITHIN_S
        while by_descriptor and (left_s := deadline - time.monotonic()) > 0:
            for descriptor, _ in waiting.poll(left_s * 1000):
                waiting.unregister(descriptor)
                with contextlib.suppress(OSError):
                    answered += by_descriptor.pop(descriptor).recv(1) == b"\x16"
        return answered


def rotation(bench: Bench) -> Result:
    """
    The subject's certificate and key are replaced every ten seconds under 2,000 requests a second, mutual TLS on both
    sides: for a minute, or twenty times the seconds of a load if that is more.

    Requests that fail and connections that are closed are a finding here, not a fault: some proxies close connections
    when they take up new files.
    """
    base = prepared(bench)
    records: list[Record] = []
    load = bench.load(seconds=max(int(2 * PERIOD_S), 20 * bench.seconds), connections=STEADY_CONNECTIONS)
    work = Work(tls=replace(base, is_inward=True, is_mutual=True, is_outward=True))
    with (
        bench.grounds("rotation", files=base.files) as grounds,
        bench.all_started(grounds, subjects_of(bench), work) as entries,
    ):
        for entry in entries:
            saturate(entry.running.port, load, 1, entry.running.client)
            pairs = [base.files.another() for _ in range(int(load.seconds / PERIOD_S))]
            record = _rotate(entry, load, pairs)
            records.append(record)
            show_steady("rotation", record)
    return Result(records)


def _rotate(entry: Entry, load: Load, pairs: Sequence[Pair]) -> Record:
    """One load; each pair is given to the subject and then looked for by new connections, until the next."""
    running = entry.running
    assert running.rotate is not None
    assert running.client is not None
    serials = [serial_of(pair) for pair in pairs]
    others = Others()
    applied_s: list[float] = []
    refused, faults = 0, []
    steady = SteadyLoad(running.port, load, RATE, running.client)
    steady.wait_begun()
    began = time.monotonic()
    for number, (pair, serial) in enumerate(zip(pairs, serials, strict=True)):
        time.sleep(max(0.0, began + FIRST_S + number * PERIOD_S - time.monotonic()))
        asked = time.monotonic()
        running.rotate(pair)
        is_shown = False
        while time.monotonic() < asked + PERIOD_S - 1:
            try:
                shown = shown_by(running.port, running.client).get("serialNumber")
            except (OSError, http.client.HTTPException):
                refused += 1
                shown = None
            if not is_shown and shown == serial:
                is_shown = True
                applied_s.append(time.monotonic() - asked)
            elif is_shown and shown not in (None, serial):
                faults.append(f"certificate {serial} was shown, and then {shown}")
            time.sleep(LOOK_EVERY_S)
        if not is_shown:
            faults.append(f"certificate {number + 1} was not shown in {PERIOD_S - 1:g} s")
    stream = steady.finish()
    record = steady_record("", 1, entry.subject, stream, others)
    record |= {"rotations": len(pairs), "refused": refused, "faults": faults}
    record["lost"] = stream.failed + stream.unanswered + stream.reopened + refused
    if applied_s:
        record["applied_s"] = round(max(applied_s), 3)
    return record


SCENARIOS: dict[str, Callable[[Bench], Result]] = {each.__name__: each for each in (tlslatency, flood, rotation)}
