"""
A port that leads to one of a host's loopback: how people, who are in none of the hosts' networks, see the page, and
sidecars on other hosts the control plane. Octets pass in both directions as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from sidecar.demo.namespaces import Host

_PIECE = 65536


class Door:
    """
    Args:
        inside: The host that it is on; None: this machine's own network.
        address: Where it is there.
        host: To whose loopback it leads.
        port: Of both sides.
    """

    def __init__(self, inside: Host | None, address: str, host: Host, port: int) -> None:
        self._inside = inside
        self._address = address
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen."""

        def listen() -> socket.socket:
            return socket.create_server((self._address, self._port))

        # A socket is of the network in which it was made, wherever it is used from.
        made = listen() if self._inside is None else self._inside.do(listen)
        self._server = await asyncio.start_server(self._on_client, sock=made)

    async def close(self) -> None:
        """Listen no more, and cut what passes."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._passing):
            task.cancel()
        if self._passing:
            await asyncio.wait(tuple(self._passing))

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            made = self._host.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            made.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self._port))
                there, here = await asyncio.open_connection(sock=made)
            except BaseException:
                made.close()
                raise
            try:
                await asyncio.gather(_pass(reader, here), _pass(there, writer))
            finally:
                here.close()
        except (OSError, asyncio.CancelledError):
            pass  # nobody is there, or somebody has left: the client sees the end
        finally:
            writer.close()
            self._passing.discard(task)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
