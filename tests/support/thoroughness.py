"""How far a test run looks: `make test` a part of the way, `TEST_THOROUGH=1 make test` all of it."""

from __future__ import annotations

import os

IS_THOROUGH = os.environ.get("TEST_THOROUGH") == "1"
_PART = 3
_LEAST = 40


def examples(number: int) -> int:
    """How many examples a search tries: so many when it is thorough, else a third of them, but not fewer than 40."""
    return number if IS_THOROUGH else min(number, max(_LEAST, number // _PART))
