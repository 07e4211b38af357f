"""The files under `config/examples/` do what they say, and what the README shows is one of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config.load import load_text
from sidecar.config.model.root import Config
from tests.support.commands import sidecar_command
from tests.support.origin import Origin
from tests.support.process import running_sidecar

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "config" / "examples"
SIDECAR_FILES = (
    "minimal.yaml", "full.yaml", "grpc.yaml", "jwt.yaml", "compose/sidecar.yaml", "tls/clients.yaml", "tls/server.yaml",
    "tls/spire.yaml",
    "tls/mutual/storefront.yaml", "tls/mutual/recommendations.yaml",
)  # fmt: skip
ENVIRONMENT_OF_AN_APP = {
    "HTTP_PROXY": "http://127.0.0.1:15001",
    "http_proxy": "http://127.0.0.1:15001",
}


def _yaml(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def _config(text: str, name: str) -> Config:
    return load_text(text.encode(), name, {})


def _kubernetes() -> dict[str, Any]:
    """The documents of `kubernetes.yaml` by kind."""
    documents = list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))
    return {document["kind"]: document for document in documents}


def _healthcheck() -> list[str]:
    """The command of the Dockerfile's HEALTHCHECK."""
    found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    command: list[str] = json.loads(found[1])
    return command


def _need(tool: str) -> str:
    """The path of a tool; without it the test is skipped on a desk and fails in CI."""
    path = shutil.which(tool)
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{tool} is not installed")
    return path


def test_every_example_is_known_to_a_test() -> None:
    """A file that is added without a test that reads it is found."""
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    # test_mesh_examples.py and the tests of the mesh's language read these.
    files = {name for name in files if not name.startswith(("mesh/", "mesh-deployed/"))}
    others = {
        "compose.yaml",
        "kubernetes.yaml",
        "prometheus.yml",
        "prometheus-kubernetes.yml",
        "ecs-task-definition.json",
    }
    # test_prometheus.py reads these, each of them.
    watched = {name for name in files if name.startswith(("grafana/", "prometheus/"))}
    assert files == {*SIDECAR_FILES, *others, *watched}


class TestSidecarFiles:
    """The sidecar's own files."""

    @pytest.mark.parametrize("name", SIDECAR_FILES)
    def test_example_passes_the_check_command(self, name: str) -> None:
        """`sidecar check` finds nothing to complain about."""
        result = sidecar_command("check", EXAMPLES / name)
        assert (result.returncode, result.stderr) == (0, "")

    def test_full_example_uses_every_top_level_key(self) -> None:
        """Whoever looks for a key finds it in `full.yaml`, but for `tests`, and for those of a local file in a mesh."""
        document = _yaml("full.yaml")
        assert set(Config.model_fields) - set(document) <= {"tests", "control", "bootstrap", "state"}

    def test_the_two_sidecars_of_mutual_tls_are_of_one_trust_domain_and_know_each_other(self) -> None:
        """The caller expects who is called, at the port where that listens, and shows a certificate as that demands."""
        caller, called = (_config((EXAMPLES / name).read_text(), name) for name in SIDECAR_FILES[-2:])
        assert caller.identity is not None
        assert called.identity is not None
        assert called.inbound is not None
        assert called.inbound.tls is not None
        assert (caller.identity, called.inbound.tls.mode) == (called.identity, "strict")
        upstream = caller.upstreams[called.service.name]
        assert upstream.tls is not None
        assert upstream.tls.identities == [f"spiffe://{called.identity.trust_domain}/{called.service.name}"]
        port = called.inbound.listen[0].address.rpartition(":")[2]
        assert upstream.dns == f"{called.service.name}:{port}"

    def test_full_example_shows_the_defaults_that_it_claims(self) -> None:
        """The values that `full.yaml` gives for limits, drain, admin and metrics are the defaults."""
        full = _config((EXAMPLES / "full.yaml").read_text(), "full.yaml")
        bare = _config("service: bare\ninbound: {app: '127.0.0.1:8080'}\n", "bare.yaml")
        idle = {f"{name}_idle_timeout": bare.limits.idle_timeout for name in ("client", "stream", "tunnel")}
        assert full.limits == bare.limits.model_copy(update=idle)
        assert (full.drain, full.admin) == (bare.drain, bare.admin)
        assert full.telemetry.metrics == bare.telemetry.metrics
        assert full.telemetry.access_log == bare.telemetry.access_log

    def test_minimal_example_is_the_readme_s_ten_lines(self) -> None:
        """The YAML of the README is `minimal.yaml`, to the letter, and has ten lines."""
        blocks = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
        assert blocks[0] == (EXAMPLES / "minimal.yaml").read_text()
        assert len(blocks[0].splitlines()) == 10

    def test_minimal_example_routes_by_cookie_and_by_weight(self, tmp_path: Path) -> None:
        """A sidecar that runs with it, on other ports, serves the app, sends beta users to beta and splits the rest."""
        with Origin("app") as app, Origin("stable") as stable, Origin("beta") as beta:
            text = (EXAMPLES / "minimal.yaml").read_text()
            for written, used in {
                "0.0.0.0:15000": "127.0.0.1:${INBOUND_PORT}",
                "127.0.0.1:15001": "127.0.0.1:${OUTBOUND_PORT}",
                "127.0.0.1:8080": f"127.0.0.1:{app.port}",
                "127.0.0.1:8081": f"127.0.0.1:{stable.port}",
                "127.0.0.1:8082": f"127.0.0.1:{beta.port}",
            }.items():
                assert text.count(written) == 1
                text = text.replace(written, used)
            with running_sidecar(tmp_path, text) as sidecar:
                assert sidecar.inbound("/hello").text == "app"
                beta_user = {"cookie": "theme=dark; BETA_USER=true"}
                assert {sidecar.outbound(host="recommendations", headers=beta_user).text for _ in range(10)} == {"beta"}
                answers = [sidecar.outbound(host="recommendations", path="/v1").text for _ in range(300)]
                # 300 draws at 95 %: fewer than 250 or none of the 5 % has a probability below 1e-6.
                assert 250 < answers.count("stable") < 300
                assert sidecar.outbound(host="elsewhere").status == 404


class TestCompose:
    """`compose.yaml`."""

    def test_app_shares_the_sidecar_s_network_and_waits_for_its_health(self) -> None:
        """The app is in the sidecar's network namespace, starts when it is healthy, and calls through it."""
        services = _yaml("compose.yaml")["services"]
        app = services["storefront-app"]
        assert app["network_mode"] == "service:storefront"
        assert app["depends_on"]["storefront"]["condition"] == "service_healthy"
        assert "ports" not in app
        assert ENVIRONMENT_OF_AN_APP.items() <= app["environment"].items()
        assert {"127.0.0.1", "localhost"} <= set(app["environment"]["NO_PROXY"].split(","))

    def test_sidecar_runs_with_the_least_that_it_needs(self) -> None:
        """Read-only root, no capabilities, no new privileges, time to drain."""
        sidecar = _yaml("compose.yaml")["services"]["storefront"]
        assert sidecar["read_only"] is True
        assert sidecar["cap_drop"] == ["ALL"]
        assert sidecar["security_opt"] == ["no-new-privileges:true"]
        config = _config((EXAMPLES / "compose" / "sidecar.yaml").read_text(), "sidecar.yaml")
        assert int(sidecar["stop_grace_period"].removesuffix("s")) > config.drain.timeout

    def test_addresses_agree_with_the_mounted_file(self) -> None:
        """What is mounted, published, proxied to and resolved is what the sidecar's file says."""
        services = _yaml("compose.yaml")["services"]
        source, target, mode = services["storefront"]["volumes"][0].split(":")
        assert (target, mode) == ("/etc/sidecar", "ro")
        config = _config((EXAMPLES / source / "sidecar.yaml").read_text(), "sidecar.yaml")
        assert config.inbound is not None
        assert config.outbound is not None
        published = services["storefront"]["ports"][0].partition(":")[2]
        assert [spec.address for spec in config.inbound.listen] == [f"0.0.0.0:{published}"]
        proxy = services["storefront-app"]["environment"]["HTTP_PROXY"].removeprefix("http://")
        assert [spec.address for spec in config.outbound.listen] == [proxy]
        names = {str(upstream.dns).partition(":")[0] for upstream in config.upstreams.values()}
        assert names <= set(services)

    def test_build_context_and_mounts_exist(self) -> None:
        """Paths are relative to the file and lead to something."""
        for service in _yaml("compose.yaml")["services"].values():
            for volume in service.get("volumes", []):
                assert (EXAMPLES / volume.split(":")[0]).exists()
            if "build" in service:
                assert (EXAMPLES / service["build"] / "Dockerfile").is_file()


class TestKubernetes:
    """`kubernetes.yaml`."""

    def _pod(self) -> Mapping[str, Any]:
        pod: Mapping[str, Any] = _kubernetes()["Deployment"]["spec"]["template"]
        return pod

    def _sidecar(self) -> Mapping[str, Any]:
        (sidecar,) = self._pod()["spec"]["initContainers"]
        assert isinstance(sidecar, dict)
        return sidecar

    def test_config_map_passes_the_check_command(self, tmp_path: Path) -> None:
        """The file inside the ConfigMap is a good one."""
        path = tmp_path / "sidecar.yaml"
        path.write_text(_kubernetes()["ConfigMap"]["data"]["sidecar.yaml"])
        result = sidecar_command("check", path)
        assert (result.returncode, result.stderr) == (0, "")

    def test_sidecar_is_native_and_probed_on_the_metrics_port(self) -> None:
        """It restarts always as an init container; start, readiness and life are asked of port 15020."""
        sidecar = self._sidecar()
        assert sidecar["restartPolicy"] == "Always"
        ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
        config = _config(_kubernetes()["ConfigMap"]["data"]["sidecar.yaml"], "sidecar.yaml")
        assert config.telemetry.metrics.listen == [f"0.0.0.0:{ports['metrics']}"]
        assert config.inbound is not None
        assert [spec.address for spec in config.inbound.listen] == [f"0.0.0.0:{ports['inbound']}"]
        probes = {name: sidecar[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert {probe["port"] for probe in probes.values()} == {"metrics"}
        assert [probe["path"] for probe in probes.values()] == ["/ready", "/ready", "/live"]

    def test_sidecar_runs_with_the_least_that_it_needs(self) -> None:
        """User 1337, read-only root, no capability, no new privileges."""
        context = self._sidecar()["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (1337, 1337, True)
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}

    def test_config_map_is_mounted_as_a_directory(self) -> None:
        """With `subPath` the kubelet would never update the file."""
        (mount,) = self._sidecar()["volumeMounts"]
        assert mount["mountPath"] == "/etc/sidecar"
        assert "subPath" not in mount
        volumes = {volume["name"]: volume for volume in self._pod()["spec"]["volumes"]}
        config_map = _kubernetes()["ConfigMap"]["metadata"]["name"]
        assert volumes[mount["name"]]["configMap"]["name"] == config_map

    def test_names_and_labels_agree(self) -> None:
        """Deployment, Service and pod select each other; the Service leads to the sidecar's port."""
        documents = _kubernetes()
        labels = self._pod()["metadata"]["labels"]
        assert documents["Deployment"]["spec"]["selector"]["matchLabels"] == labels
        assert documents["Service"]["spec"]["selector"] == labels
        assert documents["Service"]["spec"]["ports"][0]["targetPort"] == "inbound"
        annotations = self._pod()["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == "15020"
        assert annotations["prometheus.io/scrape"] == "true"

    def test_app_calls_through_the_sidecar_and_the_pod_has_time_to_drain(self) -> None:
        """Proxy variables point at the outbound listener; the grace period is longer than pause and drain together."""
        (app,) = self._pod()["spec"]["containers"]
        environment = {item["name"]: item["value"] for item in app["env"]}
        assert ENVIRONMENT_OF_AN_APP.items() <= environment.items()
        config = _config(_kubernetes()["ConfigMap"]["data"]["sidecar.yaml"], "sidecar.yaml")
        pause = app["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert self._pod()["spec"]["terminationGracePeriodSeconds"] > pause + config.drain.timeout


class TestPrometheus:
    """`prometheus.yml` and `prometheus-kubernetes.yml`."""

    def test_promtool_accepts_the_static_configuration(self) -> None:
        """Prometheus' own checker has nothing to say, and the target is the Compose file's sidecar."""
        subprocess.run([_need("promtool"), "check", "config", EXAMPLES / "prometheus.yml"], check=True, timeout=60)
        (job,) = _yaml("prometheus.yml")["scrape_configs"]
        (target,) = job["static_configs"][0]["targets"]
        assert target.partition(":")[0] in _yaml("compose.yaml")["services"]

    def test_promtool_accepts_the_kubernetes_configuration(self, tmp_path: Path) -> None:
        """
        The same for the relabelling; the discovery itself is taken out first.

        Debian's Prometheus is built without Kubernetes discovery, so its checker does not know the key; what is
        left of the job is checked by it, the key by hand.
        """
        document = _yaml("prometheus-kubernetes.yml")
        (job,) = document["scrape_configs"]
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
        path = tmp_path / "prometheus.yml"
        path.write_text(yaml.safe_dump(document))
        subprocess.run([_need("promtool"), "check", "config", path], check=True, timeout=60)
        (sidecar,) = _kubernetes()["Deployment"]["spec"]["template"]["spec"]["initContainers"]
        for port in (sidecar["ports"][1]["name"], "sidecar-metrics"):  # the latter is of `sidecar inject`
            assert re.fullmatch(job["relabel_configs"][0]["regex"], f"{sidecar['name']};{port}")


class TestEcs:
    """`ecs-task-definition.json`."""

    def test_app_waits_for_the_health_check_of_the_image(self) -> None:
        """ECS does not read the image's HEALTHCHECK, so the task definition repeats it, and the app waits for it."""
        task = json.loads((EXAMPLES / "ecs-task-definition.json").read_text())
        sidecar, app = task["containerDefinitions"]
        assert sidecar["healthCheck"]["command"] == ["CMD", *_healthcheck()]
        assert (sidecar["user"], sidecar["readonlyRootFilesystem"]) == ("1337", True)
        assert app["dependsOn"] == [{"containerName": sidecar["name"], "condition": "HEALTHY"}]
        assert ENVIRONMENT_OF_AN_APP.items() <= {item["name"]: item["value"] for item in app["environment"]}.items()
        assert task["networkMode"] == "awsvpc"


class TestHealthCheck:
    """The Dockerfile's HEALTHCHECK, as a program."""

    def _run(self, port: int) -> int:
        interpreter, *arguments = _healthcheck()
        assert interpreter == "python3"
        (code,) = (argument for argument in arguments if "socket" in argument)
        arguments = [argument.replace("15020", str(port)) for argument in arguments]
        assert code.count("15020") == 1
        return subprocess.run([sys.executable, *arguments], timeout=30, check=False, capture_output=True).returncode

    def test_health_check_follows_readiness(self, tmp_path: Path) -> None:
        """It succeeds on a ready sidecar and fails where nothing listens."""
        app = "service: storefront\ninbound: {listen: '127.0.0.1:${INBOUND_PORT}', app: '127.0.0.1:9'}\n"
        with running_sidecar(tmp_path, app) as sidecar:
            assert self._run(sidecar.metrics_port) == 0
        assert self._run(sidecar.metrics_port) == 1

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"200 OK\r\n", b""])
    def test_health_check_fails_on_any_other_answer(self, answer: bytes) -> None:
        """A server that is not ready, does not speak HTTP or says nothing is not healthy."""
        with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
            server.settimeout(30)
            code = pool.submit(self._run, server.getsockname()[1])
            connection, _ = server.accept()
            with connection:
                assert connection.recv(1024).startswith(b"GET /ready HTTP/1.1\r\n")
                connection.sendall(answer)
            assert code.result(30) == 1
