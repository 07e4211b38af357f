"""Where in a document there are task definitions, and how their keys are spelled there. *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.inject.edits import Path, Value, at

_TYPE: Final = "AWS::ECS::TaskDefinition"
_FREE: Final = frozenset({"dockerLabels", "options"})
"""Mappings whose keys are the user's own, and spelled as he does."""


@dataclass(frozen=True, slots=True)
class Task:
    """
    One task definition.

    Attributes:
        name: For people.
        path: In the document.
        is_of_template: CloudFormation's, whose keys begin with a capital.
    """

    name: str
    path: Path
    is_of_template: bool

    def key(self, name: str) -> str:
        """A key of the API as it is spelled here."""
        return name[:1].upper() + name[1:] if self.is_of_template else name

    def spelled(self, value: Value, *, is_free: bool = False) -> Value:
        """A value of the API with its keys as they are spelled here."""
        if isinstance(value, dict):
            return {
                key if is_free else self.key(key): self.spelled(one, is_free=key in _FREE) for key, one in value.items()
            }
        return [self.spelled(one) for one in value] if isinstance(value, list) else value

    def get(self, value: Value, name: str) -> Value:
        """The value of an API's key, or None."""
        return value.get(self.key(name)) if isinstance(value, dict) else None

    def items(self, value: Value, name: str) -> list[Value]:
        """The list that an API's key has; an empty one instead of anything else."""
        found = self.get(value, name)
        return found if isinstance(found, list) else []


def tasks_of(document: Value) -> Iterator[Task]:
    """Every task definition: the document itself, as `register-task-definition` takes it, or within it."""
    if not isinstance(document, dict):
        return
    if isinstance(document.get("containerDefinitions"), list):
        yield Task(f"task {document.get('family') or ''}".rstrip(), (), False)
        return
    described = at(document, ("taskDefinition", "containerDefinitions"))
    if isinstance(described, list):
        family = at(document, ("taskDefinition", "family"))
        yield Task(f"task {family or ''}".rstrip(), ("taskDefinition",), False)
        return
    resources = document.get("Resources")
    for name, resource in resources.items() if isinstance(resources, dict) else ():
        if isinstance(resource, dict) and resource.get("Type") == _TYPE:
            yield Task(f"task {name}", ("Resources", name, "Properties"), True)
