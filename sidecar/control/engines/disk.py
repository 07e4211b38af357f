"""Small files that must be whole after a crash: written aside, flushed, renamed. *Cold; blocks: use a thread.*"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sidecar.control.engines.interface import EngineError


def write_whole(path: Path, content: bytes) -> None:
    """
    Replace a file, or leave it as it was.

    Raises:
        OSError: It was not possible.
    """
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def read_whole(path: Path) -> bytes | None:
    """
    A file's content; None if there is none.

    Raises:
        OSError: It is there, but cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def set_aside(path: Path) -> Path:
    """Rename a damaged file, for somebody to look at, and say to what. Raises OSError."""
    other = path.with_name(f"{path.name}.damaged")
    os.replace(path, other)
    return other


def lock(folder: Path) -> int:
    """
    Make a folder if need be, and take it for this process alone; the descriptor holds the lock until it is closed.

    Raises:
        EngineError: It cannot be made, or another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineError(f"{folder}: {(error.strerror or str(error)).lower()}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise EngineError(f"{folder}: another control plane uses it; give each its own --state") from None
    return descriptor


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
