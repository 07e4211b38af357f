"""
A configuration compiled, tried and held to its own tests, but not run: what a file must stand before it is called good.
*Cold.*
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.compile.dry_plan import dry_plan
from sidecar.config.load import Loaded
from sidecar.proxy.plan import Plan


def dry_run(loaded: Loaded, frames: Sequence[bytes]) -> Plan:
    """
    Compile a configuration and run its `tests`.

    Returns:
        The plan, which can decide on requests and forward none.

    Raises:
        ConfigError: With every value that cannot be compiled, or every test that fails, at its place.
    """
    plan = dry_plan(loaded, frames)
    if loaded.config.tests:
        # Only here: most files have none, and the request's parser and all that decides on a request come with it.
        from sidecar.insight.routing_tests import run_tests

        run_tests(loaded, plan)
    return plan
