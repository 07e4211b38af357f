"""What the authority keeps, in each engine: create-only, by compare-and-swap, for nobody else to read."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.control.authority import record as steps
from sidecar.control.authority.authority import Authority
from sidecar.control.authority.tokens import JoinToken, JoinTokens, TokenRefused
from sidecar.control.engines.etcd.engine import EtcdEngine
from sidecar.control.engines.etcd.settings import read_settings as etcd_settings
from sidecar.control.engines.interface import Conflict, Engine, Secrets, Unavailable, Versioned
from sidecar.control.engines.kubernetes.engine import KubernetesEngine
from sidecar.control.engines.kubernetes.settings import read_settings as kubernetes_settings
from sidecar.control.engines.secrets.disk import DiskSecrets
from tests.support.authority import BEGAN_S, Clock
from tests.support.etcd import Cluster, etcd
from tests.support.fake_kubernetes import TOKEN, FakeKubernetes

WAIT_S = 60.0
AUDIENCE = "spiffe://shop/control"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real member of etcd."""
    with etcd(tmp_path_factory.mktemp("kept")) as one:
        yield one


@pytest.fixture
def api() -> Iterator[FakeKubernetes]:
    """An API server in which there is nothing."""
    with FakeKubernetes() as one:
        yield one


class World:
    """Replicas at one engine."""

    def __init__(self, make: Callable[[], Engine | DiskSecrets]) -> None:
        self._make = make
        self._open: list[Engine] = []

    async def replica(self) -> Secrets:
        """Another one."""
        made = self._make()
        if isinstance(made, DiskSecrets):
            return made
        await made.open()
        self._open.append(made)
        return made.secrets

    async def close(self) -> None:
        """All."""
        for one in self._open:
            await one.close()


def kubernetes(api: FakeKubernetes, folder: Path) -> KubernetesEngine:
    (folder / "token").write_text(TOKEN)
    settings = kubernetes_settings({}, url=api.url, token_file=str(folder / "token"), namespace="shop")
    return KubernetesEngine(settings, "r1")


@pytest.fixture(params=["files", "etcd", "kubernetes"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """One engine after the other."""
    if request.param == "files":
        return World(lambda: DiskSecrets(tmp_path / "secrets"))
    if request.param == "etcd":
        url = request.getfixturevalue("cluster").url + f"/kept/{tmp_path.name}/"
        return World(lambda: EtcdEngine(etcd_settings(url), "r1"))
    api = request.getfixturevalue("api")
    return World(lambda: kubernetes(api, tmp_path))


def run(world: World, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            try:
                await test()
            finally:
                await world.close()

    asyncio.run(bounded())


def test_value_is_created_once_and_swapped_by_its_version(world: World) -> None:
    """Octets of any kind; a version that is old or of none conflicts."""

    async def test() -> None:
        one, other = await world.replica(), await world.replica()
        assert await one.read("ca") is None
        with pytest.raises(Conflict):
            await one.swap("ca", b"x", "1" if not isinstance(one, DiskSecrets) else "ab")
        octets = bytes(range(256))
        first = await one.swap("ca", octets, "")
        assert await other.read("ca") == Versioned(octets, first)
        with pytest.raises(Conflict):
            await other.swap("ca", b"mine", "")
        second = await other.swap("ca", b"two", first)
        with pytest.raises(Conflict):
            await one.swap("ca", b"late", first)
        assert await one.read("ca") == Versioned(b"two", second)
        assert await one.read("tokens") is None

    run(world, test)


def test_replicas_that_start_at_once_agree_on_one_authority(world: World) -> None:
    """Each made one; one is kept, and all have that."""

    async def test() -> None:
        replicas = [Authority(await world.replica(), Clock()) for _ in range(3)]
        made = await asyncio.gather(*(one.create("shop") for one in replicas))
        assert len({one.signing for one in made}) == 1
        assert all(one.record == made[0] for one in replicas)

    run(world, test)


def test_token_for_one_use_lets_one_in_of_many_at_several_replicas(world: World) -> None:
    """And one for many uses counts each."""

    async def test() -> None:
        clock = Clock()
        replicas = [JoinTokens(await world.replica(), clock) for _ in range(3)]
        _, once = await replicas[0].create("storefront", is_once=True)
        made, many = await replicas[0].create("storefront")

        async def use(tokens: JoinTokens, token: str, user: str) -> bool:
            while True:
                try:
                    return isinstance(await tokens.redeem(token, user), JoinToken)
                except TokenRefused:
                    return False
                except Unavailable:
                    continue

        used = await asyncio.gather(*(use(replicas[n % 3], once, f"key-{n}") for n in range(9)))
        assert sum(used) == 1
        assert all(await asyncio.gather(*(use(replicas[n % 3], many, "key") for n in range(30))))
        # A write that was not answered in time may have been done, and whoever comes again counts again.
        assert next(one for one in await replicas[1].list() if one.id == made.id).uses >= 30

    run(world, test)


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    """Folder and file; and no half of a write stays."""

    async def test() -> None:
        await DiskSecrets(tmp_path / "secrets").swap("ca", steps.written(steps.made("shop", BEGAN_S)), "")

    asyncio.run(test())
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {one.name: stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "secrets").iterdir()} == {
        "ca": 0o600, ".lock": 0o600,
    }  # fmt: skip


def test_what_is_too_large_for_kubernetes_is_said_so(api: FakeKubernetes, tmp_path: Path) -> None:
    """Before it is sent."""
    world = World(lambda: kubernetes(api, tmp_path))

    async def test() -> None:
        with pytest.raises(Unavailable, match="at most 1 MiB"):
            await (await world.replica()).swap("issued", b"x" * 1024 * 1024, "")

    run(world, test)


class TestAccounts:
    """TokenReview (authentication.k8s.io/v1)."""

    def test_token_of_a_pod_for_this_mesh_names_its_account(self, api: FakeKubernetes, tmp_path: Path) -> None:
        """One for another audience, of a person or unknown names nobody."""
        api.accounts = {
            "of-a-pod": ("system:serviceaccount:shop:storefront", (AUDIENCE,)),
            "for-the-api": ("system:serviceaccount:shop:storefront", ("https://kubernetes.default.svc",)),
            "of-a-person": ("jane", (AUDIENCE,)),
        }
        engine = kubernetes(api, tmp_path)

        async def test() -> None:
            await engine.open()
            try:
                assert await engine.accounts.reviewed("of-a-pod", AUDIENCE) == ("shop", "storefront")
                for token in ("for-the-api", "of-a-person", "unknown"):
                    assert await engine.accounts.reviewed(token, AUDIENCE) is None
            finally:
                await engine.close()

        asyncio.run(test())

    def test_review_that_is_refused_is_no_answer(self, api: FakeKubernetes, tmp_path: Path) -> None:
        """The control plane may not ask: nobody is let in, and nobody is told that the token is bad."""
        engine = kubernetes(api, tmp_path)

        async def test() -> None:
            await engine.open()
            api.tokens = set()
            try:
                with pytest.raises(Unavailable):
                    await engine.accounts.reviewed("of-a-pod", AUDIENCE)
            finally:
                await engine.close()

        asyncio.run(test())


def test_secret_of_kubernetes_is_one(api: FakeKubernetes, tmp_path: Path) -> None:
    """And no ConfigMap, which more people may read."""
    world = World(lambda: kubernetes(api, tmp_path))

    async def test() -> None:
        await (await world.replica()).swap("ca", b"the-key", "")

    run(world, test)
    assert set(api.objects("Secret")) == {"sidecar-mesh.ca"}
    assert "the-key" not in json.dumps(api.objects("ConfigMap"))
