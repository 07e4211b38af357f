"""Whether there is a terminal that can be drawn on; else every screen is plain lines. *Pure, cold.*"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TextIO

_CANNOT_MOVE: Final = frozenset({"", "dumb", "unknown"})
"""Values of TERM for which terminfo has no cursor that could be moved: editors' shells, CI, a bare `env -i`."""


def can_draw(output: TextIO, environment: Mapping[str, str]) -> bool:
    """
    Whether the output is a terminal whose cursor moves.

    Not whether somebody wants colours: FORCE_COLOR makes no terminal of a pipe.
    """
    return output.isatty() and environment.get("TERM", "") not in _CANNOT_MOVE
