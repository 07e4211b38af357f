"""
One end of a connection of HTTP/2 for a storm: it does what it is told, right or wrong, and notices where the other end
breaks a rule that a storm can break: windows, the number of streams, numbers of streams, frames behind an end.

By `hpack` and by hand, so that a mistake of the sidecar's is not made here, too, and windows can be counted exactly:
what we say in SETTINGS holds from its acknowledgement on, in the order of the frames.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS, PADDED = 0x4, 0x8
TABLE_SIZE, MAX_STREAMS, INITIAL_WINDOW = 1, 3, 4
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8
CODES = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 0x99)
"""That a server may reset with when it has looked at a request: all but REFUSED_STREAM, and one that there is not."""
DEFAULT_WINDOW, DEFAULT_TABLE = 65535, 4096
LAST_OF_ALL = (1 << 31) - 1
"""In a GOAWAY that says no more than that there will be another."""
_PADDED_EVERY, _PADDING = 10, 7
"""Content of each such stream has so much padding."""
MAX_FRAME = 16384
CONNECTION_WINDOW = 1 << 24
"""It is given back at once, so that streams alone are held up."""
Fields = list[tuple[str, str]]


class Lane:
    """
    One stream.

    Attributes:
        fields: Of the other end's head; empty before it.
        body, trailers: What came behind it.
        is_ended: The other end has ended it.
        is_done: We have ended it.
        is_over: Both have, or one has reset it, or the connection is gone.
        code: By which the other end has reset it.
        is_untaken: The other end has not looked at it, and never will.
        is_stingy: We give no window back by ourselves.
    """

    def __init__(self, number: int, send_window: int, window: int) -> None:
        self.id = number
        self.fields: dict[str, str] = {}
        self.body = bytearray()
        self.trailers: dict[str, str] | None = None
        self.is_ended = self.is_done = self.is_over = self.is_untaken = self.is_stingy = False
        self.code: int | None = None
        self.send_window, self.window, self.owed = send_window, window, 0
        self._waiter: asyncio.Future[None] | None = None
        self._read = 0

    def next_message(self) -> bytes | None:
        """Of gRPC, if it is here whole; each once."""
        body, at = self.body, self._read
        end = at + 5 + int.from_bytes(body[at + 1 : at + 5], "big")
        if len(body) < at + 5 or len(body) < end:
            return None
        self._read = end
        return bytes(body[at + 5 : end])

    def has_message(self) -> bool:
        """Whether there is a next one, or there will be none."""
        body, at = self.body, self._read
        return self.is_ended or (
            len(body) >= at + 5 and len(body) >= at + 5 + int.from_bytes(body[at + 1 : at + 5], "big")
        )

    async def moved(self) -> None:
        """Wait until anything has happened; one may wait at a time."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def wake(self) -> None:
        """Something has happened."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for it, or for the end; returns whether it is so."""
        while not condition() and not self.is_over:
            await self.moved()
        return condition()


class Link(asyncio.Protocol):
    """
    Args:
        is_client: We open the streams.
        settings: What we say first.
        on_request: Of a server: told of each stream that is opened, in order, before anything else is read.
        on_wrong: Told of each rule that the other end has broken.

    Attributes:
        lanes: Streams that are not over.
        goaway: The last stream that the other end takes; None as long as it takes all.
        is_lost: The connection is gone.
        is_leaving: We have said GOAWAY.
    """

    def __init__(
        self,
        *,
        is_client: bool,
        settings: Mapping[int, int],
        on_request: Callable[[Link, Lane], None] = lambda link, lane: None,
        on_wrong: Callable[[str], None],
    ) -> None:
        self.lanes: dict[int, Lane] = {}
        self.goaway: int | None = None
        self.is_lost = self.is_leaving = False
        self.last = 0
        self._next, self._is_client = 1, is_client
        self._on_request, self._on_wrong = on_request, on_wrong
        self._said: deque[Mapping[int, int]] = deque([settings])
        self._ours = {INITIAL_WINDOW: DEFAULT_WINDOW, MAX_STREAMS: 1 << 31}
        self._send_window = self._first_window = DEFAULT_WINDOW
        self._window = CONNECTION_WINDOW
        self._most = 1 << 31
        self._encoder, self._decoder = Encoder(), Decoder()
        self._left = b"" if is_client else PREFACE
        self._buffer = b""
        self._block: tuple[int, bool, bytes] | None = None
        self._is_full = False
        self.transport: asyncio.Transport | None = None

    # --- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """We are connected: say what we allow."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # With 0 asyncio's transport by TLS pauses where nothing waits any more, and is then not resumed.
        transport.set_write_buffer_limits(high=1)
        first = _settings(self._said[0]) + _frame(WINDOW_UPDATE, 0, 0, _four(CONNECTION_WINDOW - DEFAULT_WINDOW))
        self.write((PREFACE if self._is_client else b"") + first)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and all streams with it."""
        self.is_lost = True
        for lane in list(self.lanes.values()):
            self._end(lane)

    def pause_writing(self) -> None:
        """The kernel has not taken all."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It has."""
        self._is_full = False
        for lane in list(self.lanes.values()):
            lane.wake()

    def write(self, data: bytes) -> None:
        """Any octets."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def abort(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.abort()

    def room(self) -> int:
        """How many streams may be opened."""
        if self.goaway is not None or self.is_leaving or self.is_lost or self.transport is None:
            return 0
        return 0 if self.transport.is_closing() else self._most - len(self.lanes)

    # --- what we say ---------------------------------------------------------------------------------------------

    def open(self, fields: Fields, *, ends: bool) -> Lane:
        """Ask for something; where there is `room`."""
        lane = self.lanes[self._next] = Lane(self._next, self._first_window, self._ours[INITIAL_WINDOW])
        self._next += 2
        self.head(lane, fields, ends=ends)
        return lane

    def head(self, lane: Lane, fields: Fields, *, ends: bool = False) -> None:
        """HEADERS: a head, or trailers."""
        block = self._encoder.encode(fields)
        pieces = [block[at : at + MAX_FRAME] for at in range(0, len(block), MAX_FRAME)]
        for number, piece in enumerate(pieces):
            flags = 0 if number else END_STREAM * ends
            flags |= END_HEADERS * (number == len(pieces) - 1)
            self.write(_frame(CONTINUATION if number else HEADERS, flags, lane.id, piece))
        if ends:
            self._done(lane)

    async def send(self, lane: Lane, data: bytes, *, ends: bool) -> bool:
        """Content, as windows allow it; returns whether all of it is handed to the kernel."""
        while data and not lane.is_over:
            room = min(lane.send_window, self._send_window, MAX_FRAME)
            if room <= 0 or self._is_full:
                await lane.moved()
                continue
            padding = _PADDING if lane.id % _PADDED_EVERY == 1 and room > _PADDING + 1 else 0
            size = min(len(data), room - padding - 1 if padding else room)
            is_last = ends and size == len(data)
            piece, flags = data[:size], END_STREAM * is_last
            if padding:
                piece, flags = bytes((padding,)) + piece + bytes(padding), flags | PADDED
            lane.send_window -= len(piece)
            self._send_window -= len(piece)
            self.write(_frame(DATA, flags, lane.id, piece))
            data = data[size:]
            if is_last:
                return await self.sent(lane)
        if lane.is_over:
            return False
        if ends:
            self.write(_frame(DATA, END_STREAM, lane.id, b""))
        return await self.sent(lane) if ends else True

    async def sent(self, lane: Lane) -> bool:
        """We have said the last of it: wait until the kernel has it."""
        self._done(lane)
        while self._is_full and not self.is_lost:
            await asyncio.sleep(0.001)
        return not self.is_lost

    def _done(self, lane: Lane) -> None:
        lane.is_done = True
        if lane.is_ended:
            self._end(lane)

    def reset(self, lane: Lane, code: int) -> None:
        """Give a stream up."""
        if not lane.is_over:
            self.write(_frame(RST_STREAM, 0, lane.id, _four(code)))
            self._end(lane)

    def go_away(self, last: int, code: int = NO_ERROR, *, takes: bool = False) -> None:
        """Say that no further streams than this will be taken; some are on their way, which `takes` lets in."""
        self.is_leaving = not takes
        self.write(_frame(GOAWAY, 0, 0, _four(last) + _four(code)))

    def say(self, settings: Mapping[int, int]) -> None:
        """Allow something else from now on."""
        self._said.append(settings)
        self.write(_settings(settings))

    def ping(self) -> None:
        """Ask whether somebody is there."""
        self.write(_frame(PING, 0, 0, b"are you?"))

    def grant(self, lane: Lane, size: int) -> None:
        """Let the other end send so much more."""
        lane.window += size
        self.write(_frame(WINDOW_UPDATE, 0, lane.id, _four(size)))

    # --- what is said to us --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Frames."""
        data = self._buffer + data
        if self._left:
            size = len(self._left)
            if len(data) < size:
                self._buffer = data
                return
            if data[:size] != self._left:
                self._on_wrong(f"no preface: {data[:40]!r}")
                self.abort()
                return
            self._left, data = b"", data[size:]
        at = 0
        while len(data) - at >= 9 and len(data) - at >= 9 + (size := int.from_bytes(data[at : at + 3], "big")):
            number = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
            self._on_frame(data[at + 3], data[at + 4], number, data[at + 9 : at + 9 + size])
            at += 9 + size
        self._buffer = data[at:]

    def _on_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        lane = self.lanes.get(number)
        if len(payload) > MAX_FRAME:
            self._on_wrong(f"a frame of {len(payload)} octets")
        if kind == DATA:
            self._on_data(lane, len(payload), payload, is_end=bool(flags & END_STREAM))
        elif kind in (HEADERS, CONTINUATION):
            before = self._block[2] if self._block is not None else b""
            ends = self._block[1] if self._block is not None else bool(flags & END_STREAM)
            self._block = (number, ends, before + payload)
            if flags & END_HEADERS:
                self._block = None
                self._on_fields(number, lane, before + payload, is_end=ends)
        elif kind == RST_STREAM and lane is not None:
            lane.code = int.from_bytes(payload, "big")
            lane.is_untaken = lane.code == REFUSED_STREAM
            self._end(lane)
        elif kind == SETTINGS:
            self._on_settings(payload, is_ack=bool(flags & ACK))
        elif kind == PING and not flags & ACK:
            self.write(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[:4], "big")
            if code := int.from_bytes(payload[4:8], "big"):
                self._on_wrong(f"GOAWAY {code} {payload[8:]!r}")
            for other in [one for one in self.lanes.values() if self._is_client and one.id > self.goaway]:
                other.is_untaken = True
                self._end(other)
        elif kind == WINDOW_UPDATE:
            self._on_window(number, lane, int.from_bytes(payload, "big"))

    def _on_data(self, lane: Lane | None, size: int, payload: bytes, *, is_end: bool) -> None:
        self._window -= size
        if self._window < 0:
            self._on_wrong("more than the connection's window")
        if self._window < CONNECTION_WINDOW // 2:
            self.write(_frame(WINDOW_UPDATE, 0, 0, _four(CONNECTION_WINDOW - self._window)))
            self._window = CONNECTION_WINDOW
        if lane is None:
            return  # of one that we have reset
        lane.window -= size
        lane.owed += size
        if size and lane.window < 0:
            self._on_wrong(f"{-lane.window} octets more than the window of stream {lane.id}")
        if lane.is_ended:
            self._on_wrong(f"content behind the end of stream {lane.id}")
        lane.body += payload
        if is_end:
            self._ended(lane)
        elif lane.owed and not lane.is_stingy and lane.owed * 2 >= self._ours[INITIAL_WINDOW]:
            self.grant(lane, lane.owed)
            lane.owed = 0
        lane.wake()

    def _on_fields(self, number: int, lane: Lane | None, block: bytes, *, is_end: bool) -> None:
        try:
            decoded = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            self._on_wrong(f"a block that cannot be read: {error!r}")
            self.abort()
            return
        fields = {bytes(one[0]).decode(): bytes(one[1]).decode("latin-1") for one in decoded}
        if lane is None and not self._is_client and number > self.last:
            lane = self._opened(number)
            lane.fields = fields
            if is_end:
                self._ended(lane)
            self._on_request(self, lane)
            return
        if lane is None:
            return  # of one that we have reset
        if lane.is_ended:
            self._on_wrong(f"fields behind the end of stream {number}")
        if not lane.fields:
            if not fields.get(":status", "").startswith("1"):
                lane.fields = fields
        else:
            lane.trailers = fields
        if is_end:
            self._ended(lane)
        lane.wake()

    def _opened(self, number: int) -> Lane:
        if not number & 1:
            self._on_wrong(f"a client opens stream {number}")
        if len(self.lanes) >= self._ours[MAX_STREAMS]:
            self._on_wrong(f"stream {number} beside {len(self.lanes)}, of {self._ours[MAX_STREAMS]} allowed")
        self.last = number
        lane = self.lanes[number] = Lane(number, self._first_window, self._ours[INITIAL_WINDOW])
        return lane

    def _on_settings(self, payload: bytes, *, is_ack: bool) -> None:
        if is_ack:
            said = dict(self._said.popleft())
            difference = said.get(INITIAL_WINDOW, self._ours[INITIAL_WINDOW]) - self._ours[INITIAL_WINDOW]
            self._ours |= said
            if TABLE_SIZE in said:
                self._decoder.max_allowed_table_size = said[TABLE_SIZE]
            for lane in list(self.lanes.values()):
                lane.window += difference
                if lane.owed and not lane.is_stingy and not lane.is_ended:
                    self.grant(lane, lane.owed)
                    lane.owed = 0
            return
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == INITIAL_WINDOW:
                for lane in self.lanes.values():
                    lane.send_window += value - self._first_window
                self._first_window = value
            elif key == MAX_STREAMS:
                self._most = value
            elif key == TABLE_SIZE:
                self._encoder.header_table_size = min(value, DEFAULT_TABLE)
        self.write(_frame(SETTINGS, ACK, 0, b""))
        self._wake_all()

    def _on_window(self, number: int, lane: Lane | None, size: int) -> None:
        if number == 0:
            self._send_window += size
            self._wake_all()
        elif lane is not None:
            lane.send_window += size
            lane.wake()

    def _wake_all(self) -> None:
        for lane in list(self.lanes.values()):
            lane.wake()

    def _ended(self, lane: Lane) -> None:
        lane.is_ended = True
        if lane.is_done:
            self._end(lane)

    def _end(self, lane: Lane) -> None:
        lane.is_over = True
        self.lanes.pop(lane.id, None)
        lane.wake()


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + _four(number) + payload


def _four(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _settings(pairs: Mapping[int, int]) -> bytes:
    return _frame(SETTINGS, 0, 0, b"".join(key.to_bytes(2, "big") + _four(value) for key, value in pairs.items()))


def message(data: bytes) -> bytes:
    """One of gRPC's."""
    return b"\0" + _four(len(data)) + data
