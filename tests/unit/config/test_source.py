"""Reading within limits, and noticing that a file has changed."""

from __future__ import annotations

import hashlib
import os
import pathlib

import pytest

from sidecar.config import source
from sidecar.config.load import load_source, load_text
from sidecar.config.problems import ConfigError
from sidecar.config.source import SourceError, SourceWatch, read_source

GOOD = b"service: s\noutbound: {}\n"


def test_a_read_file_has_its_digest(tmp_path: pathlib.Path) -> None:
    """SHA-256 of the bytes."""
    path = tmp_path / "f.yaml"
    path.write_bytes(GOOD)
    read = read_source(str(path))
    loaded = load_source(read, {})
    assert (read.raw, loaded.source, loaded.config.service.name) == (GOOD, read, "s")
    assert read.digest_hex == hashlib.sha256(GOOD).hexdigest()


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: pathlib.Path) -> None:
    """A missing file, a directory, and a name that no file can have."""
    for path, reason in ((tmp_path / "none", "no such file"), (tmp_path, "it is a directory")):
        with pytest.raises(SourceError) as caught:
            read_source(str(path))
        assert str(caught.value) == f"cannot read {path}: {reason}"
    with pytest.raises(SourceError):
        read_source("a\0b")


def test_files_over_ten_mebibytes_are_refused(tmp_path: pathlib.Path) -> None:
    """No more than the limit and one byte is ever read."""
    path = tmp_path / "f.yaml"
    with path.open("wb") as file:
        file.truncate(source.MAX_FILE_BYTES * 3)
    assert len(read_source(str(path)).raw) == source.MAX_FILE_BYTES + 1
    with pytest.raises(ConfigError, match="larger than 10 MiB"):
        load_source(read_source(str(path)), {})


def test_bytes_that_are_not_utf_8_are_refused_at_their_place() -> None:
    """Line and column of the first bad byte."""
    with pytest.raises(ConfigError) as caught:
        load_text(b"service: s\nx: \xc3\xa4\xff", "f", {})
    assert str(caught.value) == "f:2:5: the file is not UTF-8: found the byte 0xff; save it as UTF-8"


def test_a_file_that_stays_is_not_changed(tmp_path: pathlib.Path) -> None:
    """Neither by being looked at nor by a touch."""
    path = tmp_path / "f.yaml"
    path.write_bytes(GOOD)
    watch = SourceWatch(str(path), read_source(str(path)).digest_hex)
    assert [watch.changed() for _ in range(3)] == [False] * 3
    os.utime(path, ns=(1, 1))
    assert watch.changed() is False


def test_an_unchanged_file_is_read_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its time stamps are old enough to be trusted, only `stat` is asked."""
    path = tmp_path / "f.yaml"
    path.write_bytes(GOOD)
    settled = path.stat().st_ctime_ns + 3_000_000_000
    monkeypatch.setattr("sidecar.config.source.time.time_ns", lambda: settled)
    watch = SourceWatch(str(path), read_source(str(path)).digest_hex)
    assert watch.changed() is False
    monkeypatch.setattr("sidecar.config.source.hashlib.sha256", lambda _: pytest.fail("the file was read again"))
    assert watch.changed() is False


def test_a_plain_rewrite_is_a_change(tmp_path: pathlib.Path) -> None:
    """Also one of the same length within the granularity of time stamps."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"aaa")
    watch = SourceWatch(str(path), read_source(str(path)).digest_hex)
    stat = path.stat()
    assert watch.changed() is False
    path.write_bytes(b"bbb")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [watch.changed(), watch.changed()] == [True, False]


def test_a_rename_over_the_file_is_a_change(tmp_path: pathlib.Path) -> None:
    """What editors and configuration management do."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"old")
    watch = SourceWatch(str(path), read_source(str(path)).digest_hex)
    (tmp_path / "new").write_bytes(b"new")
    os.replace(tmp_path / "new", path)
    assert [watch.changed(), watch.changed()] == [True, False]


def test_the_symlink_swap_of_a_configmap_is_a_change(tmp_path: pathlib.Path) -> None:
    """Kubernetes replaces `..data`, to which the file's own link leads."""
    for name, content in (("..v1", b"old"), ("..v2", b"new"), ("..v3", b"new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f.yaml").write_bytes(content)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "f.yaml").symlink_to("..data/f.yaml")
    watch = SourceWatch(str(tmp_path / "f.yaml"), read_source(str(tmp_path / "f.yaml")).digest_hex)
    assert watch.changed() is False
    answers = []
    for version in ("..v2", "..v3"):
        (tmp_path / "..data_tmp").symlink_to(version)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        answers.append(watch.changed())
    assert answers == [True, False], "new content is a change, new links to the same content are not"


def test_a_file_that_is_away_for_a_moment_is_no_change(tmp_path: pathlib.Path) -> None:
    """Its return with other content is."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"old")
    watch = SourceWatch(str(path), read_source(str(path)).digest_hex)
    path.unlink()
    assert watch.changed() is False
    path.write_bytes(b"new")
    assert watch.changed() is True


def test_content_that_was_accepted_otherwise_is_no_change(tmp_path: pathlib.Path) -> None:
    """After a reload on a signal the watch does not ask for a second one."""
    path = tmp_path / "f.yaml"
    path.write_bytes(b"old")
    watch = SourceWatch(str(path), read_source(str(path)).digest_hex)
    path.write_bytes(b"new")
    watch.accept(read_source(str(path)).digest_hex)
    assert watch.changed() is False
