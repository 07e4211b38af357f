"""Small files that others replace: read on a thread, within a time, and never into an error's text. *Cold.*"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, Generic, TypeVar

MAX_TOKEN_BYTES: Final = 16 * 1024
JOIN_TOKEN: Final = "sct_"
"""How a token begins that is for joining a mesh alone: it is never shown as a bearer token."""
_T = TypeVar("_T")


class Read(Generic[_T]):
    """
    A call that reads a file, in a thread. At most one at a time: a mount that hangs holds one thread, and not one more
    for each attempt.
    """

    __slots__ = ("_call", "_future")

    def __init__(self, call: Callable[[], _T]) -> None:
        self._call = call
        self._future: asyncio.Future[_T] | None = None

    async def result(self, limit_s: float) -> _T:
        """
        What it returns or raises.

        Raises:
            OSError: It has not returned in time.
        """
        if self._future is None or self._future.done():
            self._future = asyncio.get_running_loop().run_in_executor(None, self._call)
        future = self._future
        await asyncio.wait([future], timeout=limit_s)
        if not future.done():
            raise OSError("it could not be read in time")
        return future.result()


def read_token(path: str) -> str:
    """
    A token from its file, without the white space around it. Blocks.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        raw = file.read(MAX_TOKEN_BYTES + 1).strip()
    token = raw.decode("latin-1")
    if not token or len(raw) > MAX_TOKEN_BYTES or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"expected one token of printable ASCII and at most {MAX_TOKEN_BYTES} octets")
    return token


def said(error: OSError | ValueError) -> str:
    """Why a file could not be read, in words."""
    return ((error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__).lower()
