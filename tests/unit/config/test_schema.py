"""The JSON Schema: kept in step, and as wide as the language."""

from __future__ import annotations

import json
import pathlib
import re

import jsonschema
import pytest
import yaml

from sidecar.config.model.root import Config
from sidecar.config.schema import json_schema, json_schema_text
from sidecar.config.values.base import Model

ROOT = pathlib.Path(__file__).parents[3]
EXAMPLE = yaml.safe_load((pathlib.Path(__file__).parent / "design_example.yaml").read_text())


def is_accepted(document: object) -> bool:
    """Whether an editor would show no mark."""
    return jsonschema.Draft202012Validator(json_schema()).is_valid(document)


def models() -> list[type[Model]]:
    """Every model of the language of one sidecar's file."""
    found: list[type[Model]] = []
    waiting = Model.__subclasses__()
    while waiting:
        model = waiting.pop()
        if model.__module__.startswith("sidecar.config."):
            found.append(model)
        waiting += model.__subclasses__()
    assert Config in found
    return found


def test_the_kept_schema_is_the_generated_one() -> None:
    """After a change of the models: `sidecar schema > config/sidecar.schema.json`."""
    assert (ROOT / "config" / "sidecar.schema.json").read_text() == json_schema_text()


def test_the_schema_is_a_schema() -> None:
    """Valid by its own dialect."""
    jsonschema.Draft202012Validator.check_schema(json.loads(json_schema_text()))


def test_the_designs_example_is_accepted() -> None:
    """The full example of the design."""
    jsonschema.Draft202012Validator(json_schema()).validate(EXAMPLE)


@pytest.mark.parametrize(
    "part",
    [
        "service: {name: s, version: 1.1}",
        "outbound: {listen: '127.0.0.1:1'}",
        "outbound: {listen: {address: '127.0.0.1:1', host: a}}",
        "outbound: {listen: ['127.0.0.1:1', {address: 'unix:/a'}]}",
        "outbound: {routes: [{to: [a, {upstream: b, weight: 5%}], sticky: source_ip, match: [{host: a}, {}]}]}",
        "outbound: {routes: [{match: {path: /a, methods: GET, cookies: {B: true}, query: {a: {range: [1, 2]}}}}]}",
        "outbound: {routes: [{request_headers: {add: {a: b, c: [d, e]}, remove: x}, timeout: '${T:-2s}'}]}",
        "upstreams: {a: {load_balancing: {hash: source_ip}, hosts: a, endpoints: []}}",
        "upstreams: {a: {load_balancing: '${LB}', connect_timeout: '${T}'}}",
        "limits: {max_header_bytes: 1024, max_headers: '${N}'}",
        "drain: {timeout: 0}",
        "telemetry: {traces: {sample: 10%}}",
    ],
)
def test_short_and_long_forms_are_accepted(part: str) -> None:
    """What `sidecar check` accepts gets no mark in an editor."""
    assert is_accepted({"service": "s", **yaml.safe_load(part)})


@pytest.mark.parametrize(
    "part",
    [
        "servce: s", "outbound: {unmatched: maybe}", "outbound: {routes: [{too: a}]}", "drain: {timeout: 20}",
        "drain: {timeout: null}", "upstreams: {a: {load_balancing: fastest}}", "limits: {max_headers: many}",
        "upstreams: {a: {dns: shop}}", "outbound: {routes: [{to: {a: -1}}]}",
    ],
)  # fmt: skip
def test_mistakes_are_marked(part: str) -> None:
    """Unknown keys, words of no choice, numbers without a unit, nulls."""
    assert not is_accepted({"service": "s", **yaml.safe_load(part)})


def test_every_key_has_a_description_and_every_default_is_valid() -> None:
    """What an editor shows is what the file would have to say."""
    schema = json_schema()
    for name, definition in {"Config": schema, **schema["$defs"]}.items():
        for key, value in definition["properties"].items():
            model = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            assert value.get("description") or model.get("description"), f"{name}.{key}"
            if "default" in value:
                validator = jsonschema.Draft202012Validator({**value, "$defs": schema["$defs"]})
                assert validator.is_valid(value["default"]), f"{name}.{key}"


def test_every_key_is_in_the_documentation() -> None:
    """`docs/configuration.md` names each key of each model as code."""
    words = set(re.findall(r"[`{ ]([a-z0-9_]+)[`:,}]", (ROOT / "docs" / "configuration.md").read_text()))
    missing = {f"{model.__name__}.{key}" for model in models() for key in model.model_fields if key not in words}
    assert missing == set()
