"""YAML for people: what is quoted, what is a block, and where everything is."""

from __future__ import annotations

import pytest

from sidecar.mesh.compile.tree import Items, Table, Text, Value
from sidecar.mesh.compile.write import WIDTH, Written, write
from sidecar.mesh.mesh import Mark

MARK = Mark("f", 1, 1)


def text(word: str) -> Text:
    """A word."""
    return Text(word, MARK)


def table(**entries: Value) -> Table:
    """A mapping."""
    made = Table(MARK)
    for key, value in entries.items():
        made.put(key, value)
    return made


def written(value: Value) -> str:
    """The lines of a file in which `k` is the value."""
    return write(table(k=value), "t").removeprefix("# t\n")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a", "a"), ("a b", "a b"), ("h:80", "h:80"), ("/v1", "/v1"), ("5%", "5%"), ("2s", "2s"), ("", '""'),
        ("true", '"true"'), ("1.10", '"1.10"'), ("null", '"null"'), ("~", '"~"'), ("yes", "yes"), ("a: b", '"a: b"'),
        ("a #b", '"a #b"'), ("- a", '"- a"'), ("*a", '"*a"'), ("&a", '"&a"'), ("!a", '"!a"'), ("a:", '"a:"'),
        ("{a}", '"{a}"'), ("a\nb", '"a\\U0000000ab"'), ('"', '"\\""'), ("\\1", '"\\\\1"'), ("${A}", '"$${A}"'),
        ("é", '"é"'), ("\u2028", '"\\U00002028"'), ("...", '"..."'), ("a ", '"a "'), (" a", '" a"'), ("a  b", '"a  b"'),
        ("<<", '"<<"'), ("@a", '"@a"'), ("%a", '"%a"'), ("`a", '"`a"'), (".inf", '".inf"'), ("0x1f", '"0x1f"'),
    ],
)  # fmt: skip
def test_words_are_quoted_only_where_they_must_be(word: str, expected: str) -> None:
    """They are read as the same words again."""
    assert written(text(word)) == f"k: {expected}\n"


def test_numbers_and_booleans_are_not_quoted() -> None:
    """They were not in the mesh's files."""
    assert written(Text("1.10", MARK, is_spelled=True)) == "k: 1.10\n"
    assert written(Text("true", MARK, is_spelled=True)) == "k: true\n"


def test_what_fits_stands_on_one_line() -> None:
    """As a person would write it."""
    assert written(table(a=text("h:1"), b=Items(MARK, [text("x"), table()]))) == 'k: {a: "h:1", b: [x, {}]}\n'


def test_what_does_not_fit_is_a_block() -> None:
    """And so are its parts where they do not fit."""
    long = text("x" * (WIDTH - 8))
    assert written(table(a=long, b=text("y"))) == f"k:\n  a: {long.text}\n  b: y\n"
    assert written(Items(MARK, [table(a=long, b=text("y")), text("z")])) == f"k:\n  - a: {long.text}\n    b: y\n  - z\n"
    assert written(Items(MARK, [Items(MARK, [long, text("y")])])) == f"k:\n  -\n    - {long.text}\n    - y\n"


def test_comments_stand_before_what_they_are_about() -> None:
    """What has one inside is a block."""
    item, entry = table(a=text("b")), table(c=text("d"))
    item.note = entry.note = "from x:1"
    assert written(Items(MARK, [item])) == "k:\n  # from x:1\n  - {a: b}\n"
    assert written(table(i=entry)) == "k:\n  # from x:1\n  i: {c: d}\n"


def test_the_place_of_a_block_is_that_of_its_first_line() -> None:
    """As the parser has it; a list in a list begins below its dash."""
    long = text("x" * WIDTH)
    places = Written()
    write(table(k=Items(MARK, [Items(MARK, [long]), table(a=long)])), "t", places)
    found = {path: [(line, column) for line, column, _ in marks] for path, marks in places.places.items()}
    assert found == {
        "k": [(2, 1), (3, 3)],
        "k[0]": [(4, 5)],
        "k[0][0]": [(4, 7)],
        "k[1]": [(5, 5)],
        "k[1].a": [(5, 5), (5, 8)],
    }


def test_every_key_and_value_has_its_place() -> None:
    """In lines and columns of the text, by the path that problems have."""
    value = table(a=Items(MARK, [text("x"), table(b=text("y"))]))
    places = Written()
    assert write(table(k=value), "t", places).split("\n")[1] == "k: {a: [x, {b: y}]}"
    found = {path: [(line, column) for line, column, _ in marks] for path, marks in places.places.items()}
    assert found == {
        "k": [(2, 1), (2, 4)],
        "k.a": [(2, 5), (2, 8)],
        "k.a[0]": [(2, 9)],
        "k.a[1]": [(2, 12)],
        "k.a[1].b": [(2, 13), (2, 16)],
    }
