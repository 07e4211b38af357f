"""`sidecar check` and `sidecar schema`."""

from __future__ import annotations

import json
import pathlib

import pytest
from click.testing import CliRunner

from sidecar.cli.check.command import check
from sidecar.cli.schema import schema
from sidecar.config.schema import json_schema

GOOD = "service: s\noutbound: {routes: [{to: a}]}\nupstreams: {a: {dns: 'h:${PORT:-80}'}}\n"
BAD = "service: s\noutbound: {unmatched: x, y: z}\n"


def test_a_good_file_is_0_and_says_what_it_holds(tmp_path: pathlib.Path) -> None:
    """One line on standard output."""
    path = tmp_path / "f.yaml"
    path.write_text(GOOD)
    result = CliRunner().invoke(check, [str(path)])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok: 1 route, 1 upstream, 0 tests\n", "")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_variable_that_has_no_effect_is_a_warning(tmp_path: pathlib.Path, as_json: bool) -> None:
    """A line on standard error; the file is good all the same."""
    path = tmp_path / "f.yaml"
    path.write_text(GOOD)
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    result = CliRunner(env=env).invoke(check, [*(["--json"] if as_json else []), str(path)])
    assert result.exit_code == 0
    warnings = json.loads(result.stdout)["warnings"] if as_json else result.stderr.splitlines()
    assert len(warnings) == 1
    assert "otlp_grpc_unsupported" in (warnings[0]["message"] if as_json else warnings[0])


def test_problems_are_1_a_line_each_and_a_summary(tmp_path: pathlib.Path) -> None:
    """On standard error, so that a pipeline's log shows them."""
    path = tmp_path / "f.yaml"
    path.write_text(BAD)
    result = CliRunner().invoke(check, [str(path)])
    lines = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (1, "")
    assert lines[0].startswith(f"{path}:2:23: outbound.unmatched: expected `deny` or `passthrough`")
    assert lines[2:] == [f"2 problems in {path}"]


def test_a_file_that_cannot_be_read_is_2(tmp_path: pathlib.Path) -> None:
    """One line, no traceback."""
    result = CliRunner().invoke(check, [str(tmp_path / "none")])
    assert (result.exit_code, result.stderr) == (2, f"cannot read {tmp_path / 'none'}: no such file\n")


def test_standard_input_is_checked() -> None:
    """`kubectl get configmap ... | sidecar check -`."""
    assert CliRunner().invoke(check, ["-"], input=GOOD).exit_code == 0
    result = CliRunner().invoke(check, ["-"], input=BAD)
    assert result.exit_code == 1
    assert result.stderr.startswith("<stdin>:2:23: ")


def test_tests_that_fail_are_problems_at_their_place(tmp_path: pathlib.Path) -> None:
    """The code that routes live traffic decides them; all that fail are told."""
    path = tmp_path / "f.yaml"
    path.write_text(
        GOOD + "tests:\n"
        "  - {name: good, request: {url: 'http://x/'}, expect: {to: a}}\n"
        "  - {name: bad, request: {url: 'http://x/'}, expect: {status: 404}}\n"
        "  - {name: worse, request: {url: 'http://x/'}, expect: {route: passthrough}}\n"
    )
    result = CliRunner().invoke(check, [str(path)])
    lines = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (1, "")
    assert lines[0].startswith(f"{path}:6:5: tests[1]: the test `bad` fails: expected status 404, found the route")
    assert lines[1].startswith(f"{path}:7:5: tests[2]: the test `worse` fails: expected the route `passthrough`")
    assert lines[2:] == [f"2 problems in {path}"]


def test_values_that_only_compiling_judges_are_problems(tmp_path: pathlib.Path) -> None:
    """What a start would refuse, the check refuses."""
    path = tmp_path / "f.yaml"
    path.write_text("service: s\noutbound: {}\nupstreams: {a: {dns: 'h:1', health_check: {headers: {x: é}}}}\n")
    result = CliRunner().invoke(check, [str(path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{path}:3:")


@pytest.mark.parametrize(("text", "code"), [(GOOD, 0), (BAD, 1), (None, 2)])
def test_json_is_one_object_on_standard_output(tmp_path: pathlib.Path, text: str | None, code: int) -> None:
    """For programs: the same exit codes, and each problem as its parts."""
    path = tmp_path / "f.yaml"
    if text is not None:
        path.write_text(text)
    result = CliRunner().invoke(check, ["--json", str(path)])
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["ok"], result.stderr) == (code, code == 0, "")
    if code == 1:
        first = answer["problems"][0]
        assert (first["line"], first["column"], first["path"]) == (2, 23, "outbound.unmatched")
        assert set(first) == {"file", "line", "column", "path", "message", "hint", "severity", "rule"}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_warning_is_told_and_the_file_is_good(tmp_path: pathlib.Path, as_json: bool) -> None:
    """Exit code 0; a line on standard error, or an object of the answer."""
    path = tmp_path / "f.yaml"
    path.write_text("service: s\noutbound: {routes: [{redirect: {status: 303}}]}\n")
    result = CliRunner().invoke(check, [*(["--json"] if as_json else []), str(path)])
    assert result.exit_code == 0
    if as_json:
        answer = json.loads(result.stdout)
        assert (answer["ok"], answer["problems"], result.stderr) == (True, [], "")
        (warning,) = answer["warnings"]
        assert (warning["severity"], warning["line"], warning["path"]) == ("warning", 2, "outbound.routes[0].redirect")
    else:
        assert result.stderr.startswith(f"{path}:2:32: warning: outbound.routes[0].redirect: leads to itself")
        assert result.stdout.startswith("ok: ")


def test_schema_is_printed() -> None:
    """As `config/sidecar.schema.json` keeps it."""
    result = CliRunner().invoke(schema, [])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema()
