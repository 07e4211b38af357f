"""Frames: what the compiler, a supervisor and the data path tell each other."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from sidecar.compile.frames import (
    FrameError,
    Header,
    Kind,
    WantedListener,
    kind_of,
    make_frame,
    problem_frames,
    read_header,
    read_problems,
)
from sidecar.config.problems import Problem
from sidecar.loader.wire import MAX_FRAME_BYTES, prefixed, read_frame

HEADER = Header(
    is_ok=True,
    digest_hex="ab" * 32,
    listeners=(
        WantedListener("outbound", "127.0.0.1:1", "svc", ("outbound", "listen"), 3, 9, "outbound.listen"),
        WantedListener("admin", "[::1]:2", None, (), 1, 1, ""),
    ),
    workers=4,
    warnings=("f:1:1: warning: x", "f:2:1: warning: y"),
)


def read_all(raw: bytes) -> list[bytes]:
    """Every frame of these bytes."""

    async def read() -> list[bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        reader.feed_eof()
        found = []
        while not reader.at_eof():
            found.append(await read_frame(reader))
        return found

    return asyncio.run(read())


def test_a_header_is_read_as_it_was_written() -> None:
    """Listeners, workers, warnings and digest included."""
    assert read_header(HEADER.to_frame()) == HEADER
    assert HEADER.config_hash == "ab" * 6


def test_a_header_of_another_version_is_refused() -> None:
    """A new version may be installed while an old one runs; its frames may mean something else."""
    other = dataclasses.replace(HEADER, version="99.0")
    with pytest.raises(FrameError, match=r"found 99\.0; .*restart"):
        read_header(other.to_frame())


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"garbage",
        make_frame(Kind.END),
        make_frame(Kind.HEADER, b"garbage"),
        make_frame(Kind.HEADER, b"[]"),
        make_frame(Kind.HEADER, json.dumps({"version": HEADER.version}).encode()),
        make_frame(Kind.HEADER, json.dumps({**dataclasses.asdict(HEADER), "more": 1}).encode()),
    ],
)
def test_what_is_no_header_is_refused(frame: bytes) -> None:
    """With the one error that readers expect."""
    with pytest.raises(FrameError, match="expected a "):
        read_header(frame)


def test_problems_come_through_in_order_however_many() -> None:
    """Cut into frames that are read in a moment each."""
    problems = [Problem("f.yaml", line, 1, "a.b", f"message {line}", "hint") for line in range(1, 124)]
    frames = problem_frames(problems)
    assert len(frames) == 3
    assert {kind_of(frame) for frame in frames} == {Kind.PROBLEMS}
    assert [one for frame in frames for one in read_problems(frame)] == problems


def test_what_holds_no_problems_is_refused() -> None:
    """With the one error that readers expect."""
    with pytest.raises(FrameError, match="expected problems"):
        read_problems(make_frame(Kind.PROBLEMS, b"[1]"))


def test_frames_come_off_a_stream_as_they_were_put_on_it() -> None:
    """Verbatim, empty payloads included."""
    frames = [HEADER.to_frame(), make_frame(Kind.ROUTES, b"\0" * 70_000), make_frame(Kind.END)]
    assert read_all(b"".join(map(prefixed, frames))) == frames


@pytest.mark.parametrize(
    "raw", [b"Traceback (most recent call last)", b"\0\0\0\0", (MAX_FRAME_BYTES + 1).to_bytes(4, "little")]
)
def test_what_is_no_frame_is_refused_before_it_is_read(raw: bytes) -> None:
    """A length beyond all reason is not waited for."""
    with pytest.raises(FrameError, match="expected a frame"):
        read_all(raw)


def test_a_stream_that_ends_within_a_frame_is_told_apart_from_its_end() -> None:
    """A compiler that dies half-way has not sent a short frame."""
    with pytest.raises(asyncio.IncompleteReadError):
        read_all(prefixed(HEADER.to_frame())[:-1])
