"""
Both ends of the sidecar by `h2`, which knows the protocol and leaves the test to say what happens when.

    with H2Server() as server, H2Client(sidecar.outbound_port) as client:
        asked = client.ask("GET", "/a", authority="web")
        connection = server.accept()
        connection.answer(connection.next_request(), 200, b"hi")
        assert client.answered(asked).data == b"hi"

Windows are given back as data is taken, unless `is_slow`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

Fields = list[tuple[str, str]]
PATIENCE_S = 15.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Seen:
    """What has come on a stream; of `fields` the pseudo-fields too."""

    fields: Fields = field(default_factory=list)
    interim: list[Fields] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    trailers: Fields | None = None
    is_ended: bool = False
    reset: int | None = None

    def get(self, name: str) -> str | None:
        """The value of a field."""
        return dict(self.fields).get(name)

    @property
    def status(self) -> int:
        """Of a response; 0 before it."""
        return int(self.get(":status") or 0)


class H2Peer:
    """
    One end of a connection.

    Attributes:
        seen: By stream.
        goaway: Code and last stream, once told.
        is_slow: It gives no window back.
    """

    def __init__(self, sock: socket.socket, *, is_client: bool, settings: dict[int, int] | None = None) -> None:
        sock.settimeout(PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.h2 = H2Connection(H2Configuration(client_side=is_client, header_encoding="utf-8"))
        self.seen: dict[int, Seen] = {}
        self.goaway: tuple[int, int] | None = None
        self.is_slow = False
        self.is_closed = False
        self._asked: list[int] = []
        self._unread = b""
        self._is_begun = is_client
        if settings:
            self.h2.local_settings = Settings(client=is_client, initial_values=settings)  # type: ignore[arg-type]
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> H2Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        """Send what is to be sent."""
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Take what comes until this is so."""
        while not condition():
            assert not self.is_closed, f"closed before {what}"
            self._take(what)

    def _take(self, what: str) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}: {self.seen}, {self.goaway}") from None
        if not data:
            self.is_closed = True
            return
        self._receive(data)
        self.flush()

    def _receive(self, data: bytes) -> None:
        """Frame by frame: behind a GOAWAY `h2` would take no other, though streams go on."""
        self._unread += data
        while (size := self._first_bytes()) <= len(self._unread):
            frame, self._unread = self._unread[:size], self._unread[size:]
            state = self.h2.state_machine.state
            for event in self.h2.receive_data(frame):
                self._on_event(event)
            if self.goaway is not None and self._is_begun:
                self.h2.state_machine.state = state
            self._is_begun = True

    def _first_bytes(self) -> int:
        """Of the client's preface, or of a frame."""
        if not self._is_begun:
            return len(_PREFACE)
        return 9 + int.from_bytes(self._unread[:3], "big") if len(self._unread) >= 9 else 9

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaway = (int(event.error_code), event.last_stream_id or 0)
            return
        stream_id = getattr(event, "stream_id", None)
        if not stream_id:
            return
        seen = self.seen.setdefault(stream_id, Seen())
        if isinstance(event, RequestReceived | ResponseReceived):
            seen.fields = list(event.headers)
            if isinstance(event, RequestReceived):
                self._asked.append(stream_id)
        elif isinstance(event, InformationalResponseReceived):
            seen.interim.append(list(event.headers))
        elif isinstance(event, DataReceived):
            seen.data += event.data
            if not self.is_slow and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
        elif isinstance(event, TrailersReceived):
            seen.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            seen.is_ended = True
        elif isinstance(event, StreamReset):
            seen.reset = int(event.error_code)

    # --- what both say -------------------------------------------------------------------------------------------

    def send(self, stream_id: int, data: bytes, *, is_end: bool = False, trailers: Fields | None = None) -> None:
        """Content, as the windows allow it."""
        while data:
            self.wait(lambda: self.h2.local_flow_control_window(stream_id) > 0, "a window")
            size = min(len(data), self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            self.h2.send_data(stream_id, data[:size], end_stream=is_end and size == len(data))
            data = data[size:]
            self.flush()
            if is_end and not data:
                return
        if trailers is not None:
            self.h2.send_headers(stream_id, trailers, end_stream=True)
        elif is_end:
            self.h2.end_stream(stream_id)
        self.flush()

    def send_all_there_is_room_for(self, stream_id: int) -> int:
        """Octets that the other side takes before somebody reads them; a second of silence is the end."""
        sent = 0
        self.sock.settimeout(1.0)
        try:
            while True:
                size = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
                if size:
                    self.h2.send_data(stream_id, bytes(size))
                    sent += size
                    self.flush()
                else:
                    try:
                        data = self.sock.recv(65536)
                    except TimeoutError:
                        return sent
                    self._receive(data)
        finally:
            self.sock.settimeout(PATIENCE_S)

    def read_slowly(self) -> None:
        """Give back what was taken so far, and all that follows."""
        self.is_slow = False
        for stream_id, seen in self.seen.items():
            if seen.data and not seen.is_ended:
                self.h2.acknowledge_received_data(len(seen.data), stream_id)
        self.flush()

    def reset(self, stream_id: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Give a stream up."""
        self.h2.reset_stream(stream_id, code)
        self.flush()

    def go_away(self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Take no further streams; `h2` would then speak of those that there are no more, so this is by hand."""
        payload = last.to_bytes(4, "big") + int(code).to_bytes(4, "big")
        self.sock.sendall(len(payload).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + payload)


class H2Client(H2Peer):
    """A client's connection to a port of this machine."""

    def __init__(self, port: int, settings: dict[int, int] | None = None, sock: socket.socket | None = None) -> None:
        made = sock or socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        super().__init__(made, is_client=True, settings=settings)

    def __enter__(self) -> H2Client:
        return self

    def ask(
        self,
        method: str,
        path: str,
        fields: Sequence[tuple[str, str]] = (),
        *,
        authority: str,
        body: bytes | None = b"",
    ) -> int:
        """A request; with None for its body, that is to follow."""
        stream_id = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path), *fields]
        self.h2.send_headers(stream_id, head, end_stream=body == b"")
        self.seen[stream_id] = Seen()
        self.flush()
        if body:
            self.send(stream_id, body, is_end=True)
        return stream_id

    def answered(self, stream_id: int) -> Seen:
        """The answer, whole or cut."""
        seen = self.seen[stream_id]
        self.wait(lambda: seen.is_ended or seen.reset is not None, f"the answer of {stream_id}")
        return seen


class H2ServerConnection(H2Peer):
    """A connection that was made to us."""

    def next_request(self, *, is_whole: bool = True) -> int:
        """The next that was asked, in order; its head, or all of it."""
        self.wait(lambda: bool(self._asked), "a request")
        stream_id = self._asked.pop(0)
        if is_whole:
            self.wait(lambda: self.seen[stream_id].is_ended, f"the end of {stream_id}")
        return stream_id

    def answer(
        self, stream_id: int, status: int = 200, body: bytes = b"", fields: Sequence[tuple[str, str]] = (),
        trailers: Fields | None = None,
    ) -> None:  # fmt: skip
        """A response, whole."""
        is_end = not body and trailers is None
        self.h2.send_headers(stream_id, [(":status", str(status)), *fields], end_stream=is_end)
        self.flush()
        if not is_end:
            self.send(stream_id, body, is_end=trailers is None, trailers=trailers)

    def begin(self, stream_id: int, status: int = 200, fields: Sequence[tuple[str, str]] = ()) -> None:
        """The head of a response; what follows is sent by hand."""
        self.h2.send_headers(stream_id, [(":status", str(status)), *fields])
        self.flush()


class H2Server:
    """
    A listening socket whose connections the test plays by hand.

    Args:
        max_streams: It allows each so many at once.
        window: Of a stream, in octets.
        takes_tunnels: It says that it takes an extended CONNECT (RFC 8441).
    """

    def __init__(self, max_streams: int = 100, window: int = 65535, *, takes_tunnels: bool = False) -> None:
        self._settings = {SettingCodes.MAX_CONCURRENT_STREAMS: max_streams, SettingCodes.INITIAL_WINDOW_SIZE: window}
        if takes_tunnels:
            self._settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listening.settimeout(PATIENCE_S)
        self.port = int(self._listening.getsockname()[1])
        self.accepted: list[H2ServerConnection] = []

    def __enter__(self) -> H2Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        for one in self.accepted:
            one.sock.close()

    def accept_socket(self) -> socket.socket:
        """The next connection, waiting for it, of which nothing is read nor said."""
        sock, _ = self._listening.accept()
        return sock

    def accept(self) -> H2ServerConnection:
        """The next connection, waiting for it."""
        sock = self.accept_socket()
        settings = {int(code): value for code, value in self._settings.items()}
        made = H2ServerConnection(sock, is_client=False, settings=settings)
        self.accepted.append(made)
        return made
