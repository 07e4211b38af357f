"""
The way from a mesh in clear to mutual TLS, as docs/mesh-operations.md has it, with requests all the while: each is
answered.
"""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_join import Mesh
from tests.integration.test_mesh_identity import SHORT
from tests.support.commands import sidecar_command
from tests.support.control import Control
from tests.support.mesh import SETTLE_S, Member, MeshOfProcesses
from tests.support.mesh_on_etcd import mesh_on_etcd
from tests.support.origin import Origin
from tests.support.process import request
from tests.support.wait import eventually

pytestmark = pytest.mark.long

MESH = "mesh: shop\nunmatched: deny\n"
SECURED = f"{MESH}authorization: {{mode: enforce}}\ndefaults: {{inbound: {{tls: strict}}}}\n"
BACK = "service: back\napp: 127.0.0.1:8080\ncallers: [front]\ncalls: {}\n"
FRONT = "service: front\ncalls: {back: {}}\n"
PAUSE_S = 0.05


@contextmanager
def calls(caller: Member) -> Iterator[Counter[str]]:
    """Requests to `back`, each by a connection of its own, until it is left; what came of them."""
    answers: Counter[str] = Counter()
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(PAUSE_S):
            try:
                answer = request(caller.outbound_port, "/", headers={"host": "back", "connection": "close"})
                answers["200" if answer.status == 200 else f"{answer.status} {answer.text}"] += 1
            except (OSError, http.client.HTTPException) as error:
                answers[repr(error)] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        thread.join(60)


def take_over(mesh: MeshOfProcesses, member: Member, *control: str) -> None:
    """Start it again with other options of the control plane, in the place of the one that serves."""
    before = member.process
    assert before is not None
    member.start(*control, *member.own_arguments, "--takeover")
    assert before.wait(SETTLE_S) == 0, member.stderr()
    mesh.wait_settled()


def by_source(member: Member, source: str) -> float:
    """Requests that its rule `callers` let pass, of this source."""
    name = f'sidecar_authorization_total{{outcome="allowed",rule="callers",source="{source}"}} '
    lines = request(member.metrics_port, "/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_no_step_from_clear_to_mutual_tls_loses_a_request(tmp_path: Path) -> None:
    """
    An authority, control planes that take both one after the other, certificates for who is called and then for who
    calls, strict and enforced; back to clear; and forth until control planes take TLS alone. What a sidecar knows of
    endpoints stays whole.
    """
    with (
        mesh_on_etcd(tmp_path, {"front.yaml": FRONT, "back.yaml": BACK}, members=1) as mesh,
        Origin("back") as app,
    ):
        mesh.delay = SHORT
        one, two = mesh.replicas
        back, front = mesh.join("back", app.port, url=mesh.url()), mesh.join("front", url=mesh.url(1))
        mesh.wait_settled()
        eventually(lambda: request(front.outbound_port, "/", headers={"host": "back"}).status == 200, "an answer")
        known = front.knows("back")
        engine = ("--engine", one.keeps[1])
        assert sidecar_command("mesh", "ca", "init", "--trust-domain", "shop", *engine).returncode == 0
        with calls(front) as answers:
            for replica, other in ((one, two), (two, one)):
                mesh.ask(other)
                start_again(replica, "--accept", "clear,tls")
                mesh.wait_settled()
            in_clear, by_tls = (
                [part for each in mesh.replicas for part in ("--control", f"{scheme}://127.0.0.1:{each.port}")]
                for scheme in ("http", "https")
            )
            for member in (back, front):
                token = member.directory / "token"
                token.write_text(one.join_token(member.service))
                take_over(mesh, member, *by_tls, "--control-token-file", str(token))
            eventually(lambda: by_source(back, "spiffe://shop/front"), "a call by who is known", SETTLE_S)
            mesh.edit({"mesh.yaml": SECURED})
            mesh.edit({"mesh.yaml": MESH})
            take_over(mesh, front, *in_clear)
            eventually(lambda: by_source(back, "unidentified"), "a call in clear again", SETTLE_S)
            take_over(mesh, front, *by_tls, "--control-token-file", str(front.directory / "token"))
            mesh.edit({"mesh.yaml": SECURED})
            (tmp_path / "alice").write_text("alice-has-a-long-token\n")
            for replica in mesh.replicas:
                replica.keeps[-1] = f"https://127.0.0.1:{replica.port}"
                start_again(replica, "--accept", "tls", "--operator", f"alice:write:{tmp_path}/alice")
                assert front.knows("back") == known
            roots = sidecar_command("mesh", "ca", "roots", *engine).stdout
            for replica in mesh.replicas:
                asked = Mesh(replica, replica.directory, roots)
                eventually(lambda asked=asked: sees_all(asked), f"that all are seen: {replica.log()}", SETTLE_S)
            assert front.knows("back") == known
        assert set(answers) == {"200"}, answers


def start_again(control: Control, *arguments: str) -> None:
    """In the place of the one that runs, with other options."""
    assert control.stop() == 0, control.log()
    control.start(*arguments)


def sees_all(mesh: Mesh) -> bool:
    """Whether a control plane that takes TLS alone sees the other one and both sidecars, at whichever they are."""
    shown = mesh.ask("GET", "/v1/mesh", token="alice-has-a-long-token").said
    rows = shown["instances"]
    return all(row["seen"] for row in shown["replicas"]) and sum(row["connected"] for row in rows) == 2
