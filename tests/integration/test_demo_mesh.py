"""The demonstration of a mesh: a control plane and services as real processes, unattended, live, and ended."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.demo import assert_nothing_is_left, running
from tests.support.wait import eventually

CLAIMS = 15
CHILDREN = 14
"""The control plane; six sidecars and their apps; the service outside of the mesh."""


@pytest.mark.long
def test_unattended_run_settles_every_claim(tmp_path: Path) -> None:
    """
    `sidecar demo --seconds 2` holds all its claims: an edit, the waves, a mistake, a control plane that is killed and
    comes back, no request lost through all of it, and every request refused of whom nobody has admitted.
    """
    with running(tmp_path, "--seconds", "2", "--requests-per-second", "25") as demo:
        pids = demo.pids()
        assert len(pids) == CHILDREN
        assert demo.wait(180) == 0, demo.output + demo.stderr()
        assert re.findall(r"^FAILED.*", demo.output, re.MULTILINE) == []
        assert len(re.findall(r"^ok    ", demo.output, re.MULTILINE)) == CLAIMS
        assert demo.output.endswith(f"\n{CLAIMS} claims hold, 0 do not")
        assert re.search(
            r"^  rollout of revision \d+ to recommendations: routes, wave one, ", demo.output, re.MULTILINE
        )
        assert_nothing_is_left(demo, pids)
        assert demo.stderr() == ""


@pytest.mark.long
def test_live_run_shows_edits_and_ends_on_interrupt(tmp_path: Path) -> None:
    """The map answers, an edit is seen, a mistake is named with its place, and Ctrl-C ends all with 0."""
    with running(tmp_path, "--requests-per-second", "25") as demo:
        pids = demo.pids()
        file = Path(demo.wait_for(r"^  edit:     (\S+)  ")[1])
        demo.wait_for(r"storefront -> recommendations@stable \d+/s")
        text = file.read_text()
        file.write_text(text.replace("stable: 95, beta: 5", "stable: 50, beta: 50"))
        demo.wait_for(r"^  rollout of revision 2 to storefront: ")
        file.write_text(text.replace("    match: {cookies", "    mach: {cookies", 1))
        demo.wait_for(r"^  the mesh's files are refused; .*\n    services/recommendations\.yaml:\d+:\d+: .*`mach`")
        file.write_text(text)
        os.kill(pids[0], signal.SIGKILL)
        demo.wait_for(r"\| the control plane is away$")
        demo.process.send_signal(signal.SIGINT)
        demo.wait()
        assert re.search(
            r"^ended: \d+ requests answered, 0 failed; exit codes: control -9, ", demo.output, re.MULTILINE
        )
        assert_nothing_is_left(demo, pids)
        assert demo.stderr() == ""


@pytest.mark.long
def test_a_sidecar_that_dies_ends_the_demonstration(tmp_path: Path) -> None:
    """Its name and its exit code are told, and nothing stays behind."""
    with running(tmp_path, "--requests-per-second", "25") as demo:
        pids = demo.pids()
        demo.wait_for(r"^\d+ answered, 0 failed")
        os.kill(pids[1], signal.SIGKILL)
        eventually(lambda: demo.process.poll() is not None, "the end", 60)
        assert demo.wait() == 1
        assert re.search(r"^the demonstration failed: \S+-sidecar has ended with code -9", demo.stderr(), re.MULTILINE)
        assert_nothing_is_left(demo, pids)
