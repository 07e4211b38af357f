"""The files of a mesh on disk. *Cold.*"""

from __future__ import annotations

import errno
import os
from typing import Final

from sidecar.config.source import MAX_FILE_BYTES, SourceError

MAX_FILES: Final = 10_000
"""A mesh has some hundreds; a directory with more is not one."""

_SUFFIXES: Final = (".yaml", ".yml")


def read_directory(path: str) -> dict[str, bytes]:
    """
    Read every `*.yaml` and `*.yml` below a directory, or one file.

    What begins with a dot is left out (`.git`, and `..data` beside the links of a ConfigMap to it). Links to
    directories are not followed, links to files are.

    Returns:
        At most `MAX_FILE_BYTES` and one of each file, by its name relative to the directory, in order.

    Raises:
        SourceError: The directory or a file of it cannot be read, or there are more than `MAX_FILES`.
    """
    try:
        if not os.path.isdir(path):
            return {os.path.basename(path): _content(path)}
        names = sorted(_names(path))
    except (OSError, ValueError) as error:
        raise _source_error(path, error) from None
    if len(names) > MAX_FILES:
        raise SourceError(path, OSError(errno.EFBIG, f"more than {MAX_FILES} files"))
    files = {}
    for name in names:
        try:
            files[name] = _content(os.path.join(path, name))
        except OSError as error:
            raise _source_error(os.path.join(path, name), error) from None
    return files


def _names(path: str) -> list[str]:
    found: list[str] = []
    for folder, folders, files in os.walk(path, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = os.path.relpath(folder, path)
        inside = "" if relative == "." else relative + os.sep
        found += (inside + name for name in files if name.endswith(_SUFFIXES) and not name.startswith("."))
        if len(found) > MAX_FILES:
            break
    return found


def _raise(error: OSError) -> None:
    raise error


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _source_error(path: str, error: OSError | ValueError) -> SourceError:
    return SourceError(path, error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error)))
