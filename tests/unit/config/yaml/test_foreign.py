"""Files of other programs: several documents, nulls, tags of CloudFormation, with the places that ours have."""

from __future__ import annotations

import pytest

from sidecar.config.problems import ConfigError
from sidecar.config.yaml.document import Mapping, plain
from sidecar.config.yaml.foreign import parse_foreign


def values(text: str) -> list[object]:
    roots, problems = parse_foreign(text, "f.yaml")
    assert problems == []
    return [plain(root) for root in roots]


def test_documents_follow_each_other_and_empty_ones_are_none() -> None:
    """A file has as many roots as documents that say anything."""
    assert values("a: b\n---\n---\n# nothing\n---\n- c\n") == [{"a": "b"}, ["c"]]


def test_null_is_a_value() -> None:
    """A null stands in the tree, in every spelling; in quotes it is a word."""
    assert values("{a: null, b: ~, c: , d: 'null'}") == [{"a": None, "b": None, "c": None, "d": "null"}]


def test_tag_is_its_long_form() -> None:
    """`!Ref` is `Ref`, every other tag `Fn::` and its name; also of what an alias repeats."""
    assert values("a: !Ref X\nb: !Join ['-', [!Ref Y, z]]\nc: &k !Sub s\nd: *k") == [
        {
            "a": {"Ref": "X"},
            "b": {"Fn::Join": ["-", [{"Ref": "Y"}, "z"]]},
            "c": {"Fn::Sub": "s"},
            "d": {"Fn::Sub": "s"},
        }
    ]


def test_variables_are_text() -> None:
    """`${NAME}` is replaced by nobody here."""
    assert values("a: x-${NAME}-$${b}") == [{"a": "x-${NAME}-$${b}"}]


def test_json_on_one_line_has_places() -> None:
    """A JSON file is read as it is, with columns."""
    roots, _ = parse_foreign('{"a": [1, {"b": "\\u00e9\\/"}]}', "f.json")
    assert plain(roots[0]) == {"a": ["1", {"b": "é/"}]}
    assert isinstance(roots[0], Mapping)
    assert (roots[0].entries["a"][1].line, roots[0].entries["a"][1].column) == (1, 7)


def test_anchor_holds_in_its_own_document() -> None:
    """An alias of an earlier document's anchor is a problem, as YAML has it."""
    with pytest.raises(ConfigError, match="an anchor that does not exist"):
        parse_foreign("a: &x 1\n---\nb: *x\n", "f.yaml")


def test_problem_of_a_later_document_has_its_path() -> None:
    """A second key is told with line and path, in whichever document it is."""
    _, problems = parse_foreign("a: 1\n---\nb: {c: 1, c: 2}\n", "f.yaml")
    assert [(one.line, one.path) for one in problems] == [(3, "b.c")]
