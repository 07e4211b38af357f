"""
One object as the API of Kubernetes shows it before it is stored: what is added to it, or why nothing is. *Pure.*

It is decided as of a file (`manifests`), with the same edits, marks and notes: what comes of an object is what
`sidecar inject` makes of it as a file of JSON. What differs is that an object which was injected before stays as it is;
its author, or an earlier release, has decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sidecar import __version__
from sidecar.inject.edits import Edit, Path, Value, at
from sidecar.inject.kubernetes.decide import decide
from sidecar.inject.kubernetes.pods import containers_of
from sidecar.inject.kubernetes.workloads import Workload, is_kubernetes, workloads_of
from sidecar.inject.manifests import shown
from sidecar.inject.marking import marked
from sidecar.inject.text.from_values import written_out
from sidecar.inject.wanted import INJECTED, NAMES, UNDO, WISH, Wanted


class Verdict(StrEnum):
    """What becomes of an object."""

    INJECTED = "injected"
    ALREADY = "already"
    """It was injected before."""
    UNWANTED = "unwanted"
    """It says itself that it wants none."""
    REFUSED = "refused"
    """It cannot have one."""
    NOT_OURS = "not_ours"
    """It makes no pods, or is of nobody whom we know."""


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What is to be done with an object.

    Attributes:
        verdict: In a word.
        edits: That make it what it should be; none unless it is `INJECTED`.
        added: In a few words.
        mark: That is left in it, or that was found: the release, and a hash of what was added.
        told: What there is to know.
        problems: Why it cannot have one: `path: what was found; what to do` of each.
        is_asked_for: It says itself that it must have one.
    """

    verdict: Verdict
    edits: tuple[Edit, ...] = ()
    added: str = ""
    mark: str = ""
    told: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    is_asked_for: bool = False


def judge(document: Value, wanted: Wanted) -> Judged:
    """
    What is to be done with an object.

    Args:
        document: As JSON has it; nested so far that the interpreter's stack takes it several times.
    """
    workloads = list(workloads_of(document)) if is_kubernetes(document) else []
    if len(workloads) != 1 or workloads[0].path:
        return Judged(Verdict.NOT_OURS)
    workload = workloads[0]
    annotations = at(document, (*workload.template, "metadata", "annotations"))
    if isinstance(annotations, dict) and (INJECTED in annotations or UNDO in annotations):
        return _already(document, workload, str(annotations.get(INJECTED) or ""))
    decision = decide(document, workload, wanted)
    is_asked_for = _asks(document, workload)
    if decision.problems:
        problems = (f"{_where(one.path)}{one.message}; {one.hint}" for one in decision.problems)
        return Judged(Verdict.REFUSED, problems=tuple(problems), is_asked_for=is_asked_for)
    if not decision.added:
        return Judged(Verdict.UNWANTED, told=decision.told)
    paths = [edit.path for edit in decision.edits({INJECTED: "", UNDO: ""})]
    edits = marked(*written_out(document, paths), decision)
    return Judged(
        Verdict.INJECTED, tuple(edits), decision.added, _mark_of(edits), decision.told, is_asked_for=is_asked_for
    )


def _already(document: Value, workload: Workload, mark: str) -> Judged:
    told: tuple[str, ...] = ()
    if not any(one.name == NAMES[0] for one in containers_of(document, (*workload.template, "spec"))):
        told = (
            f"left as it is: by {INJECTED} it was injected before, but it has no container {NAMES[0]!r};"
            f" take {INJECTED} and {UNDO} out",
        )
    elif mark.rpartition("-")[0] != __version__:
        told = (
            f"left as it is: it was injected by another release ({mark[:40] or 'unknown'}), this is {__version__};"
            " inject it again, or make it anew",
        )
    return Judged(Verdict.ALREADY, mark=mark, told=told)


def _asks(document: Value, workload: Workload) -> bool:
    metadata = (*workload.template, "metadata")
    return any(at(document, (*metadata, where, WISH)) == "true" for where in ("annotations", "labels"))


def _mark_of(edits: list[Edit]) -> str:
    """As the edits write it, be it by a key or with all annotations at once."""
    for edit in reversed(edits):
        value = getattr(edit, "value", None)
        if getattr(edit, "key", "") == INJECTED:
            return str(value)
        for found in (at(value, (INJECTED,)), at(value, ("annotations", INJECTED))):
            if isinstance(found, str):
                return found
    raise AssertionError("edits without a mark")


def _where(path: Path) -> str:
    return f"{shown(path)}: " if path else ""
