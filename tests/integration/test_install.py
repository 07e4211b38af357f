"""What `sidecar mesh install` prints gives both processes the rights that they use, and none to what they never ask."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.settings import KubernetesSettings
from sidecar.control.engines.secrets.kubernetes import KubernetesAccounts, KubernetesSecrets
from sidecar.inject.wanted import WISH
from sidecar.install.print import printed
from sidecar.install.settings import Settings
from sidecar.link.messages import Config
from sidecar.link.report import Port
from sidecar.webhook.authority import shared
from sidecar.webhook.registration import Registration
from sidecar.webhook.start import Options, fitted
from tests.support.authority import BEGAN_S
from tests.support.control import SHOP, Control, Peer
from tests.support.fake_kubernetes import TOKEN, FakeKubernetes, endpoint
from tests.support.rights import Request, Rights
from tests.support.wait import eventually

SETTINGS = Settings("shop", "shop")
DOCUMENTS = list(yaml.safe_load_all(printed(SETTINGS)))
BY_NUMBER = (
    "service: catalog\napp: 127.0.0.1:8080\ncalls: {}\ninstances: {all: {kubernetes: {service: catalog, port: 80}}}\n"
)
JOINED = "spiffe://shop/control"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeKubernetes]:
    """The mesh, a Service with an endpoint, and our entry."""
    with FakeKubernetes() as found:
        found.mesh(SHOP | {"catalog.yaml": BY_NUMBER}, "shop")
        found.apply("Service", "catalog", spec={"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})
        found.slice("catalog-1", "catalog", [endpoint("127.0.0.2")])
        (entry,) = [one for one in DOCUMENTS if one["kind"] == "MutatingWebhookConfiguration"]
        found.apply(entry["kind"], entry["metadata"]["name"], webhooks=entry["webhooks"])
        found.accounts["of-a-pod"] = ("system:serviceaccount:shop:web", (JOINED,))
        (tmp_path / "token").write_text(TOKEN)
        yield found


async def as_webhook(api: FakeKubernetes) -> None:
    """What it asks the API for: the version, its authority, and its entry, twice for what is there already."""
    api.tokens.add("")
    client = Client(KubernetesSettings(api.url, namespace="shop", mesh="shop"))
    await client.open()
    try:
        await fitted(Options(), client)
        for now_s in (BEGAN_S, BEGAN_S + 300 * 86400):
            await shared(KubernetesSecrets(client), "sidecar-webhook.shop.svc", now_s)
        for bundle in ("one", "one", "two"):
            await Registration(client, SETTINGS.configuration, "sidecar-webhook").put(bundle)
    finally:
        await client.close()


async def as_desk_of_joins(api: FakeKubernetes) -> None:
    """A pod shows its account's token."""
    client = Client(KubernetesSettings(api.url, namespace="shop", mesh="shop"))
    api.tokens.add("")
    await client.open()
    try:
        assert await KubernetesAccounts(client).reviewed("of-a-pod", JOINED) == ("shop", "web")
    finally:
        await client.close()


def beyond(requests: list[Request], account: str) -> list[Request]:
    """Requests that the account may not make."""
    rights = Rights(DOCUMENTS, "shop", account)
    return [one for one in requests if not rights.allow(one)]


def unasked(requests: list[Request], account: str) -> list[tuple[str, str]]:
    """Resources, with their groups, that the account may use, and has not."""
    asked = {(group, resource) for _, group, resource, _, _ in requests}
    rules = [rule for _, rule in Rights(DOCUMENTS, "shop", account).rules()]
    return [(rule["apiGroups"][0], rule["resources"][0]) for rule in rules
            if (rule["apiGroups"][0], rule["resources"][0]) not in asked]  # fmt: skip


def test_webhook_may_do_what_it_does_and_nothing_else(api: FakeKubernetes) -> None:
    """Each verb that it is given on each resource is used, on objects with these names."""
    asyncio.run(as_webhook(api))
    requests = list(api.requests)
    assert beyond(requests, "sidecar-webhook") == []
    used = {(verb, resource) for verb, _, resource, _, _ in requests}
    rules = [rule for _, rule in Rights(DOCUMENTS, "shop", "sidecar-webhook").rules()]
    assert used == {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}


def test_control_plane_may_do_what_it_does(api: FakeKubernetes, tmp_path: Path) -> None:
    """
    Started from nothing, with an authority made, a sidecar registered, a token given, endpoints by the number of a
    Service's port, and roots published: nothing is asked that is not allowed, no resource is allowed for nothing.
    """
    control = Control(tmp_path / "control", {})
    control.keeps = [
        "--engine", "kubernetes", "--kubernetes", api.url, "--kubernetes-token-file", str(tmp_path / "token"),
        "--kubernetes-namespace", "shop", "--kubernetes-mesh", "shop", "--spread", "0s", "--name", "one",
    ]  # fmt: skip
    try:
        api.apply("Namespace", "storefront", labels={WISH: "enabled"})
        control.start("--create-ca", "--accept", "clear,tls", "--publish-roots", SETTINGS.published)
        with Peer(control, "catalog") as callee, Peer(control, "storefront") as caller:
            callee.wait_for(Config)
            caller.wait_for(Config)
            caller.report()
            callee.report(ports={"http": Port("127.0.0.1:4001")})
            eventually(lambda: caller.knows("catalog") >= {"127.0.0.1:4001"}, "its registration")
            assert control.join_token("storefront")
            eventually(lambda: api.objects("ConfigMap", "storefront").get("mesh-roots"), "the roots to be published")
        assert control.stop() == 0, control.log()
    finally:
        if control.process is not None and control.process.poll() is None:
            os.killpg(control.process.pid, signal.SIGKILL)
    asyncio.run(as_desk_of_joins(api))
    requests = list(api.requests)
    assert beyond(requests, "sidecar-control") == []
    assert unasked(requests, "sidecar-control") == []
    assert "forbidden" not in control.log()
