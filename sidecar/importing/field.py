"""A place in what comes in: read by the name of a field, and marked with what became of it. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence, describe
from sidecar.config.yaml.scalars import Spelled
from sidecar.importing.account import Account, Mark, Path, shown


class WrongError(Exception):
    """
    A field that cannot be read or followed; what needs it is not imported.

    Attributes:
        field: Where.
        message: What was expected and what was found.
        hint: What to do; may be empty.
    """

    def __init__(self, field: Field, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.hint = hint

    @property
    def problem(self) -> Problem:
        """The same as a problem at its place."""
        node = self.field.node
        return Problem(node.file, node.line, node.column, shown(self.field.path), self.message, self.hint)

    def give_up(self, whole: Field | None = None) -> None:
        """Mark the place as lost, and all else of what cannot do without it (default: the resource) as dropped."""
        if whole is not None and whole.path != self.field.path:
            whole.account.give_up(whole.path, self._because)
        self.field.account.give_up(self.field.path, Mark("dropped", self.message, self.hint, is_lost=True))
        if whole is None:
            self.field.account.mark(self.field.account.at, self._because)

    @property
    def _because(self) -> Mark:
        return Mark("dropped", f"not imported, because of `{shown(self.field.path)}`: {self.message}")


class Shape(Protocol):
    """How one source writes what all of them say."""

    def key(self, node: Mapping, name: str) -> str | None:
        """By which key the mapping has the field of this name, or None."""
        ...

    def opened(self, field: Field) -> Field | None:
        """The field that is meant: a reference followed, a list of one block opened; None if nothing is said."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """
    A value of the input.

    Attributes:
        node: The value; what a reference leads to, where it is one.
        path: Where in its document it is written.
        account: That of its resource.
        shape: How its source writes fields.
    """

    node: Node
    path: Path
    account: Account
    shape: Shape

    def get(self, name: str) -> Field | None:
        """The field of this name, or None if nothing is said."""
        found = self.raw(name)
        return None if found is None else self.shape.opened(found)

    def raw(self, name: str) -> Field | None:
        """The same as it is written: a list of one block as a list."""
        node = self.node
        if isinstance(node, Scalar) and node.value is None:
            return None
        if not isinstance(node, Mapping):
            raise WrongError(self, f"expected a mapping, found {describe(node)}")
        key = self.shape.key(node, name)
        return None if key is None else self.at(key)

    def at(self, step: int | str) -> Field:
        """What this very key or index has."""
        if isinstance(self.node, Sequence) and isinstance(step, int):
            return Field(self.node.items[step], (*self.path, step), self.account, self.shape)
        assert isinstance(self.node, Mapping)
        assert isinstance(step, str)
        return Field(self.node.entries[step][1], (*self.path, step), self.account, self.shape)

    def need(self, name: str) -> Field:
        """
        The field of this name.

        Raises:
            WrongError: There is none.
        """
        found = self.get(name)
        if found is None:
            raise WrongError(self, f"expected `{name}`, found none", "it is required")
        return found

    def each(self, name: str) -> list[Field]:
        """The items of a list; none if nothing is said."""
        found = self.raw(name)
        return [] if found is None else found.items()

    def items(self) -> list[Field]:
        """Of a list."""
        if isinstance(self.node, Scalar) and self.node.value is None:
            return []
        if not isinstance(self.node, Sequence):
            opened = self.shape.opened(self)
            if opened is None:
                return []
            if opened.path == self.path or not isinstance(opened.node, Sequence):
                raise WrongError(self, f"expected a list, found {describe(self.node)}")
            return opened.items()
        found = (self.shape.opened(self.at(index)) for index in range(len(self.node.items)))
        return [item for item in found if item is not None]

    def names(self) -> Iterator[str]:
        """Of a mapping, as they are written."""
        if isinstance(self.node, Mapping):
            yield from self.node.entries

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.node, Mapping)

    def text(self) -> str:
        """A scalar that says something, as it is spelled."""
        if not isinstance(self.node, Scalar) or self.node.value is None:
            raise WrongError(self, f"expected a word, found {describe(self.node)}")
        return self.node.text

    def integer(self) -> int:
        """An integer; one in quotes, too, as templates have them."""
        text = self.text()
        value = self.node.value if isinstance(self.node, Scalar) else None
        if isinstance(value, Spelled) and isinstance(value.value, float) and value.value.is_integer():
            return int(value.value)
        if len(text) > 18 or not text.removeprefix("-").isdecimal() or not text.isascii():
            raise WrongError(self, f"expected an integer, found {describe(self.node)}")
        return int(text)

    def boolean(self) -> bool:
        """`true` or `false`, in any case, as templates have them."""
        text = self.text().lower()
        if text not in ("true", "false"):
            raise WrongError(self, f"expected `true` or `false`, found {describe(self.node)}")
        return text == "true"

    def kept(self, how: str) -> None:
        """It means the same here; `how` says where."""
        self.account.mark(self.path, Mark("kept", how))

    def changed(self, how: str, what_to_do: str = "", *, is_lost: bool = False) -> None:
        """It means nearly the same, or says it otherwise."""
        self.account.mark(self.path, Mark("changed", how, what_to_do, is_lost))

    def dropped(self, why: str, what_to_do: str = "", *, is_lost: bool = False) -> None:
        """Nothing here stands for it."""
        self.account.mark(self.path, Mark("dropped", why, what_to_do, is_lost))

    def put_apart(self) -> None:
        """Another account has it."""
        self.account.apart.add(self.path)

    def drop(self, name: str, why: str, what_to_do: str = "") -> None:
        """Drop the field of this name, if there is one."""
        found = self.raw(name)
        if found is not None:
            found.dropped(why, what_to_do)

    def keep(self, name: str, how: str) -> None:
        """Keep the field of this name, if there is one."""
        found = self.raw(name)
        if found is not None:
            found.kept(how)
