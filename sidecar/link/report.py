"""
What a sidecar says to a control plane: how it is, what it runs or refused, and what it counted since. *Pure.*
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

from sidecar.link.fields import MAX_INTEGER, MAX_TEXT_CHARS, Fields, decode, encode, refusal
from sidecar.link.messages import MAX_UPSTREAMS
from sidecar.telemetry.metrics.catalogue import DURATION_BUCKETS_S

REPORT_PERIOD_S: Final = 10.0
MAX_REPORT_BYTES: Final = 4 * 1024 * 1024
MAX_PORTS: Final = 64
MAX_PROBLEMS: Final = 100
MAX_SENTENCE_CHARS: Final = 4096
"""Of a problem's message and hint; what is longer is cut, for the rest of the report matters more."""
MAX_EDGES: Final = 10_000
MAX_ASKED: Final = 500
"""Rows of one report of who asked; what is beyond them is one row of each outcome, by `OTHERS`."""
OTHERS: Final = "_OTHER"
_MAX_KINDS: Final = 200
"""Of reasons and of statuses of one edge."""
_MAX_BOUNDS: Final = 200
"""Of latencies, in any release."""

LATENCY_BOUNDS_S: Final = DURATION_BUCKETS_S
"""
Upper bounds, inclusive, of an edge's latencies; one more count follows, for what was longer. They are those that the
telemetry counts in, so nothing is lost between what Prometheus shows of a sidecar and what the mesh shows of it.
"""

Outcome = Literal["", "denied", "audit_denied", "unidentified"]
MAX_OUTCOMES: Final = len(get_args(Outcome))
Health = Literal["starting", "healthy", "unhealthy"]
Source = Literal["", "pushed", "last_good", "bootstrap"]


@dataclass(frozen=True, slots=True)
class Port:
    """
    Where others reach a port of the app, by its sidecar.

    Attributes:
        address: `host:port` or `[v6]:port`.
        protocol: As `inbound.listen` says: `http`.
    """

    address: str
    protocol: str = "http"
    is_tls: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """
    The file that is in force.

    Attributes:
        hash: Of the pushed one; empty for none.
        revision: That it came with.
        since_s: Since the Unix epoch.
        source: Where it was had from; empty while nothing is in force.
    """

    hash: str = ""
    revision: int = 0
    since_s: float = 0.0
    source: Source = ""


@dataclass(frozen=True, slots=True)
class RefusedProblem:
    """One problem of a file that was refused; `line` and `column` from 1, 0 where there is no place."""

    line: int
    column: int
    path: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The last pushed file, if it was refused.

    Attributes:
        has_crashed: It was no problem of the file: with it the process ended again and again.
    """

    hash: str
    revision: int
    problems: tuple[RefusedProblem, ...] = ()
    has_crashed: bool = False


@dataclass(frozen=True, slots=True)
class IdentityReport:
    """
    What an instance holds of its identity, whoever signs it.

    Attributes:
        identity: SPIFFE ID; empty if it holds none.
        not_after_s: When its certificate ends; since the Unix epoch, 0 if it holds none.
        not_before_s: When that began; likewise.
        issuer: Who signed it.
        issuer_not_after_s: When the first of those ends who signed it, roots excepted; 0 if none is known.
        root_not_after_s: When the root ends to which it leads; likewise.
        last_error: Why the last attempt to get another one came to nothing; empty if it did not.
    """

    identity: str = ""
    not_after_s: float = 0.0
    issuer: str = ""
    last_error: str = ""
    issuer_not_after_s: float = 0.0
    root_not_after_s: float = 0.0
    not_before_s: float = 0.0


_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class Carried(NamedTuple):
    """
    What was counted of connections that are no HTTP's and were carried as they are (`sidecar_tcp_*`).

    Attributes:
        connections: That are over.
        failed: Of these, those that ended with a flag (docs/errors.md).
        received_bytes: That their clients have sent, while they went by: also of connections that are not over.
        sent_bytes: That they were sent; likewise.
    """

    connections: int = 0
    failed: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


NOTHING_CARRIED: Final = Carried()


class Edge(NamedTuple):
    """
    What was counted on one way of requests, or of other connections, since the last report that arrived.

    Attributes:
        direction: `inbound` or `outbound`.
        upstream: Name of the upstream; empty where none was chosen.
        route: Name of the route.
        requests: That are over.
        failures: Of these, by the flag of their reason (docs/errors.md): `UH`.
        statuses: By class: `2xx`; `other` for what is no status.
        latency: By `LATENCY_BOUNDS_S`.
        caller: Who called, as far as it is known; empty.
        secured: Requests by TLS: of `inbound` all that came so, of `outbound` those that were answered so.
        clear: The same of those in clear, on a way on which there was one by TLS before.
        tcp: Connections that carried no requests; they have no route.
    """

    direction: str
    upstream: str
    route: str
    requests: int
    failures: Mapping[str, int] = _NONE
    statuses: Mapping[str, int] = _NONE
    latency: tuple[int, ...] = ()
    request_bytes: int = 0
    response_bytes: int = 0
    caller: str = ""
    secured: int = 0
    clear: int = 0
    tcp: Carried = NOTHING_CARRIED


class Asked(NamedTuple):
    """
    Requests that came in since the last report that arrived, by who asked; or those of them that a rule was against.

    Attributes:
        caller: SPIFFE ID of the certificate, empty if there was none, or `OTHERS`.
        rule: Name of the rule of authorization that was against them; empty for all requests of this caller.
        outcome: `denied`, `audit_denied` (they passed, because what is against them is in audit), `unidentified` (they
            passed only because who has no identity is let in for the time being), or empty for all.
    """

    caller: str
    requests: int
    rule: str = ""
    outcome: str = ""


class Counted(NamedTuple):
    """What was counted since the last look."""

    edges: tuple[Edge, ...] = ()
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """
    Attributes:
        address: By which others reach this instance; empty as long as it is not known.
        health: Of the app.
        is_goodbye: It leaves: nobody is to send requests any more.
        endpoints: Versions in force, by the name in `discover`.
        seq: One more for each report; a later process of the same instance begins higher. One that comes again is a
            repetition: its state counts, its edges are not added again.
        span_s: Seconds in which the edges were counted: longer than the period if reports could not be delivered.
        identity: None where there is to be none.
        asked: Of whoever had an identity, and of whomever rules were against.
    """

    service: str
    instance: str
    seq: int
    version: str = ""
    zone: str = ""
    release: str = ""
    language: int = 1
    address: str = ""
    weight: float = 1.0
    ports: Mapping[str, Port] = field(default_factory=dict)
    health: Health = "starting"
    is_goodbye: bool = False
    running: Running = Running()
    refused: Refused | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    span_s: float = 0.0
    identity: IdentityReport | None = None
    asked: tuple[Asked, ...] = ()


def write_report(report: Report) -> bytes:
    """As JSON."""
    refused, identity = report.refused, report.identity
    shown: dict[str, Any] = {
        "service": report.service, "instance": report.instance, "seq": report.seq, "version": report.version,
        "zone": report.zone, "release": report.release, "language": report.language, "address": report.address,
        "weight": report.weight,
        "ports": {
            name: {"address": port.address, "protocol": port.protocol, "tls": port.is_tls}
            for name, port in report.ports.items()
        },
        "health": report.health, "goodbye": report.is_goodbye,
        "config": {
            "hash": report.running.hash, "revision": report.running.revision, "since": report.running.since_s,
            "source": report.running.source,
        },
        "refused": None if refused is None else {
            "hash": refused.hash, "revision": refused.revision, "crashed": refused.has_crashed,
            "problems": [
                {
                    "line": one.line, "column": one.column, "path": one.path[:MAX_TEXT_CHARS],
                    "message": one.message[:MAX_SENTENCE_CHARS], "hint": one.hint[:MAX_SENTENCE_CHARS],
                }
                for one in refused.problems[:MAX_PROBLEMS]
            ],
        },
        "identity": None if identity is None else {
            "id": identity.identity, "not_before": identity.not_before_s, "not_after": identity.not_after_s,
            "issuer": identity.issuer[:MAX_TEXT_CHARS], "issuer_not_after": identity.issuer_not_after_s,
            "root_not_after": identity.root_not_after_s,
            "last_error": identity.last_error[:MAX_SENTENCE_CHARS],
        },
        "endpoints": dict(report.endpoints), "span": report.span_s,
        "edges": [
            {
                "direction": edge.direction, "upstream": edge.upstream[:MAX_TEXT_CHARS],
                "route": edge.route[:MAX_TEXT_CHARS], "requests": edge.requests,
                "failures": dict(edge.failures), "statuses": dict(edge.statuses),
                "latency": list(edge.latency), "request_bytes": edge.request_bytes,
                "response_bytes": edge.response_bytes, "from": edge.caller,
                **({"tls": edge.secured} if edge.secured else {}), **({"clear": edge.clear} if edge.clear else {}),
                **({"tcp": edge.tcp._asdict()} if any(edge.tcp) else {}),
            }
            for edge in report.edges[:MAX_EDGES]
        ],
    }  # fmt: skip
    if report.asked:
        shown["asked"] = [
            {
                "from": one.caller[:MAX_TEXT_CHARS], "requests": one.requests,
                **({"rule": one.rule[:MAX_TEXT_CHARS], "outcome": one.outcome} if one.outcome else {}),
            }
            for one in report.asked[: MAX_ASKED + MAX_OUTCOMES]
        ]  # fmt: skip
    return encode(shown)


def read_report(raw: bytes) -> Report:
    """
    Understand a report.

    Raises:
        MessageError: With the place that is wrong.
    """
    fields = decode(raw)
    health = fields.text("health", "starting")
    if health not in get_args(Health):
        raise refusal("health", " or ".join(get_args(Health)), health)
    config = fields.part("config")
    refused, identity = fields.part("refused"), fields.part("identity")
    return Report(
        service=fields.text("service"),
        instance=fields.text("instance"),
        seq=fields.integer("seq", 0),
        version=fields.text("version", ""),
        zone=fields.text("zone", ""),
        release=fields.text("release", ""),
        language=fields.integer("language", 1),
        address=fields.text("address", ""),
        weight=fields.number("weight", 1.0),
        ports=fields.table("ports", MAX_PORTS, _port),
        health=health,  # type: ignore[arg-type]
        is_goodbye=fields.flag("goodbye", False),
        running=_running(config) if config is not None else Running(),
        refused=_refused(refused) if refused is not None else None,
        endpoints=_one_of_each(fields.words("endpoints", MAX_UPSTREAMS)),
        edges=tuple(_edge(one) for one in fields.objects("edges", MAX_EDGES)),
        span_s=fields.number("span", 0.0),
        identity=_identity(identity) if identity is not None else None,
        asked=tuple(_asked(one) for one in fields.objects("asked", MAX_ASKED + MAX_OUTCOMES)),
    )


def _identity(fields: Fields) -> IdentityReport:
    return IdentityReport(
        fields.text("id", ""), fields.number("not_after", 0.0), fields.text("issuer", ""),
        fields.text("last_error", "", MAX_SENTENCE_CHARS), fields.number("issuer_not_after", 0.0),
        fields.number("root_not_after", 0.0), fields.number("not_before", 0.0),
    )  # fmt: skip


def _asked(fields: Fields) -> Asked:
    return Asked(
        fields.text("from", ""), fields.integer("requests", 0), fields.text("rule", ""), fields.text("outcome", "")
    )


def _one_of_each(versions: Mapping[str, str]) -> dict[str, str]:
    """All who have the same endpoints say the same, and what they say last is kept."""
    return {sys.intern(upstream): sys.intern(version) for upstream, version in versions.items()}


def _port(ports: Fields, name: str) -> Port:
    port = ports.part(name) or Fields({}, name)
    return Port(port.text("address"), port.text("protocol", "http"), port.flag("tls", False))


def _running(fields: Fields) -> Running:
    source = fields.text("source", "")
    # A source of a later release is one all the same.
    known: Source = source if source in get_args(Source) else "pushed"  # type: ignore[assignment]
    return Running(fields.text("hash", ""), fields.integer("revision", 0), fields.number("since", 0.0), known)


def _refused(fields: Fields) -> Refused:
    problems = tuple(
        RefusedProblem(
            one.integer("line", 0), one.integer("column", 0), one.text("path", ""),
            one.text("message", "", MAX_SENTENCE_CHARS), one.text("hint", "", MAX_SENTENCE_CHARS),
        )
        for one in fields.objects("problems", MAX_PROBLEMS)
    )  # fmt: skip
    return Refused(fields.text("hash", ""), fields.integer("revision", 0), problems, fields.flag("crashed", False))


_PLAIN: Final = itemgetter("direction", "upstream", "route", "requests", "request_bytes", "response_bytes", "from")
_PLAIN_TYPES: Final = (str, str, str, int, int, int, str)


def _edge(fields: Fields) -> Edge:
    latency = tuple(fields.integers("latency", _MAX_BOUNDS + 1))
    if len(latency) != len(LATENCY_BOUNDS_S) + 1:
        latency = ()  # by the bounds of another release: all else of the report counts
    failures, statuses = fields.counts("failures", _MAX_KINDS), fields.counts("statuses", _MAX_KINDS)
    secured, clear, tcp = fields.integer("tls", 0), fields.integer("clear", 0), _carried(fields.part("tcp"))
    # A mesh says thousands of them a second, and nearly every one is as it should be.
    try:
        plain = _PLAIN(fields.all())
    except KeyError:
        plain = ()
    if tuple(map(type, plain)) == _PLAIN_TYPES:
        direction, upstream, route, requests, request_bytes, response_bytes, caller = plain
        is_short = max(len(direction), len(upstream), len(route), len(caller)) <= MAX_TEXT_CHARS
        numbers = requests, request_bytes, response_bytes
        if is_short and min(numbers) >= 0 and max(numbers) <= MAX_INTEGER:
            return Edge(
                direction, upstream, route, requests, failures, statuses, latency, request_bytes, response_bytes,
                caller, secured, clear, tcp,
            )  # fmt: skip
    return Edge(
        direction=fields.text("direction", "outbound"),
        upstream=fields.text("upstream", ""),
        route=fields.text("route", ""),
        requests=fields.integer("requests", 0),
        failures=failures,
        statuses=statuses,
        latency=latency,
        request_bytes=fields.integer("request_bytes", 0),
        response_bytes=fields.integer("response_bytes", 0),
        caller=fields.text("from", ""),
        secured=secured,
        clear=clear,
        tcp=tcp,
    )


def _carried(fields: Fields | None) -> Carried:
    if fields is None:
        return NOTHING_CARRIED
    return Carried(*(fields.integer(name, 0) for name in Carried._fields))
