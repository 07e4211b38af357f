"""A mesh of processes whose sidecars have identities: who is let in, who is refused, and what no change of it loses."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.control.authority.certificates import DAY_S
from sidecar.control.authority.tokens import JoinTokens
from sidecar.control.engines.secrets.disk import DiskSecrets
from sidecar.runtime.mesh.state_directory import StateDirectory
from tests.support.commands import sidecar_command
from tests.support.kept_state import secrets_of
from tests.support.mesh import Load, Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.process import request
from tests.support.wait import eventually

MESH = "mesh: shop\nunmatched: deny\n"
ENFORCED = f"{MESH}authorization: {{mode: enforce}}\n"
BACK = "service: back\napp: 127.0.0.1:8080\ncallers: [front]\ncalls: {}\n"
FRONT = "service: front\ncalls: {back: {}}\n"
OTHER = "service: other\ncalls: {back: {}}\n"
FILES = {"front.yaml": FRONT, "back.yaml": BACK, "other.yaml": OTHER}
SHORT = "1s"
"""Of a drain: nobody waits for these to be let go of."""
KEPT = "identity: {from: control, keep: always}\n"
FORGOTTEN = "identity: {from: control, keep: never}\n"


@pytest.fixture
def app() -> Iterator[Origin]:
    """What is behind `back`."""
    with Origin("back") as origin:
        yield origin


def call(member: Member, path: str = "/", method: str = "GET") -> tuple[int, str]:
    """What the app beside a sidecar is answered by `back`: the status, and the reason or who it was."""
    answer = request(member.outbound_port, path, method=method, headers={"host": "back"})
    if answer.status == 200:
        return 200, answer.text
    return answer.status, json.loads(answer.text)["error"]


def metric(member: Member, name: str) -> float:
    """The sum of a metric's samples that begin so."""
    lines = request(member.metrics_port, "/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.mark.long
def test_callers_are_known_by_certificates_and_others_refused(tmp_path: Path, app: Origin) -> None:
    """
    At first that is told alone, and counted; `enforce` and then strict come without a lost request of who is admitted.
    Who is among `callers` is answered, another service refused by name, and who has no sidecar let in while that is
    permissive, and counted; strict takes no request in clear but what it names.
    """
    with running_mesh(tmp_path, {**FILES, "mesh.yaml": MESH}, "--create-ca") as mesh:
        mesh.delay = SHORT
        front, other, back = mesh.join("front"), mesh.join("other"), mesh.join("back", app.port)
        mesh.wait_settled()
        assert call(other) == (200, "back")
        assert metric(back, 'sidecar_authorization_total{outcome="audit_denied"') == 1
        with Load(front, "back") as load:
            load.wait_for()
            mesh.edit({"mesh.yaml": ENFORCED})
            load.wait_for()
            refused = request(other.outbound_port, "/", headers={"host": "back"})
            assert (refused.status, refused.json()["error"]) == (403, "authorization_denied")
            assert refused.json()["rule"] == "callers"
            assert metric(front, 'sidecar_tls_handshakes_total{resumed="false",side="server"') >= 1
            stranger = request(back.inbound_port, "/")
            assert (stranger.status, stranger.text) == (200, "back")
            assert metric(back, "sidecar_authorization_unidentified_total") == 1
            assert metric(back, "sidecar_authorization_total{") >= 3

            # From permissive to strict while it is called: the callers come by TLS already.
            strict = (
                f"{BACK}inbound: {{tls: {{mode: strict, clear: [{{methods: [GET], path: /ready}}]}}}}\n"
                "authorization: {rules: [{name: probes, allow: {from: anyone, path: /ready}}]}\n"
            )
            mesh.edit({"back.yaml": strict})
            load.wait_for()
        assert load.phases == [["200"]] * 2, load.answers
        stranger = request(back.inbound_port, "/")
        assert (stranger.status, stranger.json()["error"]) == (403, "clear_refused")
        probe = request(back.inbound_port, "/ready")
        assert (probe.status, probe.text) == (200, "back")
        # Probes of the other kinds: a connection, a command, and the admin listener. None counts as somebody refused.
        with socket.create_connection(("127.0.0.1", back.inbound_port), 15):
            pass
        looked = sidecar_command("wait", "--address", f"127.0.0.1:{back.admin_port}", "--timeout", "0")
        assert looked.returncode == 0, looked.stderr
        assert back.admin("/ready").status == 200
        assert metric(back, "sidecar_tls_handshake_failures_total") == 0
        assert call(other)[0] == 403


@pytest.mark.long
def test_sidecar_restarts_without_its_control_plane_by_the_key_that_it_keeps(tmp_path: Path, app: Origin) -> None:
    """One that keeps none is not ready and says so, and joins when the control plane is back."""
    strict = {**FILES, "mesh.yaml": f"{ENFORCED}defaults: {{inbound: {{tls: strict}}}}\n"}
    with running_mesh(tmp_path, strict, "--create-ca") as mesh:
        mesh.delay = SHORT
        front, back = mesh.join("front", more=FORGOTTEN), mesh.join("back", app.port, more=KEPT)
        mesh.wait_settled()
        assert call(front) == (200, "back")
        hashes = {member: member.control_page()["config"]["hash"] for member in (front, back)}
        mesh.control.stop(signal.SIGKILL)
        for member, hash_ in hashes.items():
            member.signal(signal.SIGKILL)
            member.wait()
            _as_if_good(mesh, member, hash_)
            member.begin()
        eventually(back.is_ready, "the one that keeps its key")
        eventually(lambda: _says(front, "no identity"), "the other's reason")
        assert not front.is_ready()
        mesh.control.start()
        mesh.wait_settled()
        eventually(lambda: call(front) == (200, "back"), "an answer by TLS")


@pytest.mark.long
def test_ten_restarts_by_one_token(tmp_path: Path, app: Origin) -> None:
    """
    As a platform makes them whose disks are empty each time; the token was made 30 days ago. One that was made before
    its 90 days lets nobody in, and that is told.
    """
    with running_mesh(tmp_path, {**FILES, "mesh.yaml": ENFORCED}, "--create-ca") as mesh:
        mesh.delay = SHORT
        back = mesh.join("back", app.port)
        fronts = [mesh.join("front", more=FORGOTTEN, begins=False) for _ in range(2)]
        pin = mesh.control.join_token("front").partition("#")[2]
        token = f"{_token_of(mesh, 'front', days_ago=30)}#{pin}"
        for front in fronts:
            front.config.with_name("token").write_text(token)
        late = mesh.join("other", more=FORGOTTEN, begins=False)
        late.config.with_name("token").write_text(f"{_token_of(mesh, 'other', days_ago=91)}#{pin}")
        late.begin()
        for _ in range(5):
            for front in fronts:
                front.begin()
            for front in fronts:
                eventually(front.is_ready, "a sidecar that is ready")
                eventually(lambda front=front: call(front) == (200, "back"), "an answer")
                front.signal(signal.SIGKILL)
                front.wait()
                shutil.rmtree(front.config.with_name("state"))
        assert metric(back, 'sidecar_authorization_total{outcome="allowed"') >= 10
        eventually(lambda: _says(late, "token_expired"), "why the other is nobody")


def _token_of(mesh: MeshOfProcesses, service: str, days_ago: int) -> str:
    """One that was made so long ago, as `sidecar mesh token create` makes it."""
    tokens = JoinTokens(DiskSecrets(secrets_of(mesh.control)), lambda: time.time() - days_ago * DAY_S)
    return asyncio.run(tokens.create(service))[1]


@pytest.mark.long
def test_root_is_rotated_in_three_pushes_under_load(tmp_path: Path, app: Origin) -> None:
    """Add, sign, drop: no request is lost, and in the end the old root is trusted by nobody."""
    with running_mesh(tmp_path, {**FILES, "mesh.yaml": ENFORCED}, "--create-ca") as mesh:
        mesh.delay = SHORT
        front, back = mesh.join("front"), mesh.join("back", app.port)
        mesh.wait_settled()
        state = ("--mesh", str(mesh.control.mesh), "--state", str(mesh.control.state))
        with Load(front, "back") as load:
            load.wait_for()
            before, signer = _roots(front), _signer(front)
            assert len(before) == 1
            assert _rotate("add", state)
            eventually(lambda: _has_roots((front, back), 2), "both roots", 60)
            assert _rotate("sign", state)
            eventually(lambda: signer not in (_signer(front), _signer(back)), "the new root", 60)
            eventually(lambda: _rotate("drop", state), "that no certificate is below the old root", 60)
            eventually(lambda: _has_roots((front, back), 1), "one root", 60)
            assert before.isdisjoint(_roots(front) | _roots(back))
            load.wait_for(100)
        assert load.phases == [["200"]] * 2, load.answers


def _as_if_good(mesh: MeshOfProcesses, member: Member, hash_: str) -> None:
    """As if what it ran had been good for half a minute."""
    made = sidecar_command("mesh", "compile", mesh.control.mesh, "--service", member.service)
    directory = StateDirectory(str(member.config.with_name("state")))
    directory.write("good", {"service": member.service, "hash": hash_, "revision": 1, "text": made.stdout})
    directory.close()


def _says(member: Member, what: str) -> bool:
    try:
        return what in member.admin("/ready").text
    except (OSError, http.client.HTTPException):
        return False


def _identity(member: Member) -> Any:
    return member.admin("/certs").json()["identity"]


def _roots(member: Member) -> set[str]:
    """Fingerprints of those that it trusts."""
    return {one["sha256"] for one in _identity(member)["trust"]}


def _signer(member: Member) -> str:
    """Name of the root below which its certificate is."""
    return str(_identity(member)["chain"][0]["issuer"])


def _has_roots(members: Iterable[Member], count: int) -> bool:
    return all(len(_roots(member)) == count for member in members)


def _rotate(step: str, state: tuple[str, ...]) -> bool:
    """Whether that step of a rotation could be done."""
    return sidecar_command("mesh", "ca", "rotate", step, *state).returncode == 0
