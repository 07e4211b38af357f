"""
Whether a certificate's key is kept for the next start, and where. *Cold; blocks: called on threads.*

    memory     beside what else is kept, where that directory is on a file system in memory (the default)
    always     wherever that directory is
    never      nowhere

A key that is there and may not be is removed: a disk that was given away, a backup of it, is everybody's.
"""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Final, Literal

from sidecar.link.identity.held import Held, read_held
from sidecar.process_log import event
from sidecar.runtime.mesh.state_directory import DamagedError, StateDirectory, StateError

logger = logging.getLogger(__name__)

Keep = Literal["memory", "always", "never"]

NAME: Final = "identity"
# statfs(2), f_type.
_IN_MEMORY: Final = frozenset({0x01021994, 0x858458F6})  # TMPFS_MAGIC, RAMFS_MAGIC
_ROOM_BYTES: Final = 512
"""More than `struct statfs` has anywhere; it begins with the type, a long."""


def is_in_memory(path: str) -> bool:
    """
    Whether a file system is nowhere but in memory (and where that is swapped to).

    Raises:
        OSError: It cannot be told.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(_ROOM_BYTES)
    if libc.statfs(os.fsencode(path), room):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return ctypes.c_ulong.from_buffer(room).value & 0xFFFFFFFF in _IN_MEMORY


class KeptIdentity:
    """
    Args:
        keep: What the machine's file says.
        service: Whose it is: what another one has left is not this one's.

    Attributes:
        why_not: Why nothing is kept; empty if it is.
    """

    def __init__(self, keep: Keep, service: str) -> None:
        self.why_not = "identity.keep is never" if keep == "never" else ""
        self._keep = keep
        self._service = service

    def read(self, directory: StateDirectory) -> Held | None:
        """What an earlier process has left; nothing of what is damaged or may not be there, which is told."""
        self._judge(directory)
        try:
            if self.why_not:
                if directory.remove(NAME):
                    logger.warning(event("identity_removed", state=directory.path, reason=self.why_not))
                return None
            found = directory.read(NAME)
        except DamagedError as error:
            logger.error(event("identity_damaged", reason=str(error)))
            return None
        except StateError as error:
            logger.error(event("identity_unreadable", reason=str(error)))
            return None
        if found is None or found.get("service") != self._service:
            return None
        held = found.get("held")
        return read_held(held) if isinstance(held, dict) else None

    def write(self, directory: StateDirectory, held: Held) -> None:
        """
        Keep it, if it may be.

        Raises:
            StateError: It cannot be written.
        """
        self._judge(directory)
        if not self.why_not:
            directory.write(NAME, {"service": self._service, "held": held.shown()})

    def _judge(self, directory: StateDirectory) -> None:
        if self._keep != "memory":
            return
        try:
            is_there = is_in_memory(directory.path)
        except OSError as error:
            self.why_not = f"{directory.path}: its file system cannot be told: {(error.strerror or str(error)).lower()}"
            return
        why = f"{directory.path} is not on a file system in memory; mount one there, or say `identity.keep: always`"
        self.why_not = "" if is_there else why
