"""
The file on disk: read within limits, named by its digest, watched without events. *Cold.*

Kubernetes updates a mounted ConfigMap by swapping the symbolic link `..data`; editors rewrite a file in place or rename
another over it. All three change what `stat` says of the resolved path, which is all that is asked between changes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from dataclasses import dataclass
from typing import Final

from sidecar.config.problems import ConfigError, Problem

MAX_FILE_BYTES: Final = 10 * 1024 * 1024

_UNSETTLED_NS: Final = 2_000_000_000
"""Time stamps of a file system may be as coarse as this; a file written so recently is compared by content."""


class SourceError(Exception):
    """
    A file that cannot be read; one line says why.

    Attributes:
        path: As the user gave it.
    """

    def __init__(self, path: str, error: OSError) -> None:
        known = {errno.ENOENT: "no such file", errno.EACCES: "permission denied", errno.EISDIR: "it is a directory"}
        reason = known.get(error.errno or 0) or (error.strerror or str(error)).lower()
        super().__init__(f"cannot read {path}: {reason}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Source:
    """
    The content of a file at one moment.

    Attributes:
        path: As the user gave it.
        raw: The bytes, at most `MAX_FILE_BYTES` and one.
        digest_hex: SHA-256 of `raw`.
    """

    path: str
    raw: bytes
    digest_hex: str


def make_source(path: str, raw: bytes) -> Source:
    """What was read from elsewhere, such as standard input, under the name `path`."""
    return Source(path, raw, hashlib.sha256(raw).hexdigest())


def read_source(path: str) -> Source:
    """
    Read a file.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return make_source(path, file.read(MAX_FILE_BYTES + 1))
    except (OSError, ValueError) as error:
        raise SourceError(path, _as_os_error(error)) from None


def _as_os_error(error: OSError | ValueError) -> OSError:
    return error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))  # a NUL in the path


def decode(raw: bytes, filename: str) -> str:
    """
    The text of a file, without a byte order mark.

    Raises:
        ConfigError: It is too large, or not UTF-8.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError([Problem(filename, 1, 1, "", "the file is larger than 10 MiB", "make it smaller")])
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        line = before.count("\n") + 1
        column = len(before) - before.rfind("\n")
        message = f"the file is not UTF-8: found the byte 0x{raw[error.start]:02x}"
        raise ConfigError([Problem(filename, line, column, "", message, "save it as UTF-8")]) from None


Fingerprint = tuple[str, int, int, int, int, int]
"""What `stat` says that changes when the content does: resolved path, device, inode, size, two times."""


class SourceWatch:
    """
    Notices that a file has other content than when it was last accepted.

    Call `changed` as often as a change should be seen, about twice a second; between changes it costs a few system
    calls. When `stat` says something new it reads the file and compares digests, so a touch is no change.
    """

    def __init__(self, path: str, digest_hex: str = "") -> None:
        """Watch `path`, whose content with the digest `digest_hex` is already in use."""
        self._path = path
        self._digest_hex = digest_hex
        self._fingerprint: Fingerprint | None = None

    def changed(self) -> bool:
        """
        Whether the content differs from what this watch knew; it then knows the new content.

        A file that is absent or cannot be read is no change: it is half-way through being replaced, or a mistake
        that the next reload will tell.
        """
        try:
            before = self._look()
            if before == self._fingerprint:
                return False
            with open(self._path, "rb") as file:
                digest_hex = hashlib.sha256(file.read(MAX_FILE_BYTES + 1)).hexdigest()
            after = self._look()
        except (OSError, ValueError):
            self._fingerprint = None
            return False
        # A write within the granularity of time stamps after this look would not be seen by the next: look again.
        is_settled = after == before and time.time_ns() - max(after[4:]) > _UNSETTLED_NS
        self._fingerprint = after if is_settled else None
        is_other = digest_hex != self._digest_hex
        self._digest_hex = digest_hex
        return is_other

    def accept(self, digest_hex: str) -> None:
        """Say that the content with this digest has been read for another reason, such as a signal."""
        self._digest_hex = digest_hex

    def _look(self) -> Fingerprint:
        resolved = os.path.realpath(self._path)
        stat = os.stat(resolved)
        return resolved, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
