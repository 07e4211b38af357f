"""A real sidecar joins the mesh of a real control plane, as a person sets both up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sidecar.link.identity.files import JoinFiles
from sidecar.link.identity.held import Held
from sidecar.link.identity.interfaces import JoinSettings
from sidecar.link.identity.join_client import HttpJoinClient
from sidecar.link.identity.joiner import Joiner
from sidecar.link.identity.proving import prove
from sidecar.runtime.mesh.key_process import KeyProcess
from tests.support.commands import sidecar_command
from tests.support.control import SHOP, running_control
from tests.support.origin import Origin
from tests.support.process import SidecarProcess
from tests.support.wait import eventually

pytestmark = pytest.mark.long


def test_a_sidecar_is_somebody_by_a_token_that_was_made_for_it(tmp_path: Path) -> None:
    """The token goes into a file as it was printed; what the sidecar says and hears is by mutual TLS from then on."""
    with running_control(tmp_path / "control", SHOP, "--create-ca") as control, Origin("app") as app:
        eventually(lambda: "own_certificate" in control.log(), "the control plane's own certificate")
        url = f"http://127.0.0.1:{control.port}"
        made = sidecar_command("mesh", "token", "create", "storefront", "--control", url)
        assert made.returncode == 0, made.stderr
        (tmp_path / "token").write_text(made.stdout)
        sidecar = SidecarProcess(tmp_path)
        sidecar.config.write_text(
            "service: storefront\n"
            f'inbound: {{listen: "127.0.0.1:{sidecar.inbound_port}", app: "127.0.0.1:{app.port}"}}\n'
            f'outbound: {{listen: "127.0.0.1:{sidecar.outbound_port}"}}\n'
            'admin: {listen: "127.0.0.1:${ADMIN_PORT}"}\n'
            'telemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}"}}\n'
            f'control: {{addresses: ["https://127.0.0.1:{control.port}"], token_file: "{tmp_path}/token"}}\n'
            "identity: {from: control, keep: always}\n"
        )
        sidecar.start("--state-dir", str(tmp_path / "state"))
        try:
            sidecar.wait_ready()

            def control_page() -> Any:
                return sidecar.admin("/server_info").json()["control"]

            eventually(lambda: control_page()["connected"], f"a stream; the log:\n{sidecar.stderr()}")
            held = control_page()["identity"]
            assert (held["state"], held["identity"]) == ("valid", "spiffe://shop/storefront")
            assert made.stdout.strip().partition("#sha256:")[2] in held["roots"]
            joined = f"identity_joined identity={held['identity']} by=token"
            eventually(lambda: joined in sidecar.stderr(), "the line that says it")
            assert made.stdout.strip().partition("#")[0] not in sidecar.stderr() + control.log()
            assert sidecar.stop() == 0
        finally:
            sidecar.kill()


def test_a_certificate_is_renewed_by_itself_and_by_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As long as a handshake takes it, and when none does."""
    caplog.set_level("INFO")

    async def renew(settings: JoinSettings) -> list[Held]:
        joiner = Joiner(
            settings, client=HttpJoinClient(), maker=KeyProcess(), files=JoinFiles(settings.token_file, ""), prove=prove
        )
        told: list[Held] = []
        joiner.on_held = told.append
        task = asyncio.create_task(joiner.run())
        for number in range(3):
            # What a handshake has refused.
            joiner._is_leaf_shunned = number == 2
            joiner.renew_soon()
            for _ in range(3000):
                if len(told) > number:
                    break
                await asyncio.sleep(0.01)
            assert len(told) > number, joiner.shown()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return told

    with running_control(tmp_path / "control", SHOP, "--create-ca") as control:
        eventually(lambda: "own_certificate" in control.log(), "the control plane's own certificate")
        made = sidecar_command(
            "mesh", "token", "create", "storefront", "--once", "--control", f"http://127.0.0.1:{control.port}"
        )
        assert made.returncode == 0, made.stderr
        (tmp_path / "token").write_text(made.stdout)
        settings = JoinSettings((f"https://127.0.0.1:{control.port}",), "storefront", str(tmp_path / "token"))
        told = asyncio.run(renew(settings))
    assert len({one.key for one in told}) == 3
    assert {one.identity for one in told} == {"spiffe://shop/storefront"}
    ways = [one.getMessage().split(" by=")[1].split()[0] for one in caplog.records if " by=" in one.getMessage()]
    assert ways == ["token", "certificate", "signature"]
