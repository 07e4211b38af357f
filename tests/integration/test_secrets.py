"""No exit of a running sidecar shows a secret: pages, replies, log, taps, in one process and in several."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.support.commands import sidecar_command
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually

VARIABLES = {"API_KEY": "s3cr3t-Key-of-a-partner", "DB_PASSWORD": "s3cr3t-Pass word", "PLAIN": "s3cr3t-of-no-name"}
SHOWN = "s3cr3t"

TEXT = """
service: x
workers: {workers}
outbound:
  listen: "127.0.0.1:${{OUTBOUND_PORT}}"
  routes:
    - match:
        host: a
        headers: {{x-api-key: "${{API_KEY}}", x-partner: "${{API_KEY}}", authorization: {{prefix: "${{PLAIN}}"}}}}
        cookies: {{session: "${{PLAIN}}", BETA: shown-cookie}}
        query: {{token: "${{PLAIN}}"}}
        path: {{prefix: "/${{API_KEY}}"}}
      to: v1
      request_headers: {{set: {{authorization: "Bearer ${{PLAIN}}", x-other: "k=${{DB_PASSWORD}}"}}}}
      fault: {{abort: {{percent: 0%, status: 503}}, header: {{cookie: "${{PLAIN}}"}}}}
upstreams:
  v1: {{endpoints: ["127.0.0.1:{port}"], hosts: ["v1", "${{API_KEY}}"]}}
tests:
  - name: a partner
    request: {{url: "http://a/?token=s3cr3t-in-a-url", headers: {{x-api-key: "${{API_KEY}}"}}}}
    expect: {{status: 404}}
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_no_exit_of_a_running_sidecar_shows_a_secret(tmp_path: Path, workers: int) -> None:
    """A good file on every page, then one with problems in the log, on the page, in the reply; and a tap."""
    with Origin("v1") as origin:
        text = TEXT.format(workers=workers, port=origin.port)
        with running_sidecar(tmp_path, text, env=VARIABLES) as sidecar:
            seen = _tapped(sidecar)
            pages = {path: sidecar.admin(path).text for path in ("/config", "/routes", "/upstreams", "/server_info")}
            for path, page in pages.items():
                assert SHOWN not in page.lower(), path
            assert "shown-cookie" in pages["/config"]
            assert "shown-cookie" in pages["/routes"]
            assert "[redacted]" in pages["/routes"]
            sidecar.rewrite(text + 'drain: {timeout: "${DB_PASSWORD}"}\n'
                            'limits: {max_headers: "${PLAIN}", header_timeout: 1x}\n')  # fmt: skip
            reply = sidecar.admin("/reload", method="POST")
            assert reply.status == 400
            assert "${DB_PASSWORD}" in reply.text
            eventually(lambda: "config_refused" in sidecar.stderr(), "the refusal in the log")
            for exit_ in (reply.text, sidecar.admin("/config").text, sidecar.stderr(), seen):
                assert SHOWN not in exit_.lower()


def _tapped(sidecar: SidecarProcess) -> str:
    """What a tap shows of a request with secrets under several names."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(sidecar.admin("/tap?limit=1").text))
    thread.start()
    secret = VARIABLES["API_KEY"]
    headers = {"x-api-key": secret, "x-partner": secret, "authorization": SHOWN, "x-plain": "shown-value"}

    def asked() -> bool:
        sidecar.outbound(f"/who?token={SHOWN}&page=2", host="v1", headers=headers)
        return not thread.is_alive()

    eventually(asked, "the tap to see a request")
    thread.join(10)
    assert "shown-value" in found[0]
    assert "page=2" in found[0]
    return found[0]


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_check_shows_no_secret(tmp_path: Path, option: list[str]) -> None:
    """Neither of values by themselves, nor of rules between them, nor of the file's own tests."""
    file = tmp_path / "sidecar.yaml"
    bad = 'upstreams: {a: {dns: "${DB_PASSWORD}"}, b: {endpoints: ["h:${API_KEY}"]}}'
    failing = """
outbound: {routes: [{match: {headers: {x-api-key: "${API_KEY}"}}, respond: {status: 200}}]}
tests:
  - name: "the key ${API_KEY} is let in"
    request: {url: "http://a/", headers: {x-api-key: other, authorization: "${PLAIN}"}}
    expect: {status: 200}
"""
    for text in (f"service: s\noutbound: {{}}\n{bad}\n", f"service: s\n{failing}"):
        file.write_text(text)
        result = sidecar_command("check", *option, file, env=VARIABLES)
        assert result.returncode == 1
        assert SHOWN not in (result.stdout + result.stderr).lower()
        if option:
            assert json.loads(result.stdout)["problems"]
