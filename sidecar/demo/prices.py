"""
A service of gRPC, and how an app asks it: `python -m sidecar.demo.prices MS`, and `price_of`.

Its one method is `shop.Prices/Quote`: of a message whose field 1 is the name of an item, it answers with one whose
field 1 is the price in cents, as text. HTTP/2 is the business of `h2` on both sides, so that what the demonstration
claims was seen by another implementation; grpcio, which would do the rest, is nothing that the sidecar needs.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Sequence
from typing import Final, cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from sidecar.demo.http11 import HTTPError
from sidecar.net.grpc.call import OK, UNIMPLEMENTED, Call
from sidecar.net.grpc.protobuf import ProtobufError, fields, octets_field, text
from sidecar.runtime.loop import run_in_loop

QUOTE: Final = "/shop.Prices/Quote"
_ITEM: Final = 1
_PREFIX: Final = 5


class PriceServer(asyncio.Protocol):
    """
    One connection, by prior knowledge; calls on it are answered at once, each after its time.

    Args:
        delay_ms: What an answer takes, about.
        connections: Open ones; it is one of them.
    """

    def __init__(self, delay_ms: float, connections: set[PriceServer]) -> None:
        self._delay_s = delay_ms / 1000
        self._connections = connections
        config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        self._connection = h2.connection.H2Connection(config)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, tuple[str, bytearray]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not inherit from it
        self._connections.add(self)
        self._connection.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Calls, or parts of them."""
        try:
            for event in self._connection.receive_data(data):
                self._on(event)
        except h2.exceptions.ProtocolError:
            self._flush()
            self.close()
            return
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody waits for an answer any more."""
        self._transport = None
        self._calls.clear()
        self._connections.discard(self)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            named = {str(name): str(value) for name, value in event.headers}
            self._calls[event.stream_id] = named.get(":path", ""), bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self._calls:
                self._calls[event.stream_id][1].extend(event.data)
        elif isinstance(event, h2.events.StreamReset):
            self._calls.pop(event.stream_id, None)
        elif isinstance(event, h2.events.StreamEnded):
            delay_s = self._delay_s * random.uniform(0.5, 1.5)
            asyncio.get_running_loop().call_later(delay_s, self._answer, event.stream_id)

    def _answer(self, stream_id: int) -> None:
        path, body = self._calls.pop(stream_id, ("", None))
        if self._transport is None or body is None:
            return
        item = _item_of(bytes(body[_PREFIX:]))
        head = [(":status", "200"), ("content-type", "application/grpc")]
        if path != QUOTE or not item:
            self._connection.send_headers(stream_id, [*head, ("grpc-status", str(UNIMPLEMENTED))], end_stream=True)
        else:
            message = octets_field(_ITEM, b"%d" % (100 + sum(item.encode()) % 900))
            self._connection.send_headers(stream_id, head)
            self._connection.send_data(stream_id, b"\0" + len(message).to_bytes(4) + message)
            self._connection.send_headers(stream_id, [("grpc-status", str(OK))], end_stream=True)
        self._flush()

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(self._connection.data_to_send())


def _item_of(message: bytes) -> str:
    """The text of the message's first field; empty if it is none."""
    try:
        return next((text(field) for field in fields(message) if field.number == _ITEM), "")
    except ProtobufError:
        return ""


async def price_of(item: str, port: int, service: str, more: Sequence[tuple[str, str]], timeout_s: float) -> str:
    """
    Ask for a price, by HTTP/2 in clear.

    Args:
        port: Of who passes it on, on 127.0.0.1.
        service: Whom it is for.
        more: Metadata.
        timeout_s: Of all of it, the connection included.

    Raises:
        HTTPError: No connection, no answer in time, or another status than OK.
    """
    call = Call(QUOTE, service, more, octets_field(_ITEM, item.encode()))
    messages: list[bytes] = []
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while call.over is None:
                    writer.write(call.to_send())
                    received = await reader.read(65536)
                    if received:
                        messages += call.feed(received)
                    else:
                        call.end()
            finally:
                writer.close()
    except TimeoutError:
        raise HTTPError(f"no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise HTTPError(f"cannot connect to 127.0.0.1:{port}: {error}") from None
    price = _item_of(messages[0]) if messages else ""
    if call.over is None or call.over.code != OK or not price:
        raise HTTPError(f"gRPC: {call.over.text if call.over is not None else 'no answer'}")
    return price


async def listen(delay_ms: float) -> tuple[asyncio.Server, set[PriceServer]]:
    """Serve on a free port of 127.0.0.1; also the connections, which end with the server only if they are closed."""
    connections: set[PriceServer] = set()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: PriceServer(delay_ms, connections), "127.0.0.1", 0), connections


async def serve(delay_ms: float) -> int:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server, connections = await listen(delay_ms)
    sys.stdout.write(f"listening {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stopped.wait()
    server.close()
    for connection in tuple(connections):
        connection.close()
    return 0


def main(arguments: list[str]) -> int:
    """Run the service; returns the exit code."""
    return run_in_loop(lambda: serve(float(arguments[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
