"""
What a control plane says to a sidecar: lines of a stream, and the question that opens it. *Pure.*

`docs/mesh-protocol.md` is the page for whoever writes another client. Versions of content are hashes of it, so that
after a restart of either side nothing is sent to who is current. What a sidecar says is in `report`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from sidecar.link.fields import MAX_TEXT_CHARS, Fields, MessageError, decode, encode, refusal

PING_PERIOD_S: Final = 10.0
MAX_FILE_BYTES: Final = 10 * 1024 * 1024
"""Of a compiled file, as of any configuration file."""
MAX_LINE_BYTES: Final = 2 * MAX_FILE_BYTES
"""Of a line of the stream: a file as JSON, every second octet escaped."""
MAX_POLL_BYTES: Final = 2 * MAX_LINE_BYTES
"""Of the answer of a long poll: what is more comes with the next."""
POLL_WAIT_S: Final = 55.0
"""What a long poll waits for news: less than the minute after which proxies cut what is idle."""
MAX_TARGET_BYTES: Final = 7000
"""Of the question that opens a stream: servers and proxies take lines of 8 KiB. See `Watch.to_target`."""
MAX_UPSTREAMS: Final = 10_000
MAX_ENDPOINTS: Final = 100_000
"""Of one upstream."""


@dataclass(frozen=True, slots=True)
class Config:
    """
    The whole file that this sidecar is to run.

    Attributes:
        revision: Number of the mesh's revision; it never goes down.
        hash: Of the file's values; 32 hexadecimal digits.
        file: YAML.
    """

    revision: int
    hash: str
    file: str


@dataclass(frozen=True, slots=True)
class Current:
    """The file that this sidecar said it has is the one wanted, perhaps of a newer revision."""

    revision: int
    hash: str


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no file for this sidecar; why, in one line. The stream goes on, and one may come."""

    why: str


@dataclass(frozen=True, slots=True)
class EndpointEntry:
    """
    One endpoint.

    Attributes:
        address: `host:port` or `[v6]:port`.
        weight: Relative to the others, not negative.
        zone: Where it is, or empty.
        is_tls: Whether it is to be dialled by TLS.
    """

    address: str
    weight: float = 1.0
    zone: str = ""
    is_tls: bool = False


@dataclass(frozen=True, slots=True)
class Endpoints:
    """
    What changed of the endpoints of an upstream.

    Attributes:
        upstream: The name in `discover`.
        version: Of the endpoints when this is applied: `endpoints_version`.
        base: The version that this applies to; empty for a snapshot, which replaces all.
        added: New ones, and those with another weight or zone.
        removed: Their addresses.
        is_awaited: Somebody waits until it is in force: report it soon, and not with the next report.
    """

    upstream: str
    version: str
    base: str = ""
    added: tuple[EndpointEntry, ...] = ()
    removed: tuple[str, ...] = ()
    is_awaited: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Ping:
    """The stream lives; the revision that is wanted of all."""

    revision: int


@dataclass(frozen=True, slots=True)
class Left:
    """All concerned have applied this sidecar's goodbye: nobody sends it requests any more."""


@dataclass(frozen=True, slots=True)
class Move:
    """The server is going: connect elsewhere."""


@dataclass(frozen=True, slots=True)
class Renew:
    """
    The authority changed: another root signs, or other roots are trusted. Whoever has a certificate of it asks for
    another one at some time of its own choosing from now to `within_s`.
    """

    within_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """
    A question, answered by `POST /v1/answer`.

    Attributes:
        id: To be repeated in the answer.
        kind: `preview`, `explain`, `tap`, or whatever a later release asks.
        body: The whole message.
    """

    id: str
    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)


Line = Config | Current | Absent | Endpoints | Ping | Left | Move | Renew | Ask


def write_line(line: Line) -> bytes:
    """One line of the stream, its end included."""
    return encode(_shown(line)) + b"\n"


def _shown(line: Line) -> dict[str, object]:
    match line:
        case Config():
            return {"type": "config", "revision": line.revision, "hash": line.hash, "file": line.file}
        case Current():
            return {"type": "current", "revision": line.revision, "hash": line.hash}
        case Absent():
            return {"type": "none", "why": line.why}
        case Endpoints():
            added = [
                {"address": one.address, "weight": one.weight, "zone": one.zone, "tls": one.is_tls}
                for one in line.added
            ]
            shown: dict[str, object] = {
                "type": "endpoints", "upstream": line.upstream, "version": line.version,
                "from": line.base or None, "added": added, "removed": list(line.removed),
            }  # fmt: skip
            return {**shown, "awaited": True} if line.is_awaited else shown
        case Ping():
            return {"type": "ping", "revision": line.revision}
        case Left():
            return {"type": "left"}
        case Move():
            return {"type": "move"}
        case Renew():
            return {"type": "renew", "within": line.within_s}
        case Ask():
            return {**line.body, "type": "ask", "id": line.id, "kind": line.kind}


def read_line(raw: bytes) -> Line | None:
    """
    Understand a line; None for a type that this release does not know.

    Raises:
        MessageError: It is not what its type says; the stream cannot be trusted any more.
    """
    if len(raw) > MAX_LINE_BYTES:
        raise MessageError(f"expected a line of at most {MAX_LINE_BYTES} octets")
    return _line(decode(raw))


def write_poll(lines: Iterable[bytes]) -> bytes:
    """The answer of a long poll: the same lines as those of a stream (`write_line`), as values of one list."""
    return b'{"lines":[%b]}' % b",".join(line.rstrip(b"\n") for line in lines)


def read_poll(raw: bytes) -> list[Line]:
    """
    Understand the answer of a long poll; lines of types that this release does not know are left out.

    Raises:
        MessageError: With the place of the first line that is wrong; none of them can be trusted.
    """
    if len(raw) > MAX_POLL_BYTES:
        raise MessageError(f"expected an answer of at most {MAX_POLL_BYTES} octets")
    lines = (_line(fields) for fields in decode(raw).objects("lines", MAX_UPSTREAMS + 1000))
    return [line for line in lines if line is not None]


def _line(fields: Fields) -> Line | None:
    match fields.text("type"):
        case "config":
            file = fields.text("file", limit=MAX_FILE_BYTES)
            return Config(fields.integer("revision"), fields.text("hash"), file)
        case "current":
            return Current(fields.integer("revision"), fields.text("hash"))
        case "none":
            return Absent(fields.text("why", ""))
        case "endpoints":
            added = tuple(_entry(one) for one in fields.objects("added", MAX_ENDPOINTS))
            removed = tuple(fields.texts("removed", MAX_ENDPOINTS))
            base = fields.text("from", "")
            upstream, version = fields.text("upstream"), fields.text("version")
            return Endpoints(upstream, version, base, added, removed, fields.flag("awaited", False))
        case "ping":
            return Ping(fields.integer("revision"))
        case "left":
            return Left()
        case "move":
            return Move()
        case "renew":
            return Renew(fields.number("within"))
        case "ask":
            return Ask(fields.text("id"), fields.text("kind"), fields.all())
    return None


def _entry(fields: Fields) -> EndpointEntry:
    values = fields.all()
    address, weight = values.get("address"), values.get("weight", 1.0)
    zone, is_tls = values.get("zone", ""), values.get("tls", False)
    # Ten thousand of them may come at once, beside a data path: a third of the time of asking field by field.
    if (
        type(address) is str
        and type(weight) in (float, int)
        and type(zone) is str
        and type(is_tls) is bool
        and 0 <= weight <= 1e15
        and max(len(address), len(zone)) <= MAX_TEXT_CHARS
    ):
        return EndpointEntry(address, float(weight), zone, is_tls)
    return EndpointEntry(
        fields.text("address"), fields.number("weight", 1.0), fields.text("zone", ""), fields.flag("tls", False)
    )


def endpoints_version(entries: Iterable[EndpointEntry]) -> str:
    """
    Of some endpoints in any order: the first 16 hexadecimal digits of the SHA-256 of a line for each, sorted:
    `ADDRESS WEIGHT ZONE TLS`, the weight as `%.6g`, TLS as 0 or 1, each line ended by a line feed.
    """
    lines = sorted(f"{one.address} {one.weight:.6g} {one.zone} {int(one.is_tls)}\n" for one in entries)
    return hashlib.sha256("".join(lines).encode("utf-8", "replace")).hexdigest()[:16]


def apply_endpoints(
    known: Mapping[str, EndpointEntry], change: Endpoints, version: str | None = None
) -> dict[str, EndpointEntry] | None:
    """
    Endpoints by address after a change of the stream; None if it does not fit to what is known: ask for all again.

    Args:
        version: Of what is known, for who knows that, too.
    """
    entries = {} if not change.base else dict(known)
    if change.base and change.base != (version or endpoints_version(known.values())):
        return None
    for address in change.removed:
        entries.pop(address, None)
    for entry in change.added:
        entries[entry.address] = entry
    if len(entries) > MAX_ENDPOINTS or endpoints_version(entries.values()) != change.version:
        return None
    return entries


@dataclass(frozen=True, slots=True)
class Watch:
    """
    The question that opens a stream: who asks, and what it has.

    Attributes:
        service: Of the mesh.
        instance: A name that no other instance has.
        language: Number of the newest form of the file that it understands.
        release: Of the sidecar.
        config: Hash of the pushed file that it has; empty for none.
        endpoints: Versions of what it knows, by the name in `discover`.
    """

    service: str
    instance: str
    version: str = ""
    zone: str = ""
    language: int = 1
    release: str = ""
    config: str = ""
    endpoints: Mapping[str, str] = field(default_factory=dict)

    def to_query(self) -> dict[str, str]:
        """As parameters of the address; those that say nothing are left out."""
        texts = {
            "service": self.service, "instance": self.instance, "version": self.version, "zone": self.zone,
            "language": str(self.language), "release": self.release, "config": self.config,
            "endpoints": ",".join(f"{name}:{version}" for name, version in sorted(self.endpoints.items())),
        }  # fmt: skip
        return {name: text for name, text in texts.items() if text}

    def to_target(self, more: Mapping[str, str] | None = None) -> str:
        """
        Path and query of the question.

        At most MAX_TARGET_BYTES of it: endpoints that have no room, in the order of the mapping, are left out, and
        come as snapshots.

        Args:
            more: Further parameters.
        """
        fixed = {**replace(self, endpoints={}).to_query(), **(more or {})}
        target = f"/v1/watch?{urlencode(fixed)}"
        pairs: list[str] = []
        room = MAX_TARGET_BYTES - len(target) - len("&endpoints=")
        for name, version in self.endpoints.items():
            pair = quote(f"{name}:{version}", safe=":,.-_")
            room -= len(pair) + 1
            if room < 0:
                break
            pairs.append(pair)
        return f"{target}&endpoints={','.join(pairs)}" if pairs else target


def read_watch(query: Mapping[str, str]) -> Watch:
    """
    Understand the parameters.

    Raises:
        MessageError: With the parameter that is wrong.
    """
    fields = Fields(query)
    language = fields.text("language", "1", 9)
    if not (language.isascii() and language.isdigit()):
        raise refusal("language", "a number", language)
    endpoints: dict[str, str] = {}
    for pair in filter(None, fields.text("endpoints", "", 1 << 20).split(",")):
        # An upstream's name may have a colon, a version has none.
        name, colon, version = pair.rpartition(":")
        if not colon or not name or len(endpoints) >= MAX_UPSTREAMS:
            raise refusal("endpoints", f"at most {MAX_UPSTREAMS} of `NAME:VERSION`", pair)
        endpoints[name] = version
    watch = Watch(
        fields.text("service"), fields.text("instance"), fields.text("version", ""), fields.text("zone", ""),
        int(language), fields.text("release", ""), fields.text("config", ""), endpoints,
    )  # fmt: skip
    for name in ("service", "instance"):
        if not getattr(watch, name):
            raise MessageError(f"{name}: expected a name, found nothing")
    return watch
