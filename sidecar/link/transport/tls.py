"""
How a control plane is verified by TLS, and what is shown to it. *Cold.*

`ByFile` verifies by name, as browsers do. A sidecar with an identity verifies by that, and shows its own:
`identity.server_trust`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol

from sidecar.files import Fingerprint, look
from sidecar.link.transport.reading import Read, said

PROTOCOLS: Final = ("http/1.1",)


class NoTlsError(Exception):
    """Nobody can be verified now, and why, in one line."""


class Tls(Protocol):
    """
    What `HttpClient` needs of it.

    Attributes:
        version: Another one whenever what is shown or believed is another: a kept connection of an older one serves no
            further request. What is being answered goes on.
    """

    version: int

    async def context(self) -> ssl.SSLContext:
        """
        For a new connection. The caller sets the deadline.

        Raises:
            NoTlsError: There is none.
        """
        ...

    def refuses(self, certificate: Mapping[str, Any]) -> str:
        """Why this server is not the one wanted, whoever vouches for its certificate; empty if it is."""
        ...


class ByFile:
    """
    A server has a certificate for the name that it is asked by.

    Args:
        trust_file: Of the certificates (PEM) that it may chain to, read anew when it changes; empty for the system's.
        limit_s: That reading it may take.
    """

    def __init__(self, trust_file: str, limit_s: float) -> None:
        self.version = 0
        self._trust_file = trust_file
        self._limit_s = limit_s
        self._known: tuple[Fingerprint | None, ssl.SSLContext] | None = None
        self._read = Read(self._made)

    async def context(self) -> ssl.SSLContext:
        """As in `Tls`."""
        try:
            self._known = await self._read.result(self._limit_s)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            why = f"TLS: {error.reason or error}".lower() if isinstance(error, ssl.SSLError) else said(error)
            raise NoTlsError(f"trust_file {self._trust_file}: {why}") from None
        return self._known[1]

    def refuses(self, certificate: Mapping[str, Any]) -> str:
        """The handshake has looked at the name."""
        return ""

    def _made(self) -> tuple[Fingerprint | None, ssl.SSLContext]:
        known = self._known
        seen = look(self._trust_file)[0] if self._trust_file else None
        if known is not None and known[0] == seen:
            return known
        context = ssl.create_default_context(cafile=self._trust_file or None)
        context.set_alpn_protocols(PROTOCOLS)
        return seen, context
