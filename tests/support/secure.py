"""
The test's end of a TLS connection, octet by octet: it says what is in a record, and what in a segment.

    with Secure(socket.create_connection(...), context) as client:
        client.send(b"GET / HT", b"TP/1.1\\r\\n...")     # two records in one segment
        client.finish_sending()                         # close_notify; the socket stays

`Secure.cut` ends without close_notify. What no library sends (data behind a close_notify, empty records, alerts of
every kind) is made by a `Sealer`, by the secret that the context has written down (RFC 8446, 5.2 and 7.3).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.support.certificates import Authority, Leaf
from tests.support.wire import CutError, Stream

APPLICATION_DATA = 23
ALERT = 21
HANDSHAKE = 22
CLOSE_NOTIFY = b"\x01\x00"
_READ_BYTES = 256 * 1024
_SUITES = {
    "TLS_AES_256_GCM_SHA384": (hashes.SHA384(), 32, AESGCM),
    "TLS_AES_128_GCM_SHA256": (hashes.SHA256(), 16, AESGCM),
    "TLS_CHACHA20_POLY1305_SHA256": (hashes.SHA256(), 32, ChaCha20Poly1305),
}


def mutual(folder: Path, leaf: Leaf, root: Authority, *, is_server: bool, protocol: str = "") -> ssl.SSLContext:
    """
    Of a peer that has this certificate and believes this root, and nobody's name.

    A server's gives no tickets, so that its first record behind the handshake is the test's; both write down their
    secrets, for a `Sealer`.
    """
    folder.mkdir(exist_ok=True, parents=True)
    leaf.write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=root.pem.decode())
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.keylog_filename = str(folder / "secrets")
    if protocol:
        context.set_alpn_protocols([protocol])
    if is_server:
        context.num_tickets = 0
    return context


class Secure(Stream):
    """
    A connected socket, secured; each piece that is sent is a record.

    Args:
        holds_flight: The last octets of a client's handshake go with the first of its records.

    Attributes:
        is_cut: Whether the socket has ended without the peer's close_notify.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, is_server: bool = False, holds_flight: bool = False
    ) -> None:
        super().__init__(sock)
        self.is_cut = False
        self._is_server = is_server
        self._secrets = Path(str(context.keylog_filename))
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        while True:
            try:
                self._object.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                data = sock.recv(_READ_BYTES)
                if not data:
                    raise CutError(b"") from None
                self._incoming.write(data)
        if not holds_flight:
            self._flush()

    def __enter__(self) -> Secure:
        return self

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())

    def sealed(self, *pieces: bytes) -> bytes:
        """Records of these, which must be sent next."""
        for piece in pieces:
            for at in range(0, len(piece), 16384):
                self._object.write(piece[at : at + 16384])
        return self._outgoing.read()

    def send(self, *data: bytes) -> None:
        """A record of each, all in one segment if they fit."""
        self.sock.sendall(self.sealed(*data))

    def sealed_end(self) -> bytes:
        """A close_notify, which must be sent next."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._object.unwrap()
        return self._outgoing.read()

    def receive(self) -> bytes:
        """As of a socket; what is behind a close_notify is not looked at."""
        if self.unread:
            data, self.unread = self.unread, b""
            return data
        while True:
            try:
                return self._object.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return b""
            try:
                data = self.sock.recv(_READ_BYTES)
            except ConnectionResetError:
                data = b""
            if not data:
                self.is_cut = True
                return b""
            self._incoming.write(data)

    def finish_sending(self) -> None:
        """Send a close_notify, and go on reading."""
        self.sock.sendall(self.sealed_end())

    def cut(self) -> None:
        """End the socket's sending, without a close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def sealer(self) -> Sealer:
        """What makes our records from now on, of which none has been made by `send`."""
        label = "SERVER_TRAFFIC_SECRET_0" if self._is_server else "CLIENT_TRAFFIC_SECRET_0"
        lines = [line.split() for line in self._secrets.read_text().splitlines() if line.startswith(label)]
        cipher = self._object.cipher()
        assert cipher is not None
        return Sealer(cipher[0], bytes.fromhex(lines[-1][2]))


class Sealer:
    """Makes records of one direction, from the first one on (RFC 8446, 5.2 and 5.3)."""

    def __init__(self, suite: str, secret: bytes) -> None:
        hash_, size, aead = _SUITES[suite]

        def derived(label: bytes, length: int) -> bytes:
            named = b"tls13 " + label
            info = struct.pack("!HB", length, len(named)) + named + b"\0"
            return HKDFExpand(hash_, length, info).derive(secret)

        self._aead = aead(derived(b"key", size))
        self._iv = derived(b"iv", 12)
        self._sequence = 0

    def seal(self, content: bytes, kind: int = APPLICATION_DATA, padding: int = 0) -> bytes:
        """A record of this type, with so many octets of padding."""
        inner = content + bytes([kind]) + b"\0" * padding
        header = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(inner) + 16)
        nonce = int.from_bytes(self._iv, "big") ^ self._sequence
        self._sequence += 1
        return header + self._aead.encrypt(nonce.to_bytes(12, "big"), inner, header)
