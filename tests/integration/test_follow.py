"""Files that are followed by a real process: written slowly, secrets, and loads that failed for another reason."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port

WORKERS = pytest.mark.parametrize("workers", ["", "workers: 2"])


@pytest.fixture
def app() -> Iterator[Origin]:
    """The app."""
    with Origin("app") as origin:
        yield origin


def text(app: Origin, more: str = "") -> str:
    """A file with an app."""
    return f"""
        service: storefront
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}
        {more}
    """


def test_a_file_that_is_written_slowly_comes_into_force_whole(tmp_path: Path, app: Origin) -> None:
    """Each of its beginnings is a good file, too, and none of them is what anybody wants."""
    with running_sidecar(tmp_path, text(app)) as sidecar:
        whole = sidecar.complete(text(app)) + "upstreams:\n"
        pieces = [f'  u{number}: {{endpoints: ["127.0.0.1:1"]}}\n' for number in range(60)]
        with sidecar.config.open("w", buffering=1) as file:
            file.write(whole)
            for piece in pieces:
                file.write(piece)
                file.flush()
                time.sleep(0.02)  # the pace of who writes: all of it takes longer than two looks
        eventually(lambda: "u59" in sidecar.admin("/upstreams").json(), "the whole file")
        assert sidecar.generation() == 2
        assert "config_refused" not in sidecar.stderr()


@WORKERS
def test_an_address_that_is_taken_for_a_moment_is_tried_again(tmp_path: Path, app: Origin, workers: str) -> None:
    """Told in the log, shown on the page, and nobody has to touch the file."""
    with running_sidecar(tmp_path, text(app, workers)) as sidecar:
        port = free_port()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            sidecar.rewrite(text(app, f'{workers}\n        outbound: {{listen: "127.0.0.1:{port}"}}'))
            eventually(lambda: "config_load_retry" in sidecar.stderr(), "the load to fail")
            shown = sidecar.admin("/server_info").json()["config"]
            assert (shown["last_load_ok"], shown["generation"]) == (False, 1)
            assert shown["retries"] >= 1
            assert "the address is already in use" in sidecar.stderr()
        sidecar.wait_for_generation(2)
        eventually(lambda: "trigger=retry" in sidecar.stderr(), "the log to say so")
        shown = sidecar.admin("/server_info").json()["config"]
        assert (shown["last_load_ok"], shown["retries"], shown["retry_in_s"]) == (True, 0, None)


@WORKERS
def test_a_file_that_hangs_is_loaded_once_it_is_another(tmp_path: Path, app: Origin, workers: str) -> None:
    """A FIFO that nobody writes to; nothing has to be restarted."""
    with running_sidecar(tmp_path, text(app, workers)) as sidecar:
        fifo, whole = tmp_path / "fifo", tmp_path / "whole"
        os.mkfifo(fifo)
        os.replace(fifo, sidecar.config)
        eventually(lambda: "config_not_followed" in sidecar.stderr(), "the sidecar to look at it")
        whole.write_text(sidecar.complete(text(app, f"{workers}\n        limits: {{max_headers: 99}}")))
        os.replace(whole, sidecar.config)
        sidecar.wait_for_generation(2)


class TestSecrets:
    """`${file:/run/secrets/x}`."""

    def _text(self, app: Origin, secret: Path, workers: str) -> str:
        rule = f'{{request_headers: {{set: {{x-upstream-note: "${{file:{secret}}}"}}}}}}'
        return text(app, workers).replace(f'"127.0.0.1:{app.port}"}}', f'"127.0.0.1:{app.port}", routes: [{rule}]}}')

    @WORKERS
    def test_a_secret_is_sent_followed_and_shown_nowhere(self, tmp_path: Path, app: Origin, workers: str) -> None:
        """As Kubernetes swaps it; without the line feed at its end."""
        for version, value in (("..v1", "hunter2-one\n"), ("..v2", "hunter2-two\n")):
            (tmp_path / version).mkdir()
            (tmp_path / version / "note").write_text(value)
        (tmp_path / "..data").symlink_to("..v1")
        secret = tmp_path / "note"
        secret.symlink_to("..data/note")
        with running_sidecar(tmp_path, self._text(app, secret, workers), "--log-level", "debug") as sidecar:
            assert sent(sidecar, app) == "hunter2-one"
            (tmp_path / "..data_tmp").symlink_to("..v2")
            os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
            sidecar.wait_for_generation(2)
            assert sent(sidecar, app) == "hunter2-two"
            for page in ("/config", "/routes", "/upstreams", "/server_info"):
                assert "hunter2" not in sidecar.admin(page).text, page
            assert "hunter2" not in sidecar.stderr()
            eventually(lambda: f"config_changed files={secret}" in sidecar.stderr(), "the log to say so")

    def test_a_secret_that_is_no_good_is_told_without_it(self, tmp_path: Path, app: Origin) -> None:
        """Neither the log, nor the reply of a reload, nor `/config` has any of it."""
        secret = tmp_path / "note"
        secret.write_text("hunter2-bad")
        with running_sidecar(tmp_path, text(app)) as sidecar:
            sidecar.rewrite(text(app, f'limits: {{max_headers: "${{file:{secret}}}"}}'))
            reply = sidecar.admin("/reload", method="POST")
            assert reply.status == 400
            assert "max_headers" in reply.text
            eventually(lambda: "config_refused" in sidecar.stderr(), "the problem")
            for said in (reply.text, sidecar.stderr(), sidecar.admin("/config").text):
                assert "hunter2" not in said

    def test_a_secret_that_is_missing_is_a_problem_until_it_is_there(self, tmp_path: Path, app: Origin) -> None:
        """The file need not be touched."""
        secret = tmp_path / "note"
        with running_sidecar(tmp_path, text(app)) as sidecar:
            sidecar.rewrite(self._text(app, secret, ""))
            eventually(lambda: f"cannot read `{secret}`: no such file" in sidecar.stderr(), "the problem")
            assert "config_load_retry" not in sidecar.stderr()
            secret.write_text("here")
            sidecar.wait_for_generation(2)
            assert sent(sidecar, app) == "here"


def sent(sidecar: SidecarProcess, app: Origin) -> str:
    """What the app gets in the header of the route."""
    return str(dict(sidecar.inbound("/echo").json()["headers"])["x-upstream-note"])
