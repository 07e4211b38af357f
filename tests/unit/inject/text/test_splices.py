"""Edits in text: what is written, and that what was there stays."""

from __future__ import annotations

import pytest

from sidecar.config.problems import ConfigError
from sidecar.inject.edits import AddItems, AddKey, Edit, Exchange, Remove, Rename, Replace, applied
from sidecar.inject.text.restore import notes_of, parse_notes, restoring
from sidecar.inject.text.settle import TextError, settled
from sidecar.inject.text.splice import spliced, splices_of
from sidecar.inject.text.tree import parse
from sidecar.inject.text.values import value_of


def edited(text: str, *edits: Edit) -> str:
    """The text with the edits in it, after looking that it says so and can be taken back."""
    root = parse(text, "f")[0].root
    assert root is not None
    own = settled(edits, root, {"spec"})
    notes = notes_of(text, root, own, ())
    new = spliced(text, splices_of(text, root, own))
    after = parse(new, "f")[0].root
    assert after is not None
    assert value_of(after) == applied(value_of(root), edits)
    assert spliced(new, restoring(new, after, (), notes)) == text
    return new


def test_a_key_stands_above_the_comments_of_the_one_that_it_precedes() -> None:
    """What an author wrote above a key stays with that key."""
    text = "a: |\n  x\n  # of the text\n# of b\nb: 2\n"
    assert edited(text, AddKey((), "new", 1, "b")) == "a: |\n  x\n  # of the text\nnew: 1\n# of b\nb: 2\n"


def test_a_mapping_that_shares_its_line_with_a_dash_gets_a_key_below() -> None:
    """Between a dash and its first key there is no room."""
    assert edited("- a: 1\n  b: 2\n", AddKey((0,), "new", 1)) == "- a: 1\n  new: 1\n  b: 2\n"
    assert edited("- a: 1", AddKey((0,), "new", 1)) == "- a: 1\n  new: 1"


def test_items_have_the_dashes_of_those_that_are_there() -> None:
    """Lists that are not indented under their key, and lists that are, stay what they are."""
    assert edited("k:\n- a\nz: 1\n", AddItems(("k",), ("b",))) == "k:\n- a\n- b\nz: 1\n"
    assert edited("k:\n    -   a\n", AddItems(("k",), ("b",), True)) == "k:\n    - b\n    -   a\n"


def test_items_at_the_end_precede_a_key_in_the_same_place() -> None:
    """Where a list ends and a new key begins at one offset, the list's items come first."""
    edits = (AddKey((), "new", 1, "z"), AddItems(("k",), ("b",)))
    assert edited("k:\n- a\nz: 1\n", *edits) == "k:\n- a\n- b\nnew: 1\nz: 1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', '{"a": 1, "new": [1]}'),
        ('{\n  "a": 1\n}', '{\n  "a": 1,\n  "new": [\n    1\n  ]\n}'),
        ('{\r\n\t"a": 1\r\n}', '{\r\n\t"a": 1,\r\n\t"new": [\r\n\t\t1\r\n\t]\r\n}'),
        ("{a: 1, }", '{a: 1, "new": [1], }'),
        ("{ }", '{"new": [1] }'),
    ],
)
def test_within_braces_it_is_json_in_the_style_of_its_neighbours(text: str, expected: str) -> None:
    """Line ends, indentation and trailing commas of a flow are those that were there."""
    assert edited(text, AddKey((), "new", [1])) == expected


def test_nothing_behind_a_key_becomes_a_value() -> None:
    """`annotations:` with nothing behind it, as charts leave it, gets its value on its line."""
    assert edited("a:  # so\nb: 1\n", Replace(("a",), {"new": 1})) == "a: {new: 1}  # so\nb: 1\n"
    assert edited("a: null\n", Replace(("a",), {"new": 1})) == "a: {new: 1}\n"


def test_an_exchanged_key_keeps_the_comment_behind_it() -> None:
    """Only the key and its value are exchanged, and come back as they were written."""
    text = "p:\n  t:\n      port: 80  # web\n  s: 3\n"
    assert edited(text, Exchange(("p", "t"), "h", {"x": 1})) == "p:\n  h: {x: 1}  # web\n  s: 3\n"


def test_a_renamed_key_keeps_its_value_and_its_quotes() -> None:
    """Only the word changes."""
    assert edited('"p": [1]\nq: 2\n', Rename(("p",), "x-p")) == '"x-p": [1]\nq: 2\n'


def test_an_alias_is_not_changed_for_those_who_share_it() -> None:
    """What stands behind an alias is merged from or copied; the anchor's own place stays as it is."""
    text = "a: &a {k: 1}\nb: *a\nl: &l [x]\nm: *l\n"
    edits = (AddKey(("b",), "new", 1), AddItems(("m",), ("yy",)))
    assert edited(text, *edits) == "a: &a {k: 1}\nb: {<<: *a, new: 1}\nl: &l [x]\nm: [x, yy]\n"


def test_what_is_merged_is_overridden() -> None:
    """A list that comes by a merge key is written out with what is new."""
    text = "a: &a\n  l: [x]\nb:\n  <<: *a\n  c: 1\n"
    assert edited(text, AddItems(("b", "l"), ("yy",))) == "a: &a\n  l: [x]\nb:\n  l: [x, yy]\n  <<: *a\n  c: 1\n"


def test_a_large_part_is_not_copied() -> None:
    """Who shares a whole specification is asked to write it out."""
    with pytest.raises(TextError, match=r"`spec` comes by the alias `\*a`"):
        edited("a: &a {l: [x]}\nspec: *a\n", AddItems(("spec", "l"), ("yy",)))


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", (3, 1), "found the key `a` a second time, first on line 1"),
        ("a:\n  name: {{ .Values.name }}\n", (2, 10), "expected a word as key, found a mapping"),
        ("a: 1\n{{- if .Values.x }}\nb: 2\n", (3, 1), "not YAML"),
        ("a: *b\n", (1, 4), "found the alias `*b` of an anchor that does not exist"),
        ("a: &a [*a]\n", (1, 8), "found the alias `*a` inside of its own anchor"),
        ("a: \x07\n", (1, 4), "found the character U+0007, which YAML does not allow"),
        ("[" * 300, (1, 201), "found more than 200 nested mappings and lists"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, where: tuple[int, int], what: str) -> None:
    """Duplicate keys, templates, broken YAML and what is too deep are refused at their line and column."""
    with pytest.raises(ConfigError) as raised:
        parse(text, "f")
    problem = raised.value.problems[0]
    assert (problem.line, problem.column) == where
    assert problem.message.startswith(what)


def test_a_template_is_told_as_one() -> None:
    """Both where `{{ }}` is read as YAML and where it is not, the hint says to render it."""
    for text in ("a: {{ x }}\n", "{{- if x }}\na: 1\n"):
        with pytest.raises(ConfigError, match="render it first"):
            parse(text, "f")


def test_aliases_that_blow_up_are_refused() -> None:
    """A thousand million values from nine lines are not built."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="aliases that expand to more than"):
        parse("\n".join(lines), "f")


@pytest.mark.parametrize(
    "value",
    [None, {}, [1], [["key"]], [["key", [], ""]], [["what", ["a"], ""]], [["items", ["a"], ""]], [["key", [1.5], ""]]],
)
def test_notes_that_are_none_are_refused(value: object) -> None:
    """What was damaged is not guessed at."""
    with pytest.raises(ValueError, match="expected"):
        parse_notes(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "b": {"c": 2}, "d": 3}', '{"a": 1, "d": 3}'),
        ('{\n  "a": 1,\n  "b": 2\n}', '{\n  "a": 1\n}'),
        ('{"b": 1, "a": 2}', '{"a": 2}'),
        ("# x\na: 1  # y\n# of b\nb:\n  c: 2  # z\n# of d\nd: 3\n", "# x\na: 1  # y\n# of b\n# of d\nd: 3\n"),
        ("# of b\nb: 1\n# of a\na: 2\n", "# of b\n# of a\na: 2\n"),
        ("a: 1\nb: 2\n", "a: 1\n"),
    ],
)
def test_a_key_that_goes_comes_back_to_its_place(text: str, expected: str) -> None:
    """It goes with its comma or its lines, and the comments around it stay where they are."""
    assert edited(text, Remove(("b",))) == expected


def test_a_key_that_comes_where_one_goes_does_not_disturb_it() -> None:
    """At the end of an object one key is taken away and another is added."""
    assert edited('{"a": 1, "b": 2}', Remove(("b",)), AddKey((), "new", 3)) == '{"a": 1, "new": 3}'
    assert edited("a: 1\nb: 2\n", Remove(("b",)), AddKey((), "new", 3)) == "new: 3\na: 1\n"


def test_what_belongs_to_the_innermost_comes_first() -> None:
    """Where a list and a mapping in it end in one place, the mapping's key precedes the list's item."""
    assert edited("l:\n- a: 1\n", AddItems(("l",), ({"name": "b"},)), AddKey(("l", 0), "new", 1)) == (
        "l:\n- a: 1\n  new: 1\n- {name: b}\n"
    )
    assert edited("l:\n- a: 1", AddItems(("l",), ({"name": "b"},)), AddKey(("l", 0), "new", 1)) == (
        "l:\n- a: 1\n  new: 1\n- {name: b}"
    )
