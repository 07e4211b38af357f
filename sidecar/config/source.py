"""
The file on disk: read within limits, named by its digest. *Cold.* `loader.file_watch` follows it.
"""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from typing import Final

from sidecar.config.problems import ConfigError, Problem

MAX_FILE_BYTES: Final = 10 * 1024 * 1024


class SourceError(Exception):
    """
    A file that cannot be read; one line says why.

    Attributes:
        path: As the user gave it.
        is_absent: There is no such file.
    """

    def __init__(self, path: str, error: OSError) -> None:
        known = {errno.ENOENT: "no such file", errno.EACCES: "permission denied", errno.EISDIR: "it is a directory"}
        reason = known.get(error.errno or 0) or (error.strerror or str(error)).lower()
        super().__init__(f"cannot read {path}: {reason}")
        self.path = path
        self.is_absent = error.errno == errno.ENOENT


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
