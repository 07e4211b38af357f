"""`sidecar mesh status`: what is wanted, what every instance runs, and what stands in the way. *Cold.*"""

from __future__ import annotations

import json
from typing import Any

import click

from sidecar.cli.admin_client import AskError, fail, printable
from sidecar.cli.mesh.asking import ControlPlane, age, control_options, table


@click.command("status")
@control_options
def status(url: str, token_file: str, trust: str, as_json: bool) -> None:
    """
    Show the wanted revision, every instance with what it runs, rollouts, and what is doubted.

    With --json the whole of what the control plane shows (`/v1/mesh`: docs/mesh-control.md).
    """
    try:
        shown = ControlPlane(url, token_file, trust).get("/v1/mesh")
    except AskError as error:
        fail(error)
        return
    click.echo(json.dumps(shown) if as_json else written(shown))


def written(shown: dict[str, Any]) -> str:
    """For people."""
    now_s = float(shown["time"])
    blocks = [_heading(shown, now_s), *_problems(shown, now_s)]
    if shown["instances"]:
        blocks.append(_instances(shown["instances"], now_s))
    else:
        blocks.append("no sidecar is known")
    blocks += _refusals(shown["instances"])
    blocks.append(_unidentified(shown["services"]))
    if shown["rollouts"]:
        blocks.append(_rollouts(shown["rollouts"], now_s))
    return "\n\n".join(block for block in blocks if block)


def _heading(shown: dict[str, Any], now_s: float) -> str:
    connected = sum(one["connected"] for one in shown["instances"])
    doubt = shown["doubt"]
    facts = [
        f"mesh {shown['mesh'] or '(not known)'}",
        f"revision {shown['revision']}",
        f"PINNED to the files of revision {shown['pinned']}" if shown.get("pinned") is not None else "",
        f"{connected} of {len(shown['instances'])} connected",
        f"{doubt['stale']} stale" if doubt["stale"] else "",
        "" if doubt["removing"] else "NOTHING IS REMOVED: too many are stale, the fault is taken to be ours",
        f"engine {shown['engine']}, up {age(now_s - float(shown['started']))}",
    ]
    return printable("  ".join(fact for fact in facts if fact))


def _problems(shown: dict[str, Any], now_s: float) -> list[str]:
    blocks = []
    problems = shown["source"]["problems"]
    if problems:
        since = shown["source"]["since"]
        # A control plane of an older release does not say which.
        what = "refused" if shown["source"].get("refused", True) else "not read"
        head = f"the mesh's files are {what}" + (f", since {age(now_s - since)}" if since else "") + ":"
        blocks.append("\n".join([head, *(f"  {_problem(one)}" for one in problems)]))
    for one in shown.get("store", ()):
        blocks.append(printable(f"not written, since {age(now_s - one['since'])}: {_unwritten(one)}: {one['error']}"))
    blocks += _authority(shown.get("authority"), now_s)
    failing = [one for one in shown["discovery"] if one["error"]]
    if failing:
        lines = [printable(f"  {one['name']} ({one['kind']}): {one['error']}") for one in failing]
        blocks.append("\n".join(["sources of endpoints that fail; what they said last holds:", *lines]))
    return blocks


def _authority(said: dict[str, Any] | None, now_s: float) -> list[str]:
    """Of the mesh's own authority: when what ends, and why it gives nothing out."""
    if said is None:
        return []
    parts = [f"{one['which']} {one['subject']} ends in {age(one['ends'] - now_s)}" for one in said["certificates"]]
    lines = [printable(f"authority of {said['trust_domain']}: {', '.join(parts)}")]
    if said["why_not"]:
        lines.append(printable(f"NO CERTIFICATE IS GIVEN OUT: {said['why_not']}"))
    return ["\n".join(lines)]


def _unwritten(one: dict[str, Any]) -> str:
    kept = {
        "registrations": f"{one['waiting']} registrations, which are served from memory",
        "revision": "the last edit of the mesh's files, so what was wanted before stays wanted",
        "rollouts": "the rollouts' next step, so they stay where they are",
    }
    return kept.get(one["what"], str(one["what"]))


def _problem(one: dict[str, Any]) -> str:
    where = f"{one['file']}:{one['line']}:{one['column']}: " if one["line"] else ""
    path = f"{one['path']}: " if one["path"] else ""
    hint = f"; {one['hint']}" if one["hint"] else ""
    return printable(f"{where}{path}{one['message']}{hint}")


def _instances(instances: list[dict[str, Any]], now_s: float) -> str:
    heads = ["SERVICE", "INSTANCE", "VERSION", "ZONE", "STATE", "RUNS", "WANTED", "SINCE", "BEHIND", "SEEN"]
    # Where nobody has one, nobody looks for it; a control plane of an older release says nothing of it.
    certificates = any(one.get("certificate") for one in instances)
    heads += ["CERT", "ADDRESS"] if certificates else ["ADDRESS"]
    rows = []
    for one in instances:
        config, wanted = one["config"], one["wanted"]
        runs = str(config["revision"] or "-") + ("" if config["source"] in ("pushed", "") else f" ({config['source']})")
        rows.append(
            [
                one["service"], one["id"], one["version"] or "-", one["zone"] or "-",
                one["state"] if one["connected"] else f"{one['state']}, lost",
                runs if one["refused"] is None else f"{runs}, REFUSED {one['refused']['revision']}",
                str(wanted["revision"]) if wanted else "-",
                age(now_s - config["since"]) if config["since"] else "-",
                str(one["endpoints_behind"] or "-"), age(now_s - one["last_seen"]) if one["last_seen"] else "-",
                *([_certificate(one.get("certificate"), now_s)] if certificates else []), one["address"],
            ]
        )  # fmt: skip
    return table(heads, rows)


def _certificate(said: dict[str, Any] | None, now_s: float) -> str:
    """How long it is good for; `!` if something is to be looked at."""
    if said is None:
        return "-"
    left_s = (said["not_after"] or 0) - now_s
    text = "NONE" if said["not_after"] is None else "ENDED" if left_s <= 0 else age(left_s)
    return f"{text}!" if said["warning"] or said["trouble"] else text


def _unidentified(services: list[dict[str, Any]]) -> str:
    """Who still comes without an identity, where that matters."""
    found = [f"{one['name']} {one['unidentified']}" for one in services if one.get("unidentified")]
    if not found:
        return ""
    return printable(f"let in without an identity, for the time being, in the last minute: {', '.join(found)}")


def _refusals(instances: list[dict[str, Any]]) -> list[str]:
    blocks = []
    for one in instances:
        lines = []
        if one["refused"] is not None:
            what = "crashed with" if one["refused"]["crashed"] else "refused"
            lines.append(printable(f"{one['service']}/{one['id']} {what} revision {one['refused']['revision']}:"))
            lines += [f"  {_problem(problem)}" for problem in one["refused"]["problems"]]
        if one.get("none"):
            lines.append(printable(f"{one['service']}/{one['id']} gets no file: {one['none']}"))
        certificate = one.get("certificate") or {}
        for key in ("warning", "trouble"):
            if certificate.get(key):
                lines.append(printable(f"{one['service']}/{one['id']}: {certificate[key]}"))
        if one["problems"]:
            lines.append(printable(f"{one['service']}/{one['id']} is not registered:"))
            lines += [printable(f"  {problem}") for problem in one["problems"]]
        blocks.append("\n".join(lines))
    return blocks


def _rollouts(rollouts: list[dict[str, Any]], now_s: float) -> str:
    heads = ["ROLLOUT", "REVISION", "PART", "WAVE", "STATE", "ACCEPTED", "SINCE", "WHY"]
    rows = [
        [
            one["service"], str(one["revision"]), one["part"],
            f"{one['waves'][one['wave'] - 1]}" if 0 < one["wave"] <= len(one["waves"]) else "-", one["state"],
            f"{one['accepted']} of {one['of']}", age(now_s - one["since"]), one["why"],
        ]
        for one in rollouts
        if one["state"] != "done"
    ]  # fmt: skip
    return table(heads, rows) if rows else ""
