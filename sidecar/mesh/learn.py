"""
What `callers` and `calls` would be by what was really called, as a difference to the mesh's files. *Cold, pure.*

Only what is missing is proposed, and what is written and was not seen is told: a job that runs on Mondays calls nobody
on Tuesday. What was seen is what callers' sidecars counted, by the names of routes, and of callers without a sidecar
that reports what those say who were asked, by the identity that was shown; who shows none is not in it, and is counted
where it comes in (`sidecar_authorization_unidentified_total`). What a rule refused, and does not only tell, is told and
not proposed: somebody wants it so.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sidecar.config.problems import ConfigError
from sidecar.config.source import decode
from sidecar.config.yaml.document import parse_without_variables
from sidecar.mesh.edit import with_names
from sidecar.mesh.mesh import Mesh, Placed, canonical

CALLERS: Final = "callers"
CALLS: Final = "calls"
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class Call:
    """
    That one service called another one.

    Attributes:
        requests: How many there were.
        routes: By which routes, as far as is known.
        refused_by: Names of the rules that refused what was seen in the last minute; empty where more than half passed.
    """

    caller: str
    callee: str
    requests: int
    routes: tuple[str, ...] = ()
    refused_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    What a service's file lacks.

    Attributes:
        service: Whose file, and `file` its name.
        key: `callers` or `calls`.
        names: That are to be added to it, by name.
        is_new: Whether the file does not have the key: from then on it admits, or calls, these alone.
        why: The calls that ask for it.
        is_written: Whether the difference has it; else the file is written in a way that only a person can add to.
    """

    service: str
    file: str
    key: str
    names: tuple[str, ...]
    is_new: bool
    why: tuple[Call, ...]
    is_written: bool


@dataclass(frozen=True, slots=True)
class Unseen:
    """What a service's file names under `callers` or `calls`, and what did not happen in the window."""

    service: str
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Learned:
    """
    What comes of a window.

    Attributes:
        texts: The files that differ, as they would be, by name.
        refused: Calls that rules refuse.
        diff: The same as a unified difference, which `patch -p1` takes in the mesh's directory; empty for none.
    """

    proposals: tuple[Proposal, ...]
    unseen: tuple[Unseen, ...]
    texts: Mapping[str, str]
    diff: str
    refused: tuple[Call, ...] = ()


def calls_of(shown: Mapping[str, Any], history: Mapping[str, Any]) -> tuple[Call, ...]:
    """
    Who called whom, by caller and callee.

    Args:
        shown: What `/v1/mesh` says: the last minute, by routes.
        history: What `/v1/history` says: the whole window, without routes.
    """
    requests: defaultdict[tuple[str, str], int] = defaultdict(int)
    routes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for edge in history["edges"]:
        # Of who is known only by the identity that it showed, as those tell it that were asked.
        if sum(edge.get("refused", ())) >= sum(edge["requests"]):
            continue
        requests[edge["from"], edge["to"]] += sum(edge["requests"])
    lately: defaultdict[tuple[str, str], int] = defaultdict(int)
    refused: defaultdict[tuple[str, str], int] = defaultdict(int)
    rules: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    # A control plane of an older release does not say it.
    for row in shown.get("refused", ()):
        if row["from"] and not row["audit"]:
            refused[row["from"], row["to"]] += row["count"]
            rules[row["from"], row["to"]].add(row["rule"])
    for edge in shown["edges"]:
        pair = edge["from"], edge["to"]
        lately[pair] += edge["requests"]
        requests[pair] = max(requests[pair], edge["requests"] + _connections(edge))
        # Who is known only by the identity that it showed called by routes that nobody tells.
        if edge["requests"] and edge["route"]:
            routes[pair].add(edge["route"])
    for pair, number in refused.items():
        requests[pair] = max(requests[pair], number)
        # Both sides report at their own times, so each may be a report ahead.
        if 2 * number < lately[pair]:
            del rules[pair]
    return tuple(
        Call(*pair, number, tuple(sorted(routes[pair])), tuple(sorted(rules.get(pair, ()))))
        for pair, number in sorted(requests.items())
        if number
    )


def _connections(edge: Mapping[str, Any]) -> int:
    """
    Those that carried no requests; one that is not over and carries something is one. A control plane of an older
    release tells nothing of them.
    """
    tcp = edge.get("tcp")
    return max(tcp["connections"], 1) if tcp else 0


def learn(mesh: Mesh, calls: Iterable[Call]) -> Learned:
    """
    Compare what was called with what the files say.

    Args:
        mesh: As its files are now.
        calls: Of a window; those of names that the mesh does not have are left out.
    """
    seen = [one for one in calls if one.caller in mesh.placed and one.callee in mesh.placed]
    seen = [one for one in seen if one.caller != one.callee and not mesh.placed[one.caller].service.is_outside]
    refused = tuple(one for one in seen if one.refused_by)
    unseen = tuple(_unseen(mesh, seen))
    seen = [one for one in seen if not one.refused_by]
    texts: dict[str, str] = {}
    proposals = []
    for name, placed in mesh.placed.items():
        admitted = [one for one in seen if one.callee == name and _lacks_caller(mesh, placed, one.caller)]
        called = [one for one in seen if one.caller == name and one.callee not in (placed.service.calls or {})]
        if admitted:
            is_new = placed.service.callers is None
            proposals.append(_proposal(placed, CALLERS, [one.caller for one in admitted], is_new, admitted, texts))
        if called:
            is_new = placed.service.calls is None
            proposals.append(_proposal(placed, CALLS, [one.callee for one in called], is_new, called, texts))
    diffs = [_diff(name, decode(mesh.documents[name].raw, name), text) for name, text in sorted(texts.items())]
    return Learned(tuple(proposals), unseen, texts, "".join(diffs), refused)


def _lacks_caller(mesh: Mesh, callee: Placed, caller: str) -> bool:
    return callee.service.callers is None or not mesh.admits(callee.name, caller)


def _proposal(
    placed: Placed, key: str, names: Sequence[str], is_new: bool, why: Sequence[Call], texts: dict[str, str]
) -> Proposal:
    """Writes into `texts` if it can be added."""
    file, added = placed.document.name, tuple(sorted(names))
    before = texts.get(file) or decode(placed.document.raw, file)
    try:
        after = with_names(before, placed.at, key, added, is_table=key == CALLS)
    except ValueError:
        after = ""
    is_written = bool(after) and _says(after, file) == _expected(_says(before, file), placed.at, key, added)
    if is_written:
        texts[file] = after
    return Proposal(placed.name, file, key, added, is_new, tuple(why), is_written)


def _says(text: str, file: str) -> Any:
    try:
        root, problems = parse_without_variables(text, file)
    except ConfigError:
        return None
    return canonical(root) if root is not None and not problems else None


def _expected(values: Any, at: Sequence[str], key: str, names: Sequence[str]) -> Any:
    if at:
        return {**values, at[0]: _expected(values[at[0]], at[1:], key, names)}
    if key == CALLS:
        return {**values, key: {**values.get(key, {}), **{name: {} for name in names}}}
    had = values.get(key, [])
    return {**values, key: [*(had if isinstance(had, list) else [had]), *names]}


def _unseen(mesh: Mesh, seen: Iterable[Call]) -> Iterable[Unseen]:
    pairs = {(one.caller, one.callee) for one in seen}
    for name, placed in mesh.placed.items():
        for caller in placed.service.callers or ():
            if isinstance(caller, str) and caller in mesh.placed and (caller, name) not in pairs:
                yield Unseen(name, CALLERS, caller)
        for callee in placed.service.calls or {}:
            if (name, callee) not in pairs:
                yield Unseen(name, CALLS, callee)


def _diff(name: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _lines(text: str) -> list[str]:
    # Where `patch` sees the end of a line, which is not wherever `str.splitlines` does.
    return _LINE.findall(text)
