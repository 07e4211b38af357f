"""The process log waits for nobody, and no peer decides how much is written."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator

import pytest

from sidecar.process_log import BURST, PER_SECOND, BoundedStream, Sites

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe of one page, as read and write end."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def read_all(reader: int, size: int) -> str:
    """So many octets."""
    octets = b""
    while len(octets) < size:
        octets += os.read(reader, 65536)
    return octets.decode()


class TestBoundedStream:
    """A stream whose reader may be anybody."""

    def test_what_is_written_arrives_in_order(self, pipe: Pipe) -> None:
        """`finish` returns when it has."""
        stream = BoundedStream(pipe[1])
        for number in range(100):
            stream.write(f"line {number}\n")
        stream.finish(60.0)
        expected = "".join(f"line {number}\n" for number in range(100))
        assert read_all(pipe[0], len(expected)) == expected

    def test_a_reader_that_does_not_read_costs_lines_and_no_time(self, pipe: Pipe) -> None:
        """They are counted; when it reads again it is told how many."""
        stream = BoundedStream(pipe[1], max_bytes=8192)
        line = "x" * 1023 + "\n"
        for _ in range(100):
            stream.write(line)
        lost = stream.lost["buffer_full"]
        assert lost >= 100 - (4096 + 8192 + 1024) // 1024
        text, told = "", 0
        while told < lost:
            text += read_all(pipe[0], 1)
            told = sum(int(count) for count in re.findall(r" warning process_log_lines_dropped count=(\d+)\n", text))
        assert told == lost
        assert text.count("x" * 1023) <= 100 - lost

    def test_the_end_does_not_wait_for_a_reader_that_does_not_read(self) -> None:
        """What waits then is lost."""
        # Not closed: its thread goes on writing to this number, which would be another test's pipe.
        _, writer = os.pipe()
        stream = BoundedStream(writer)
        stream.write("x" * 100_000)
        stream.finish(0.01)

    def test_a_reader_that_has_gone_costs_lines(self) -> None:
        """And no exception (SIGPIPE is ignored by Python)."""
        reader, writer = os.pipe()
        os.close(reader)
        stream = BoundedStream(writer)
        stream.write("a\nb\n")
        stream.finish(60.0)
        os.close(writer)
        assert stream.lost == {"buffer_full": 0, "write_failed": 2}

    def test_a_descriptor_that_somebody_made_non_blocking_is_waited_for(self, pipe: Pipe) -> None:
        """Standard error is shared with whoever started us."""
        os.set_blocking(pipe[1], False)
        stream = BoundedStream(pipe[1])
        text = "y" * 20_000
        stream.write(text)
        assert read_all(pipe[0], len(text)) == text

    def test_what_is_no_unicode_is_escaped(self, pipe: Pipe) -> None:
        """A file's name may hold any octets."""
        stream = BoundedStream(pipe[1])
        stream.write("a\udcffb\n")
        assert read_all(pipe[0], 1) == "a\\udcffb\n"


class Clock:
    """Held by the test."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def record(line: int = 1) -> logging.LogRecord:
    """Written at this line of a file."""
    return logging.LogRecord("sidecar.x", logging.WARNING, "f.py", line, "refused peer=%s", ("p",), None)


class TestSites:
    """So many lines a place in the source."""

    def test_a_burst_passes_and_then_a_few_a_second(self) -> None:
        """Whoever makes us write a line a connection fills no disk."""
        clock = Clock()
        sites = Sites(clock)
        assert sum(sites.filter(record()) for _ in range(BURST + 50)) == BURST
        clock.now_s = 1.0
        assert sum(sites.filter(record()) for _ in range(100)) == PER_SECOND
        assert sites.left_out == 50 + 100 - PER_SECOND

    def test_the_next_line_says_how_many_were_left_out(self) -> None:
        """Once."""
        clock = Clock()
        sites = Sites(clock)
        for _ in range(BURST + 7):
            sites.filter(record())
        clock.now_s = 1.0
        first, second = record(), record()
        assert sites.filter(first)
        assert sites.filter(second)
        assert first.getMessage() == "refused peer=p left_out=7"
        assert second.getMessage() == "refused peer=p"

    def test_places_do_not_take_from_each_other(self) -> None:
        """What an operator has to know is not lost in a flood of something else."""
        sites = Sites(Clock())
        for _ in range(2 * BURST):
            sites.filter(record(1))
        assert sites.filter(record(2))
