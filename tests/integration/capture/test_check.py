"""`sidecar capture check` by a real kernel: what it proves, and that it does not say `proved` of anything else."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

from tests.integration.capture.test_captured_http import FILE
from tests.support.captured import APP, capturing, install
from tests.support.commands import sidecar_command
from tests.support.namespaces import Host, hosts

OUT_4, OWN_4 = "outgoing connections by IPv4", "the sidecar's own by IPv4"
OUT_6, OWN_6 = "outgoing connections by IPv6", "the sidecar's own by IPv6"


def check(host: Host, user: int = 0) -> tuple[int, dict[str, str]]:
    """By root, whose connections are the sidecar's own if they are `user`'s."""
    done: subprocess.CompletedProcess[str] = host.do(
        lambda: sidecar_command("capture", "check", "--json", "--user", user)
    )
    return done.returncode, {one["what"]: one["outcome"] for one in json.loads(done.stdout)}


def test_captured_connections_are_proved_and_others_are_not(tmp_path: Path) -> None:
    """With the exemption of the sidecar's own user, where it asks as that one."""
    inbound = {"incoming connections": "not provable"}
    with hosts(1) as (here,):
        nothing = {OUT_4: "refuted", OUT_6: "refuted"}
        assert check(here, 4711) == (1, {**nothing, OWN_4: "not provable", OWN_6: "not provable", **inbound})
        with capturing(here, tmp_path, FILE) as sidecar:
            all_good = {OUT_4: "proved", OWN_4: "proved", OUT_6: "proved", OWN_6: "proved", **inbound}
            assert check(here) == (0, all_good)
            # Nothing is passed on to where it is proved.
            assert sidecar.metric("sidecar_tcp_connections_opened_total") == 0
            install(here)
            assert here.do(lambda: sidecar_command("capture", "install", "--user", 4711)).returncode == 0
            back = {OUT_4: "proved", OWN_4: "refuted", OUT_6: "proved", OWN_6: "refuted", **inbound}
            assert check(here) == (1, back)


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
                {OUT_4: "refuted", OWN_4: "proved", OUT_6: "not there", "incoming connections": "not provable"},
            )


def test_for_people_it_says_what_it_means() -> None:
    """In a line each."""
    with hosts(1) as (here,):
        said = here.do(lambda: sidecar_command("capture", "check"), APP).stdout
        assert "refuted       outgoing connections by IPv4: nobody has answered" in said
        assert "not provable  incoming connections: from here" in said
