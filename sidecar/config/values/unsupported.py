"""
Keys of the language that are not in force yet: known, described, and refused. *Cold, pure.*

This is the one list of them. A key leaves it in the change that makes the data path keep its promise; until then a file
that uses it is refused, because a limit that is read and not kept is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sidecar.config.values.base import refused

NOT_YET: frozenset[str] = frozenset({"listen.protocol.tls"})
"""`section.key`, or the key alone at the top level; of words `section.key.word`."""

MESSAGE: Final = "`{}` is not supported yet by this version"
HINT: Final = "remove it; a later version will read it"


@dataclass(frozen=True)
class Unsupported:
    """Refuses the value of a key for as long as `NOT_YET` has it."""

    name: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._refuse, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # An editor marks the key: no value is good for it.
        return {"not": {}} if self.name in NOT_YET else handler(schema)

    def _refuse(self, value: object) -> object:
        if self.name not in NOT_YET:
            return value
        key = self.name.rpartition(".")[2]
        raise PydanticCustomError("not_yet", "not supported yet", {"message": MESSAGE.format(key), "hint": HINT})


@dataclass(frozen=True)
class UnsupportedWords:
    """The same for words of a choice: `section.word`."""

    section: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._refuse, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = handler(schema)
        return {**inner, "enum": [word for word in inner["enum"] if f"{self.section}.{word}" not in NOT_YET]}

    def _refuse(self, value: object) -> object:
        if isinstance(value, str) and f"{self.section}.{value}" in NOT_YET:
            raise refused(MESSAGE.format(value), HINT)
        return value
