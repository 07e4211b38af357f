"""What an account does not show of a request. *Cold, pure.*"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from sidecar.redact import HIDDEN, Secrets, is_sensitive

_PAIR: Final = re.compile(r"(?<![^?&])([^=&]+)=([^&]*)")


@dataclass(frozen=True, slots=True)
class Veil:
    """
    Secrets, by their names and values.

    Attributes:
        secrets: Of the configuration.
        parts: What else is hidden, as `Condition.part` says it: of a request that was served, what was only hashed.
    """

    secrets: Secrets
    parts: Set[str] = frozenset()

    def covers(self, part: str) -> bool:
        """Whether the value of a header, cookie or parameter is hidden, whatever it is."""
        name = part.partition(" ")[2]
        return part in self.parts or (bool(name) and is_sensitive(name))

    def line(self, line: str) -> str:
        """A line of a head."""
        name, colon, _ = line.partition(":")
        if colon and " " not in name and self.covers(f"header {name.lower()}"):
            return f"{name}: {HIDDEN}"
        return self.secrets.hide(self._parameters(line))

    def query(self, query: str) -> str:
        """What follows `?`."""
        return self.secrets.hide(f"?{self._parameters(query)}")[1:]

    def _parameters(self, text: str) -> str:
        if not any(part.startswith("query ") for part in self.parts):
            return text
        return _PAIR.sub(lambda found: f"{found[1]}={HIDDEN}" if self.covers(f"query {found[1]}") else found[0], text)
