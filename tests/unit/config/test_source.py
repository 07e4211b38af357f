"""Reading within limits."""

from __future__ import annotations

import hashlib
import pathlib

import pytest

from sidecar.config import source
from sidecar.config.load import load_source, load_text
from sidecar.config.problems import ConfigError
from sidecar.config.source import SourceError, read_source

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
