"""
One call of gRPC whose answer is a message or a stream of them, over HTTP/2, without any socket. *Cold.*

    call = Call(PATH, authority, fields)
    send(call.to_send())
    messages = call.feed(octets)        # whole ones, as they end; afterwards send what `to_send` has
    call.over                           # why there will be no more; None as long as there may be

Written down at github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md; HTTP/2 itself (RFC 9113) is the business of `h2`. A
connection serves one call: whatever ends the one is the end of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""What clients of gRPC take if nobody says otherwise; an agent's message has some kilobytes."""
MAX_HEADER_BYTES: Final = 32 * 1024
_SETTINGS: Final = {
    h2.settings.SettingCodes.ENABLE_PUSH: 0,
    h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
}
_FRAME_HEAD: Final = 9
_SETTINGS_TYPE: Final = 4
_MAX_FRAME_BYTES: Final = 16384
_PREFIX: Final = 5
_MAX_SHOWN: Final = 200

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
PERMISSION_DENIED: Final = 7
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14

_NAMES: Final[Mapping[int, str]] = {
    0: "OK", 1: "Canceled", 2: "Unknown", 3: "InvalidArgument", 4: "DeadlineExceeded", 5: "NotFound",
    6: "AlreadyExists", 7: "PermissionDenied", 8: "ResourceExhausted", 9: "FailedPrecondition", 10: "Aborted",
    11: "OutOfRange", 12: "Unimplemented", 13: "Internal", 14: "Unavailable", 15: "DataLoss", 16: "Unauthenticated",
}  # fmt: skip


class Over(NamedTuple):
    """
    Why a call is over.

    Attributes:
        code: Of gRPC (doc/statuscodes.md), also where it is us who say so.
        text: In words; of the server's own at most 200 characters.
    """

    code: int
    text: str


class Call:
    """
    Args:
        path: `/SERVICE/METHOD`.
        authority: Whom is asked.
        fields: Besides what every call has, names in lower case.
        message: What is asked.
        scheme: `https` on a connection by TLS.

    Attributes:
        over: Why it is over; None as long as it is not.
        has_answered: A whole message has come.
    """

    def __init__(
        self,
        path: str,
        authority: str,
        fields: Sequence[tuple[str, str]] = (),
        message: bytes = b"",
        scheme: str = "http",
    ) -> None:
        self.over: Over | None = None
        self.has_answered = False
        self._body = bytearray()
        self._opening: bytes | None = b""
        config = h2.config.H2Configuration(client_side=True, header_encoding=False)
        self._connection = h2.connection.H2Connection(config)
        self._connection.local_settings = h2.settings.Settings(client=True, initial_values=_SETTINGS)
        self._connection.initiate_connection()
        self._stream_id = self._connection.get_next_available_stream_id()
        self._connection.send_headers(self._stream_id, [
            (":method", "POST"), (":scheme", scheme), (":path", path), (":authority", authority),
            ("te", "trailers"), ("content-type", "application/grpc"), *fields,
        ])  # fmt: skip
        framed = b"\0" + len(message).to_bytes(4) + message
        self._connection.send_data(self._stream_id, framed, end_stream=True)

    @property
    def is_owed(self) -> bool:
        """Whether the server has something to say now: it has not answered yet, or stopped within a message."""
        return not self.has_answered or bool(self._body)

    def to_send(self) -> bytes:
        """What is to be sent, if anything."""
        return self._connection.data_to_send()

    def ping(self) -> None:
        """Ask for a sign of life; whatever comes is one."""
        self._connection.ping(b"sidecar ")

    def feed(self, received: bytes) -> list[bytes]:
        """What came; returns the messages that are whole now."""
        if self.over is not None:
            return []
        messages: list[bytes] = []
        if self._opening is not None:
            received = self._opening + received
            if len(received) < _FRAME_HEAD:
                self._opening = received
                return []
            self._opening = None
            if received[3] != _SETTINGS_TYPE or int.from_bytes(received[:3]) > _MAX_FRAME_BYTES:
                # `h2` would wait for what a line of HTTP/1.1 is as the length of a frame.
                self._end(INTERNAL, "it does not speak HTTP/2: it does not begin with SETTINGS (RFC 9113, 3.4)")
                return []
        try:
            for event in self._connection.receive_data(received):
                self._on(event, messages)
        except h2.exceptions.H2Error as error:
            # Of what it says: the text may have octets of the other side, and be long.
            self._end(INTERNAL, f"it does not speak HTTP/2: {_shown(str(error) or type(error).__name__)}")
        return messages

    def end(self) -> None:
        """The connection has ended."""
        self._end(UNAVAILABLE, "it closed the connection")

    def _on(self, event: h2.events.Event, messages: list[bytes]) -> None:
        if self.over is not None:
            return
        match event:
            case h2.events.ResponseReceived():
                self._on_head(_named(event.headers))
            case h2.events.DataReceived():
                if event.flow_controlled_length:
                    self._connection.acknowledge_received_data(event.flow_controlled_length, self._stream_id)
                self._on_octets(event.data or b"", messages)
            case h2.events.TrailersReceived():
                self._on_status(_named(event.headers))
            case h2.events.StreamEnded():
                self._end(UNKNOWN, "it ended the call without saying why")
            case h2.events.StreamReset():
                self._end(_code_of_reset(event.error_code), f"it gave the call up ({_error_name(event.error_code)})")
            case h2.events.ConnectionTerminated():
                self._end(UNAVAILABLE, f"it is about to close the connection ({_error_name(event.error_code)})")

    def _on_head(self, fields: Mapping[bytes, bytes]) -> None:
        status, kind = fields.get(b":status", b""), fields.get(b"content-type", b"")
        if status != b"200" or not kind.startswith(b"application/grpc"):
            said = _shown(f"{status.decode('latin-1')} {kind.decode('latin-1')}".strip())
            self._end(UNIMPLEMENTED if status == b"404" else UNKNOWN, f"it does not speak gRPC: it answers {said}")
            return
        if b"grpc-status" in fields:
            self._on_status(fields)

    def _on_status(self, fields: Mapping[bytes, bytes]) -> None:
        status = fields.get(b"grpc-status", b"")
        code = int(status) if status.isdigit() and len(status) <= 3 else UNKNOWN
        why = unquote(fields.get(b"grpc-message", b"").decode("latin-1"))
        name = _NAMES.get(code, f"status {code}")
        self._end(code, f"{name}: {_shown(why)}" if why else name)

    def _on_octets(self, octets: bytes, messages: list[bytes]) -> None:
        body = self._body
        body += octets
        while len(body) >= _PREFIX:
            length = int.from_bytes(body[1:_PREFIX])
            if body[0]:
                self._end(INTERNAL, "it sends a message that is compressed, or none of gRPC")
                return
            if length > MAX_MESSAGE_BYTES:
                self._end(INTERNAL, f"it sends a message of {length} bytes, more than {MAX_MESSAGE_BYTES}")
                return
            if len(body) < _PREFIX + length:
                return
            messages.append(bytes(body[_PREFIX : _PREFIX + length]))
            del body[: _PREFIX + length]
            self.has_answered = True

    def _end(self, code: int, text: str) -> None:
        if self.over is None:
            self.over = Over(code, text)
            self._body.clear()


def _named(headers: Sequence[tuple[bytes | str, bytes | str]]) -> dict[bytes, bytes]:
    return {name: value for name, value in headers if isinstance(name, bytes) and isinstance(value, bytes)}


def _code_of_reset(code: int | None) -> int:
    """doc/PROTOCOL-HTTP2.md, "Errors"."""
    if code == h2.errors.ErrorCodes.REFUSED_STREAM:
        return UNAVAILABLE
    return CANCELLED if code == h2.errors.ErrorCodes.CANCEL else INTERNAL


def _error_name(code: int | None) -> str:
    return code.name if isinstance(code, h2.errors.ErrorCodes) else f"error {code}"


def _shown(words: str) -> str:
    """What the other side says, in one line that is not too long."""
    line = "".join(one if one.isprintable() else "?" for one in words[: _MAX_SHOWN + 1])
    return line if len(line) <= _MAX_SHOWN else line[:_MAX_SHOWN] + "..."
