"""TLS to an engine: a context made of files that may be replaced while running. *Cold.*"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sidecar.control.engines.interface import EngineError
from sidecar.files import Fingerprint, look

LOOK_PERIOD_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """
    Paths of PEM files.

    Attributes:
        ca: Certificates that the peer's is signed by; empty for the system's.
        certificate: To show; empty for none.
        key: Its key; empty if it is in the certificate's file.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""


class Tls:
    """
    The context for new connections; those that stand live on.

    Args:
        peer: What the engine speaks to, for errors.
        files: None where it is spoken to in clear.
        clock: Seconds, monotonic.
    """

    def __init__(self, peer: str, files: TlsFiles | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer = peer
        self._files = files
        self._paths = [path for path in (files.ca, files.certificate, files.key) if path] if files is not None else []
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._made_of: tuple[Fingerprint, ...] | None = None
        self._next_look_s = float("-inf")

    async def context(self) -> ssl.SSLContext | bool:
        """
        What aiohttp takes as `ssl`; True where the peer is spoken to in clear, which it then does not look at.

        Raises:
            EngineError: A file cannot be used, and none ever could.
        """
        if self._files is None:
            return True
        if self._clock() >= self._next_look_s:
            self._next_look_s = self._clock() + LOOK_PERIOD_S
            try:
                await asyncio.to_thread(self._renew)
            except (OSError, ValueError) as error:
                # What is being replaced is looked at again; until then the old one serves, if the peer takes it.
                if self._context is None:
                    self._next_look_s = float("-inf")
                    raise EngineError(f"certificates for {self._peer}: {_why(error)}") from None
        assert self._context is not None
        return self._context

    def _renew(self) -> None:
        found = tuple(look(path)[0] for path in self._paths)
        if self._context is not None and found == self._made_of:
            return
        at = self._files
        assert at is not None
        try:
            context = ssl.create_default_context(cafile=at.ca or None)
        except ssl.SSLError as error:
            raise ValueError(f"{at.ca}: expected certificates in PEM: {_why(error)}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if at.certificate:
            try:
                # A password would be asked for at the terminal, for ever.
                context.load_cert_chain(at.certificate, at.key or None, password=_no_password)
            except ssl.SSLError as error:
                files = f"{at.certificate}, {at.key}" if at.key else at.certificate
                raise ValueError(f"{files}: expected a certificate and its key in PEM: {_why(error)}") from None
        self._context, self._made_of = context, found


def _no_password() -> str:
    raise ValueError("the key has a password; give it without one, in a file that only this user can read")


def _why(error: Exception) -> str:
    name = getattr(error, "filename", None)
    what = getattr(error, "strerror", None) or str(error)
    return f"{name}: {what.lower()}" if name else what
