"""
What is running: the version, and whether its data path is compiled (docs/compiled.md). *Pure.*

One module of the data path stands for all: they are compiled together, into one library, or not at all.
"""

from __future__ import annotations

from importlib.util import find_spec

from sidecar import __version__


def _is_compiled() -> bool:
    """Whether the data path is native code; looks at where it would be loaded from, and loads nothing."""
    spec = find_spec("sidecar.exchange")
    return spec is not None and not (spec.origin or "").endswith((".py", ".pyc"))


IS_COMPILED = _is_compiled()

KIND = "compiled" if IS_COMPILED else "interpreted"
"""As the log, `/server_info` and `sidecar_build_info` call it."""

DESCRIPTION = f"{__version__} ({KIND})"
