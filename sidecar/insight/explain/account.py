"""
The account of one decision, ready for JSON; docs/explain.md has its keys. *Cold; in steps, for a live loop makes it.*
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from sidecar.admin.recent import text_of
from sidecar.compile.effective import Effective
from sidecar.compile.time_slices import Steps
from sidecar.errors import AUTHORIZATION_DENIED, ProtocolError, Reason
from sidecar.insight.explain.endpoints import endpoints_of
from sidecar.insight.explain.routes import TAKEN, look_at_routes
from sidecar.insight.explain.sent import difference
from sidecar.insight.explain.veil import Veil
from sidecar.insight.walk import Share, Walk, key_of, listener_of, shares_of
from sidecar.proxy.exchange.steps import local_answer
from sidecar.proxy.plan import Plan
from sidecar.redact import HIDDEN, Secrets
from sidecar.routing.actions import Forward, HeaderEdits, Redirect, Respond, Route


@dataclass(frozen=True, slots=True)
class Scene:
    """
    Before what a decision is accounted for.

    Attributes:
        plan: That decided.
        effective: Its settings.
        secrets: What is not shown.
        hidden: What else is not, as `Veil.parts`.
    """

    plan: Plan
    effective: Effective
    secrets: Secrets
    hidden: Set[str] = frozenset()

    @property
    def veil(self) -> Veil:
        """All that is not shown."""
        return Veil(self.secrets, self.hidden)


def account_of(
    walked: Walk,
    scene: Scene,
    *,
    is_whole: bool = False,
    happened: Mapping[str, object] | None = None,
    missing: Sequence[str] = (),
) -> Steps[dict[str, Any]]:
    """
    All that was decided for a request, and why.

    Args:
        walked: Its way through the plan.
        scene: The plan.
        is_whole: Each route is told by itself, however many there are.
        happened: What really became of it, if it was served.
        missing: Of such a one what was not kept of it, in words.
    """
    effective = scene.effective
    label = walked.side.direction.label
    is_denied = walked.found is AUTHORIZATION_DENIED
    looks = [] if is_denied else (yield from look_at_routes(walked, effective.file, scene.veil, is_whole=is_whole))
    found = walked.found
    account: dict[str, Any] = {
        "request": _request(walked, scene.veil),
        "outcome": _outcome(walked, scene),
        "authorization": _authorization(walked),
        "routes": [asdict(look) for look in looks],
        "split": None,
        "endpoint": None,
        "sent": None,
        "settings": {},
        "happened": happened,
        "missing": list(missing),
    }
    if not isinstance(found, Route):
        return account
    if all(look.result != TAKEN for look in looks):
        account["routes"].append(_fallback(found, len(walked.side.table.routes)))
    yield
    if isinstance(found.action, Forward):
        yield from _forwarded(account, walked, found.action, scene)
    index = walked.side.table.routes.index(found) if found.line else 0
    account["settings"] = yield from effective.settings_of(label, found, index)
    return account


def _forwarded(account: dict[str, Any], walked: Walk, action: Forward, scene: Scene) -> Steps[None]:
    secrets, ip = scene.secrets, walked.client_ip
    shares = shares_of(action, walked.head, ip)
    key = key_of(action, walked.head, ip)
    sticky = action.split.sticky if action.split is not None else ""
    account["split"] = {
        "sticky": sticky,
        "key": None if key is None else HIDDEN if scene.veil.covers(sticky) else secrets.hide(text_of(key)),
        "sides": [
            {
                "upstream": one.target.name,
                "weight": one.weight,
                "share": round(one.share, 6),
                "is_taken": one.is_taken,
                "note": _note(one),
            }
            for one in shares
        ],
    }
    yield
    taken = next((one for one in shares if one.is_taken), None)
    if taken is None:  # by chance: told for the likeliest upstream
        to_upstreams = [one for one in shares if one.target.redirect is None]
        taken = max(to_upstreams or shares, key=lambda one: one.share)
    if taken.target.redirect is not None:
        account["outcome"] |= _answer(taken.target.redirect, taken.target.response_edits, walked, secrets)
        return
    cluster = taken.target.upstream
    is_passed = walked.found is walked.side.passthrough_route
    account["endpoint"] = (
        {
            "upstream": cluster.name,
            "source": "",
            "balancer": "none: where the request itself says",
            "would_take": secrets.hide(text_of(walked.head.host) + f":{walked.head.port or 80}"),
            "panic": False,
            "endpoints": [],
        }
        if is_passed
        else endpoints_of(cluster, walked.head, ip, secrets)
    )
    yield
    listener = walked.listener or listener_of(scene.plan, walked.side)
    if listener is not None:
        lines = difference(walked, taken.target, listener, scene.veil)
        account["sent"] = {"upstream": taken.target.name, "lines": [list(line) for line in lines]}


def _note(side: Share) -> str:
    if side.target.redirect is not None:
        return f"the sidecar redirects with {side.target.redirect.status}"
    return "left out: it has never had an endpoint" if side.is_missing else ""


def _request(walked: Walk, veil: Veil) -> dict[str, object]:
    head = walked.head
    query = None if head.query is None else veil.query(text_of(head.query))
    return {
        "direction": walked.side.direction.label,
        "method": text_of(head.method),
        "host": veil.secrets.hide(text_of(head.host)),
        "port": head.port,
        "path": veil.secrets.hide(text_of(head.path)),
        "query": query,
        "source_ip": walked.client_ip,
        "identity": walked.exchange.client.identity if walked.exchange.client is not None else "",
    }


def _outcome(walked: Walk, scene: Scene) -> dict[str, object]:
    found = walked.found
    if isinstance(found, Reason):
        why = walked.exchange.detail if found is AUTHORIZATION_DENIED else found.text
        return {
            "kind": "refused",
            "route": None,
            "position": None,
            "status": found.status,
            "flag": found.flag,
            "why": scene.secrets.hide(why),
        }
    position = scene.effective.position(found) or None
    outcome: dict[str, object] = {"route": found.name, "position": position, "status": None, "flag": "", "why": ""}
    if isinstance(found.action, Forward):
        return {"kind": "forward", **outcome}
    return outcome | _answer(found.action, found.response_edits, walked, scene.secrets)


def _answer(action: Redirect | Respond, edits: HeaderEdits | None, walked: Walk, secrets: Secrets) -> dict[str, object]:
    """What a route, or a side of one, answers itself."""
    try:
        status, fields, _ = local_answer(action, edits, walked.head)
    except ProtocolError as error:
        reason = error.reason
        return {"kind": "refused", "status": reason.status, "flag": reason.flag, "why": error.detail or reason.text}
    to = next((text_of(field.value) for field in fields if field.name == b"location"), "")
    return {
        "kind": "redirect" if isinstance(action, Redirect) else "respond", "status": status, "why": secrets.hide(to)
    }  # fmt: skip


def _authorization(walked: Walk) -> dict[str, str] | None:
    decision = walked.decision
    if decision is None:
        return None
    why = walked.exchange.detail if decision.outcome != "allowed" else ""
    return {"outcome": decision.outcome, "rule": decision.rule, "position": decision.position, "why": why}


def _fallback(route: Route, index: int) -> dict[str, object]:
    """What takes what no route takes."""
    return {
        "index": index,
        "count": 1,
        "name": route.name,
        "position": "",
        "result": TAKEN,
        "matches": [],
        "missed_at": None,
    }
