"""The load of calls is what the page says: gRPC's shape, users of their own; no answer counts that is not whole."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest

from benchmarks import wire

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def _decoded(decoder: hpack.Decoder, block: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


def test_blocks_behind_the_first_may_come_in_any_order() -> None:
    """Only the first of each kind on a connection changes the table: another's decoder reads the fields."""
    said: wire.Pairs = [(b"content-type", b"application/grpc"), (b"x", b"y" * 200)]
    trailers = wire.Blocks([], [(b"grpc-status", b"0")], [])
    head = wire.Blocks([8], said, [b"own", b"other"], behind=trailers.inserts)
    decoder = hpack.Decoder()
    wanted = {each: [(b":status", b"200"), *said, (b"own", each), (b"other", b"z")] for each in (b"1", b"2", b"3")}
    assert _decoded(decoder, head.learning([b"1", b"z"])) == wanted[b"1"]
    assert _decoded(decoder, trailers.learning([])) == [(b"grpc-status", b"0")]
    later = [(head.later([each, b"z"]), fields) for each, fields in wanted.items()] * 3
    later += [(trailers.later([]), [(b"grpc-status", b"0")])] * 3
    random.Random(1).shuffle(later)
    for block, fields in later:
        assert _decoded(decoder, block) == fields


@pytest.fixture(params=[133, 100_000], ids=["short", "long"])
def upstream(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """An upstream's port, and the octets of its answers."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1], other.getsockname()[1]]
    order = {"ports": ports, "body_bytes": request.param}
    with subprocess.Popen([sys.executable, str(BENCHMARKS / "answerer.py"), json.dumps(order)]) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", ports[0]), timeout=1).close()
                break
            except OSError:
                time.sleep(0.01)
        yield ports[0], request.param
        process.terminate()


@pytest.mark.parametrize(("wrong", "failed"), [({}, False), ({"body_bytes": 7}, True), ({"has_trailers": False}, True)])
def test_calls_that_are_not_answered_whole_are_failed(
    upstream: tuple[int, int], wrong: dict[str, object], *, failed: bool
) -> None:
    """All octets of the content, and trailers if there are to be some."""
    port, size = upstream
    order = {"port": port, "seconds": 0.1, "connections": 2, "streams": 3, "body_bytes": size, "has_trailers": True}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "calls.py"), json.dumps(order | {"seed": 1} | wrong)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.removeprefix("RESULT "))
    assert result["requests"] > 6
    assert result["non_2xx"] == (result["requests"] if failed else 0)
    assert result["bytes"] == result["requests"] * size
    assert result["timeout"] == 0
