"""What the storm's judge holds for wrong: each kind of harm is seen, and each excuse needs its facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.faults import SLACK_S, Fault
from tests.soak.outcome import Kind, Outcome
from tests.soak.servers import Journals, Server
from tests.soak.verdict import Verdict, judge

GET = Kind("get", "GET", "shaky")
POST = Kind("post", "POST", "shaky")
KEYED = Kind("keyed", "POST", "shaky", is_keyed=True)
WELL = "R a GET\nS a\nE a\n"
KILL = Fault("kill", "shaky0", 100.0, 101.0)


def outcome(kind: Kind = GET, failure: str = "", *, status: int = 200, flag: str = "") -> Outcome:
    """Of a request `a` that began at 100.1 and took a tenth of a second."""
    return Outcome("a", kind, 100.1, 100.2, status, flag, failure)


def verdict_of(directory: Path, journal: str, one: Outcome, *faults: Fault) -> Verdict:
    """Judge a single request with this journal."""
    server = Server("s", directory)
    server.journal.write_text(journal)
    return judge([one], Journals([server]), faults)


def test_answered_request_is_good(tmp_path: Path) -> None:
    """Its own answer, from a server that gave it."""
    verdict = verdict_of(tmp_path, WELL, outcome())
    assert verdict.is_good
    assert verdict.answered == 1


def test_post_that_arrived_twice_is_bad_though_it_was_answered(tmp_path: Path) -> None:
    """Also when its client left; with a key it may."""
    journal = "R a POST\nX a reset_before\nR a POST\nS a\nE a\n"
    assert verdict_of(tmp_path, journal, outcome(POST), KILL).repeated
    assert verdict_of(tmp_path, journal, outcome(POST, "left"), KILL).repeated
    assert verdict_of(tmp_path, journal, outcome(KEYED), KILL).is_good


@pytest.mark.parametrize("failure", ["status", "cut", "unanswered", "refused", "hung", "wrong"])
@pytest.mark.parametrize("kind", [GET, POST, KEYED], ids=lambda kind: kind.name)
def test_failure_that_nothing_explains_is_bad(tmp_path: Path, kind: Kind, failure: str) -> None:
    """A request that its server served in full has no excuse at all, whatever fault there was."""
    one = outcome(kind, failure, status=503 if failure == "status" else 0, flag="UT")
    assert not verdict_of(tmp_path, WELL, one).is_good
    assert verdict_of(tmp_path, WELL, replace(one, kind=GET), KILL).is_good is False


@pytest.mark.parametrize("kind", [GET, KEYED], ids=lambda kind: kind.name)
@pytest.mark.parametrize("hurt", ["reset_before", "garbage", "error", "mute"])
def test_request_that_could_be_repeated_must_not_fail_before_its_answer(tmp_path: Path, kind: Kind, hurt: str) -> None:
    """There were servers that were well."""
    one = outcome(kind, "status", status=503, flag="UR")
    assert verdict_of(tmp_path, f"R a {kind.method}\nX a {hurt}\n", one, KILL).unexplained


@pytest.mark.parametrize("hurt", ["reset_within", "bad_chunk"])
def test_answer_that_broke_off_is_explained_by_what_broke_it(tmp_path: Path, hurt: str) -> None:
    """And by nothing else."""
    one = outcome(GET, "cut")
    assert verdict_of(tmp_path, f"R a GET\nX a {hurt}\nS a\n", one).explained == {"get response_started": 1}
    assert verdict_of(tmp_path, "R a GET\nS a\n", one).unexplained
    assert verdict_of(tmp_path, "R a GET\nS a\n", one, KILL).explained == {"get response_started": 1}
    assert verdict_of(tmp_path, WELL, one, KILL).unexplained


def test_post_that_failed_is_explained_by_a_fault_of_its_time_only(tmp_path: Path) -> None:
    """Or by what was done to it, or by a connection that closed under it and brought it nowhere."""
    one = outcome(POST, "status", status=503, flag="UC")
    arrived = "R a POST\n"
    assert verdict_of(tmp_path, arrived, one, KILL).explained == {"post not_idempotent": 1}
    assert verdict_of(tmp_path, arrived, one, Fault("kill", "shaky1", 101.0, 102.0)).unexplained
    assert verdict_of(tmp_path, arrived, one, Fault("kill", "shaky1", 90.0, 100.0 - SLACK_S)).unexplained
    assert verdict_of(tmp_path, arrived + "X a garbage\n", one).explained == {"post not_idempotent": 1}
    assert verdict_of(tmp_path, "", one).explained == {"post keep_alive_race": 1}
    assert verdict_of(tmp_path, arrived, one).unexplained


@pytest.mark.parametrize("flag", ["UF", "UH", "UO"])
def test_post_of_which_nothing_was_sent_must_not_fail(tmp_path: Path, flag: str) -> None:
    """Another server would have taken it."""
    assert verdict_of(tmp_path, "", outcome(POST, "status", status=503, flag=flag), KILL).unexplained


def test_answer_that_nobody_gave_is_bad(tmp_path: Path) -> None:
    """Whole and with the right id, but no server says that it sent it."""
    assert verdict_of(tmp_path, "R a GET\nS a\n", outcome(), KILL).wrong


def test_request_that_arrived_changed_is_bad(tmp_path: Path) -> None:
    """The server compares the body with the id."""
    assert verdict_of(tmp_path, WELL + "W a with 3 bytes\n", outcome()).wrong


@pytest.mark.parametrize("came", ["", " spiffe://shop/other"])
def test_request_that_arrived_as_somebody_else_is_bad(tmp_path: Path, came: str) -> None:
    """Or as nobody; also when its client left, and also once of twice."""
    mine = Kind("mine", "GET", "shaky", caller="spiffe://shop/me")
    well = "R a GET spiffe://shop/me\nS a\nE a\n"
    assert verdict_of(tmp_path, well, outcome(mine)).is_good
    for failure in ("", "left"):
        assert verdict_of(tmp_path, f"R a GET{came}\n{well}", outcome(mine, failure)).wrong


def test_answer_that_was_cut_without_a_close_notify_is_explained(tmp_path: Path) -> None:
    """As one that was reset."""
    journal = "R a GET\nX a cut_within\nS a\n"
    assert verdict_of(tmp_path, journal, outcome(GET, "cut")).explained == {"get response_started": 1}


def test_fault_of_other_servers_explains_nothing(tmp_path: Path) -> None:
    """One of the swift ones was killed, and this request was for the shaky ones."""
    one = outcome(POST, "status", status=503, flag="UC")
    assert verdict_of(tmp_path, "R a POST\n", one, Fault("kill", "swift0", 100.0, 101.0)).unexplained


def test_call_is_sent_again_only_where_its_server_has_said_unavailable(tmp_path: Path) -> None:
    """The file vouches for that, and for nothing else."""
    call = Kind("call", "POST", "swift", version=2, is_call=True)
    unavailable = "R a POST\nX a error\nS a\nE a\n"
    assert verdict_of(tmp_path, unavailable + "R a POST\nS a\nE a\n", outcome(call)).is_good
    assert verdict_of(tmp_path, "R a POST\nX a reset_before\nR a POST\nS a\nE a\n", outcome(call)).repeated
    assert verdict_of(tmp_path, unavailable + 2 * "R a POST\nS a\nE a\n", outcome(call)).repeated


@pytest.mark.parametrize(("sent", "is_good"), [(10, False), (200_000, True)])
def test_post_that_was_refused_may_fail_only_if_its_body_was_not_kept(tmp_path: Path, sent: int, is_good: bool) -> None:
    """Nobody has looked at it, so it is sent elsewhere; if it still can be."""
    one = replace(outcome(POST, "status", status=503, flag="UR"), detail="stream_refused", sent=sent)
    assert verdict_of(tmp_path, "X a refused\n", one, KILL).is_good is is_good


@pytest.mark.parametrize("hurt", ["cut", "garbage", "too_little"])
def test_answer_that_broke_off_by_http2_is_explained(tmp_path: Path, hurt: str) -> None:
    """By what befell its stream, or all that its connection carried."""
    journal = f"R a GET\nS a\nX a {hurt}\n"
    assert verdict_of(tmp_path, journal, outcome(GET, "cut")).explained == {"get response_started": 1}
