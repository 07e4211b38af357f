"""
Contexts of listeners and upstreams, made of what a plan says and of what is held now. *Cold; 1 to 2 ms each.*

A rotation makes new ones. All speak TLS 1.3, and 1.2 only where a file says so; then only with forward secrecy and
authenticated encryption, without renegotiation and compression.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final

from sidecar.net.tls.settings import MinVersion
from sidecar.net.tls.shown import ShowingContext
from sidecar.net.tls.sides import MESH_HTTP, MESH_HTTP2, MESH_TCP, OUTSIDE_HTTP, OUTSIDE_HTTP2
from sidecar.security.identity.certificates.credentials import Credentials
from sidecar.security.identity.certificates.pair import KeyPair
from sidecar.security.identity.certificates.roots import Roots

CIPHERS_1_2: Final = (
    "@SECLEVEL=2:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    ":ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""Of TLS 1.2, those that RFC 9325, 4.2 recommends, and ChaCha20 for machines without AES; those of 1.3 are all good.
The level is Debian's (SSL_CTX_set_security_level(3)): 112 bits, so RSA from 2048 bits on and no SHA-1."""


_MESH: Final = (MESH_HTTP2, MESH_HTTP)
_OUTSIDE: Final = (OUTSIDE_HTTP2, OUTSIDE_HTTP)


def mesh_server(held: Credentials, *, takes_streams: bool = False) -> ShowingContext:
    """Of listeners for sidecars: a client without a certificate that leads to a root of the bundle is refused."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, "1.3", *((MESH_TCP, *_MESH) if takes_streams else _MESH))
    _show(held.pair, context)
    held.roots.believe_by(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def mesh_client(held: Credentials, *, is_stream: bool = False, is_shared: bool = False) -> ShowingContext:
    """
    Of upstreams that are sidecars, who are known by SPIFFE ID and never by name: that is for whoever connects.

    Args:
        is_stream: What is sent is no HTTP.
        is_shared: Many requests are to share a connection; sidecars of before HTTP/2 carry one at a time.
    """
    protocols = (MESH_TCP,) if is_stream else _MESH if is_shared else (MESH_HTTP,)
    context = _context(ssl.PROTOCOL_TLS_CLIENT, "1.3", *protocols)
    context.check_hostname = False
    _show(held.pair, context)
    held.roots.believe_by(context)
    return context


def outside_server(
    pairs: Sequence[KeyPair], client_trust: Roots | None, min_version: MinVersion, *, takes_streams: bool = False
) -> ShowingContext:
    """
    Of a listener for clients outside.

    Args:
        pairs: The one whose names match what a client asks for (RFC 6066, 3) is shown, else the first.
        client_trust: Clients must show a certificate that leads to one of these; None: they are asked for none.
        takes_streams: What comes is no HTTP: no protocol is agreed on.
    """
    made = []
    for pair in pairs:
        context = _context(ssl.PROTOCOL_TLS_SERVER, min_version, *(() if takes_streams else _OUTSIDE))
        _show(pair, context)
        if client_trust is not None:
            client_trust.believe_by(context)
            context.verify_mode = ssl.CERT_REQUIRED
        made.append(context)
    if len(made) > 1:
        # The first is not among them: a context that its own callback holds would only be freed by the collector.
        choice = _Choice([(pair.leaf.names, one) for pair, one in zip(pairs[1:], made[1:], strict=True)], pairs[0])
        made[0].sni_callback = choice
    return made[0]


def outside_client(
    roots: Roots | None, pair: KeyPair | None, min_version: MinVersion, *, is_stream: bool = False,
    is_shared: bool = False,
) -> ShowingContext:  # fmt: skip
    """
    Of upstreams outside, whose certificate must be for the name that is asked for.

    Args:
        roots: Whom to believe; None: nothing is verified, neither whom the certificate is of nor who signed it.
        pair: Shown if the server asks for one.
        is_stream: What is sent is no HTTP: no protocol is offered.
        is_shared: HTTP/2 is offered, and preferred.
    """
    context = _context(
        ssl.PROTOCOL_TLS_CLIENT, min_version, *(() if is_stream else _OUTSIDE if is_shared else (OUTSIDE_HTTP,))
    )
    if roots is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        # A name in the subject, which RFC 9525, 2 leaves out, is none.
        context.hostname_checks_common_name = False
        roots.believe_by(context)
    if pair is not None:
        _show(pair, context)
    return context


def _context(protocol: int, min_version: MinVersion, *applications: str) -> ShowingContext:
    context = ShowingContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if min_version == "1.2" else ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # What ends without close_notify may have been cut (RFC 8446, 6.1); some builds of Python take it for whole.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_ciphers(CIPHERS_1_2)
    if applications:
        context.set_alpn_protocols(applications)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # OpenSSL's two cost 170 us each with client certificates; none has clients without TCP_NODELAY wait 43 ms.
        context.num_tickets = 1
    return context


def _show(pair: KeyPair, context: ShowingContext) -> None:
    pair.show_by(context)
    context.shown = pair.leaf.told


class _Choice:
    """
    A context's `sni_callback`: has a connection go on by the context that is for the name asked for.

    Args:
        others: Names of each context that is not the one whose callback this is; of several that match, the first.
        first: What that one shows: a name of its own is not looked for among the others.
    """

    __slots__ = ("_exact", "_wild")

    def __init__(self, others: Sequence[tuple[Sequence[str], ssl.SSLContext]], first: KeyPair) -> None:
        self._exact: dict[str, ssl.SSLContext | None] = {}
        self._wild: dict[str, ssl.SSLContext | None] = {}
        named: list[tuple[Sequence[str], ssl.SSLContext | None]] = [(first.leaf.names, None), *others]
        for names, context in named:
            for name in map(str.lower, names):
                if name.startswith("*."):
                    self._wild.setdefault(name[1:], context)
                else:
                    self._exact.setdefault(name, context)

    def __call__(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        name = name.lower()
        chosen = self._of(name)
        if chosen is not None:
            connection.context = chosen

    def _of(self, name: str) -> ssl.SSLContext | None:
        if name in self._exact:
            return self._exact[name]
        # RFC 9525, 6.3: `*` stands for the whole leftmost label, and for one only.
        _, dot, rest = name.partition(".")
        return self._wild.get(dot + rest)
