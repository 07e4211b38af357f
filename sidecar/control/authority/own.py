"""
The certificate of the control plane itself, `spiffe://MESH/control`, and what it says TLS with. *On the loop.*

Each replica has a key of its own, in memory alone, and signs its certificate itself. It is made anew from the first day
on, and as soon as another root signs or others are trusted. Each time there is a new context: connections live on, and
nothing that was agreed on under the old trust is taken up again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from typing import Any

from sidecar.control.authority import certificates as pki
from sidecar.control.authority.authority import Authority, Issued, NoAuthority
from sidecar.control.authority.names import of_control
from sidecar.process_log import event

logger = logging.getLogger(__name__)


class OwnCertificate:
    """
    Args:
        authority: Signs.
        replica: Name of this one, for people.
        now_s: Since the Unix epoch.

    Attributes:
        issued: The certificate; None before the first.
    """

    def __init__(self, authority: Authority, replica: str, now_s: Callable[[], float]) -> None:
        self._authority = authority
        self._replica = replica
        self._now_s = now_s
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None
        self._error = ""
        self.issued: Issued | None = None

    def context(self) -> ssl.SSLContext | None:
        """For connections that are taken now; None: there is nothing to show, or it has ended."""
        return self._server if self._holds() else None

    def client_context(self) -> ssl.SSLContext | None:
        """For connections to other replicas."""
        return self._client if self._holds() else None

    async def refresh(self) -> None:
        """Make it anew if that is due. What was there goes on if it cannot be."""
        record, issued = self._authority.record, self.issued
        if record is None:
            return
        is_current = issued is not None and issued.trust == record.trust and issued.root == record.signing
        if is_current and issued is not None and self._now_s() < issued.renew_after_s:
            return
        try:
            made, server, client = await asyncio.to_thread(self._made, of_control(record.trust_domain))
        except (NoAuthority, ssl.SSLError, OSError) as error:
            if str(error) != self._error:
                self._error = str(error)
                logger.error(event("own_certificate_not_made", error=error))
            return
        self._error = ""
        self.issued, self._server, self._client = made, server, client
        logger.info(
            event("own_certificate", identity=made.identity, serial=made.serial, not_after=int(made.not_after_s))
        )

    def _holds(self) -> bool:
        return self.issued is not None and self._now_s() < self.issued.not_after_s

    def _made(self, identity: str) -> tuple[Issued, ssl.SSLContext, ssl.SSLContext]:
        key = pki.new_key()
        issued = self._authority.issue(key.public_key(), identity, self._replica[:64])
        pair = issued.certificate + pki.text_of_key(key)
        return issued, _server_context(pair, issued.trust), _client_context(pair, issued.trust, identity)


def _server_context(pair: str, trust: str) -> ssl.SSLContext:
    """What 15010 says TLS with: 1.3, and a client's certificate is asked for but not required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    # Each costs 170 us with client certificates, and streams last for half an hour.
    context.num_tickets = 1
    return _with(context, pair, trust)


def _client_context(pair: str, trust: str, identity: str) -> ssl.SSLContext:
    """What other replicas are asked with: they must be control planes, of whom there are many and none has a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.sslobject_class = _of(identity)
    return _with(context, pair, trust)


def _with(context: ssl.SSLContext, pair: str, trust: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=trust)
    context.set_alpn_protocols(["http/1.1"])
    # The module takes paths alone. This one is of memory that has no name, and is gone when it is closed.
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "w") as file:
            file.write(pair)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def _of(identity: str) -> type[ssl.SSLObject]:
    """A kind of TLS whose handshake ends only with a peer that is this one, before anything is said to it."""

    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            names: Any = (self.getpeercert() or {}).get("subjectAltName", ())
            if tuple(names) != (("URI", identity),):
                raise ssl.SSLCertVerificationError(f"expected {identity}, found another")

    return Checked
