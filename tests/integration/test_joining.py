"""A sidecar comes by its identity over real sockets, with keys that a process makes and certificates that are real."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.link.client import Link
from sidecar.link.identity import joiner as joiner_module
from sidecar.link.identity.files import JoinFiles
from sidecar.link.identity.held import Held, read_held
from sidecar.link.identity.interfaces import JoinSettings
from sidecar.link.identity.join_client import HttpJoinClient
from sidecar.link.identity.joiner import Joiner
from sidecar.link.identity.messages import CertificateProof, SignedProof, TokenProof
from sidecar.link.identity.proving import prove
from sidecar.link.identity.server_trust import HeldTrust, ServerTrust
from sidecar.link.interfaces import LinkSettings
from sidecar.link.messages import Config
from sidecar.link.transport import rota
from sidecar.link.transport.http_client import CertificateRefusedError, HttpClient, UntrustedError
from sidecar.link.transport.server import parse_server
from sidecar.runtime.mesh.key_process import KeyProcess
from tests.support.certificates import DAY, NOW, Authority
from tests.support.fake_authority import FakeAuthority
from tests.support.fake_control import FakeControl
from tests.unit.link.fakes import FakeProcess

TOKEN = "sct_" + "k" * 43
FILE = Config(7, "ab" * 16, "service: storefront\n")


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rota, "BASE_S", 0.02)
    monkeypatch.setattr(joiner_module, "LOOK_S", 0.05)


class Joining:
    """A joiner that runs, and the control plane that it asks."""

    def __init__(self, joiner: Joiner, control: FakeControl, authority: FakeAuthority) -> None:
        self.joiner = joiner
        self.control = control
        self.authority = authority
        self.told: list[Held] = []
        self.trust = HeldTrust(lambda: joiner.held, joiner.why_none, 5.0)
        joiner.on_held = self.on_held

    def on_held(self, held: Held) -> None:
        self.told.append(held)
        self.trust.changed()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it; the limit is for what never comes."""
        for _ in range(6000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"waited in vain for {what}; {self.joiner.shown()}")


@asynccontextmanager
async def joining(
    folder: Path,
    authority: FakeAuthority | None = None,
    *,
    token: str = f"{TOKEN}#sha256:{{pin}}\n",
    kept: Held | None = None,
    runs: bool = True,
) -> AsyncIterator[Joining]:
    """One whose token file is right, unless the test says otherwise."""
    authority = authority or FakeAuthority(tokens={TOKEN: "storefront"})
    (folder / "token").write_text(token.replace("{pin}", authority.pin))
    with FakeControl(certificate=authority.write(folder), authority=authority) as control:
        settings = JoinSettings((control.url,), "storefront", str(folder / "token"))
        joiner = Joiner(
            settings, client=HttpJoinClient(), maker=KeyProcess(), files=JoinFiles(settings.token_file, ""), prove=prove
        )
        world = Joining(joiner, control, authority)
        await joiner.begin(kept)
        task = asyncio.create_task(joiner.run()) if runs else None
        try:
            yield world
            assert task is None or not task.done()
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def test_a_mesh_is_joined_and_its_certificate_renewed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By a token first, then by what it brought; each time with another key; and no secret is in any line."""

    async def main() -> None:
        async with joining(tmp_path) as world:
            await world.until(lambda: world.told, "a certificate")
            assert world.told[0].identity == "spiffe://shop/storefront"
            assert world.told[0].issuer == "CN=shop issuer"
            world.joiner.renew_soon()
            await world.until(lambda: len(world.told) == 2, "another")
            assert [type(one.proof) for one in world.authority.joins] == [TokenProof, CertificateProof]
            assert world.told[0].key != world.told[1].key
            said = caplog.text + repr(world.joiner.shown()) + repr(world.told) + repr(world.authority.joins)
            assert TOKEN not in said
            assert not any(line in said for held in world.told for line in held.key.splitlines()[1:-1])
            assert "identity_renewed" in said

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())


def test_one_that_has_ended_is_renewed_by_its_key(tmp_path: Path) -> None:
    """No handshake takes it any more, and the token file is of no use."""
    authority = FakeAuthority(tokens={TOKEN: "storefront"})
    old = authority.issuer.workload("spiffe://shop/storefront", begins=NOW - 8 * DAY, ends=NOW - DAY)
    kept = Held(
        old.chain_pem.decode(), old.key_pem.decode(), authority.root.pem.decode(), "shop", "spiffe://shop/storefront",
        "CN=shop issuer", NOW - 8 * DAY, NOW - DAY, NOW - 7 * DAY, NOW - 8 * DAY,
    )  # fmt: skip

    async def main() -> None:
        async with joining(tmp_path, authority, token="nothing", kept=read_held(kept.shown())) as world:
            await world.until(lambda: world.joiner.held, "a certificate")
            assert [type(one.proof) for one in authority.joins] == [SignedProof]

    asyncio.run(main())


def test_a_control_plane_with_another_root_is_told_nothing(tmp_path: Path) -> None:
    """One that gives the right root, too, but is not signed by it, no more than one that gives its own."""
    right = FakeAuthority(tokens={TOKEN: "storefront"})
    wrong = FakeAuthority(root=Authority("evil root"), tokens={TOKEN: "storefront"})

    async def main(trust: bytes, why: str) -> None:
        wrong.trust = trust
        async with joining(tmp_path, wrong, token=f"{TOKEN}#sha256:{right.pin}") as world:
            await world.until(lambda: why in world.joiner.report().last_error, why)
            assert not wrong.joins
            assert not any(world.control.authorizations)

    asyncio.run(main(wrong.root.pem, f"expected sha256:{right.pin}, found sha256:{wrong.pin}"))
    asyncio.run(main(right.root.pem + wrong.root.pem, "its certificate is not trusted"))


@pytest.mark.parametrize(
    "identity", ["spiffe://shop/storefront", "spiffe://shop/control/x", "https://shop/control", "spiffe://shop/ns/a/sa/control"]
)  # fmt: skip
def test_a_workload_is_no_control_plane(identity: str, tmp_path: Path) -> None:
    """Whoever has a certificate of the mesh might ask for tokens else."""
    authority = FakeAuthority(tokens={TOKEN: "storefront"}, identity=identity)

    async def main() -> None:
        async with joining(tmp_path, authority) as world:
            why = f"it is not the mesh's control plane: expected spiffe://*/control, found {identity}"
            await world.until(lambda: world.joiner.report().last_error == why, why)
            assert not authority.joins

    asyncio.run(main())


def test_a_refusal_says_what_the_authority_said(tmp_path: Path) -> None:
    """And the next token is tried as soon as it is there."""

    async def main() -> None:
        async with joining(tmp_path, FakeAuthority()) as world:
            await world.until(lambda: "token_unknown" in world.joiner.why_none(), "a refusal")
            world.authority.tokens[TOKEN.replace("k", "l")] = "storefront"
            (tmp_path / "token").write_text(f"{TOKEN.replace('k', 'l')}#sha256:{world.authority.pin}")
            await world.until(lambda: world.told, "a certificate")

    asyncio.run(main())


def test_a_certificate_for_another_key_is_not_taken(tmp_path: Path) -> None:
    """Whatever the authority thinks it signed."""
    authority = FakeAuthority(tokens={TOKEN: "storefront"})
    sign = authority.sign

    def wrong(request: Any, identity: str) -> Any:
        joined = sign(request, identity)
        other = authority.issuer.workload(identity)
        return type(joined)(other.chain_pem.decode(), *(getattr(joined, name) for name in joined.__slots__[1:]))

    authority.sign = wrong  # type: ignore[method-assign]

    async def main() -> None:
        async with joining(tmp_path, authority) as world:
            await world.until(lambda: world.joiner.report().last_error, "an error")
            assert "does not belong to the certificate" in world.joiner.report().last_error
            assert not world.told

    asyncio.run(main())


class TestStream:
    """The link by mutual TLS."""

    def test_it_waits_for_an_identity_and_outlives_its_renewal(self, tmp_path: Path) -> None:
        """The stream goes on, and what is asked later is asked with the new certificate."""

        async def main() -> None:
            async with joining(tmp_path) as world:
                world.control.files["shop"] = FILE
                process = FakeProcess()
                settings = LinkSettings((world.control.url,))
                link = Link(settings, process, process, environment={}, tls=world.trust)
                task = asyncio.create_task(link.run())
                await world.until(lambda: process.configs and world.control.reports, "a file and a report")
                before = set(world.control.callers[-2:])
                assert "" not in before
                world.joiner.renew_soon()
                await world.until(lambda: len(world.told) == 2, "another certificate")
                reports = len(world.control.reports)
                link.changed()
                await world.until(lambda: len(world.control.reports) > reports, "another report")
                assert len(world.control.watches) == 1
                assert link.state.is_connected
                assert world.control.callers[-1] not in {*before, ""}
                assert len(world.control.live()) == 1
                await link.close()
                await task

        asyncio.run(main())

    def test_without_an_identity_it_says_why(self, tmp_path: Path) -> None:
        """In the words of who cannot get one."""

        async def main() -> None:
            async with joining(tmp_path, token="nothing") as world:
                trust = HeldTrust(lambda: None, world.joiner.why_none, 0.01)
                process = FakeProcess()
                link = Link(LinkSettings((world.control.url,)), process, process, environment={}, tls=trust)
                task = asyncio.create_task(link.run())
                await world.until(lambda: "no identity yet: token_file" in link.state.why, "a reason")
                assert "nothing" not in link.state.why.replace(str(tmp_path), "")
                await link.close()
                await task

        asyncio.run(main())

    def test_a_server_of_another_mesh_is_not_spoken_to(self, tmp_path: Path) -> None:
        """By its root, or by its name."""
        other = Authority("other root")

        async def main() -> None:
            async with joining(tmp_path, runs=False) as world:
                server = parse_server(world.control.url)
                leaf = world.authority.issuer.workload("spiffe://shop/storefront")
                pair = leaf.chain_pem.decode(), leaf.key_pem.decode()
                for tls, why in (
                    (ServerTrust(other.pem.decode(), "shop", pair), "its certificate is not trusted"),
                    (ServerTrust(world.authority.root.pem.decode(), "prod", pair), "expected spiffe://prod/control"),
                ):
                    client = HttpClient(user_agent="test", tls=tls)
                    with pytest.raises(UntrustedError, match=why):
                        await client.ask(server, "GET", "/v1/watch", {}, b"", 5.0)
                    await client.close()
                assert not world.control.addresses

        asyncio.run(main())

    def test_a_certificate_that_is_refused_is_told_as_such(self, tmp_path: Path) -> None:
        """In TLS 1.3 it is seen at the first read."""

        async def main() -> None:
            async with joining(tmp_path, runs=False) as world:
                leaf = world.authority.issuer.workload("spiffe://shop/storefront", begins=NOW - 2 * DAY, ends=NOW - DAY)
                pair = leaf.chain_pem.decode(), leaf.key_pem.decode()
                tls = ServerTrust(world.authority.root.pem.decode(), "shop", pair)
                client = HttpClient(user_agent="test", tls=tls)
                with pytest.raises(CertificateRefusedError, match="it refuses our certificate: certificate expired"):
                    await client.ask(parse_server(world.control.url), "GET", "/v1/watch", {}, b"", 5.0)
                await client.close()

        asyncio.run(main())


def test_old_versions_are_not_spoken(tmp_path: Path) -> None:
    """TLS 1.3 alone."""

    async def main() -> None:
        context = (await ServerTrust(Authority("root").pem.decode()).terms()).context
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED

    asyncio.run(main())
