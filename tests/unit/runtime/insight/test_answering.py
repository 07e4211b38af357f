"""What a control plane asks, as the admin listener would be asked it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.link.fields import MessageError
from sidecar.runtime.insight.answering import answered


class Views:
    """Remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []

    async def explain(self, params: list[tuple[str, str]]) -> Mapping[str, object]:
        self.asked.append(params)
        return {"outcome": {}}


def ask(kind: str, body: dict[str, Any]) -> tuple[Views, object]:
    """The answer, and what was asked for it."""
    views = Views()
    return views, asyncio.run(answered(views, kind, body))


def test_a_question_is_put_as_a_query_would() -> None:
    """Every part of the request that the protocol names."""
    request = {
        "url": "http://a/b", "method": "PUT", "headers": {"x-a": "1"}, "cookies": {"c": "2"}, "source_ip": "10.0.0.1",
        "from": "spiffe://shop/ns/x/sa/y",
    }  # fmt: skip

    views, answer = ask("explain", {"id": "1", "request": request, "direction": "inbound"})

    assert answer == {"outcome": {}}
    assert views.asked == [
        [
            ("direction", "inbound"), ("url", "http://a/b"), ("method", "PUT"), ("source_ip", "10.0.0.1"),
            ("from", "spiffe://shop/ns/x/sa/y"), ("header", "x-a: 1"), ("cookie", "c=2"),
        ]
    ]  # fmt: skip


def test_a_request_that_was_served_is_asked_about_by_its_id() -> None:
    """Without a request."""
    views, _ = ask("explain", {"request_id": "abc"})

    assert views.asked == [[("request_id", "abc")]]


def test_a_kind_that_is_not_known_has_no_answer() -> None:
    """Which is told as `unsupported`, whatever a later release asks."""
    views, answer = ask("dream", {"request": {"url": "http://a/"}})

    assert (answer, views.asked) == (None, [])


@pytest.mark.parametrize("request_", [{"url": 1}, {"method": "GET"}, {"url": "http://a/", "headers": {"x": 1}}, []])
def test_a_question_of_another_form_is_refused(request_: object) -> None:
    """With what was expected where."""
    with pytest.raises(MessageError, match=r"expected|missing"):
        ask("explain", {"request": request_})
