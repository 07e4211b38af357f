"""What was found, told to people and to programs. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from sidecar.cli.check.judged import INVALID, Judged


def tell(all_judged: Sequence[Judged], *, is_one: bool) -> None:
    """
    Print problems and warnings on standard error, and what is good on standard output.

    Args:
        is_one: A single file was named, which need not be named again.
    """
    told: set[str] = set()
    for judged in all_judged:
        for problem in sorted((*judged.problems, *judged.warnings)):
            print(problem.named(), file=sys.stderr)
        for line in judged.complaints:
            if line not in told:  # it is of the environment, not of each file
                print(f"warning: {line}", file=sys.stderr)
                told.add(line)
        if judged.error:
            print(judged.error, file=sys.stderr)
        elif judged.is_left_out:
            print(f"left out: {judged.path}: it has no key of a sidecar's file")
        elif judged.problems:
            print(f"{_counted(len(judged.problems), 'problem')} in {judged.problems[0].file}", file=sys.stderr)
        else:
            counts = {**judged.counts, **({"warnings": len(judged.warnings)} if judged.warnings else {})}
            what = ", ".join(_counted(number, noun.removesuffix("s")) for noun, number in counts.items())
            print(f"ok: {what}" if is_one else f"ok: {judged.path}: {what}")
    looked_at = [judged for judged in all_judged if not judged.is_left_out]
    if len(all_judged) > 1:
        bad = sum(bool(judged.problems) for judged in all_judged)
        unread = sum(bool(judged.error) for judged in all_judged)
        parts = [f"{bad} with problems"] * bool(bad) + [f"{unread} that cannot be read"] * bool(unread)
        print(f"checked {_counted(len(looked_at), 'file')}: " + (", ".join(parts) or "all good"))


def tell_as_json(all_judged: Sequence[Judged], *, is_one: bool) -> None:
    """Print one object: of one file that was named what was found of it, else of each under `files`."""
    if is_one:
        print(json.dumps(_as_object(all_judged[0])))
        return
    files = [{"file": judged.path, **_as_object(judged)} for judged in all_judged]
    print(json.dumps({"ok": all(judged.is_good for judged in all_judged), "files": files}))


def _as_object(judged: Judged) -> dict[str, Any]:
    if judged.error:
        return {"ok": False, "error": judged.error, "problems": [], "warnings": []}
    if judged.is_left_out:
        return {"ok": True, "left_out": True, "problems": [], "warnings": []}
    warnings = [dataclasses.asdict(warning) for warning in judged.warnings]
    warnings += ({"message": line, "severity": "warning", "rule": "otel-variable"} for line in judged.complaints)
    problems = [{**dataclasses.asdict(problem), "rule": problem.rule or INVALID} for problem in judged.problems]
    return {"ok": judged.is_good, "problems": problems, "warnings": warnings, **judged.counts}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
