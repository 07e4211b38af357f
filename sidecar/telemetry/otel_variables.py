"""OpenTelemetry's variables as its specification has them read ("Environment Variable Specification"). *Cold.*"""

from __future__ import annotations

from collections.abc import Mapping


class Variables:
    """
    The environment, and what is said about values that nobody understands.

    "The SDK MUST interpret an empty value of an environment variable the same way as when the variable is unset."

    Attributes:
        complaints: A line each; such a value counts as unset.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.complaints: list[str] = []

    def first(self, *names: str) -> str:
        """Name of the first of these variables that is set, or an empty string."""
        return next((name for name in names if self.text(name)), "")

    def text(self, *names: str) -> str:
        """Value of the first of these variables that is set, or an empty string."""
        return next((value for name in names if (value := self._environment.get(name, "").strip())), "")

    def word(self, *names: str) -> str:
        """The same of a word, in lower case: they "SHOULD be interpreted in a case-insensitive manner"."""
        return self.text(*names).lower()

    def is_true(self, name: str) -> bool:
        """Whether a boolean variable is `true`, in any case; anything else is false."""
        return self.word(name) == "true"

    def complain(self, line: str) -> None:
        """Remember what is to be told once."""
        if line not in self.complaints:
            self.complaints.append(line)
