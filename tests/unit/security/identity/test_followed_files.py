"""Certificates and keys that are followed: what is given, and when."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.identity.followed_files import MAX_FILE_BYTES, FollowedFiles

LATER_NS = 10**19
"""Long after any file was written, so that time stamps are believed."""


class Files:
    """A certificate and a key in a folder, and one who follows them."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.certificate.write_bytes(b"certificate 1")
        self.key.write_bytes(b"key 1")
        self.followed = FollowedFiles([str(self.certificate), str(self.key)])

    def look(self, now_ns: int = LATER_NS) -> tuple[bytes, ...] | None:
        """What a look gives."""
        found = self.followed.look(now_ns)
        return None if found is None else tuple(found[path] for path in self.followed.paths)

    def looks(self, times: int) -> list[tuple[bytes, ...] | None]:
        """And so many."""
        return [self.look() for _ in range(times)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Followed from the beginning."""
    return Files(tmp_path)


def test_what_was_never_read_is_given_at_once(files: Files) -> None:
    """A start waits for nothing; after that nothing has changed."""
    assert files.looks(3) == [(b"certificate 1", b"key 1"), None, None]


def test_a_change_is_given_when_two_looks_agree(files: Files) -> None:
    """All files together, each time they have changed."""
    files.look()
    files.certificate.write_bytes(b"certificate 2")
    files.key.write_bytes(b"key 2")
    assert files.looks(3) == [None, (b"certificate 2", b"key 2"), None]


def test_files_that_are_written_one_after_the_other_are_given_together(files: Files) -> None:
    """A look between the two sees what does not belong together."""
    files.look()
    files.certificate.write_bytes(b"certificate 2")
    assert files.look() is None
    files.key.write_bytes(b"key 2")
    assert files.looks(3) == [None, (b"certificate 2", b"key 2"), None]


def test_what_changes_back_is_no_change(files: Files) -> None:
    """A rotation that was taken back between two looks."""
    files.look()
    files.key.write_bytes(b"key 2")
    assert files.look() is None
    files.key.write_bytes(b"key 1")
    assert files.looks(2) == [None, None]


def test_a_touch_is_no_change(files: Files) -> None:
    """Nor a rewrite with the same content."""
    files.look()
    os.utime(files.key, ns=(1, 1))
    files.certificate.write_bytes(b"certificate 1")
    assert files.looks(2) == [None, None]


def test_a_rewrite_that_leaves_size_and_times_is_seen_while_the_file_is_young(files: Files) -> None:
    """Time stamps are coarse: a file that was written a moment ago is compared by its content."""
    now_ns = os.stat(files.key).st_mtime_ns + 1
    files.look(now_ns)
    before = os.stat(files.key)
    files.key.write_bytes(b"key 2")
    os.utime(files.key, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [files.look(now_ns), files.look(now_ns)] == [None, (b"certificate 1", b"key 2")]


def test_the_swap_of_a_link_replaces_all_at_once(tmp_path: Path) -> None:
    """As Kubernetes does with a secret: `tls.crt` -> `..data/tls.crt`, `..data` -> `..2026_11_26`."""
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "tls.crt").write_bytes(b"certificate " + version.encode())
        (tmp_path / f"..{version}" / "tls.key").write_bytes(b"key " + version.encode())
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    followed = FollowedFiles([str(tmp_path / name) for name in ("tls.crt", "tls.key")])
    assert followed.look(LATER_NS) is not None
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert followed.look(LATER_NS) is None
    found = followed.look(LATER_NS)
    assert found is not None
    assert list(found.values()) == [b"certificate 2", b"key 2"]


def test_a_moment_without_a_file_is_none(files: Files) -> None:
    """Between a removal and the new file; a look later it is missing."""
    files.look()
    files.key.unlink()
    assert files.look() is None
    with pytest.raises(TroubleError) as caught:
        files.look()
    assert (caught.value.trouble.code, caught.value.trouble.text) == (
        "unreadable", f"{files.key}: no such file or directory"
    )  # fmt: skip
    files.key.write_bytes(b"key 1")
    assert files.looks(2) == [None, None]


def test_files_that_are_not_there_yet_are_told_at_once_and_given_when_they_come(files: Files) -> None:
    """A start before the first certificate."""
    files.key.unlink()
    for _ in range(3):
        with pytest.raises(TroubleError, match="no such file"):
            files.look()
    files.key.write_bytes(b"key 1")
    assert files.look() == (b"certificate 1", b"key 1")


def test_what_is_no_file_is_told(files: Files) -> None:
    """A directory, and a pipe that nobody writes to: it is not waited for."""
    files.key.unlink()
    files.key.mkdir()
    with pytest.raises(TroubleError, match="expected a file"):
        files.look()
    files.key.rmdir()
    os.mkfifo(files.key)
    with pytest.raises(TroubleError, match="expected a file"):
        files.look()


def test_a_file_that_is_too_large_is_told(files: Files) -> None:
    """A device's image in the wrong place, say."""
    files.key.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(TroubleError, match="expected at most 1048576 bytes"):
        files.look()


def test_again_gives_what_there_is(files: Files) -> None:
    """What is to be judged anew, though it has not changed."""
    files.look()
    files.followed.again()
    assert files.looks(2) == [(b"certificate 1", b"key 1"), None]
