"""Forwarding and responding."""

from __future__ import annotations

import pytest

from sidecar.config.values.words import FIXED_HEADERS
from sidecar.routing.actions import Forward, Target, can_edit, make_respond, make_split
from tests.unit.routing import NoTelemetry, head_of

PEER = "192.0.2.1"


def target_of(name: str, weight: float = 1.0) -> Target:
    return Target(name, object(), weight, None, None, NoTelemetry())


def test_a_single_target_gets_everything() -> None:
    """No split, no chance."""
    target = target_of("a")
    assert Forward((target,)).choose(head_of(), PEER) is target


def test_the_split_chooses_among_targets_by_their_position() -> None:
    """Sticky by cookie: the same user, the same target."""
    targets = (target_of("a"), target_of("b"))
    split = make_split(["a", "b"], [1, 1], ("cookie", "uid"))
    assert split is not None
    forward = Forward(targets, split)
    chosen = {forward.choose(head_of(b"/", b"Cookie: uid=%d" % n), PEER).name for n in range(40)}
    assert chosen == {"a", "b"}
    for number in range(10):
        head = head_of(b"/", b"Cookie: uid=%d" % number)
        assert forward.choose(head, PEER) is targets[split.side(b"%d" % number)]


class TestRespond:
    """Answers without an upstream."""

    def test_a_body_is_plain_text_unless_declared(self) -> None:
        """UTF-8."""
        respond = make_respond(418, {}, "short and stout\n")
        assert (respond.status, respond.body) == (418, b"short and stout\n")
        assert [field.wire for field in respond.fields] == [b"content-type: text/plain; charset=utf-8"]
        respond = make_respond(200, {"Content-Type": "application/json"}, b"{}")
        assert [field.wire for field in respond.fields] == [b"Content-Type: application/json"]

    def test_without_a_body_nothing_is_declared(self) -> None:
        """There is no content whose type could be said."""
        assert make_respond(204).fields == ()

    @pytest.mark.parametrize(
        ("status", "headers", "body"),
        [(100, {}, ""), (199, {}, ""), (600, {}, ""), (204, {}, "x"), (304, {}, "x"),
         (200, {"Content-Length": "1"}, "x"), (200, {"Connection": "close"}, ""), (200, {"x": "a\r\nb"}, ""),
         (200, {"a b": "c"}, "")],
    )  # fmt: skip
    def test_what_is_no_response_is_refused(self, status: int, headers: dict[str, str], body: str) -> None:
        """When compiled, not when a request comes."""
        with pytest.raises(ValueError):
            make_respond(status, headers, body)


def test_the_configuration_refuses_the_headers_that_cannot_be_edited() -> None:
    """So that an operator is told with file and line."""
    assert not [name for name in FIXED_HEADERS if can_edit(name)]
