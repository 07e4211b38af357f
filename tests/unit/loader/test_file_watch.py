"""Files that are followed: what is a change, and when it counts."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import aiofiles
import pytest

from sidecar.loader.file_watch import FileWatch


def digest_of(path: Path) -> str:
    """SHA-256 of what it holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Looks:
    """Looks at files on a loop of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()

    def __call__(self, watch: FileWatch, times: int = 1) -> list[bool]:
        """Whether each of so many looks found a change."""
        return [self._runner.run(watch.changed()) is not None for _ in range(times)]

    def found(self, watch: FileWatch) -> dict[str, str] | None:
        """What one look found."""
        return self._runner.run(watch.changed())


@pytest.fixture
def look() -> Iterator[Looks]:
    """Looks."""
    looks = Looks()
    yield looks
    looks.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"old")
    return path


def watch_of(path: Path, *others: Path) -> FileWatch:
    """Knows the files as they are."""
    watch = FileWatch(str(path))
    watch.accept({str(one): digest_of(one) for one in (path, *others)})
    return watch


def test_a_file_that_stays_is_not_changed(path: Path, look: Looks) -> None:
    """Neither by being looked at nor by a touch."""
    watch = watch_of(path)
    assert look(watch, 3) == [False] * 3
    os.utime(path, ns=(1, 1))
    assert look(watch, 3) == [False] * 3


def test_a_change_counts_when_two_looks_agree(path: Path, look: Looks) -> None:
    """And is told until it is accepted: what could not be loaded is not forgotten."""
    watch = watch_of(path)
    path.write_bytes(b"new")
    assert look(watch, 3) == [False, True, True]
    watch.accept({str(path): digest_of(path)})
    assert look(watch, 2) == [False, False]


def test_a_file_that_is_being_written_is_not_changed_yet(path: Path, look: Looks) -> None:
    """Its beginning may be a good configuration that nobody wants."""
    watch = watch_of(path)
    answers = []
    with path.open("wb", buffering=0) as file:
        for piece in (b"service: s\n", b"outbound:\n", b"  routes: []\n"):
            file.write(piece)
            answers += look(watch)
    assert answers == [False] * 3
    assert look(watch) == [True]


def test_a_file_that_becomes_what_it_was_is_no_change(path: Path, look: Looks) -> None:
    """Somebody took it back between two looks."""
    watch = watch_of(path)
    path.write_bytes(b"new")
    assert look(watch) == [False]
    path.write_bytes(b"old")
    assert look(watch, 2) == [False, False]


def test_an_unchanged_file_is_read_once(path: Path, look: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its time stamps are old enough to be trusted, only `stat` is asked."""
    watch = FileWatch(str(path), now_ns=lambda: path.stat().st_ctime_ns + 3_000_000_000)
    watch.accept({str(path): digest_of(path)})
    assert look(watch) == [False]
    monkeypatch.setattr(aiofiles, "open", lambda *_, **__: pytest.fail("the file was read again"))
    assert look(watch) == [False]


def test_a_rewrite_within_the_granularity_of_time_stamps_is_a_change(path: Path, look: Looks) -> None:
    """Also one of the same length."""
    watch = watch_of(path)
    before = path.stat()
    assert look(watch) == [False]
    path.write_bytes(b"bbb")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(watch, 2) == [False, True]


def test_a_rename_over_the_file_is_a_change(path: Path, look: Looks) -> None:
    """What editors and configuration management do."""
    watch = watch_of(path)
    new = path.with_name("new")
    new.write_bytes(b"new")
    os.replace(new, path)
    assert look(watch, 2) == [False, True]


def test_the_symlink_swap_of_a_configmap_is_a_change(tmp_path: Path, look: Looks) -> None:
    """Kubernetes replaces `..data`, to which the file's own link leads; new links to the same content are no change."""
    for name, content in (("..v1", b"old"), ("..v2", b"new"), ("..v3", b"new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f.yaml").write_bytes(content)
    (tmp_path / "..data").symlink_to("..v1")
    path = tmp_path / "f.yaml"
    path.symlink_to("..data/f.yaml")
    watch = watch_of(path)
    answers = []
    for version in ("..v2", "..v3"):
        (tmp_path / "..data_tmp").symlink_to(version)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        answers.append(look(watch, 2))
        watch.accept({str(path): digest_of(path)})
    assert answers == [[False, True], [False, False]]


def test_two_swaps_between_looks_are_waited_out(tmp_path: Path, look: Looks) -> None:
    """What the first look found is gone when the second comes."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"one")
    watch = watch_of(path)
    answers = []
    for content in (b"two", b"three", b"three"):
        (tmp_path / "new").write_bytes(content)
        os.replace(tmp_path / "new", path)
        answers += look(watch)
    assert answers == [False, False, True]


def test_a_file_that_is_away_for_a_moment_is_no_change(path: Path, look: Looks) -> None:
    """Its return with other content is."""
    watch = watch_of(path)
    path.unlink()
    assert look(watch, 3) == [False] * 3
    path.write_bytes(b"new")
    assert look(watch, 2) == [False, True]


def test_what_is_no_file_is_not_waited_for(path: Path, look: Looks, caplog: pytest.LogCaptureFixture) -> None:
    """A FIFO has no end before somebody writes; it is told of, once."""
    watch = watch_of(path)
    path.unlink()
    os.mkfifo(path)
    assert look(watch, 3) == [False] * 3
    assert [record.getMessage().split()[0] for record in caplog.records] == ["config_not_followed"]
    path.unlink()
    path.write_bytes(b"new")
    assert look(watch, 2) == [False, True]


class TestSecrets:
    """Files that the configuration reads."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        """A secret."""
        secret = tmp_path / "secret"
        secret.write_bytes(b"s3cret")
        return secret

    def test_a_change_of_one_is_a_change(self, path: Path, secret: Path, look: Looks) -> None:
        """And is told as what there is now, of all."""
        watch = watch_of(path, secret)
        secret.write_bytes(b"other")
        assert look(watch) == [False]
        assert look.found(watch) == {str(path): digest_of(path), str(secret): digest_of(secret)}

    def test_a_change_counts_when_all_are_settled(self, path: Path, secret: Path, look: Looks) -> None:
        """Whoever rotates a secret often changes the configuration with it."""
        watch = watch_of(path, secret)
        secret.write_bytes(b"other")
        assert look(watch) == [False]
        path.write_bytes(b"new")
        assert look(watch, 2) == [False, True]

    def test_one_that_appears_is_a_change_and_one_that_goes_is_none(
        self, path: Path, secret: Path, look: Looks
    ) -> None:
        """It was a problem of the last load; or is half-way through being replaced."""
        watch = FileWatch(str(path))
        watch.accept({str(path): digest_of(path), str(secret): ""})
        assert look(watch, 2) == [False, True]
        watch.accept({str(path): digest_of(path), str(secret): digest_of(secret)})
        secret.unlink()
        assert look(watch, 3) == [False] * 3

    def test_one_that_is_no_longer_read_is_no_longer_followed(self, path: Path, secret: Path, look: Looks) -> None:
        """The next load names those that matter."""
        watch = watch_of(path, secret)
        watch.accept({str(path): digest_of(path)})
        secret.write_bytes(b"other")
        assert look(watch, 3) == [False] * 3
