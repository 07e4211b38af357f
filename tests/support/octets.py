"""What objects take in memory, by the interpreter's own count: the same on every run."""

from __future__ import annotations

import gc
import sys
from types import FunctionType, ModuleType
from typing import Any


def octets(root: object) -> int:
    """What an object and all that it leads to take; modules, types and functions, which all share, aside."""
    seen: set[int] = set()
    left: list[Any] = [root]
    total = 0
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen.add(id(one))
            total += sys.getsizeof(one)
            left += gc.get_referents(one)
    return total
