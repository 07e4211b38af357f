"""
Files that are followed with what is in them: certificates, keys and bundles that others write. *Cold; for a thread.*

As `loader.file_watch` does it: `stat` is all that is asked between changes, which sees a rewrite, a rename over it and
the swap of a symbolic link by which Kubernetes replaces a mounted secret; and a change counts when two looks in a row
find the same in all files together, for a file that is being written is seen half-written, and a key is replaced before
or after its certificate. Only what was never read is given at once. What is given is not kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Final

from sidecar.files import Fingerprint, is_settled, look
from sidecar.security.identity.certificates.trouble import TroubleError

MAX_FILE_BYTES: Final = 1024 * 1024
"""The roots of a machine take 220 KiB."""


class FollowedFiles:
    """Not for several threads at once. `paths` are in the order given, each once."""

    __slots__ = ("_failures", "_given", "_previous", "_settled", "paths")

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self._settled: dict[str, Fingerprint] | None = None
        self._previous: dict[str, str] | None = None
        self._given: dict[str, str] | None = None
        self._failures = 0

    def look(self, now_ns: int) -> dict[str, bytes] | None:
        """
        What is in the files by path, if it is to be tried; None if it is as it was, or not clear yet.

        Blocks, and may hang with a mount.

        Raises:
            TroubleError: `unreadable`: a file cannot be read, and could not a look ago.
        """
        try:
            seen = {path: _look(path) for path in self.paths}
            if seen == self._settled:
                self._failures = 0
                return None
            contents = {path: _read(path) for path in self.paths}
            is_same = seen == {path: _look(path) for path in self.paths}
        except _UnreadableError as error:
            self._settled = self._previous = None
            self._failures += 1
            # Between a removal and a rename there is a moment without the file.
            if self._failures > 1 or self._given is None:
                raise TroubleError("unreadable", str(error)) from None
            return None
        self._failures = 0
        if not is_same:
            self._settled = self._previous = None
            return None
        found = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
        is_new = found != self._given
        if is_new and self._given is not None and found != self._previous:
            self._previous = found
            return None
        # A write within the granularity of time stamps after this look would not be seen by the next: read it again.
        self._settled = seen if all(is_settled(one, now_ns) for one in seen.values()) else None
        self._given, self._previous = found, None
        return contents if is_new else None

    def again(self) -> None:
        """The next look gives what there is, whatever was given."""
        self._settled = self._given = None


class _UnreadableError(Exception):
    """With a sentence that names the file."""


def _look(path: str) -> Fingerprint:
    try:
        found, is_regular = look(path)
    except (OSError, ValueError) as error:
        raise _UnreadableError(f"{path}: {_why(error)}") from None
    if not is_regular:
        raise _UnreadableError(f"{path}: expected a file, got a directory, a pipe or a device")
    return found


def _read(path: str) -> bytes:
    try:
        # A FIFO that has come since is not waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _UnreadableError(f"{path}: {_why(error)}") from None
    if len(content) > MAX_FILE_BYTES:
        raise _UnreadableError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
    return content


def _why(error: Exception) -> str:
    why = (getattr(error, "strerror", None) or str(error)).lower()
    if isinstance(error, PermissionError):
        return f"{why}; the process runs as user {os.geteuid()}, group {os.getegid()}"
    return why
