"""The complete examples under `config/examples/mesh-deployed/`: every word that they give is one that is taken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sidecar.cli.commands import cli
from sidecar.control.authority.names import of_account, of_control
from sidecar.control.start import Options, _accepted
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from tests.support.commands import sidecar_command

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "config" / "examples" / "mesh-deployed"
SERVICES = ("storefront", "recommendations")
CLUSTERS = ("kubernetes.yaml", "kubernetes-engine.yaml")
API_OF = {
    "v1": {"ConfigMap", "PersistentVolumeClaim", "Service", "ServiceAccount"},
    "apps/v1": {"Deployment"},
    "networking.k8s.io/v1": {"NetworkPolicy"},
    "policy/v1": {"PodDisruptionBudget"},
    "rbac.authorization.k8s.io/v1": {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"},
}
POD_KEYS = {
    "affinity", "automountServiceAccountToken", "containers", "initContainers", "securityContext", "serviceAccountName",
    "terminationGracePeriodSeconds", "volumes",
}  # fmt: skip
CONTAINER_KEYS = {
    "args", "env", "image", "imagePullPolicy", "livenessProbe", "name", "ports", "readinessProbe", "resources",
    "restartPolicy", "securityContext", "startupProbe", "volumeMounts",
}  # fmt: skip
PROXIED = {"HTTP_PROXY": "http://127.0.0.1:15001", "http_proxy": "http://127.0.0.1:15001"}
ECS = ("control", *SERVICES)


def _options(arguments: Sequence[str], environment: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the command line makes of arguments and variables; none of it runs."""
    name, *rest = arguments
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    with pytest.MonkeyPatch.context() as patched:
        for key, value in (environment or {}).items():
            if isinstance(value, str):
                patched.setenv(key, value)
        given = command.make_context(name, list(rest), parent=context)
    return dict(given.params)


def _check_secured(options: Mapping[str, Any], operator_file: str) -> None:
    """That a control plane has an authority, takes TLS alone, and knows its operator by the file that is mounted."""
    asked = Options(**{key: options[key] for key in ("listen", "accept")})
    assert _accepted(asked, has_authority=True) == ("tls",)
    assert options["creates_ca"] is True
    assert options["token_file"] == ""
    assert options["operators"] == (f"you:write:{operator_file}",)


def _variables_of_run() -> set[str]:
    command = cli.get_command(click.Context(cli), "run")
    assert command is not None
    return {str(parameter.envvar) for parameter in command.params if parameter.envvar}


def _compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    return document


def _kubernetes(file: str = "kubernetes.yaml") -> dict[tuple[str, str], Any]:
    """Its documents by kind and name."""
    documents = yaml.safe_load_all((EXAMPLES / file).read_text())
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def _mesh_files(documents: Mapping[tuple[str, str], Any]) -> dict[str, bytes]:
    """The mesh inside of its ConfigMaps."""
    maps = [one for (kind, name), one in documents.items() if kind == "ConfigMap" and name != "sidecar"]
    return {key: text.encode() for one in maps for key, text in one["data"].items()}


def _task(name: str) -> dict[str, Any]:
    task: dict[str, Any] = json.loads((EXAMPLES / "ecs" / f"{name}.json").read_text())
    return task


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_every_file_is_known_to_a_test() -> None:
    """A file that is added without a test that reads it is found."""
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    assert files == {"mesh.yaml", "compose.yaml", *CLUSTERS, *(f"ecs/{name}.json" for name in ECS)}


def test_mesh_passes_the_check_command(tmp_path: Path) -> None:
    """The file for Compose and those inside of ConfigMaps."""
    paths = [EXAMPLES / "mesh.yaml"]
    for name in CLUSTERS:
        paths.append(tmp_path / name)
        paths[-1].mkdir()
        for key, text in _mesh_files(_kubernetes(name)).items():
            (paths[-1] / key).write_bytes(text)
    for path in paths:
        result = sidecar_command("mesh", "check", path)
        assert (result.returncode, result.stderr) == (0, "")


class TestCompose:
    """`compose.yaml`."""

    def test_control_plane_reads_the_mesh_beside_it(self) -> None:
        """Options are known, the mesh is mounted, what is published is what it listens on, and it takes TLS alone."""
        control = _compose()["services"]["control"]
        options = _options(control["command"], control["environment"])
        mounts = dict(volume.split(":")[:2] for volume in control["volumes"])
        assert options["mesh"] == f"{mounts['.']}/mesh.yaml"
        assert options["state"] == mounts["control"] == "/var/lib/sidecar"
        _check_secured(options, f"/run/secrets/{control['secrets'][0]}")
        assert control["environment"]["SIDECAR_CONTROL"] == f"https://127.0.0.1:{_port(options['listen'])}"
        assert control["ports"] == [f"127.0.0.1:{_port(options['listen'])}:{_port(options['listen'])}"]
        assert f"127.0.0.1:{_port(options['ops_listen'])}/ready" in control["healthcheck"]["test"][-1]
        assert (EXAMPLES / control["build"] / "Dockerfile").is_file()

    @pytest.mark.parametrize("name", SERVICES)
    def test_service_is_one_of_the_mesh_and_follows_the_control_plane(self, name: str) -> None:
        """Its sidecar asks the control plane with the token; its app shares the network and calls through it."""
        document = _compose()
        services = document["services"]
        sidecar, app = services[name], services[f"{name}-app"]
        options = _options(sidecar["command"])
        mesh = yaml.safe_load((EXAMPLES / "mesh.yaml").read_text())
        control = _options(services["control"]["command"])
        assert options["service"] == name
        assert name in mesh["services"]
        assert list(options["control"]) == [f"https://control:{_port(control['listen'])}"]
        assert options["control_token_file"] == f"/run/secrets/{name}-token"
        assert sidecar["secrets"] == [f"{name}-token"]
        assert document["secrets"][f"{name}-token"] == {"file": f"./{name}.token"}
        assert sidecar["volumes"] == [f"{name}:/var/lib/sidecar"]
        assert set(document["volumes"]) == {"control", *SERVICES}
        assert (sidecar["read_only"], sidecar["cap_drop"]) == (True, ["ALL"])
        assert app["network_mode"] == f"service:{name}"
        assert app["depends_on"][name]["condition"] == "service_healthy"
        assert PROXIED.items() <= app["environment"].items()
        listened = _port(mesh["services"][name]["app"])
        assert str(listened) in app["command"]


class TestKubernetes:
    """`kubernetes.yaml`, and what holds for `kubernetes-engine.yaml` as well."""

    def test_control_plane_reads_the_config_map(self) -> None:
        """Options are known; mesh, token and state are mounted; its Service and probes lead to what it listens on."""
        documents = _kubernetes()
        pod = documents["Deployment", "control"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        options = _options(container["args"], {one["name"]: one["value"] for one in container["env"]})
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert options["mesh"] == mounts["mesh"]
        assert options["state"] == mounts["state"]
        _check_secured(options, f"{mounts['token']}/token")
        assert (ports["control"], ports["ops"]) == (_port(options["listen"]), _port(options["ops_listen"]))
        assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "ops"}
        assert volumes["mesh"]["configMap"]["name"] == "mesh"
        assert ("PersistentVolumeClaim", volumes["state"]["persistentVolumeClaim"]["claimName"]) in documents
        service = documents["Service", "control"]["spec"]
        assert service["selector"] == documents["Deployment", "control"]["spec"]["template"]["metadata"]["labels"]
        assert service["ports"][0]["targetPort"] == "control"
        assert not any("subPath" in mount for mount in container["volumeMounts"])

    @pytest.mark.parametrize("file", CLUSTERS)
    @pytest.mark.parametrize("name", SERVICES)
    def test_sidecar_of_a_service_follows_the_control_plane(self, name: str, file: str) -> None:
        """A native sidecar, by variables that `run` knows, with a place for what it knew last, and the least rights."""
        documents = _kubernetes(file)
        template = documents["Deployment", name]["spec"]["template"]
        (sidecar,) = template["spec"]["initContainers"]
        environment: Mapping[str, Any] = {one["name"]: one.get("value") for one in sidecar["env"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
        port = documents["Service", "control"]["spec"]["ports"][0]["port"]
        assert _options(sidecar["args"])
        assert set(environment) - {"POD_IP"} <= _variables_of_run()
        assert environment["SIDECAR_CONTROL"] == f"https://control:{port}"
        assert environment["SIDECAR_SERVICE"] == name
        assert environment["SIDECAR_CONTROL_TOKEN_FILE"] == f"{mounts['token']}/token"
        assert mounts["state"] == "/var/lib/sidecar"
        # On a disk a key would not be kept.
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert volumes["state"]["emptyDir"] == {"medium": "Memory"}
        assert name in read_mesh(_mesh_files(documents)).services
        assert sidecar["restartPolicy"] == "Always"
        probes = [sidecar[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
        assert [probe["path"] for probe in probes] == ["/ready", "/ready", "/live"]
        context = sidecar["securityContext"]
        assert (context["runAsUser"], context["runAsNonRoot"], context["readOnlyRootFilesystem"]) == (1337, True, True)
        assert context["capabilities"] == {"drop": ["ALL"]}
        (app,) = template["spec"]["containers"]
        assert PROXIED.items() <= {one["name"]: one["value"] for one in app["env"]}.items()
        assert documents["Deployment", name]["spec"]["selector"]["matchLabels"].items() <= (
            template["metadata"]["labels"].items()
        )

    @pytest.mark.parametrize("file", CLUSTERS)
    def test_only_the_mesh_reaches_the_control_plane(self, file: str) -> None:
        """The policy selects the control plane, and lets in pods that have the label which the services' pods have."""
        documents = _kubernetes(file)
        policy = documents["NetworkPolicy", "control"]["spec"]
        labels = documents["Deployment", "control"]["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        admitted, *_ = policy["ingress"][0]["from"]
        for name in SERVICES:
            pod = documents["Deployment", name]["spec"]["template"]["metadata"]["labels"]
            assert admitted["podSelector"]["matchLabels"].items() <= pod.items()

    @pytest.mark.parametrize("file", CLUSTERS)
    def test_documents_are_of_known_kinds_and_lead_to_each_other(self, file: str) -> None:
        """Of every pod: keys that there are, volumes, named ports, selectors, resources, and the least rights."""
        documents = _kubernetes(file)
        for (kind, name), one in documents.items():
            assert kind in API_OF[one["apiVersion"]], (kind, name)
            if kind != "Deployment":
                continue
            template = one["spec"]["template"]
            pod = template["spec"]
            assert pod.keys() <= POD_KEYS
            assert one["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            volumes = {volume["name"] for volume in pod.get("volumes", ())}
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                assert container.keys() <= CONTAINER_KEYS
                assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
                ports = {port["name"] for port in container.get("ports", ())}
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    asked = container.get(probe, {})
                    assert all(asked[how]["port"] in ports for how in ("httpGet", "tcpSocket") if how in asked)
                if container["name"] != "app":
                    assert container["securityContext"]["allowPrivilegeEscalation"] is False
                    assert container["resources"].keys() == {"requests", "limits"}
            service = documents.get(("Service", name), {"spec": {"selector": {}, "ports": []}})["spec"]
            named = {port["name"] for part in (*pod.get("initContainers", ()), *pod["containers"])
                     for port in part.get("ports", ())}  # fmt: skip
            assert service["selector"].items() <= template["metadata"]["labels"].items()
            assert {port["targetPort"] for port in service["ports"]} <= named
            assert (int(template["metadata"]["annotations"]["prometheus.io/port"])) in {
                port["containerPort"] for part in (*pod.get("initContainers", ()), *pod["containers"])
                for port in part.get("ports", ())
            }  # fmt: skip


class TestKubernetesEngine:
    """`kubernetes-engine.yaml`."""

    FILE = "kubernetes-engine.yaml"

    def test_control_planes_keep_everything_in_the_api(self) -> None:
        """No disk; each has its pod's name and an address at which the others reach it; they do not go all at once."""
        documents = _kubernetes(self.FILE)
        deployment = documents["Deployment", "control"]["spec"]
        pod = deployment["template"]["spec"]
        (container,) = pod["containers"]
        options = _options(container["args"], {one["name"]: one.get("value") for one in container["env"]})
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        fields = {
            one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"] if "valueFrom" in one
        }
        assert (options["engine"], options["mesh"], options["state"]) == ("kubernetes", "", "")
        _check_secured(options, f"{mounts['token']}/token")
        assert fields == {"POD_NAME": "metadata.name", "POD_IP": "status.podIP"}
        assert (options["replica"], options["advertise"]) == ("$(POD_NAME)", f"https://$(POD_IP):{ports['control']}")
        assert (ports["control"], ports["ops"]) == (_port(options["listen"]), _port(options["ops_listen"]))
        assert deployment["replicas"] >= 2
        (spread,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert spread["podAffinityTerm"]["labelSelector"] == deployment["selector"]
        for name in ("control", *SERVICES):
            budget = documents["PodDisruptionBudget", name]["spec"]
            assert budget == {"maxUnavailable": 1, "selector": documents["Deployment", name]["spec"]["selector"]}
        peers = documents["NetworkPolicy", "control"]["spec"]["ingress"][0]["from"]
        assert {"podSelector": deployment["selector"]} in peers

    def test_it_may_do_what_the_documentation_says_and_no_more(self) -> None:
        """The Role is the documented one but for Services, of which this mesh names no port by number."""
        documents = _kubernetes(self.FILE)
        page = (ROOT / "docs" / "mesh-engines.md").read_text()
        (block,) = [one for one in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: Role\n" in one]
        role, _ = yaml.safe_load_all(block)
        documented = [rule for rule in role["rules"] if rule["resources"] != ["services"]]
        assert documents["Role", "sidecar-control"]["rules"] == documented
        binding = documents["RoleBinding", "sidecar-control"]
        account = documents["Deployment", "control"]["spec"]["template"]["spec"]["serviceAccountName"]
        assert binding["roleRef"]["name"] == "sidecar-control"
        # The API refuses a ServiceAccount without its namespace here, which is that of the commands on top.
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "shop"}]
        assert ("ServiceAccount", account) in documents
        reviews = documents["ClusterRole", "sidecar-control-shop"]["rules"]
        assert reviews == [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]
        wide = documents["ClusterRoleBinding", "sidecar-control-shop"]
        assert (wide["roleRef"]["name"], wide["subjects"]) == ("sidecar-control-shop", binding["subjects"])

    @pytest.mark.parametrize("name", SERVICES)
    def test_pods_join_by_the_account_that_their_service_lists(self, name: str) -> None:
        """By a token for the control plane alone, which they believe by the mesh's roots, as the local file says."""
        documents = _kubernetes(self.FILE)
        pod = documents["Deployment", name]["spec"]["template"]["spec"]
        (sidecar,) = pod["initContainers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (source,) = volumes["token"]["projected"]["sources"]
        mesh = read_mesh(_mesh_files(documents))
        account = pod["serviceAccountName"]
        assert ("ServiceAccount", account) in documents
        assert list(mesh.identities(name)) == [of_account(mesh.name, "shop", account)]
        assert source["serviceAccountToken"]["audience"] == of_control(mesh.name)
        assert source["serviceAccountToken"]["path"] == "token"
        assert mounts["local"] == "/etc/sidecar"
        local = documents["ConfigMap", volumes["local"]["configMap"]["name"]]["data"]
        assert yaml.safe_load(local["sidecar.yaml"]) == {"control": {"trust": f"{mounts['roots']}/roots.pem"}}

    def test_mesh_is_what_the_label_says_and_its_endpoints_are_those_of_a_service_that_is_there(self) -> None:
        """Every ConfigMap has the label that the option names; the Service and its port are of this file."""
        documents = _kubernetes(self.FILE)
        (container,) = documents["Deployment", "control"]["spec"]["template"]["spec"]["containers"]
        (mesh,) = [one["value"] for one in container["env"] if one["name"] == "SIDECAR_KUBERNETES_MESH"]
        labels = {name: one["metadata"].get("labels") for (kind, name), one in documents.items() if kind == "ConfigMap"}
        assert labels.pop("sidecar") is None
        assert all(one == {"sidecar.mesh/mesh": mesh} for one in labels.values())
        origin = compile_service(read_mesh(_mesh_files(documents)), "storefront").discovers["recommendations.all"]
        assert origin.kind == "kubernetes"
        ports = documents["Service", str(origin.values["service"])]["spec"]["ports"]
        assert origin.values["port"] in {port["name"] for port in ports}


class TestEcs:
    """`ecs/*.json`."""

    @pytest.mark.parametrize("name", ECS)
    def test_task_has_its_token_before_it_starts(self, name: str) -> None:
        """A container writes the secret to a volume that only the other reads, and ends."""
        main, *_, token = _task(name)["containerDefinitions"]
        assert token["essential"] is False
        assert main["dependsOn"] == [{"containerName": token["name"], "condition": "SUCCESS"}]
        (written,) = token["mountPoints"]
        path = f"{written['containerPath']}/token"
        assert f"open({path!r}, 'w')" in token["command"][0]
        compile(token["command"][0], "command", "exec")
        read = {mount["sourceVolume"]: mount for mount in main["mountPoints"]}
        assert read[written["sourceVolume"]]["readOnly"] is True
        assert {volume["name"] for volume in _task(name)["volumes"]} == set(read)
        environment = {one["name"]: one["value"] for one in main.get("environment", ())}
        options = _options(main["command"], environment)
        (secret,) = token["secrets"]
        if name == "control":
            _check_secured(options, path)
            assert options["state"] == read["state"]["containerPath"]
            assert "efsVolumeConfiguration" in next(one for one in _task(name)["volumes"] if one["name"] == "state")
            assert secret["valueFrom"].endswith(":operator-token")
        else:
            assert environment["SIDECAR_CONTROL_TOKEN_FILE"] == path
            assert secret["valueFrom"].endswith(f":{name}-token")

    @pytest.mark.parametrize("name", SERVICES)
    def test_task_of_a_service_follows_the_control_plane(self, name: str) -> None:
        """By variables that `run` knows; the app waits until its sidecar is ready, and calls through it."""
        sidecar, app, _ = _task(name)["containerDefinitions"]
        environment = {one["name"]: one["value"] for one in sidecar["environment"]}
        (control, _) = _task("control")["containerDefinitions"]
        assert set(environment) <= _variables_of_run()
        assert environment["SIDECAR_SERVICE"] == name
        assert environment["SIDECAR_CONTROL"].startswith("https://")
        assert _port(environment["SIDECAR_CONTROL"]) == _port(_options(control["command"])["listen"])
        assert app["dependsOn"] == [{"containerName": sidecar["name"], "condition": "HEALTHY"}]
        assert PROXIED.items() <= {one["name"]: one["value"] for one in app["environment"]}.items()
        assert _task(name)["networkMode"] == "awsvpc"

    @pytest.mark.parametrize(("name", "port"), [("control", 15014), ("storefront", 15020), ("recommendations", 15020)])
    def test_health_check_is_the_image_s_own(self, name: str, port: int) -> None:
        """ECS does not read the image's, so the task repeats it, with the port that the command listens on."""
        found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert found is not None
        command = [part.replace("15020", str(port)) for part in json.loads(found[1])]
        assert _task(name)["containerDefinitions"][0]["healthCheck"]["command"] == ["CMD", *command]
