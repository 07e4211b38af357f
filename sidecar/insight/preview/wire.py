"""The entries of a ring on their way to another process. *Cold, pure.* Both ends are the same program (`marshal`)."""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Sequence

from sidecar.proxy.recent import Entry, Kept, KeptField, Recent, entries_of


def pack(recent: Recent) -> list[bytes]:
    """All that a ring has, as it is kept: no more than some microseconds, however much that is."""
    known = [(kept.number, kept.said()) for kept in recent.known()]
    return [marshal.dumps((recent.key, recent.keep, known)), *recent.octets()]


def unpack(blocks: Sequence[bytes]) -> Iterator[Entry]:
    """The entries of what `pack` made, newest first."""
    key, keep, known = marshal.loads(blocks[0])
    recent = Recent(key)
    described: dict[int, Kept] = {}
    for number, (side, direction, fields, tokens) in known:
        described[number] = Kept(side, direction, [KeptField(*field) for field in fields], tokens, recent)
    yield from entries_of(blocks[1:], described, keep)
