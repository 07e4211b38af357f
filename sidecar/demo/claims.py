"""Claims of an unattended demonstration, and what became of each."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


class Claims:
    """Says a line for each claim as it is settled, and remembers whether all held."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.failed = 0
        self.held = 0

    def settle(self, is_true: bool, text: str) -> None:
        """One claim, with the numbers that decide it."""
        if is_true:
            self.held += 1
        else:
            self.failed += 1
        self.say(f"{'ok    ' if is_true else 'FAILED'}  {text}")
