"""
What a keep-alive GET on a warm pool must not do, nor a call of gRPC: the promise of the design's section 9.

How much it may do is in `test_ceilings.py`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from benchmarks.micro.call_path import CallPath
from benchmarks.micro.data_path import Transport
from tests.support.fakes import World

REQUEST = (
    b"GET /v1/items?page=2 HTTP/1.1\r\nHost: web\r\nUser-Agent: curl/8\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"
    b"Cookie: uid=1; b=2\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.interpreted_only("counts calls as the interpreter reports them")
def test_keep_alive_get_makes_no_task_future_timer_log_call_or_regex(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly two reads and two writes, and none of what must not be there for each request."""
    client, server = world.warm()
    for _ in range(2):
        _ = client >> REQUEST
        _ = server >> RESPONSE
    client.take(), server.take()
    done: list[str] = []

    def forbid(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def noting(*args: object, **kwargs: object) -> object:
            done.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, noting)

    forbid(logging.Logger, "handle")
    forbid(logging.Logger, "isEnabledFor")
    forbid(re, "compile")
    forbid(asyncio, "create_task")
    forbid(asyncio, "ensure_future")
    world.loop.counts.clear()
    dialed = world.dials.count
    writes = len(client.transport.writes), len(server.transport.writes)
    calls: list[str] = []

    def profile(frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(profile)
    turns = []
    try:
        for transport, data in ((client.transport, REQUEST), (server.transport, RESPONSE)):
            transport.protocol.data_received(data)
            turns.append(dict(world.loop.counts))
            world.loop.counts.clear()
            world.loop.run()
    finally:
        sys.setprofile(None)

    assert (len(client.transport.writes), len(server.transport.writes)) == (writes[0] + 1, writes[1] + 1)
    assert calls.count("data_received") == 2
    # The one thing that a turn of the loop with writes costs, however many connections write in it (net.flow).
    assert turns == [{"call_soon": 1}, {"call_soon": 1}]
    assert world.loop.counts == {}
    assert not world.loop.ready
    assert world.dials.count == dialed
    assert done == []
    assert server.take().startswith(b"GET /v1/items?page=2 HTTP/1.1\r\nHost: web\r\n")
    assert client.responses()[-1].body == b"hello"
    assert client.transport.log == server.transport.log == []
    world.assert_at_rest()


def test_streamed_download_makes_one_write_a_read(make_world: Callable[..., World]) -> None:
    """Each read from the upstream becomes one write to the client, and nothing else is asked of the loop."""
    world = make_world(splices=False)
    client, server = world.warm()
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n"
    world.loop.counts.clear()
    before = len(client.transport.writes)
    for _ in range(100):
        server.transport.arrive(b"x" * 20000)
    assert len(client.transport.writes) == before + 100
    assert world.loop.counts == {}
    world.assert_at_rest()


def test_small_pieces_of_one_turn_are_one_write(world: World) -> None:
    """What an upstream sends in several segments within a turn of the loop reaches the client in one."""
    client, server = world.warm()
    client.get()
    _ = server >> b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n"
    before = len(client.transport.writes)
    for _ in range(3):
        server.transport.protocol.data_received(b"x" * 10)
    world.loop.run()
    assert client.transport.writes[before:] == [b"x" * 30]


@pytest.mark.interpreted_only("counts calls as the interpreter reports them")
def test_call_over_http2_makes_no_task_future_timer_log_call_or_regex(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of gRPC on warm connections: two reads, two writes, and none of what must not be there for each call."""
    path = CallPath(users=20)
    for block in path.calls[:10]:
        path.call(block)
    done: list[str] = []
    writes: list[Transport] = []

    def forbid(owner: object, name: str) -> None:
        def noting(*args: object, **kwargs: object) -> None:
            done.append(name)

        monkeypatch.setattr(owner, name, noting)

    for owner, names in (
        (logging.Logger, ("handle", "isEnabledFor")),
        (re, ("compile",)),
        (asyncio, ("create_task", "ensure_future")),
        (path.loop, ("call_later",)),
        (path.live.dialer, ("dial_shared",)),
    ):
        for name in names:
            forbid(owner, name)
    call_soon, written = path.loop.call_soon, Transport.write

    def counting(callback: Callable[..., object], *args: object) -> None:
        done.append("call_soon")
        call_soon(callback, *args)

    def writing(transport: Transport, data: bytes) -> None:
        writes.append(transport)
        written(transport, data)

    monkeypatch.setattr(path.loop, "call_soon", counting)
    monkeypatch.setattr(Transport, "write", writing)
    server = path.ask(path.calls[10])
    assert (done, writes) == (["call_soon"], [server])
    path.reply(server)
    # The one thing that a turn of the loop with writes costs, however many connections write in it (net.flow).
    assert (done, writes) == (["call_soon", "call_soon"], [server, path.client])
    path.close()
