"""A compiled file as the control plane keeps it: what a sidecar gets, and where its endpoints come from. *Pure.*"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.link.fields import Fields, MessageError, decode
from sidecar.link.messages import MAX_FILE_BYTES, MAX_UPSTREAMS

MAX_SOURCES: Final = 64
"""Of one upstream."""


@dataclass(frozen=True, slots=True)
class Source:
    """
    One place where endpoints come from.

    Attributes:
        kind: `registered`, `kubernetes`, `etcd`, `file`, `dns`, `endpoints`.
        said: What the mesh's file says of it, as JSON with sorted keys: so that equal ones are equal and hashable. It
            may be long (a list of endpoints), and is in the file of every caller, so it is one object wherever it comes
            from: in memory once, and compared by looking at it.
    """

    kind: str
    said: str = "null"

    def __post_init__(self) -> None:
        object.__setattr__(self, "said", sys.intern(self.said))

    def __reduce__(self) -> tuple[type[Source], tuple[str, str]]:
        # The way of dataclasses with slots passes `__post_init__` by.
        return Source, (self.kind, self.said)

    @classmethod
    def of(cls, kind: str, values: object) -> Source:
        """From values that JSON can hold."""
        return cls(kind, json.dumps(values, sort_keys=True, separators=(",", ":")))

    @property
    def values(self) -> Any:
        """What the mesh's file says."""
        return json.loads(self.said)


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where the endpoints of an upstream come from: all that its sources have, together.

    Attributes:
        service: Whose instances these are.
        port: Name of the port, for registrations.
    """

    service: str
    port: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class CompiledFile:
    """
    What the sidecars of a service get.

    Attributes:
        hash: Of the values of the text.
        discovers: By the name in `discover`.
        callees: Services that it calls.
        language: That a sidecar has to know to read it.
    """

    service: str
    hash: str
    text: str
    discovers: Mapping[str, Origin] = field(default_factory=dict)
    callees: tuple[str, ...] = ()
    language: int = 1

    def to_octets(self) -> bytes:
        """To be kept by an engine."""
        discovers = {
            name: {
                "service": origin.service,
                "port": origin.port,
                "sources": [{"kind": one.kind, "said": one.said} for one in origin.sources],
            }
            for name, origin in self.discovers.items()
        }
        values = {
            "service": self.service, "hash": self.hash, "file": self.text, "discovers": discovers,
            "callees": list(self.callees), "language": self.language,
        }  # fmt: skip
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def from_octets(cls, octets: bytes) -> CompiledFile:
        """
        What `to_octets` gave.

        Raises:
            MessageError: It is damaged.
        """
        fields = decode(octets)
        return cls(
            fields.text("service"),
            fields.text("hash"),
            fields.text("file", limit=MAX_FILE_BYTES),
            fields.table("discovers", MAX_UPSTREAMS, _origin),
            tuple(fields.texts("callees", MAX_UPSTREAMS)),
            fields.integer("language", 1),
        )


class Octets(Mapping[str, bytes]):
    """
    Compiled files as an engine keeps them, by hash; each is written when it is asked for, for most are kept already.

    Args:
        files: By hash.
    """

    def __init__(self, files: Mapping[str, CompiledFile]) -> None:
        self._files = files

    def __getitem__(self, key: str) -> bytes:
        return self._files[key].to_octets()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _origin(discovers: Fields, name: str) -> Origin:
    fields = discovers.part(name)
    if fields is None:
        raise MessageError(f"discovers.{name}: the field is missing")
    sources = tuple(
        Source(one.text("kind"), one.text("said", limit=MAX_FILE_BYTES))
        for one in fields.objects("sources", MAX_SOURCES)
    )
    return Origin(fields.text("service"), fields.text("port"), sources)
