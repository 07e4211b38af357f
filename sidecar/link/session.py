"""
One conversation with one server: a stream of lines, or long polls one after the other. *Cold.*

Both end by an `End`, which says why; who asks next, and when, is decided by `client`.

A stream is taken for dead when nothing came for two and a half pings: a proxy that cut an idle connection without a
word, or a machine that is gone, look just so. One of which no ping ever came after those lines with which it began is
something else: a proxy that keeps what a server writes until there is more. Two of these in a row, and polls are tried,
which every proxy passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, Protocol

from sidecar.link.interfaces import LinkSettings
from sidecar.link.messages import (
    MAX_LINE_BYTES,
    MAX_POLL_BYTES,
    PING_PERIOD_S,
    POLL_WAIT_S,
    Line,
    Move,
    Ping,
    Watch,
    read_line,
    read_poll,
)
from sidecar.link.transport.http_client import Answer, Transport
from sidecar.link.transport.lines import LineBuffer
from sidecar.link.transport.server import Server
from sidecar.link.transport.short import refused, whole

SILENT_S: Final = 2.5 * PING_PERIOD_S
FIRST_LINE_S: Final = 15.0
"""From the head of a stream to its first line: at least a ping is due by then."""
POLL_GAP_S: Final = 1.0
"""From the begin of a poll to the begin of the next, at least: a server that always has news is asked no faster."""
MOVE_JITTER_S: Final = 2.0
"""Within which a server that is going is left."""
LARGE_BYTES: Final = 16 * 1024
"""Of a line that is read in a thread: it takes a millisecond or more, and requests are served beside it."""


@dataclass(frozen=True, slots=True)
class End:
    """
    Why a conversation is over.

    Attributes:
        how: `failed`; `ended` in order; `moved`: asked to be left; `unfit`: it goes on with another question.
        why: A sentence.
        retry_after_s: Which the server asks to be left alone for.
        is_withheld: Nothing of a stream came through that a server must have sent.
    """

    how: Literal["failed", "ended", "moved", "unfit"]
    why: str
    retry_after_s: float = 0.0
    is_withheld: bool = False


class Listener(Protocol):
    """What a conversation is held for."""

    def question(self) -> Watch:
        """Who asks, and what it has now."""
        ...

    async def on_head(self, server: Server, answer: Answer) -> None:
        """The server has begun to answer."""
        ...

    async def take(self, server: Server, line: Line) -> str:
        """A line has come; why the conversation has to begin anew, or an empty text."""
        ...

    def on_heard(self, server: Server) -> None:
        """Something came that shows that the server is there."""

    def jitter(self, ceiling_s: float) -> float:
        """Anything from 0 to so much."""
        ...


async def stream(listener: Listener, transport: Transport, server: Server, settings: LinkSettings) -> End:
    """
    Have lines of a stream until it ends.

    Raises:
        TransportError: It could not begin, or was cut.
        MessageError: A line cannot be understood, nor what comes after it.
    """
    target = listener.question().to_target()
    fields = {"accept": "application/jsonl"}
    answer = await transport.ask(server, "GET", target, fields, b"", settings.head_timeout_s)
    try:
        if answer.status != 200:
            refusal = await refused(answer, settings.head_timeout_s)
            return End("failed", refusal.why, refusal.retry_after_s)
        await listener.on_head(server, answer)
        return await _read_stream(listener, server, answer)
    finally:
        answer.close()


async def _read_stream(listener: Listener, server: Server, answer: Answer) -> End:
    now = asyncio.get_running_loop().time
    lines = LineBuffer(MAX_LINE_BYTES)
    has_line = has_ping = False
    silent_at, leave_at, beginning_until = now() + FIRST_LINE_S, inf, now() + PING_PERIOD_S / 2
    while True:
        try:
            async with asyncio.timeout_at(min(silent_at, leave_at)):
                data = await answer.read()
        except TimeoutError:
            if now() >= leave_at:
                return End("moved", "it is going, and asked to be left")
            why = f"nothing came for {SILENT_S:g} s" if has_line else f"no line came for {FIRST_LINE_S:g} s"
            return End("failed", why, is_withheld=not has_ping)
        if not data:
            return End("ended", "it ended the stream")
        for raw in lines.feed(data):
            line = read_line(raw) if len(raw) < LARGE_BYTES else await asyncio.to_thread(read_line, raw)
            has_line = True
            listener.on_heard(server)
            if isinstance(line, Move) and leave_at == inf:
                leave_at = now() + listener.jitter(MOVE_JITTER_S)
            elif line is not None:
                has_ping = has_ping or (isinstance(line, Ping) and now() >= beginning_until)
                if unfit := await listener.take(server, line):
                    return End("unfit", unfit)
            await asyncio.sleep(0)  # a burst of lines gives way to requests
        if has_line:
            silent_at = now() + SILENT_S


async def poll(listener: Listener, transport: Transport, server: Server, settings: LinkSettings, until: float) -> End:
    """
    Have lines of polls, one after the other.

    Args:
        until: Loop time after which no further poll is begun.

    Raises:
        TransportError, MessageError: As with `stream`.
    """
    now = asyncio.get_running_loop().time
    etag = ""
    while True:
        began = now()
        # Without an etag there is nothing to wait for: whatever the server has is news.
        target = listener.question().to_target({"wait": f"{POLL_WAIT_S:g}s"})
        fields: Mapping[str, str] = {"accept": "application/json", **({"if-none-match": etag} if etag else {})}
        limit_s = POLL_WAIT_S + settings.head_timeout_s
        answer = await transport.ask(server, "GET", target, fields, b"", limit_s)
        try:
            if answer.status not in (200, 304):
                refusal = await refused(answer, settings.head_timeout_s)
                return End("failed", refusal.why, refusal.retry_after_s)
            body = await whole(answer, MAX_POLL_BYTES, settings.head_timeout_s)
        finally:
            answer.close()
        lines: list[Line] = []
        if answer.status == 200:
            lines = read_poll(body) if len(body) < LARGE_BYTES else await asyncio.to_thread(read_poll, body)
            etag = answer.headers.get("etag", "")
        await listener.on_head(server, answer)
        listener.on_heard(server)
        is_asked_to_leave = False
        for line in lines:
            if isinstance(line, Move):
                is_asked_to_leave = True
            elif unfit := await listener.take(server, line):
                return End("unfit", unfit)
            await asyncio.sleep(0)
        if is_asked_to_leave:
            await asyncio.sleep(listener.jitter(MOVE_JITTER_S))
            return End("moved", "it is going, and asked to be left")
        if now() >= until:
            return End("ended", "a stream is tried again")
        await asyncio.sleep(max(0.0, began + POLL_GAP_S - now()))
