"""
`${file:/run/secrets/x}`: what a file holds, read once a load and remembered. *Cold.*

Orchestrators mount secrets as files, one value each, and replace them while a process runs, which they cannot do to its
environment.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import Final

MAX_SECRET_BYTES: Final = 64 * 1024
"""A chain of certificates has some 10 KiB."""

MAX_FILES: Final = 256
"""All of them are looked at four times a second."""

UNREADABLE: Final = ""
"""Stands for the digest of a file that could not be read."""


class SecretFileError(Exception):
    """
    A file whose content cannot be used; the text says why.

    Attributes:
        hint: What to do.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SecretFiles:
    """
    Attributes:
        digests: SHA-256 of each file that was asked for, in hexadecimal, `UNREADABLE` where it could not be read; by
            path.
        values: What was read: whoever shows anything must not show these.
    """

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.values: set[str] = set()
        self._read: dict[str, str] = {}

    def read(self, path: str) -> str:
        """
        The content, without the line feed that editors and `echo` leave at the end.

        Raises:
            SecretFileError: It cannot be read, is no regular file, is too large, or holds what is no text.
        """
        if path in self._read:
            return self._read[path]
        if not path.startswith("/"):
            raise SecretFileError(f"expected an absolute path, found `{path}`", "such as `${file:/run/secrets/token}`")
        if len(self.digests) >= MAX_FILES:
            raise SecretFileError(f"more than {MAX_FILES} files are named", "put several values into one place")
        self.digests[path] = UNREADABLE
        try:
            raw = _content(path)
        except (OSError, ValueError) as error:
            known = {errno.ENOENT: "no such file", errno.EACCES: "permission denied"}
            number = error.errno or 0 if isinstance(error, OSError) else 0
            why = known.get(number) or (getattr(error, "strerror", None) or str(error)).lower()
            raise SecretFileError(f"cannot read `{path}`: {why}", "mount it, or correct the path") from None
        self.digests[path] = hashlib.sha256(raw).hexdigest()
        if len(raw) > MAX_SECRET_BYTES:
            raise SecretFileError(f"`{path}` is larger than {MAX_SECRET_BYTES // 1024} KiB", "is it the right file?")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise SecretFileError(f"`{path}` is not UTF-8", "put the text of the secret into it") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if text:
            self.values.add(text)
        self._read[path] = text
        return text


def _content(path: str) -> bytes:
    """At most `MAX_SECRET_BYTES` and one; a FIFO is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(MAX_SECRET_BYTES + 1)
