"""
How the models read values: scalars by a function, and a short form beside the long one. *Cold, pure.*

Pydantic's unions report what every branch disliked. Here a value is brought to its one long form by its shape
first (a string, a mapping, a list), so that only problems of the form that the user wrote are told. Each of these also
says what an editor should accept, for the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Model(BaseModel):
    """
    Base of every part of the configuration: frozen, no unknown keys, no silent conversions.

    Attributes:
        not_yet: Keys of the language that this version does not read yet.
        hints: What to do instead of keys that are looked for here and stand elsewhere.
        is_one_value: Shown to people as one value, not setting by setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=False)
    not_yet: ClassVar[frozenset[str]] = frozenset()
    hints: ClassVar[Mapping[str, str]] = {}
    is_one_value: ClassVar[bool] = False


def expected(what: str, hint: str = "") -> PydanticCustomError:
    """The error `expected <what>, found <the value>`."""
    return PydanticCustomError("expected", "expected a different value", {"message": what, "hint": hint})


def refused(message: str, hint: str = "") -> PydanticCustomError:
    """An error whose message says all; the value is not quoted after it."""
    return PydanticCustomError("refused", "refused", {"message": message, "hint": hint})


def setting(default: Any, description: str, spelled: object = None) -> Any:
    """
    A field with its default and what it means.

    Args:
        default: `...` for a required field.
        spelled: How the file writes the default, where that differs: `1s` for 1.0.
    """
    extra: dict[str, Any] | None = {"default": spelled} if spelled is not None else None
    return Field(default=default, description=description, json_schema_extra=extra)


def listing(description: str) -> Any:
    """A list that is empty by default."""
    return Field(default_factory=list, description=description)


def table(description: str) -> Any:
    """A mapping that is empty by default."""
    return Field(default_factory=dict, description=description)


@dataclass(frozen=True)
class Reads:
    """
    A scalar that `parse` understands.

    Attributes:
        parse: Gets a str, a `Spelled`, None, a list or a dict; returns the value or raises `expected`/`refused`.
        schema: JSON Schema of what may be written.
    """

    parse: Callable[[object], object]
    schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


@dataclass(frozen=True)
class Short:
    """A model that may be written as one scalar, which then is its `key`."""

    key: str
    what: str
    schema: Mapping[str, Any] = field(hash=False, default_factory=lambda: {"type": "string"})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._lengthen, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [dict(self.schema), handler(schema)]}

    def _lengthen(self, value: object) -> object:
        if isinstance(value, str):
            return {self.key: value}
        if isinstance(value, dict | BaseModel):
            return value
        raise expected(self.what)


@dataclass(frozen=True)
class OneOrMany:
    """A list that may be written as its only item."""

    may_be_empty: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = handler(schema)
        if not self.may_be_empty:
            inner["minItems"] = 1
        return {"anyOf": [inner["items"], inner]}

    def _listed(self, value: object) -> object:
        if not isinstance(value, list):
            return value if value is None else [value]
        if not value and not self.may_be_empty:
            raise expected("at least one value", "remove the key if nothing is meant")
        return value


@dataclass(frozen=True)
class FoldedKeys:
    """A mapping by header names, in which `X-A` and `x-a` are the same key."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: object) -> object:
        seen: dict[str, str] = {}
        for key in value if isinstance(value, dict) else ():
            other = seen.setdefault(key.lower(), key)
            if other is not key:
                raise refused(f"`{other}` and `{key}` are the same header", "header names match in any case")
        return value
