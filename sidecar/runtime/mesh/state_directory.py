"""
What is kept of a control plane's words for the next start, on disk. *Cold; blocks: called on threads.*

    DIR/lock              held by the one sidecar that uses the directory
    DIR/good              the file that is good, and what came with it
    DIR/good.previous     the good one before
    DIR/endpoints         what is known of endpoints
    DIR/identity          certificate and key, where they may be kept: `kept_identity`
    DIR/run               who this instance is, and how starts with the file that is in force ended
    DIR/NAME.damaged      one that could not be read

Each is a line `sidecar-state 1 SHA-256` and JSON that has this digest. It is written aside, flushed to the disk and
renamed, so that a crash at any moment leaves the old content or the new one. Others than the user may not read them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

DEFAULT: Final = "/var/lib/sidecar"
OFF: Final = "off"

_MAGIC: Final = b"sidecar-state 1 "
MAX_BYTES: Final = 64 * 1024 * 1024


class StateError(Exception):
    """The directory, or something in it, cannot be used; why, in one line."""


class DamagedError(StateError):
    """What is there is not what was written; it was set aside."""


def choose(wanted: str, env: Mapping[str, str]) -> str:
    """
    Path of the directory, which may not exist: what is wanted, else that of systemd (`StateDirectory=`), else DEFAULT;
    empty for none.
    """
    if wanted:
        return "" if wanted == OFF else wanted
    # "If multiple directories are set, then in the environment variable the paths are concatenated with colon".
    return env.get("STATE_DIRECTORY", "").partition(":")[0] or DEFAULT


class StateDirectory:
    """
    Args:
        path: Of the directory; it is made if it is absent. One in which nothing can be written can be read.

    Raises:
        StateError: It cannot be had, or another sidecar uses it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = -1
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            self._lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise StateError(f"{path}: another sidecar uses it; give each one a directory of its own") from None
        except (OSError, ValueError) as error:
            self.close()
            if not os.path.isdir(path):
                raise StateError(f"{path}: {_said(error)}") from None

    def read(self, name: str) -> dict[str, Any] | None:
        """
        What was written under this name; None if nothing was.

        Raises:
            DamagedError: It is something else, and now called `NAME.damaged`.
            StateError: It cannot be read.
        """
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path}: {_said(error)}") from None
        found = _decoded(raw)
        if found is None:
            with suppress(OSError):
                os.replace(path, f"{path}.damaged")
            raise DamagedError(f"{path}: it is damaged, and was set aside as {name}.damaged")
        return found

    def write(self, name: str, value: Mapping[str, object]) -> None:
        """
        Keep a value under this name instead of what is there.

        Raises:
            StateError: It cannot be written; what was there is there.
        """
        payload = json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")
        path = self._path(name)
        aside = f"{path}.new"
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            self._flush_names()
        except (OSError, ValueError) as error:
            with suppress(OSError):
                os.unlink(aside)
            raise StateError(f"{path}: {_said(error)}") from None

    def rename(self, name: str, to: str) -> None:
        """Call what is there by another name, if it is there; errors as `write`."""
        try:
            with suppress(FileNotFoundError):
                os.replace(self._path(name), self._path(to))
                self._flush_names()
        except OSError as error:
            raise StateError(f"{self._path(name)}: {_said(error)}") from None

    def remove(self, name: str) -> bool:
        """Keep nothing under this name; whether something was kept, damaged things included. Errors as `write`."""
        found = False
        try:
            for path in (self._path(name), f"{self._path(name)}.damaged", f"{self._path(name)}.new"):
                with suppress(FileNotFoundError):
                    os.unlink(path)
                    found = True
        except OSError as error:
            raise StateError(f"{self._path(name)}: {_said(error)}") from None
        return found

    def close(self) -> None:
        """Let another sidecar use it; may come twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _path(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _flush_names(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _decoded(raw: bytes) -> dict[str, Any] | None:
    head, _, payload = raw.partition(b"\n")
    if len(raw) > MAX_BYTES or head != _MAGIC + hashlib.sha256(payload).hexdigest().encode():
        return None
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _said(error: OSError | ValueError) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()
