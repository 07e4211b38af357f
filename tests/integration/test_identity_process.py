"""A sidecar that is somebody by its control plane, as a real process: its start, its next start, its successor."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.runtime.mesh.kept_identity import is_in_memory
from sidecar.runtime.mesh.state_directory import StateDirectory
from tests.integration.test_control_client import Member
from tests.support.certificates import Authority
from tests.support.fake_authority import FakeAuthority
from tests.support.fake_control import FakeControl
from tests.support.origin import Origin
from tests.support.process import SidecarProcess
from tests.support.wait import eventually as soon_or_later

pytestmark = pytest.mark.long

TOKEN = "sct_" + "w" * 43
IDENTITY = "spiffe://shop/shop"
LONG_S = 120.0
"""Several processes start, one after the other: on a busy machine it takes what it takes."""


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """As `wait.eventually`, with more patience."""
    return soon_or_later(condition, what, LONG_S)


class Somebody(Member):
    """A member of a mesh with an authority."""

    authority: FakeAuthority

    def local(self, folder: Path, keep: str = "always") -> str:
        """What its file says of it."""
        control = f'{{addresses: ["{self.control.url}"], token_file: "{folder}/token"}}'
        return f"control: {control}\nidentity: {{from: control, keep: {keep}}}\n"

    def identity(self) -> dict[str, Any]:
        """As a page shows it."""
        page: dict[str, Any] = self.control_page()["identity"]
        return page

    def wait_valid(self) -> None:
        """Until it is somebody."""
        eventually(lambda: self.identity()["state"] == "valid", f"an identity; the log:\n{self.sidecar.stderr()}")

    def kept_key(self) -> str:
        """That is in its directory; nothing else may have the directory."""
        directory = StateDirectory(str(self.state))
        found = directory.read("identity")
        directory.close()
        return str(found["held"]["key"]) if found is not None else ""


@pytest.fixture
def workers() -> int:
    """One process, unless a test says otherwise."""
    return 1


@pytest.fixture
def member(tmp_path: Path, workers: int) -> Iterator[Somebody]:
    """One that is not started yet; whatever it says and shows is looked at for secrets afterwards."""
    authority = FakeAuthority(tokens={TOKEN: "shop"})
    (tmp_path / "token").write_text(f"{TOKEN}#sha256:{authority.pin}\n")
    with FakeControl(certificate=authority.write(tmp_path), authority=authority) as control, Origin("app") as app:
        control.ping_period_s = 0.5
        member = Somebody(tmp_path, control, app, workers)
        member.authority = authority
        member.write_local(member.local(tmp_path))
        yield member
        if member.sidecar.process is not None and member.sidecar.process.poll() is None:
            control.answers_left = True
            try:
                member.sidecar.stop()
            finally:
                member.sidecar.kill()
        log = member.sidecar.stderr()
        assert "Traceback" not in log, log
        assert "w" * 43 not in log


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_it_joins_follows_by_its_certificate_and_is_somebody_at_once_at_the_next_start(member: Somebody) -> None:
    """With the control plane away then; and the key is in its directory alone, for nobody else to read."""
    member.push(1)
    member.start("--log-level", "debug")
    member.sidecar.wait_ready(LONG_S)
    member.wait_valid()
    report = member.reported("that it is somebody", lambda one: one.identity is not None and one.identity.identity)
    assert report.identity is not None
    assert (report.identity.identity, report.identity.last_error) == (IDENTITY, "")
    # Only for joining nobody could be asked for a certificate.
    anonymous = [
        path for path, caller in zip(member.control.addresses, member.control.callers, strict=True) if not caller
    ]
    assert set(anonymous) == {"/v1/trust", "/v1/join"}
    assert not any(member.control.authorizations)
    eventually((member.state / "identity").exists, "the key to be kept")
    eventually(lambda: IDENTITY in member.sidecar.admin("/certs").text, "what holds certificates to have it")
    pages = "".join(member.sidecar.admin(page).text for page in ("/server_info", "/config", "/ready", "/certs"))
    log = member.sidecar.stderr()
    assert f"identity_joined identity={IDENTITY}" in log

    member.sidecar.signal(signal.SIGKILL)
    member.sidecar.wait()
    member.control.stop()
    assert stat.S_IMODE(os.stat(member.state / "identity").st_mode) == 0o600
    key = member.kept_key()
    body = key.splitlines()[1]
    assert key.startswith("-----BEGIN PRIVATE KEY-----")
    assert body not in log + pages
    member.start()
    member.wait_admin()
    member.wait_valid()
    assert len(member.authority.joins) == 1
    assert body not in member.sidecar.stderr()


def test_without_an_identity_it_is_not_ready_and_says_why(member: Somebody, tmp_path: Path) -> None:
    """Until an operator has put a token there that the authority knows."""
    member.authority.tokens.clear()
    member.push(1)
    member.start()
    member.wait_admin()
    eventually(lambda: "token_unknown" in member.sidecar.admin("/ready").text, "the reason")
    assert "no identity yet" in member.sidecar.admin("/ready").text
    other = "sct_" + "v" * 43
    member.authority.tokens[other] = "shop"
    (tmp_path / "token").write_text(f"{other}#sha256:{member.authority.pin}\n")
    member.sidecar.wait_ready(LONG_S)
    assert member.revision() == "1"


def test_on_a_disk_nothing_is_kept_unless_the_file_says_so(member: Somebody, tmp_path: Path) -> None:
    """What is there from before is removed."""
    member.push(1)
    member.start()
    member.sidecar.wait_ready(LONG_S)
    eventually((member.state / "identity").exists, "the key to be kept")
    member.control.answers_left = True
    member.sidecar.stop()
    member.write_local(member.local(tmp_path, "memory"))
    member.start()
    member.sidecar.wait_ready(LONG_S)
    member.wait_valid()
    expected = is_in_memory(str(tmp_path))
    assert len(member.authority.joins) == (1 if expected else 2)
    assert (member.state / "identity").exists() == expected


def test_a_successor_has_the_identity_from_its_predecessor(member: Somebody, tmp_path: Path) -> None:
    """By the socket by which it has the listeners; nobody is asked for another."""
    member.push(1)
    member.start()
    member.sidecar.wait_ready(LONG_S)
    member.wait_valid()
    until = member.identity()["not_after"]
    second = SidecarProcess(tmp_path, env=member.sidecar.env, config=member.sidecar.config)
    second.stderr_path = tmp_path / "second.log"
    try:
        second.start("--control", member.control.url, "--takeover", "--state-dir", "off")
        assert member.sidecar.wait() == 0
        eventually(lambda: "live" in second.stderr(), "the successor")
        eventually(lambda: member.control_page()["connected"], "its stream")
        assert (member.identity()["state"], member.identity()["not_after"]) == ("valid", until)
        assert len(member.authority.joins) == 1
        member.control.answers_left = True
        assert second.stop() == 0
    finally:
        second.kill()
    assert "Traceback" not in second.stderr()


def test_a_plain_token_is_shown_as_ever_where_nobody_signs(tmp_path: Path) -> None:
    """A control plane with a certificate for its name, and no authority."""
    authority = FakeAuthority()
    authority.issuer.leaf(["127.0.0.1"]).write(tmp_path, "control.crt", "control.key")
    (tmp_path / "trust.pem").write_bytes(authority.root.pem)
    (tmp_path / "token").write_text("a-plain-token\n")
    certificate = str(tmp_path / "control.crt"), str(tmp_path / "control.key")
    with FakeControl(token="a-plain-token", certificate=certificate) as control, Origin("app") as app:
        control.ping_period_s = 0.5
        member = Somebody(tmp_path, control, app, 1)
        files = f'token_file: "{tmp_path}/token", trust: "{tmp_path}/trust.pem"'
        member.write_local(f'control: {{addresses: ["{control.url}"], {files}}}\n')
        member.push(1)
        member.start()
        try:
            member.sidecar.wait_ready(LONG_S)
            assert set(control.authorizations) == {"Bearer a-plain-token"}
            assert member.identity()["state"] == "none"
            soon_or_later(lambda: "identity_none" in member.sidecar.stderr(), "the line that says it")
            control.answers_left = True
            member.sidecar.stop()
        finally:
            member.sidecar.kill()


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_certificate_from_files_is_told_to_the_control_plane(tmp_path: Path, workers: int) -> None:
    """Which signs it not, and is to say all the same when it ends."""
    root = Authority("shop root")
    leaf = root.workload(IDENTITY)
    leaf.write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(root.pem)
    files = f'{{certificate: "{tmp_path}/tls.crt", key: "{tmp_path}/tls.key", trust: "{tmp_path}/ca.crt"}}'
    with FakeControl() as control, Origin("app") as app:
        control.ping_period_s = 0.5
        member = Somebody(tmp_path, control, app, workers)
        source = f"identity: {{from: {{files: {files}}}, trust_domain: shop}}\n"
        member.write_local(f'control: {{addresses: ["{control.url}"]}}\n{source}')
        member.push(1)
        member.start()
        try:
            reports = eventually(
                lambda: [one.identity for one in tuple(control.reports) if one.identity and one.identity.identity],
                "a report with its certificate",
            )
            told = reports[0].identity, reports[0].not_after_s, reports[0].issuer
            ends_s = leaf.certificate.not_valid_after_utc.timestamp()
            assert told == (IDENTITY, ends_s, "CN=shop root")
            control.answers_left = True
            member.sidecar.stop()
        finally:
            member.sidecar.kill()
    assert "Traceback" not in member.sidecar.stderr(), member.sidecar.stderr()
