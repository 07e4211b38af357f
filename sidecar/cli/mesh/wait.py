"""`sidecar mesh wait`: block until everyone runs a revision, for pipelines. *Cold.*"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import click

from sidecar.cli.admin_client import AskError, fail, printable
from sidecar.cli.mesh.asking import ControlPlane, control_options
from sidecar.cli.wait import seconds

POLL_S = 0.5
NOT_YET = 1


@dataclass(frozen=True, slots=True)
class Missing:
    """One that does not run it, and why."""

    service: str
    instance: str
    why: str


@click.command("wait", short_help="Block until everyone runs a revision.")
@click.argument("revision", type=click.IntRange(0))
@control_options
@click.option("--timeout", default="60s", show_default=True, callback=seconds, help="How long to wait; 0: one look.")
def wait(revision: int, url: str, token_file: str, trust: str, as_json: bool, timeout: float) -> None:
    """
    Block until all connected sidecars run REVISION, or a later one.

    The exit code is 0 when they do; 1 when the time is over, or as soon as a rollout of it is halted, with a line on
    standard error for each that does not, and why. One that is lost, or draining, is not waited for.
    """
    deadline = time.monotonic() + timeout
    control = None
    while True:
        try:
            control = control or ControlPlane(url, token_file, trust)
            shown = control.get("/v1/mesh")
            missing, is_final = judged(shown, revision)
        except AskError as error:
            if control is None or time.monotonic() >= deadline:
                fail(error)
            missing, is_final = [Missing("", "", str(error))], False  # it may be starting, or moving
        if not missing or is_final or time.monotonic() + POLL_S > deadline:
            break
        time.sleep(POLL_S)
    if as_json:
        click.echo(json.dumps({"ok": not missing, "revision": revision, "missing": [asdict(one) for one in missing]}))
    elif missing:
        for one in missing:
            who = f"{one.service}/{one.instance}: " if one.instance else f"{one.service}: " if one.service else ""
            click.echo(printable(f"{who}{one.why}"), err=True)
    if missing:
        sys.exit(NOT_YET)


def judged(shown: dict[str, Any], revision: int) -> tuple[list[Missing], bool]:
    """Who does not run it, and whether waiting would change nothing."""
    if shown["revision"] < revision:
        why = f"the wanted revision is {shown['revision']}"
        problems = shown["source"]["problems"]
        if problems:
            one = problems[0]
            why += f", and the mesh's files are refused: {one['file']}:{one['line']}: {one['message']}"
        return [Missing("", "", why)], False
    missing = []
    services = {one["name"] for one in shown["services"] if one["kind"] == "mesh"}
    for one in shown["instances"]:
        if not one["connected"] or one["state"] == "draining" or one["service"] not in services:
            continue  # of a service that is no longer there nothing is wanted
        why = _why_not(one, revision)
        if why:
            missing.append(Missing(one["service"], one["id"], why))
    halted = [
        Missing(one["service"], "", f"its rollout is halted: {one['why']}")
        for one in shown["rollouts"]
        if one["state"] == "halted" and one["revision"] >= revision
    ]
    return [*halted, *missing], bool(halted)


def _why_not(one: dict[str, Any], revision: int) -> str:
    """Empty if it runs the revision: what it runs is what that revision, or a later one, wants of it."""
    wanted, config, refused = one["wanted"], one["config"], one["refused"]
    if wanted is None:
        return f"it gets no file: {one.get('none') or 'the control plane that it is connected to has none yet'}"
    if refused is not None and refused["revision"] >= revision and config["hash"] != wanted["hash"]:
        first = next((problem["message"] for problem in refused["problems"]), "")
        what = "it crashed with" if refused["crashed"] else "it refused"
        return f"{what} revision {refused['revision']}" + (f": {first}" if first else "")
    if wanted["revision"] < revision:
        return f"its wave has not come: it is to run revision {wanted['revision']}"
    if config["hash"] != wanted["hash"]:
        return f"it runs revision {config['revision']}" if config["revision"] else "it runs no file of the mesh yet"
    return ""
