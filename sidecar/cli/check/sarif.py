"""
What was found, as code review reads it: SARIF 2.1.0 (OASIS), which GitHub's code scanning takes. *Cold, pure.*
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from sidecar import __version__
from sidecar.cli.check.judged import INVALID, TEST_FAILS, Judged
from sidecar.config.problems import Problem
from sidecar.config.warnings.rules import PAGE, RULES

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT: Final = "%SRCROOT%"
_OF_PROBLEMS: Final[Mapping[str, str]] = {
    INVALID: "The file cannot be used: a sidecar refuses it.",
    TEST_FAILS: "A test of the file does not hold: a sidecar refuses it.",
}


def as_sarif(all_judged: Sequence[Judged], root: str) -> dict[str, Any]:
    """
    A log of one run.

    Args:
        root: The directory that addresses of files are relative to, as the checkout's is for code scanning.
    """
    found = [problem for judged in all_judged for problem in (*judged.problems, *judged.warnings)]
    found += (
        Problem(judged.path, 1, 1, "", line, severity="warning", rule="otel-variable")
        for judged in all_judged
        for line in judged.complaints
    )
    every = {**_OF_PROBLEMS, **RULES}
    used = [rule for rule in every if rule in {problem.rule or INVALID for problem in found}]
    unread = [judged for judged in all_judged if judged.error]
    notes = [{"level": "error", "message": {"text": judged.error}} for judged in unread]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "sidecar",
                "semanticVersion": __version__,
                "rules": [_rule(rule, every[rule]) for rule in used],
            }
        },
        "invocations": [{"executionSuccessful": not unread, "toolExecutionNotifications": notes}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, used, root) for problem in sorted(found)],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: str, summary: str) -> dict[str, Any]:
    is_problem = rule in _OF_PROBLEMS
    page = f"{PAGE}#{rule}"
    return {
        "id": rule,
        "shortDescription": {"text": summary},
        "fullDescription": {"text": summary},
        "help": {"text": f"{summary} See {page}.", "markdown": f"{summary} See `{page}`."},
        "defaultConfiguration": {"level": "error" if is_problem else "warning"},
        "properties": {"tags": ["configuration", "routing"]},
    }


def _result(problem: Problem, rules: Sequence[str], root: str) -> dict[str, Any]:
    rule = problem.rule or INVALID
    address = _address(problem.file, root)
    what = f"{problem.path}: {problem.message}" if problem.path else problem.message
    # What is the same place after lines have moved.
    print_ = hashlib.sha256("\n".join((rule, problem.file, problem.path)).encode()).hexdigest()[:32]
    return {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "level": "warning" if problem.severity == "warning" else "error",
        "message": {"text": f"{what}; {problem.hint}" if problem.hint else what},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": address,
                    "region": {"startLine": max(problem.line, 1), "startColumn": max(problem.column, 1)},
                }
            }
        ],
        "partialFingerprints": {"ruleAndPath/v1": print_},
    }


def _address(file: str, root: str) -> dict[str, str]:
    """A file below the root relative to it, which is how it is found in a checkout elsewhere."""
    if file.startswith("<"):  # standard input
        return {"uri": "stdin"}
    path = os.path.abspath(os.path.join(root, file))
    try:
        relative = PurePath(path).relative_to(root)
    except ValueError:
        return {"uri": PurePath(path).as_uri()}
    return {"uri": quote(relative.as_posix()), "uriBaseId": _ROOT}
