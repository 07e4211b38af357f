"""What the tally of a mesh's storm holds for wrong: each kind of harm is seen, and nothing excuses a GET."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.soak.steady import Asked, Tally, Trouble, tally

KILL = Trouble("app", 100.0, 103.0)


def told(id_: str, said: str, seen: Mapping[str, int], *troubles: Trouble, began_s: float = 100.1) -> Tally:
    """Of one request that took a tenth of a second."""
    return tally([Asked(id_, began_s, began_s + 0.1, said, "one")], seen, troubles, 1.0)


def test_answered_requests_are_good() -> None:
    """And counted by who answered."""
    found = told("POST /1", "200", {"POST /1": 1})
    assert found.is_good
    assert found.by_app == {"one": 1}
    assert found.rate == 1.0


@pytest.mark.parametrize("said", ["503 UF", "502 UC", "hung", "lost: ConnectionResetError()"])
def test_failures_are_losses(said: str) -> None:
    """Without a kill of anybody's, and for a GET with one, too."""
    assert told("POST /1", said, {}).lost
    assert told("GET /1", said, {}, KILL).lost


def test_post_that_was_hurt_is_excused_at_that_moment_only() -> None:
    """It might have reached what was killed, so nobody may send it again."""
    found = told("POST /1", "502 UC", {"POST /1": 1}, KILL)
    assert found.is_good
    assert found.excused == {"502 UC (app)": 1}
    assert told("POST /1", "502 UC", {}, KILL, began_s=103.1).lost
    assert told("POST /1", "502 UC", {}, KILL, began_s=99.8).lost


def test_post_that_arrives_twice_is_seen_whatever_was_answered() -> None:
    """A kill excuses no repetition; a GET may be repeated."""
    assert told("POST /1", "200", {"POST /1": 2}).twice
    assert told("POST /1", "502 UC", {"POST /1": 2}, KILL).twice
    assert told("GET /1", "200", {"GET /1": 2}).is_good


def test_answer_of_nobody_is_seen() -> None:
    """Who says 200 must have been an app."""
    assert told("GET /1", "200", {}).unseen == ["GET /1"]
