"""
What sidecars counted, from one replica to another when somebody asks for it. *Pure.*

Rows of names and sums; of a histogram only what is not zero, as index and count: most of it is. Sums of several
replicas are those of all, since each sidecar reports to one of them at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from sidecar.control.calls.counted import MAX_REASONS, Tally
from sidecar.control.calls.edges import MAX_EDGES, AskedKey, EdgeKey
from sidecar.link.fields import MAX_TEXT_CHARS, MessageError, decode
from sidecar.link.report import LATENCY_BOUNDS_S, NOTHING_CARRIED, Carried

_BUCKETS: Final = len(LATENCY_BOUNDS_S) + 1
_SUMS: Final = 6
_K = TypeVar("_K")


def tally_rows(tallies: Iterable[tuple[tuple[str, ...], Tally]]) -> list[list[Any]]:
    """For JSON: names, then what was counted."""
    return [[*key, *_values(tally)] for key, tally in tallies]


def read_tallies(rows: object, names: int, limit: int = MAX_EDGES) -> list[tuple[tuple[str, ...], Tally]]:
    """
    What `tally_rows` gave, after it was JSON.

    Args:
        names: How many each row begins with.
        limit: Of rows.

    Raises:
        MessageError: It is not of this form.
    """
    if not isinstance(rows, list) or len(rows) > limit:
        raise MessageError(f"rows: expected a list of at most {limit}")
    return [_read(row, names) for row in rows]


class Window(NamedTuple):
    """The last minute: outbound edges, and who asked how often."""

    edges: Mapping[EdgeKey, Tally]
    asked: Mapping[AskedKey, int]


def asked_rows(asked: Mapping[AskedKey, int]) -> list[list[Any]]:
    """For JSON: names, then how often."""
    return [[*key, requests] for key, requests in asked.items()]


def read_window(raw: bytes) -> Window:
    """Of all outbound edges, by what `EdgeKey` begins with, and of who asked. Raises MessageError."""
    said = decode(raw).all()
    edges = {EdgeKey(*key): tally for key, tally in read_tallies(said.get("rows"), 4)}
    rows = said.get("asked", [])
    if not isinstance(rows, list) or len(rows) > MAX_EDGES:
        raise MessageError(f"asked: expected a list of at most {MAX_EDGES}")
    return Window(edges, dict(map(_asked, rows)))


def joined(parts: Iterable[Mapping[_K, Tally]]) -> dict[_K, Tally]:
    """Sums of all."""
    found: dict[_K, Tally] = {}
    for part in parts:
        for key, tally in part.items():
            if key not in found:
                found[key] = Tally()
            found[key].merge(tally)
    return found


def _values(tally: Tally) -> list[Any]:
    latency = [number for pair in enumerate(tally.latency) if pair[1] for number in pair]
    sums = [
        tally.requests, tally.request_bytes, tally.response_bytes, tally.errors, tally.secured, tally.clear
    ]  # fmt: skip
    tcp = [list(tally.tcp)] if any(tally.tcp) else []
    return [*sums, dict(tally.failures), latency, *tcp]


def _read(row: object, names: int) -> tuple[tuple[str, ...], Tally]:
    whole = names + _SUMS + 2
    if not isinstance(row, list) or len(row) not in (whole, whole + 1):
        raise MessageError(f"rows: expected lists of {whole}, or one more of what was carried")
    key, sums, (reasons, pairs) = tuple(row[:names]), row[names : names + _SUMS], row[names + _SUMS : whole]
    tcp = row[whole] if len(row) > whole else NOTHING_CARRIED
    if not isinstance(tcp, Sequence) or len(tcp) != len(NOTHING_CARRIED):
        raise MessageError(f"rows: expected {len(NOTHING_CARRIED)} counts of what was carried")
    if not all(isinstance(name, str) and len(name) <= MAX_TEXT_CHARS for name in key):
        raise MessageError(f"rows: expected {names} names of at most {MAX_TEXT_CHARS} characters")
    if not isinstance(reasons, dict) or len(reasons) > MAX_REASONS:
        raise MessageError(f"rows: expected at most {MAX_REASONS} failures by their reasons")
    if not isinstance(pairs, list) or len(pairs) % 2 or len(pairs) > 2 * _BUCKETS:
        raise MessageError("rows: expected pairs of index and count")
    if not all(_is_count(number) for part in (sums, reasons.values(), pairs, tcp) for number in part):
        raise MessageError("rows: expected integers from 0 to 2^53")
    latency = [0] * _BUCKETS
    for index, count in zip(pairs[::2], pairs[1::2], strict=True):
        if index >= _BUCKETS:
            raise MessageError(f"rows: expected {_BUCKETS} counts of latency")
        latency[index] += count
    requests, request_bytes, response_bytes, errors, secured, clear = sums
    return key, Tally(
        requests, request_bytes, response_bytes, Counter(reasons), errors, latency, secured, clear, Carried(*tcp)
    )  # fmt: skip


def _asked(row: object) -> tuple[AskedKey, int]:
    names = len(AskedKey._fields)
    if not isinstance(row, list) or len(row) != names + 1 or not _is_count(row[names]):
        raise MessageError(f"asked: expected lists of {names} names and a count")
    if not all(isinstance(name, str) and len(name) <= MAX_TEXT_CHARS for name in row[:names]):
        raise MessageError(f"asked: expected {names} names of at most {MAX_TEXT_CHARS} characters")
    return AskedKey(*row[:names]), row[names]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= 1 << 53
