"""The mesh's roots in the namespaces of injected pods, by an API that keeps what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from sidecar.control.authority.published import PublishedRoots
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.settings import KubernetesSettings
from sidecar.inject.wanted import WISH
from tests.support.fake_kubernetes import FakeKubernetes

ENABLED = {WISH: "enabled"}


class Mesh:
    """Of whose roots it is."""

    roots = "one"


@contextlib.asynccontextmanager
async def published(api: FakeKubernetes, mesh: Mesh) -> AsyncIterator[PublishedRoots]:
    client = Client(KubernetesSettings(api.url, namespace="shop"))
    await client.open()
    try:
        yield PublishedRoots(client, "mesh-roots", lambda: mesh.roots)
    finally:
        await client.close()


def run(test: Callable[[FakeKubernetes, Mesh], Coroutine[Any, Any, None]]) -> None:
    with FakeKubernetes() as api:
        api.tokens.add("")
        api.apply("Namespace", "web", labels=ENABLED)
        api.apply("Namespace", "db", labels=ENABLED)
        api.apply("Namespace", "default", labels={WISH: "disabled"})
        asyncio.run(test(api, Mesh()))


def roots_in(api: FakeKubernetes, namespace: str) -> str | None:
    found = api.objects("ConfigMap", namespace).get("mesh-roots")
    return found["data"]["roots.pem"] if found is not None else None


def test_roots_are_in_every_labelled_namespace_and_follow_the_mesh() -> None:
    """Those that come later too; what is current is only looked at, and by two replicas it is written once."""

    async def test(api: FakeKubernetes, mesh: Mesh) -> None:
        async with published(api, mesh) as one, published(api, mesh) as other:
            await asyncio.gather(one.look(), other.look())
            assert [roots_in(api, name) for name in ("web", "db", "default", "shop")] == ["one", "one", None, None]
            asked = len(api.asked)
            await one.look()
            assert api.asked[asked:] == ["LIST namespaces", "GET configmaps", "GET configmaps"]
            mesh.roots = "one and two"
            api.apply("Namespace", "late", labels=ENABLED)
            await other.look()
            assert [roots_in(api, name) for name in ("web", "db", "late")] == ["one and two"] * 3

    run(test)


def test_nothing_is_asked_before_there_is_an_authority() -> None:
    """A mesh without roots has nothing to publish, and takes nothing away."""

    async def test(api: FakeKubernetes, mesh: Mesh) -> None:
        mesh.roots = ""
        async with published(api, mesh) as one:
            await one.look()
        assert api.asked == []

    run(test)


def test_configmap_of_somebody_else_stays_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once, and when it is over; the other namespaces get theirs all the same."""

    async def test(api: FakeKubernetes, mesh: Mesh) -> None:
        api.namespace = "db"
        api.apply("ConfigMap", "mesh-roots", {"roots.pem": "by hand"})
        async with published(api, mesh) as one:
            await one.look()
            await one.look()
            assert [roots_in(api, name) for name in ("web", "db")] == ["one", "by hand"]
            assert caplog.text.count("roots_not_published") == 1
            assert "ConfigMap mesh-roots has other roots, and is not ours" in caplog.text
            api.apply("ConfigMap", "mesh-roots", {"roots.pem": "one"})
            await one.look()
            assert "roots_published_again" in caplog.text

    caplog.set_level("INFO", "sidecar")
    run(test)


def test_api_that_refuses_is_told_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """Without the right to make ConfigMaps, as its words say; the next look goes on where it can."""

    async def test(api: FakeKubernetes, mesh: Mesh) -> None:
        async with published(api, mesh) as one:
            for refused in ("LIST namespaces", "POST configmaps"):
                api.forbidden = {refused}
                await one.look()
                assert roots_in(api, "web") is None
            api.forbidden = set()
            await one.look()
            assert roots_in(api, "web") == "one"
        assert caplog.text.count("roots_not_published") == 3
        assert "cannot post resource" in caplog.text

    caplog.set_level("INFO", "sidecar")
    run(test)
