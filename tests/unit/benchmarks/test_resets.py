"""The hostile peer does what the page says: each of its requests is whole and reset, and who ends it sees it again."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import hpack
import pytest

from benchmarks import wire
from benchmarks.harness.attack import Attack, ends_of

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
CALM = 11  # ENHANCE_YOUR_CALM
HEAD = 9


class Ended:
    """What a server has read of one connection until it ended it."""

    def __init__(self, accepted: socket.socket, resets: int) -> None:
        self.begun: list[int] = []
        self.reset: list[int] = []
        self.fields: list[dict[bytes, bytes]] = []
        decoder = hpack.Decoder()
        with accepted, accepted.makefile("rb") as read:
            assert read.read(len(wire.PREFACE)) == wire.PREFACE
            accepted.sendall(wire.settings(max_streams=100))
            while len(self.reset) < resets:
                high, low, kind, flags, stream = wire.FRAME.unpack(read.read(HEAD))
                payload = read.read(high << 8 | low)
                if kind == wire.HEADERS:
                    assert flags == wire.END_HEADERS | wire.END_STREAM
                    self.begun.append(stream)
                    self.fields.append({bytes(k): bytes(v) for k, v in decoder.decode(payload, raw=True)})
                elif kind == wire.RST_STREAM:
                    self.reset.append(stream)
            last = self.begun[-1].to_bytes(4, "big")
            accepted.sendall(wire.frame(wire.GOAWAY, 0, 0, last + CALM.to_bytes(4, "big")))
            while read.read(4096):  # until the peer has seen it
                pass


def _attacked(behind: int, connections: int, resets: int) -> tuple[dict[str, Any], list[Ended]]:
    """What the peer says, and what a server saw that ends each of so many connections after so many resets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        order = {"port": server.getsockname()[1], "rate": 5000, "behind": behind, "seed": 1}
        with subprocess.Popen(
            [sys.executable, str(BENCHMARKS / "resets.py"), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            seen = [Ended(server.accept()[0], resets) for _ in range(connections)]
            with server.accept()[0]:  # the next is there: all of those are counted
                printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    said, report = printed.splitlines()
    assert said == b"BEGUN"
    return json.loads(report), seen


@pytest.mark.parametrize("behind", [0, 7])
def test_every_request_is_a_whole_call_and_reset_behind_so_many_others(behind: int) -> None:
    """In order, on each connection from the first stream on; another's decoder reads the fields."""
    _, seen = _attacked(behind, connections=2, resets=100)
    for each in seen:
        assert each.begun[:100] == each.reset == [2 * number + 1 for number in range(100)]
        assert len(each.begun) == 100 + behind
        assert {fields[b":path"] for fields in each.fields} == {b"/v1/List"}
        assert len({fields[b"traceparent"] for fields in each.fields}) == len(each.fields)


def test_who_ends_a_connection_sees_another_and_is_believed_what_it_took_in() -> None:
    """Three are ended by GOAWAY: four are opened, and the last streams of the three are what was taken in."""
    report, seen = _attacked(3, connections=3, resets=50)
    assert (report["connections"], report["failed"]) == (4, 0)
    assert report["ends"]["11"] == 3
    assert report["taken"] == sum(len(each.begun) for each in seen) == 3 * 53
    assert report["begun"] >= report["resets"] >= 3 * 50


def test_server_that_says_nothing_of_what_it_took_in_is_not_believed_to_have_taken_nothing() -> None:
    """Connections are closed without a word: there is no such figure, and how they ended is told in words."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with Attack(server.getsockname()[1], 5000, 0, ()) as attack:
            for _ in range(3):
                server.accept()[0].close()
            last = server.accept()[0]
        last.close()
    assert "taken_s" not in attack.figures
    ends = attack.figures["ends"]
    assert isinstance(ends, dict)
    assert sum(ends.values()) == 4
    assert ends_of([{"ends": {"11": 2, "closed": 1}}, {"ends": {"11": 3}}, {}]) == "GOAWAY 11: 5, closed: 1"
