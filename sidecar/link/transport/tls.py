"""
How a control plane is verified by TLS, and what is shown to it. *Cold.*

`ByFile` verifies by name, as browsers do. A sidecar with an identity verifies by that, and shows its own:
`identity.server_trust`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from sidecar.files import Fingerprint, look
from sidecar.link.transport.reading import Read, said

PROTOCOLS: Final = ("http/1.1",)


class NoTlsError(Exception):
    """Nobody can be verified now, and why, in one line."""


class Terms(NamedTuple):
    """
    On which one connection is made.

    Attributes:
        refuses: Given the server's certificate, which the context has verified, says why it is not the one wanted;
            empty if it is.
        version: As `Tls.version` was.
    """

    context: ssl.SSLContext
    refuses: Callable[[Mapping[str, Any]], str]
    version: int


class Tls(Protocol):
    """
    What `HttpClient` needs of it.

    Attributes:
        version: Another one whenever what is shown or believed is another: a kept connection of an older one serves no
            further request. What is being answered goes on.
    """

    @property
    def version(self) -> int: ...

    async def takes_token(self) -> bool:
        """Whether a bearer token goes with requests. The caller sets the deadline; errors as `terms`."""
        ...

    async def terms(self) -> Terms:
        """
        For a new connection. The caller sets the deadline.

        Raises:
            NoTlsError: There are none.
        """
        ...


def anybody(certificate: Mapping[str, Any]) -> str:
    """Whoever the context has verified."""
    return ""


class ByFile:
    """
    A server has a certificate for the name that it is asked by.

    Args:
        trust_file: Of the certificates (PEM) that it may chain to, read anew when it changes; empty for the system's.
        limit_s: That reading it may take.
    """

    version = 0

    def __init__(self, trust_file: str, limit_s: float) -> None:
        self._trust_file = trust_file
        self._limit_s = limit_s
        self._known: tuple[Fingerprint | None, ssl.SSLContext] | None = None
        self._read = Read(self._made)

    async def takes_token(self) -> bool:
        """As in `Tls`."""
        return True

    async def terms(self) -> Terms:
        """As in `Tls`."""
        try:
            self._known = await self._read.result(self._limit_s)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            why = f"TLS: {error.reason or error}".lower() if isinstance(error, ssl.SSLError) else said(error)
            raise NoTlsError(f"trust_file {self._trust_file}: {why}") from None
        return Terms(self._known[1], anybody, self.version)

    def _made(self) -> tuple[Fingerprint | None, ssl.SSLContext]:
        known = self._known
        seen = look(self._trust_file)[0] if self._trust_file else None
        if known is not None and known[0] == seen:
            return known
        context = ssl.create_default_context(cafile=self._trust_file or None)
        context.set_alpn_protocols(PROTOCOLS)
        return seen, context
