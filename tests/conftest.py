"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples in every run: a test run says something about the change, not about chance. `HYPOTHESIS_RANDOM=1`
# looks further, and what it finds becomes a test of its own.
settings.register_profile("repeatable", derandomize=True)
if os.environ.get("HYPOTHESIS_RANDOM") != "1":
    settings.load_profile("repeatable")
