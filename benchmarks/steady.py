"""A load of fixed rate that leaves nothing out: each request has the moment at which it should be sent, and its latency
counts from there.

An open loop. Request i is due at start + i / rate, whatever became of those before it. One that is due while all
connections wait for answers waits too, and that wait is part of its latency: a client that sent later because the
proxy was slow would leave out just the moments that matter ("coordinated omission"). `schedule.py` has the clock.

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
import gc
import json
import re
import select
import socket
import ssl
import sys
from collections import deque
from pathlib import Path
from typing import NotRequired, TypedDict

from schedule import Report, Schedule

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


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
        self.schedule = Schedule(order["rate"], order["seconds"])
        self._next = 0  # the first that was not sent
        self._done = 0  # answered or failed
        self.failed = 0
        self.reopened = 0  # connections that the proxy closed between two requests, as it may
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

    def run(self) -> Report:
        """Send all, wait for the answers, and say what came of it."""
        schedule = self.schedule
        timer = schedule.start()
        self._epoll.register(timer, select.EPOLLIN)
        poll = self._epoll.poll
        while schedule.goes_on(self._done):
            for descriptor, _ in poll(0.1):
                if descriptor == timer:
                    schedule.on_timer()
                else:
                    self._on_readable(self._links[descriptor])
            while self._next < schedule.due and self._free:
                self._send(self._free.popleft())
        waiting = [link.number for link in self._links.values() if link.number >= 0]
        return schedule.report(waiting, self._next, self.failed, self.reopened)

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
            self.schedule.answered(link.number)
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


def main(order: Order) -> None:
    """Carry out the order."""
    steady = Steady(order)
    gc.freeze()
    gc.disable()  # nothing here is cyclic, and a collection would be a lag
    steady.schedule.carry_out(steady.run, order["out"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
