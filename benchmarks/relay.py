"""A bare TCP relay on uvloop: the least that any proxy on this event loop can cost, and so the unit of the comparison.

It reads no HTTP. One upstream connection is dialled for each downstream connection; bytes go across as they come,
with back-pressure.

    python benchmarks/relay.py LISTEN_PORT UPSTREAM_PORT [UPSTREAM_HOST]
"""

from __future__ import annotations

import asyncio
import sys

import uvloop


class Upstream(asyncio.Protocol):
    """The far side; it owns nothing and hands its bytes to the near side's transport."""

    __slots__ = ("_near", "transport")

    def __init__(self, near: asyncio.Transport) -> None:
        self._near = near
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._near.write(data)

    def pause_writing(self) -> None:
        self._near.pause_reading()

    def resume_writing(self) -> None:
        self._near.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._near.close()


class Downstream(asyncio.Protocol):
    """The near side; it keeps what arrives while the dial is under way."""

    __slots__ = ("_far", "_near", "_upstream", "_waiting")

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._near: asyncio.Transport | None = None
        self._far: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's own class
        self._near = transport
        dial = asyncio.get_running_loop().create_task(self._dial(transport))
        dial.add_done_callback(self._on_dialled)

    async def _dial(self, near: asyncio.Transport) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        far, _ = await loop.create_connection(lambda: Upstream(near), *self._upstream)
        return far

    def _on_dialled(self, dial: asyncio.Task[asyncio.Transport]) -> None:
        assert self._near is not None
        if dial.cancelled() or dial.exception() is not None:
            self._near.abort()
            return
        self._far = dial.result()
        if self._near.is_closing():
            self._far.close()
            return
        for data in self._waiting:
            self._far.write(data)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._far is None:
            self._waiting.append(data)
        else:
            self._far.write(data)

    def pause_writing(self) -> None:
        if self._far is not None:
            self._far.pause_reading()

    def resume_writing(self) -> None:
        if self._far is not None:
            self._far.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._far is not None:
            self._far.close()


async def relay(listen_port: int, upstream: tuple[str, int]) -> None:
    """Relay until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Downstream(upstream), "127.0.0.1", listen_port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(relay(int(sys.argv[1]), ((sys.argv[3:] or ["127.0.0.1"])[0], int(sys.argv[2]))))
