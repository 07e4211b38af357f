"""
What a tree says, as plain values: aliases followed, keys merged. *Cold, pure.*

Plain words are read by YAML 1.2's core schema. Where YAML 1.1 differs (`yes`, `0777`, `12:30`), nothing that a sidecar
needs to know is written so.
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.config.yaml.scalars import Spelled, resolve_plain
from sidecar.inject.edits import Value
from sidecar.inject.text.tree import MERGE, Alias, Mapping, Node, Scalar, Sequence, word_of

_STRING_TAGS = ("!", "tag:yaml.org,2002:str")


@dataclass(frozen=True, slots=True)
class Tagged:
    """What has a tag whose meaning is somebody else's, such as CloudFormation's `!Ref`."""

    tag: str
    value: Value


def value_of(node: Node | None) -> Value:
    """The value of a node; None for what is not there."""
    if node is None:
        return None
    if isinstance(node, Alias):
        return value_of(node.target)
    value: Value
    if isinstance(node, Scalar):
        value = _scalar(node)
    elif isinstance(node, Sequence):
        value = [value_of(item) for item in node.items]
    else:
        assert isinstance(node, Mapping)
        value = _mapping(node)
    is_tagged = node.tag is not None and not (isinstance(node, Scalar) and node.tag in _STRING_TAGS)
    return Tagged(node.tag or "", value) if is_tagged else value


def merged_into(node: Mapping) -> dict[str, Value]:
    """What `<<` brings into a mapping, its own keys left out of account; of several that have a key the first."""
    found: dict[str, Value] = {}
    for key, value in node.entries:
        if not (isinstance(key, Scalar) and key.text == MERGE and key.is_plain):
            continue
        sources = value_of(value)
        for source in sources if isinstance(sources, list) else [sources]:
            if isinstance(source, dict):
                for name, one in source.items():
                    found.setdefault(name, one)
    return found


def _mapping(node: Mapping) -> dict[str, Value]:
    found = merged_into(node)
    for key, value in node.entries:
        if isinstance(key, Scalar) and key.text == MERGE and key.is_plain:
            continue
        word = word_of(key)
        found[word if word is not None else f"? {value_of(key)!r}"] = value_of(value)
    return found


def _scalar(node: Scalar) -> Value:
    if not node.is_plain or node.tag is not None:
        return node.text
    found = resolve_plain(node.text)
    if isinstance(found, Spelled):
        return str(found) if found.value != found.value else found.value  # `.nan` would differ from itself
    return found
