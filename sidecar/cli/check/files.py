"""Which files are meant: those that are named, of a directory its own, and standard input. *Cold.*"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from sidecar.config.model.root import Config
from sidecar.config.source import MAX_FILE_BYTES, Source, make_source, read_source

STDIN = "-"
_ENDINGS = (".yaml", ".yml")
_KEY = re.compile(rb"""^["']?([A-Za-z_][\w.-]*)["']?[ \t]*:(?=\s|$)""", re.MULTILINE)


class NoFileError(Exception):
    """A directory has nothing to check; the text says which."""


def is_one(named: Sequence[str]) -> bool:
    """Whether these name one file, and no directory of which there may be several."""
    return len(named) == 1 and not os.path.isdir(named[0])


def files_in(path: str) -> list[str]:
    """
    The path itself, or of a directory its files called `*.yaml` and `*.yml`, in the order of their names.

    As `kubectl apply -f DIR` does, directories in it are left alone, and so are names that begin with a dot.

    Raises:
        NoFileError: The directory has none.
        OSError: It cannot be listed.
    """
    if path == STDIN or not os.path.isdir(path):
        return [path]
    names = (name for name in os.listdir(path) if name.endswith(_ENDINGS) and not name.startswith("."))
    found = [file for file in sorted(os.path.join(path, name) for name in names) if not os.path.isdir(file)]
    if not found:
        raise NoFileError(f"cannot check {path}: no file in it is called *.yaml or *.yml; name the file")
    return found


def is_of_others(source: Source) -> bool:
    """
    Whether a file has keys, and none that a sidecar's has: a Compose file, a manifest, a scrape configuration.

    Asked of what a directory has, where such files lie beside those that are meant; whoever names a file means it.
    """
    keys = {key.decode() for key in _KEY.findall(source.raw)}
    return bool(keys) and keys.isdisjoint(Config.model_fields)


def source_of(path: str) -> Source:
    """
    What is to be judged.

    Raises:
        SourceError: It cannot be read.
    """
    return make_source("<stdin>", sys.stdin.buffer.read(MAX_FILE_BYTES + 1)) if path == STDIN else read_source(path)
