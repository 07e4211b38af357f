"""
When a client's connection looks whether the server has given it a session to take up again.

Where Python has a fault, each look loses 5.6 KiB for good (CPython's issue 116810; 3.11, 3.12 before 3.12.8, 3.13.0).
There it looks only after a whole handshake, and what it finds is taken up again and again until the server wants
another whole one; and after `MAX_LOSING_LOOKS` of a process it looks no more: each connection has a whole handshake.
Elsewhere each connection brings the next one's session, which no two share (RFC 8446, C.4).
"""

from __future__ import annotations

import sys
from typing import Final

LOOKS: Final = 4
"""Of one connection: tickets come behind the handshake, with what comes first or before it."""
MAX_LOSING_LOOKS: Final = 1000
"""Of one process where a look loses memory: 5.5 MiB."""
LOSES_MEMORY: Final = sys.version_info < (3, 12, 8) or (3, 13) <= sys.version_info < (3, 13, 1)


class Looks:
    """
    Those of a process.

    Args:
        loses_memory: Whether this Python has the fault.
    """

    __slots__ = ("_left", "_loses_memory")

    def __init__(self, *, loses_memory: bool = LOSES_MEMORY) -> None:
        self._loses_memory = loses_memory
        self._left = MAX_LOSING_LOOKS

    def may_look(self, is_resumed: bool) -> bool:
        """Whether a connection may look once more, which counts as a look."""
        if not self._loses_memory:
            return True
        if is_resumed or not self._left:
            return False
        self._left -= 1
        return True


looks: Final = Looks()
