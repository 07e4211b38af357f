"""
YAML and JSON written for other programs, as the same tree: several documents, nulls, tags. *Cold, pure.*

Read as `document` reads our own, with its limits and places. Besides, a file may hold several documents; a value may be
nothing (`creationTimestamp: null`); `${NAME}` is text; and a tag of CloudFormation is the long form that it is short
for: `!Ref A` is `{Ref: A}`, `!Sub a` is `{Fn::Sub: a}`.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Builder, Mapping, Node, Scalar, feed
from sidecar.config.yaml.environment import NoVariables
from sidecar.config.yaml.scalars import resolve_plain

_INTRINSIC: Final = re.compile(r"![A-Z][A-Za-z0-9:]{0,63}")
_WITHOUT_PREFIX: Final = ("Ref", "Condition")


def parse_foreign(text: str, filename: str) -> tuple[list[Node], list[Problem]]:
    """
    Parse all YAML documents of a text.

    Args:
        text: Without a byte order mark.
        filename: For the problems.

    Returns:
        The roots of the documents that say anything, and the problems that still allow to look at the rest.

    Raises:
        ConfigError: The text is not YAML, or goes beyond a limit; nothing more can be said about it.
    """
    builder = _ForeignBuilder(filename)
    feed(builder, text, filename)
    return builder.roots, builder.problems


class _ForeignBuilder(Builder):
    def __init__(self, filename: str) -> None:
        super().__init__(filename, NoVariables())
        self._complete: list[Node] = []
        self._tags: dict[int, str] = {}

    @property
    def roots(self) -> list[Node]:
        """Of the documents that were read; one that is nothing is none."""
        found = self._complete if self.root is None else [*self._complete, self.root]
        return [root for root in found if not (isinstance(root, Scalar) and root.value is None)]

    def take(self, event: yaml.Event) -> None:
        """Add what one event says."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchors.clear()
        elif isinstance(event, yaml.DocumentEndEvent):
            if self.root is not None:
                self._complete.append(self.root)
            self.root = None
        else:
            super().take(event)

    def _evaluate(self, event: yaml.ScalarEvent, node: Scalar, is_plain: bool) -> None:
        node.value = resolve_plain(node.text) if is_plain else node.text

    def _check_tag(self, event: yaml.Event, tag: str, node: Node) -> None:
        if _INTRINSIC.fullmatch(tag):
            self._tags[id(node)] = tag[1:]
        else:
            super()._check_tag(event, tag, node)

    def _finished(self, node: Node) -> Node:
        tag = self._tags.pop(id(node), None)
        if tag is None:
            return node
        if self._is_key_next():
            message = f"found the tag `!{tag}` at a key"
            problem = Problem(self._filename, node.line, node.column, "", message, "remove it")
            self._findings.append((problem, node))
            return node
        name = tag if tag in _WITHOUT_PREFIX else f"Fn::{tag}"
        long = Mapping(node.line, node.column, node.file)
        long.entries[name] = (Scalar(node.line, node.column, name, name, node.file), node)
        long.size = node.size + 2
        return long
