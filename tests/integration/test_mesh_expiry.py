"""A mesh of processes whose certificates end while its control plane is away, or which has lost its authority."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sidecar.control.authority import record as steps
from sidecar.control.authority.certificates import DAY_S
from sidecar.link.identity.held import Held
from tests.integration.test_mesh_identity import BACK, ENFORCED, FRONT, KEPT, SHORT, call
from tests.support.commands import sidecar_command
from tests.support.control import ROOT, Control
from tests.support.kept_state import authority_of, give_authority, held_by, keep
from tests.support.mesh import Load, Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.wait import eventually

pytestmark = pytest.mark.long

STRICT = f"{ENFORCED}defaults: {{inbound: {{tls: strict}}}}\n"
FILES = {"front.yaml": FRONT, "back.yaml": BACK, "mesh.yaml": STRICT}
FIRST_LIFE_S = 4
"""Of certificates that are to end; a machine on which the sidecars take longer to start is given twice as much."""
HEALS_S = 60.0
"""For waits of a busy machine on top of those between two attempts, of some seconds."""
ENOUGH_S = 1.0
"""Before the end, in which a busy machine still has answered what was asked."""


@pytest.fixture
def app() -> Iterator[Origin]:
    """What is behind `back`."""
    with Origin("back") as origin:
        yield origin


def logs_to_file(member: Member) -> None:
    """Let its access log be one that can be read."""
    text = member.config.read_text()
    member.config.write_text(text.replace("/dev/null", str(member.directory / "access.log")))


def is_answered(front: Member) -> bool:
    """Whether it listens, and a call by it comes through."""
    try:
        return call(front) == (200, "back")
    except OSError:
        return False


def ended_lines(member: Member) -> list[dict[str, Any]]:
    """Of its access log, about the end of a server's certificate."""
    return [one for one in member.access_log() if one["response_code_details"] == "upstream_certificate_expired"]


def identity(member: Member) -> Any:
    """As its page shows it."""
    return member.control_page()["identity"]


def begin_with(mesh: MeshOfProcesses, front: Member, back: Member, held: Mapping[Member, Held]) -> None:
    """Start both by what they kept."""
    for member in (front, back):
        keep(mesh, member, held[member], {"back": back} if member is front else {})
        member.begin()


def begin_with_short_lives(mesh: MeshOfProcesses, front: Member, back: Member) -> float:
    """Start both with certificates that end soon, but not before they have served; when they end."""
    record = authority_of(mesh.control)
    life_s = FIRST_LIFE_S
    while True:
        ends_s = int(time.time()) + life_s
        begin_with(mesh, front, back, {one: held_by(record, one.service, ends_s) for one in (front, back)})
        while time.time() < ends_s - ENOUGH_S:
            if is_answered(front) and front.is_ready() and back.is_ready():
                return float(ends_s)
            time.sleep(0.02)
        life_s *= 2
        assert life_s < 100, front.stderr() + back.stderr()
        for member in (front, back):
            member.signal(signal.SIGKILL)
            member.wait()


def test_what_is_kept_serves_until_it_ends_and_all_heals_when_the_control_plane_is_back(
    tmp_path: Path, app: Origin
) -> None:
    """
    Strict, and started without a control plane: they serve by what they kept. Then their certificates end: each call is
    refused for that reason, nobody asks again and again without a pause, and nobody has to be started anew.
    """
    with running_mesh(tmp_path, FILES, "--create-ca") as mesh:
        mesh.delay = SHORT
        front = mesh.join("front", more=KEPT, begins=False)
        back = mesh.join("back", app.port, more=KEPT, begins=False)
        logs_to_file(front)
        mesh.control.stop(signal.SIGKILL)
        ends_s = begin_with_short_lives(mesh, front, back)
        assert call(front) == (200, "back")
        assert time.time() < ends_s
        processes = [member.process for member in (front, back)]

        eventually(lambda: call(front) == (503, "upstream_certificate_expired"), "the reason")
        assert time.time() >= ends_s
        line = eventually(lambda: ended_lines(front), "the line of it")[0]
        assert "certificate has expired; the clock here says 20" in line["detail"]
        eventually(lambda: "ended at" in back.admin("/ready").text, "that nobody can come who is not refused")
        assert not back.is_ready()
        for member in (front, back):
            eventually(lambda member=member: "identity_ended" in member.stderr(), "the line that says it")
            assert identity(member)["state"] == "expired"
            assert "connection refused" in identity(member)["last_error"]
            assert identity(member)["failures"] < 3 + 10 * (time.time() - ends_s)

        mesh.control.start()
        eventually(lambda: is_answered(front), f"an answer: {front.stderr()} {back.stderr()}", HEALS_S)
        mesh.wait_settled()
        for member in (front, back):
            assert "by=signature" in member.stderr()
        assert [member.process for member in (front, back)] == processes
        assert all(process is not None and process.poll() is None for process in processes), "nobody was started anew"


def test_everything_has_ended_when_the_control_plane_comes_back(tmp_path: Path, app: Origin) -> None:
    """
    What signs the control plane's own certificate has ended, too: it is renewed by the root. Who ended within a week is
    renewed by its key, who ended before that joins by its token.
    """
    now_s = time.time()
    record = steps.made("shop", now_s - 91 * DAY_S)
    give_authority(Control(tmp_path / "control", {}), record)
    with running_mesh(tmp_path, FILES, "--accept", "clear,tls") as mesh:
        assert "intermediate_renewed" in mesh.control.log()
        mesh.delay = SHORT
        front = mesh.join("front", more=KEPT, begins=False)
        back = mesh.join("back", app.port, more=KEPT, begins=False)
        long_ago = held_by(record, "front", now_s - 8 * DAY_S, now_s - 15 * DAY_S)
        begin_with(mesh, front, back, {front: long_ago, back: held_by(record, "back", now_s, now_s - 7 * DAY_S)})
        mesh.wait_settled()
        eventually(lambda: is_answered(front), f"an answer: {front.stderr()} {back.stderr()}")
        assert "by=signature" in back.stderr()
        assert "identity_kept_unusable" in front.stderr()
        assert "by=token" in front.stderr()


@pytest.mark.parametrize("ahead_s", [590, -600])
def test_clocks_may_be_ten_minutes_apart(
    tmp_path: Path, app: Origin, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """The control plane's and the sidecars': one joins by its token, one is renewed by its key, and they call."""
    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(ROOT / "tests/support/ahead"))
            patch.setenv("CLOCK_AHEAD_S", str(ahead_s))
            mesh = stack.enter_context(running_mesh(tmp_path, FILES, "--create-ca"))
        mesh.delay = SHORT
        assert abs(mesh.control.shown()["time"] - time.time() - ahead_s) < 60
        front = mesh.join("front", more=KEPT)
        back = mesh.join("back", app.port, more=KEPT, begins=False)
        now_s = time.time()
        keep(mesh, back, held_by(authority_of(mesh.control), "back", now_s, now_s - 7 * DAY_S))
        back.begin()
        mesh.wait_settled()
        eventually(lambda: is_answered(front), f"an answer: {front.stderr()} {back.stderr()}")
        assert "by=token" in front.stderr()
        assert "by=signature" in back.stderr()
        assert "not valid" not in front.stderr() + back.stderr() + mesh.control.log()


def test_an_authority_that_was_lost_comes_back_by_its_backup(tmp_path: Path, app: Origin) -> None:
    """
    The control plane begins with an empty disk, and makes another one: nobody believes it or says who they are, and all
    go on by what they hold. With the backup everybody is back.
    """
    phrase, backup = tmp_path / "phrase", tmp_path / "backup.json"
    phrase.write_text("a passphrase\n")
    with running_mesh(tmp_path, FILES, "--create-ca") as mesh:
        mesh.delay = SHORT
        front, back = mesh.join("front", more=KEPT), mesh.join("back", app.port, more=KEPT)
        mesh.wait_settled()
        options = ("--passphrase-file", phrase, "--state", mesh.control.state)
        assert sidecar_command("mesh", "ca", "backup", backup, *options).returncode == 0
        with Load(front, "back") as load:
            load.wait_for()
            mesh.control.stop(signal.SIGKILL)
            shutil.rmtree(mesh.control.state)
            mesh.control.start("--create-ca")
            for member in (front, back):
                eventually(lambda member=member: "is not trusted" in member.stderr(), "that it is not believed")
                assert identity(member)["state"] == "valid"
            assert mesh.control.shown()["instances"] == []
            load.wait_for()
            assert mesh.control.stop() == 0
            shutil.rmtree(mesh.control.state)
            assert sidecar_command("mesh", "ca", "init", "--backup", backup, *options).returncode == 0
            mesh.control.start()
            mesh.wait_settled()
            load.wait_for()
        assert load.phases == [["200"]] * 2, load.answers
