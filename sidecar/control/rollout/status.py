"""What people see of rollouts: `rollouts` of `GET /v1/mesh`. *Pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.control.rollout.gate import accepts, blindness, counting, has_file, judge, refuses
from sidecar.control.rollout.mover import blocked_by, waves_of
from sidecar.control.rollout.record import NOBODY, PARTS, Record, Service
from sidecar.control.rollout.view import Instance, View


def rollouts(record: Record, view: View, now_s: float) -> list[dict[str, Any]]:
    """
    Every service that is on its way, or was halted on it, or has arrived with the wanted revision.

    A rollout that took over from another before its end is preceded by that one, as `superseded`, until it is done.
    """
    people = view.by_service()
    rows = []
    for name, service in sorted(record.services.items()):
        if service.superseded is not None:
            rows.append(_superseded(name, service, record))
        if service.state != "done" or service.begun == record.revision:
            rows.append(_row(name, service, people.get(name, ()), record, view, now_s))
    return rows


def _row(
    name: str, service: Service, instances: Sequence[Instance], record: Record, view: View, now_s: float
) -> dict[str, Any]:
    state, why = _state(name, service, instances, record, view, now_s)
    judged = counting(service, instances)
    counted = {one.id for one in judged}
    wave = [one for one in judged if service.state == "done" or has_file(service, one)]
    refused = service.refused or tuple(one.id for one in wave if refuses(service, one))
    return {
        "service": name,
        "revision": service.revision,
        "hash": service.wanted,
        "previous": service.previous,
        "part": PARTS[min(service.part, len(PARTS) - 1)],
        "wave": service.wave + 1,
        "waves": list(waves_of(service, record)),
        "state": state,
        "why": why,
        "since": service.since_s,
        "accepted": sum(accepts(service, one) for one in wave),
        "of": len(wave),
        "refused": list(refused),
        "ignored": [one.id for one in instances if one.id not in counted and not accepts(service, one)],
    }


def _state(
    name: str, service: Service, instances: Sequence[Instance], record: Record, view: View, now_s: float
) -> tuple[str, str]:
    if service.state != "rolling":
        return service.state, service.why
    if service.limit == NOBODY:
        why = blocked_by(name, record.services) if service.part < len(PARTS) else ""
        return "waiting", why or blindness(view, instances)
    verdict = judge(service, instances, record, view, now_s)
    # What is halted or passed is so with the next step; until its record is written it rolls.
    return (verdict.state if verdict.state not in ("halted", "passed") else "rolling"), verdict.why


def _superseded(name: str, service: Service, record: Record) -> dict[str, Any]:
    revision, wanted, part, wave = service.superseded or (0, "", 0, 0)
    return {
        "service": name,
        "revision": revision,
        "hash": wanted,
        "previous": "",
        "part": PARTS[min(part, len(PARTS) - 1)],
        "wave": wave + 1,
        "waves": list(record.rules.steps),
        "state": "superseded",
        "why": f"revision {service.begun} took over",
        "since": service.begun_s,
        "accepted": 0,
        "of": 0,
        "refused": [],
        "ignored": [],
    }
