"""
Who a client is, as its connection tells it. *Pure.*
"""

from __future__ import annotations

from urllib.parse import quote

from sidecar.exchange import Direction
from sidecar.peer import Peer


def peer_of(peername: object) -> tuple[str, int]:
    """Address and port of what the socket says, `(address, port, ...)`; `("unix", 0)` on a Unix socket."""
    return (peername[0], peername[1]) if isinstance(peername, tuple) and peername else ("unix", 0)


def forwarded_lines(peer: tuple[str, int], direction: Direction, secured: Peer | None = None, by: str = "") -> bytes:
    """
    Lines that say who the client is, for requests that do not say so themselves. Of the app, which is the client of an
    outbound listener, they do not tell the address.

    Args:
        secured: Who it is by TLS.
        by: Whom it has spoken with: our SPIFFE ID, or nothing.
    """
    lines = b"x-forwarded-proto: https\r\n" if secured is not None else b"x-forwarded-proto: http\r\n"
    if direction is Direction.INBOUND and peer[1]:
        lines = b"x-forwarded-for: %b\r\n%b" % (peer[0].encode("latin-1"), lines)
    if direction is Direction.INBOUND and secured is not None and secured.fingerprint:
        lines += b"x-forwarded-client-cert: %b\r\n" % client_cert(secured, by)
    return lines


def client_cert(secured: Peer, by: str) -> bytes:
    """
    The certificate that a client has shown, in the form of Envoy's `x-forwarded-client-cert`: `By`, `Hash`, `Subject`,
    `URI` and `DNS`. Others wrote what is in it, so whatever could end a value, or the field, is escaped.
    """
    parts = [f"By={_plain(by)}"] if by else []
    parts += [f"Hash={secured.fingerprint}", f'Subject="{_quoted(secured.subject)}"']
    parts += [f"URI={_plain(uri)}" for uri in secured.uris]
    parts += [f"DNS={_plain(name)}" for name in secured.names]
    return ";".join(parts).encode("ascii")


def _plain(value: str) -> str:
    return quote(value, safe="!#$%&'()*+-./:?@[]^_`{|}~")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return quote(escaped, safe="\\\" !#$%&'()*+,-./:;<=>?@[]^_`{|}~")
