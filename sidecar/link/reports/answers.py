"""Questions of a control plane, answered beside the stream. *Cold.*"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sidecar.link.complaints import Complaints
from sidecar.link.fields import encode
from sidecar.link.messages import Ask
from sidecar.link.transport.http_client import Transport, TransportError
from sidecar.link.transport.refusal import Refusal
from sidecar.link.transport.server import Server
from sidecar.link.transport.short import post
from sidecar.process_log import event

logger = logging.getLogger("sidecar.link")

ANSWER_LIMIT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
MAX_ASKS: Final = 8
"""Questions that are worked on at once; further ones are told so, up to as many again, and then not at all."""

Respond = Callable[[Ask], Awaitable[Mapping[str, object] | None]]
"""Answers; None for a kind that is not known."""


class Answers:
    """
    Those that are under way.

    Args:
        timeout_s: For the control plane to take an answer.
    """

    def __init__(self, transport: Transport, complaints: Complaints, timeout_s: float) -> None:
        self._transport = transport
        self._complaints = complaints
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()

    def on_ask(self, server: Server, ask: Ask, respond: Respond) -> None:
        """Answer it by and by."""
        if len(self._tasks) >= 2 * MAX_ASKS:
            self._complaints.tell("questions_dropped", "too many at once", address=str(server))
            return
        work = respond if len(self._tasks) < MAX_ASKS else _too_many
        task = asyncio.get_running_loop().create_task(self._answer(server, ask, work), name=f"answer {ask.kind}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Answer nothing more."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, server: Server, ask: Ask, respond: Respond) -> None:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                answer = await respond(ask)
            said: dict[str, object] = {"error": "unsupported"} if answer is None else {"answer": answer}
            body = encode({"id": ask.id, **said})
            if len(body) > MAX_ANSWER_BYTES:
                body = encode({"id": ask.id, "error": f"the answer has more than {MAX_ANSWER_BYTES} octets"})
        except TimeoutError:
            body = encode({"id": ask.id, "error": f"no answer within {ANSWER_LIMIT_S:g} s"})
        except Exception as error:  # whoever asked is told what went wrong, whatever it is
            logger.warning(event("question_failed", kind=ask.kind, reason=repr(error)))
            body = encode({"id": ask.id, "error": str(error) or type(error).__name__})
        try:
            answered = await post(self._transport, server, "/v1/answer", body, self._timeout_s)
            if isinstance(answered, Refusal):
                self._complaints.tell("answer_refused", answered.why, address=str(server))
        except TransportError as error:
            self._complaints.tell("answer_not_sent", str(error), address=str(server))


async def _too_many(ask: Ask) -> Mapping[str, object]:
    raise RuntimeError(f"{MAX_ASKS} questions are being answered; ask again")
