"""What several files of this folder share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collection of garbage in the test: it would look at all that tests have imported, for 30 ms."""
    gc.disable()
    yield
    gc.enable()
