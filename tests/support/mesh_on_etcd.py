"""
A mesh of processes whose control planes are replicas on etcd: `tests/support/mesh.py`, with more that can be killed.

    with mesh_on_etcd(tmp_path, {"front.yaml": ..., "back.yaml": ...}) as mesh:
        front = mesh.join("front", url=mesh.url())
        mesh.wait_settled()
        mesh.mover().stop(signal.SIGKILL)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.control.engines.etcd.wire import octets
from tests.support.control import Control
from tests.support.etcd import Cluster, etcd
from tests.support.etcd import Member as EtcdMember
from tests.support.mesh import MeshOfProcesses
from tests.support.wait import eventually

TAKEN_S = 60.0


class MeshOnEtcd(MeshOfProcesses):
    """
    Attributes:
        cluster: Of etcd.
        replicas: The control planes; `control` is the one that is asked, and changes by `ask`.
        files: Of the mesh, as they were pushed last.
    """

    delay = "3s"
    """As by default: while a replica is away, or went just now, nobody is told `left`."""

    def __init__(self, directory: Path, cluster: Cluster, count: int) -> None:
        self.cluster = cluster
        # A control plane that outlived another run may ask at ports that are ours now; it must not meet these.
        self._prefix = f"/sidecar/shop-{os.urandom(4).hex()}/"
        self.replicas = [Control(directory / f"control-{number}", {}) for number in range(count)]
        self.files: dict[str, str] = {}
        for number, one in enumerate(self.replicas):
            one.keeps = [
                "--engine", cluster.url + self._prefix.rstrip("/"), "--name", f"control-{number}", "--spread", "0s",
                "--advertise", f"http://127.0.0.1:{one.port}",
            ]  # fmt: skip
        super().__init__(directory, self.replicas[0])

    def url(self, first: int = 0) -> str:
        """Of all replicas, beginning with this one."""
        order = self.replicas[first:] + self.replicas[:first]
        return " ".join(f"http://127.0.0.1:{one.port}" for one in order)

    def ask(self, replica: Control) -> None:
        """Look at the mesh by this one from now on."""
        self.control = replica

    def push(self, files: Mapping[str, str]) -> int:
        """Change some of the mesh's files by the replica that is asked; the number of the revision that follows."""
        revision = self.try_push(files)
        assert revision, self.control.log()
        return revision

    def try_push(self, files: Mapping[str, str]) -> int:
        """As `push`; 0 where the engine does not answer."""
        wanted = self.files | files
        answer = self.control.post("/v1/push", json.dumps({"files": wanted}).encode(), content_type="application/json")
        if answer.status == 503:
            return 0
        assert answer.status == 200, answer.text
        self.files = wanted
        return int(answer.json()["revision"])

    def edit(self, files: Mapping[str, str], *, removed: tuple[str, ...] = ()) -> None:
        """As in a directory."""
        self.files = {name: text for name, text in self.files.items() if name not in removed}
        self.wait_settled(self.push(files))

    def keys(self, prefix: str = "") -> dict[str, Mapping[str, Any]]:
        """What is in etcd below the mesh's prefix, by what follows it."""
        member = next(one for one in self.cluster.members if one.is_running)
        found = member.keys(self._prefix + prefix)
        return {name.removeprefix(self._prefix): one for name, one in found.items()}

    def registrations(self) -> set[str]:
        """Instances that are registered in etcd."""
        return {name.partition("/")[2] for name in self.keys("registrations/")} - {""}

    def mover(self) -> Control:
        """Who moves rollouts."""

        def named() -> str:
            held = self.keys("mover").get("mover")
            return octets(held, "value").decode() if held is not None else ""

        name = eventually(named, "a mover")
        found = [one for one in self.replicas if one.directory.name == name]
        assert found, name
        return found[0]

    def expire(self, replica: Control) -> None:
        """Let the leases of a replica that is dead end now, as etcd does some seconds later."""
        name = f"replicas/{replica.directory.name}"
        found = self.keys()
        leases = [found[name]["lease"]] if name in found else []
        held = found.get("mover")
        if held is not None and octets(held, "value").decode() == replica.directory.name:
            leases.append(held["lease"])
        member = next(one for one in self.cluster.members if one.is_running)
        for lease in leases:
            member.ask("/v3/lease/revoke", {"ID": lease})

    def running_members(self) -> list[EtcdMember]:
        """Those of etcd that live."""
        return [one for one in self.cluster.members if one.is_running]


@contextlib.contextmanager
def mesh_on_etcd(
    directory: Path, files: Mapping[str, str], *, members: int = 3, count: int = 2
) -> Iterator[MeshOnEtcd]:
    """
    Control planes that are ready, with these files pushed, and whatever joins them; on leaving all must end in order.

    Args:
        files: Of the mesh, by name; `mesh.yaml` is there if nothing else is said, and denies what nobody knows.
        members: Of etcd.
        count: Of control planes.
    """
    with etcd(directory, members) as cluster:
        mesh = MeshOnEtcd(directory, cluster, count)
        try:
            for one in mesh.replicas:
                one.start(is_ready=False)
            # Nobody is ready while there is no mesh; who listens takes a push.
            eventually(lambda: _listens(mesh.control), f"a control plane that listens: {mesh.control.log()}", TAKEN_S)
            mesh.push({"mesh.yaml": "mesh: shop\nunmatched: deny\n", **files})
            for one in mesh.replicas:
                eventually(one.is_ready, f"a control plane that is ready: {one.log()}", TAKEN_S)
            yield mesh
            mesh.end()
            for one in mesh.replicas:
                assert one.process is not None
                if one.process.poll() is None:
                    assert one.stop() == 0, one.log()
                assert "Traceback" not in one.log(), one.log()
        finally:
            mesh.kill()
            for one in mesh.replicas:
                if one.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(one.process.pid, signal.SIGKILL)
                    one.process.wait()


def _listens(control: Control) -> bool:
    assert control.process is not None
    assert control.process.poll() is None, control.log()
    try:
        return control.get("/v1/mesh").status == 200
    except OSError:
        return False
