"""
The recorder of a storm behind TLS, as a sidecar and as a server outside, which also fails as only TLS can.

    python -m tests.soak.tls.recorder NAME JOURNAL ADDRESS

Each line on stdin is a `SealedTemper`. Besides the lines of `tests.soak.recorder`, the journal has one for each
connection:

    H - ok         a handshake is over
    H - MODE       it was hurt on purpose, or the client was to refuse it
    H - failed     neither
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.soak.recorder import RESET, Recorder, Temper
from tests.soak.tls import keys
from tests.soak.tls.world import MESH_ALPN, PARTNER_HOST


@dataclass(frozen=True)
class SealedTemper(Temper):
    """
    Attributes:
        mode: What befalls each handshake: `hang`, `reset`, `clear` (answered in clear), `wrong_name`, `expired`,
            `untrusted`, `alpn` (agrees on nothing), `refuse` (the client's certificate, behind the handshake as TLS 1.3
            has it); empty: it is well.
        folder: What it shows: `good`, a folder for each way to be wrong, `outside` for who asks for that name; and whom
            it believes.
        key_update: Share of answers with new keys before and behind them.
    """

    mode: str = ""
    folder: str = ""
    key_update: float = 0.0


_SHOWN = ("wrong_name", "expired", "untrusted")


def server_context(folder: Path, mode: str = "") -> ssl.SSLContext:
    """What a server of this mode shows and believes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown = folder / (mode if mode in _SHOWN else "good")
    context.load_cert_chain(shown / "tls.crt", shown / "tls.key")
    context.load_verify_locations(folder / ("stranger.crt" if mode == "refuse" else "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    if mode != "alpn":
        context.set_alpn_protocols([MESH_ALPN])
    if (folder / "outside").is_dir():
        outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        outside.load_cert_chain(folder / "outside" / "tls.crt", folder / "outside" / "tls.key")
        outside.load_verify_locations(folder / "outside.crt")
        outside.verify_mode = ssl.CERT_REQUIRED
        outside.set_alpn_protocols(["http/1.1"])

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            if name == PARTNER_HOST:
                connection.context = outside

        context.sni_callback = choose  # type: ignore[assignment]
    return context


class SealedRecorder(Recorder):
    """One process's worth of it."""

    # With 0 a stream of asyncio by TLS waits for ever: it pauses where nothing waits any more, too.
    high_water = 1

    def __init__(self, name: str, journal: Path) -> None:
        super().__init__(name, journal)
        self._mode = ""
        self._key_update = 0.0
        self._context: ssl.SSLContext | None = None

    def told(self, line: bytes) -> None:
        """A `SealedTemper`."""
        temper = SealedTemper(**json.loads(line))
        self.temper, self._mode, self._key_update = temper, temper.mode, temper.key_update
        self._context = server_context(Path(temper.folder), temper.mode)

    async def listen(self, host: str, port: int) -> None:
        """Take who connects."""
        sock = socket.create_server((host, port), backlog=4096)
        sock.setblocking(False)
        self.spawn(self._take_all(sock))

    async def _take_all(self, sock: socket.socket) -> None:
        while True:
            peer, _ = await asyncio.get_running_loop().sock_accept(sock)
            self.spawn(self._take(peer, self._mode, self._context))

    async def _take(self, peer: socket.socket, mode: str, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        assert context is not None
        try:
            if mode == "hang":
                self.note("H - hang")
                while await loop.sock_recv(peer, 65536):
                    pass
                peer.close()
            elif mode in ("reset", "clear"):
                await loop.sock_recv(peer, 65536)
                self.note(f"H - {mode}")
                if mode == "reset":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                else:
                    await loop.sock_sendall(peer, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                peer.close()
            elif mode == "refuse":
                await loop.run_in_executor(None, self._refuse, peer, context)
            else:
                reader = asyncio.StreamReader()
                protocol = asyncio.StreamReaderProtocol(reader, self.accept)
                await loop.connect_accepted_socket(lambda: protocol, peer, ssl=context)
                self.note(f"H - {mode or 'ok'}")
        except OSError:
            self.note(f"H - {mode or 'failed'}")
            peer.close()

    def _refuse(self, peer: socket.socket, context: ssl.SSLContext) -> None:
        """With the alert, which asyncio would keep to itself; in a thread."""
        self.note("H - refuse")
        peer.setblocking(True)
        # What was sent and is not read must not make the kernel take back the alert by a reset.
        with peer, peer.dup() as rest, contextlib.suppress(OSError):
            rest.settimeout(10)
            with contextlib.suppress(ssl.SSLError):
                context.wrap_socket(peer, server_side=True).close()
            rest.shutdown(socket.SHUT_WR)
            while rest.recv(65536):
                pass

    def caller(self, writer: asyncio.StreamWriter, sent: dict[str, str]) -> str:
        """Whom the certificate names."""
        said = writer.get_extra_info("peercert") or {}
        uris = [value for kind, value in said.get("subjectAltName", ()) if kind == "URI"]
        names = [value for part in said.get("subject", ()) for kind, value in part if kind == "commonName"]
        return (uris or names or ["nobody"])[0]

    async def answer(
        self, writer: asyncio.StreamWriter, tag: str, sent: dict[str, str], how: str, temper: Temper
    ) -> bool:
        """As any recorder, with new keys around it."""
        is_with_keys = self._chance.random() < self._key_update
        if is_with_keys:
            keys.update_of(writer)
        is_kept = await super().answer(writer, tag, sent, how, temper)
        if is_with_keys and is_kept and not writer.transport.is_closing():
            # Behind the answer, in a connection that is idle: an octet that is no answer to anything.
            keys.update_of(writer)
            connection = writer.get_extra_info("ssl_object")
            connection.do_handshake()
            writer.transport._ssl_protocol._process_outgoing()  # type: ignore[attr-defined]
        return is_kept


if __name__ == "__main__":
    asyncio.run(SealedRecorder(sys.argv[1], Path(sys.argv[2])).run(sys.argv[3:]))
