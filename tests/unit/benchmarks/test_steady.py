"""The load of fixed rate leaves nothing out: no coordinated omission, no lost failure, no request that vanishes."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

STEADY = Path(__file__).resolve().parents[3] / "benchmarks" / "steady.py"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECTIONS = 4
RATE = 500
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _load(
    handle: Handler, folder: Path, seconds: float, is_over: asyncio.Event | None = None
) -> tuple[dict[str, Any], list[float]]:
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    traffic, out = folder / "traffic", folder / "latencies"
    traffic.write_bytes(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n\0GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
    order = {
        "port": server.sockets[0].getsockname()[1],
        "rate": RATE,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "traffic": str(traffic),
        "out": str(out),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(STEADY), json.dumps(order), stdout=asyncio.subprocess.PIPE
    )
    if is_over is not None:
        await is_over.wait()
        process.terminate()
    printed, _ = await process.communicate()
    server.close()
    await asyncio.gather(*served)
    assert process.returncode == 0
    latencies = array("d")
    latencies.frombytes(out.read_bytes())
    return json.loads(printed), latencies.tolist()


def _run(handle: Handler, folder: Path, seconds: float = 0.6) -> tuple[dict[str, Any], list[float]]:
    return asyncio.run(_load(handle, folder, seconds))


def test_every_request_is_sent_in_turn_and_answered(tmp_path: Path) -> None:
    """A server that answers gets as many requests as rate and time say, of all kinds, and each has a latency."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            seen.append(head[5:6])
            writer.write(ANSWER[:30])  # in two pieces, the head not whole in the first
            await writer.drain()
            writer.write(ANSWER[30:])

    report, latencies = _run(handle, tmp_path)
    assert report["requests"] == len(latencies) == len(seen) == RATE * 0.6
    assert seen.count(b"a") == seen.count(b"b")
    assert (report["failed"], report["unanswered"]) == (0, 0)
    assert all(0 < each < math.inf for each in latencies)


def test_a_stall_is_felt_by_every_request_that_was_due_in_it(tmp_path: Path) -> None:
    """
    A server is silent for 200 ms, in which 100 requests are due. A closed loop on four connections would see four slow
    answers; here about three quarters of the 100 have waited for more than 50 ms.
    """
    stall_s, noticed_s = 0.2, 0.05
    begun: list[float] = []
    is_over: list[asyncio.Event] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while await _head(reader):
            begun.append(loop.time())
            if loop.time() - begun[0] > stall_s:
                if not is_over:
                    is_over.append(asyncio.Event())
                    loop.call_later(stall_s, is_over[0].set)
                await is_over[0].wait()
            writer.write(ANSWER)

    _, latencies = _run(handle, tmp_path)
    slow = [each for each in latencies if each > noticed_s]
    assert len(slow) >= 0.9 * RATE * (stall_s - noticed_s)
    assert max(latencies) >= 0.9 * stall_s


def test_who_is_never_answered_counts_with_the_time_it_has_waited(tmp_path: Path) -> None:
    """A server that stops answering does not become fast by that: what it owes has latencies of seconds."""
    answered: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            if len(answered) < 50:
                answered.append(head)
                writer.write(ANSWER)

    report, latencies = _run(handle, tmp_path, seconds=0.3)
    assert report["unanswered"] == len(latencies) - 50
    assert all(each >= 1.9 for each in latencies[50:])
    assert report["failed"] == 0


def test_a_connection_that_is_closed_costs_the_request_on_it_and_no_other(tmp_path: Path) -> None:
    """Three answers are ends of connections, three are refusals: six failures, and everything else is answered."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            seen.append(head)
            if len(seen) in (20, 40, 60):
                break
            writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n" if len(seen) in (80, 100, 120) else ANSWER)

    report, latencies = _run(handle, tmp_path)
    assert report["failed"] == 6
    assert sum(map(math.isnan, latencies)) == 6
    assert report["unanswered"] == 0


def test_a_connection_that_is_closed_between_two_requests_is_opened_again(tmp_path: Path) -> None:
    """A server may close a connection that it keeps: no failure, as long as no request was on it."""
    closed: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not closed:  # before the first request is due
            closed.append(writer)
            return
        while await _head(reader):
            writer.write(ANSWER)

    report, _ = _run(handle, tmp_path, seconds=0.2)
    assert (report["reopened"], report["failed"], report["unanswered"]) == (1, 0, 0)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def test_told_to_end_it_waits_for_what_was_due(tmp_path: Path) -> None:
    """SIGTERM in a load of a minute: each request that was due by then is sent and answered, and no other counts."""
    seen: list[bytes] = []
    is_over = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            seen.append(head)
            if len(seen) == 50:
                is_over.set()
            await asyncio.sleep(0.02)
            writer.write(ANSWER)

    report, latencies = asyncio.run(_load(handle, tmp_path, 60.0, is_over))
    assert 50 <= report["requests"] == len(latencies) == len(seen) < RATE * 60
    assert (report["failed"], report["unanswered"]) == (0, 0)
    assert all(0.02 <= each < math.inf for each in latencies)
