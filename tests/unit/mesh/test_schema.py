"""The JSON Schemas of a mesh's files: kept in step, and as wide as the language."""

from __future__ import annotations

import json
import pathlib
import re

import jsonschema
import pytest
import yaml

from sidecar.config.model.root import Route, UpstreamPolicy
from sidecar.config.values.base import Model
from sidecar.mesh.schema import KINDS, mesh_schema, mesh_schema_text

ROOT = pathlib.Path(__file__).parents[3]
SHARED = (Route, UpstreamPolicy)
"""Their keys are in docs/configuration.md."""

EXAMPLES = sorted((ROOT / "config" / "examples" / "mesh").rglob("*.yaml"))


def is_accepted(document: object, kind: str = "") -> bool:
    """Whether an editor would show no mark."""
    return jsonschema.Draft202012Validator(mesh_schema(kind)).is_valid(document)


def models() -> list[type[Model]]:
    """Every model that only a mesh's files have."""
    found: list[type[Model]] = []
    waiting = Model.__subclasses__()
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__module__.startswith("sidecar.mesh."):
            found.append(model)
    return found


def test_the_kept_schema_is_the_generated_one() -> None:
    """After a change of the models: `sidecar mesh schema > config/mesh.schema.json`."""
    assert (ROOT / "config" / "mesh.schema.json").read_text() == mesh_schema_text()


@pytest.mark.parametrize("kind", ["", *KINDS])
def test_the_schemas_are_schemas(kind: str) -> None:
    """Valid by their own dialect."""
    jsonschema.Draft202012Validator.check_schema(json.loads(mesh_schema_text(kind)))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_the_examples_are_accepted(path: pathlib.Path) -> None:
    """By the schema of their kind, and by the one for both."""
    document = yaml.safe_load(path.read_text())
    assert is_accepted(document)
    assert is_accepted(document, "mesh" if path.name == "mesh.yaml" else "service")
    assert not is_accepted(document, "service" if path.name == "mesh.yaml" else "mesh")


@pytest.mark.parametrize(
    "part",
    [
        "hosts: a", "hosts: ['a:80', b]", "ports: {http: 'h:1', grpc: {app: 'h:2', protocol: http}}", "callers: mesh",
        "callers: [a, b]", "callers: []", "instances: {v: {registered: {version: 1.1}}, w: {endpoints: ['h:1']}}",
        "instances: {v: {kubernetes: {service: s, port: 80}}}",
        "calls: {b: {listen: '127.0.0.1:1', routes: [{overrides: t}]}}",
        "routes: [{to: {v: 5%}}]", "timeout: 2s", "circuit_breaker: {max_requests: 5}", "host: keep", "dns: h:1",
    ],
)  # fmt: skip
def test_what_check_accepts_gets_no_mark(part: str) -> None:
    """Short and long forms."""
    assert is_accepted({"service": "s", **yaml.safe_load(part)})


@pytest.mark.parametrize(
    "part",
    [
        "servce: s",
        "callers: 5",
        "calls: [b]",
        "instances: {v: {register: {}}}",
        "host: maybe",
        "discover: x",
        "app: 8080",
    ],
)
def test_mistakes_are_marked(part: str) -> None:
    """Unknown keys and words."""
    assert not is_accepted({"service": "s", **yaml.safe_load(part)})


def test_the_waves_of_a_rollout_are_known_to_an_editor() -> None:
    """Words and shares."""
    assert is_accepted({"mesh": "m", "rollout": {"waves": ["one", "10%", "100%"]}})
    assert not is_accepted({"mesh": "m", "rollout": {"waves": ["some"]}})


def test_every_key_has_a_description_and_every_default_is_valid() -> None:
    """What an editor shows is what the file would have to say."""
    schema = mesh_schema()
    for name, definition in schema["$defs"].items():
        for key, value in definition["properties"].items():
            model = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            assert value.get("description") or model.get("description"), f"{name}.{key}"
            if "default" in value:
                validator = jsonschema.Draft202012Validator({**value, "$defs": schema["$defs"]})
                assert validator.is_valid(value["default"]), f"{name}.{key}"


def test_every_key_is_in_the_documentation() -> None:
    """`docs/mesh.md` names each key that only a mesh's files have as code."""
    words = set(re.findall(r"[`{ ]([a-z0-9_]+)[`:,}]", (ROOT / "docs" / "mesh.md").read_text()))
    missing = set()
    for model in models():
        shared = {key for parent in model.__mro__[1:] if parent in SHARED for key in parent.model_fields}
        missing |= {f"{model.__name__}.{key}" for key in model.model_fields if key not in words | shared}
    assert missing == set()
