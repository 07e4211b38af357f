"""Frames on a stream of bytes: each with its length before it. *Cold.*"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from sidecar.compile.frames import FrameError

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""More than any file of at most 10 MiB makes; what claims to be longer is no frame."""

_LENGTH: Final = struct.Struct("<I")


def prefixed(frame: bytes) -> bytes:
    """A frame as it is written to a stream: its length in four octets, little endian, goes before it."""
    return _LENGTH.pack(len(frame)) + frame


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """
    The next frame of a stream.

    Raises:
        FrameError: What comes is longer than any frame, or nothing.
        asyncio.IncompleteReadError: The stream ended before or inside of it.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if not 0 < length <= MAX_FRAME_BYTES:
        raise FrameError(f"expected a frame of at most {MAX_FRAME_BYTES} octets, found a length of {length}")
    return await reader.readexactly(length)
