"""`docs/certificates.md` as somebody would try it: its block is typed into a shell, and the rows of its table hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shell import ROOT, Shell
from tests.support.wait import eventually, free_port

TRYING = re.search(
    r"^## Trying it$.*?^```sh\n(?P<block>.*?)^```$(?P<table>.*?)^## ",
    (ROOT / "docs" / "certificates.md").read_text(),
    re.MULTILINE | re.DOTALL,
)
PORTS = (8080, 8443, 15000, 25000, 25001, 25020, 25090)
ROW = re.compile(r"^\| `(.+?)` \| (.+) \|$", re.MULTILINE)
OTHERS = "admin: {{listen: '127.0.0.1:{}'}}\ntelemetry: {{metrics: {{listen: '127.0.0.1:{}'}}}}\n"
"""Listeners that the called sidecar has by itself, of which the page says nothing."""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty directory."""
    opened = Shell(tmp_path)
    try:
        yield opened
    finally:
        opened.close()


def test_the_page_can_be_tried(shell: Shell, tmp_path: Path) -> None:
    """Mutual TLS, TLS outwards and inwards, what comes in clear, a renewal, and what is held."""
    assert TRYING is not None
    ports = {port: free_port() for port in PORTS}

    def own(text: str) -> str:
        for port, free in ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text

    def log_of(name: str) -> str:
        log = tmp_path / f"{name}.log"
        return log.read_text() if log.exists() else ""

    called = "service: recommendations\n"
    shell.type(own(TRYING["block"]).replace(called, called + OTHERS.format(free_port(), free_port())))
    rows = ROW.findall(own(TRYING["table"]))
    for command, result in rows:
        if result.startswith("200"):
            asks = f"{command} -sS -o answer -w '%{{http_code}}\\n'"
            eventually(lambda asks=asks: shell.type(asks).strip() == "200", f"`{command}` to be answered", 60)
        elif result.startswith("no answer"):
            assert shell.type(f"{command} -s; echo $?").strip() in ("52", "56")
            eventually(lambda: "client_tls_failed" in log_of("recommendations"), "the line that says why")
        elif command.startswith("issue"):
            shell.type(command)
            eventually(lambda: "certificate_replaced" in log_of("storefront"), "the renewal", 60)
        else:
            held = json.loads(shell.type(f"{command} -s; echo"))
            assert held["identity"]["id"] == "spiffe://shop/storefront"
    assert len(rows) == 6
