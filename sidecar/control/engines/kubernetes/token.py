"""The bearer token of a service account, in a file that the kubelet replaces before it ends. *Cold.*"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sidecar.control.engines.kubernetes.wire import ApiError

LOOK_PERIOD_S: Final = 10.0
MAX_BYTES: Final = 64 * 1024


class Token:
    """
    Args:
        path: Of the file; empty for no token.
        clock: Seconds, monotonic.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._value = ""
        self._next_look_s = float("-inf")

    async def current(self) -> str:
        """What the file said not long ago; empty for none. Raises ApiError: it never said anything."""
        if self._path and self._clock() >= self._next_look_s:
            self._next_look_s = self._clock() + LOOK_PERIOD_S
            try:
                self._value = await asyncio.to_thread(_read, self._path)
            except (OSError, ValueError) as error:
                # What is being replaced is looked at again; until then the old one serves, if the API takes it.
                if not self._value:
                    self._next_look_s = float("-inf")
                    why = (getattr(error, "strerror", None) or str(error)).lower()
                    raise ApiError(f"{self._path}: {why}", is_ours=True) from None
        return self._value

    async def renew(self, refused: str) -> bool:
        """It was refused: look again; whether there is another one now. Raises ApiError."""
        self._next_look_s = float("-inf")
        return await self.current() != refused


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    token = raw.decode("ascii", "replace").strip()
    if not token or len(raw) > MAX_BYTES or not token.isascii() or not token.isprintable():
        raise ValueError("expected a token")
    return token
