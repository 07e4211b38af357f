"""
Whatever becomes of a request or a connection, it is freed by its reference count: the collector's policy
(`runtime.loop.COLLECTOR_THRESHOLDS`, docs/memory.md) rests on that.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from sidecar.proxy.exchange.policies import Mirror
from tests.support.fakes import Client, Server, World

WEB, SHADOW = "10.0.0.1:80", "10.9.9.9:80"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"


def answered(world: World, client: Client) -> None:
    client.get()
    _ = newest(world) >> OK


def refused_head(world: World, client: Client) -> None:
    _ = client >> b"GET / HTTP/1.1\r\nHost web\r\n\r\n"


def head_too_large(world: World, client: Client) -> None:
    _ = client >> b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n"


def broken_body(world: World, client: Client) -> None:
    _ = client >> CHUNKED + b"no size\r\n"


def client_that_leaves(world: World, client: Client) -> None:
    client.get()
    client.reset()


def no_route(world: World, client: Client) -> None:
    client.get(host=b"elsewhere")


def server_that_resets(world: World, client: Client) -> None:
    client.get()
    server = newest(world)
    _ = server >> OK[:20]
    server.reset()


def refused_answer(world: World, client: Client) -> None:
    client.get()
    _ = newest(world) >> b"HTTP/9 200\r\n\r\n"


def cut_answer(world: World, client: Client) -> None:
    client.get()
    server = newest(world)
    _ = server >> OK[:-1]
    server.reset()


def large_answer(world: World, client: Client) -> None:
    client.get()
    _ = newest(world) >> LARGE + b"x" * 200_000


def cut_large_answer(world: World, client: Client) -> None:
    client.get()
    server = newest(world)
    _ = server >> LARGE + b"x"
    server.reset()


def refused_dial(world: World, client: Client) -> None:
    other = world.client()
    other.get()
    if not world.dialed:
        client.get()
    world.refuse()
    other.leave()


def newest(world: World) -> Server:
    """The connection to which the last request went."""
    return world.accept() if world.dialed else next(server for server in reversed(world.servers) if server.is_open)


def mirrored(world: World, client: Client) -> None:
    client.get()
    _ = world.accept(WEB) >> OK
    _ = world.accept(SHADOW) >> OK


def mirrored_in_pieces(world: World, client: Client) -> None:
    client.get()
    _ = world.accept(WEB) >> OK
    copy = world.accept(SHADOW)
    for place in range(len(OK)):
        _ = copy >> OK[place : place + 1]


def mirror_that_resets(world: World, client: Client) -> None:
    client.get()
    _ = world.accept(WEB) >> OK
    world.accept(SHADOW).reset()


def mirror_that_cuts(world: World, client: Client) -> None:
    client.get()
    _ = world.accept(WEB) >> OK
    copy = world.accept(SHADOW)
    _ = copy >> OK[:-1]
    copy.reset()


def mirror_that_switches(world: World, client: Client) -> None:
    client.get()
    _ = world.accept(WEB) >> OK
    _ = world.accept(SHADOW) >> b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\nhello"


def mirror_that_refuses(world: World, client: Client) -> None:
    client.get()
    _ = world.accept(WEB) >> OK
    world.refuse()


def mirror_that_is_silent(world: World, client: Client) -> None:
    client.get()
    _ = world.accept(WEB) >> OK
    world.accept(SHADOW)
    world.advance(16)


def left_over(world: World, happen: Callable[[World, Client], None]) -> int:
    """Objects that only the collector finds, after twenty connections to which this happened were closed."""

    def once() -> None:
        client = world.client()
        happen(world, client)
        client.leave()
        for server in world.servers:
            if server.is_open:
                server.leave()
        world.dials.under_way.clear()

    once()  # what is made once, and may be cyclic, is made now
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            once()
        # What the fakes remember goes, and a lost transport lets go of its protocol, as uvloop's does.
        for peer in (*world.clients, *world.servers):
            peer.transport.dispose()
            del peer.transport.protocol, peer.transport.first_protocol
        for remembered in (world.clients, world.servers, world.telemetry.begun, world.telemetry.recorded):
            remembered.clear()
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "happen",
    [
        answered,
        refused_head,
        head_too_large,
        broken_body,
        client_that_leaves,
        no_route,
        server_that_resets,
        refused_answer,
        cut_answer,
        large_answer,
        cut_large_answer,
        refused_dial,
    ],
)
def test_nothing_that_happens_makes_a_cycle(world: World, happen: Callable[[World, Client], None]) -> None:
    """The collector finds nothing."""
    assert left_over(world, happen) == 0


@pytest.mark.parametrize(
    "happen",
    [
        mirrored,
        mirrored_in_pieces,
        mirror_that_resets,
        mirror_that_cuts,
        mirror_that_switches,
        mirror_that_refuses,
        mirror_that_is_silent,
    ],
)
def test_no_copy_makes_a_cycle(make_world: Callable[..., World], happen: Callable[[World, Client], None]) -> None:
    """Whatever its upstream does."""
    assert left_over(make_world(mirror=Mirror), happen) == 0
