"""Control planes on Kubernetes: two replicas that know the same by HTTPS, and what happens to them when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidecar.control.start import Options, StartError, check
from sidecar.link.messages import Config, Endpoints
from sidecar.link.report import Port
from tests.integration.test_etcd_access import authority, certificate
from tests.support.control import ROOT, SHOP, Control, Peer
from tests.support.fake_kubernetes import TOKEN, FakeKubernetes, endpoint
from tests.support.wait import eventually

VERBS = {"create": "POST", "update": "PUT"}
WEB = (
    "service: catalog\napp: 127.0.0.1:8080\ncalls: {}\ninstances: {all: {kubernetes: {service: catalog, port: http}}}\n"
)


class Cluster:
    """
    An API server by HTTPS, and what a pod has mounted.

    Attributes:
        options: For `sidecar control`.
    """

    def __init__(self, api: FakeKubernetes, ca: Path, token: Path) -> None:
        self.api = api
        self.ca = ca
        self.options = [
            "--engine", "kubernetes", "--kubernetes", api.url, "--kubernetes-ca", str(ca),
            "--kubernetes-token-file", str(token), "--kubernetes-namespace", "shop", "--kubernetes-mesh", "shop",
        ]  # fmt: skip
        self.asked = Options(
            engine="kubernetes", kubernetes=api.url, kubernetes_ca=str(ca), kubernetes_token_file=str(token),
            kubernetes_namespace="shop", kubernetes_mesh="shop",
        )  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One in which there is nothing."""
    ca = authority(tmp_path, "ca")
    mine = certificate(ca, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(mine, mine.with_suffix(".key"))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with FakeKubernetes(context) as api:
        yield Cluster(api, ca, token)


@contextlib.contextmanager
def replica(folder: Path, cluster: Cluster, name: str) -> Iterator[Control]:
    """A control plane that keeps everything in Kubernetes, ready."""
    control = Control(folder / name, {})
    advertised = f"http://127.0.0.1:{control.port}"
    control.keeps = [*cluster.options, "--name", name, "--spread", "0s", "--advertise", advertised]
    try:
        control.start()
        yield control
        assert control.stop() == 0, control.log()
        assert "Traceback" not in control.log(), control.log()
    finally:
        if control.process is not None and control.process.poll() is None:
            os.killpg(control.process.pid, signal.SIGKILL)
            control.process.wait(30)


def allowed() -> set[str]:
    """What the documentation's Role allows, as `FakeKubernetes.asked` says it."""
    text = (ROOT / "docs" / "mesh-engines.md").read_text()
    (block,) = [one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "kind: Role\n" in one]
    role, _ = yaml.safe_load_all(block)
    return {
        f"{VERBS.get(verb, verb.upper())} {resource}"
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.long
def test_two_replicas_tell_the_same_and_survive_the_api(tmp_path: Path, cluster: Cluster) -> None:
    """
    What registers at one is told to the callers at the other, joined with the EndpointSlice: the pod with a sidecar at
    its listener, the one without at its own port. Without the API nothing changes for anyone, and when it is back what
    was said in between is not lost; an edit of a ConfigMap reaches the sidecars of both under one number.
    """
    api = cluster.api
    api.mesh(SHOP | {"catalog.yaml": WEB}, "shop")
    api.slice("catalog-1", "catalog", [endpoint("127.0.0.1", pod="catalog-1"), endpoint("127.0.0.2")])
    with (
        replica(tmp_path, cluster, "one") as one,
        replica(tmp_path, cluster, "two") as two,
        Peer(one, "storefront") as caller,
        Peer(two, "catalog") as callee,
    ):
        assert one.shown()["engine"] == "kubernetes"
        assert len({control.shown()["hash"] for control in (one, two)}) == 1
        caller.wait_for(Config)
        callee.wait_for(Config)
        caller.report()  # else its next file waits for its word on the first one
        eventually(lambda: caller.knows("catalog") == {"127.0.0.1:8080", "127.0.0.2:8080"}, "pods in clear")
        callee.report(ports={"http": Port("127.0.0.1:4001")})
        eventually(lambda: caller.knows("catalog") == {"127.0.0.1:4001", "127.0.0.2:8080"}, "its listener")
        eventually(lambda: {each["name"] for each in one.shown()["replicas"]} == {"one", "two"}, "both replicas")
        api.slice("catalog-1", "catalog", [endpoint("127.0.0.1", pod="catalog-1"), endpoint("127.0.0.2", ready=False)])
        eventually(lambda: caller.knows("catalog") == {"127.0.0.1:4001"}, "who is not ready to go")

        api.stop()
        seen = len(caller.lines)
        callee.report(ports={"http": Port("127.0.0.1:4002")})
        eventually(lambda: "registration_not_stored" in two.log(), "the loss to be told")
        assert not caller.is_over
        assert not callee.is_over
        assert not [line for line in caller.lines[seen:] if isinstance(line, Config | Endpoints)]
        api.compact()
        api.start()
        eventually(lambda: caller.knows("catalog") == {"127.0.0.1:4002"}, "what was said in between")

        before = caller.has
        api.mesh({"storefront.yaml": SHOP["storefront.yaml"].replace("catalog: {}", "catalog: {timeout: 9s}")}, "shop")
        eventually(lambda: caller.has != before, "the new file")
        assert "9s" in caller.wait_for(Config).file
        eventually(lambda: {each.shown()["revision"] for each in (one, two)} == {2}, "the number at both")
    assert set(api.asked) <= allowed()


def test_check_judges_the_config_maps(cluster: Cluster) -> None:
    """With the place in them; a certificate that is not trusted and a token that is refused end it."""
    api = cluster.api
    assert asyncio.run(check(cluster.asked))
    api.mesh(SHOP, "shop")
    assert asyncio.run(check(cluster.asked)) == ()
    api.mesh({"catalog.yaml": "service: catalog\nap: 1\n"}, "shop")
    problems = asyncio.run(check(cluster.asked))
    assert ("catalog/catalog.yaml", 2) in {(problem["file"], problem["line"]) for problem in problems}
    api.tokens.clear()
    with pytest.raises(StartError, match="401: Unauthorized"):
        asyncio.run(check(cluster.asked))
    stranger = authority(cluster.ca.parent, "stranger")
    asked = Options(engine="kubernetes", kubernetes=api.url, kubernetes_ca=str(stranger), kubernetes_namespace="shop")
    with pytest.raises(StartError, match="its certificate is not trusted"):
        asyncio.run(check(asked))
