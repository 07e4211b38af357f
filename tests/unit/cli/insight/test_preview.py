"""`sidecar preview`: the report as a person reads it, as a program does, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sidecar.cli.commands import cli
from tests.unit.cli.fake_admin import FakeAdmin

EXAMPLE = {"method": "GET", "host": "rec", "path": "/v1/\x1b[2J", "request_id": "r-1"}
REPORT: dict[str, Any] = {
    "requests": 2000, "moved": 103, "moved_share": 0.0515, "unknown": 3, "refused": 2, "not_found": 2,
    "groups": [
        {
            "count": 101, "direction": "outbound", "position": "new.yaml:11", "example": EXAMPLE,
            "from": {"route": "canary", "to": ["rec"], "status": None, "flag": ""},
            "to": {"route": "canary", "to": ["beta", "rec"], "status": None, "flag": ""},
        },
        {
            "count": 2, "direction": "outbound", "position": "", "example": EXAMPLE,
            "from": {"route": "old", "to": [], "status": 301, "flag": ""},
            "to": {"route": None, "to": [], "status": 404, "flag": "NR"},
        },
    ],
    "groups_left_out": 4,
    "unknowns": [{"count": 3, "needs": "header x-plan", "why": "not recorded", "example": EXAMPLE}],
    "splits": [
        {
            "route": "canary", "direction": "outbound", "before": {"rec": 0.95, "beta": 0.05},
            "after": {"rec": 0.9, "beta": 0.1}, "sticky_moved": 101, "sticky_of": 1940,
        }
    ],
    "settings": [
        {
            "route": "canary", "direction": "outbound", "setting": "timeout", "before": None, "after": 3.0,
            "position": "new.yaml:15",
        }
    ],
    "warnings": ["new.yaml:20:7: warning: outbound.routes[3]: it is never reached"], "problems": [],
}  # fmt: skip
TEXT = r"""2000 recent requests: 103 would go elsewhere (5.15%), 2 would be refused (2 of them 404), 3 unknown

   101 outbound  canary to rec  =>  canary to beta, rec  by new.yaml:11
       such as GET rec/v1/\x1b[2J (request id r-1)

     2 outbound  old, 301  =>  404 NR
       such as GET rec/v1/\x1b[2J (request id r-1)
       and 4 smaller groups

     3 unknown: needs header x-plan (not recorded)
       such as GET rec/v1/\x1b[2J (request id r-1)

shares:
  outbound canary: rec 95.00% -> 90.00%, beta 5.00% -> 10.00%; of 1940 requests that stick, 101 move

settings:
  outbound canary: timeout null -> 3.0  (new.yaml:15)

new warnings:
  new.yaml:20:7: warning: outbound.routes[3]: it is never reached
"""
EMPTY = {
    **{key: type(value)() for key, value in REPORT.items()},
    "problems": [{"text": "new.yaml:2:3: outbound.routs: unknown key `routs`"}],
}


def run(tmp_path: Path, *arguments: str, report: object = REPORT, file: str | None = None) -> tuple[int, str, str]:
    path = tmp_path / "new.yaml"
    path.write_text("service: x\n")
    with FakeAdmin(preview=[json.dumps(report).encode()]) as admin:
        result = CliRunner().invoke(
            cli, ["preview", file or str(path), "--admin", admin.address, *arguments], input="service: y\n"
        )
        posted = admin.posted
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if file == "-":
        assert posted == [("/preview?name=%3Cstdin%3E", b"service: y\n")]
    return result.exit_code, result.stdout, result.stderr


def test_report_as_a_person_reads_it(tmp_path: Path) -> None:
    """What moves, by what, with an example; what is not known; shares, settings, warnings."""
    assert run(tmp_path) == (0, TEXT, "")


def test_report_as_a_program_reads_it(tmp_path: Path) -> None:
    """As the sidecar gave it."""
    code, out, err = run(tmp_path, "--json")
    assert (code, json.loads(out), err) == (0, REPORT, "")


def test_a_condition_that_holds_fails(tmp_path: Path) -> None:
    """Each that does is told; the report is printed all the same."""
    arguments = ("--fail-if", "moved > 1%", "--fail-if", "refused > 5", "--fail-if", "404>0")
    assert run(tmp_path, *arguments) == (1, TEXT, "failed: moved > 1%\nfailed: 404>0\n")


def test_a_condition_that_does_not_hold_passes(tmp_path: Path) -> None:
    """A gate that lets through."""
    assert run(tmp_path, "--fail-if", "moved > 10%")[0] == 0


def test_problems_of_the_file_are_told_and_fail(tmp_path: Path) -> None:
    """A line each, as `sidecar check` tells them; as JSON the whole report."""
    assert run(tmp_path, report=EMPTY) == (1, "", "new.yaml:2:3: outbound.routs: unknown key `routs`\n")
    code, out, _ = run(tmp_path, "--json", report=EMPTY)
    assert (code, json.loads(out)) == (1, EMPTY)


def test_a_sidecar_that_has_seen_nothing_says_so(tmp_path: Path) -> None:
    """Files are compared all the same."""
    report = {**EMPTY, "problems": [], "settings": REPORT["settings"]}
    code, out, _ = run(tmp_path, report=report)
    assert code == 0
    assert out.startswith("no request was seen yet")
    assert "timeout null -> 3.0" in out


def test_a_file_may_come_by_standard_input(tmp_path: Path) -> None:
    """Under the name `<stdin>`."""
    assert run(tmp_path, file="-")[0] == 0


@pytest.mark.parametrize("report", [[], {}, "no", {"requests": 1}])
def test_what_is_no_report_is_told_in_a_line(tmp_path: Path, report: object) -> None:
    """Of a sidecar of another version."""
    code, out, err = run(tmp_path, report=report)
    assert (code, out) == (2, "")
    assert "gave no report that can be read" in err


def test_who_cannot_be_asked_and_what_cannot_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    """Exit code 2 for both."""
    code, _, err = run(tmp_path, file=str(tmp_path / "none.yaml"))
    assert (code, err) == (2, f"sidecar: cannot read {tmp_path}/none.yaml: no such file\n")
    (tmp_path / "f").write_text("service: x")
    result = CliRunner().invoke(cli, ["preview", str(tmp_path / "f"), "--admin", "127.0.0.1:1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("sidecar: no answer from 127.0.0.1:1: ")


def test_a_file_that_is_too_large_is_not_even_sent(tmp_path: Path) -> None:
    """It is a problem of the file."""
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (10 * 1024 * 1024 + 1))
    code, _, err = run(tmp_path, file=str(large))
    assert (code, err) == (1, f"{large}:1:1: the file is larger than 10 MiB; make it smaller\n")
