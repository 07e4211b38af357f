"""Writes of one turn are made together, in order; a close loses nothing that was written, an abort keeps nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import pytest

from sidecar.net.flow import MUCH_BYTES, BatchingWriter, Outbox
from tests.support.fakes import FakeLoop, FakeTransport


@pytest.fixture
def loop() -> FakeLoop:
    """A loop whose turns the test makes."""
    return FakeLoop()


def writer(loop: FakeLoop, outbox: Outbox) -> tuple[BatchingWriter, FakeTransport]:
    """A connection and what it writes to."""
    connection = BatchingWriter(outbox)
    transport = FakeTransport(loop, asyncio.Protocol(), None)
    connection.transport = transport
    return connection, transport


@pytest.fixture
def outbox(loop: FakeLoop) -> Outbox:
    """Of that loop."""
    return Outbox(loop)  # type: ignore[arg-type]


class TestTurn:
    """What is written in one turn."""

    def test_it_is_one_write_at_its_end_in_order(self, loop: FakeLoop, outbox: Outbox) -> None:
        """Nothing before, all of it then."""
        connection, transport = writer(loop, outbox)
        for data in (b"a", b"b", b"c"):
            connection.write(data)
        assert transport.writes == []
        assert connection.has_unsent()
        loop.run()
        assert transport.writes == [b"abc"]
        assert not connection.has_unsent()

    def test_a_single_piece_is_not_copied(self, loop: FakeLoop, outbox: Outbox) -> None:
        """It is handed over as it came."""
        connection, transport = writer(loop, outbox)
        data = b"x" * 1000
        connection.write(data)
        loop.run()
        assert transport.writes[0] is data

    def test_much_is_written_at_once_behind_what_waits_and_is_not_copied(self, loop: FakeLoop, outbox: Outbox) -> None:
        """The parts reach the transport as they are, in order."""
        handed_over: list[bytes] = []

        class Noting(FakeTransport):
            def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
                handed_over.extend(list_of_data)  # type: ignore[arg-type]

        connection = BatchingWriter(outbox)
        connection.transport = Noting(loop, asyncio.Protocol(), None)
        connection.write(b"before")
        body = b"x" * (MUCH_BYTES + 1)
        connection.write_much([b"head", body])
        assert handed_over == [b"before", b"head", body]
        assert handed_over[2] is body
        loop.run()
        assert connection.transport.writes == []

    def test_all_connections_of_a_turn_cost_one_callback(self, loop: FakeLoop, outbox: Outbox) -> None:
        """And are flushed in the order in which they began to write."""
        order: list[bytes] = []

        class Noting(FakeTransport):
            def write(self, data: bytes | bytearray | memoryview) -> None:
                order.append(bytes(data))

        for number in range(10):
            connection = BatchingWriter(outbox)
            connection.transport = Noting(loop, asyncio.Protocol(), None)
            connection.write(b"%d" % number)
            connection.write(b"!")
        assert loop.counts == {"call_soon": 1}
        loop.run()
        assert order == [b"%d!" % number for number in range(10)]

    def test_the_next_turn_is_another_write(self, loop: FakeLoop, outbox: Outbox) -> None:
        """Nothing is kept longer than a turn."""
        connection, transport = writer(loop, outbox)
        connection.write(b"one")
        loop.run()
        connection.write(b"two")
        loop.run()
        assert transport.writes == [b"one", b"two"]
        assert loop.counts == {"call_soon": 2}

    def test_what_is_written_while_flushing_is_flushed_in_the_next_turn(self, loop: FakeLoop, outbox: Outbox) -> None:
        """A transport that says at once that it is full makes a connection write elsewhere."""
        other, other_transport = writer(loop, outbox)

        class Relaying(asyncio.Protocol):
            def pause_writing(self) -> None:
                other.write(b"pause")

        connection = BatchingWriter(outbox)
        transport = FakeTransport(loop, Relaying(), None)
        transport.is_peer_slow = True
        connection.transport = transport
        connection.write(b"x")
        loop.run()
        assert (transport.writes, other_transport.writes) == ([b"x"], [b"pause"])


class TestMuch:
    """Bodies do not wait."""

    def test_a_big_write_goes_at_once(self, loop: FakeLoop, outbox: Outbox) -> None:
        """The transport must say early when it has enough."""
        connection, transport = writer(loop, outbox)
        data = b"x" * (MUCH_BYTES + 1)
        connection.write(data)
        assert transport.writes == [data]
        assert loop.counts == {}

    def test_a_big_write_takes_what_waits_with_it_in_order(self, loop: FakeLoop, outbox: Outbox) -> None:
        """A head that waits, then its body: one write."""
        connection, transport = writer(loop, outbox)
        connection.write(b"head ")
        connection.write(b"x" * 20_000)
        assert transport.writes == [b"head " + b"x" * 20_000]
        connection.write(b"tail")
        loop.run()
        assert transport.writes[1:] == [b"tail"]

    def test_16_kib_wait(self, loop: FakeLoop, outbox: Outbox) -> None:
        """The limit itself."""
        connection, transport = writer(loop, outbox)
        connection.write(b"x" * 16 * 1024)
        assert transport.writes == []
        loop.run()
        assert len(transport.writes) == 1

    def test_many_small_pieces_do_not_pile_up(self, loop: FakeLoop, outbox: Outbox) -> None:
        """Eight wait; the ninth flushes, and every byte is there in order."""
        connection, transport = writer(loop, outbox)
        for number in range(20):
            connection.write(b"%02d" % number)
        assert len(transport.writes) == 2
        loop.run()
        assert b"".join(transport.writes) == b"".join(b"%02d" % number for number in range(20))


class TestCrowd:
    """More connections than are flushed in a row."""

    def test_they_are_flushed_in_slices_with_turns_between(self, loop: FakeLoop, outbox: Outbox) -> None:
        """64 at a time, in order; others have theirs in between."""
        seen: list[int] = []
        transports = []
        for _ in range(150):
            connection, transport = writer(loop, outbox)
            connection.write(b"x")
            transports.append(transport)

        def look() -> None:
            seen.append(sum(bool(transport.writes) for transport in transports))
            if seen[-1] < 150:
                loop.soon(look)

        loop.soon(look)
        loop.run()
        assert seen == [64, 128, 150]
        assert [bool(transport.writes) for transport in transports] == [True] * 150

    def test_one_that_comes_in_between_waits_its_turn(self, loop: FakeLoop, outbox: Outbox) -> None:
        """Behind those who were there; nobody is flushed twice or forgotten."""
        transports = []
        for _ in range(65):
            connection, transport = writer(loop, outbox)
            connection.write(b"x")
            transports.append(transport)
        late, late_transport = writer(loop, outbox)
        loop.soon(lambda: late.write(b"late"))
        loop.run()
        assert late_transport.writes == [b"late"]
        assert all(transport.writes == [b"x"] for transport in transports)

    def test_a_fault_of_one_does_not_keep_the_others_bytes(
        self, loop: FakeLoop, outbox: Outbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged."""

        class Broken(FakeTransport):
            def write(self, data: bytes | bytearray | memoryview) -> None:
                raise RuntimeError("broken")

        broken = BatchingWriter(outbox)
        broken.transport = Broken(loop, asyncio.Protocol(), None)
        broken.write(b"x")
        connection, transport = writer(loop, outbox)
        connection.write(b"y")
        with caplog.at_level(logging.ERROR, "sidecar.net"):
            loop.run()
        assert transport.writes == [b"y"]
        assert [record.message.split()[0] for record in caplog.records] == ["flush_failed"]


class TestEnds:
    """How a connection ends."""

    def test_a_close_sends_first(self, loop: FakeLoop, outbox: Outbox) -> None:
        """What was written in this turn goes before the end."""
        connection, transport = writer(loop, outbox)
        connection.write(b"last words")
        connection.end()
        assert transport.writes == [b"last words"]
        assert transport.ended == "close"
        loop.run()
        assert transport.writes == [b"last words"]

    def test_an_end_of_file_is_written_behind_what_was_written(self, loop: FakeLoop, outbox: Outbox) -> None:
        """And not twice."""
        connection, transport = writer(loop, outbox)
        connection.write(b"last words")
        connection.end_writing()
        assert transport.writes == [b"last words"]
        assert transport.is_eof_written
        loop.run()
        assert transport.writes == [b"last words"]

    def test_no_end_of_file_is_written_to_what_closes(self, loop: FakeLoop, outbox: Outbox) -> None:
        """uvloop would raise."""
        connection, transport = writer(loop, outbox)
        transport.close()
        connection.end_writing()
        assert not transport.is_eof_written

    def test_an_abort_drops_what_waits(self, loop: FakeLoop, outbox: Outbox) -> None:
        """Nothing is written behind it, in this turn or later."""
        connection, transport = writer(loop, outbox)
        connection.write(b"never")
        transport.abort()
        loop.run()
        assert transport.writes == []
        connection.write(b"never either")
        loop.run()
        assert transport.writes == []
        assert not connection.has_unsent()

    def test_what_the_transport_has_not_sent_counts_as_unsent(self, loop: FakeLoop, outbox: Outbox) -> None:
        """A slow peer."""
        connection, transport = writer(loop, outbox)
        transport.is_peer_slow = True
        connection.write(b"x")
        loop.run()
        assert connection.has_unsent()
        transport.peer_reads()
        assert not connection.has_unsent()

    def test_nothing_to_write_is_no_write(self, loop: FakeLoop, outbox: Outbox) -> None:
        """Flushing, ending or half-closing an empty writer makes no call."""
        connection, transport = writer(loop, outbox)
        connection.flush()
        connection.end_writing()
        connection.end()
        assert transport.writes == []


def test_a_real_loop_keeps_the_promise() -> None:
    """Over a socket pair: what is written and ended in one turn arrives whole, in order, and then the end."""

    async def talk() -> bytes:
        loop = asyncio.get_running_loop()
        outbox = Outbox(loop)
        server = await loop.create_server(lambda: Ending(outbox), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        reader, out = await asyncio.open_connection(host, port)
        data = await reader.read()
        out.close()
        await out.wait_closed()
        server.close()
        await server.wait_closed()
        return data

    class Ending(asyncio.Protocol):
        def __init__(self, outbox: Outbox) -> None:
            self.writer = BatchingWriter(outbox)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.writer.transport = transport
            for number in range(12):
                self.writer.write(b"%d," % number)
            self.writer.write(b"z" * 100_000)
            self.writer.write(b"end")
            self.writer.end()

    assert asyncio.run(talk()) == b"".join(b"%d," % number for number in range(12)) + b"z" * 100_000 + b"end"
