"""
The tree against the models: what pydantic finds, in the words of a person and at its place in the file. *Cold, pure.*
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sidecar.config.concealed import concealed, found
from sidecar.config.model.root import Config
from sidecar.config.problems import Problem, did_you_mean, nearest
from sidecar.config.values.base import Model
from sidecar.config.values.unsupported import HINT, MESSAGE
from sidecar.config.yaml.document import Node, Scalar, plain
from sidecar.config.yaml.places import Location, Place, locate, place_of_key

_MAX_ROUNDS = 12
"""Of taking out what is wrong; each round climbs a level, and the language has nine."""

_STAND_INS: dict[str, object] = {
    "listen": "127.0.0.1:0",
    "metrics": {"listen": "127.0.0.1:0"},
    "telemetry": {"metrics": {"listen": "127.0.0.1:0"}},
    "admin": {"listen": "127.0.0.1:0"},
    "identity": {"from": "control"},
    "url": "http://localhost/",
    "request": {"url": "http://localhost/"},
    "expect": {"status": 200},
}
"""What takes the place of a value that is wrong, where leaving it out would make the default say something new."""


_ITEM_STAND_INS: dict[str, object] = {
    "routes": {},
    "rules": {"name": "unknown", "allow": []},
    "upstreams": {"endpoints": [], "hosts": []},
}
_TEST = {"request": {"url": "http://localhost/"}, "expect": {"status": 200}}
"""The same for the items of these; indices of lists must not move, and names that others use must not go."""


M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Form(Generic[M]):
    """
    A kind of file.

    Attributes:
        model: What the whole of it is.
        key: The one that it must have.
        example: Of that key, for who left it out.
        stand_ins: As `_ITEM_STAND_INS`, for lists and mappings that only this kind has.
    """

    model: type[M]
    key: str
    example: str
    stand_ins: Mapping[str, object] = field(default_factory=dict)


CONFIG: Final = Form(Config, "service", "such as `service: storefront`")


class Shaped(Generic[M]):
    """
    What could be understood of a file.

    Attributes:
        config: The file, without the values in which `problems` were found; None if nothing was left.
        problems: What is wrong with single values.
        blamed: The places of those, as keys of the tree; rules that look at several values stay silent there.
    """

    __slots__ = ("blamed", "config", "problems")

    def __init__(self, config: M | None, problems: list[Problem], blamed: list[tuple[int | str, ...]]) -> None:
        self.config = config
        self.problems = problems
        self.blamed = blamed


def shape(root: Node, form: Form[M]) -> Shaped[M]:
    """
    Validate every value by itself, for this kind of file.

    Where some are wrong they are taken out and the rest is validated again, so that rules between values can still be
    checked for the rest: all problems are reported at once.
    """
    tree = plain(root)
    # Nothing where a value should be: the parser has reported it, and optional values of the models may be None.
    blamed = list(_nulls(tree, ()))
    try:
        return Shaped(form.model.model_validate(tree), [], blamed)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    problems: list[Problem] = []
    unknown = [one["loc"] for one in errors if one["type"] == "extra_forbidden"]
    misspelt = {(loc[:-1], _meant(loc, form)) for loc in unknown}
    misplaced = {loc[:-1] for loc in unknown if _is_elsewhere(loc, form)}
    for one in errors:
        problem, place = _problem(one, root, form)
        at = one["loc"]
        is_explained = one["type"] == "missing" and ((at[:-1], at[-1]) in misspelt or at[:-1] in misplaced)
        if problem is not None and not is_explained:
            problems.append(problem)
        extra = (str(one["loc"][-1]),) if one["type"] == "missing" else ()
        blamed.append(place.keys + extra)
    return Shaped(_salvage(tree, root, errors, form), problems, blamed)


def _salvage(tree: object, root: Node, errors: list[ErrorDetails], form: Form[M]) -> M | None:
    for _ in range(_MAX_ROUNDS):
        if not isinstance(tree, dict):
            return None
        for one in errors:
            keys = locate(root, one["loc"]).keys
            _take_out(tree, keys, form, is_missing=one["type"] == "missing")
        try:
            return form.model.model_validate(tree)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
    return None


def _take_out(tree: dict[str, object], keys: tuple[int | str, ...], form: Form[M], *, is_missing: bool) -> None:
    """Remove the smallest part of the tree around `keys` that may be absent; indices of lists never move."""
    if is_missing and not keys:
        tree[form.key] = "unknown"
        return
    way: list[tuple[Any, int | str]] = []
    node: Any = tree
    for step in keys:
        is_there = step in node if isinstance(node, dict) else isinstance(node, list) and step in range(len(node))
        if not is_there:
            break  # taken out in an earlier round, after which what is around it was still wrong
        way.append((node, step))
        node = node[step]
    for index in range(len(way) - 1, -1, -1):
        parent, step = way[index]
        holder = way[index - 1][1] if index else ""
        stand_in = form.stand_ins.get(holder, _ITEM_STAND_INS.get(holder)) if isinstance(holder, str) else None
        if stand_in is None and index == 0 and step == form.key:
            stand_in = "unknown"
        if stand_in is None and isinstance(parent, dict):
            stand_in = _STAND_INS.get(str(step))
        if holder == "tests":
            stand_in = {**_TEST, "name": f"#{step}"}
        if stand_in is not None and parent[step] != stand_in:
            parent[step] = stand_in
            return
        if isinstance(parent, dict):
            del parent[step]
            return


def _problem(error: ErrorDetails, root: Node, form: Form[M]) -> tuple[Problem | None, Place]:
    """One of pydantic's errors as a problem; None for a null, which the parser has already reported."""
    location = error["loc"]
    kind = error["type"]
    place = locate(root, location)
    if kind == "missing":
        holder = place_of_key(root, location[:-1])
        hint = form.example if tuple(location) == (form.key,) else ""
        return _at(holder, f"the key `{location[-1]}` is missing", hint), place
    if kind == "extra_forbidden":
        return _at(place_of_key(root, location), *_unknown_key(location, form)), place
    if isinstance(place.mark, Scalar) and place.mark.value is None:
        return None, place
    context = error.get("ctx", {})
    if kind == "not_yet":
        return _at(place_of_key(root, location), context["message"], context["hint"]), place
    if kind == "refused":
        return _at(place, *concealed(place, context["message"], context["hint"])), place
    wanted = {"model_type": "a mapping", "dict_type": "a mapping", "list_type": "a list"}
    what = context["message"] if kind == "expected" else wanted.get(kind)
    # The hint may repeat the value, the message is ours but for what was found.
    hint = concealed(place, "", context.get("hint", ""))[1]
    message = f"expected {what}" if what else error["msg"].lower()
    return _at(place, f"{message}, found {found(place)}", hint), place


def _at(place: Place, message: str, hint: str) -> Problem:
    return Problem(place.mark.file, place.mark.line, place.mark.column, place.path, message, hint)


def _unknown_key(location: Location, form: Form[M]) -> tuple[str, str]:
    """What to say of a key that the model at this place does not have."""
    key = str(location[-1])
    for model in _models_at(form.model, location[:-1]):
        if key in model.not_yet:
            return MESSAGE.format(key), HINT
        hint = model.hints.get(key) or did_you_mean(key, model.model_fields)
        return f"unknown key `{key}`", hint or "known here: " + ", ".join(f"`{name}`" for name in model.model_fields)
    return f"unknown key `{key}`", ""


def _meant(location: Location, form: Form[M]) -> str:
    """The known key that an unknown one most likely stands for, or an empty string."""
    for model in _models_at(form.model, location[:-1]):
        return nearest(str(location[-1]), model.model_fields)
    return ""


def _is_elsewhere(location: Location, form: Form[M]) -> bool:
    """Whether a key is known to be looked for at this place, and stands elsewhere."""
    return any(str(location[-1]) in model.hints for model in _models_at(form.model, location[:-1]))


def _nulls(tree: object, keys: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    if tree is None:
        yield keys
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if value is None or isinstance(value, dict | list):
                yield from _nulls(value, (*keys, key))
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            if item is None or isinstance(item, dict | list):
                yield from _nulls(item, (*keys, index))


def _models_at(annotation: Any, location: Location) -> Iterator[type[Model]]:
    """The models that an annotation stands for, `location` steps further in."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _models_at(get_args(annotation)[0], location)
    elif origin in (Union, types.UnionType):
        for branch in get_args(annotation):
            yield from _models_at(branch, location)
    elif location and isinstance(location[0], str) and location[0].startswith("<"):
        yield from _models_at(annotation, location[1:])
    elif origin in (list, dict) and location:
        yield from _models_at(get_args(annotation)[-1], location[1:])
    elif isinstance(annotation, type) and issubclass(annotation, Model):
        if not location:
            yield annotation
        elif location[0] in annotation.model_fields:
            yield from _models_at(annotation.model_fields[str(location[0])].annotation, location[1:])
