"""What a supervisor and a worker say to each other arrives as it was said."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from sidecar.compile.listener_spec import Role
from sidecar.workers.channel import Channel, Message, receive_sockets, send_sockets


class End:
    """One end of a pair, and what it heard."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.is_lost = asyncio.Event()
        self.channel = Channel(self.heard.append, self.is_lost.set)


def between(conversation: Callable[[End, End], Awaitable[None]]) -> None:
    """Run with two ends, on the loop that the product uses."""

    async def run() -> None:
        ends = (End(), End())
        for end, sock in zip(ends, socket.socketpair(), strict=True):
            await end.channel.open(sock)
        async with asyncio.timeout(10):
            await conversation(*ends)
        for end in ends:
            end.channel.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_messages_arrive_whole_and_in_order_whatever_their_size() -> None:
    """From a word to megabytes, in one turn of the loop."""
    said: list[Message] = [
        ("ping",),
        ("frame", b"\0" * 3_000_000),
        ("answer", 7, True, {"a": [1, 2.5, None]}),
        ("bye", 0),
    ]

    async def conversation(one: End, other: End) -> None:
        for message in said:
            one.channel.send(*message)
        await one.channel.flushed()
        while len(other.heard) < len(said):
            await asyncio.sleep(0)
        assert other.heard == said

    between(conversation)


def test_a_speaker_learns_when_the_other_end_is_slow() -> None:
    """So that reports wait instead of filling memory."""

    async def conversation(one: End, other: End) -> None:
        other.channel._transport.pause_reading()  # type: ignore[union-attr]
        one.channel.send("piece", b"\0" * 3_000_000)
        waiting = asyncio.ensure_future(one.channel.writable())
        await asyncio.sleep(0)
        assert not waiting.done()
        other.channel._transport.resume_reading()  # type: ignore[union-attr]
        await waiting

    between(conversation)


def test_the_end_is_told_to_the_other_only() -> None:
    """Whoever closes knows; and speaking to nobody is no error."""

    async def conversation(one: End, other: End) -> None:
        one.channel.close()
        await other.is_lost.wait()
        other.channel.send("ping")
        await other.channel.flushed()
        assert not one.is_lost.is_set()

    between(conversation)


def test_what_is_no_message_ends_the_channel() -> None:
    """A length beyond all reason is not waited for."""

    async def conversation(one: End, other: End) -> None:
        one.channel._transport.write(b"\xff\xff\xff\xff")  # type: ignore[union-attr]
        await one.is_lost.wait()
        assert other.heard == []

    loop_errors: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context["exception"]))
        ends = (End(), End())
        for end, sock in zip(ends, socket.socketpair(), strict=True):
            await end.channel.open(sock)
        async with asyncio.timeout(10):
            await conversation(*ends)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    assert "expected a message" in str(loop_errors[0])


@pytest.mark.parametrize("count", [0, 1, 249, 251])
def test_sockets_arrive_under_their_names(count: int) -> None:
    """As many as there are, in several goes if need be."""
    lender, borrower = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with lender, borrower, socket.create_server(("127.0.0.1", 0)) as listening:
        times = send_sockets(lender, [((Role.INBOUND, f"host:{index}"), listening) for index in range(count)])
        assert times == -(-count // 250)
        found = receive_sockets(borrower, times)
        assert list(found) == [(Role.INBOUND, f"host:{index}") for index in range(count)]
        assert {sock.getsockname() for sock in found.values()} <= {listening.getsockname()}
        for sock in found.values():
            assert not sock.getblocking()
            sock.close()
