"""Objects as the API shows them: what is decided is what is decided of a file."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
import yaml

from sidecar import __version__
from sidecar.inject.edits import applied
from sidecar.inject.manifests import inject, uninject
from sidecar.inject.objects import Judged, Verdict, judge
from sidecar.inject.patch import patch_of
from sidecar.inject.text.render import as_json
from sidecar.inject.wanted import INJECTED, UNDO, WISH, Wanted

WANTED = Wanted(control=("https://control:15010",), mesh="shop", roots="mesh-roots")


def pod(**metadata: Any) -> dict[str, Any]:
    """A Pod as a ReplicaSet makes it: its name is still to come."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9f8b6c5", "controller": True, "uid": "u"}
    named = {"generateName": "web-7d9f8b6c5-", "labels": {"pod-template-hash": "7d9f8b6c5"}, "ownerReferences": [owner]}
    probe = {"tcpSocket": {"port": "http"}, "periodSeconds": 3}
    container = {"name": "app", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": named | metadata,
        "spec": {"containers": [container | {"livenessProbe": probe}], "initContainers": [{"name": "i", "image": "i"}]},
    }


def patched(value: Any, judged: Judged) -> Any:
    """By somebody else's library."""
    return jsonpatch.JsonPatch(patch_of(judged.edits)).apply(value)


def service_of(value: Any) -> str:
    """Whose sidecar it gets."""
    containers = patched(value, judge(value, WANTED))["spec"]["initContainers"]
    environment = next(one for one in containers if one["name"] == "sidecar")["env"]
    return str(next(one["value"] for one in environment if one["name"] == "SIDECAR_SERVICE"))


def test_object_becomes_what_its_file_becomes() -> None:
    """The patch, our own edits, and `sidecar inject` of the object as a file of JSON come to the same."""
    value = pod()
    before = copy.deepcopy(value)
    judged = judge(value, WANTED)
    assert judged.verdict is Verdict.INJECTED
    assert judged.added == "a native sidecar and capture; service web, app port 8080"
    of_file = yaml.safe_load(inject(as_json(value, None, ""), "f.json", WANTED).text)
    assert patched(value, judged) == applied(value, judged.edits) == of_file
    assert of_file["metadata"]["annotations"][INJECTED] == judged.mark
    assert value == before


def test_what_was_patched_in_comes_out_of_the_file_that_the_api_prints() -> None:
    """`kubectl get -o yaml | sidecar inject --uninject` gives back the Pod, for the notes are those of a file."""
    value = pod(annotations={"a": "b"})
    printed = yaml.safe_dump(patched(value, judge(value, WANTED)))
    assert yaml.safe_load(uninject(printed, "f").text) == value


def test_object_that_was_injected_before_stays() -> None:
    """By a patch or in its file, by this release with whatever options: nothing is done, and nothing told."""
    value = pod()
    by_patch = patched(value, judge(value, Wanted(config="other", is_plain=True)))
    by_file = yaml.safe_load(inject(yaml.safe_dump(value), "f", WANTED).text)
    for one in (by_patch, by_file):
        judged = judge(one, WANTED)
        assert (judged.verdict, judged.edits, judged.told) == (Verdict.ALREADY, (), ())
        assert judged.mark == one["metadata"]["annotations"][INJECTED]


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({INJECTED: f"{__version__}-abc", UNDO: "[]"}, "it has no container 'sidecar'"),
        ({UNDO: "[]"}, "it has no container 'sidecar'"),
    ],
)
def test_marks_without_a_sidecar_are_told(annotations: dict[str, str], told: str) -> None:
    """Annotations that were copied from elsewhere keep a Pod as it is, which somebody should know."""
    judged = judge(pod(annotations=annotations), WANTED)
    assert judged.verdict is Verdict.ALREADY
    assert told in judged.told[0]


def test_object_of_another_release_stays_and_is_told() -> None:
    """Whoever injects by files brings them up to date; a Pod is made anew by what owns it."""
    value = patched(pod(), judge(pod(), WANTED))
    value["metadata"]["annotations"][INJECTED] = "0.0.9-12345678"
    judged = judge(value, WANTED)
    assert judged.verdict is Verdict.ALREADY
    assert "another release (0.0.9-12345678)" in judged.told[0]


@pytest.mark.parametrize("where", ["annotations", "labels"])
def test_object_that_wants_none_gets_none(where: str) -> None:
    """By an annotation, or by the label by which the API can select."""
    judged = judge(pod(**{where: {WISH: "false"}}), WANTED)
    assert (judged.verdict, judged.edits) == (Verdict.UNWANTED, ())


@pytest.mark.parametrize("where", ["annotations", "labels"])
def test_what_asks_and_cannot_have_one_is_told_from_what_does_not_ask(where: str) -> None:
    """Why is told with path and hint; whether it said `true` decides what is done about it."""
    value = pod(**{where: {WISH: "true"}})
    value["spec"]["hostNetwork"] = True
    judged = judge(value, WANTED)
    assert (judged.verdict, judged.is_asked_for) == (Verdict.REFUSED, True)
    assert judged.problems[0].startswith("spec.hostNetwork: expected a network of the pod's own")
    value = pod()
    value["spec"]["hostNetwork"] = True
    assert judge(value, WANTED).is_asked_for is False


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"kind": "Pod"},
        {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "v1", "kind": "List", "items": [pod(), pod()]},
        {"apiVersion": "x.io/v1", "kind": "Pod", "spec": {}},
        {"services": {"web": {"image": "a", "labels": {WISH: "true"}}}},
    ],
)
def test_what_is_no_workload_is_not_ours(value: Any) -> None:
    """Lists, other objects, files of other platforms: nothing of them is touched."""
    assert judge(value, WANTED).verdict is Verdict.NOT_OURS


def owned(kind: str, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """A Pod without a label that says its service."""
    owner = {"apiVersion": "x", "kind": kind, "name": name, "controller": True, "uid": "u"}
    return pod(generateName=f"{name}-", labels=labels or {}, ownerReferences=[owner])


def test_pod_of_a_job_gets_no_plain_sidecar_that_would_keep_it_from_ending() -> None:
    """As the Job itself; with a native one it ends."""
    plain = Wanted(config="c", is_plain=True)
    judged = judge(owned("Job", "nightly-28433650"), plain)
    assert judged.verdict is Verdict.REFUSED
    assert "would never end" in judged.problems[0]
    assert judge(owned("Job", "nightly-28433650"), WANTED).verdict is Verdict.INJECTED
    assert judge(owned("ReplicaSet", "web-5c"), plain).verdict is Verdict.INJECTED


def test_mirror_of_a_static_pod_is_left_alone() -> None:
    """It runs as its node's file says, whatever the API is told."""
    judged = judge(pod(annotations={"kubernetes.io/config.mirror": "3f"}), WANTED)
    assert judged.verdict is Verdict.REFUSED
    assert "found the mirror of one that its node runs by itself" in judged.problems[0]


@pytest.mark.parametrize(
    ("value", "service"),
    [
        (pod(), "web"),
        (pod(ownerReferences=[]), "web"),
        (pod(labels={"pod-template-hash": "7d9f8b6c5", "app": "shop"}), "shop"),
        (owned("ReplicaSet", "web-5c", {"rollouts-pod-template-hash": "5c"}), "web"),
        (owned("StatefulSet", "db", {"statefulset.kubernetes.io/pod-name": "db-0"}), "db"),
        (owned("DaemonSet", "agent-7"), "agent-7"),
        (owned("Job", "nightly-28433650"), "nightly"),
        (owned("Job", "once"), "once"),
        (owned("ReplicaSet", "7d", {"pod-template-hash": "7d"}), "7d"),
    ],
)
def test_service_of_a_pod_is_its_workloads(value: Any, service: str) -> None:
    """A label says it, or who made the Pod, without what differs from one of its kind to the next."""
    assert service_of(value) == service
