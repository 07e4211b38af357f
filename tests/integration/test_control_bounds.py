"""A control plane that is asked for more than it has room for: bounded, and well for everybody else."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from sidecar.link.messages import Config
from tests.support.control import SHOP, Control, Peer, encoded, running_control
from tests.support.wait import eventually

STREAMS = 300


def watch(control: Control, instance: str) -> socket.socket:
    """Ask for a stream, and read nothing of it."""
    asking = socket.create_connection(("127.0.0.1", control.port), timeout=60)
    asking.sendall(f"GET /v1/watch?service=catalog&instance={instance} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return asking


def answered(asking: socket.socket) -> bytes:
    """The head of what came of it."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = asking.recv(4096)
        assert piece, head
        head += piece
    return head.partition(b"\r\n\r\n")[0].lower()


def test_crowd_of_streams_is_turned_away_at_the_limit(tmp_path: Path) -> None:
    """As `--max-streams` says it: 503 with when to come again; who is there stays, is told, and is heard."""
    with (
        running_control(tmp_path, SHOP, "--max-streams", str(STREAMS)) as control,
        Peer(control, "storefront") as peer,
        ExitStack() as crowd,
    ):
        peer.wait_for(Config)
        streams = [crowd.enter_context(watch(control, f"crowd-{number}")) for number in range(STREAMS + 50)]
        heads = [answered(stream) for stream in streams]
        turned = [head for head in heads if head.startswith(b"http/1.1 503")]
        assert len(turned) == 51, "one was there before"
        assert all(b"retry-after: 10" in head for head in turned)
        assert control.metric("sidecar_control_streams") == STREAMS
        assert control.metric('sidecar_control_refused_total{why="503"}') == 51
        assert peer.report().status == 200
        again = crowd.enter_context(watch(control, "crowd-0"))
        assert answered(again).startswith(b"http/1.1 200"), "one that is there takes its own place"
        old = peer.has
        control.write({"storefront.yaml": SHOP["storefront.yaml"].replace("catalog: {}", "catalog: {timeout: 3s}")})
        eventually(lambda: peer.has != old, "its new file")
        crowd.close()
        eventually(lambda: control.metric("sidecar_control_streams") == 1, "the end of the crowd")
        with Peer(control, "catalog", "late") as late:
            late.wait_for(Config)


def test_mesh_of_ten_mebibytes_is_judged_while_others_are_answered(tmp_path: Path) -> None:
    """It is wanted like any other; a push of more than the bound is refused before it is read."""
    with running_control(tmp_path) as control, Peer(control, "storefront") as peer:
        old = peer.wait_for(Config).hash
        note = "# a line that says why, as long as lines are\n"
        large = {
            f"{name}.yaml": SHOP[f"{name}.yaml"] + note * (2_700_000 // len(note))
            for name in ("catalog", "recommendations")
        }
        edited = SHOP["storefront.yaml"].replace("catalog: {}", "catalog: {timeout: 3s}")
        files = large | {"storefront.yaml": edited + note * (5_400_000 // len(note))}
        assert sum(map(len, files.values())) > 10 * 1024 * 1024
        control.write(files)
        assert peer.report().status == 200
        eventually(lambda: peer.has != old, f"the new file: {control.log()}", 60)
        assert peer.wait_for(Config).revision == 2
        body = encoded({"files": {"mesh.yaml": "x" * (65 * 1024 * 1024)}})
        answer = control.post("/v1/diff", body, content_type="application/json")
        assert answer.status == 413
        assert control.shown()["revision"] == 2
