"""
The package as pure Python, or with the data path compiled: `SIDECAR_COMPILE=1 python setup.py build`, or any PEP 517
build with that variable set and without isolation. docs/compiled.md says why and how; `make compile` does it.

The modules named in `pyproject.toml` under `tool.sidecar.compile` become one native library, made by mypyc from the
same files that run uncompiled; nothing else differs. That takes a C compiler, the headers of Python, and what
requirements-build.lock pins.
"""

from __future__ import annotations

import glob
import os
import tomllib

from setuptools import setup


def compiled_modules() -> list[str]:
    """Paths of the modules that are compiled, in the order of the patterns."""
    with open("pyproject.toml", "rb") as file:
        lists = tomllib.load(file)["tool"]["sidecar"]["compile"]
    left_out = set(lists["interpreted"])
    found: list[str] = []
    for pattern in lists["modules"]:
        matches = sorted(
            path for path in glob.glob(pattern) if path not in left_out and not path.endswith("__init__.py")
        )
        if not matches:
            raise SystemExit(f"pyproject.toml: tool.sidecar.compile: {pattern!r} matches no file")
        found += matches
    return found


if os.environ.get("SIDECAR_COMPILE") == "1":
    from mypyc.build import mypycify

    # What the modules import is followed for its types and not judged, and need not be installed: `make check` judges.
    options = ["--follow-imports=silent", "--ignore-missing-imports"]
    # Names stay, for `perf`; debug information goes, which would be most of the file.
    extensions = mypycify(
        [*options, *compiled_modules()], opt_level="3", debug_level="0", group_name="sidecar", target_dir="build/c"
    )
else:
    extensions = []

setup(ext_modules=extensions)
