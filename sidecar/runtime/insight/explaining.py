"""`GET /explain`: a decision accounted for by the plan in force. *Cold; in slices on the loop of the data path.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sidecar.compile.effective import Effective
from sidecar.compile.time_slices import in_slices
from sidecar.errors import ProtocolError
from sidecar.insight.explain.account import Scene, account_of
from sidecar.insight.explain.asked import asked_by, way_in
from sidecar.insight.question import head_of
from sidecar.insight.walk import Visitor, walk
from sidecar.proxy.live import Live
from sidecar.redact import Secrets


class InForce(Protocol):
    """What is in force; `runtime.reload.Reloader` is it."""

    live: Live | None
    effective: Effective | None
    secrets: Secrets


async def explained(in_force: InForce, params: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """
    The account of what somebody asks about.

    Raises:
        ValueError: What is asked makes no sense; the text says why.
        LookupError: There is no such request, or no configuration yet.
    """
    asked = asked_by(params)
    live, effective = in_force.live, in_force.effective
    if live is None or effective is None:
        raise LookupError("no configuration is in force yet")
    plan = live.plan
    side, listener = way_in(plan, asked)
    question = asked.question
    if question is None:
        raise LookupError(f"no request `{asked.request_id}` is known here")
    try:
        head = head_of(question)
    except ProtocolError as error:
        raise ValueError(f"the request is not valid: {error.detail or error.reason.text}") from None
    walked = walk(side, listener, head, Visitor(question.source_ip, question.requester))
    return await in_slices(account_of(walked, Scene(plan, effective, in_force.secrets), is_whole=asked.is_whole))
