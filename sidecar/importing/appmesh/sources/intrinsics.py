"""
What CloudFormation's references come to, as far as a template says it. *Cold, pure.*

What only a deployment knows (a parameter without a default, an import, an attribute that AWS chooses) is filled with
its own name, so that the rest can be looked at, and told as a problem that a `--parameter` solves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingLike
from dataclasses import dataclass, field
from typing import Final

from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence, describe
from sidecar.config.yaml.scalars import resolve_plain
from sidecar.importing.account import Mark, shown
from sidecar.importing.appmesh.sources.resource import find_key, is_null
from sidecar.importing.field import Field, WrongError

_NOTHING: Final = "AWS::NoValue"
_VARIABLE: Final = re.compile(r"\$\{(!?)([^${}]*)\}")
_NAMES: Final = {
    "AWS::AppMesh::Mesh": "MeshName",
    "AWS::AppMesh::VirtualNode": "VirtualNodeName",
    "AWS::AppMesh::VirtualRouter": "VirtualRouterName",
    "AWS::AppMesh::VirtualService": "VirtualServiceName",
    "AWS::AppMesh::VirtualGateway": "VirtualGatewayName",
    "AWS::AppMesh::Route": "RouteName",
    "AWS::AppMesh::GatewayRoute": "GatewayRouteName",
}
"""By type of a resource, which of its properties is its name."""
MAX_DEPTH: Final = 16
"""Of references in references; a template that needs more goes in a circle."""


@dataclass(slots=True)
class Template:
    """
    A template and what it was given.

    Attributes:
        root: All of it.
        given: Parameters by name, and pseudo parameters such as `AWS::Region`.
        problems: References that nothing resolves, each told once at each place.
    """

    root: Mapping
    given: MappingLike[str, str]
    problems: list[Problem] = field(default_factory=list)

    def key(self, node: Mapping, name: str) -> str | None:
        """By which key the mapping has the field of this name, or None."""
        return find_key(node, name)

    def opened(self, one: Field) -> Field | None:
        """What a reference leads to; None for `AWS::NoValue` and null."""
        return self._opened(one, 0)

    def _opened(self, one: Field, depth: int) -> Field | None:
        function = _function(one.node)
        if function is None:
            return None if is_null(one) else one
        if function == "Fn::If":
            return self._chosen(one, depth)
        if _is_no_value(one.node):
            one.kept("nothing is said")
            return None
        text = self._text(one.node, one, depth)
        node = Scalar(one.node.line, one.node.column, text, resolve_plain(text), one.node.file)
        return Field(node, one.path, one.account, one.shape)

    def _chosen(self, one: Field, depth: int) -> Field | None:
        parts = one.at("Fn::If")
        if not isinstance(parts.node, Sequence) or len(parts.node.items) != 3 or depth > MAX_DEPTH:
            raise WrongError(one, "expected `Fn::If` with a condition and two values", "see CloudFormation's reference")
        name = parts.at(0).text()
        holds = self._condition(name, one, depth)
        parts.at(0).kept(f"the condition is {str(holds).lower()}")
        taken, other = (1, 2) if holds else (2, 1)
        why = f"the condition {name} is {str(holds).lower()}, by the parameters' defaults and --parameter"
        parts.at(other).dropped(why)
        return self._opened(parts.at(taken), depth + 1)

    # --- text ------------------------------------------------------------------------------------------------------

    def _text(self, node: Node, at: Field, depth: int) -> str:
        """What a scalar or a reference comes to, as text."""
        if depth > MAX_DEPTH:
            raise WrongError(at, "found references that go in a circle", "write the value out")
        function = _function(node)
        if function is None:
            if isinstance(node, Scalar):
                return node.text
            raise WrongError(at, f"expected a word in a reference, found {describe(node)}")
        assert isinstance(node, Mapping)
        value = node.entries[function][1]
        if function == "Ref":
            return self._referred(_word(value), at, depth)
        if function == "Fn::Sub":
            return self._substituted(value, at, depth)
        if function == "Fn::GetAtt":
            return self._attribute(value, at, depth)
        if function == "Fn::Join" and isinstance(value, Sequence) and len(value.items) == 2:
            parts = value.items[1]
            if isinstance(parts, Sequence):
                return _word(value.items[0]).join(self._text(part, at, depth + 1) for part in parts.items)
        if function == "Fn::FindInMap" and isinstance(value, Sequence):
            found: Node | None = _member(self.root, "Mappings")
            for part in value.items:
                found = _member(found, self._text(part, at, depth + 1))
            if isinstance(found, Scalar):
                return found.text
        if function == "Fn::ImportValue":
            return self._unknown(self._text(value, at, depth + 1), "an import of another stack", at)
        return self._unknown(function.removeprefix("Fn::"), f"`{function}`, which is not worked out here", at)

    def _referred(self, name: str, at: Field, depth: int) -> str:
        if name in self.given:
            return self.given[name]
        parameter = _member(_member(self.root, "Parameters"), name)
        if parameter is not None:
            default = _member(parameter, "Default")
            if isinstance(default, Scalar):
                return default.text
            return self._unknown(name, "a parameter without a default", at)
        resource = _member(_member(self.root, "Resources"), name)
        own_name = _NAMES.get(_word(_member(resource, "Type")))
        if own_name is not None:
            return self._name_of(name, own_name, at, depth)
        if resource is None and not name.startswith("AWS::"):
            raise WrongError(at, f"there is no parameter and no resource `{name}`", "see whether it is spelled right")
        return self._unknown(name, "known only when it is deployed", at)

    def _attribute(self, value: Node, at: Field, depth: int) -> str:
        words = [_word(item) for item in value.items] if isinstance(value, Sequence) else [_word(value)]
        name, _, attribute = ".".join(words).partition(".")
        resource = _member(_member(self.root, "Resources"), name)
        if resource is None:
            raise WrongError(at, f"there is no resource `{name}`", "see whether it is spelled right")
        own_name = _NAMES.get(_word(_member(resource, "Type")))
        if own_name is not None and attribute == own_name:
            return self._name_of(name, own_name, at, depth)
        property_ = _member(_member(resource, "Properties"), attribute)
        if property_ is not None and own_name is not None:
            return self._text(property_, at, depth + 1)
        return self._unknown(f"{name}.{attribute}", "known only when it is deployed", at)

    def _name_of(self, name: str, own_name: str, at: Field, depth: int) -> str:
        """The name of a resource; CloudFormation makes one of its logical name where the template says none."""
        resource = _member(_member(self.root, "Resources"), name)
        said = _member(_member(resource, "Properties"), own_name)
        return name if said is None or _is_no_value(said) else self._text(said, at, depth + 1)

    def _substituted(self, value: Node, at: Field, depth: int) -> str:
        own: Node | None = None
        if isinstance(value, Sequence) and len(value.items) == 2:
            value, own = value.items
        if not isinstance(value, Scalar):
            raise WrongError(at, f"expected a word in `Fn::Sub`, found {describe(value)}")

        def replaced(match: re.Match[str]) -> str:
            if match[1]:
                return f"${{{match[2]}}}"
            name = match[2].strip()
            local = _member(own, name)
            if local is not None:
                return self._text(local, at, depth + 1)
            if "." in name:
                return self._attribute(Scalar(at.node.line, at.node.column, name, name), at, depth + 1)
            return self._referred(name, at, depth + 1)

        return _VARIABLE.sub(replaced, value.text)

    def _unknown(self, name: str, why: str, at: Field) -> str:
        """A place-holder, and the problem that it is one."""
        message = f"`{name}` is {why}; its place is held by its name"
        hint = f"give it: --parameter '{name}=VALUE'"
        node = at.node
        problem = Problem(node.file, node.line, node.column, shown(at.path), message, hint)
        if problem not in self.problems:
            self.problems.append(problem)
        at.account.mark(at.path, Mark("changed", message, hint, is_lost=True))
        return name if re.fullmatch(r"[A-Za-z0-9-]+", name) else re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")

    # --- conditions ------------------------------------------------------------------------------------------------

    def _condition(self, name: str, at: Field, depth: int) -> bool:
        node = _member(_member(self.root, "Conditions"), name)
        if node is None:
            raise WrongError(at, f"there is no condition `{name}`", "see whether it is spelled right")
        return self._holds(node, at, depth + 1)

    def _holds(self, node: Node, at: Field, depth: int) -> bool:
        function = _function(node)
        value = _member(node, function) if function is not None else None
        if depth > MAX_DEPTH or function is None or value is None:
            raise WrongError(at, "expected a condition", "see CloudFormation's reference")
        items = value.items if isinstance(value, Sequence) else [value]
        if function == "Condition":
            return self._condition(_word(value), at, depth + 1)
        if function == "Fn::Equals" and len(items) == 2:
            return self._text(items[0], at, depth + 1) == self._text(items[1], at, depth + 1)
        if function == "Fn::Not" and len(items) == 1:
            return not self._holds(items[0], at, depth + 1)
        if function in ("Fn::And", "Fn::Or"):
            told = [self._holds(item, at, depth + 1) for item in items]
            return all(told) if function == "Fn::And" else any(told)
        raise WrongError(at, f"the condition `{function}` is not worked out here", "write the value out")


def _function(node: Node) -> str | None:
    """The function that a mapping of one key is, or None."""
    if isinstance(node, Mapping) and len(node.entries) == 1:
        name = next(iter(node.entries))
        return name if name in ("Ref", "Condition") or name.startswith("Fn::") else None
    return None


def _is_no_value(node: Node) -> bool:
    return _function(node) == "Ref" and _word(_member(node, "Ref")) == _NOTHING


def _member(node: Node | None, key: str) -> Node | None:
    return node.entries[key][1] if isinstance(node, Mapping) and key in node.entries else None


def _word(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else ""
