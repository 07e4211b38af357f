"""ClientHellos: those that OpenSSL sends, and those that are put together by hand, whole or in several records."""

from __future__ import annotations

import ssl
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

RANDOM = bytes(range(32))


def sent_by(context: ssl.SSLContext, server_name: str | None) -> bytes:
    """What a client of this context sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("expected a client to wait for the server's answer")


def client(*protocols: str, oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2, newest: int = 0) -> ssl.SSLContext:
    """A client's context that asks for these protocols and verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = oldest
    if newest:
        context.maximum_version = ssl.TLSVersion(newest)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def pair(folder: Path) -> tuple[str, str]:
    """A certificate that signs itself and its key, as paths."""
    certificate, key = str(folder / "c.pem"), str(folder / "k.pem")
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test "
        f"-keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key


def vector(width: int, content: bytes) -> bytes:
    """With its length in front, in so many octets (RFC 8446, 3.4)."""
    return len(content).to_bytes(width, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, content)


def names(*found: bytes, kind: int = 0) -> bytes:
    """The extension with the server's names."""
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in found)))


def protocols(*found: bytes) -> bytes:
    """The extension of ALPN."""
    return extension(16, vector(2, b"".join(vector(1, name) for name in found)))


def versions(*found: int) -> bytes:
    """The extension `supported_versions`."""
    return extension(43, vector(1, b"".join(struct.pack("!H", each) for each in found)))


def hello(
    *extensions: bytes,
    version: int = 0x0303,
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01\x13\x02",
    compression: bytes = b"\0",
    rest: bytes = b"",
) -> bytes:
    """A handshake message; without extensions, there is no field for them either."""
    body = struct.pack("!H", version) + RANDOM + vector(1, session) + vector(2, ciphers) + vector(1, compression)
    if extensions:
        body += vector(2, b"".join(extensions))
    return b"\x01" + vector(3, body + rest)


def record(fragment: bytes, kind: int = 22, version: int = 0x0301) -> bytes:
    return bytes([kind]) + struct.pack("!H", version) + vector(2, fragment)


def in_records(message: bytes, sizes: Sequence[int] = ()) -> bytes:
    """The message in records of these sizes; what is left over is in one more."""
    parts, at = [], 0
    for size in sizes:
        if at + size < len(message):
            parts.append(record(message[at : at + size]))
            at += size
    return b"".join([*parts, record(message[at:])])
