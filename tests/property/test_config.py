"""Whatever the bytes, a file is understood or its problems are told."""

from __future__ import annotations

import copy
import json
import pathlib

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.load import load_text
from sidecar.config.model.root import Config
from sidecar.config.problems import ConfigError
from sidecar.config.schema import json_schema
from tests.support.thoroughness import examples

EXAMPLE_TEXT = (pathlib.Path(__file__).parents[1] / "unit" / "config" / "design_example.yaml").read_text()
EXAMPLE = yaml.safe_load(EXAMPLE_TEXT)

WORDS = sorted(
    {key for definition in json_schema()["$defs"].values() for key in definition["properties"]}
    | set(json_schema()["properties"])
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(WORDS),
    st.sampled_from(["5s", "5%", "64KiB", "/a", "h:1", "*", "${A}", "${B:-1}", "${", "\\1", "(", "http://x/", "0x10"]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), inner, max_size=6),
    ),
    max_leaves=25,
)


def understand(raw: bytes) -> Config | list[str]:
    """The configuration, or its problems, each of which has a place."""
    try:
        return load_text(raw, "f", {"A": "x"})
    except ConfigError as error:
        problems = error.problems
    assert problems
    for problem in problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
        assert len(str(problem).splitlines()) == 1
        assert "input should" not in problem.message.lower()
        assert "pydantic" not in str(problem)
    return [str(problem) for problem in problems]


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(raw: bytes) -> None:
    """No other exception than `ConfigError` comes out."""
    understand(raw)


@given(st.text(alphabet="abc:-[]{}&*!|>'\"#%@`,? \n\t$~<0", max_size=80))
def test_any_text_of_yamls_own_characters_is_understood_or_refused(text: str) -> None:
    """What is nearly YAML."""
    understand(text.encode())


@given(TREES)
def test_any_tree_is_understood_or_refused(tree: object) -> None:
    """Valid YAML of any shape, with the language's own words in the wrong places."""
    understand(json.dumps(tree).encode())


@st.composite
def mutations(draw: st.DrawFn) -> object:
    """The design's example with one to three of its values replaced, removed or added to."""
    tree = copy.deepcopy(EXAMPLE)
    for _ in range(draw(st.integers(1, 3))):
        node = tree
        while True:
            if isinstance(node, dict) and node:
                step: object = draw(st.sampled_from(sorted(node, key=str)))
            elif isinstance(node, list) and node:
                step = draw(st.integers(0, len(node) - 1))
            else:
                break
            child = node[step]
            if not isinstance(child, dict | list) or draw(st.integers(0, 3)) == 0:
                if isinstance(node, dict) and draw(st.integers(0, 3)) == 0:
                    node[draw(st.sampled_from(WORDS))] = draw(TREES)
                else:
                    node[step] = draw(TREES)
                break
            node = child
    return tree


@settings(max_examples=examples(200), deadline=None)
@given(mutations())
def test_any_change_of_a_good_file_is_understood_or_refused(tree: object) -> None:
    """Near the language, where the rules between values are reached."""
    understand(json.dumps(tree).encode())


@settings(max_examples=examples(50))
@given(st.integers(0, len(EXAMPLE_TEXT) - 1), st.sampled_from("x:-[]{}\"' \n\t#&*"))
def test_any_slip_of_the_keyboard_is_understood_or_refused(position: int, character: str) -> None:
    """One character replaced anywhere in a good file."""
    understand((EXAMPLE_TEXT[:position] + character + EXAMPLE_TEXT[position + 1 :]).encode())


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_variable_never_becomes_yaml(value: str) -> None:
    """Whatever a variable holds, the file has the keys that it was written with."""
    text = b'service: s\noutbound:\n  routes:\n    - respond: {status: 200, body: "${V}"}\n'
    config = load_text(text, "f", {"V": value})
    assert config.outbound is not None
    assert config.outbound.routes[0].respond is not None
    assert config.outbound.routes[0].respond.body == value
