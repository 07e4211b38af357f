"""
Whether a pushed file ends the process again and again. *Cold, pure.*

    start with file F -> in force for SURVIVED_S            F is innocent, and its starts are forgotten
                     |-> ends as it was asked to            they are no more and no less
                     +-> ends otherwise before that         one more; after MAX_STARTS, F is condemned

A condemned file is not run again until another one was pushed, or another release of the sidecar is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

SURVIVED_S: Final = 60.0
MAX_STARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Record:
    """
    What is kept over a restart.

    Attributes:
        hash: Of the file in force; empty for none.
        starts: That ended early with it, one after another.
        is_open: The process runs, and has not survived it yet: if it is read so at a start, that one ended early.
        condemned: Hash of a file that is not run any more; empty for none.
        release: Of the sidecar that wrote this.
        instance: Who it is.
    """

    hash: str = ""
    starts: int = 0
    is_open: bool = False
    condemned: str = ""
    release: str = ""
    instance: str = ""

    def shown(self) -> dict[str, object]:
        """As JSON has it; `read_record` reads it."""
        return {name: getattr(self, name) for name in self.__slots__}


def read_record(value: dict[str, Any] | None) -> Record:
    """What was kept; of what is not understood, nothing."""
    value = value or {}
    texts = {name: value.get(name) for name in ("hash", "condemned", "release", "instance")}
    starts = value.get("starts")
    return Record(
        starts=starts if isinstance(starts, int) and starts >= 0 else 0,
        is_open=value.get("is_open") is True,
        **{name: text if isinstance(text, str) else "" for name, text in texts.items()},
    )


def at_start(record: Record, release: str) -> Record:
    """A process starts: the last one's end is judged by what it has left."""
    if record.release != release:
        return Record(release=release, instance=record.instance)
    starts = record.starts + 1 if record.is_open and record.hash else record.starts
    if starts >= MAX_STARTS:
        return Record("", 0, False, record.hash, release, record.instance)
    return Record(record.hash, starts, False, record.condemned, release, record.instance)


def in_force(record: Record, file_hash: str, *, is_news: bool) -> Record:
    """
    A file was put in force; how often it ended the process is known if it is the same as at the last start.

    Args:
        is_news: The control plane has just said so.
    """
    starts = record.starts if record.hash == file_hash else 0
    condemned = "" if is_news and file_hash != record.condemned else record.condemned
    return Record(file_hash, starts, True, condemned, record.release, record.instance)


def survived(record: Record) -> Record:
    """The file in force was so for SURVIVED_S."""
    return Record(record.hash, 0, False, record.condemned, record.release, record.instance)


def ended(record: Record) -> Record:
    """The process ends as it was asked to."""
    return Record(record.hash, record.starts, False, record.condemned, record.release, record.instance)
