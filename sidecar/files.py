"""
What tells that a file has changed without reading it. *Cold.*

Kubernetes updates a mounted volume by swapping the symbolic link `..data`; editors rewrite a file in place or rename
another over it. All change what `stat` says of the resolved path.
"""

from __future__ import annotations

import os
import stat
from typing import Final

UNTRUSTED_NS: Final = 2_000_000_000
"""Time stamps of a file system may be as coarse as this; a file written so recently is compared by content."""

Fingerprint = tuple[str, int, int, int, int, int]
"""What `stat` says that changes when the content does: resolved path, device, inode, size, two times."""


def look(path: str) -> tuple[Fingerprint, bool]:
    """
    What a file is now, and whether it is a regular one. Blocks, and may hang with the file's mount.

    Raises:
        OSError, ValueError: It is not there, or is no path.
    """
    resolved = os.path.realpath(path)
    found = os.stat(resolved)
    return fingerprint(resolved, found), stat.S_ISREG(found.st_mode)


def fingerprint(resolved: str, found: os.stat_result) -> Fingerprint:
    """Of what `stat` found at a path without links."""
    return resolved, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_settled(seen: Fingerprint, now_ns: int) -> bool:
    """Whether a write after this look would be seen by the next one."""
    return now_ns - max(seen[4:]) > UNTRUSTED_NS
