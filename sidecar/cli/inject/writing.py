"""Where injected manifests go: one stream, or the files themselves. *Cold.*"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

BOM: Final = "\ufeff"


def stream(texts: Sequence[str]) -> bytes:
    """Several files as one stream of documents; one file as it is."""
    pieces: list[str] = []
    for text in texts:
        if pieces and not text.removeprefix(BOM).startswith("---"):
            pieces.append("---\n")
        pieces.append(text if len(texts) == 1 or text.endswith("\n") else text + "\n")
    return "".join(pieces).encode()


def replace(path: str, content: bytes) -> None:
    """
    Write a file aside and rename it over the old one, whose mode it gets; links stay links.

    Raises:
        OSError: It was not possible; the file is what it was.
    """
    path = os.path.realpath(path)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    descriptor, aside = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, mode)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
