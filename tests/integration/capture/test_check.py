"""`sidecar capture check` by a real kernel: what it proves, and that it does not say `proved` of anything else."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from sidecar.capture import proof
from tests.integration.capture.test_captured_http import FILE
from tests.support.captured import APP, CapturingSidecar, app, capturing, get, install
from tests.support.commands import sidecar_command
from tests.support.namespaces import Host, hosts
from tests.support.wait import eventually

OUT_4, OWN_4, OUT_6, OWN_6, IN = "outgoing IPv4", "own IPv4", "outgoing IPv6", "own IPv6", "incoming"


@pytest.fixture
def _is_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what nobody will ever answer."""
    monkeypatch.setattr(proof, "WAIT_S", 0.1)


def check(host: Host, user: int = 0) -> tuple[int, dict[str, str]]:
    """By root, whose connections are the sidecar's own if they are `user`'s."""
    done: subprocess.CompletedProcess[str] = host.do(
        lambda: sidecar_command("capture", "check", "--json", "--user", user)
    )
    return done.returncode, {
        f"{one['what']} {one['family']}".strip(): one["outcome"] for one in json.loads(done.stdout)
    }


def test_captured_connections_are_proved_and_others_are_not(tmp_path: Path) -> None:
    """With the exemption of the sidecar's own user, where it asks as that one."""
    inbound = {IN: "not provable"}
    with hosts(1) as (here,):
        nothing = {OUT_4: "refuted", OUT_6: "refuted"}
        assert check(here, 4711) == (1, {**nothing, OWN_4: "not provable", OWN_6: "not provable", **inbound})
        with capturing(here, tmp_path, FILE) as sidecar:
            all_good = {OUT_4: "proved", OWN_4: "proved", OUT_6: "proved", OWN_6: "proved", **inbound}
            assert check(here) == (0, all_good)
            # Nothing is passed on to where it is proved.
            assert sidecar.metric("sidecar_tcp_connections_opened_total") == 0
            assert here.do(lambda: sidecar_command("capture", "install", "--user", 4711)).returncode == 0
            back = {OUT_4: "proved", OWN_4: "refuted", OUT_6: "proved", OWN_6: "refuted", **inbound}
            assert check(here) == (1, back)


@pytest.mark.usefixtures("_is_in_a_hurry")
def test_rules_without_a_sidecar_that_captures_are_refuted(tmp_path: Path) -> None:
    """Nobody listens; somebody else does; and a sidecar whose file does not say so."""
    with hosts(1, v6=False) as (here,):
        install(here)
        assert check(here)[1][OUT_4] == "refuted"
        with here.do(lambda: socket.create_server(("127.0.0.1", 15001))):
            assert check(here)[1][OUT_4] == "refuted"
        with capturing(here, tmp_path, FILE.replace("capture: {}\n", "")):
            assert check(here) == (
                1,
                {OUT_4: "refuted", OWN_4: "proved", OUT_6: "not there", IN: "not provable"},
            )


@pytest.mark.usefixtures("_is_in_a_hurry")
def test_for_people_it_says_what_it_means() -> None:
    """In a line each."""
    with hosts(1) as (here,):
        said = here.do(lambda: sidecar_command("capture", "check"), APP).stdout
        assert "refuted       outgoing connections by IPv4: nobody has answered" in said
        assert "not provable  incoming connections: from here" in said


def test_sidecar_that_requires_it_is_ready_when_it_is_proved(tmp_path: Path) -> None:
    """And shows what was found out."""
    with hosts(1) as (here,):
        sidecar = CapturingSidecar(here, tmp_path)
        sidecar.rewrite(FILE.replace("capture: {}", "capture: {required: true}"))
        sidecar.start()
        try:
            eventually(lambda: "not captured" in ready(sidecar), "the sidecar to say what it waits for")
            install(here)
            sidecar.wait_ready()
            assert sidecar.metric("sidecar_capture_proved", what="outgoing") == 2
            found = sidecar.admin("/server_info").json()["capture"]
            assert {(one["what"], one["outcome"]) for one in found} == {
                ("outgoing", "proved"), ("own", "proved"), ("incoming", "not provable"),
            }  # fmt: skip
        finally:
            sidecar.kill()


def ready(sidecar: CapturingSidecar) -> str:
    try:
        return sidecar.metrics("/ready").text
    except OSError:
        return ""


def test_sidecar_whose_own_connections_come_back_passes_none_on(tmp_path: Path) -> None:
    """They would come back for ever; each is refused with the reason."""
    with hosts(2) as (here, there), app(there, 80, "eighty"):
        sidecar = CapturingSidecar(here, tmp_path)
        sidecar.rewrite(FILE)
        assert here.do(lambda: sidecar_command("capture", "install", "--user", 4711)).returncode == 0
        sidecar.start()
        try:
            sidecar.wait_ready()
            own = "capture what=own family=IPv4 outcome=refuted"
            eventually(lambda: own in sidecar.stderr(), "the sidecar to find out")
            assert get(here, there.v4, 80)[0] == 508
            (line,) = sidecar.wait_for_log_lines(1)
            assert line["response_code_details"] == "loop"
            assert "comes back to this sidecar" in line["detail"]
        finally:
            sidecar.kill()
