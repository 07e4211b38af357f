"""
Header edits of a route or of one of its targets. *Hot path: `HeaderEdits.apply`; pure.*

The fields are built when the configuration is compiled; applying them is one pass over the head.

Edits have the last word: also over what the proxy itself adds to each message, `Via`, `Date` and the forwarding fields.
What cannot be left to them (`can_edit`) is refused, so that no edit is accepted without effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

from sidecar.http1.date import DATE
from sidecar.http1.forward import NO_VIA, VIA, VIA_FIELDS, needs_date
from sidecar.http1.grammar import TOKEN, make_field
from sidecar.message import Field, Kind, ResponseHead

_UNEDITABLE_KINDS = Kind.HOP | Kind.HOST | Kind.CONTENT_LENGTH | Kind.EXPECT | Kind.TRACE | Kind.REQUEST_ID
_UNEDITABLE_NAMES = frozenset({b"trailer"})
_FORWARDED_NAMES = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
_FORWARDED = Kind.FORWARDED_FOR | Kind.FORWARDED_PROTO


class HeaderEdits:
    """
    Edits in the order remove, set, add; immutable. Built by `header_edits` and `merge_edits`.

    `set` puts its value in the place of the first field of that name and drops the others, or appends it; `add`
    appends and leaves what is there.

    Attributes:
        sets: Fields by name.
        adds: Fields, in order.
        removes: Names; of a name that is also set or added, the old values go.
        has_via: Whether `Via` is added at all, as far as the whole configuration says.
        via: Our own `Via` for a request that these edits are applied to: `VIA`, or `NO_VIA` if they set or remove it
            or there is to be none.
        edits_forwarded: Whether they name a field that says who the client is, and so must see ours.
        kinds: Union of the kinds of the fields that these edits bring; after `apply`, or it to the head's `kinds`.
    """

    __slots__ = ("_ends", "_touched", "adds", "edits_forwarded", "has_via", "kinds", "removes", "sets", "via")

    def __init__(
        self,
        sets: Mapping[bytes, Field],
        adds: Sequence[Field],
        removes: frozenset[bytes],
        *,
        has_via: bool = True,
    ) -> None:
        self.sets = dict(sets)
        self.adds = tuple(adds)
        self.removes = removes
        self.kinds = reduce(or_, (field.kind for field in (*self.sets.values(), *self.adds)), 0)
        self._touched = removes.union(self.sets)
        self._ends = (*self.sets.values(), *self.adds)
        self.has_via = has_via
        self.via = VIA if has_via and b"via" not in self._touched else NO_VIA
        self.edits_forwarded = bool(self.kinds & _FORWARDED) or not removes.isdisjoint(_FORWARDED_NAMES)

    def apply_to_response(self, head: ResponseHead) -> list[Field]:
        """
        The edited fields of a response as a new list, after what is added to each: `Via`, and `Date` if it lacks.

        Edits are not for interim responses, but for the switch to another protocol: those stay as they are, which is to
        say that `Via` is still to be added to the list that is the head's own, and not to another one.
        """
        fields = head.fields
        if head.status < 200 and head.status != 101:
            return fields if self.has_via else [*fields]
        if self.has_via:
            fields = [*fields, VIA_FIELDS[head.version]]
        if needs_date(head):
            fields = [*fields, DATE.now()]
        return self.apply(fields)

    def apply(self, fields: list[Field]) -> list[Field]:
        """The edited fields as a new list."""
        touched = self._touched
        out = [field for field in fields if field.name not in touched]
        if len(out) == len(fields) or not self.sets:
            out += self._ends
            return out
        return self._apply_in_place(fields)

    def _apply_in_place(self, fields: list[Field]) -> list[Field]:
        unset = dict(self.sets)
        touched = self._touched
        out: list[Field] = []
        for field in fields:
            if field.name not in touched:
                out.append(field)
            elif field.name in unset:
                out.append(unset.pop(field.name))
        out += unset.values()
        out += self.adds
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeaderEdits) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        sets = frozenset(field.wire for field in self.sets.values())
        return (sets, tuple(field.wire for field in self.adds), self.removes, self.has_via)

    def __repr__(self) -> str:
        sets = [field.wire for field in self.sets.values()]
        return f"<HeaderEdits set={sets} add={[field.wire for field in self.adds]} remove={sorted(self.removes)}>"


def can_edit(name: str) -> bool:
    """
    Whether a header may be edited by configuration.

    Not what frames a message, says where it goes or belongs to one connection: `Host` (see `rewrite.host`),
    `Content-Length`, `Transfer-Encoding`, `Trailer`, `Expect`, `Connection`, `Upgrade`, `TE`, `Keep-Alive` and the
    other hop-by-hop fields; nor what ties a request to its trace: `traceparent`, `tracestate`, `x-request-id`. Also not
    what is no header name at all.
    """
    key = name.lower().encode()
    if not key or key.translate(None, TOKEN):
        return False
    if key in _UNEDITABLE_NAMES:
        return False
    # A value that every field of these kinds accepts; only the kind is of interest.
    return not make_field(key, b"0").kind & _UNEDITABLE_KINDS


def header_edits(
    sets: Mapping[str, str] | None = None,
    adds: Mapping[str, str | Sequence[str]] | None = None,
    removes: Sequence[str] = (),
) -> HeaderEdits | None:
    """
    Compile edits from text, encoded as UTF-8.

    Returns:
        The edits, or None if there is nothing to do.

    Raises:
        ValueError: A header may not be edited or set twice, or a value holds what no header may (CR, LF, NUL and other
            control characters, white space at either end).
    """
    fields: dict[bytes, Field] = {}
    for name, value in (sets or {}).items():
        field = editable_field(name, value)
        if field.name in fields:
            raise ValueError(f"set: {name} is there twice; header names are the same in any case")
        fields[field.name] = field
    added = [
        editable_field(name, value)
        for name, values in (adds or {}).items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    for name in removes:
        _check_name(name)
    removed = frozenset(name.lower().encode() for name in removes)
    return HeaderEdits(fields, added, removed) if fields or added or removed else None


def without_via(edits: HeaderEdits | None) -> HeaderEdits:
    """The same edits, for a configuration that wants no `Via`."""
    if edits is None:
        return HeaderEdits({}, (), frozenset(), has_via=False)
    return HeaderEdits(edits.sets, edits.adds, edits.removes, has_via=False)


def merge_edits(first: HeaderEdits | None, then: HeaderEdits | None) -> HeaderEdits | None:
    """One set of edits that does what `first` and after it `then` would do: the route's, then the target's."""
    if first is None or then is None:
        return then if first is None else first
    gone = then.removes.union(then.sets)
    sets = {name: field for name, field in first.sets.items() if name not in gone} | then.sets
    adds = [field for field in first.adds if field.name not in gone] + list(then.adds)
    return HeaderEdits(sets, adds, first.removes | then.removes, has_via=first.has_via and then.has_via)


def editable_field(name: str, value: str) -> Field:
    """
    A header of the configuration as a field.

    Raises:
        ValueError: As `header_edits`.
    """
    _check_name(name)
    try:
        return make_field(name.encode(), value.encode())
    except ValueError:
        raise ValueError(
            f"{name}: expected a header value, found {value!r}: no line breaks, control characters or outer spaces"
        ) from None


def _check_name(name: str) -> None:
    if not can_edit(name):
        what = "the proxy owns this header" if name.isascii() and name else "not the name of a header"
        raise ValueError(f"expected a header that may be edited, found {name!r}: {what}")
