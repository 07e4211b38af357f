"""What is added to Kubernetes' workloads: by the API's own schemas, and by what each part is there for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sidecar.inject.manifests import Outcome, inject, uninject
from sidecar.inject.wanted import Wanted

MANIFESTS = sorted((Path(__file__).parents[1] / "manifests").iterdir())
OF_FILE = Wanted(config="web-sidecar")
OF_MESH = Wanted(control=("https://control:15010",), mesh="shop", roots="mesh-roots")

POD: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "app", "image": "web:1", "ports": [{"containerPort": 8080}]}]},
}


def workload(kind: str = "Deployment", annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A workload whose pod has these annotations and, beside one container, this specification."""
    template = copy.deepcopy(POD)
    template["spec"] |= spec
    if annotations:
        template["metadata"]["annotations"] = {f"sidecar.mesh/{name}": value for name, value in annotations.items()}
    version = "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
    whole = {"spec": {"template": template}} if kind == "CronJob" else None
    inner = {"jobTemplate": whole, "schedule": "0 3 * * *"} if whole else {"template": template}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": inner}


def outcome_of(value: Any, wanted: Wanted = OF_FILE) -> Outcome:
    return inject(yaml.safe_dump(value, sort_keys=False), "f.yaml", wanted)


def pod_of(value: Any, wanted: Wanted = OF_FILE) -> dict[str, Any]:
    """The injected pod's specification."""
    outcome = outcome_of(value, wanted)
    assert outcome.problems == []
    spec: dict[str, Any] = yaml.safe_load(outcome.text)["spec"]
    return (spec.get("jobTemplate", {}).get("spec") or spec)["template"]["spec"]  # type: ignore[no-any-return]


def problems_of(value: Any, wanted: Wanted = OF_FILE) -> list[str]:
    """`path: message; hint` of each, without the place."""
    outcome = outcome_of(value, wanted)
    assert outcome.text == yaml.safe_dump(value, sort_keys=False)
    return [str(problem).split(": ", 1)[1] for problem in outcome.problems]


@pytest.mark.parametrize("version", ["1.29", "1.30", "1.33", "1.37"])
@pytest.mark.parametrize("wanted", [OF_FILE, OF_MESH], ids=["file", "mesh"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_injected_manifests_are_what_the_api_takes(path: Path, wanted: Wanted, version: str) -> None:
    """Manifests in the style of known projects, injected, follow the strict schemas of Kubernetes' versions."""
    text = path.read_text()
    outcome = inject(text, path.name, wanted)
    assert outcome.problems == []
    assert outcome.text != text
    assert uninject(outcome.text, path.name).text == text
    for document in yaml.safe_load_all(outcome.text):
        for one in document["items"] if document and document["kind"] == "List" else [document]:
            if one:
                kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", ["1.27", "1.28", "1.30"])
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"])
def test_plain_sidecars_are_what_older_versions_take(kind: str, version: str) -> None:
    """A plain sidecar uses nothing that a version without native ones lacks."""
    value = workload(kind)
    value["spec"] |= {"selector": {"matchLabels": {"app": "web"}}} | ({"serviceName": "w"} if kind[0] == "S" else {})
    major, minor = map(int, version.split("."))
    text = outcome_of(value, Wanted(config="c", is_plain=True, kubernetes=(major, minor))).text
    kubernetes_validate.validate(yaml.safe_load(text), version, strict=True)


def test_a_native_sidecar_stands_behind_capture_and_before_all_else() -> None:
    """Init containers of the workload run when their connections are captured and the sidecar is ready."""
    pod = pod_of(workload(initContainers=[{"name": "own", "image": "x"}]))
    assert [one["name"] for one in pod["initContainers"]] == ["sidecar-capture", "sidecar", "own"]
    assert pod["initContainers"][1]["restartPolicy"] == "Always"
    assert "restartPolicy" not in pod["initContainers"][0]


def test_with_a_plain_sidecar_capture_comes_last() -> None:
    """The workload's init containers, beside which no sidecar runs, are not captured."""
    value = workload(initContainers=[{"name": "own", "image": "x"}])
    pod = pod_of(value, Wanted(config="c", is_plain=True))
    assert [one["name"] for one in pod["initContainers"]] == ["own", "sidecar-capture"]
    assert [one["name"] for one in pod["containers"]] == ["sidecar", "app"]
    assert pod["containers"][0]["lifecycle"]["postStart"] == {"exec": {"command": ["sidecar", "wait"]}}
    assert "restartPolicy" not in pod["containers"][0]


def test_kubectl_stays_at_the_app_where_a_plain_sidecar_comes_first() -> None:
    """`kubectl logs` without a container's name shows the app."""
    text = outcome_of(workload(), Wanted(config="c", is_plain=True)).text
    annotations = yaml.safe_load(text)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["kubectl.kubernetes.io/default-container"] == "app"


def test_the_sidecar_may_do_nothing_that_it_need_not() -> None:
    """Not root, a read-only root, no capability, no privilege; capture is root with NET_ADMIN and no other."""
    capture, sidecar = pod_of(workload())["initContainers"]
    assert sidecar["securityContext"] == {
        "runAsUser": 1337,
        "runAsGroup": 1337,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert capture["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert capture["securityContext"]["runAsUser"] == 0
    assert capture["securityContext"]["readOnlyRootFilesystem"] is True


def test_in_a_mesh_a_pod_joins_by_its_service_account() -> None:
    """The token is made out to the mesh's control plane, roots and memory are mounted, the variables name them."""
    pod = pod_of(workload(), OF_MESH)
    sidecar = pod["initContainers"][1]
    variables = {one["name"]: one.get("value") for one in sidecar["env"]}
    assert variables["SIDECAR_CONTROL"] == "https://control:15010"
    assert variables["SIDECAR_CONTROL_TRUST"] == "/etc/mesh/roots.pem"
    assert variables["SIDECAR_SERVICE"] == "web"
    volumes = {one["name"]: one for one in pod["volumes"]}
    token = volumes["sidecar-token"]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "spiffe://shop/control"
    assert variables["SIDECAR_CONTROL_TOKEN_FILE"] == "/var/run/mesh/" + token["path"]
    assert volumes["sidecar-state"]["emptyDir"]["medium"] == "Memory"
    assert {mount["name"] for mount in sidecar["volumeMounts"]} == set(volumes)


def test_probes_that_only_connect_ask_the_sidecar() -> None:
    """`tcpSocket` of captured ports becomes `/app-health/PORT`; `httpGet`, `grpc`, `exec` and other hosts stay."""
    probes = {
        "livenessProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 7},
        "readinessProbe": {"grpc": {"port": 9000}},
        "startupProbe": {"httpGet": {"path": "/up", "port": "web"}},
    }
    ports = [{"name": "web", "containerPort": 8080}, {"name": "grpc", "containerPort": 9000}]
    value = workload(containers=[{"name": "app", "image": "x", "ports": ports, **probes}])
    outcome = outcome_of(value)
    pod = yaml.safe_load(outcome.text)["spec"]["template"]["spec"]
    app, sidecar = pod["containers"][0], pod["initContainers"][1]
    assert app["livenessProbe"] == {"httpGet": {"path": "/app-health/8080", "port": 15020}, "periodSeconds": 7}
    assert app["readinessProbe"] == probes["readinessProbe"]
    assert app["startupProbe"] == probes["startupProbe"]
    assert {"name": "SIDECAR_PROBED_PORTS", "value": "8080"} in sidecar["env"]
    assert "/up on 8080" in outcome.told[0]
    assert "/grpc.health.v1.Health/Check on 9000" in outcome.told[0]


@pytest.mark.parametrize(
    "annotations", [{"capture": "false"}, {"exclude-inbound": "8000-8100"}], ids=["not captured", "excluded"]
)
def test_probes_of_ports_that_are_not_captured_stay(annotations: dict[str, str]) -> None:
    """Where the kubelet still speaks with the app itself nothing is rewritten."""
    probe = {"tcpSocket": {"port": 8080}}
    ports = [{"containerPort": 8080}]
    value = workload(annotations=annotations, containers=[{"name": "app", "ports": ports, "livenessProbe": probe}])
    assert pod_of(value)["containers"][0]["livenessProbe"] == probe


def test_annotations_override_what_was_asked_for() -> None:
    """Each known annotation has its effect on its own pod."""
    said = {
        "service": "shop-web",
        "version": "v7",
        "app-port": "9999",
        "image": "mine:1",
        "config": "other",
        "cpu": "1",
        "memory": "1Gi",
        "cpu-limit": "2",
        "memory-limit": "2Gi",
        "exclude-inbound": "9100",
        "exclude-outbound": "5432,10.0.0.0/8",
        "proxy-env": "true",
    }
    pod = pod_of(workload(annotations=said))
    capture, sidecar = pod["initContainers"]
    variables = {one["name"]: one.get("value") for one in sidecar["env"]}
    assert (variables["SIDECAR_SERVICE"], variables["SIDECAR_VERSION"], variables["SIDECAR_APP_PORT"]) == (
        "shop-web",
        "v7",
        "9999",
    )
    assert sidecar["image"] == capture["image"] == "mine:1"
    assert pod["volumes"][0]["configMap"] == {"name": "other"}
    assert sidecar["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }
    assert capture["args"][2:] == ["--exclude-inbound", "9100", "--exclude-outbound", "5432,10.0.0.0/8"]
    assert {one["name"] for one in pod["containers"][0]["env"]} >= {"HTTP_PROXY", "NO_PROXY"}


def test_a_pod_that_wants_no_sidecar_is_left_as_it_is() -> None:
    """`sidecar.mesh/inject: "false"` passes byte by byte, also what would be refused."""
    value = workload(annotations={"inject": "false"}, hostNetwork=True)
    outcome = outcome_of(value)
    assert outcome.problems == []
    assert outcome.text == yaml.safe_dump(value, sort_keys=False)


@pytest.mark.parametrize(
    ("labels", "own", "expected"),
    [
        ({"app.kubernetes.io/name": "a", "app": "b"}, "c", "a"),
        ({"app": "b"}, "c", "b"),
        ({}, "c", "c"),
    ],
)
def test_a_service_is_called_by_label_or_by_its_workload(labels: dict[str, str], own: str, expected: str) -> None:
    """The first of annotation, `app.kubernetes.io/name`, `app` and the workload's name."""
    value = workload()
    value["metadata"]["name"] = own
    value["spec"]["template"]["metadata"]["labels"] = labels
    assert {"name": "SIDECAR_SERVICE", "value": expected} in pod_of(value)["initContainers"][1]["env"]


REFUSED = {
    "host network": (workload(hostNetwork=True), OF_FILE, "found `hostNetwork: true`"),
    "no containers": (workload(containers=[]), OF_FILE, "expected containers, found none"),
    "port": (
        workload(containers=[{"name": "a", "ports": [{"containerPort": 15020}]}]),
        OF_FILE,
        "containers[0].ports[0].containerPort: port 15020 is one of the sidecar's own",
    ),
    "name": (workload(containers=[{"name": "sidecar"}]), OF_FILE, "there is a container `sidecar` already"),
    "volume": (workload(volumes=[{"name": "sidecar-state"}]), OF_FILE, "there is a volume `sidecar-state` already"),
    "user": (workload(securityContext={"runAsUser": 1337}), OF_FILE, "another user than the sidecar's, found 1337"),
    "windows": (workload(os={"name": "windows"}), OF_FILE, "expected a pod of Linux, found `windows`"),
    "unknown": (workload(annotations={"exclude-inbund": "1"}), OF_FILE, "did you mean `exclude-inbound`?"),
    "exclusion": (workload(annotations={"exclude-inbound": "x"}), OF_FILE, "expected a port such as 5432"),
    "boolean": (workload(annotations={"capture": "yes"}), OF_FILE, 'expected "true" or "false", found \'yes\''),
    "service": (workload(annotations={"service": "Web_1"}), OF_FILE, "did you mean `web-1`?"),
    "reserved": (workload(annotations={"service": "control"}), OF_FILE, "the name `control` is reserved"),
    "no file": (workload(), Wanted(), "nothing says what the sidecar is to do; say --control URL, or --config"),
    "old": (workload(), Wanted(config="c", kubernetes=(1, 28)), "native sidecars need Kubernetes 1.29, found 1.28"),
    "job": (workload("Job"), Wanted(config="c", is_plain=True), "a Job with a plain sidecar would never end"),
    "list": (workload(volumes={"a": 1}), OF_FILE, "volumes: expected a list, found a mapping"),
    "ports": (
        workload(annotations={"capture": "false"}, containers=[{"name": "a", "ports": []}]),
        OF_FILE,
        "expected one port of the app, found none",
    ),
}


@pytest.mark.parametrize(("value", "wanted", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_work_is_refused_with_the_reason(value: Any, wanted: Wanted, message: str) -> None:
    """Nothing is changed, and the one problem says what was found and what to do."""
    problems = problems_of(value, wanted)
    assert len(problems) == 1
    assert message in problems[0]


def test_a_host_network_is_seen_however_true_is_spelled() -> None:
    """Kubernetes reads YAML 1.1, in which `yes` and `on` are true."""
    text = yaml.safe_dump(workload(hostNetwork=True), sort_keys=False)
    for word in ("yes", "on", "True"):
        outcome = inject(text.replace("hostNetwork: true", f"hostNetwork: {word}"), "f.yaml", OF_FILE)
        assert [problem.path for problem in outcome.problems] == ["spec.template.spec.hostNetwork"]


def test_turning_a_sidecar_off_takes_it_out() -> None:
    """A pod that was injected and now says `sidecar.mesh/inject: "false"` is what it was without."""
    text = yaml.safe_dump(workload(annotations={"inject": "true"}), sort_keys=False)
    injected = inject(text, "f.yaml", OF_FILE).text
    off = inject(injected.replace("sidecar.mesh/inject: 'true'", "sidecar.mesh/inject: 'false'"), "f.yaml", OF_FILE)
    assert off.text == text.replace("'true'", "'false'")


def test_an_annotation_of_the_workload_itself_is_told() -> None:
    """Kubernetes gives a Deployment's own annotations to no pod: who writes one there means the pods'."""
    value = workload()
    value["metadata"]["annotations"] = {"sidecar.mesh/capture": "false"}
    assert problems_of(value) == [
        "metadata.annotations['sidecar.mesh/capture']: this annotation is read of pods only; "
        "write it to `spec.template.metadata.annotations`"
    ]


def test_a_job_whose_app_ends_the_sidecar_may_have_a_plain_one() -> None:
    """Who says that the app asks its sidecar to quit is believed."""
    pod = pod_of(workload("Job", {"quits": "true"}), Wanted(config="c", is_plain=True))
    assert pod["containers"][0]["name"] == "sidecar"


def test_all_problems_of_a_file_are_told_at_their_places() -> None:
    """One refused workload is enough for nothing to be written; each has its line."""
    documents = [workload(), workload(hostNetwork=True), workload(containers=[{"name": "sidecar"}])]
    text = yaml.safe_dump_all(documents, sort_keys=False)
    outcome = inject(text, "f.yaml", OF_FILE)
    assert outcome.text == text
    lines = text.splitlines()
    assert [lines[problem.line - 1].strip() for problem in outcome.problems] == ["hostNetwork: true", "- name: sidecar"]


def test_problems_of_an_injected_file_stand_where_they_are_in_it() -> None:
    """A place is one of the file as it was given, with the earlier sidecar in it."""
    text = outcome_of(workload()).text
    broken = text.replace("name: app\n", "name: app\n        securityContext: {runAsUser: 1337}\n")
    outcome = inject(broken, "f.yaml", OF_FILE)
    assert [broken.splitlines()[problem.line - 1].strip() for problem in outcome.problems] == [
        "securityContext: {runAsUser: 1337}"
    ]


def test_a_sidecar_without_readable_notes_is_not_guessed_at() -> None:
    """A damaged `sidecar.mesh/undo` is refused both ways."""
    text = outcome_of(workload()).text.replace('[["key"', "[[key")
    for outcome in (inject(text, "f.yaml", OF_FILE), uninject(text, "f.yaml")):
        assert [problem.message for problem in outcome.problems] == [
            "cannot tell what was injected: `sidecar.mesh/undo` is damaged"
        ]


@pytest.mark.parametrize(
    "path", [one for one in MANIFESTS if one.name != "shared-parts.yaml"], ids=lambda path: path.name
)
@pytest.mark.parametrize("form", ["json", "yaml", "wide", "flow"])
def test_what_another_program_has_written_anew_can_be_taken_out(path: Path, form: str) -> None:
    """After `kubectl`, `kustomize` or a formatter the bytes are others, and what comes back says what was said."""
    values = list(yaml.safe_load_all(path.read_text()))
    injected = list(yaml.safe_load_all(inject(path.read_text(), path.name, OF_MESH).text))
    if form == "json":
        text = "\n---\n".join(json.dumps(one, indent=2, sort_keys=True) for one in injected)
    else:
        style = {"yaml": {}, "wide": {"indent": 9}, "flow": {"default_flow_style": True}}[form]
        text = yaml.safe_dump_all(injected, **style)  # type: ignore[call-overload]
    outcome = uninject(text, path.name)
    assert outcome.problems == []
    assert list(yaml.safe_load_all(outcome.text)) == values


def test_other_kinds_with_pods_are_injected_and_other_objects_pass() -> None:
    """A rollout of another API group has its pod template in the usual place; a ConfigMap has none."""
    rollout = workload() | {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
    assert pod_of(rollout)["initContainers"]
    for value in (
        workload() | {"apiVersion": "serving.knative.dev/v1", "kind": "Service"},
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}},
        {"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "spec": {"tasks": []}},
    ):
        assert outcome_of(value).text == yaml.safe_dump(value, sort_keys=False)
