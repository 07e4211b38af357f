"""TLS to etcd: a context made of files that may be replaced while running. *Cold.*"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final

from sidecar.control.engines.etcd.settings import EtcdSettings
from sidecar.control.engines.interface import EngineError
from sidecar.files import Fingerprint, look

LOOK_PERIOD_S: Final = 30.0


class Tls:
    """
    The context for new connections; those that stand live on.

    Args:
        settings: Which files.
        clock: Seconds, monotonic.
    """

    def __init__(self, settings: EtcdSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._paths = [path for path in (settings.ca, settings.certificate, settings.key) if path]
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._made_of: tuple[Fingerprint, ...] | None = None
        self._next_look_s = float("-inf")

    async def context(self) -> ssl.SSLContext | bool:
        """
        What aiohttp takes as `ssl`; True where members are spoken to in clear, which it then does not look at.

        Raises:
            EngineError: A file cannot be used, and none ever could.
        """
        if not self._settings.is_tls:
            return True
        if self._clock() >= self._next_look_s:
            self._next_look_s = self._clock() + LOOK_PERIOD_S
            try:
                await asyncio.to_thread(self._renew)
            except (OSError, ValueError) as error:
                # What is being replaced is looked at again; until then the old one serves, as long as etcd takes it.
                if self._context is None:
                    self._next_look_s = float("-inf")
                    raise EngineError(f"certificates for etcd: {_why(error)}") from None
        assert self._context is not None
        return self._context

    def _renew(self) -> None:
        found = tuple(look(path)[0] for path in self._paths)
        if self._context is not None and found == self._made_of:
            return
        at = self._settings
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
