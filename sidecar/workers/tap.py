"""Requests of all workers as they happen: their taps as one stream. *Cold.*"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from urllib.parse import urlencode

from sidecar.admin.endpoints import Params
from sidecar.workers.member import Member, MemberGoneError, MemberStream


class GroupTap:
    """
    An `endpoints.Stream` of what the workers' taps give, in the order in which it comes.

    Each worker filters, and may show its share of `rate`. A worker that is started later is not looked at, and the
    stream ends with the last worker that is.

    Args:
        params: Of the address.
        rate: Events a second, all workers together.
        limit: Events after which the stream ends; 0 for none.
    """

    def __init__(self, params: Params, rate: int, limit: int) -> None:
        self._params = [(name, value) for name, value in params if name != "rate"]
        self._rate = rate
        self._left = limit or -1
        # One piece ahead of the reader: what does not fit waits, and is left out and counted, in the worker.
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        self._streams: list[MemberStream] = []
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self, members: Sequence[Member]) -> bool:
        """Begin to look; False if too many do already in one of them."""
        share = max(1, -(-self._rate // max(1, len(members))))
        target = f"/tap?{urlencode([*self._params, ('rate', str(share))])}"
        for member in members:
            try:
                answer = await member.ask("GET", target)
            except MemberGoneError:
                continue
            if answer.stream is None:
                self.close()
                return False
            self._streams.append(answer.stream)
        for stream in self._streams:
            task = asyncio.get_running_loop().create_task(self._pump(stream))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)
        return True

    async def next(self) -> bytes:
        """The next lines of any worker; empty when all have ended, or the limit is reached."""
        while self._left and (self._pumps or not self._pieces.empty()):
            piece = await self._pieces.get()
            if piece:
                return self._within_limit(piece)
        return b""

    def finish(self) -> None:
        """Come to an end soon."""
        for stream in self._streams:
            stream.finish()

    def close(self) -> None:
        """Nobody reads."""
        for task in self._pumps:
            task.cancel()
        for stream in self._streams:
            stream.close()

    async def _pump(self, stream: MemberStream) -> None:
        while piece := await stream.next():
            await self._pieces.put(piece)
        self._pumps.discard(asyncio.current_task())
        await self._pieces.put(b"")  # whoever waits looks again

    def _within_limit(self, piece: bytes) -> bytes:
        if self._left < 0:
            return piece
        shown = []
        for line in piece.splitlines(keepends=True):
            if not line.isspace() and "dropped" not in json.loads(line):
                if not self._left:
                    break
                self._left -= 1
            shown.append(line)
        return b"".join(shown)
