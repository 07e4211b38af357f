"""One process or several: what is decided before anything starts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.compile.frames import ControlSettings, Header, Kind, make_frame, read_header
from sidecar.workers.start import Settled, must_be_read

TWO = Header(True, "ab", workers=2)
FILE = [make_frame(Kind.SETTINGS, b"s"), make_frame(Kind.END)]


class Source:
    """Has a file that asks for so many workers."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.is_closed = False

    async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        try:
            yield self.header.to_frame()
            for frame in FILE:
                yield frame
        finally:
            self.is_closed = True


def taken(source: Settled, trigger: str = "file") -> list[bytes]:
    """All frames of one load."""

    async def run() -> list[bytes]:
        return [frame async for frame in source.frames(trigger)]

    return asyncio.run(run())


def test_frames_that_are_here_already_serve_the_first_load() -> None:
    """And no other."""
    header = Header(True, "ab", workers=2)
    settled = Settled("f", Source(header), TWO, [b"first", b"load"])
    assert taken(settled, "start") == [b"first", b"load"]
    assert taken(settled) == [header.to_frame(), *FILE]


def test_another_number_of_workers_is_refused() -> None:
    """As a file that was read: it is not read again until it changes."""
    source = Source(Header(True, "ab" * 32, workers=3))
    header, end = taken(Settled("f.yaml", source, TWO))
    refusal = read_header(header)
    assert (refusal.is_ok, refusal.digest_hex) == (False, "ab" * 32)
    assert refusal.error.startswith("f.yaml: workers: expected 2 as at the start, found 3; nothing was changed")
    assert end == make_frame(Kind.END)
    assert source.is_closed


def test_another_control_plane_is_refused() -> None:
    """Whoever is registered stays who it is."""
    settled = replace(TWO, control=ControlSettings(("http://a:1",), "shop"))
    header, _ = taken(Settled("f", Source(replace(TWO, control=ControlSettings(("http://b:1",), "shop"))), settled))
    assert read_header(header).error.startswith("f: control: expected the control plane, the service and the names as")
    assert taken(Settled("f", Source(settled), settled)) == [settled.to_frame(), *FILE]


@pytest.mark.parametrize("header", [Header(False, "ab", error="broken", workers=1), Header(True, "ab", workers=2)])
def test_everything_else_passes_as_it_is(header: Header) -> None:
    """Problems of the file first."""
    assert taken(Settled("f", Source(header), TWO)) == [header.to_frame(), *FILE]


def test_only_files_that_speak_of_workers_or_of_a_control_plane_are_waited_for(tmp_path: Path) -> None:
    """Whatever cannot be read twice is; what is not there is left to whoever says so."""
    path = tmp_path / "f.yaml"
    assert not must_be_read(str(path))
    path.write_text("service: s\n")
    assert not must_be_read(str(path))
    for line in ("workers: 1", "workers:  1  # one", "# workers: 2", "  # workers"):
        path.write_text(f"service: s\n{line}\noutbound: {{}}\n")
        assert not must_be_read(str(path)), line
    for line in ("workers: 2", "workers: auto", "workers: ${N:-1}", "workers: 10", "  workers: 1", '"workers": 1'):
        path.write_text(f"service: s\n{line}\noutbound: {{}}\n")
        assert must_be_read(str(path)), line
    for line in ("control: http://c:1", "control:", "'control' : x", "# a\ncontrol: {addresses: []}"):
        path.write_text(f"service: s\n{line}\noutbound: {{}}\n")
        assert must_be_read(str(path)), line
    path.write_text("service: s\noutbound: {routes: [{response_headers: {set: {cache-control: no-store}}}]}\n")
    assert not must_be_read(str(path))
    os.mkfifo(tmp_path / "pipe")
    assert must_be_read(str(tmp_path / "pipe"))


def test_a_supervisor_has_nothing_of_the_data_path() -> None:
    """Nor of what reads a file: it is small, and stays so."""
    program = "import sys, sidecar.workers.start, sidecar.workers.supervisor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    rooms = tuple(f"sidecar.{room}" for room in ("proxy", "upstream", "routing", "http1"))
    assert [name for name in loaded if name.startswith((*rooms, "pydantic", "yaml", "re2", "opentelemetry"))] == []
    assert "sidecar.workers.supervisor" in loaded
