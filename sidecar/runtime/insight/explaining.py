"""`GET /explain`: a decision accounted for by the plan in force. *Cold; in slices on the loop of the data path.*"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from sidecar.admin.recent import shown_entry
from sidecar.compile.effective import Effective
from sidecar.compile.time_slices import in_slices
from sidecar.errors import ProtocolError
from sidecar.insight.explain.account import Scene, account_of
from sidecar.insight.explain.asked import Asked, asked_by, way_in
from sidecar.insight.preview.restore import operands_of, restore, sides_of
from sidecar.insight.question import head_of
from sidecar.insight.walk import Visitor, listener_of_any_host, walk
from sidecar.proxy.live import Live
from sidecar.proxy.plan import Plan
from sidecar.proxy.recent import HASHED, Recent
from sidecar.redact import Secrets


class InForce(Protocol):
    """What is in force; `runtime.reload.Reloader` is it."""

    live: Live | None
    effective: Effective | None
    secrets: Secrets
    recent: Recent


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
    scene = Scene(live.plan, effective, in_force.secrets)
    if asked.question is None:
        return await _of_served(in_force.recent, scene, asked)
    side, listener = way_in(live.plan, asked)
    try:
        head = head_of(asked.question)
    except ProtocolError as error:
        raise ValueError(f"the request is not valid: {error.detail or error.reason.text}") from None
    walked = walk(side, listener, head, Visitor(asked.question.source_ip, asked.question.requester))
    return await in_slices(account_of(walked, scene, is_whole=asked.is_whole))


async def _of_served(recent: Recent, scene: Scene, asked: Asked) -> dict[str, Any]:
    """By the plan in force, of a request that was served perhaps by an earlier one, as far as it was kept."""
    plan: Plan = scene.plan
    entry = recent.find(asked.request_id.encode("utf-8", "replace"))
    if entry is None:
        kept = f"of the last {len(recent)} requests" if recent.keep else "`telemetry.recent_requests` is off, and"
        others = f"; {recent.passed_over} more came faster than they are kept" if recent.passed_over else ""
        raise LookupError(f"{kept} none has the id `{asked.request_id}`{others}")
    side = plan.side_of.get(entry.kept.side)
    if side is None or side.is_gone:
        raise LookupError(f"the request `{asked.request_id}` came by a listener that is gone since")
    restored = restore(entry, operands_of(sides_of(plan)))
    words = entry.tokens if isinstance(entry.tokens, tuple) else None
    visitor = Visitor(restored.peer_ip, restored.identity, words=words, is_client=True)
    hashed = frozenset(str(one) for one in entry.kept.fields if one.mode == HASHED)
    scene = replace(scene, hidden=hashed)
    # The host of a listener that has one is in the head already.
    listener = listener_of_any_host(plan, side)
    walked = walk(side, listener, restored.head, visitor, is_captured=entry.is_captured)
    happened = scene.secrets.shown(shown_entry(entry))
    return await in_slices(
        account_of(walked, scene, is_whole=asked.is_whole, happened=happened, missing=restored.missing)
    )
