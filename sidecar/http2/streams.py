"""
One stream of a connection: how far each side has come, and what waits to be sent (RFC 9113, 5). *Hot path; pure.*

A `Stream` is what `session` keeps of one; whoever has the message inherits from it and is told what comes.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sidecar.message import NO_TRAILERS, Field

HIGH_BYTES: Final = 64 * 1024
"""So much waits for the peer's window before who sends is told to stop; and goes on at `LOW_BYTES`."""
LOW_BYTES: Final = 16 * 1024


class Stream:
    """
    Attributes:
        id: 0 while it has none.
        send_window: Octets that the peer still takes; a change of its settings may make it negative (6.9.2).
        receive_window: Octets that the peer may still send.
        is_held: What came has not been passed on: the peer is given no further window.
        is_full: More than `HIGH_BYTES` wait.
        has_head: The head has come of which the next field section is the trailer section.
        has_local_ended: We have sent our END_STREAM.
        has_remote_ended: The peer has.
        is_closed: It is none of the session's any more.
        queue: What waits for a window, in pieces; `queued` octets together.
        ends: Behind what waits is the end, with these fields, `end_fields`.
        left: Octets that its content-length has promised and that have not come; -1: it has promised nothing.
    """

    __slots__ = (
        "end_fields",
        "ends",
        "has_head",
        "has_local_ended",
        "has_remote_ended",
        "id",
        "is_closed",
        "is_full",
        "is_held",
        "left",
        "queue",
        "queued",
        "receive_window",
        "send_window",
    )

    def __init__(self) -> None:
        self.id = 0
        self.send_window = 0
        self.receive_window = 0
        self.left = -1
        self.queue: deque[bytes] | None = None
        self.queued = 0
        self.ends = False
        self.end_fields = NO_TRAILERS
        self.is_held = False
        self.is_full = False
        self.has_head = False
        self.has_local_ended = False
        self.has_remote_ended = False
        self.is_closed = True

    def open(self, stream_id: int, send_window: int, receive_window: int) -> None:
        """Begin, possibly anew."""
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.left = -1
        self.queue = None
        self.queued = 0
        self.ends = self.is_held = self.is_full = False
        self.end_fields = NO_TRAILERS
        self.has_head = self.has_local_ended = self.has_remote_ended = self.is_closed = False

    def take(self, size: int, is_end: bool) -> bool:
        """
        So many octets of the message's content have come; whether that is what its content-length says (8.1.1).

        Only to be asked of a message that has said one: while `left` is not negative.
        """
        self.left -= size
        return self.left >= 0 and (not is_end or self.left == 0)

    # --- what the session tells; the first two once they are whole ---------------------------------------------

    def on_head(self, fields: list[Field], payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """A field section has come that is no trailer section, and what followed it at once."""
        raise NotImplementedError

    def on_data(self, payload: bytes, is_end: bool, trailers: list[Field]) -> None:
        """More of the content; empty only together with `is_end`."""
        raise NotImplementedError

    def on_too_large(self, is_end: bool) -> None:
        """A field section has come that is larger than we said; nothing of it was kept."""
        raise NotImplementedError

    def on_reset(self, code: int) -> None:
        """The peer has reset the stream, or has said that it will not look at it (`REFUSED_STREAM`); it is closed."""
        raise NotImplementedError

    def on_withdrawn(self, fields: list[Field]) -> None:
        """The peer has opened the stream with this head and reset it before anybody was told; it is closed."""
        raise NotImplementedError

    def on_fault(self, code: int, detail: str) -> None:
        """The peer has broken a rule, for which the stream was reset; it is closed."""
        raise NotImplementedError

    def on_blocked(self) -> None:
        """The peer takes no more for now."""
        raise NotImplementedError

    def on_writable(self) -> None:
        """The peer has taken most of what waited."""
        raise NotImplementedError

    def on_moved(self) -> None:
        """Some of what waited is sent, and not by an octet at a time."""

    def on_sent(self) -> None:
        """What waited is sent to its end."""
        raise NotImplementedError
