"""
What `joiner.Joiner` needs of others, and what it tells. *Pure.*

    joiner = Joiner(settings, client=..., maker=KeyProcess(), tokens=..., prove=...)
    joiner.on_held = listener                   called with each `Held`, the one that `begin` was given included
    await joiner.begin(kept)                    what was kept on disk or handed over; None for nothing
    task = create_task(joiner.run())            never ends and never raises, but for being cancelled
    joiner.held, joiner.why_none()              what is held and valid; why nothing is
    joiner.renew_soon(within_s)                 the authority or an operator wants it
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from sidecar.link.identity.held import Held
from sidecar.link.identity.messages import Joined, JoinRequest
from sidecar.link.identity.token_file import TokenFile
from sidecar.link.transport.refusal import Refusal
from sidecar.link.transport.server import Server
from sidecar.link.transport.tls import Tls


@dataclass(frozen=True, slots=True)
class JoinSettings:
    """
    Attributes:
        addresses: Of the control plane, as in `LinkSettings`; those that begin with `http://` are not joined by.
        service: That this sidecar takes itself for.
        token_file: Path, for words only; empty for none.
        trust_file: Path, for words only; empty for none.
        trust_domain: That is wanted; empty to take the control plane's word for it.
        lifetime_s: That is asked for; 0 leaves it to the authority.
    """

    addresses: tuple[str, ...]
    service: str
    token_file: str = ""
    trust_file: str = ""
    trust_domain: str = ""
    lifetime_s: int = 0


@dataclass(frozen=True, slots=True)
class Proved:
    """
    What a certificate says, once it is known that it is good.

    Attributes:
        identity: Its SPIFFE ID.
        issuer: In the form of RFC 4514.
        not_before_s: Since the Unix epoch; so for `not_after_s`.
    """

    identity: str
    issuer: str
    not_before_s: float
    not_after_s: float


class UnusableError(Exception):
    """A certificate that is of no use, and why, in one line without anything secret."""


Prove = Callable[[str, str, str], Awaitable[Proved]]
"""
Given a chain, a key and roots, in PEM: that they are one another's, lead to a root, and hold now, as peers see them.
Raises UnusableError.
"""


class Files(Protocol):
    """Reads what a person or an orchestrator has put there."""

    async def token(self) -> TokenFile:
        """
        As the file is now.

        Raises:
            OSError, ValueError: It cannot be read, or is something else; the text has nothing of its content.
        """
        ...

    async def trust(self) -> str:
        """
        Roots in PEM.

        Raises:
            OSError, ValueError: They cannot be read.
        """
        ...


class JoinClient(Protocol):
    """Asks a control plane. Everything raises `TransportError` or `MessageError` if there is no answer to be used."""

    async def trust(self, server: Server) -> str | Refusal:
        """Roots in PEM that whoever is there gives for the mesh's; nothing was proved."""
        ...

    async def nonce(self, server: Server, tls: Tls) -> str | Refusal:
        """What the key of an expired certificate has to sign."""
        ...

    async def join(self, server: Server, tls: Tls, request: JoinRequest) -> Joined | Refusal:
        """A certificate."""
        ...


OnHeld = Callable[[Held], None]
