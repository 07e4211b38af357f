"""Reads the corpus, and cuts bytes into pieces."""

from __future__ import annotations

import codecs
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent
_REPEATED = re.compile(rb"<<(.+?)\*(\d+)>>", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """
    One file.

    Attributes:
        name: The file's, without its ending.
        data: The bytes on the wire.
        expectations: Values by key, in the order of the file.
    """

    name: str
    data: bytes
    expectations: dict[str, list[str]] = field(default_factory=dict)

    def one(self, key: str, default: str = "") -> str:
        """The only value of a key."""
        values = self.expectations.get(key, [default])
        assert len(values) == 1
        return values[0]

    def requests(self, key: str) -> list[tuple[bytes, bytes, bytes]]:
        """The requests of a key: method, target, body."""
        found = []
        for line in self.expectations.get(key, []):
            method, target, body = line.split(" ")
            found.append((method.encode(), unescape(target), b"" if body == "-" else unescape(body)))
        return found


def unescape(text: str) -> bytes:
    """`\\r\\n` and the like become octets; `<<x*3>>` becomes `xxx`."""
    octets, _ = codecs.escape_decode(text.encode("latin-1"))  # type: ignore[attr-defined]
    return _REPEATED.sub(lambda match: match[1] * int(match[2]), octets)


def cases(folder: str) -> list[Case]:
    """All files of a folder."""
    found = []
    for path in sorted((ROOT / folder).glob("*.http")):
        expectations: dict[str, list[str]] = {}
        text = ""
        for line in path.read_text("latin-1").split("\n"):
            if line.startswith("#! "):
                key, _, value = line[3:].partition(": ")
                expectations.setdefault(key, []).append(value)
            else:
                text += line
        assert "why" in expectations, path
        found.append(Case(path.stem, unescape(text), expectations))
    assert found, folder
    return found


def cuts(case: Case) -> Iterator[tuple[str, list[bytes]]]:
    """The bytes whole, by line, by octet, and at three random places of each of four seeds."""
    data = case.data
    yield "whole", [data]
    yield "lines", re.findall(rb"[^\n]*\n|[^\n]+", data)
    if len(data) <= 2000:
        yield "octets", [data[index : index + 1] for index in range(len(data))]
    else:
        yield "pieces", [data[index : index + 1009] for index in range(0, len(data), 1009)]
    for seed in range(4):
        places = random.Random(f"{case.name} {seed}")
        at = sorted(places.randrange(len(data) + 1) for _ in range(3))
        pieces = [data[begin:end] for begin, end in zip([0, *at], [*at, len(data)], strict=True)]
        yield f"cut at {at}", [piece for piece in pieces if piece]
