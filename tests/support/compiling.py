"""
A configuration as a load compiles it: read, made into frames, drafted, built; without processes, sockets or time.

    plan = compiled("service: x\\ninbound: {app: '127.0.0.1:1'}").plan
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.compile.plan import Compiler, Draft, make_draft
from sidecar.compile.telemetry import telemetry_settings
from sidecar.compile.time_slices import at_once
from sidecar.config.load import Loaded, load_source
from sidecar.config.source import make_source
from sidecar.insight.dry_run import dry_run
from sidecar.loader.serialize import write_frames
from sidecar.proxy.plan import Plan
from sidecar.telemetry.recorder import Telemetry, TelemetrySettings
from sidecar.upstream.cluster import Cluster


@dataclass(frozen=True)
class Compiled:
    """What takes the place of the last configuration."""

    plan: Plan
    telemetry: TelemetrySettings


def loaded(text: str, env: Mapping[str, str] | None = None) -> Loaded:
    """The file `f.yaml` with this text, dedented."""
    return load_source(make_source("f.yaml", textwrap.dedent(text).encode()), env or {})


def frames_of(text: str) -> list[bytes]:
    """The frames of a good file; raises ConfigError as the compiler process would tell it."""
    file = loaded(text)
    frames = write_frames(file)
    dry_run(file, frames)
    return frames


def draft_of(text: str) -> Draft:
    """What a file wants of upstreams and listeners."""
    return at_once(make_draft(frames_of(text)))


def compiler() -> Compiler:
    """A compiler whose telemetry nobody reads."""
    return Compiler(Telemetry(TelemetrySettings(access_log_path=None), environment={}).scope)


def compiled(text: str, by: Compiler | None = None, generation: int = 1) -> Compiled:
    """Compile a file, with clusters that nobody refreshes."""
    draft = draft_of(text)
    clusters = {spec.name: Cluster(spec) for spec in draft.clusters}
    plan = at_once((by or compiler()).compile(draft, clusters, generation))
    return Compiled(plan, telemetry_settings(draft.written.settings))
