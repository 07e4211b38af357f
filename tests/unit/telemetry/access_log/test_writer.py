"""The access log's file, in good times and bad."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.telemetry.access_log import writer
from sidecar.telemetry.access_log.writer import LogFile, LogLosses
from sidecar.telemetry.outbox import Outbox
from tests.support.wait import eventually


def lines(count: int, size: int = 10) -> list[bytes]:
    """So many lines, told apart by their number."""
    return [b"%0*d\n" % (size - 1, number) for number in range(count)]


class TestOutbox:
    """Items between two threads."""

    def test_items_come_out_in_order_and_within_the_limits(self) -> None:
        """By count, by octets, and one at least."""
        outbox = Outbox(1000, 1 << 30, list)
        for item in (b"a", b"bb", b"ccc", b"dddd"):
            outbox.put(item)
        assert outbox.take(2, 100) == [b"a", b"bb"]
        assert outbox.take(9, 2) == [b"ccc"]
        assert outbox.waiting_bytes == 4
        assert outbox.take(9, 4) == [b"dddd"]
        assert outbox.take(9, 4) == []
        assert outbox.waiting_bytes == 0

    def test_what_does_not_fit_is_refused_and_counted(self) -> None:
        """Up to the last octet; there is room again when something was taken."""
        outbox = Outbox(10, 1 << 30, list)
        for _ in range(3):
            outbox.put(b"x" * 5)
        assert (len(outbox), outbox.refused) == (2, 1)
        outbox.take(1, 100)
        outbox.put(b"x" * 5)
        assert (len(outbox), outbox.refused) == (2, 1)

    def test_the_thread_is_woken_when_much_waits_and_not_for_each_item(self) -> None:
        """Whenever so much has come since it was woken last, taken or not."""
        woken: list[int] = []
        outbox = Outbox(1000, 100, lambda: woken.append(len(outbox)))
        for _ in range(25):
            outbox.put(b"x" * 10)
        assert woken == [10, 20]


class TestWriting:
    """A regular file."""

    def test_lines_are_appended_in_order(self, tmp_path: Path) -> None:
        """What was in the file stays."""
        path = tmp_path / "access.log"
        path.write_bytes(b"before\n")
        log_file = LogFile(str(path), LogLosses())
        for line in lines(5000):
            log_file.write(line)
        log_file.turn()
        assert path.read_bytes() == b"before\n" + b"".join(lines(5000))

    def test_the_thread_writes_and_stopping_flushes(self, tmp_path: Path) -> None:
        """Lines written before `stop` are in the file after `join`, and nothing is lost."""
        path = tmp_path / "access.log"
        losses = LogLosses()
        log_file = LogFile(str(path), losses)
        log_file.start()
        for line in lines(3000):
            log_file.write(line)
        log_file.stop(5)
        log_file.join(10)
        assert path.read_bytes() == b"".join(lines(3000))
        assert (losses.shutdown, losses.write_failed, log_file.refused) == (0, 0, 0)

    def test_the_buffer_is_bounded(self, tmp_path: Path) -> None:
        """What nobody writes is dropped and counted."""
        log_file = LogFile(str(tmp_path / "access.log"), LogLosses(), max_buffer_bytes=100)
        for line in lines(15):
            log_file.write(line)
        assert log_file.refused == 5
        log_file.turn()
        assert (tmp_path / "access.log").read_bytes() == b"".join(lines(10))

    def test_stdout_is_the_descriptor_and_not_the_path(self, capfd: pytest.CaptureFixture[str]) -> None:
        """A container's user may write to the pipe but not open it."""
        log_file = LogFile("/dev/stdout", LogLosses())
        log_file.write(b"line\n")
        log_file.turn()
        log_file.reopen()
        log_file.write(b"after reopening\n")
        log_file.turn()
        assert capfd.readouterr().out == "line\nafter reopening\n"
        assert os.fstat(1)  # still open


class TestRotation:
    """logrotate moves the file and sends SIGUSR1, or sends nothing."""

    def test_reopening_writes_to_a_new_file(self, tmp_path: Path) -> None:
        """What came before is in the old one."""
        path = tmp_path / "access.log"
        log_file = LogFile(str(path), LogLosses())
        log_file.write(b"old\n")
        log_file.turn()
        path.rename(tmp_path / "access.log.1")
        log_file.reopen()
        log_file.write(b"new\n")
        log_file.turn()
        assert (tmp_path / "access.log.1").read_bytes() == b"old\n"
        assert path.read_bytes() == b"new\n"

    @pytest.mark.parametrize("how", ["moved", "removed"])
    def test_a_file_that_went_away_is_made_anew_by_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """Within a second, without a signal."""
        now = [100.0]
        monkeypatch.setattr(writer.time, "monotonic", lambda: now[0])
        path = tmp_path / "access.log"
        log_file = LogFile(str(path), LogLosses())
        log_file.write(b"old\n")
        log_file.turn()
        if how == "moved":
            path.rename(tmp_path / "access.log.1")
            path.write_bytes(b"")
        else:
            path.unlink()
        now[0] += 1.0
        log_file.write(b"new\n")
        log_file.turn()
        assert path.read_bytes() == b"new\n"


class TestTrouble:
    """Lines are lost and counted; it is logged once; then it works again."""

    def test_a_full_disk_is_counted_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """/dev/full says ENOSPC to every write."""
        losses = LogLosses()
        log_file = LogFile("/dev/full", losses)
        with caplog.at_level(logging.INFO, "sidecar.telemetry"):
            for _ in range(3):
                for line in lines(10):
                    log_file.write(line)
                log_file.turn()
        assert losses.write_failed == 30
        assert [record.getMessage() for record in caplog.records] == [
            "access_log_failed path='/dev/full' error=[Errno 28] No space left on device; "
            "lines are dropped and counted until it works again"
        ]

    def test_a_closed_pipe_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever read our standard output has gone."""
        reading, writing = os.pipe()
        os.close(reading)
        monkeypatch.setitem(writer._STREAMS, "/dev/stdout", writing)
        losses = LogLosses()
        log_file = LogFile("/dev/stdout", losses)
        log_file.write(b"line\n")
        log_file.turn()
        os.close(writing)
        assert losses.write_failed == 1

    def test_a_directory_that_is_missing_is_no_harm_and_recovery_is_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When it is there, lines are written again."""
        losses = LogLosses()
        path = tmp_path / "logs" / "access.log"
        log_file = LogFile(str(path), losses)
        with caplog.at_level(logging.INFO, "sidecar.telemetry"):
            log_file.write(b"lost\n")
            log_file.turn()
            path.parent.mkdir()
            log_file.write(b"kept\n")
            log_file.turn()
        assert path.read_bytes() == b"kept\n"
        assert losses.write_failed == 1
        assert [record.getMessage().split()[0] for record in caplog.records] == [
            "access_log_failed",
            "access_log_recovered",
        ]

    def test_a_path_that_no_system_takes_is_no_harm(self) -> None:
        """A NUL in the path is a ValueError and not an OSError."""
        losses = LogLosses()
        log_file = LogFile("/tmp/a\0b", losses)
        log_file.write(b"line\n")
        log_file.turn()
        assert losses.write_failed == 1

    def test_a_line_cut_by_a_full_disk_does_not_join_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The torn line ends before the next begins; whole lines before it count as written."""
        room = [25]
        write = os.write

        def limited(descriptor: int, octets: memoryview) -> int:
            if room[0] == 0:
                raise OSError(28, "No space left on device")
            part = octets[: room[0]]
            room[0] -= len(part)
            return write(descriptor, part)

        path = tmp_path / "access.log"
        losses = LogLosses()
        log_file = LogFile(str(path), losses)
        monkeypatch.setattr(writer.os, "write", limited)
        for line in lines(4):
            log_file.write(line)
        log_file.turn()
        assert losses.write_failed == 2
        log_file.write(b"still none\n")
        log_file.turn()
        assert losses.write_failed == 3
        room[0] = 1000
        log_file.write(b"new\n")
        log_file.turn()
        assert path.read_bytes() == b"000000000\n000000001\n00000\nnew\n"

    def test_a_pipe_that_nobody_reads_loses_lines_but_never_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Handing over returns at once; stopping gives up at its deadline and counts."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        monkeypatch.setitem(writer._STREAMS, "/dev/stdout", writing)
        losses = LogLosses()
        log_file = LogFile("/dev/stdout", losses, max_buffer_bytes=400_000)
        log_file.start()
        for line in lines(100, 5_000):
            log_file.write(line)
        log_file.stop(0.0)
        log_file.join(10)
        os.close(writing)
        with open(reading, "rb") as stream:
            written = stream.read().count(b"\n")
        assert written + losses.shutdown + losses.write_failed + log_file.refused == 100
        assert losses.shutdown + losses.write_failed + log_file.refused > 0


_WRITER = """
import sys
from sidecar.telemetry.access_log.writer import LogFile, LogLosses, take_turns
take_turns(int(sys.argv[2]))
file = LogFile("/dev/stdout", LogLosses())
line = sys.argv[1].encode() * 3000 + b"\\n"
for _ in range(100):
    file.write(line)
print("now", file=sys.stderr, flush=True)
sys.stderr.close()
file.turn()
"""


def _lines_of_two_writers(turns: int) -> list[bytes]:
    """What arrives at the end of a pipe that two processes write 100 long lines to, each at once."""
    reading, writing = os.pipe()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, letter, str(turns)],
            stdout=writing,
            stderr=subprocess.PIPE,
            pass_fds=(turns,),
        )
        for letter in "ab"
    ]
    os.close(writing)
    # Both must be under way before anything is read: the pipe holds less than either writes.
    for one in writers:
        assert one.stderr is not None
        with one.stderr:
            assert one.stderr.readline() == b"now\n"
    eventually(lambda: all(map(_sleeps, writers)), "both to wait")
    with open(reading, "rb") as end:
        lines = end.read().splitlines()
    assert [one.wait(10) for one in writers] == [0, 0]
    return lines


def _sleeps(process: subprocess.Popen[bytes]) -> bool:
    """Whether it waits: for room in the pipe, or for its turn."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].startswith("S")


def test_processes_that_take_turns_do_not_write_into_each_others_lines() -> None:
    """On a pipe, whose writes are atomic only up to 4 KiB."""
    turns = os.memfd_create("turns")
    try:
        lines = _lines_of_two_writers(turns)
    finally:
        os.close(turns)
    assert sorted(lines) == [b"a" * 3000] * 100 + [b"b" * 3000] * 100
