"""
The bytes of a client's connection become requests: heads, bodies, and what was sent ahead. *Hot path; pure.*

    next_head -> begin_body -> read_body ... -> next_head

Nothing is taken that was not asked for, so that a request begins only when the one before is answered.
"""

from __future__ import annotations

from typing import Final

from sidecar import errors
from sidecar.errors import ProtocolError
from sidecar.http1.body import BodyReader
from sidecar.http1.grammar import GrammarError
from sidecar.http1.head import find_head_end, lone_head, parse_request_head, parse_request_lines
from sidecar.message import RequestHead

# Before a request line. Browsers of the nineties sent one behind a POST; a megabyte of them would hold the loop.
_MAX_EMPTY_BYTES: Final = 128
# Of all connections that have read none yet; it never begins.
_NO_BODY: Final = BodyReader()


class RequestReader:
    """
    Attributes:
        held: What was received and not taken.
        body: The body that is being read, or was last.
    """

    __slots__ = ("_scanned", "body", "held")

    def __init__(self) -> None:
        self.held = b""
        # So much of `held` has no end of a head; 0 when it may hold whole requests, -1 when it is too little for one.
        self._scanned = 0
        self.body = _NO_BODY

    def __repr__(self) -> str:
        return f"<RequestReader {len(self.held)} bytes held, {self.body.left} left of a body>"

    def receive(self, data: bytes) -> None:
        """Take in what has arrived."""
        self.held = self.held + data if self.held else data

    def is_head_incomplete(self) -> bool:
        """Whether what is held is known to be the beginning of a head, and no more."""
        return self._scanned != 0

    def next_head(self, max_bytes: int, max_headers: int) -> RequestHead | None:
        """
        The head with which what is held begins, or None if it is not whole; something must be held.

        Raises:
            ProtocolError: With the reason to answer; what is held stays, for the record, and may not be read on.
        """
        data, scanned = self.held, self._scanned if self._scanned > 0 else 0
        # "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line (CRLF)
        # received prior to the request-line" (RFC 9112, 2.2).
        if data[0] == 0x0D and data[:2] == b"\r\n":
            begin = 2
            while data.startswith(b"\r\n", begin):
                begin += 2
                if begin > _MAX_EMPTY_BYTES:
                    raise ProtocolError(errors.BAD_REQUEST, "too many empty lines before a request")
            data, scanned = data[begin:], 0
        lines = lone_head(data) if not scanned and len(data) <= max_bytes else None
        if lines is not None:
            head = parse_request_lines(lines, max_headers)
            self.held = b""
            self._scanned = 0
            return head
        if scanned and data[scanned : scanned + 1] == b"\n":
            scanned += 1  # its CR was looked at before
        try:
            end = find_head_end(data, scanned)
        except GrammarError as error:
            raise ProtocolError(errors.BAD_REQUEST, str(error)) from None
        if (end if end >= 0 else len(data)) > max_bytes:
            is_line_too_long = data.find(b"\r\n", 0, max_bytes) < 0
            raise ProtocolError(errors.TARGET_TOO_LONG if is_line_too_long else errors.HEAD_TOO_LARGE)
        if end < 0:
            self.held = data
            self._scanned = len(data) - 3 if len(data) > 3 else -1
            return None
        head = parse_request_head(data[:end], max_headers)
        self.held = data[end + 4 :]
        self._scanned = 0
        return head

    def begin_body(self, head: RequestHead, max_trailer_bytes: int, drops_underscored: bool) -> bytes:
        """What is held of the body of a request that has one; otherwise as `BodyReader.begin` and `read_body`."""
        if self.body is _NO_BODY:
            self.body = BodyReader()
        self.body.begin(head, max_trailer_bytes, drops_underscored=drops_underscored)
        return self.read_body()

    def read_body(self) -> bytes:
        """
        Take what is held of the body. If something is left and the body is not complete, ask again in another callback.

        Raises:
            GrammarError: Not a chunked body.
        """
        payload, self.held = self.body.feed(self.held)
        return payload

    def forget_body(self) -> None:
        """Keep nothing of the last body, which was read to its end."""
        self.body = _NO_BODY

    def drop(self) -> bytes:
        """Give up what is held; it is returned."""
        held, self.held = self.held, b""
        self._scanned = 0
        return held
