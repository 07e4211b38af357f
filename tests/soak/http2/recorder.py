"""
The recorder of a storm that speaks HTTP/2 beside HTTP/1.1, at the same addresses, and fails as only HTTP/2 can.

    python -m tests.soak.http2.recorder NAME JOURNAL ADDRESS...

Each line on stdin is a `SwiftTemper`. A request with the content type of gRPC is answered as a call: its messages one
by one if it has `x-talk`, else with one message, and its status in trailers. The journal is that of
`tests.soak.recorder`; what befalls a connection is noted of each stream that it carries, and of a stream that is
refused there is no `R`:

    X ID refused        RST_STREAM with REFUSED_STREAM
    X ID left_out       behind the last stream of a GOAWAY
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.http2 import link
from tests.soak.http2.link import Fields, Lane, Link, message
from tests.soak.recorder import Recorder, Temper
from tests.support.tagged import tagged

GRPC = "application/grpc"
UNAVAILABLE = 14
GARBAGE = (
    link._frame(link.DATA, 0, 0, b"of no stream"),
    link._frame(link.HEADERS, link.END_HEADERS, 2, b"\x88"),
    link._frame(link.HEADERS, link.END_HEADERS, 1 << 30 | 1, b"\x88"),
    link._frame(link.PING, 0, 0, b"short"),
    link._frame(link.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
    link._frame(link.WINDOW_UPDATE, 0, 0, bytes(4)),
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
)
"""None of which may come from a server."""
_IDLE_S = 0.25
_LARGE = 20_000


@dataclass(frozen=True)
class SwiftTemper(Temper):
    """
    How it behaves by HTTP/2 besides, as probabilities of a request.

    Attributes:
        refuse: Refuses the stream.
        leave_out: Sends a GOAWAY that leaves the stream out.
        go_away: Sends a GOAWAY behind the answer, which leaves out what is on its way.
        cut: Closes the connection in the middle of an answer, with all that it carries.
        two_steps: Says GOAWAY twice behind the answer, as servers do that lose nothing.
        too_little: Ends with less than its content-length says.
        early: Answers before it has read the request's body, of which it wants no more then.
        ping: Asks whether the sidecar is there.
        games: Allows something else for a moment: another window, another table, fewer streams.
        large_head: Sends a head that needs more than a frame.
        most_streams, window: What it allows.
    """

    refuse: float = 0.0
    leave_out: float = 0.0
    go_away: float = 0.0
    cut: float = 0.0
    two_steps: float = 0.0
    too_little: float = 0.0
    early: float = 0.0
    ping: float = 0.0
    games: float = 0.0
    large_head: float = 0.0
    most_streams: int = 100
    window: int = link.DEFAULT_WINDOW

    @property
    def settings(self) -> dict[int, int]:
        """Of HTTP/2."""
        return {
            link.TABLE_SIZE: link.DEFAULT_TABLE,
            link.MAX_STREAMS: self.most_streams,
            link.INITIAL_WINDOW: self.window,
        }


_LETHAL = ("reset_before", "mute", "garbage", "error", "too_little", "reset_within", "cut")


class _Knocking(asyncio.Protocol):
    """A connection of which nobody knows yet what it speaks."""

    def __init__(self, recorder: SwiftRecorder) -> None:
        self._recorder = recorder
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand it on as soon as the first octets tell."""
        self._data += data
        transport = self._transport
        assert transport is not None
        if len(self._data) < 4:
            return
        protocol: asyncio.Protocol
        if self._data.startswith(b"PRI "):
            protocol = self._recorder.new_link()
        else:
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader, self._recorder.accept)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._data)


class SwiftRecorder(Recorder):
    """One process's worth of it."""

    def __init__(self, name: str, journal: Path) -> None:
        super().__init__(name, journal)
        self.temper: SwiftTemper = SwiftTemper()
        self._links: set[Link] = set()
        self._hurt: set[Link] = set()

    def told(self, line: bytes) -> None:
        """A `SwiftTemper`; what it allows is said at once on all connections."""
        before, self.temper = self.temper, SwiftTemper(**json.loads(line))
        if before.settings != self.temper.settings:
            for one in list(self._links):
                one.say(self.temper.settings)

    async def listen(self, host: str, port: int) -> None:
        """Take who connects."""
        await asyncio.get_running_loop().create_server(lambda: _Knocking(self), host, port, backlog=4096)

    def new_link(self) -> Link:
        """A connection of HTTP/2."""
        made: Link

        def on_wrong(what: str) -> None:
            if made not in self._hurt:
                self.note(f"W - {what}")

        def on_request(_: Link, lane: Lane) -> None:
            self._take(made, lane)

        made = Link(is_client=False, settings=self.temper.settings, on_request=on_request, on_wrong=on_wrong)
        self._links = {one for one in self._links if not one.is_lost} | {made}
        self._hurt = {one for one in self._hurt if not one.is_lost}
        return made

    def _take(self, on: Link, lane: Lane) -> None:
        """A request is here; in order, and before any other of the connection."""
        temper, chance = self.temper, self._chance.random
        tag = lane.fields.get("x-id", "?")
        if on.is_leaving:
            return  # behind the last that was told; as if it had never come
        if chance() < temper.refuse:
            self.note(f"X {tag} refused")
            on.reset(lane, link.REFUSED_STREAM)
            return
        if chance() < temper.leave_out:
            self.note(f"X {tag} left_out")
            on.go_away(max(0, lane.id - 2))
            return
        self.note(f"R {tag} {lane.fields[':method']} {self.caller_of(lane)}".rstrip())
        self.spawn(self._serve_lane(on, lane, tag, temper))

    def caller_of(self, lane: Lane) -> str:
        """Whom the sidecar says that it is."""
        return self.caller(None, lane.fields)  # type: ignore[arg-type]

    async def _serve_lane(self, on: Link, lane: Lane, tag: str, temper: SwiftTemper) -> None:
        how = next((name for name in _LETHAL if self._chance.random() < getattr(temper, name)), "")
        if "x-talk" in lane.fields:
            await self._talk(on, lane, tag, how)
            return
        is_early = self._chance.random() < temper.early
        if not is_early and not await lane.until(lambda: lane.is_ended):
            return
        fields, body = lane.fields, bytes(lane.body)
        is_call = fields.get("content-type") == GRPC
        wanted = tagged(tag, int(fields.get("x-sent", "0")))
        wanted = message(wanted) if is_call else wanted
        if body != (wanted if lane.is_ended else wanted[: len(body)]) or not fields[":path"].endswith(f"/{tag}"):
            self.note(f"W {tag} {fields} with {len(body)} bytes, {body[:60]!r}")
        if self._chance.random() < temper.games:
            self.spawn(self._play(on))
        if temper.delay_max_s:
            await asyncio.sleep(self._chance.uniform(temper.delay_min_s, temper.delay_max_s))
        await self._answer_lane(on, lane, tag, how)
        if is_early and not lane.is_over:
            on.reset(lane, link.NO_ERROR)
        if self._chance.random() < temper.ping:
            on.ping()
        if self._chance.random() < temper.go_away and not on.is_leaving:
            on.go_away(on.last)
        elif self._chance.random() < temper.two_steps and not on.is_leaving:
            on.go_away(link.LAST_OF_ALL, takes=True)
            await asyncio.sleep(0.1)
            if not on.is_leaving:
                on.go_away(on.last)
        elif not on.lanes and self._chance.random() < temper.close_idle:
            await asyncio.sleep(self._chance.random() * _IDLE_S)
            if not on.lanes:
                on.abort()

    async def _answer_lane(self, on: Link, lane: Lane, tag: str, how: str) -> None:
        """Answer, or do harm."""
        fields = lane.fields
        is_call = fields.get("content-type") == GRPC
        body = tagged(tag, int(fields.get("x-size", "0")))
        if lane.is_over:
            return
        if how in ("reset_within", "cut") and not body and fields.get("x-framing") == "length":
            how = ""  # There is nothing to cut.
        if how:
            self.note(f"X {tag} {how}")
        if how == "mute":
            await lane.until(lambda: False)
            return
        if how == "reset_before":
            on.reset(lane, self._chance.choice(link.CODES))
            return
        if how == "garbage":
            self._harm_all(on, how)
            on.write(self._chance.choice(GARBAGE))
            return
        own = [("x-id", tag), ("x-server", self.name)]
        if self._chance.random() < self.temper.large_head:
            own.append(("x-large", self._chance.choice("ab") * _LARGE))
        if how == "error":
            self.note(f"S {tag}")
            said = [(":status", "200"), ("content-type", GRPC), ("grpc-status", str(UNAVAILABLE)), *own]
            on.head(lane, said if is_call else [(":status", "503"), *own], ends=is_call)
            if is_call or await on.send(lane, body, ends=True):
                self.note(f"E {tag}")
            return
        if is_call:
            head: Fields = [(":status", "200"), ("content-type", GRPC), *own]
            body = message(body)
        else:
            head = [(":status", "200"), *own]
            if how == "too_little" or fields.get("x-framing") == "length":
                head.append(("content-length", str(len(body) + (how == "too_little"))))
        self.note(f"S {tag}")
        if how in ("reset_within", "cut"):
            on.head(lane, head)
            await on.send(lane, body[: len(body) // 2], ends=False)
            await asyncio.sleep(0.02)
            if how == "reset_within":
                on.reset(lane, self._chance.choice(link.CODES))
            else:
                self._harm_all(on, how)
                on.abort()
            return
        # Trailers of which the sidecar makes nothing, besides; and for a call they are its status.
        trailers = [("grpc-status", "0")] if is_call else [("x-end", tag)] * (self._chance.random() < 0.3)
        is_all = not body and not trailers
        on.head(lane, head, ends=is_all)
        is_sent = not lane.is_over if not is_all else await on.sent(lane)
        if not is_all:
            is_sent = await on.send(lane, body, ends=not trailers) if body or not trailers else True
            if trailers and is_sent and not lane.is_over:
                on.head(lane, trailers, ends=True)
                is_sent = await on.sent(lane)
        if is_sent:
            self.note(f"E {tag}")

    async def _play(self, on: Link) -> None:
        """Allow something else for a moment."""
        chance = self._chance
        size, window = chance.choice((0, 100, 1000, 65536)), chance.choice((0, 1000, 1 << 20))
        on.say({link.TABLE_SIZE: size, link.INITIAL_WINDOW: window, link.MAX_STREAMS: chance.randint(1, 20)})
        await asyncio.sleep(chance.random() * 0.2)
        on.say(self.temper.settings)

    def _harm_all(self, on: Link, how: str) -> None:
        """What befalls a connection befalls all that it carries."""
        self._hurt.add(on)
        for lane in on.lanes.values():
            self.note(f"X {lane.fields.get('x-id', '?')} {how}")

    async def _talk(self, on: Link, lane: Lane, tag: str, how: str) -> None:
        """Give each message back as it comes, and end when the client does."""
        how = how if how in ("reset_before", "reset_within", "cut", "error", "mute", "garbage") else ""
        if how in ("reset_before", "error", "mute", "garbage"):
            await self._answer_lane(on, lane, tag, how)
            return
        self.note(f"S {tag}")
        on.head(lane, [(":status", "200"), ("content-type", GRPC), ("x-id", tag), ("x-server", self.name)])
        count = 0
        while True:
            if not await lane.until(lane.has_message):
                return
            while (one := lane.next_message()) is not None:
                count += 1
                await on.send(lane, message(one), ends=False)
            if how and count >= 2:
                self.note(f"X {tag} {how}")
                if how == "cut":
                    self._harm_all(on, how)
                    on.abort()
                else:
                    on.reset(lane, self._chance.choice(link.CODES))
                return
            if lane.is_ended and not lane.is_over:
                on.head(lane, [("grpc-status", "0")], ends=True)
                if await on.sent(lane):
                    self.note(f"E {tag}")
                return


def run(argv: list[str]) -> Any:
    """The program."""
    return asyncio.run(SwiftRecorder(argv[1], Path(argv[2])).run(argv[3:]))


if __name__ == "__main__":
    run(sys.argv)
