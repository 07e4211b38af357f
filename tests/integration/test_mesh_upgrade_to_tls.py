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

from tests.support.mesh import SETTLE_S, Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.process import request
from tests.support.wait import eventually

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
    """An authority, certificates for who is called and then for who calls, strict and enforced; and back to clear."""
    with (
        running_mesh(tmp_path, {"front.yaml": FRONT, "back.yaml": BACK, "mesh.yaml": MESH}) as mesh,
        Origin("back") as app,
    ):
        in_clear = ("--control", f"http://127.0.0.1:{mesh.control.port}")
        back, front = mesh.join("back", app.port), mesh.join("front")
        mesh.wait_settled()
        eventually(lambda: request(front.outbound_port, "/", headers={"host": "back"}).status == 200, "an answer")
        with calls(front) as answers:
            assert mesh.control.stop() == 0
            mesh.control.start("--create-ca", "--accept", "clear,tls")
            mesh.wait_settled(2)
            for member in (back, front):
                token = member.directory / "token"
                token.write_text(mesh.control.join_token(member.service))
                by_tls = ("--control", f"https://127.0.0.1:{mesh.control.port}", "--control-token-file", str(token))
                take_over(mesh, member, *by_tls)
            eventually(lambda: by_source(back, "spiffe://shop/front"), "a call by who is known", SETTLE_S)
            mesh.edit({"mesh.yaml": SECURED})
            mesh.edit({"mesh.yaml": MESH})
            take_over(mesh, front, *in_clear)
            eventually(lambda: by_source(back, "unidentified"), "a call in clear again", SETTLE_S)
        assert set(answers) == {"200"}, answers
