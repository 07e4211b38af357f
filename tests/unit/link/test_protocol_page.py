"""`docs/mesh-protocol.md` says what the code does: its examples are read, and every field has its place."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

from sidecar.link.fields import encode
from sidecar.link.known_endpoints import KnownEndpoints
from sidecar.link.messages import Ask, Config, Current, Endpoints, endpoints_version, read_line, read_poll
from sidecar.link.report import LATENCY_BOUNDS_S, read_report, write_report

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mesh-protocol.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_every_line_is_understood() -> None:
    """One of each type, and each is none that this release does not know."""
    lines = [read_line(line.encode()) for line in blocks("jsonl")[0].splitlines()]
    assert None not in lines
    assert {type(line).__name__ for line in lines} == {
        "Config", "Current", "Absent", "Endpoints", "Ping", "Ask", "Move", "Left", "Renew",
    }  # fmt: skip
    first, second = (line for line in lines if isinstance(line, Config | Current))
    assert first.hash == second.hash
    assert [line.body["request"]["method"] for line in lines if isinstance(line, Ask)] == ["GET"]


def test_changes_of_endpoints_fit() -> None:
    """The versions are those of the code, and of the command that the page names."""
    known = KnownEndpoints({})
    lines = (read_line(line.encode()) for line in blocks("jsonl")[0].splitlines())
    changes = [line for line in lines if isinstance(line, Endpoints)]
    for change in changes:
        assert asyncio.run(known.apply(change)) is not None
    command = next(block for block in blocks("sh") if "sha256sum" in block)
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    assert said == changes[-1].version == endpoints_version(known.entries()["recommendations.beta"])
    assert f"`{endpoints_version([])}`" in PAGE


def test_poll_and_report_are_understood() -> None:
    """And the report has every field that a report has."""
    poll, report = blocks("json")[:2]
    assert len(read_poll(poll.encode())) == 2
    read = read_report(report.encode())
    written = json.loads(write_report(read))
    assert written == json.loads(report)
    assert read.edges[0].requests == sum(read.edges[0].latency)
    for name in (*written, *written["config"], *written["refused"], *written["edges"][0]):
        assert f"`{name}`" in PAGE or name in ("request_bytes", "response_bytes", "latency"), name
    assert encode(written) == write_report(read)


def test_bounds_are_those_of_the_code() -> None:
    """In seconds, in order."""
    listed = re.search(r"upper bounds ([0-9., \n]+) and 10 s", PAGE)
    assert listed is not None
    assert tuple(float(one) for one in [*listed[1].replace("\n", " ").split(","), "10"]) == LATENCY_BOUNDS_S
