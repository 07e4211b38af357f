"""A load of fixed rate that leaves nothing out: each request has the moment at which it should be sent, and its latency
counts from there.

An open loop. Request i is due at start + i / rate, whatever became of those before it. One that is due while all
connections wait for answers waits too, and that wait is part of its latency: a client that sent later because the
proxy was slow would leave out just the moments that matter ("coordinated omission"). The clock is a timer of the
kernel (timerfd) rather than epoll's timeout, which is good to a millisecond; how late this program itself woke is
measured for every wake-up and reported, as it is part of every latency.

    python benchmarks/steady.py '{"port": 8080, "rate": 5000, "seconds": 5, "connections": 64, "traffic": FILE,
                                  "out": FILE}'

prints one object of JSON and writes the latencies as float64, in seconds, one for each request in order; the file is
there, and empty, as soon as all connections are open and requests become due. NaN: it failed. A request that was not
answered `GRACE_S` after the last was due has the time it had waited by then. After SIGTERM no more become due.

A `tls` beside these, {"trust": FILE, "certificate": FILE, "key": FILE, "protocol": NAME}, is how connections are
secured; without `certificate` and `key` none is shown.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import re
import select
import signal
import socket
import ssl
import struct
import sys
import time
from array import array
from collections import deque
from pathlib import Path
from typing import NotRequired, TypedDict

GRACE_S = 2.0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TFD_NONBLOCK, TFD_TIMER_ABSTIME = 0o4000, 1
NOT_A_NUMBER = float("nan")


class Order(TypedDict):
    """What is asked of this program."""

    port: int
    rate: float
    seconds: float
    connections: int
    traffic: str
    out: str
    tls: NotRequired[dict[str, str]]


def _context(order: dict[str, str]) -> ssl.SSLContext:
    """TLS 1.3; the name of the server is not compared."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(order["trust"])
    context.set_alpn_protocols([order["protocol"]])
    if "certificate" in order:
        context.load_cert_chain(order["certificate"], order["key"])
    return context


class Link:
    """One connection, and the request that it carries."""

    __slots__ = ("begun", "missing", "number", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.number = -1  # of the request that waits for its answer; -1: free
        self.begun = b""  # of the answer's head, while it is not whole
        self.missing = 0  # octets of the answer's body that are to come, once its head is whole


class Steady:
    """The schedule, the connections, and what came of each request."""

    def __init__(self, order: Order) -> None:
        self._address = "127.0.0.1", order["port"]
        self._context = _context(order["tls"]) if "tls" in order else None
        self._requests = Path(order["traffic"]).read_bytes().split(b"\0")
        self._period_ns = round(1e9 / order["rate"])
        self._total = int(order["seconds"] * order["rate"])
        self._is_over = False
        self._start_ns = 0
        self._due = 0  # requests whose moment has come
        self._next = 0  # the first that was not sent
        self._done = 0  # answered or failed
        self.failed = 0
        self.reopened = 0  # connections that the proxy closed between two requests, as it may
        self.latencies = array("d", [NOT_A_NUMBER]) * self._total
        self.lags = array("d")
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        self._free: deque[Link] = deque()
        for _ in range(order["connections"]):
            self._open()

    def _open(self) -> None:
        connected = socket.create_connection(self._address, timeout=5)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            connected = self._context.wrap_socket(connected)
        connected.setblocking(False)
        link = self._links[connected.fileno()] = Link(connected)
        self._free.append(link)
        self._epoll.register(connected, select.EPOLLIN)

    def _timer(self) -> int:
        """A timer that fires for each request; the first is due in a tenth of a second."""
        libc = ctypes.CDLL(None, use_errno=True)
        timer = int(libc.timerfd_create(time.CLOCK_MONOTONIC, TFD_NONBLOCK))
        self._start_ns = time.monotonic_ns() + 100_000_000
        first = divmod(self._start_ns, 1_000_000_000)
        spec = struct.pack("4q", *divmod(self._period_ns, 1_000_000_000), *first)
        if timer < 0 or libc.timerfd_settime(timer, TFD_TIMER_ABSTIME, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd")
        return timer

    def run(self) -> dict[str, float]:
        """Send all, wait for the answers, and say what came of it."""
        timer = self._timer()
        self._epoll.register(timer, select.EPOLLIN)
        poll, now_ns = self._epoll.poll, time.monotonic_ns
        while self._done < self._total:
            now = now_ns()
            if self._is_over and self._due < self._total:
                self._total = self._due
                del self.latencies[self._total :]
            if now > self._start_ns + self._total * self._period_ns + GRACE_S * 1e9:
                break
            for descriptor, _ in poll(0.1):
                if descriptor == timer:
                    self._on_timer(timer)
                else:
                    self._on_readable(self._links[descriptor])
            while self._next < self._due and self._free:
                self._send(self._free.popleft())
        unanswered = self._give_up(now_ns())
        return {
            "start_ns": self._start_ns,
            "period_ns": self._period_ns,
            "requests": self._total,
            "failed": self.failed,
            "unanswered": unanswered,
            "reopened": self.reopened,
            "cpu_s": sum(os.times()[:2]),
        }

    def end(self) -> None:
        """Let no more become due."""
        self._is_over = True

    def _on_timer(self, timer: int) -> None:
        try:
            fired = int.from_bytes(os.read(timer, 8), sys.byteorder)
        except BlockingIOError:
            return
        if self._due < self._total:
            self.lags.append((time.monotonic_ns() - self._start_ns - self._due * self._period_ns) / 1e9)
        self._due = min(self._due + fired, self._total)

    def _send(self, link: Link) -> None:
        link.number = self._next
        self._next += 1
        request = self._requests[link.number % len(self._requests)]
        try:
            if link.socket.send(request) != len(request):
                self._end(link)  # a kilobyte that does not fit the buffer of an idle connection: nobody reads there
        except OSError:
            self._end(link)

    def _on_readable(self, link: Link) -> None:
        try:
            data = link.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):  # by TLS also a ticket, or the beginning of a record
            return
        except OSError:
            data = b""
        if not data or link.number < 0:
            self._end(link)
            return
        if link.missing:
            link.missing -= len(data)
        else:
            data = link.begun + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                link.begun = data
                return
            found = LENGTH.search(data, 0, end + 2)
            if found is None or not data.startswith(b"HTTP/1.1 2"):
                self._end(link)
                return
            link.begun = b""
            link.missing = int(found[1]) + end + 4 - len(data)
        if link.missing == 0:
            due_ns = self._start_ns + link.number * self._period_ns
            self.latencies[link.number] = (time.monotonic_ns() - due_ns) / 1e9
            self._done += 1
            link.number = -1
            self._free.append(link)

    def _end(self, link: Link) -> None:
        """A connection is over, and with it the request on it; another takes its place."""
        if link.number >= 0:
            self.failed += 1
            self._done += 1
        else:
            self.reopened += 1
            self._free.remove(link)
        del self._links[link.socket.fileno()]
        link.socket.close()
        with contextlib.suppress(OSError):  # nobody accepts: the others go on
            self._open()

    def _give_up(self, now_ns: int) -> int:
        """Note for every request that has no answer how long it has waited; gives their number."""
        waiting = [link.number for link in self._links.values() if link.number >= 0]
        waiting += range(self._next, self._total)
        for number in waiting:
            self.latencies[number] = (now_ns - self._start_ns - number * self._period_ns) / 1e9
        return len(waiting)


def main(order: Order) -> None:
    """Carry out the order."""
    steady = Steady(order)
    signal.signal(signal.SIGTERM, lambda *_: steady.end())
    gc.freeze()
    gc.disable()  # nothing here is cyclic, and a collection would be a lag
    Path(order["out"]).touch()
    result = steady.run()
    Path(order["out"]).write_bytes(steady.latencies.tobytes())
    lags = sorted(steady.lags)
    result["lag_p50_s"] = lags[len(lags) // 2]
    result["lag_p99_s"] = lags[int(len(lags) * 0.99)]
    result["lag_max_s"] = lags[-1]
    print(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
