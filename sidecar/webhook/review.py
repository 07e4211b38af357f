"""
An AdmissionReview (admission.k8s.io/v1) in, its answer out. *Pure: no sockets, no time.*

    what the API asks about                            what it is told
    a Pod, or what has a pod template, CREATE          a patch, by `inject.objects`
    the same, UPDATE; not a Pod's or a Job's           a patch, for who applies it anew leaves the sidecar out
    injected before, or wanting none                   allowed as it is
    what cannot have a sidecar                         allowed as it is, with a warning; denied if it says that it must
    anything else                                      allowed as it is, with a warning
    what is no AdmissionReview of this version         400, and nothing is decided

What is not understood is let through, never broken: who writes the configuration's rules too wide gets warnings. Pods
are asked about when they are made and not when they change, for then nothing can be added; nor to a Job's template.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.inject.edits import Value
from sidecar.inject.objects import Judged, Verdict, judge
from sidecar.inject.patch import patch_of
from sidecar.inject.wanted import WISH, Wanted
from sidecar.webhook.known import EXEMPT

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
MAX_DEPTH: Final = 100
"""Of a review. An object of Kubernetes has some 20 levels; schemas of custom resources have 40."""
MAX_WARNING_CHARS: Final = 256
"""KEP-1693: longer ones, and more than 4096 characters together, may be cut by the API."""
MAX_WARNINGS: Final = 10
MAX_ANNOTATION_CHARS: Final = 1024
_UNCHANGEABLE: Final = frozenset({"Pod", "Job"})
"""Kinds to whose pod templates the API lets nobody add containers once they are there."""
FORBIDDEN: Final = 403


class ReviewError(ValueError):
    """What came is no review that can be answered; what was expected, and what was found."""


@dataclass(frozen=True, slots=True)
class Policy:
    """
    What all decisions have in common.

    Attributes:
        wanted: What is injected.
        exempt: Namespaces in which nothing is, besides `EXEMPT`: our own.
    """

    wanted: Wanted
    exempt: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What is said to one review.

    Attributes:
        decision: In a word: a `Verdict`, `denied` or `ignored`.
        body: The AdmissionReview that is sent.
        facts: Who it was about, for whoever reads lines of it: `uid`, `namespace`, `name` and so on.
        added: In a few words; empty: nothing.
        why: Nothing was, or what else there is to know.
    """

    decision: str
    body: Mapping[str, Any] = field(repr=False)
    facts: Mapping[str, Any]
    added: str
    why: str


def answer(raw: bytes, policy: Policy) -> Answer:
    """
    Decide about one review.

    Args:
        raw: The request's body.

    Raises:
        ReviewError: It cannot be answered, for it is no review that we know.
    """
    request = _request(read(raw))
    uid = _text(request, "uid")
    if not uid:
        raise ReviewError("request.uid: expected the name of this review, found nothing")
    facts = _facts(request, uid)
    judged, ignored = _judged(request, facts, policy)
    is_denied = judged.verdict is Verdict.REFUSED and judged.is_asked_for
    decision = "denied" if is_denied else "ignored" if ignored else judged.verdict.value
    why = ignored or "; ".join(judged.problems or judged.told)
    response: dict[str, Any] = {"uid": uid, "allowed": not is_denied}
    if judged.edits:
        patch = json.dumps(patch_of(judged.edits), separators=(",", ":"), allow_nan=False).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if is_denied:
        message = f'no sidecar can be added, though {WISH} is "true": {"; ".join(judged.problems)}'
        response["status"] = {"code": FORBIDDEN, "reason": "Forbidden", "message": _line(message, MAX_ANNOTATION_CHARS)}
    warnings = _warnings(judged, ignored, is_denied=is_denied)
    if warnings:
        response["warnings"] = warnings
    response["auditAnnotations"] = _audited(decision, judged, why)
    body = {"apiVersion": API_VERSION, "kind": KIND, "response": response}
    return Answer(decision, body, facts, judged.added, why)


def read(raw: bytes) -> Value:
    """
    JSON as its RFC has it (8259): UTF-8, no NaN, no number that becomes infinite, nested at most `MAX_DEPTH` deep.

    Raises:
        ReviewError: It is none.
    """
    try:
        value: Value = json.loads(raw.decode(), parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise ReviewError(f"expected JSON in UTF-8, found octet {raw[error.start]:#04x} at {error.start}") from None
    except RecursionError:
        raise ReviewError(f"expected at most {MAX_DEPTH} nested objects and lists") from None
    except json.JSONDecodeError as error:
        raise ReviewError(f"{error.lineno}:{error.colno}: expected JSON: {error.msg.lower()}") from None
    except ValueError as error:
        raise ReviewError(f"expected JSON: {str(error)[:100].lower()}") from None
    to_do: list[tuple[Value, int]] = [(value, 1)]
    while to_do:
        one, depth = to_do.pop()
        if depth > MAX_DEPTH and isinstance(one, dict | list):
            raise ReviewError(f"expected at most {MAX_DEPTH} nested objects and lists")
        if isinstance(one, dict | list):
            to_do += ((below, depth + 1) for below in (one.values() if isinstance(one, dict) else one))
    return value


def _no_constant(written: str) -> Value:
    raise ValueError(f"{written} is no number")


def _finite(written: str) -> float:
    number = float(written)
    if math.isinf(number):
        raise ValueError(f"{written[:20]} is too large a number")
    return number


def _request(review: Value) -> Mapping[str, Any]:
    if not isinstance(review, dict):
        raise ReviewError(f"expected an {KIND}, found {_kind(review)}")
    version, kind = review.get("apiVersion"), review.get("kind")
    if kind != KIND:
        raise ReviewError(f"kind: expected {KIND!r}, found {_short(kind)}")
    if version != API_VERSION:
        hint = '; say admissionReviewVersions: ["v1"] in the webhook\'s configuration, Kubernetes 1.16 and later has it'
        raise ReviewError(f"apiVersion: expected {API_VERSION!r}, found {_short(version)}{hint}")
    request = review.get("request")
    if not isinstance(request, dict):
        raise ReviewError(f"request: expected an object, found {_kind(request)}")
    return request


def _facts(request: Mapping[str, Any], uid: str) -> dict[str, Any]:
    kind = request.get("kind")
    if kind is not None and not isinstance(kind, dict):
        raise ReviewError(f"request.kind: expected an object, found {_kind(kind)}")
    found = request.get("object")
    metadata = found.get("metadata") if isinstance(found, dict) else None
    named = metadata if isinstance(metadata, dict) else {}
    own_kind = _text(found, "kind", "request.object.") if isinstance(found, dict) else ""
    generated = named.get("generateName")
    is_dry = request.get("dryRun")
    if is_dry is not None and not isinstance(is_dry, bool):
        raise ReviewError(f"request.dryRun: expected true or false, found {_kind(is_dry)}")
    return {
        "uid": uid,
        "kind": _text(kind or {}, "kind", "request.kind.") or own_kind,
        "namespace": _text(request, "namespace"),
        # What is made by a controller has no name yet, but the beginning of one.
        "name": _text(request, "name") or (generated if isinstance(generated, str) else ""),
        "operation": _text(request, "operation"),
        "dry_run": bool(is_dry),
        "resource": _text(request, "subResource"),
    }


def _judged(request: Mapping[str, Any], facts: Mapping[str, Any], policy: Policy) -> tuple[Judged, str]:
    """What is to be done, and why nothing is even looked at; empty if it is."""
    nothing = Judged(Verdict.NOT_OURS)
    found, operation, namespace = request.get("object"), facts["operation"], facts["namespace"]
    if namespace in EXEMPT or namespace in policy.exempt:
        return nothing, f"nothing is injected in the namespace {namespace}"
    if operation not in ("CREATE", "UPDATE"):
        return nothing, f"nothing is injected on {operation or 'an operation without a name'}"
    if facts["resource"]:
        return nothing, f"nothing is injected into {facts['kind']}/{facts['resource']}"
    if not isinstance(found, dict):
        return nothing, "nothing is injected where there is no object"
    if operation == "UPDATE" and found.get("kind") in _UNCHANGEABLE:
        return nothing, f"a {found['kind']} gets a sidecar when it is made, and not later"
    judged = judge(found, policy.wanted)
    if judged.verdict is Verdict.NOT_OURS:
        return judged, f"nothing is injected into {facts['kind'] or 'an object without a kind'}"
    return judged, ""


def _warnings(judged: Judged, ignored: str, *, is_denied: bool) -> list[str]:
    """For whoever made the object; who wants no sidecar knows that, and who is denied is told why by that."""
    if is_denied or judged.verdict is Verdict.UNWANTED:
        return []
    told = [ignored] if ignored else [f"no sidecar: {one}" for one in judged.problems] or list(judged.told)
    return [_line(f"sidecar: {one}", MAX_WARNING_CHARS) for one in told[:MAX_WARNINGS]]


def _audited(decision: str, judged: Judged, why: str) -> dict[str, str]:
    """What stands in the audit log of the cluster, below the webhook's name."""
    found = {"decision": decision, "added": judged.added, "injected": judged.mark, "why": why}
    return {name: _line(value, MAX_ANNOTATION_CHARS) for name, value in found.items() if value}


def _text(values: Mapping[str, Any], name: str, where: str = "request.") -> str:
    found = values.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ReviewError(f"{where}{name}: expected a string, found {_kind(found)}")
    return found


def _line(text: str, most: int) -> str:
    """One line without what is not printed, so long at most."""
    plain = "".join(one if one.isprintable() else " " for one in text)
    return plain if len(plain) <= most else f"{plain[: most - 4]} ..."


def _short(value: Value) -> str:
    return repr(value)[:80] if isinstance(value, str) else _kind(value)


def _kind(value: Value) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "nothing",
    }
    return names.get(type(value), "a number")
