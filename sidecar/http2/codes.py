"""
The numbers of HTTP/2 and what is wrong with a connection or a stream (RFC 9113, 6, 7 and 11). *Hot path; pure.*

Plain integers, as `message.Framing` says.
"""

from __future__ import annotations

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (3.4)."""

FRAME_HEADER: Final = 9
"""Octets before each frame's payload (4.1)."""
MAX_STREAM_ID: Final = 0x7FFFFFFF
MAX_WINDOW: Final = 0x7FFFFFFF
DEFAULT_WINDOW: Final = 65535
DEFAULT_MAX_FRAME: Final = 16384
"""Octets of a frame's payload, unless SETTINGS_MAX_FRAME_SIZE says more (4.2); we never say more."""
LARGEST_MAX_FRAME: Final = 0xFFFFFF
MAX_OUR_FRAME: Final = 64 * 1024
"""We send no longer ones, whatever the peer takes: a frame that is under way holds up all other streams."""


class FrameType:
    """Section 6."""

    DATA: Final = 0
    HEADERS: Final = 1
    PRIORITY: Final = 2
    RST_STREAM: Final = 3
    SETTINGS: Final = 4
    PUSH_PROMISE: Final = 5
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW_UPDATE: Final = 8
    CONTINUATION: Final = 9


class Flag:
    """Section 6; the same bit means `END_STREAM` of what carries a message, and `ACK` of what does not."""

    END_STREAM: Final = 0x1
    ACK: Final = 0x1
    END_HEADERS: Final = 0x4
    PADDED: Final = 0x8
    PRIORITY: Final = 0x20


class Setting:
    """Section 6.5.2, and RFC 8441, 3."""

    HEADER_TABLE_SIZE: Final = 1
    ENABLE_PUSH: Final = 2
    MAX_CONCURRENT_STREAMS: Final = 3
    INITIAL_WINDOW_SIZE: Final = 4
    MAX_FRAME_SIZE: Final = 5
    MAX_HEADER_LIST_SIZE: Final = 6
    ENABLE_CONNECT_PROTOCOL: Final = 8


class Code:
    """Section 7."""

    NO_ERROR: Final = 0
    PROTOCOL_ERROR: Final = 1
    INTERNAL_ERROR: Final = 2
    FLOW_CONTROL_ERROR: Final = 3
    SETTINGS_TIMEOUT: Final = 4
    STREAM_CLOSED: Final = 5
    FRAME_SIZE_ERROR: Final = 6
    REFUSED_STREAM: Final = 7
    CANCEL: Final = 8
    COMPRESSION_ERROR: Final = 9
    CONNECT_ERROR: Final = 10
    ENHANCE_YOUR_CALM: Final = 11
    INADEQUATE_SECURITY: Final = 12
    HTTP_1_1_REQUIRED: Final = 13
    NAMES: Final = (
        "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
        "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
    )  # fmt: skip


def name_of(code: int) -> str:
    """The code as the RFC calls it; one that it does not know as a number."""
    return Code.NAMES[code] if 0 <= code < len(Code.NAMES) else f"code {code}"


class SessionError(Exception):
    """
    The peer broke the connection's rules (RFC 9113, 5.4.1): it ends, with a GOAWAY that says why.

    Attributes:
        code: Of `Code`.
        detail: What exactly was found.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{name_of(code)}: {detail}")
        self.code = code
        self.detail = detail


class MalformedError(Exception):
    """The peer sent a malformed message (RFC 9113, 8.1.1): its stream ends with PROTOCOL_ERROR. Says what is wrong."""
