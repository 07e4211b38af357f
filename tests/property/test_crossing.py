"""A gateway's route and a service's made one, against going through both one after the other."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sidecar.importing.appmesh.crossing import Outer, cross
from sidecar.importing.draft import Plain, RouteDraft
from tests.support.thoroughness import examples

segments = st.lists(st.sampled_from(["a", "a", "b"]), max_size=2)
paths = segments.map(lambda parts: "/" + "/".join(parts))
questions = st.one_of(st.none(), paths, paths.filter(lambda path: path != "/").map(lambda path: {"starts_with": path}))


@st.composite
def outers(draw: st.DrawFn) -> Outer:
    question = draw(questions)
    outer = Outer({} if question is None else {"path": question}, None, None, "")
    if isinstance(question, dict):
        outer.prefix = draw(st.sampled_from(["/", "/", None, "/b"]))
    if draw(st.integers(0, 4)) == 0:
        outer.path, outer.prefix = draw(paths), None
    return outer


def holds(question: Plain | None, path: str) -> bool:
    if question is None or question == "":
        return True
    if isinstance(question, str):
        return path == question
    assert isinstance(question, dict)
    if "regex" in question:
        return re.fullmatch(str(question["regex"]), path) is not None
    return path.startswith(str(question["starts_with"]))


def replaced(path: str, prefix: str, by: str) -> str:
    """What becomes of a prefix, with one slash at the seam."""
    rest = path[len(prefix) :]
    if not rest:
        return by
    return by.rstrip("/") + "/" + rest.lstrip("/")


def at_segments(question: Plain | None, path: str) -> bool:
    """Whether a prefix ends where a segment does: what becomes of half a segment App Mesh does not say."""
    if not isinstance(question, dict):
        return True
    prefix = str(question["starts_with"])
    return not path.startswith(prefix) or path == prefix or path[len(prefix)] == "/"


@hypothesis_settings(max_examples=examples(2400), deadline=None)
@given(outers(), st.lists(questions, min_size=1, max_size=4), st.lists(paths, min_size=1, max_size=8))
def test_one_route_does_what_two_do(outer: Outer, inner: list[Plain | None], asked: list[str]) -> None:
    """The same route of the service is found for every path, and the same path is sent to it."""
    routes = [
        RouteDraft(str(number), "", [] if question is None else [{"path": question}])
        for number, question in enumerate(inner)
    ]
    crossed = cross(outer, routes, "s")
    assert not any(one.lost for one in crossed)
    for came in asked:
        if not at_segments(outer.match.get("path"), came):
            continue
        expected = None
        if holds(outer.match.get("path"), came):
            sent = came if outer.path is None else outer.path
            if outer.prefix is not None:
                question = outer.match["path"]
                assert isinstance(question, dict)
                sent = replaced(came, str(question["starts_with"]), outer.prefix)
            expected = next((str(number), sent) for number, one in enumerate([*inner, None]) if holds(one, sent))
            expected = None if expected[0] == str(len(inner)) else expected
        found = next((one for one in crossed if holds(one.match.get("path"), came)), None)
        if found is None:
            assert expected is None
            continue
        rewrite = found.rest.get("rewrite", {})
        assert isinstance(rewrite, dict)
        sent = came
        if "path" in rewrite:
            sent = str(rewrite["path"])
        elif "prefix" in rewrite:
            question = found.match["path"]
            assert isinstance(question, dict)
            sent = replaced(came, str(question["starts_with"]), str(rewrite["prefix"]))
        assert (found.name, sent) == expected
