"""
Where frames come from: the seam between whoever puts a configuration in force and whoever has it. *Cold.*

A `ConfigLoader` asks it for frames and does not know who made them. `compiler_process` has the one that starts a
compiler; a worker's gets them from its supervisor.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol


class PlanSourceError(Exception):
    """There are no frames, for a reason that is not in the file; the message says why, in one line."""


class PlanSource(Protocol):
    """Whoever has the configuration that is to be in force."""

    def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        """
        All frames of the configuration as it is now, the header first, `END` last; each as `read_frame` returns it.

        The caller reads them to the end or closes the iterator, at which the source gives up what it was doing. It may
        be called again only then.

        Args:
            trigger: Why: `start`, `file`, `signal`, `admin` or `retry`.

        Raises:
            PlanSourceError: There will be no (further) frames; those that came are void.
            FrameError: What came is no frame.
        """
        ...
