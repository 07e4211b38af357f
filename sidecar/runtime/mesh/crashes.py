"""
Whether a pushed file ends the process again and again. *Cold, pure.*

    start with file F -> in force for SURVIVED_S            F is innocent, and its starts are forgotten
                     |-> ends as it was asked to            they are no more and no less
                     +-> ends otherwise before that         one more; after MAX_STARTS, F is condemned

Starts are counted by file: each may have begun with the last good one from disk, before F was pushed again.
Another file that is pushed ends the count of all others.

A condemned file is not run again until another one was pushed, or another release of the sidecar is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SURVIVED_S: Final = 60.0
MAX_STARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Record:
    """
    What is kept over a restart.

    Attributes:
        hash: Of the file in force; empty for none.
        starts: That ended early, by the hash of the file in force at the end.
        is_open: The process runs, and has not survived it yet: if it is read so at a start, that one ended early.
        condemned: Hash of a file that is not run any more; empty for none.
        release: Of the sidecar that wrote this.
        instance: Who it is.
    """

    hash: str = ""
    starts: Mapping[str, int] = field(default_factory=dict)
    is_open: bool = False
    condemned: str = ""
    release: str = ""
    instance: str = ""

    def shown(self) -> dict[str, object]:
        """As JSON has it; `read_record` reads it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"starts": dict(self.starts)}


def read_record(value: dict[str, Any] | None) -> Record:
    """What was kept; of what is not understood, nothing."""
    value = value or {}
    texts = {name: value.get(name) for name in ("hash", "condemned", "release", "instance")}
    starts = value.get("starts")
    counts = starts.items() if isinstance(starts, dict) else ()
    return Record(
        starts={
            name: count
            for name, count in counts
            if isinstance(name, str) and isinstance(count, int) and 0 < count < MAX_STARTS
        },
        is_open=value.get("is_open") is True,
        **{name: text if isinstance(text, str) else "" for name, text in texts.items()},
    )


def at_start(record: Record, release: str) -> Record:
    """A process starts: the last one's end is judged by what it has left."""
    if record.release != release:
        return Record(release=release, instance=record.instance)
    starts = dict(record.starts)
    if record.is_open and record.hash:
        starts[record.hash] = starts.get(record.hash, 0) + 1
        if starts[record.hash] >= MAX_STARTS:
            del starts[record.hash]
            return Record("", starts, False, record.hash, release, record.instance)
    return Record(record.hash, starts, False, record.condemned, release, record.instance)


def in_force(record: Record, file_hash: str, *, is_news: bool) -> Record:
    """
    A file was put in force.

    Args:
        is_news: The control plane has just said so.
    """
    starts = {name: count for name, count in record.starts.items() if name == file_hash or not is_news}
    condemned = "" if is_news and file_hash != record.condemned else record.condemned
    return Record(file_hash, starts, True, condemned, record.release, record.instance)


def survived(record: Record) -> Record:
    """The file in force was so for SURVIVED_S."""
    starts = {name: count for name, count in record.starts.items() if name != record.hash}
    return Record(record.hash, starts, False, record.condemned, record.release, record.instance)


def ended(record: Record) -> Record:
    """The process ends as it was asked to."""
    return Record(record.hash, record.starts, False, record.condemned, record.release, record.instance)
