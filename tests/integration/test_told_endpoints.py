"""Endpoints that are told by name reach the data path, or each of several; those that start later, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess
from tests.support.wait import eventually

Told = dict[str, list[tuple[str, float, str]]]


def tell(sidecar: SidecarProcess, told: Told) -> None:
    """Tell it, whole."""
    path = Path(f"{sidecar.config}.told")
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(told))
    os.replace(aside, path)


@contextmanager
def running(directory: Path, workers: int, told: Told) -> Iterator[SidecarProcess]:
    """A sidecar whose upstreams are told, with what was told before it began."""
    sidecar = SidecarProcess(directory)
    sidecar.rewrite(
        f"""
        service: x
        zone: a
        workers: {workers}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          web: {{discover: web}}
          other: {{discover: elsewhere}}
        """
    )
    tell(sidecar, told)
    with open(sidecar.stderr_path, "ab") as stderr:
        command = [sys.executable, "-m", "tests.support.telling", str(sidecar.config)]
        sidecar.process = subprocess.Popen(command, env=sidecar.environment(), stderr=stderr, start_new_session=True)
    try:
        sidecar.wait_ready()
        yield sidecar
        assert sidecar.stop() == 0
        assert "Traceback" not in sidecar.stderr()
    finally:
        sidecar.kill()


def endpoints(sidecar: SidecarProcess, upstream: str, worker: int) -> dict[str, tuple[float, str | None]]:
    """Weight and zone by address, as one worker has them."""
    page = sidecar.admin(f"/upstreams?worker={worker}").json()[upstream]
    return {one["address"]: (one["weight"], one["zone"]) for one in page["endpoints"]}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_data_path_hears_of_endpoints_by_name(tmp_path: Path, workers: int) -> None:
    """With weights and zones, in order; one that is replaced knows what was told before it was born."""
    with Origin("one") as one, Origin("two") as two:
        first, second = f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"
        told: Told = {"web": [(first, 1.0, "")], "elsewhere": [], "nobody": [("10.0.0.1:1", 1.0, "")]}
        with running(tmp_path, workers, told) as sidecar:
            everywhere = range(workers)
            assert [endpoints(sidecar, "web", n) for n in everywhere] == [{first: (1, None)}] * workers
            assert "discovery_waits" not in sidecar.stderr()
            assert sidecar.outbound("/", host="web").text == "one"
            assert sidecar.outbound("/", host="other").status == 503
            tell(sidecar, {"web": [(second, 2.0, "a"), (first, 0.0, "b")], "elsewhere": [(second, 1.0, "")]})
            expected = {second: (2, "a"), first: (0, "b")}
            eventually(lambda: [endpoints(sidecar, "web", n) for n in everywhere] == [expected] * workers, "the news")
            eventually(lambda: sidecar.outbound("/", host="other").text == "two", "the other name")
            assert {sidecar.outbound("/", host="web").text for _ in range(10)} == {"two"}
            if workers > 1:
                before = {each["worker"]: each["pid"] for each in sidecar.admin("/server_info").json()["workers"]}
                os.kill(before[1], signal.SIGKILL)
                eventually(lambda: is_replaced(sidecar, before[1]), "a successor")
                assert endpoints(sidecar, "web", 1) == expected
                tell(sidecar, {"web": []})
                eventually(lambda: [endpoints(sidecar, "web", n) for n in everywhere] == [{}] * 2, "the end")
            assert "discovery_waits" not in sidecar.stderr()


def is_replaced(sidecar: SidecarProcess, pid: int) -> bool:
    """Whether worker 1 is another process, and serves."""
    workers = sidecar.admin("/server_info").json()["workers"]
    return any(each["worker"] == 1 and each["pid"] != pid and each["state"] == "LIVE" for each in workers)
