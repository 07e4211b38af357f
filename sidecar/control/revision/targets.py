"""Who is to have which file: the seam between what decides and what tells. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What an instance is to run.

    Attributes:
        revision: The number that is told with it; it never falls.
        hash: Of the compiled file.
    """

    revision: int
    hash: str


class Targets(Protocol):
    """Decides."""

    @property
    def revision(self) -> int:
        """The number of the wanted revision; 0 before there is one."""

    def wanted(self, service: str, instance: str, language: int) -> tuple[Wanted | None, str]:
        """
        What an instance is to have, and where it is nothing, why; both empty while that is not known yet.

        Args:
            language: Number of the newest form of a file that it understands.
        """
