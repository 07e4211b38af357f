"""
A request that was kept becomes a head again, as far as it was kept. *Cold, pure.*

A value that was only hashed is compared with each value that somebody asks for by `exact`: if one of them has the same
digest, it is that one. If none has, something else stands in its place that is equal to nothing, and what can be said
of it is no more than that (`State.OTHER`). Whoever asks more of a value than its state says must not trust the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import quote_from_bytes

from sidecar.http1.grammar import GrammarError, make_field
from sidecar.message import Field, Kind, RequestHead, Version
from sidecar.proxy.plan import Plan, Side
from sidecar.proxy.recent import HASHED, PRESENT, Entry, KeptField
from sidecar.routing.match import Match

Name = tuple[str, str]
"""What a value is of: `header`, `cookie` or `query`, and the name."""

Operands = Mapping[Name, Collection[bytes]]
"""The values that somebody asks for by `exact`."""

NO_OPERANDS: Final[Operands] = {}


class State(Enum):
    """What is known of a value; in words, as a report says it of those of which not all is known."""

    KNOWN = ""
    """All of it, or that it was not there."""
    OTHER = "only hashed"
    """It was there, and is none of the operands."""
    THERE = "only that it was there was recorded"
    UNTOLD = "not recorded"


@dataclass(frozen=True, slots=True)
class Restored:
    """
    A request, as far as it was kept.

    Attributes:
        head: As routes see one; what is not known is not in it, or stands for itself.
        peer_ip: The client's address.
        identity: The client's SPIFFE ID, or empty.
        missing: What was kept and is not known all the same, in words: `cookie session (only hashed)`.
        states: Of what was kept; whatever is not here was not recorded.
    """

    head: RequestHead
    peer_ip: str
    identity: str
    missing: tuple[str, ...]
    states: Mapping[Name, State]

    def state(self, name: Name) -> State:
        """What is known of a value."""
        return self.states.get(name, State.UNTOLD)


def restore(entry: Entry, operands: Operands = NO_OPERANDS) -> Restored:
    """
    The request of an entry.

    Args:
        operands: What `operands_of` finds in whatever is asked about it.
    """
    head = RequestHead(entry.method, entry.path, None, Version.HTTP11)
    head.host, head.port = entry.host, entry.port
    states: dict[Name, State] = {}
    headers: list[Field] = []
    cookies: dict[bytes, bytes] = {}
    head.params = params = {}
    for field, value in zip(entry.kept.fields, entry.values, strict=True):
        found, state = _restored(entry, field, value, operands.get((field.part, field.name), ()))
        name = field.name.encode()
        if field.part == "header":
            fields = [_field(name, one) for one in found]
            headers += [one for one in fields if one is not None]
            if None in fields:
                state = State.UNTOLD
        elif found and field.part == "cookie":
            cookies[name] = found[0]
        elif found:
            params[name] = found[0]
        states[field.part, field.name] = state
    head.fields = _with_cookies(headers, cookies)
    for one in head.fields:
        head.kinds |= one.kind
    if params:
        head.query = b"&".join(b"%b=%b" % (_quoted(name), _quoted(value)) for name, value in params.items())
    missing = tuple(f"{part} {name} ({state.value})" for (part, name), state in states.items() if state.value)
    return Restored(head, entry.peer_ip, entry.identity, missing, states)


def operands_of(sides: Iterable[Side]) -> dict[Name, set[bytes]]:
    """The values that routes and rules of these sides ask for by `exact`."""
    found: dict[Name, set[bytes]] = {}
    for match in _matches_of(sides):
        for condition in match.conditions:
            if condition.matcher is not None and condition.matcher.operand is not None:
                part, _, name = condition.part.partition(" ")
                found.setdefault((part, name), set()).add(condition.matcher.operand)
    return found


def sides_of(plan: Plan) -> list[Side]:
    """Each side of a plan once."""
    return list({id(side): side for side in (*plan.sides, *plan.side_of.values())}.values())


def _matches_of(sides: Iterable[Side]) -> Iterable[Match]:
    for side in sides:
        for route in side.table.routes:
            yield from route.matches
        for rule in side.authorization.rules if side.authorization is not None else ():
            for clause in rule.clauses:
                yield clause.match


def _restored(
    entry: Entry, field: KeptField, value: object, operands: Collection[bytes]
) -> tuple[tuple[bytes, ...], State]:
    """The values of a field, and what is known of them."""
    if value is None:
        return (), State.KNOWN
    if isinstance(value, tuple):
        return (value, State.KNOWN) if value else ((_placeholder(field, b""),), State.THERE)
    assert isinstance(value, bytes)
    if field.mode == PRESENT:
        return (_placeholder(field, b""),), State.THERE
    if field.mode == HASHED:
        for operand in operands:
            if entry.kept.recent.digest(operand) == value:
                return (operand,), State.KNOWN
        return (_placeholder(field, value),), State.OTHER
    return (value,), State.KNOWN


def _placeholder(field: KeptField, digest: bytes) -> bytes:
    """Stands for a value: equal to what was kept of the same value, and to nothing that anybody writes."""
    return b"<%b %b>" % (field.name.encode(), digest.hex().encode() or b"unknown")


def _field(name: bytes, value: bytes) -> Field | None:
    try:
        return make_field(name, value)
    except (GrammarError, ValueError):
        return None  # an operand that no field can be, which it then is not, or a placeholder in a field of a form


def _with_cookies(headers: list[Field], cookies: Mapping[bytes, bytes]) -> list[Field]:
    """With the cookies, beside what there is of the field itself."""
    if not cookies:
        return headers
    text = b"; ".join(b"%b=%b" % pair for pair in cookies.items())
    # Parsed already: what quotes there were around a value are gone, and it may begin with some of its own.
    return [Field(b"cookie", text, Kind.COOKIE, b"cookie: " + text, dict(cookies)), *headers]


def _quoted(octets: bytes) -> bytes:
    return quote_from_bytes(octets, safe="").encode()
