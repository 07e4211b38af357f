"""Whatever the API, or somebody else, sends: an answer that the API understands, or a refusal that says why."""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.problems import ConfigError
from sidecar.inject.edits import applied
from sidecar.inject.manifests import inject
from sidecar.inject.objects import Verdict, judge
from sidecar.inject.text.render import as_json
from sidecar.inject.wanted import INJECTED, PREFIX, UNDO, Wanted
from sidecar.webhook.review import Policy, ReviewError, answer
from tests.property.test_inject import CONTAINER, KEYS, TREES, WANTED, WORKLOADS
from tests.support.reviews import patched, review, written
from tests.support.thoroughness import examples

DECISIONS = {"injected", "already", "unwanted", "refused", "denied", "ignored"}
ANNOTATIONS = st.dictionaries(
    st.sampled_from([PREFIX + "inject", PREFIX + "capture", PREFIX + "service", INJECTED, UNDO, "a/b"]),
    st.sampled_from(["true", "false", "web", "", "[]", None, 1]),
    max_size=3,
)
ODD_PODS = st.builds(
    lambda containers, more, metadata, annotations: {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-", **metadata, "annotations": annotations},
        "spec": {"containers": containers, **more},
    },
    st.lists(CONTAINER, max_size=2),
    st.dictionaries(KEYS, TREES, max_size=4),
    st.dictionaries(st.sampled_from(["name", "labels", "ownerReferences", "namespace"]), TREES, max_size=3),
    st.one_of(TREES, ANNOTATIONS),
)
OBJECTS = st.one_of(WORKLOADS, ODD_PODS, TREES)
OPERATIONS = st.sampled_from(["CREATE", "CREATE", "CREATE", "UPDATE", "DELETE", ""])


def is_answer(body: Any) -> bool:
    """Whether the API would take it (admission.k8s.io/v1; its own checks of responses)."""
    response = body["response"]
    texts = [*response.get("warnings", []), *response["auditAnnotations"].values()]
    return (
        (body["apiVersion"], body["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        and isinstance(response["allowed"], bool)
        and ("patch" in response) == (response.get("patchType") == "JSONPatch")
        and not ("patch" in response and not response["allowed"])
        and all(isinstance(one, str) and one.isprintable() for one in texts)
    )


@given(st.one_of(WORKLOADS, ODD_PODS), WANTED)
@settings(max_examples=examples(150), deadline=None)
def test_patch_does_what_file_and_edits_do(value: Any, wanted: Any) -> None:
    """
    PyPI's jsonpatch makes of any object what our own code does, and what `sidecar inject` makes of its file; where the
    one is refused, the other is.
    """
    before = copy.deepcopy(value)
    judged = judge(value, wanted)
    assert value == before
    if judged.verdict in (Verdict.ALREADY, Verdict.NOT_OURS):
        assert judged.edits == ()
        return
    body = answer(written(review(value)), Policy(wanted)).body
    text = as_json(value, None, "")
    try:
        outcome = inject(text, "f", wanted)
    except ConfigError:
        return  # a character that JSON may have, and YAML may not
    assert bool(outcome.problems) == (judged.verdict is Verdict.REFUSED)
    if outcome.problems:
        assert patched(value, body) == value
    else:
        assert patched(value, body) == applied(value, judged.edits) == yaml.safe_load(outcome.text)


@given(OBJECTS, OPERATIONS, WANTED)
@settings(max_examples=examples(150), deadline=None)
def test_review_of_any_object_is_answered(value: Any, operation: str, wanted: Any) -> None:
    """There is one answer, with the review's uid; what was injected is not injected again."""
    given_ = review(value, operation)
    try:
        found = answer(written(given_), Policy(wanted))
    except ReviewError:
        assert not isinstance(value.get("kind", ""), str)
        return
    assert found.decision in DECISIONS
    assert is_answer(json.loads(json.dumps(found.body)))
    assert found.body["response"]["uid"] == given_["request"]["uid"]
    if found.decision == "injected":
        again = answer(written(review(patched(value, found.body), operation)), Policy(wanted))
        assert again.decision in ("already", "ignored")
        assert "patch" not in again.body["response"]


REVIEWS = st.builds(
    lambda fields, request, is_bare: fields if is_bare else {**review({}), **fields, "request": request},
    st.dictionaries(st.sampled_from(["apiVersion", "kind", "request", "response"]), TREES, max_size=3),
    st.one_of(
        TREES,
        st.dictionaries(
            st.sampled_from(["uid", "kind", "namespace", "operation", "object", "dryRun", "name", "subResource"]),
            st.one_of(TREES, st.sampled_from(["CREATE", "x", "\ud800", "a\nb"])),
        ),
    ),
    st.booleans(),
)


@given(st.one_of(REVIEWS.map(written), st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
@settings(max_examples=examples(200), deadline=None)
def test_any_octets_are_answered_or_refused(raw: bytes) -> None:
    """What is no review is refused in a line; nothing else is ever raised."""
    try:
        found = answer(raw, Policy(Wanted(config="c")))
    except ReviewError as error:
        why = str(error)
        assert why.isprintable()
        return
    assert is_answer(json.loads(json.dumps(found.body)))
