"""YAML with positions, and the YAML that is refused."""

from __future__ import annotations

import pytest

from sidecar.config.problems import ConfigError
from sidecar.config.yaml import document
from sidecar.config.yaml.document import parse, plain


def read(text: str, **env: str) -> object:
    """The tree of a document without problems."""
    root, problems = parse(text, "f", env)
    assert problems == []
    assert root is not None
    return plain(root)


def complaints(text: str, **env: str) -> list[str]:
    """The problems of a document, whether or not they end the parse."""
    try:
        _, problems = parse(text, "f", env)
    except ConfigError as error:
        problems = error.problems
    return [str(problem) for problem in problems]


def test_words_are_words_and_keys_are_text() -> None:
    """`on`, dates and numbers as keys are the text that was written."""
    assert read("{on: off, 1: 12:30, true: 2024-01-01}") == {"on": "off", "1": "12:30", "true": "2024-01-01"}


def test_quoted_scalars_are_strings() -> None:
    """Quotes, block scalars and `!!str` make strings of anything."""
    assert read("a: \"1\"\nb: 'true'\nc: |\n  1\nd: !!str 1\ne: ! 1\n") == {
        "a": "1", "b": "true", "c": "1\n", "d": "1", "e": "1",
    }  # fmt: skip


def test_aliases_are_the_values_they_name() -> None:
    """An anchor's value may be used again."""
    assert read("a: &x {k: v}\nb: [*x, *x]") == {"a": {"k": "v"}, "b": [{"k": "v"}, {"k": "v"}]}


def test_every_node_knows_where_it_starts() -> None:
    """Lines and columns count from 1, columns in characters."""
    root, _ = parse("ä: {ö: [1, x]}\n", "f", {})
    assert isinstance(root, document.Mapping)
    _, inner = root.entries["ä"]
    assert isinstance(inner, document.Mapping)
    key, items = inner.entries["ö"]
    assert isinstance(items, document.Sequence)
    places = [(node.line, node.column) for node in (inner, key, items, items.items[1])]
    assert places == [(1, 4), (1, 5), (1, 8), (1, 12)]


def test_variables_become_numbers_only_where_the_scalar_is_plain() -> None:
    """A plain scalar is resolved again after its variables were replaced; a quoted one stays a string."""
    tree = read('a: ${N}\nb: "${N}"\nc: ${S}\nd: 1${N}\n', N="8080", S="x: [1")
    assert tree == {"a": "8080", "b": "8080", "c": "x: [1", "d": "18080"}
    assert isinstance(tree, dict)
    assert [getattr(tree[key], "value", None) for key in "abcd"] == [8080, None, None, 18080]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1: a: found the key `a` a second time, first on line 1; remove one of the two"),
        ("x: {a: 1, 'a': 2}", "f:1:11: x.a: found the key `a` a second time, first on line 1; remove one of the two"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "f:3:3: c['<<']: merge keys (`<<`) are not read; "
         "repeat the keys; YAML 1.2 has no merge keys"),
        ("a: 1\n---\nb: 2", "f:2:1: found a second document; keep one document a file: remove this `---`"),
        ("a: [1, &x [*x]]", "f:1:12: found the alias `*x` inside of its own anchor"),
        ("a: *x", "f:1:4: found the alias `*x` of an anchor that does not exist"),
        ("? [a]\n: b", "f:1:3: expected a word as key, found a list; keys are plain words"),
        ("a: !!python/object:os.system {}", "f:1:4: a: found the tag `tag:yaml.org,2002:python/object:os.system`; "
         "tags are not read: remove it"),
        ("a: !!int 1", "f:1:4: a: found the tag `tag:yaml.org,2002:int`; tags are not read: remove it"),
        ("a:\n  b: 1\n\tc: 2", "f:3:1: not YAML: found a tab character that violates indentation "
         "(while scanning a plain scalar); indent with spaces, not with tabs"),
        ("a: ${NOPE}", "f:1:4: a: the environment variable `NOPE` is not set; "
         "set it, or give a default: `${NOPE:-default}`"),
        ("${A}: 1", "f:1:1: ['${A}']: found a variable in a key; variables are replaced in values only"),
        ("a: [b, ~]", 'f:1:8: a[1]: expected a value, found nothing (`~`); '
         'give it a value, or remove it; an empty string is `""`, an empty list `[]`'),
        ("a: x\0", "f:1:5: found the character U+0000, which YAML does not allow; "
         "write it as an escape in double quotes"),
    ],
)  # fmt: skip
def test_surprises_are_refused_at_their_place(text: str, expected: str) -> None:
    """Each refused construct is told with its line, column and path."""
    assert complaints(text) == [expected]


def test_unquoted_variable_in_braces_gets_a_hint() -> None:
    """`{port: ${PORT}}` is not YAML, and the reason is not obvious."""
    (said,) = complaints("a: {b: ${X}, c: 1}")
    assert said.startswith("f:1:")
    assert said.endswith("inside of { } and [ ] a `${NAME}` needs quotes")


def test_aliases_that_explode_are_refused_before_they_are_expanded() -> None:
    """Nine lines that stand for a thousand million values are a problem, not an outage."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (said,) = complaints("\n".join(lines))
    assert "found aliases that expand to more than 100,000 values" in said


def test_depth_is_limited() -> None:
    """64 levels are read; the 65th is refused, however many follow."""
    assert read("[" * 64 + "]" * 64) is not None
    (said,) = complaints("[" * 5000)
    assert said.startswith("f:1:65: found more than 64 nested")


def test_number_of_nodes_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of millions of tiny values is refused before it fills the memory."""
    monkeypatch.setattr(document, "MAX_NODES", 10)
    assert read("[1,2,3,4,5,6,7,8,9]") is not None
    assert "found more than 10 keys and values" in complaints("[1,2,3,4,5,6,7,8,9,10]")[0]


def test_all_refusals_of_a_document_are_told_together() -> None:
    """Problems that leave the tree readable do not hide one another."""
    assert len(complaints("a: 1\na: 2\nb: !x y\nc: ${NOPE}\nd:\n")) == 4
