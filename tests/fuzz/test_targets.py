"""The targets of `make fuzz` on what their searches begin with, and on what is a bit away from it."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import SEEDS, TARGETS

pytestmark = pytest.mark.interpreted_only("streams that only note what they hear inherit from a compiled class")


@pytest.mark.parametrize("name", TARGETS)
def test_no_target_raises_near_its_seeds(name: str) -> None:
    """Whole, and with a bit of each octet another."""
    target = TARGETS[name]
    for seed in SEEDS[name]:
        target(seed)
        for at in range(len(seed)):
            target(seed[:at] + bytes([seed[at] ^ 1 << at % 8]) + seed[at + 1 :])
