"""A setting that one field or block of the input says, with the marks that it gets if it is taken. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar.importing.account import Mark
from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError


@dataclass(slots=True)
class Said:
    """
    A setting.

    Attributes:
        key: Where in the service's file: `("inbound", "circuit_breaker")`.
        block: What says it.
        origin: Of which resource.
        value: In our words.
        marks: Of the fields in it, if it is taken.
    """

    key: tuple[str, ...]
    block: Field
    origin: str
    value: dict[str, Plain] | str
    marks: list[tuple[Field, Mark]] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The key, as people write it."""
        return "inbound.routes, timeout" if self.key == ("inbound", "timeout") else ".".join(self.key)

    def put(self, name: str, found: Field | None, word: Callable[[Field], Plain], how: str = "") -> None:
        """Set a key of the value from a field, if it is there."""
        assert isinstance(self.value, dict)
        if found is not None:
            self.value[name] = word(found)
            self.note(found, Mark("changed" if how else "kept", how or f"{self.where}.{name}"))

    def note(self, found: Field | None, mark: Mark) -> None:
        """Mark a field, if it is there."""
        if found is not None:
            self.marks.append((found, mark))

    def take(self, how: str = "") -> None:
        """Mark all: it stands in the service's file."""
        for found, mark in self.marks:
            found.account.mark(found.path, mark)
        self.block.kept(how or self.where)

    def leave(self, why: str) -> None:
        """Mark all: another one stands in its place."""
        self.block.changed(why, "look whether it is good for all of them", is_lost=False)


def within(found: Field, lowest: int, highest: int) -> int:
    """An integer, brought into bounds that ours has and the other mesh has not."""
    value = found.integer()
    if value < 0:
        raise WrongError(found, f"expected a number that is not negative, found {value}")
    return min(max(value, lowest), highest)
