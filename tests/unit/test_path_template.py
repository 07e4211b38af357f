"""Reading templates of paths."""

from __future__ import annotations

import pytest

from sidecar.path_template import MAX_SEGMENTS, Segment, TemplateError, parse_template


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("/", [Segment("")]),
        ("/orders", [Segment("orders")]),
        ("/orders/", [Segment("orders"), Segment("")]),
        ("/orders/{id}", [Segment("orders"), Segment(None, "id")]),
        ("/{a}/{b_2}/x", [Segment(None, "a"), Segment(None, "b_2"), Segment("x")]),
        ("/{rest...}", [Segment(None, "rest", True)]),
        ("/files/{user}/{path...}", [Segment("files"), Segment(None, "user"), Segment(None, "path", True)]),
        ("/a:b/*", [Segment("a:b"), Segment("*")]),
    ],
)
def test_a_template_is_read_segment_by_segment(text: str, segments: list[Segment]) -> None:
    """What has no braces is a literal, whatever it means elsewhere."""
    assert list(parse_template(text)) == segments


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("orders/{id}", "begins with `/`", "`/orders/{id}`"),
        ("", "begins with `/`", "`/`"),
        ("/{}", "empty in `{}`", "`{id}`"),
        ("/{...}", "empty in `{...}`", "`{id}`"),
        ("/{id", "not closed in `{id`", "`{name}`"),
        ("/id}", "without its `{` in `id}`", "`%7B` and `%7D`"),
        ("/}id{", "without its `{` in `}id{`", "`%7B` and `%7D`"),
        ("/x{id}", "whole segment, found `x{id}`", "`regex`"),
        ("/{id}.json", "whole segment, found `{id}.json`", "`regex`"),
        ("/{a}{b}", "whole segment, found `{a}{b}`", "`regex`"),
        ("/{a}/x/{a}", "`a` comes twice", "rename"),
        ("/{a}/{a...}", "`a` comes twice", "rename"),
        ("/{a...}/x", "only at the end", "`{a}`"),
        ("/{a...}/", "only at the end", "`{a}`"),
        ("/{9}", "found `{9}`", "does not begin with a digit"),
        ("/{a-b}", "found `{a-b}`", "letters, digits"),
        ("/{" + "a" * 65 + "}", "expected a name", "at most 64"),
        ("/{id:[0-9]+}", "found `{id:[0-9]+}`", "`{id}` for one segment"),
        ("/{id=*}", "found `{id=*}`", "`{id...}` at the end"),
        ("/{**}", "found `{**}`", "`{rest...}` at the end"),
        ("/{*path}", "found `{*path}`", "`{path...}` at the end"),
        ("/{id?}", "found `{id?}`", "`{id}` for one segment"),
        ("/a/../b", "segments of dots", "normal form"),
        ("/a/%2E%2e/b", "segments of dots", "normal form"),
        ("/{a}/.", "segments of dots", "normal form"),
        ("/x" * (MAX_SEGMENTS + 1), f"more than {MAX_SEGMENTS} segments", "`{name...}`"),
    ],
)
def test_what_is_no_template_is_refused_with_what_to_write(text: str, message: str, hint: str) -> None:
    """Also what other notations write in its place."""
    with pytest.raises(TemplateError) as caught:
        parse_template(text)
    assert message in caught.value.args[0]
    assert hint in caught.value.hint
    assert str(caught.value) == f"{caught.value.args[0]}; {caught.value.hint}"


def test_a_template_of_as_many_segments_as_there_may_be_is_read() -> None:
    """The bound itself is allowed."""
    assert len(parse_template("/x" * MAX_SEGMENTS)) == MAX_SEGMENTS
