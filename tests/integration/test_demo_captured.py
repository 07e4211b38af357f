"""The demonstration of captured traffic, by a real kernel: unattended, live, ended, and killed. As root."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.demo.namespaces import ETC, NETNS, RUN, NamespaceError, network, remove_left_behind
from tests.support.commands import sidecar_command
from tests.support.demo import Demo, assert_nothing_is_left, is_alive, running
from tests.support.namespaces import TIMEOUT_S, hosts
from tests.support.peers import require
from tests.support.wait import eventually

CLAIMS = 6
CHILDREN = 10
"""The control plane; three sidecars and their apps; three servers that have none."""
LEAVES = """
import os, subprocess, sys
from sidecar.demo.namespaces import network
made = network(f"{sys.argv[1]}-{os.getpid()}", ["a"], known_as={"a": ["alpha"]})
(host,) = made.__enter__()
sleeper = subprocess.Popen([*host.argv(), "sleep", "600"], stdout=subprocess.DEVNULL)
while open(f"/proc/{sleeper.pid}/comm").read() != "sleep\\n":
    pass
print(sleeper.pid, os.getpid(), flush=True)
os._exit(0)
"""


@pytest.fixture
def _can_have_hosts() -> Iterator[None]:
    """Skips, or fails with `CI=true`, where this machine or user cannot."""
    require("setpriv")
    with hosts(1):
        yield


def hosts_of(demo: Demo) -> list[str]:
    """Its namespaces, the files of names that they have, and the directory of its own files."""
    prefix = f"sidecar-demo-{demo.process.pid}-"
    return [path.name for place in (NETNS, ETC, RUN) if place.is_dir() for path in place.glob(f"{prefix}*")]


@pytest.mark.usefixtures("_can_have_hosts")
@pytest.mark.long
def test_live_run_serves_its_customers_and_leaves_nothing_on_interrupt(tmp_path: Path) -> None:
    """Whole pages by plain names, Redis and HTTPS; then no process, namespace, rule, name or file."""
    with running(tmp_path, "--captured") as demo:
        pids = demo.pids()
        assert len(pids) == CHILDREN
        assert len(hosts_of(demo)) == 9 + 8 + 1  # the switch is asked for no names
        demo.wait_for(r"^[1-9]\d* answered, 0 failed \|")
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait() == 0, demo.output + demo.stderr()
        assert re.search(r"^ended: [1-9]\d* pages, 0 failed; ", demo.output, re.MULTILINE)
        assert_nothing_is_left(demo, pids)
        assert hosts_of(demo) == []
        assert demo.stderr() == ""


@pytest.mark.long
@pytest.mark.usefixtures("_can_have_hosts")
def test_unattended_run_settles_every_claim(tmp_path: Path) -> None:
    """`sidecar demo --captured --seconds 2` holds all that it claims."""
    with running(tmp_path, "--captured", "--seconds", "2") as demo:
        assert demo.wait(120) == 0, demo.output + demo.stderr()
        assert demo.output.endswith(f"\n{CLAIMS} claims hold, 0 do not")
        assert hosts_of(demo) == []


@pytest.mark.long
@pytest.mark.usefixtures("_can_have_hosts")
def test_what_a_killed_one_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Its children end by themselves; its hosts are taken away before others are made."""
    with running(tmp_path, "--captured") as demo:
        pids = demo.pids()
        demo.process.kill()
        demo.wait()
        eventually(lambda: not any(map(is_alive, pids)), "its children to end")
        assert hosts_of(demo)
        with running(tmp_path, "--captured") as following:
            following.pids()
            assert hosts_of(demo) == []
            following.process.send_signal(signal.SIGINT)
            assert following.wait() == 0, following.output + following.stderr()


@pytest.mark.usefixtures("_can_have_hosts")
def test_hosts_of_a_process_that_is_gone_are_removed_with_what_runs_in_them() -> None:
    """And those of one that lives stay as they are."""
    prefix = f"sidecar-test-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        (mine,) = stack.enter_context(network(f"{prefix}-{os.getpid()}", ["a"], known_as={"a": ["alpha"]}))
        sleeper, gone = map(int, subprocess.check_output([sys.executable, "-c", LEAVES, prefix], text=True).split())
        theirs = f"{prefix}-{gone}-a"
        assert (NETNS / theirs).exists()
        assert sorted(remove_left_behind(prefix)) == [theirs, f"{prefix}-{gone}-switch"]
        eventually(lambda: not is_alive(sleeper), "what ran there to be ended")
        assert not (NETNS / theirs).exists()
        assert not (ETC / theirs).exists()
        found = subprocess.check_output([*mine.argv(), "getent", "ahostsv4", "alpha"], text=True, timeout=TIMEOUT_S)
        assert found.split()[:3] == [mine.v4, "STREAM", "alpha"]
        assert remove_left_behind(prefix) == []
    assert not (NETNS / mine.name).exists()
    assert not (ETC / mine.name).exists()


def test_who_cannot_have_hosts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, before anything was made; of an unknown program as of a lack of rights."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NamespaceError, match="need root"), network("sidecar-test", []):
        pass
    done = sidecar_command("demo", "--captured", "--single")
    assert (done.returncode, "choose one" in done.stderr) == (2, True)
