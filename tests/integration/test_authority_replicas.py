"""Several control planes of a mesh and its one authority, on real etcd."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.integration.test_control_etcd import push
from tests.integration.test_join import Mesh
from tests.support.authority import new_key
from tests.support.commands import sidecar_command
from tests.support.control import SHOP, Control
from tests.support.etcd import etcd
from tests.support.wait import eventually


def test_replicas_that_start_first_at_once_have_one_authority(tmp_path: Path) -> None:
    """Each was told to make one if there is none. What one signs the other takes, and both say the same of roots."""
    with etcd(tmp_path) as cluster, ExitStack() as stack:
        url = cluster.url + "/first/"
        push(url, SHOP)
        controls = [Control(tmp_path / name, {}) for name in ("r1", "r2")]
        for control in controls:
            control.keeps = ["--engine", url, "--name", control.directory.name, "--spread", "0s",
                             "--advertise", f"http://127.0.0.1:{control.port}"]  # fmt: skip
            stack.callback(control.stop)
            control.start("--create-ca", is_ready=False)
        for control in controls:
            eventually(control.is_ready, f"a control plane that is ready: {control.log()}", 60)
        made = [line for control in controls for line in control.log().splitlines() if "authority_made" in line]
        assert len(made) == 1, made
        roots = sidecar_command("mesh", "ca", "roots", "--engine", url).stdout
        assert roots.count("BEGIN CERTIFICATE") == 1
        one, two = (Mesh(control, control.directory, roots) for control in controls)
        assert one.ask("GET", "/v1/trust").said == two.ask("GET", "/v1/trust").said
        for signs, takes in ((one, two), (two, one)):
            key = new_key()
            joined = signs.join({"token": takes.token()}, key)
            assert joined.status == 200, joined.said
            report = {"service": "storefront", "instance": "i-1", "ports": {}, "health": "starting", "seq": 1}
            mine = takes.context(joined.said["certificate"], key)
            assert takes.ask("POST", "/v1/report", report, mine).status == 200
        for control in controls:
            assert "Traceback" not in control.log(), control.log()
