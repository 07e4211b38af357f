"""A load of calls over HTTP/2: as many at once as connections and streams allow, or at a fixed rate.

    python benchmarks/calls.py '{"port": 8080, "seconds": 3, "connections": 4, "streams": 16, "body_bytes": 133,
                                 "has_trailers": true, "seed": 1}'

Calls have the shape of gRPC: eight fields beside the pseudo-header fields, of which a `grpc-timeout`, a `traceparent`
and a cookie are each user's own, with 10,000 users, a tenth of them beta users; and a message of 64 octets. An answer
is good if it is a head, exactly so many octets of content, and trailers (`has_trailers`; an error of gRPC is trailers
alone). Like wrk, it prints what came of it as one line of JSON that begins with `RESULT`.

With `rate` and `out` it is an open loop, and prints and writes what `steady.py` does: request i is due at start + i /
rate whatever became of those before it, and its latency counts from there; one that is due while all streams of all
connections wait for answers waits, too.

With `hold`, nothing is measured: `connections` are opened; with 0 `streams` each makes one call, else so many
requests are begun on each and not ended. Then it prints `HELD` and how many connections have ended, holds them until
its input ends, and prints that again.

`tls`, {"trust": FILE, "certificate": FILE, "key": FILE}, is how connections are secured; ALPN says `sidecar-h2` to a
sidecar's port of a mesh, and `h2` to others.
"""

from __future__ import annotations

import gc
import json
import random
import select
import socket
import ssl
import sys
import time
from array import array
from collections import deque
from typing import NotRequired, TypedDict

import wire
from schedule import Report, Schedule

USERS = 10_000
MESSAGE = b"\0\0\0\0\x40" + b"q" * 64
CREDIT = 4 << 20  # octets of content after which windows are made whole
WINDOW = 8 << 20  # of a stream: more than any answer
READ_BYTES = 256 << 10
SAME: wire.Pairs = [
    (b":path", b"/v1/List"),
    (b":authority", b"recommendations"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"user-agent", b"grpc-python/1.85.3 grpc-c/52.0.0 (linux; chttp2)"),
    (b"grpc-encoding", b"identity"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
]
OWN = [b"grpc-timeout", b"traceparent", b"cookie"]
POST, HTTP = 3, 6  # of the static table


class Order(TypedDict):
    """What is asked of this program."""

    port: int
    seconds: float
    connections: int
    streams: int
    body_bytes: int
    has_trailers: bool
    seed: int
    rate: NotRequired[float]
    out: NotRequired[str]
    hold: NotRequired[bool]
    tls: NotRequired[dict[str, str]]


def blocks_of_users(seed: int) -> tuple[bytes, list[bytes]]:
    """The first block of a connection, and one of each user for all others."""
    chance = random.Random(seed)
    kind = wire.Blocks([POST, HTTP], SAME, OWN)
    made = []
    for user in range(1, USERS + 1):
        beta = b"BETA_USER=true; " if user % 10 == 0 else b""
        made.append(
            kind.later(
                [
                    b"%du" % chance.randint(50_000_000, 99_999_999),
                    b"00-%032x-%016x-01" % (chance.getrandbits(128) | 1, chance.getrandbits(64) | 1),
                    b"uid=u%05d; %bsession=%016x" % (user, beta, chance.getrandbits(64)),
                ]
            )
        )
    chance.shuffle(made)
    return kind.learning([b"9S", b"00-%032x-%016x-01" % (1, 1), b"uid=u0"]), made


def _context(order: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(order["trust"])
    context.load_cert_chain(order["certificate"], order["key"])
    context.set_alpn_protocols(["sidecar-h2", "h2"])
    return context


class Link:
    """One connection, and the calls that it carries."""

    __slots__ = ("calls", "next_id", "out", "received", "rest", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.calls: dict[int, list[int]] = {}  # by stream: number of the call, octets that have come, when it was sent
        self.next_id = 1
        self.rest = b""
        self.out: list[bytes] = []
        self.received = 0


class Calls:
    """The connections, and what came of each call."""

    def __init__(self, order: Order) -> None:
        self._address = "127.0.0.1", order["port"]
        self._context = _context(order["tls"]) if "tls" in order else None
        self._first, self._later = blocks_of_users(order["seed"])
        self._size, self._streams = order["body_bytes"], max(order["streams"], 1)
        self._last_kind = wire.HEADERS if order["has_trailers"] else wire.DATA
        self._message = wire.begin(wire.DATA, wire.END_STREAM, len(MESSAGE)), MESSAGE
        self.ended = 0
        self.good = 0
        self.failed = 0
        self.octets = 0
        self._sent = 0
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        self.latencies_ns = array("q")  # closed loop
        self._schedule: Schedule | None = None  # of an open loop
        self._free: deque[Link] = deque()  # likewise: one entry for each stream that is not used
        for _ in range(order["connections"]):
            self._open()

    def _open(self) -> None:
        connected = socket.create_connection(self._address, timeout=5)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            connected = self._context.wrap_socket(connected)
        link = Link(connected)
        credit = wire.window_update(0, wire.MAX_WINDOW - wire.DEFAULT_WINDOW)
        connected.sendall(wire.PREFACE + wire.settings(max_streams=0, window=WINDOW) + credit)
        # What the connection learns comes with its first call.
        self._send(link, self._first, -1)
        self._flush(link)
        while link.calls:
            self._read(link)
        connected.setblocking(False)
        self._links[connected.fileno()] = link
        self._epoll.register(connected, select.EPOLLIN)

    def _send(self, link: Link, block: bytes, number: int, *, is_end: bool = True) -> None:
        stream = link.next_id
        link.next_id = stream + 2
        link.calls[stream] = [number, 0, time.monotonic_ns()]
        tag = stream.to_bytes(4, "big")
        head = wire.begin(wire.HEADERS, wire.END_HEADERS, len(block)) + tag + block
        link.out.append(head + self._message[0] + tag + self._message[1] if is_end else head)

    def _flush(self, link: Link) -> None:
        if link.out:
            data = b"".join(link.out)
            link.out.clear()
            try:
                sent = link.socket.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                sent = 0
            if sent < len(data):  # the subject does not read: nothing else is to be done
                link.socket.setblocking(True)
                link.socket.sendall(data[sent:])
                link.socket.setblocking(False)

    def _read(self, link: Link) -> None:
        """Take in what has come: finished calls are counted, and their streams are free."""
        try:
            data = link.socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            raise ConnectionError(f"a connection has ended with {len(link.calls)} calls on it")
        if isinstance(link.socket, ssl.SSLSocket):
            while pending := link.socket.pending():
                data += link.socket.recv(pending)
        if link.rest:
            data = link.rest + data
        at, size, calls, unpack = 0, len(data), link.calls, wire.FRAME.unpack_from
        while size - at >= 9:
            high, low, kind, flags, stream = unpack(data, at)
            length = high << 8 | low
            if size - at - 9 < length:
                break
            at += 9 + length
            if kind == wire.DATA:
                link.received += length
                if stream in calls:
                    calls[stream][1] += length
            if kind <= wire.HEADERS:
                if flags & wire.END_STREAM and stream in calls:
                    self._done(link, calls.pop(stream), kind == self._last_kind)
            elif kind == wire.RST_STREAM:
                if stream in calls:  # behind the end it only says that the request was of no more use
                    self._done(link, calls.pop(stream), False)
            elif kind == wire.GOAWAY:
                raise ConnectionError(f"GOAWAY {data[at - length + 4 : at]!r}")
            elif kind in (wire.SETTINGS, wire.PING) and not flags & wire.ACK:
                link.out.append(wire.frame(kind, wire.ACK, 0, data[at - length : at] if kind == wire.PING else b""))
        link.rest = data[at:]
        if link.received > CREDIT:
            link.out.append(wire.window_update(0, link.received))
            link.received = 0

    def _done(self, link: Link, call: list[int], is_whole: bool) -> None:
        number, octets, sent_ns = call
        self.octets += octets
        if is_whole and octets == self._size:
            self.good += 1
        else:
            self.failed += 1
        if number >= 0:
            if self._schedule is None:
                self.latencies_ns.append(time.monotonic_ns() - sent_ns)
                return
            if is_whole and octets == self._size:
                self._schedule.answered(number)
            self._free.append(link)

    # --- as fast as it is answered -----------------------------------------------------------------------------

    def saturate(self, seconds: float) -> dict[str, float]:
        """Keep all streams busy for so long, then wait for what is under way."""
        began = time.monotonic_ns()
        until = began + int(seconds * 1e9)
        later, count, sent = self._later, len(self._later), random.randrange(len(self._later))
        for link in self._links.values():
            for _ in range(self._streams):
                self._send(link, later[sent % count], 0)
                sent += 1
            self._flush(link)
        while any(link.calls for link in self._links.values()) and time.monotonic_ns() < until + 10e9:
            for descriptor, _ in self._epoll.poll(1):
                link = self._links[descriptor]
                self._read(link)
                if time.monotonic_ns() < until:
                    while len(link.calls) < self._streams:
                        self._send(link, later[sent % count], 0)
                        sent += 1
                self._flush(link)
        took_ns = time.monotonic_ns() - began
        ordered = sorted(self.latencies_ns) or [0]
        shares = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
        return {
            "requests": self.good + self.failed,
            "duration_us": took_ns // 1000,
            "bytes": self.octets,
            "non_2xx": self.failed,
            "connect": 0,
            "read": 0,
            "write": 0,
            "timeout": sum(len(link.calls) for link in self._links.values()),
            **{name: ordered[int(share * (len(ordered) - 1))] // 1000 for name, share in shares.items()},
        }

    # --- at a fixed rate ---------------------------------------------------------------------------------------

    def run(self, schedule: Schedule) -> Report:
        """Send all, wait for the answers, and say what came of it."""
        self._schedule = schedule
        self.good = 0  # the first call of each connection was not due
        self._free.extend(link for _ in range(self._streams) for link in self._links.values())
        timer = schedule.start()
        self._epoll.register(timer, select.EPOLLIN)
        later, count = self._later, len(self._later)
        while schedule.goes_on(self.good + self.failed):
            for descriptor, _ in self._epoll.poll(0.1):
                if descriptor == timer:
                    schedule.on_timer()
                else:
                    self._read(self._links[descriptor])
            while self._sent < schedule.due and self._free:
                self._send(self._free.popleft(), later[self._sent % count], self._sent)
                self._sent += 1
            for link in self._links.values():
                self._flush(link)
        waiting = [call[0] for link in self._links.values() for call in link.calls.values()]
        return schedule.report(waiting, self._sent, self.failed, 0)

    # --- for nothing but to be there ---------------------------------------------------------------------------

    def hold(self, streams: int) -> None:
        """Begin so many requests on each connection, and leave them."""
        for number, link in enumerate(list(self._links.values()) * streams):
            self._send(link, self._later[number % len(self._later)], 0, is_end=False)
            if number % 64 == 0:
                time.sleep(0.01)
            self._flush(link)
        for link in self._links.values():
            self._flush(link)
        self.good = 0
        for answer in (sys.stdin.readline, lambda: ""):
            time.sleep(1)
            for descriptor, _ in self._epoll.poll(0, len(self._links)):
                try:
                    self._read(self._links[descriptor])
                except OSError:
                    self.ended += 1
                    self._epoll.unregister(descriptor)
            print("HELD", self.ended + self.good + self.failed, flush=True)
            answer()


def main(order: Order) -> None:
    """Carry out the order."""
    calls = Calls(order)
    gc.freeze()
    gc.disable()  # nothing here is cyclic, and a collection would be a lag
    if order.get("hold"):
        calls.hold(order["streams"])
    elif "rate" not in order or "out" not in order:
        print("RESULT", json.dumps(calls.saturate(order["seconds"])))
    else:
        schedule = Schedule(order["rate"], order["seconds"])
        schedule.carry_out(lambda: calls.run(schedule), order["out"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
