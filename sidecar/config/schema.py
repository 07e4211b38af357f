"""The JSON Schema of the file, for editors: generated from the models, short forms included. *Cold, pure.*"""

from __future__ import annotations

import json
from typing import Any, Final

from sidecar.config.model.root import Config
from sidecar.config.values.base import Model

SCHEMA_ID: Final = "https://json-schema.org/draft/2020-12/schema"

_VARIABLE: Final = r"\$\{"


def json_schema() -> dict[str, Any]:
    """
    What an editor needs to complete and check the file.

    It accepts every file that `load_text` accepts; the rules between values and the finer grammar of single values
    are told by `sidecar check` only.
    """
    return schema_of(Config, "sidecar configuration")


def schema_of(model: type[Model], title: str) -> dict[str, Any]:
    """The schema of a kind of file whose whole is this model."""
    generated: dict[str, Any] = _without_null(model.model_json_schema(mode="validation"))
    generated["title"] = title
    return {"$schema": SCHEMA_ID, **generated}


def json_schema_text() -> str:
    """The schema as it is kept in `config/sidecar.schema.json`, with a line end."""
    return schema_text(json_schema())


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as text, with a line end."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _without_null(schema: Any) -> Any:
    """
    Take out what pydantic says of None, which the models know but the file has no word for.

    `anyOf` with null becomes its other branch; pydantic's titles and defaults that say nothing go.
    """
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _without_null(below) for name, below in value.items()}
        elif not (key == "title" and isinstance(value, str)) and not (key == "default" and _says_nothing(value)):
            out[key] = _without_null(value)
    if out.get("not") == {}:
        out.pop("default", None)  # a key that is not in force has no value
    branches = [branch for branch in out.get("anyOf", []) if branch != {"type": "null"}]
    if "anyOf" in out:
        del out["anyOf"]
        if len(branches) == 1 and not branches[0].keys() & out.keys():
            out = {**branches[0], **out}
        else:
            out["anyOf"] = branches
    return _with_variables(out)


def _says_nothing(default: Any) -> bool:
    """A section's default is those of its keys, which are told there and as the file writes them."""
    return default is None or isinstance(default, dict)


def _with_variables(schema: dict[str, Any]) -> dict[str, Any]:
    """A value that is no free text may also be a variable, which only the environment can judge."""
    if "pattern" in schema:
        return {**schema, "pattern": f"({schema['pattern']})|{_VARIABLE}"}
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema or "const" in schema:
        about: dict[str, Any] = {key: schema.pop(key) for key in ("default", "description") if key in schema}
        return {**about, "anyOf": [schema, {"type": "string", "pattern": _VARIABLE}]}
    return schema
