"""
Compiled files as trees of values, and back: what `control.rollout` cuts and joins. *Pure.*

Scalars keep their spelling: one that was plain is `Spelled`, as the sidecar itself reads it, and is written plain
again, so that `version: 1.10` stays what it was.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from sidecar.config.yaml.scalars import Spelled, resolve_plain
from sidecar.control.rollout.proposal import Rendered

_NOTE = "# The step between two revisions: what widens comes first, what narrows last.\n"


def tree_of(text: str) -> Any:
    """The values of a compiled file."""
    node = yaml.compose(text, Loader=yaml.CBaseLoader)  # tags are not asked for: what a scalar is, `_value` says
    return _value(node) if node is not None else {}


def tree_of_values(octets: bytes) -> Any:
    """The same tree from the values in canonical form (`mesh.compile.Compiled.values`), some six times faster."""
    return _escaped(json.loads(octets))


def render(tree: Any) -> Rendered:
    """A file in between, as sidecars get it; equal trees have equal hashes."""
    text = _NOTE + yaml.dump(tree, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=1_000_000)
    plain = json.dumps(_canonical(tree), ensure_ascii=True, separators=(",", ":"))
    return Rendered(hashlib.sha256(plain.encode()).hexdigest()[:32], text)


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key.value: _value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return resolve_plain(node.value) if not node.style and node.value else node.value


def _escaped(value: Any) -> Any:
    """As `write` spells it: what looks like a variable is none."""
    if isinstance(value, dict):
        return {key.replace("${", "$${"): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        if len(value) == 2 and value[0] is None:
            return resolve_plain(value[1])
        return [_escaped(inner) for inner in value]
    return value.replace("${", "$${")


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return [str(value)] if isinstance(value, Spelled) else value


class _Writer(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written out where it stands."""
        return True


def _represent(writer: _Writer, value: Spelled) -> yaml.ScalarNode:
    tag = writer.resolve(yaml.ScalarNode, str(value), (True, False))  # type: ignore[no-untyped-call]
    return writer.represent_scalar(tag, str(value))


_Writer.add_representer(Spelled, _represent)
