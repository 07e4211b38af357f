"""
What people see: the JSON of `/v1/mesh`, `/v1/routes` and `/v1/instances`; what replicas tell each other. *On the loop.*

What came from a report is data here as everywhere: names and texts are passed on as they are, bounded by the reader of
reports, for whoever shows them to escape.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

from sidecar import __version__
from sidecar.control.calls import certificates
from sidecar.control.calls.callers import Callers
from sidecar.control.calls.counted import Tally
from sidecar.control.calls.edges import WINDOW_S, EdgeKey
from sidecar.control.discovery.registry import doubt_key
from sidecar.control.fleet import Member
from sidecar.control.plane import Plane
from sidecar.control.replicas.summary import Summary, joined_rows
from sidecar.control.replicas.tallies import Window
from sidecar.control.revision.compiled import Origin
from sidecar.link.report import Carried

_ROUND: Final = 6
SLOWEST: Final = 20
"""Instances that are shown with the routes of a call."""


def mesh(plane: Plane, window: Window, lacks: Mapping[str, str]) -> dict[str, Any]:
    """
    `GET /v1/mesh`.

    Args:
        window: What all sidecars counted of their calls and of who asked in the last minute.
        lacks: Replicas that it lacks, and why.
    """
    rollouts, judged = plane.rollouts, plane.rollouts.judged
    now_s = plane.now_s()
    own = [_instance(plane, member) for member in plane.fleet]
    heard = joined_rows((own, *(one.rows for one in plane.peers.summaries)))
    instances = [*map(dict, heard.values()), *_not_heard(plane, set(heard))]
    doubt, callers = plane.doubt, Callers(window.asked, plane.caller_names)
    return {
        "mesh": judged.name if judged is not None else "",
        "revision": rollouts.revision,
        "hash": rollouts.record.source,
        "pinned": rollouts.pinned,
        "time": now_s,
        "started": plane.started_s,
        "release": __version__,
        "engine": plane.engine.name,
        "replicas": [
            {
                "name": one.name,
                "address": one.address,
                "seen_s": max(0.0, round(now_s - one.seen_s, 1)),
                "seen": plane.peers.is_seen(one.name),
                "error": plane.peers.error(one.name) or None,
            }
            for one in plane.replicas
        ],
        "source": {
            "problems": plane.follower.shown(),
            "since": plane.follower.since_s,
            "refused": bool(plane.follower.problems),
        },
        "store": [
            {"what": one.what, "error": one.error, "since": one.since_s, "waiting": one.waiting}
            for one in plane.not_stored()
        ],
        "authority": plane.authority(),
        "services": _services(plane, instances, callers.unidentified),
        "instances": sorted(instances, key=lambda one: (one["service"], one["id"])),
        "edges": _edges(window.edges, callers),
        "refused": callers.refused,
        "discovery": _discovery(plane),
        "doubt": {"fresh": doubt.fresh, "stale": doubt.stale, "removing": doubt.is_removing},
        "rollouts": rollouts.rows(plane.sight.view()),
        **missing(lacks),
    }


def missing(lacks: Mapping[str, str]) -> dict[str, Any]:
    """The part of an answer that says which replicas are missing in it."""
    return {"missing": [{"replica": name, "why": why} for name, why in sorted(lacks.items())]}


def summary(plane: Plane, since: str) -> dict[str, Any]:
    """`GET /v1/here/summary`: what this replica knows at first hand of sidecars, as difference from `since`."""
    rows = tuple(_instance(plane, member) for member in plane.fleet)
    told = Summary(tuple(plane.sight.instances()), rows, plane.sight.unseen)
    return plane.teller.tell(told, {member.id: member.recent for member in plane.fleet}, since, plane.now_s())


def with_shares(
    caller: str, callee: str, routes: list[dict[str, Any]], window: Mapping[EdgeKey, Tally]
) -> dict[str, Any]:
    """`GET /v1/routes`: routes with how requests fell in the last minute."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for key, tally in window.items():
        if (key.caller, key.callee) == (caller, callee):
            counts[key.route, key.upstream] += tally.requests
    for route in routes:
        total = sum(number for (name, _), number in counts.items() if name == route["name"])
        for side in route["to"]:
            here = counts.get((route["name"], side["upstream"]), 0)
            side["share"] = round(here / total, _ROUND) if total else None
    return {"routes": routes}


def answered(plane: Plane, counted: Mapping[str, Tally]) -> list[dict[str, Any]]:
    """`GET /v1/instances`: what instances answered in the last minute, by their own count; the slowest first."""
    named: dict[str, Any] = {row["id"]: row for one in plane.peers.summaries for row in one.rows}
    rows: list[dict[str, Any]] = []
    for instance, tally in counted.items():
        member, row = plane.fleet.get(instance), named.get(instance, {})
        rows.append(
            {
                "id": instance,
                "version": member.version if member is not None else row.get("version", ""),
                "zone": member.zone if member is not None else row.get("zone", ""),
                "rate": round(tally.requests / WINDOW_S, _ROUND),
                "requests": tally.requests,
                "success": _rounded(tally.success),
                "p50_s": _rounded(tally.quantile(0.5)),
                "p99_s": _rounded(tally.quantile(0.99)),
                "failures": dict(tally.failures),
            }
        )
    return sorted(rows, key=lambda row: -(row["p99_s"] or 0.0))


def _instance(plane: Plane, member: Member) -> dict[str, Any]:
    report = member.report
    registration = plane.registry.get(member.id)
    wanted, why_none = plane.rollouts.wanted(member.service, member.id, member.language)
    refused = report.refused if report is not None else None
    running = report.running if report is not None else None
    return {
        "id": member.id,
        "service": member.service,
        "version": member.version,
        "zone": member.zone,
        "address": _address(plane, member),
        "state": _state(plane, member),
        "connected": member.is_connected,
        "config": {
            "hash": running.hash if running is not None else "",
            "revision": running.revision if running is not None else 0,
            "since": running.since_s if running is not None else 0,
            "source": running.source if running is not None else "",
        },
        "wanted": {"hash": wanted.hash, "revision": wanted.revision} if wanted is not None else None,
        "none": why_none,
        "refused": None
        if refused is None
        else {
            "hash": refused.hash,
            "revision": refused.revision,
            "crashed": refused.has_crashed,
            "problems": list(member.refused),
        },
        "certificate": certificates.shown(report.identity if report is not None else None, plane.now_s()),
        "endpoints_behind": _behind(plane, member),
        "registered": registration is not None,
        "problems": list(member.problems),
        "last_seen": member.seen_s,
        "release": member.release,
        "language": member.language,
    }


def _not_heard(plane: Plane, heard: set[str]) -> list[dict[str, Any]]:
    """Those that are registered, here before a restart or at another replica, and were not heard of here."""
    return [
        {
            "id": one.instance,
            "service": one.service,
            "version": one.version,
            "zone": one.zone,
            "address": next((port.address for port in one.ports.values()), ""),
            "state": "stale" if plane.doubt.is_stale(doubt_key(one.instance)) else one.health,
            "connected": False,
            "config": {"hash": "", "revision": 0, "since": 0, "source": ""},
            "wanted": None,
            "none": "",
            "refused": None,
            "certificate": None,
            "endpoints_behind": 0,
            "registered": True,
            "problems": [],
            "last_seen": one.lost_s or 0,
            "release": "",
            "language": 0,
        }
        for one in plane.registry
        if one.instance not in heard
    ]


def _address(plane: Plane, member: Member) -> str:
    if member.report is not None and member.report.address:
        return member.report.address
    registration = plane.registry.get(member.id)
    if registration is not None and registration.ports:
        return next(iter(registration.ports.values())).address
    return member.peer


def _state(plane: Plane, member: Member) -> str:
    if member.is_draining:
        return "draining"
    if plane.doubt.is_stale(doubt_key(member.id)):
        return "stale"
    if not member.is_connected and plane.registry.get(member.id) is None:
        return "stale"
    return member.report.health if member.report is not None else "starting"


def _behind(plane: Plane, member: Member) -> int:
    """Upstreams of which it has not said yet that it has what there is to know, told or still being gathered."""
    stream = plane.hub.get(member.id)
    if stream is None:
        return 0
    behind = 0
    for upstream, origin in stream.follows.items():
        views = plane.discovery.views(origin)
        if plane.discovery.is_gathering(origin):
            behind += 1
        elif views is not None and views.current is not None:
            behind += stream.is_behind(upstream, views.current, plane.clock())
    return behind


def _services(plane: Plane, instances: list[dict[str, Any]], unidentified: Mapping[str, int]) -> list[dict[str, Any]]:
    judged = plane.rollouts.judged
    by_service: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in instances:
        # Who said goodbye is missed by nobody: a deployment is no illness.
        if one["state"] != "draining":
            by_service[one["service"]].append(one)
    if judged is not None:
        known = {name: (facts.kind, facts.hosts, facts.callees) for name, facts in judged.services.items()}
    else:
        # In front of files with problems: what was wanted before is what holds.
        revisions = plane.rollouts.record.revisions
        files = revisions[-1].files if revisions else {}
        known = {name: ("mesh", (), file.callees) for name, file in files.items()}
    return [
        {
            "name": name,
            "kind": kind,
            "versions": sorted({one["version"] for one in by_service[name] if one["version"]}),
            "instances": len(by_service[name]),
            "healthy": sum(one["state"] == "healthy" for one in by_service[name]),
            "stale": sum(one["state"] == "stale" for one in by_service[name]),
            "refused": sum(one["refused"] is not None for one in by_service[name]),
            "hosts": list(hosts),
            "callees": list(callees),
            "unidentified": unidentified.get(name, 0),
        }
        for name, (kind, hosts, callees) in sorted(known.items())
    ]


def _edges(window: Mapping[EdgeKey, Tally], callers: Callers) -> list[dict[str, Any]]:
    """As callers' sidecars tell them; of callers that have none that does, as those tell that were asked."""
    rows = [(key, tally) for key, tally in window.items()]
    told = {(key.caller, key.callee) for key in window}
    rows += [
        (EdgeKey(caller, callee, "", "", "inbound"), Tally(requests, secured=requests))
        for (caller, callee), requests in callers.beside(told).items()
    ]
    return [_edge(key, tally) for key, tally in sorted(rows, key=itemgetter(0))]


def _edge(key: EdgeKey, tally: Tally) -> dict[str, Any]:
    return {
        "from": key.caller,
        "to": key.callee,
        "upstream": key.upstream,
        "version": key.upstream.partition(".")[2],
        "route": key.route,
        "rate": round(tally.requests / WINDOW_S, _ROUND),
        "requests": tally.requests,
        "success": _rounded(tally.success) if key.direction == "outbound" else None,
        "p50_s": _rounded(tally.quantile(0.5)),
        "p99_s": _rounded(tally.quantile(0.99)),
        "failures": dict(tally.failures),
        "tls": tally.tls,
        "request_bytes": tally.request_bytes,
        "response_bytes": tally.response_bytes,
        "tcp": _carried(tally.tcp) if any(tally.tcp) else None,
        "window_s": WINDOW_S,
    }


def _carried(tcp: Carried) -> dict[str, Any]:
    octets = tcp.received_bytes + tcp.sent_bytes
    return {
        "rate": round(tcp.connections / WINDOW_S, _ROUND), "octet_rate": round(octets / WINDOW_S, _ROUND),
        **tcp._asdict(),
    }  # fmt: skip


def _discovery(plane: Plane) -> list[dict[str, Any]]:
    names: dict[Origin, str] = {}
    for service in plane.rollouts.record.services.values():
        for hash_ in service.hashes():
            file = plane.rollouts.known(hash_)
            if file is not None:
                names |= {origin: name for name, origin in file.discovers.items()}
    return sorted(
        (
            {
                "name": names.get(origin, origin.service),
                "kind": "+".join(dict.fromkeys(source.kind for source in origin.sources)),
                "endpoints": status.endpoints,
                "stale": status.stale,
                "plain": status.plain,
                "error": status.error or None,
            }
            for origin, status in plane.discovery.status()
        ),
        key=lambda row: str(row["name"]),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _ROUND)
