"""What the API is answered: admission.k8s.io/v1, and by what is never touched."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from sidecar.inject.manifests import inject
from sidecar.inject.text.render import as_json
from sidecar.inject.wanted import INJECTED, WISH, Wanted
from sidecar.webhook.review import MAX_DEPTH, MAX_WARNING_CHARS, Answer, Policy, ReviewError, answer
from tests.support.reviews import deployment, patched, pod, review, written

WANTED = Wanted(control=("https://control.mesh:15010",), mesh="shop", roots="mesh-roots")
POLICY = Policy(WANTED, frozenset({"mesh"}))


def answered(found: Any, operation: str = "CREATE", **fields: Any) -> Answer:
    return answer(written(review(found, operation, **fields)), POLICY)


def response_of(found: Any, operation: str = "CREATE", **fields: Any) -> Any:
    return answered(found, operation, **fields).body["response"]


def test_pod_gets_what_its_file_would_get() -> None:
    """The patch makes of the Pod what `sidecar inject` makes of its file; uid and version are those of the review."""
    found = answered(pod())
    assert found.decision == "injected"
    assert (found.body["apiVersion"], found.body["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = found.body["response"]
    assert (response["uid"], response["allowed"]) == ("705ab4f5-6393-11e8-b7cc-42010a800002", True)
    assert patched(pod(), found.body) == yaml.safe_load(inject(as_json(pod(), None, ""), "f", WANTED).text)
    assert "warnings" not in response


def test_what_was_added_stands_in_the_audit_log() -> None:
    """Decision, what was added in words, and the mark: the release, and a hash of what it added."""
    body = answered(pod()).body
    mark = patched(pod(), body)["metadata"]["annotations"][INJECTED]
    assert body["response"]["auditAnnotations"] == {
        "decision": "injected",
        "added": "a native sidecar and capture; service web, app port 8080",
        "injected": mark,
    }


def test_pod_that_is_asked_about_again_gets_no_second_sidecar() -> None:
    """`reinvocationPolicy: IfNeeded`: after another webhook's changes the same Pod comes again."""
    once = patched(pod(), answered(pod()).body)
    again = answered(once)
    assert again.decision == "already"
    assert again.body["response"] == {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "allowed": True,
        "auditAnnotations": {"decision": "already", "injected": once["metadata"]["annotations"][INJECTED]},
    }


def test_dry_run_is_answered_like_any_other() -> None:
    """`sideEffects: None` holds, for nothing is ever written."""
    found = answered(pod(), dryRun=True)
    assert found.facts["dry_run"] is True
    assert found.body == answered(pod()).body


@pytest.mark.parametrize(
    ("value", "operation", "decision"),
    [
        (deployment(), "CREATE", "injected"),
        (deployment(), "UPDATE", "injected"),
        (deployment("Job"), "CREATE", "injected"),
        (deployment("Job"), "UPDATE", "ignored"),
        (pod(), "UPDATE", "ignored"),
        (pod(), "DELETE", "ignored"),
        (pod(), "CONNECT", "ignored"),
        (None, "DELETE", "ignored"),
        (None, "CREATE", "ignored"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}, "CREATE", "ignored"),
        ({"apiVersion": "x.io/v1", "kind": "Thing", "spec": {"template": 3}}, "CREATE", "ignored"),
    ],
)
def test_only_what_can_have_a_sidecar_now_gets_one(value: Any, operation: str, decision: str) -> None:
    """Anything else is allowed as it is, with a warning for whoever made the rules."""
    found = answered(value, operation)
    assert found.decision == decision
    assert found.body["response"]["allowed"] is True
    assert ("patch" in found.body["response"]) == (decision == "injected")
    assert bool(found.body["response"].get("warnings")) == (decision == "ignored")


@pytest.mark.parametrize("namespace", ["kube-system", "kube-node-lease", "mesh"])
def test_nothing_is_injected_where_it_would_hurt(namespace: str) -> None:
    """What a cluster needs to run, and our own namespace, whatever the selectors say."""
    response = response_of(pod(), namespace=namespace)
    assert "patch" not in response
    assert response["warnings"] == [f"sidecar: nothing is injected in the namespace {namespace}"]


def test_subresources_are_left_alone() -> None:
    """A scale or an ephemeral container is no new Pod."""
    assert "patch" not in response_of(pod(), subResource="ephemeralcontainers")


@pytest.mark.parametrize("where", ["annotations", "labels"])
def test_who_wants_none_gets_none_and_no_warning(where: str) -> None:
    """By an annotation, or by the label, which the API's selector knows too."""
    response = response_of(pod(**{where: {WISH: "false"}}))
    assert response["auditAnnotations"]["decision"] == "unwanted"
    assert response.keys() == {"uid", "allowed", "auditAnnotations"}


def test_what_cannot_have_one_is_let_through_with_a_warning() -> None:
    """A Pod of the node's network runs without, as with other meshes; why is in warning and audit log."""
    response = response_of(pod(hostNetwork=True))
    assert response["allowed"] is True
    assert "patch" not in response
    assert response["warnings"][0].startswith(
        "sidecar: no sidecar: spec.hostNetwork: expected a network of the pod's own"
    )
    assert response["auditAnnotations"]["decision"] == "refused"
    assert "spec.hostNetwork" in response["auditAnnotations"]["why"]


@pytest.mark.parametrize("where", ["annotations", "labels"])
def test_what_must_have_one_and_cannot_is_denied(where: str) -> None:
    """Who says `true` must be in the mesh: it does not run outside of it unnoticed."""
    response = response_of(pod(**{where: {WISH: "true"}}, hostNetwork=True))
    assert response["allowed"] is False
    assert response["status"]["code"] == 403
    assert response["status"]["message"].startswith(
        f'no sidecar can be added, though {WISH} is "true": spec.hostNetwork'
    )
    assert response["auditAnnotations"]["decision"] == "denied"


def test_warnings_are_lines_of_a_length_that_the_api_passes_on() -> None:
    """Each is one printable line of at most 256 characters, whatever stood in the object."""
    response = response_of(pod(annotations={f"sidecar.mesh/{'x' * 300}\n\x00": "y", "sidecar.mesh/a": "b"}))
    assert len(response["warnings"]) == 2
    assert all(len(one) <= MAX_WARNING_CHARS and one.isprintable() for one in response["warnings"])


def changed(**fields: Any) -> bytes:
    """A review that is not as it should be."""
    return written({**review(pod()), **fields})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "1:1: expected JSON"),
        (b"{", "1:2: expected JSON"),
        (b"\xff\xfe", "expected JSON in UTF-8, found octet 0xff at 0"),
        (b'{"a": NaN}', "expected JSON: nan is no number"),
        (b'{"a": -Infinity}', "is no number"),
        (b'{"a": 1e999}', "1e999 is too large a number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected JSON: exceeds the limit"),
        (b"[" * 100_000, "expected at most 100 nested objects and lists"),
        (b'{"a":' * 60_000 + b"1" + b"}" * 60_000, "expected at most 100 nested objects and lists"),
        (b"[" * 200 + b"]" * 200, "expected at most 100 nested objects and lists"),
        (b"[]", "expected an AdmissionReview, found a list"),
        (b"null", "expected an AdmissionReview, found nothing"),
        (b"1.5", "expected an AdmissionReview, found a number"),
        (changed(kind="Pod"), "kind: expected 'AdmissionReview', found 'Pod'"),
        (
            changed(apiVersion="admission.k8s.io/v1beta1"),
            "found 'admission.k8s.io/v1beta1'; say admissionReviewVersions",
        ),
        (changed(apiVersion=1), "apiVersion: expected 'admission.k8s.io/v1', found a number"),
        (changed(request=None), "request: expected an object, found nothing"),
        (changed(request=[]), "request: expected an object, found a list"),
        (changed(request={}), "request.uid: expected the name of this review, found nothing"),
        (written(review(pod(), uid=5)), "request.uid: expected a string, found a number"),
        (written(review(pod(), uid="")), "request.uid: expected the name of this review, found nothing"),
        (written(review(pod(), namespace={})), "request.namespace: expected a string, found an object"),
        (written(review(pod(), kind=[])), "request.kind: expected an object, found a list"),
        (written(review(pod(), kind={"kind": True})), "request.kind.kind: expected a string, found a boolean"),
        (written(review(pod(), dryRun="no")), "request.dryRun: expected true or false, found a string"),
        (written(review(pod(), operation=[])), "request.operation: expected a string, found a list"),
        (written(review({"kind": 1}, kind=None)), "request.object.kind: expected a string, found a number"),
    ],
    ids=range(27),
)
def test_what_is_no_review_is_refused_with_its_place(raw: bytes, message: str) -> None:
    """Each by a sentence that says where, what was expected, and what found."""
    with pytest.raises(ReviewError) as error:
        answer(raw, POLICY)
    assert message in str(error.value)
    assert "Traceback" not in str(error.value)


def test_review_of_the_greatest_depth_is_answered() -> None:
    """What is nested as far as is allowed breaks nothing further in."""
    nested: Any = 1
    for _ in range(MAX_DEPTH - 5):
        nested = {"a": nested}
    found = answered({**pod(), "x": nested})
    assert found.decision == "injected"
    json.dumps(found.body)
