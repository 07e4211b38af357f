"""
What is compiled, and that its source keeps to what a compiler takes for granted: the rules of docs/compiled.md.

Read from the source, so that a rule that is broken is found without compiling.
"""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LISTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["sidecar"]["compile"]

INTERPRETED = frozenset(_LISTS["interpreted"])
COMPILED = frozenset(
    name
    for pattern in _LISTS["modules"]
    for name in (str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))
    if not name.endswith("__init__.py")
) - INTERPRETED  # fmt: skip
SOURCES = frozenset(str(path.relative_to(ROOT)) for path in ROOT.glob("sidecar/**/*.py"))


@functools.cache
def tree(name: str) -> ast.Module:
    """Of a module; parsed when it is looked at, for every process of a test run imports this file."""
    return ast.parse((ROOT / name).read_text())


def classes(name: str) -> Iterator[ast.ClassDef]:
    """Of a module."""
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.ClassDef))


def last_name(node: ast.expr) -> str:
    """`b` of `a.b[c](d)`."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def origins(name: str) -> dict[str, str]:
    """What a module imports by name, and the module's file that it comes from."""
    return {
        alias.asname or alias.name: f"{(node.module or '').replace('.', '/')}.py"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_pattern_matches_and_nothing_is_left_out_twice() -> None:
    """A module that was renamed is not silently interpreted."""
    for pattern in _LISTS["modules"]:
        assert list(ROOT.glob(pattern)), pattern
    assert SOURCES >= INTERPRETED


def test_every_module_of_the_hot_path_is_compiled_or_says_why_not() -> None:
    """`*Hot path*` in a module's first lines is a promise; `interpreted` lists those that keep it otherwise."""
    hot = {name for name in SOURCES if "*hot path" in (ast.get_docstring(tree(name)) or "").lower()}
    assert len(hot) > 30
    assert hot - COMPILED - INTERPRETED == set()


def test_what_is_left_out_has_a_reason_above_it() -> None:
    """In pyproject.toml: a comment stands before each."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for name in INTERPRETED:
        (at,) = (number for number, line in enumerate(lines) if f'"{name}"' in line)
        assert lines[at - 1].lstrip().startswith("#"), name


@pytest.mark.parametrize("name", sorted(SOURCES - COMPILED))
def test_no_interpreted_class_inherits_from_a_compiled_one(name: str) -> None:
    """It could not be made: `interpreted classes cannot inherit from compiled`."""
    came_from = origins(name)
    heirs = [one.name for one in classes(name) for base in one.bases if came_from.get(last_name(base)) in COMPILED]
    assert heirs == []


_PURE = frozenset({"len", "max", "min", "start", "end", "find", "rfind"})
"""Calls that may be made twice."""


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_bounds_of_slices_have_no_effects(name: str) -> None:
    """Compiled code works some of them out twice: `rest = rest[write(rest):]` wrote everything again."""
    bounds = [
        bound
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Slice)
        for bound in (node.lower, node.upper, node.step)
        if bound is not None
    ]
    calls = [last_name(node.func) for bound in bounds for node in ast.walk(bound) if isinstance(node, ast.Call)]
    assert set(calls) <= _PURE


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_no_compiled_class_inherits_from_an_interpreted_one(name: str) -> None:
    """It would be compiled, but as an ordinary class: every attribute by its name, as slow as before."""
    came_from = origins(name)
    here = {one.name for one in classes(name)}
    for one in classes(name):
        for base in map(last_name, one.bases):
            is_native = base in here or came_from.get(base) in COMPILED
            assert is_native or base in {"Protocol", "Generic", "Exception", "ValueError", "IntEnum", "Enum"}, one.name


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_fields_of_compiled_dataclasses_have_types_that_exist_when_the_class_is_made(name: str) -> None:
    """A compiled class that is imported for the type checker only is a null pointer then, and the process dies."""
    only_checked = {
        alias.asname or alias.name
        for node in ast.walk(tree(name))
        if isinstance(node, ast.If) and last_name(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }
    for one in classes(name):
        if any(last_name(decorator) == "dataclass" for decorator in one.decorator_list):
            types = {last_name(node.annotation) for node in one.body if isinstance(node, ast.AnnAssign)}
            assert types & only_checked == set(), one.name


@pytest.mark.parametrize("name", sorted(COMPILED))
def test_no_compiled_object_is_referred_to_weakly(name: str) -> None:
    """It has no room for that: `cannot create weak reference`."""
    assert "weakref_slot" not in (ROOT / name).read_text()
    assert "__weakref__" not in (ROOT / name).read_text()
