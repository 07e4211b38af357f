"""`sidecar routes`: what it prints of a sidecar's rules, and that it says how far back it knows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from sidecar.cli.commands import cli
from tests.unit.cli.fake_admin import FakeAdmin

NOW = datetime.now(UTC)


def at(**ago: float) -> str:
    return (NOW - timedelta(**ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def route(name: str, hits: int, last: str | None, since: str, **more: object) -> dict[str, object]:
    return {"name": name, "hits": hits, "last_hit": last, "share": hits / 100, "counted_since": since, **more}


START = at(days=3.1)
PAGE = {
    "counted_since": START,
    "outbound": {
        "routes": [
            route("canary", 95, at(days=1.1), START, **{"from": "a.yaml:7"}),
            route("old\x1b[2J", 5, at(days=2.1), START, **{"from": "a.yaml:9"}),
            route("never", 0, None, START, **{"from": "a.yaml:12"}),
        ],
        "unmatched": "404",
    },
    "inbound": {"routes": [], "unmatched": route("app", 0, None, START)},
    "settings": {},
}


def run(*arguments: str, page: object = PAGE) -> tuple[int, str, str]:
    with FakeAdmin(routes=[json.dumps(page).encode()]) as admin:
        result = CliRunner().invoke(cli, ["routes", "--admin", admin.address, *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def lines_of(out: str) -> list[str]:
    return [" ".join(line.split()) for line in out.splitlines()]


def test_routes_are_shown_with_place_hits_share_and_last_hit() -> None:
    """In their order; what a name holds cannot command the terminal."""
    code, out, err = run()
    assert (code, err) == (0, "")
    assert lines_of(out) == [
        f"counted since {START} (3.1d)",
        "ROUTE AT HITS SHARE LAST HIT",
        "in app - 0 0.00% never",
        "out canary a.yaml:7 95 95.00% 1.1d ago",
        r"out old\x1b[2J a.yaml:9 5 5.00% 2.1d ago",
        "out never a.yaml:12 0 0.00% never",
    ]


def test_unused_are_those_without_a_hit() -> None:
    """Since the sidecar counts."""
    _, out, err = run("--unused")
    assert [line.split()[1] for line in lines_of(out)[2:]] == ["app", "never"]
    assert err == ""


def test_unused_since_a_time_are_those_whose_last_hit_is_older() -> None:
    """Within what is counted, nothing more is to be said."""
    _, out, err = run("--unused", "--since", "2d")
    assert [line.split()[1] for line in lines_of(out)[2:]] == ["app", r"old\x1b[2J", "never"]
    assert err == ""


def test_who_asks_further_back_than_is_counted_is_told_so() -> None:
    """A sidecar that counts for three days does not know of seven days."""
    _, _, err = run("--unused", "--since", "7d")
    assert err == f"known only since {START} (3.1d): a route that is listed may have been hit before that\n"
    found = json.loads(run("--unused", "--since", "7d", "--json")[1])
    assert (found["is_known_since_then"], found["counted_since"]) == (False, START)
    assert json.loads(run("--unused", "--since", "2d", "--json")[1])["is_known_since_then"] is True


def test_a_route_that_a_reload_brought_is_known_since_then() -> None:
    """Though the process counts for longer."""
    page = {**PAGE, "outbound": {"routes": [route("new", 0, None, at(days=1.1))], "unmatched": "404"}}
    _, _, err = run("--unused", "--since", "2d", page=page)
    assert "(1.1d)" in err


def test_nothing_unused_is_said() -> None:
    """And not an empty table."""
    page = {"counted_since": START, "outbound": {"routes": [route("r", 1, at(minutes=1), START)], "unmatched": "404"}}
    _, out, _ = run("--unused", page=page)
    assert out == f"every route was hit; counted since {START} (3.1d)\n"


def test_json_has_each_route() -> None:
    """With all that the text says."""
    found = json.loads(run("--json")[1])
    assert [one["name"] for one in found["routes"]] == ["app", "canary", "old\x1b[2J", "never"]
    assert found["routes"][1] == {
        "direction": "outbound", "name": "canary", "position": "a.yaml:7", "hits": 95,
        "last_hit": PAGE["outbound"]["routes"][0]["last_hit"], "share": 0.95, "counted_since": START,
    }  # type: ignore[index]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--since", "7d"), 2, "--since goes with --unused"),
        (("--unused", "--since", "week"), 2, "expected how long ago, such as `12h` or `7d`, found `week`"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], code: int, message: str) -> None:
    """With what was expected."""
    found, _, err = run(*arguments)
    assert found == code
    assert message in err


@pytest.mark.parametrize("page", [[], {"outbound": {"routes": [{}]}}, "no"])
def test_what_is_no_page_of_routes_is_told_in_a_line(page: object) -> None:
    """An older sidecar has no hits: no traceback."""
    code, out, err = run(page=page)
    assert (code, out) == (1, "")
    assert "gave no routes that can be read" in err


def test_a_sidecar_that_is_not_there_is_told_in_a_line() -> None:
    """As for the other commands that ask one."""
    result = CliRunner().invoke(cli, ["routes", "--admin", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.stderr.startswith("sidecar: no answer from 127.0.0.1:1: ")
