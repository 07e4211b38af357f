"""SARIF 2.1.0 as code scanning reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from sidecar.cli.check.command import check
from sidecar.config.warnings.rules import RULES

GOLDEN = Path(__file__).parent / "golden"

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
ESSENTIALS = {
    "type": "object",
    "required": ["version", "runs", "$schema"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "rules"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id", "shortDescription", "fullDescription", "help"],
                                            "properties": {"help": TEXT, "shortDescription": TEXT},
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "invocations": {"type": "array", "items": {"required": ["executionSuccessful"]}},
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "message": TEXT,
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "required": ["physicalLocation"],
                                        "properties": {
                                            "physicalLocation": {
                                                "required": ["artifactLocation", "region"],
                                                "properties": {
                                                    "artifactLocation": {"required": ["uri"]},
                                                    "region": {
                                                        "required": ["startLine", "startColumn"],
                                                        "properties": {
                                                            "startLine": {"type": "integer", "minimum": 1},
                                                            "startColumn": {"type": "integer", "minimum": 1},
                                                        },
                                                    },
                                                },
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""What of the standard's schema is required of what we write, and by GitHub of what it takes."""


def log(*arguments: str, given: str | None = None, code: int) -> dict[str, Any]:
    """What is printed, valid; the run in it."""
    result = CliRunner().invoke(check, ["--format", "sarif", *arguments], input=given)
    assert (result.exit_code, result.stderr) == (code, "")
    answer: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(answer, ESSENTIALS)
    (run,) = answer["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for found in run["results"]:
        assert rules[found["ruleIndex"]] == found["ruleId"]
    return dict(run)


def test_warnings_are_results_with_their_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its place in a file whose address is relative to where the command ran."""
    monkeypatch.chdir(GOLDEN.parent)
    run = log("golden/surprising.yaml", code=0)
    first = run["results"][0]
    assert (first["ruleId"], first["level"]) == ("own-listener", "warning")
    assert first["message"]["text"].startswith("inbound.app: `127.0.0.1:15000` is our own")
    assert first["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "golden/surprising.yaml", "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": 6, "startColumn": 8},
            }
        }
    ]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert rules == {found["ruleId"] for found in run["results"]} <= set(RULES)
    assert all("docs/check.md#" in rule["help"]["text"] for rule in run["tool"]["driver"]["rules"])
    fingerprints = [found["partialFingerprints"]["ruleAndPath/v1"] for found in run["results"]]
    assert len(set(fingerprints)) == len(fingerprints)


def test_problems_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a file, and tests that fail."""
    monkeypatch.chdir(GOLDEN)
    run = log("broken.yaml", "failing.yaml", code=1)
    found = [(one["ruleId"], one["level"]) for one in run["results"]]
    assert found == [("invalid-configuration", "error")] * 5 + [
        ("route-never-matches", "warning"),
        ("test-fails", "error"),
    ]


def test_strict_warnings_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their own rules."""
    monkeypatch.chdir(GOLDEN)
    run = log("--strict", "surprising.yaml", code=1)
    assert {one["level"] for one in run["results"]} == {"error"}
    assert "route-shadowed" in {one["ruleId"] for one in run["results"]}


def test_a_good_file_is_a_run_without_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what was found before counts as put right."""
    monkeypatch.chdir(GOLDEN)
    run = log("usual.yaml", code=0)
    assert (run["results"], run["invocations"][0]["executionSuccessful"]) == ([], True)


def test_what_cannot_be_read_is_told_of_the_run(tmp_path: Path) -> None:
    """It has no place in a file."""
    run = log(str(tmp_path / "none.yaml"), code=2)
    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    assert "no such file" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_addresses_of_other_files_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of the directory, and with characters that an address may not have."""
    monkeypatch.chdir(GOLDEN)
    path = tmp_path / "a b#.yaml"
    path.write_text("service: 1 2\nx: 1\n")
    uris = [one["locations"][0]["physicalLocation"]["artifactLocation"] for one in log(str(path), code=1)["results"]]
    assert uris[0]["uri"].startswith("file:///")
    assert uris[0]["uri"].endswith("/a%20b%23.yaml")
    stdin = log("-", given="service: 1\n", code=1)["results"][0]
    assert stdin["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "stdin"}
