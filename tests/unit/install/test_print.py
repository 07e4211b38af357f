"""What `sidecar mesh install` prints: by the API's schemas, Pod Security's standard, and what belongs together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from sidecar.cli.commands import cli
from sidecar.inject.wanted import WISH, Wanted
from sidecar.install.files import FileError
from sidecar.install.print import printed
from sidecar.install.settings import Settings
from tests.support.commands import sidecar_command

SETTINGS = {
    "usual": Settings("shop"),
    "etcd": Settings(
        "shop", "apps", "x/sidecar:1", Wanted(token="join"), 3, "etcd://a:2379,b:2379/sidecar/shop", "etcd-tls",
        fails_closed=False,
    ),
    "monitored": Settings("shop", has_prometheus_operator=True, endpoints_of=("storefront", "payments")),
    "control_plane_alone": Settings("shop", has_webhook=False, replicas=1),
    "plain": Settings(
        "shop", wanted=Wanted(is_plain=True, is_captured=False, has_proxy_env=True, exclude_outbound="22,10.0.0.0/8")
    ),
    "with_files": Settings(
        "shop", files={"mesh.yaml": b"mesh: shop\n", "services/Web_2.yaml": "service: web\n# \u00e4: \"'\n".encode()}
    ),
}  # fmt: skip


@pytest.fixture(params=SETTINGS.values(), ids=SETTINGS.keys())
def settings(request: pytest.FixtureRequest) -> Settings:
    """Each of them."""
    found: Settings = request.param
    return found


def documents(settings: Settings) -> list[Any]:
    return list(yaml.load_all(printed(settings), Loader=yaml.CSafeLoader))


def of_kind(settings: Settings, kind: str) -> list[Any]:
    return [one for one in documents(settings) if one["kind"] == kind]


def pods(settings: Settings) -> Iterator[Any]:
    return (one["spec"]["template"] for one in of_kind(settings, "Deployment"))


@pytest.mark.parametrize(
    ("name", "version"),
    [*((name, "1.37") for name in SETTINGS), ("usual", "1.29"), ("etcd", "1.29"), ("usual", "1.33")],
)
def test_every_object_follows_the_strict_schemas_of_kubernetes(name: str, version: str) -> None:
    """From the first version with native sidecars to the newest that is known."""
    for one in documents(SETTINGS[name]):
        if one["apiVersion"] != "monitoring.coreos.com/v1":
            kubernetes_validate.validate(one, version, strict=True)


def test_same_wishes_print_the_same_bytes_in_every_process() -> None:
    """A pipeline that compares sees what somebody changed, and nothing else: no order is left to chance."""
    program = [sys.executable, "-m", "sidecar", "mesh", "install", "--mesh", "shop", "--prometheus-operator"]
    found = [
        subprocess.run(program, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] == printed(Settings("shop", has_prometheus_operator=True)).encode()


def test_no_object_is_printed_twice(settings: Settings) -> None:
    """By kind, namespace and name."""
    found = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in documents(settings)]
    assert len(found) == len(set(found))


def test_pods_fit_into_the_strictest_standard(settings: Settings) -> None:
    """Pod Security's `restricted`, which the namespace enforces; and no root that anybody writes."""
    labels = of_kind(settings, "Namespace")[0]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(settings):
        spec = pod["spec"]
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert all(volume.keys() <= {"name", "secret", "configMap", "projected", "emptyDir"}
                   for volume in spec.get("volumes", ()))  # fmt: skip
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["runAsNonRoot"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert security["readOnlyRootFilesystem"] is True
            assert all("hostPort" not in port for port in container["ports"])
            assert container["resources"]["limits"]["memory"]


def test_what_names_pods_or_ports_finds_them(settings: Settings) -> None:
    """Selectors, targets of Services, ports of policies and monitors, accounts and mounts."""
    by_name = {pod["metadata"]["labels"]["app.kubernetes.io/name"]: pod for pod in pods(settings)}
    accounts = {one["metadata"]["name"] for one in of_kind(settings, "ServiceAccount")}
    assert accounts == set(by_name)
    for name, pod in by_name.items():
        (container,) = pod["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        assert pod["spec"]["serviceAccountName"] == name
        named = {one["metadata"]["name"]: one for one in documents(settings) if one["kind"] == "Service"}[name]
        assert named["spec"]["selector"] == {"app.kubernetes.io/name": name}
        assert {port["targetPort"] for port in named["spec"]["ports"]} <= ports
        policy = {one["metadata"]["name"]: one for one in of_kind(settings, "NetworkPolicy")}[name]["spec"]
        assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
        (budget,) = [one for one in of_kind(settings, "PodDisruptionBudget") if one["metadata"]["name"] == name]
        assert budget["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        probes = [container[one] for one in ("readinessProbe", "livenessProbe")]
        assert {(one.get("httpGet") or one["tcpSocket"])["port"] for one in probes} <= ports
        volumes = {one["name"] for one in pod["spec"].get("volumes", ())}
        assert {one["name"] for one in container.get("volumeMounts", ())} == volumes


def options_of(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """What the command line makes of them; none of it runs."""
    context = click.Context(cli)
    command = cli.get_command(context, arguments[0])
    assert command is not None
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        return dict(command.make_context(arguments[0], list(arguments[1:]), parent=context).params)


def container_of(settings: Settings, name: str) -> Any:
    (found,) = [one["spec"]["containers"][0] for one in pods(settings) if one["spec"]["serviceAccountName"] == name]
    return found


def test_control_plane_takes_its_arguments(settings: Settings) -> None:
    """Each is an option of `sidecar control`; listeners are where ports and probes say."""
    container = container_of(settings, "sidecar-control")
    environment = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    options = options_of(container["args"], environment)
    assert options["engine"] == settings.engine
    assert options["creates_ca"] is True
    assert options["listen"].endswith(f":{container['ports'][0]['containerPort']}")
    assert options["ops_listen"].endswith(f":{container['ports'][1]['containerPort']}")
    assert options["kubernetes_mesh"] == ("shop" if settings.is_on_kubernetes else "")
    (mount,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "token"]
    assert options["operators"] == (f"operator:write:{mount}/token",)
    if settings.etcd_secret:
        (mount,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "etcd"]
        assert [options[f"etcd_{name}"] for name in ("ca", "cert", "key")] == [
            f"{mount}/{name}" for name in ("ca.crt", "tls.crt", "tls.key")
        ]


def test_webhook_takes_its_arguments_and_is_called_where_it_listens() -> None:
    """Service, entry, path and port are one chain; what is injected is what was asked for."""
    for settings in (SETTINGS["usual"], SETTINGS["plain"], SETTINGS["etcd"]):
        container = container_of(settings, "sidecar-webhook")
        options = options_of(container["args"], {})
        (entry,) = of_kind(settings, "MutatingWebhookConfiguration")
        (service,) = [one for one in of_kind(settings, "Service") if one["metadata"]["name"] == "sidecar-webhook"]
        assert options["webhook_configuration"] == entry["metadata"]["name"]
        assert options["webhook_service"] == service["metadata"]["name"]
        (webhook,) = entry["webhooks"]
        called = webhook["clientConfig"]["service"]
        assert (called["namespace"], called["name"]) == (settings.namespace, service["metadata"]["name"])
        assert [called["port"]] == [port["port"] for port in service["spec"]["ports"]]
        assert options["listen"].endswith(f":{container['ports'][0]['containerPort']}")
        assert options["control"] == (f"https://sidecar-control.{settings.namespace}.svc:15010",)
        assert options["roots"] == "mesh-roots"
        assert options["image"] == settings.image
        is_joined_by_token = bool(settings.wanted.token)
        assert (options["mesh"], options["token"]) == (("", "join") if is_joined_by_token else ("shop", ""))
        for name in ("is_plain", "is_captured", "has_proxy_env", "exclude_outbound"):
            short = {"is_plain": "plain", "is_captured": "capture", "has_proxy_env": "proxy_env"}.get(name, name)
            assert options[short] == getattr(settings.wanted, name)


def test_webhook_is_asked_about_opted_in_namespaces_and_never_its_own() -> None:
    """What a cluster needs to start, and the webhook itself, come up without it."""
    for name, policy in (("usual", "Fail"), ("etcd", "Ignore")):
        settings = SETTINGS[name]
        (webhook,) = of_kind(settings, "MutatingWebhookConfiguration")[0]["webhooks"]
        assert webhook["failurePolicy"] == policy
        assert webhook["namespaceSelector"]["matchLabels"] == {WISH: "enabled"}
        (exempt,) = webhook["namespaceSelector"]["matchExpressions"]
        assert (exempt["operator"], settings.namespace in exempt["values"]) == ("NotIn", True)
        assert "kube-system" in exempt["values"]
        assert WISH not in of_kind(settings, "Namespace")[0]["metadata"]["labels"]
        assert webhook["objectSelector"] == {
            "matchExpressions": [{"key": WISH, "operator": "NotIn", "values": ["false"]}]
        }
        assert (webhook["sideEffects"], webhook["reinvocationPolicy"], webhook["timeoutSeconds"]) == (
            "None",
            "IfNeeded",
            5,
        )


def test_operator_of_prometheus_gets_objects_instead_of_annotations() -> None:
    """Not both, or each would be scraped twice."""
    settings = SETTINGS["monitored"]
    assert all("annotations" not in pod["metadata"] for pod in pods(settings))
    names = [one["metadata"]["name"] for one in of_kind(settings, "PodMonitor")]
    assert names == ["sidecar-control", "sidecar-webhook", "sidecars"]
    for pod in pods(SETTINGS["usual"]):
        (container,) = pod["spec"]["containers"]
        port = int(pod["metadata"]["annotations"]["prometheus.io/port"])
        assert port in {one["containerPort"] for one in container["ports"]}


def test_files_of_the_mesh_come_through_as_they_are() -> None:
    """One ConfigMap for each, with the label by which the engine finds them."""
    found = of_kind(SETTINGS["with_files"], "ConfigMap")
    assert [(one["metadata"]["name"], one["metadata"]["labels"]["sidecar.mesh/mesh"]) for one in found] == [
        ("mesh", "shop"), ("mesh-services-web-2", "shop"),
    ]  # fmt: skip
    assert [one["data"] for one in found] == [
        {"mesh.yaml": "mesh: shop\n"}, {"Web_2.yaml": "service: web\n# \u00e4: \"'\n"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/b.yaml": b"", "a-b.yaml": b""}, "a-b.yaml: would be the ConfigMap mesh-a-b, as a/b.yaml"),
        ({"a b.yaml": b""}, "a b.yaml: expected a name of letters"),
        ({"_.yaml": b""}, "_.yaml: expected a name of letters"),
        ({"a.yaml": b"x" * (1024 * 1024 + 1)}, "a.yaml: expected at most 1048576 octets"),
    ],
)
def test_files_that_are_no_configmaps_are_refused(files: dict[str, bytes], message: str) -> None:
    """By name, with what to do."""
    with pytest.raises(FileError, match=message.replace("(", r"\(")):
        printed(Settings("shop", files=files))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give --mesh NAME"),
        (["--mesh", "Shop"], 2, "Invalid value for '--mesh'"),
        (["--mesh", "shop", "--namespace", "A"], 2, "expected lower-case letters, digits and `-`"),
        (["--mesh", "shop", "--engine", "files"], 2, "expected kubernetes or etcd://"),
        (["--mesh", "shop", "--replicas", "0"], 2, "Invalid value for '--replicas'"),
        (["--mesh", "shop", "--etcd-secret", "x"], 2, "--etcd-secret is of --engine etcd"),
        (["--mesh", "shop", "--engine", "etcd://a"], 2, "give --token SECRET"),
        (
            ["--mesh", "shop", "--engine", "etcd://a", "--token", "t", "--files", "."],
            2,
            "--files is of --engine kubernetes",
        ),
        (["--mesh", "shop", "--files", "/nowhere"], 2, "/nowhere"),
        (["--mesh", "shop", "--endpoints-of", "x y"], 2, "found 'x y'"),
    ],
)
def test_wishes_that_do_not_fit_are_told(arguments: list[str], code: int, message: str) -> None:
    """Nothing is printed, so nothing half is applied."""
    result = sidecar_command("mesh", "install", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr


def test_command_prints_what_the_options_say(tmp_path: Any) -> None:
    """With the options of `sidecar inject`, the mesh's directory, and another namespace."""
    (tmp_path / "mesh.yaml").write_text("mesh: shop\n")
    result = sidecar_command(
        "mesh", "install", "--mesh", "shop", "--namespace", "apps", "--files", tmp_path, "--plain", "--image", "x:1"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == printed(
        Settings("shop", "apps", "x:1", Wanted(is_plain=True), files={"mesh.yaml": b"mesh: shop\n"})
    )
    assert sidecar_command("mesh", "install", "--files", tmp_path).stdout == printed(
        Settings("shop", files={"mesh.yaml": b"mesh: shop\n"})
    )


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        ("mesh: [", (), 1, "mesh.yaml:2:1: not YAML"),
        ("mesh: shop\nspeed: 3\n", (), 1, "mesh.yaml:2:1: speed: "),
        ("mesh: shop\n", ("--mesh", "other"), 2, "--mesh is other, and the files say shop"),
        ("\xff", (), 1, "mesh.yaml:1:1: "),
        ("", (), 1, "mesh.yaml:1:1: "),
    ],
)
def test_mesh_with_problems_is_not_printed(
    tmp_path: Any, text: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """They are told as `mesh check` tells them; nothing of it is applied."""
    (tmp_path / "mesh.yaml").write_bytes(text.encode("latin-1"))
    result = sidecar_command("mesh", "install", "--files", tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
