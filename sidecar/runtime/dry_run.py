"""
A configuration compiled and tried, but not run: what `sidecar check` knows beyond the rules of values. *Cold.*

It is the compiler of a real load, with clusters that nobody connects to: a file that passes is refused by a start
only for what the machine lacks, such as an address that is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sidecar.config.load import Loaded
from sidecar.runtime.compile import Compiler, make_draft
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings
from sidecar.upstream.cluster import Cluster


def dry_run(loaded: Loaded, path: str, env: Mapping[str, str]) -> None:
    """
    Compile a configuration and run its `tests`.

    Args:
        loaded: The file.
        path: Its name, for problems.
        env: For `${NAME}`.

    Raises:
        ConfigError: With every value that cannot be compiled, or every test that fails, at its place.
    """
    draft = make_draft(loaded, path, env)
    clusters = {spec.name: Cluster(spec) for spec in draft.clusters}
    telemetry = Telemetry(TelemetrySettings(access_log_path=None), environment={})
    asyncio.run(Compiler(telemetry.scope).compile(draft, clusters, 1))
