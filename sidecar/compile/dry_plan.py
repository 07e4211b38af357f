"""
A configuration compiled, but not run: a plan that can decide on requests and forward none. *Cold.*

It is the compiler of a real load on the very frames that a load gets, with clusters that nobody connects to: a file
that passes is refused by a data path only for what the machine lacks, such as an address that is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.compile.plan import Compiler, RefusedError, make_draft
from sidecar.compile.time_slices import at_once
from sidecar.config.load import Loaded
from sidecar.config.problems import ConfigError
from sidecar.exchange import Direction
from sidecar.proxy.plan import Plan
from sidecar.upstream.cluster import Cluster


def dry_plan(loaded: Loaded, frames: Sequence[bytes]) -> Plan:
    """
    The plan of a configuration, which can decide on requests and forward none.

    Args:
        loaded: The file.
        frames: What `write_frames` made of it.

    Raises:
        ConfigError: With every value that cannot be compiled.
    """
    try:
        return plan_of(frames)
    except RefusedError as refusal:
        raise ConfigError([loaded.problem_at(error.location, str(error)) for error in refusal.errors]) from None


def plan_of(frames: Sequence[bytes]) -> Plan:
    """
    The same of frames alone, which were found good.

    Raises:
        RefusedError: They were not.
    """
    draft = at_once(make_draft(frames))
    clusters = {spec.name: Cluster(spec) for spec in draft.clusters}
    return at_once(Compiler(_scope).compile(draft, clusters, 1))


def _scope(direction: Direction, route: str, upstream: str, server_address: str, http_route: str = "") -> Any:
    """No telemetry: nothing is ever recorded here."""
    return None
