"""Octets to lines. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.link.fields import MessageError


class LineBuffer:
    """
    What came of a stream, in whatever pieces.

    Args:
        max_bytes: Of a line, without its end.
    """

    __slots__ = ("_data", "_max_bytes", "_seen")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._seen = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        The lines that are complete now, without their ends; empty ones are left out. Walk it to its end.

        Raises:
            MessageError: One is too long; nothing that comes after can be used.
        """
        self._data += data
        while (end := self._data.find(b"\n", self._seen)) >= 0:
            if end > self._max_bytes:
                break
            line = bytes(self._data[:end]).strip()
            del self._data[: end + 1]
            self._seen = 0
            if line:
                yield line
        self._seen = len(self._data)
        if self._seen > self._max_bytes:
            self._data.clear()
            self._seen = 0
            raise MessageError(f"expected a line of at most {self._max_bytes} octets")
