"""Durations and weights as our files spell them. *Cold, pure.*"""

from __future__ import annotations

from typing import Final

from sidecar.config.values.units import MAX_DURATION_S

LONGEST: Final = f"{int(MAX_DURATION_S // 3600)}h"
"""The longest duration there is: it stands for none where leaving the key out would mean a default."""


def duration(seconds: float) -> str:
    """`15s`, `250ms`; at least `1ms`, at most `LONGEST`."""
    milliseconds = max(1, round(min(seconds, MAX_DURATION_S) * 1000))
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def number(value: float) -> float | int:
    """An integer where it is one."""
    return int(value) if float(value).is_integer() else value
