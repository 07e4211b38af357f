"""
The heads of the last requests, from which `sidecar preview` says what another file would do. *Hot path: `Kept.take`.*

A ring for each process, and a tuple for each request: no task, no timer, no clock, no log. Where more come than it
holds in `SPAN_NS`, it would have but the last instant, and be paid for by every request: then it holds `keep` of them
that are spread over that time, and the others are only counted (`Recent.passed_over`). What is kept of a request was
decided when the plan was compiled (`compile.recent`): method, host, path, and of the fields, cookies and parameters
only those that something of its side reads. Three ways to keep one of them:

    RAW       the value: something asks for more than whether it is this one (a prefix, a key that sticks)
    HASHED    a keyed BLAKE2b of it (RFC 7693, 2.9): something asks only whether it is a certain value
    PRESENT   only whether it is there

The key is drawn when the process starts and is never shown. A field whose name speaks of secrets is never RAW. What is
kept has its description with it (`Kept`), so that a reload which keeps other fields leaves what is there as it is.

Tuples become octets (`marshal`), some dozen at a time. Kept as they are, each of their objects would live for two
thousand requests, so that every request would be made in memory that no cache has, where else it is made in what the
one before has just left; and whatever is done for some dozen at once is done by instructions that are at hand. What
that saves, and what is left, is in `benchmarks/micro/recent.py`.
"""

from __future__ import annotations

import marshal
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from sidecar.exchange import Exchange
from sidecar.message import Kind, RequestHead
from sidecar.routing.cookies import cookie
from sidecar.routing.query import param

RAW: Final = 0
HASHED: Final = 1
PRESENT: Final = 2

MAX_PATH_BYTES: Final = 1024
"""Of path and host together; a request with longer ones is not kept, but counted."""
MAX_VALUE_BYTES: Final = 1024
"""Of one value that is kept RAW, likewise."""
CHUNK: Final = 50
"""Requests that become octets at once, in some 30 us."""

SPAN_NS: Final = 10_000_000_000
"""In so long at most `keep` requests are kept, beyond a burst of as many."""

MAX_KEPT: Final = 256
"""Descriptions that are known; what was kept by those that are older is not read any more."""

DIGEST_BYTES: Final = 12
_KEY_BYTES: Final = 32

Value = Any
"""
Of a field: its octets or their digest; of one that is only kept as PRESENT, nothing; None where it was not there; a
tuple of values where it came several times; an empty tuple where it was there and cannot be kept as it was.
"""
UNTOLD: Final[tuple[bytes, ...]] = ()

_COOKIE: Final = Kind.COOKIE
_FORM: Final = 2
"""Of `marshal`: later ones look each object up among those before, to write it once."""


class KeptField:
    """
    One thing that is kept of requests.

    Attributes:
        part: `header`, `cookie` or `query`.
        name: Of the header in lower case, of the cookie or of the parameter.
        mode: RAW, HASHED or PRESENT.
        is_strict: A rule of authorization denies by it: then each of several values counts, and not only the first.
    """

    __slots__ = ("is_strict", "mode", "name", "part")

    def __init__(self, part: str, name: str, mode: int, is_strict: bool = False) -> None:
        self.part = part
        self.name = name
        self.mode = mode
        self.is_strict = is_strict

    def __repr__(self) -> str:
        return f"<KeptField {self} {('raw', 'hashed', 'present')[self.mode]}>"

    def __str__(self) -> str:
        return f"{self.part} {self.name}"


class Kept:
    """
    What is kept of the requests of a side, by one plan; immutable.

    Attributes:
        side: A key of `Plan.side_of`.
        direction: `inbound` or `outbound`.
        fields: In the order of an entry's values.
        tokens: What rules ask of tokens, each as `peer.Token.words`; empty: nobody looks at them.
        recent: Where it is kept.
        number: By which entries name this; of a description that is the same as an earlier one, the same.
    """

    __slots__ = (
        "_absent", "_cookies", "_fresh", "_headers", "_params", "direction", "fields", "number", "recent", "side",
        "tokens",
    )  # fmt: skip

    def __init__(
        self, side: str, direction: str, fields: Sequence[KeptField], tokens: Sequence[str], recent: Recent
    ) -> None:
        self.side = side
        self.direction = direction
        self.fields = tuple(fields)
        self.tokens = tuple(tokens)
        self.recent = recent
        self.number = 0
        self._fresh = recent.fresh
        self._absent: list[Value] = [None] * len(self.fields)
        self._headers: dict[bytes, tuple[int, int]] = {}
        self._cookies: list[tuple[int, bytes, int, bool]] = []
        self._params: list[tuple[int, bytes, int, bool]] = []
        for at, one in enumerate(self.fields):
            name = one.name.encode()
            if one.part == "header":
                self._headers[name] = at, one.mode
            elif one.part == "cookie":
                self._cookies.append((at, name, one.mode, one.is_strict))
            else:
                self._params.append((at, name, one.mode, one.is_strict))

    def __repr__(self) -> str:
        return f"<Kept {self.side} [{', '.join(map(str, self.fields))}]>"

    def said(self) -> tuple[object, ...]:
        """All that it says, to be compared, and to be sent."""
        fields = tuple((one.part, one.name, one.mode, one.is_strict) for one in self.fields)
        return self.side, self.direction, fields, self.tokens

    def take(self, exchange: Exchange) -> None:
        """Keep the head of a request that is over, and what became of it, or count that it came."""
        head = exchange.head
        if head is None:
            return
        recent = self.recent
        now_ns, due_ns = exchange.end_ns, recent.due_ns
        if due_ns - now_ns > SPAN_NS:
            recent.passed_over += 1
            return
        recent.due_ns = (due_ns if due_ns > now_ns else now_ns) + recent.gap_ns
        fresh = self._fresh
        # What many requests share comes last, and is looked into later, for some dozen at once.
        fresh.append(
            (
                self.number,
                exchange.start_ns,
                exchange.end_ns,
                exchange.request_id,
                head.method,
                head.host,
                head.port,
                head.path,
                exchange.is_captured,
                exchange.status,
                exchange.attempts,
                self._read(head) if self._absent else None,
                (
                    exchange.scope,
                    exchange.endpoint,
                    exchange.reason,
                    exchange.peer[0],
                    exchange.client,
                    exchange.token,
                    exchange.decision,
                    exchange.grpc_status,
                ),
            )
        )
        if len(fresh) >= CHUNK:
            recent.settle()

    def _read(self, head: RequestHead) -> list[Value] | None:
        """The values of the fields, each as it is kept; None where nothing of that was there."""
        values: list[Value] | None = None
        headers = self._headers
        if headers:
            for field in head.fields:
                found = headers.get(field.name)
                if found is not None:
                    at, mode = found
                    if values is None:
                        values = self._absent.copy()
                    before = values[at]
                    values[at] = self._kept(field.value, mode) if before is None else _both(before, field.value, mode)
        if head.kinds & _COOKIE:
            for at, name, mode, is_strict in self._cookies:
                value = cookie(head, name)
                if value is not None:
                    if values is None:
                        values = self._absent.copy()
                    is_told = not is_strict or not _is_repeated_cookie(head, name)
                    values[at] = self._kept(value, mode) if is_told else UNTOLD
        if head.query:
            for at, name, mode, is_strict in self._params:
                value = param(head, name)
                if value is not None:
                    if values is None:
                        values = self._absent.copy()
                    is_told = not is_strict or not _is_repeated_param(head.query, name)
                    values[at] = self._kept(value, mode) if is_told else UNTOLD
        return values

    def _kept(self, value: bytes, mode: int) -> bytes:
        if mode == RAW:
            return value
        return self.recent.digest(value) if mode == HASHED else b""


def _both(before: Value, value: bytes, mode: int) -> Value:
    """Of a field that came before, and once more."""
    if mode != RAW or not before:
        return UNTOLD
    both: tuple[bytes, ...] = (*before, value) if type(before) is tuple else (before, value)
    return both if sum([len(one) for one in both]) <= MAX_VALUE_BYTES else UNTOLD


def _is_repeated_cookie(head: RequestHead, name: bytes) -> bool:
    count = 0
    for field in head.fields:
        if field.kind & _COOKIE:
            count += field.value.count(name)
    return count > 1


def _is_repeated_param(query: bytes, name: bytes) -> bool:
    """Whether the parameter may be there twice; a name may be written in other octets."""
    return query.find(b"&") >= 0 and (query.count(name) > 1 or query.find(b"%") >= 0 or query.find(b"+") >= 0)


Raw = tuple[Any, ...]
"""A request in the ring, as `Entry` reads it; its first item is the number of its description."""


_Shared = tuple[Any, ...]


def _settled(fresh: list[Raw]) -> list[Raw]:
    """Requests as they are kept for long: without what is too large, and of others' objects what is needed of them."""
    kept: list[Raw] = []
    known: dict[_Shared, Raw] = {}
    for raw in fresh:
        if len(raw[7]) + len(raw[5]) > MAX_PATH_BYTES:
            continue
        values = raw[11]
        if values is not None and max([len(value) for value in values if value is not None]) > MAX_VALUE_BYTES:
            continue
        shared = raw[12]
        told = known.get(shared)
        if told is None:
            told = known[shared] = _told(shared)
        kept.append(raw[:12] + told)
    return kept


def _told(shared: _Shared) -> Raw:
    scope, endpoint, reason, peer_ip, client, token, decision, grpc_status = shared
    return (
        scope.route if scope is not None else "",
        scope.upstream if scope is not None else "",
        endpoint.label if endpoint is not None else "",
        reason.flag if reason is not None else "",
        peer_ip,
        client.identity if client is not None else "",
        token.words if token is not None else decision is not None or None,
        # None is one octet, and most requests are no calls.
        grpc_status if grpc_status >= 0 else None,
    )


class Entry:
    """
    A request that was kept, for whoever reads the ring. *Cold.*

    Attributes:
        kept: What there is of it.
        start_ns, end_ns: Readings of `clock.monotonic_ns`.
        request_id: Its `x-request-id`.
        method, host, port, path: As `RequestHead` has them.
        is_captured: Its connection was led here.
        peer_ip: The client's address.
        identity: The client's SPIFFE ID, or empty.
        tokens: What rules ask of tokens and its token was; True: it had none; None: it did not come to the rules.
        values: Of `kept.fields`, in their order, each a `Value`.
        route, upstream, endpoint: Where it went; empty for nowhere.
        status: That the client was sent.
        grpc_status: How the call ended, if it is gRPC; else -1.
        flag: Why it ended badly (`errors.Reason.flag`), or empty.
        attempts: How often it was sent.
    """

    __slots__ = (
        "attempts", "end_ns", "endpoint", "flag", "grpc_status", "host", "identity", "is_captured", "kept", "method",
        "path", "peer_ip", "port", "request_id", "route", "start_ns", "status", "tokens", "upstream", "values",
    )  # fmt: skip

    def __init__(self, kept: Kept, raw: Raw) -> None:
        self.kept = kept
        self.start_ns: int = raw[1]
        self.end_ns: int = raw[2]
        self.request_id: bytes = raw[3]
        self.method: bytes = raw[4]
        self.host: bytes = raw[5]
        self.port: int | None = raw[6]
        self.path: bytes = raw[7]
        self.is_captured: bool = raw[8]
        self.status: int = raw[9]
        self.attempts: int = raw[10]
        self.values: Sequence[Value] = raw[11] if raw[11] is not None else [None] * len(kept.fields)
        self.route: str = raw[12]
        self.upstream: str = raw[13]
        self.endpoint: str = raw[14]
        self.flag: str = raw[15]
        self.peer_ip: str = raw[16]
        self.identity: str = raw[17]
        self.tokens: tuple[str, ...] | bool | None = raw[18]
        self.grpc_status: int = raw[19] if raw[19] is not None else -1

    def __repr__(self) -> str:
        return f"<Entry {self.method!r} {self.host!r} {self.path!r}>"


class Recent:
    """
    The ring.

    Args:
        key: Of the digests, in octets; default: one that nobody knows.

    Attributes:
        keep: How many requests are kept; 0: none, and nothing is held.
        max_bytes: What they may take together, without those of `fresh`.
        not_kept: Requests that were too large, since the process began.
        passed_over: Requests beyond those that are kept in `SPAN_NS`, since the process began.
        gap_ns: Between requests that are kept while more come than that.
        due_ns: When the next one will be due: the theoretical arrival time of the generic cell rate algorithm (ITU-T
            I.371, annex A), which tolerates `SPAN_NS`.
        size: Octets that are taken.
        fresh: Those that came last, less than `CHUNK` of them.
    """

    __slots__ = (
        "_chunks", "_count", "_digest", "_known", "due_ns", "fresh", "gap_ns", "keep", "key", "max_bytes", "not_kept",
        "passed_over", "size",
    )  # fmt: skip

    def __init__(self, key: bytes = b"") -> None:
        self.key = key or os.urandom(_KEY_BYTES)
        self.keep = 0
        self.max_bytes = 0
        self.not_kept = 0
        self.passed_over = 0
        self.gap_ns = 0
        self.due_ns = 0
        self.size = 0
        self.fresh: list[Raw] = []
        self._digest = blake2b(digest_size=DIGEST_BYTES, key=self.key)
        self._known: dict[int, Kept] = {}
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._count = 0

    def __repr__(self) -> str:
        return f"<Recent {len(self)} of {self.keep}>"

    def __len__(self) -> int:
        self.settle()
        return min(self.keep, self._count)

    def learn(self, kept: Kept) -> Kept:
        """A description that is in use from now on; an earlier one, if that says the same."""
        said = kept.said()
        for number, other in self._known.items():
            if other.said() == said:
                # Used again, and so not the oldest.
                self._known[number] = self._known.pop(number)
                return other
        kept.number = max(self._known, default=0) + 1
        self._known[kept.number] = kept
        if len(self._known) > MAX_KEPT:
            del self._known[next(iter(self._known))]
        return kept

    def configure(self, keep: int, max_bytes: int) -> None:
        """From now on keep so many in so many octets; the newest that fit in that stay."""
        self.settle()
        self.keep, self.max_bytes = keep, max_bytes
        self.gap_ns, self.due_ns = SPAN_NS // keep if keep else 0, 0
        self._trim()

    def digest(self, value: bytes) -> bytes:
        """What is kept of a value that is only asked for."""
        hashed = self._digest.copy()
        hashed.update(value)
        digest: bytes = hashed.digest()
        return digest

    def settle(self) -> None:
        """Make octets of those that came last, and let go of the oldest for which there is no room any more."""
        fresh = self.fresh
        if self.keep and fresh:
            some = _settled(fresh)
            self.not_kept += len(fresh) - len(some)
            octets = marshal.dumps(some, _FORM)
            self._chunks.append((octets, len(some)))
            self._count += len(some)
            self.size += len(octets)
            self._trim()
        fresh.clear()

    def _trim(self) -> None:
        chunks = self._chunks
        while chunks and (self.size > self.max_bytes or self._count - chunks[0][1] >= self.keep):
            octets, count = chunks.popleft()
            self._count -= count
            self.size -= len(octets)

    def octets(self) -> list[bytes]:
        """All that is kept at this moment, newest first, in pieces of some dozen requests: for `entries_of`."""
        self.settle()
        return [octets for octets, _ in reversed(self._chunks)]

    def entries(self) -> Iterator[Entry]:
        """Those of this moment, newest first."""
        return entries_of(self.octets(), self._known, self.keep)

    def known(self) -> list[Kept]:
        """All descriptions."""
        return list(self._known.values())

    def find(self, request_id: bytes) -> Entry | None:
        """The newest request of this id."""
        for entry in self.entries():
            if entry.request_id == request_id:
                return entry
        return None


def entries_of(octets: Iterable[bytes], known: Mapping[int, Kept], limit: int) -> Iterator[Entry]:
    """
    The requests in pieces of a ring, newest first.

    Args:
        octets: As `Recent.octets` gives them.
        known: Their descriptions by number; without its own nobody knows what an entry says.
        limit: So many at most.
    """
    left = limit
    for piece in octets:
        some: list[Raw] = marshal.loads(piece)
        for raw in reversed(some):
            if left <= 0:
                return
            left -= 1
            kept = known.get(raw[0])
            if kept is not None:
                yield Entry(kept, raw)
