"""
Where frames come from: the seam between whoever puts a configuration in force and whoever has it. *Cold.*

A `ConfigLoader` asks it for frames and does not know who made them. `compiler_process` has the one that starts a
compiler; a worker's gets them from its supervisor.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class PlanSourceError(Exception):
    """There are no frames, for a reason that is not in the file; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """
    A file that a control plane pushed, or one that stands for it.

    Attributes:
        name: As problems show it; of one that is read from disk, its path.
        hash: By which the control plane knows it; empty for one that it does not know.
        text: YAML; None to read it from disk.
    """

    name: str
    hash: str = ""
    text: str | None = None


@dataclass(slots=True)
class MeshRequest:
    """
    What a configuration is made of besides the local file, for a sidecar that follows a control plane.

    Attributes:
        options: Of the command line (`config.merge.OPTIONS`).
        is_optional: Whether the local file may be absent.
        pushed: The file to be run; None as long as there is none.
    """

    options: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    is_optional: bool = False
    pushed: Pushed | None = None

    def shown(self) -> dict[str, object]:
        """As the compiler reads it."""
        pushed = None
        if self.pushed is not None:
            pushed = {name: value for name, value in asdict(self.pushed).items() if value is not None}
        return {"options": dict(self.options), "is_optional": self.is_optional, "pushed": pushed}


@dataclass(frozen=True, slots=True)
class PreviewQuestion:
    """
    What another configuration would do with the requests that were seen last.

    Attributes:
        live: Frames of the configuration in force.
        rings: Of each process' requests, as `insight.preview.wire.pack` makes them.
        name: Of the other file, as its problems and positions show it.
        text: What it says, in octets; of no use with `new`.
        new: Its frames, if it was found good already; else none.
    """

    live: Sequence[bytes]
    rings: Sequence[Sequence[bytes]]
    name: str
    text: bytes = b""
    new: Sequence[bytes] = ()


class PlanSource(Protocol):
    """Whoever has the configuration that is to be in force."""

    async def report(self, question: PreviewQuestion) -> dict[str, Any]:
        """
        What `insight.preview` says; `docs/preview.md` has the keys.

        Raises:
            PlanSourceError: It says nothing.
            FrameError: What came is no frame.
        """
        ...

    def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        """
        All frames of the configuration as it is now, the header first, `END` last; each as `read_frame` returns it.

        The caller reads them to the end or closes the iterator, at which the source gives up what it was doing. It may
        be called again only then.

        Args:
            trigger: Why: `start`, `file`, `signal`, `admin` or `retry`; of a pushed file by where it was had from,
                `control`, `last_good` or `bootstrap`.

        Raises:
            PlanSourceError: There will be no (further) frames; those that came are void.
            FrameError: What came is no frame.
        """
        ...
