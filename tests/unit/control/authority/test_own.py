"""The control plane's own certificate, and what its TLS takes for one."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sidecar.control.authority import certificates as pki
from sidecar.control.authority import own as owns
from sidecar.control.authority import record as steps
from sidecar.control.authority.own import OwnCertificate
from sidecar.control.authority.service import AuthorityService
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import Secrets
from tests.support.authority import BEGAN_S, DAY_S, Clock, World, new_key


def run(test: Callable[[World, OwnCertificate], Coroutine[Any, Any, None]], now_s: float = BEGAN_S) -> None:
    async def bounded() -> None:
        world = World(clock=Clock(now_s))
        await world.open()
        try:
            async with asyncio.timeout(30):
                await test(world, OwnCertificate(world.authority, "r1", world.clock))
        finally:
            world.joining.close()

    asyncio.run(bounded())


def test_it_is_made_anew_from_the_first_day_on_and_when_trust_changes() -> None:
    """With a new context, so that nothing of the old trust is taken up again."""

    async def test(world: World, own: OwnCertificate) -> None:
        assert own.context() is None
        await own.refresh()
        first, context = own.issued, own.context()
        assert first is not None
        assert first.identity == "spiffe://shop/control"
        await own.refresh()
        assert own.context() is context
        world.clock.now_s += DAY_S
        await own.refresh()
        second = own.context()
        assert second is not context
        await world.change(lambda one: steps.with_next_root(one, world.clock.now_s))
        await own.refresh()
        assert own.context() is not second
        assert own.issued is not None
        assert len(pki.read_certificates(own.issued.trust)) == 2

    run(test)


def test_one_that_has_ended_is_not_shown() -> None:
    """An authority that may not issue: the old one goes on until it ends."""

    async def test(world: World, own: OwnCertificate) -> None:
        await own.refresh()
        await world.change(lambda one: steps.held_for(one, steps.Held("", "", "", 0)))
        world.clock.now_s += 6 * DAY_S
        await own.refresh()
        assert own.context() is not None
        assert own.client_context() is not None
        world.clock.now_s += 1 * DAY_S
        await own.refresh()
        assert own.context() is None
        assert own.client_context() is None

    run(test)


@pytest.mark.parametrize(
    ("identity", "is_taken"), [("spiffe://shop/control", True), ("spiffe://shop/storefront", False)]
)
def test_replica_asks_none_but_control_planes(identity: str, is_taken: bool) -> None:
    """A workload of the mesh that listens at a replica's address is refused before anything is said to it."""

    async def test(world: World, own: OwnCertificate) -> None:
        await own.refresh()
        key = new_key()
        issued = world.authority.issue(key.public_key(), identity, "x")
        shown = owns._server_context(issued.certificate + pki.text_of_key(key), issued.trust)
        heard = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(100))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=shown)
        port = server.sockets[0].getsockname()[1]
        async with server:
            if is_taken:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=own.client_context())
                writer.write(b"x")
                writer.close()
                await writer.wait_closed()
            else:
                with pytest.raises(ssl.SSLCertVerificationError, match="expected spiffe://shop/control"):
                    await asyncio.open_connection("127.0.0.1", port, ssl=own.client_context())
                assert not any(heard)

    run(test, time.time())


class Engine(FilesEngine):
    """In memory, with secrets that the test has."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__("/nowhere", lambda path: {}, None)
        self.secrets = secrets


def service(world: World, name: Callable[[], str] = str, *, creates: bool = False) -> AuthorityService:
    return AuthorityService(
        Engine(world.secrets), "r1", name, lambda identity: (), world.clock, world.clock, creates=creates
    )


def test_authority_is_made_when_the_name_of_the_mesh_is_known() -> None:
    """And only if that was asked for."""

    async def test() -> None:
        world, name = World(), ""
        none = service(world, lambda: name)
        assert not await none.open()
        one = service(world, lambda: name, creates=True)
        assert await one.open()
        assert (one.trust_domain(), one.own.context()) == ("", None)
        name = "shop"
        await one._look()
        assert one.trust_domain() == "shop"
        assert one.own.context() is not None
        assert await none.open()
        assert {ending.which for ending in one.endings()} == {"root", "issuer", "leaf"}
        for each in (none, one):
            await each.close()
        world.joining.close()

    asyncio.run(test())


def test_what_ends_soon_is_logged_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """A root in its last year; an intermediate that nobody renews in its last month."""

    async def test() -> None:
        world = World()
        outside = steps.made("shop", BEGAN_S)
        signer = outside.intermediate
        given = steps.given("shop", signer.certificate, signer.key, outside.trust, BEGAN_S)
        await world.secrets.swap("ca", steps.written(given), "")
        one = service(world)
        await one.open()
        assert "certificate_ends_soon" not in caplog.text
        world.clock.now_s += 61 * DAY_S
        for _ in range(3):
            await one._look()
        assert caplog.text.count("certificate_ends_soon") == 1
        assert "which=issuer" in caplog.text
        world.clock.now_s += DAY_S
        await one._look()
        assert caplog.text.count("certificate_ends_soon") == 2
        await one.close()
        world.joining.close()

    asyncio.run(test())
