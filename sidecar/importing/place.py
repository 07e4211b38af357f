"""The directory that an import writes: empty, new, or an earlier import's. *Cold.*"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sidecar.importing.write import TITLE

_HIDDEN: Final = "."


class PlaceError(Exception):
    """A directory that cannot be written; one line says why, and what to do."""


def refuse_others(directory: str, *, is_forced: bool) -> None:
    """
    Make sure that nothing of anybody else's would be written over.

    Raises:
        PlaceError: It is no directory; or it has files, and they are not an earlier import's, or `is_forced` is not
            said.
    """
    path = Path(directory)
    if not path.exists():
        return
    if not path.is_dir():
        raise PlaceError(f"{directory}: expected a directory, found a file; give another --output")
    others = [one for one in _files(path) if not _is_ours(one)]
    if others:
        shown = others[0].relative_to(path)
        raise PlaceError(f"{directory}: {shown} is not an import's; give an empty directory, or one that is not there")
    if not is_forced and _files(path):
        raise PlaceError(f"{directory}: an earlier import is there; --force writes over it")


def put(directory: str, files: Mapping[str, bytes]) -> None:
    """
    Write the files, and take away those of an earlier import that are not among them.

    Raises:
        OSError: A file cannot be written.
    """
    path = Path(directory)
    for one in _files(path) if path.exists() else []:
        if str(one.relative_to(path)) not in files:
            one.unlink()
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.new")
        beside.write_bytes(content)
        os.replace(beside, file)


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if not one.is_dir() and not one.name.startswith(_HIDDEN))


def _is_ours(file: Path) -> bool:
    if file.suffix not in (".yaml", ".yml") or file.is_symlink():
        return False
    with file.open("rb") as opened:
        return opened.read(len(TITLE) + 2) == f"# {TITLE}".encode()
