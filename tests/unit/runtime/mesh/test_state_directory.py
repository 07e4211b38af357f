"""What is kept on disk: whole or not at all, for one sidecar, and for nobody else's eyes."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.runtime.mesh.state_directory import DEFAULT, DamagedError, StateDirectory, StateError, choose


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    """A new one."""
    return StateDirectory(str(tmp_path / "state"))


def test_what_was_written_is_read(directory: StateDirectory) -> None:
    """And nothing where nothing was."""
    assert directory.read("good") is None
    directory.write("good", {"text": "grüße \ud800", "n": 1})
    assert directory.read("good") == {"text": "grüße \ud800", "n": 1}


def test_only_the_user_may_read_it(directory: StateDirectory) -> None:
    """A file may name secrets, and says where everything is."""
    directory.write("good", {})
    assert os.stat(directory.path).st_mode & 0o777 == 0o700
    assert os.stat(os.path.join(directory.path, "good")).st_mode & 0o777 == 0o600


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 150), to=st.integers(0, 255), length=st.integers(0, 150))
def test_what_is_damaged_is_set_aside_and_told(tmp_path: Path, at: int, to: int, length: int) -> None:
    """An octet that is another, or an end that is missing, never passes for what was written."""
    directory = StateDirectory(str(tmp_path / "d"))
    try:
        directory.write("good", {"text": "service: shop\n"})
        path = tmp_path / "d" / "good"
        raw = path.read_bytes()
        damaged = bytearray(raw)
        damaged[at % len(raw)] = to
        for content in (bytes(damaged), raw[: length % len(raw)]):
            path.write_bytes(content)
            if content == raw:
                continue
            with pytest.raises(DamagedError, match=r"set aside as good\.damaged"):
                directory.read("good")
            assert (tmp_path / "d" / "good.damaged").read_bytes() == content
            assert directory.read("good") is None
    finally:
        directory.close()


def test_a_disk_that_is_full_leaves_what_was_there(directory: StateDirectory) -> None:
    """A limit on file sizes stands for the disk."""
    directory.write("good", {"text": "old"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StateError, match=r"good: file too large"):
            directory.write("good", {"text": "x" * 100_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert directory.read("good") == {"text": "old"}
    assert sorted(os.listdir(directory.path)) == ["good", "lock"]


def test_a_directory_that_cannot_be_written_can_be_read(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a read-only file system; permissions would not stop root."""
    directory.write("good", {"text": "old"})
    directory.close()
    really = os.open

    def only_reading(path: str, flags: int, *rest: int, **named: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return really(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", only_reading)
    found = StateDirectory(directory.path)
    assert found.read("good") == {"text": "old"}
    with pytest.raises(StateError, match="read-only file system"):
        found.write("good", {})


def test_a_directory_belongs_to_one_sidecar_at_a_time(directory: StateDirectory) -> None:
    """Two would be the same instance."""
    with pytest.raises(StateError, match="another sidecar uses it"):
        StateDirectory(directory.path)
    directory.close()
    StateDirectory(directory.path).close()


def test_a_directory_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    """One line says why."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateError):
            StateDirectory(str(path))
    with pytest.raises(StateError):
        StateDirectory("a\0b")


def test_which_directory_is_taken() -> None:
    """What was asked for, else systemd's, else the usual one; `off` is none."""
    assert choose("/a", {"STATE_DIRECTORY": "/b"}) == "/a"
    assert choose("", {"STATE_DIRECTORY": "/b:/c"}) == "/b"
    assert choose("", {}) == DEFAULT
    assert choose("off", {"STATE_DIRECTORY": "/b"}) == ""
