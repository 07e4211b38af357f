"""
`docs/mesh-start.md` as somebody would follow it: every command of the page is typed into a shell, and must show what
the page shows.

A block `sh` is run once. A block `console` has commands after `$` and what they print; such a command changes nothing,
so it is repeated until it prints that. Words that begin with a digit may differ, and so does what stands for dots.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.shell import ROOT, Shell
from tests.support.wait import eventually, free_port

PAGE = (ROOT / "docs" / "mesh-start.md").read_text()
BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOLE_PORTS = (8080, 8081, 8082, 8090, 15010, 15014)
"""Ports of the page, each of which becomes another one that is free here."""
FAMILIES = (250, 251, 252)
"""The first digits of each sidecar's four ports."""
LAST_DIGITS = ("00", "01", "20", "90")
PAUSE_S = 0.5
"""Before a command is typed again: each is a process, and those that it asks about want the CPU to start."""


@pytest.fixture
def ports() -> dict[int, int]:
    """A free port for each of those that the page names."""
    return {port: free_port() for port in SOLE_PORTS}


@pytest.fixture
def shell(tmp_path: Path, ports: dict[int, int]) -> Iterator[Shell]:
    """A shell in an empty directory."""
    # Which the page leaves as they are by default.
    environment = {
        "SIDECAR_CONTROL": f"http://127.0.0.1:{ports[15010]}",
        "SIDECAR_CONTROL_LISTEN": f"127.0.0.1:{ports[15010]}",
        "SIDECAR_CONTROL_OPS_LISTEN": f"127.0.0.1:{ports[15014]}",
    }
    opened = Shell(tmp_path, environment)
    try:
        yield opened
    finally:
        opened.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _with(ports: Mapping[int, int], page: str) -> str:
    """The page with free ports in place of those that it names."""
    for port, own in ports.items():
        page = re.sub(rf"\b{port}\b", str(own), page)
    # In the block of ports that this test run has for itself, beyond those that were just given.
    block = ports[SOLE_PORTS[0]] // 1000 * 10
    free = (
        str(one) for one in range(block + 9, block, -1) if all(_is_free(int(f"{one}{last}")) for last in LAST_DIGITS)
    )
    for family in FAMILIES:
        page = re.sub(rf"\b{family}(?=\b|{'|'.join(LAST_DIGITS)}\b)", next(free), page)
    return page


def _commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block `console` with the lines that it prints."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield command, shown


def _plain(line: str) -> str:
    """A line without what may differ."""
    return " ".join("#" if word[0].isdigit() else word for word in re.split(r"[\s=]+", line.strip()) if word)


def _shows(printed: str, wanted: list[str]) -> bool:
    """Whether the lines are those, or where one is dots, whatever number of any in its place."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else re.escape(_plain(line)) + r"\n" for line in wanted)
    pattern = pattern.replace(re.escape("..."), ".*")
    text = "".join(f"{_plain(line)}\n" for line in printed.splitlines())
    return re.fullmatch(pattern, text) is not None


def _share_of_canary(printed: str) -> float:
    counts = {name: int(number) for number, name in re.findall(r"(\d+) I am (\w+)", printed)}
    return counts["v2"] / sum(counts.values())


@pytest.mark.long
def test_the_page_can_be_followed(shell: Shell, ports: dict[int, int]) -> None:
    """From an empty directory to a control plane that was killed and came back."""
    shares: list[float] = []
    for kind, block in BLOCK.findall(_with(ports, PAGE)):
        if kind == "sh":
            shell.type(block)
            continue
        for command, wanted in _commands(block):
            printed = ""

            def is_as_shown(command: str = command, wanted: list[str] = wanted) -> bool:
                nonlocal printed
                printed = shell.type(command)
                is_shown = _shows(printed, wanted)
                if not is_shown:
                    time.sleep(PAUSE_S)
                return is_shown

            try:
                eventually(is_as_shown, f"`{command}` to print what the page shows", 60)
            except AssertionError as error:
                shown = "\n".join(wanted)
                raise AssertionError(f"{error}\nwanted:\n{shown}\nprinted:\n{printed}") from None
            if "[1-200]" in command or "[201-400]" in command:
                shares.append(_share_of_canary(printed))
    before, after, without_control = shares
    # 200 requests each: five standard deviations are 0.08 and 0.18.
    assert before < 0.13
    assert abs(after - 0.5) < 0.18
    assert abs(without_control - 0.5) < 0.18
