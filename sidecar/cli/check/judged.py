"""What is found of one file: read, understood, compiled, and its tests run, as a start would. *Cold.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sidecar.cli.check.resolved import unresolved
from sidecar.compile.dry_plan import dry_plan
from sidecar.compile.telemetry import telemetry_settings
from sidecar.config.load import Loaded, load_source
from sidecar.config.model.root import Config
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import Source
from sidecar.insight.warnings.of_plan import warnings_of
from sidecar.loader.serialize import write_frames
from sidecar.telemetry.settings import resolve

TEST_FAILS = "test-fails"
INVALID = "invalid-configuration"
"""What problems are called where each needs a name; warnings have those of `config.warnings.rules`."""


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What is found of a file.

    Attributes:
        path: As the user gave it, or found in the directory that was given.
        problems: For which it is refused, in its order.
        warnings: What it hardly means, in its order; of a file with problems those that could be found all the same.
        complaints: Lines about this environment, each with a variable of no effect.
        counts: How many there are of what, of a good file.
        error: Why it cannot be read; empty if it could.
        is_left_out: A directory has it, and it is no sidecar's; nothing of it was looked at.
    """

    path: str
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    complaints: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    is_left_out: bool = False

    @property
    def is_good(self) -> bool:
        """Whether a sidecar would run with it."""
        return not self.problems and not self.error


def judge(source: Source, env: Mapping[str, str], *, asks_names: bool = False) -> Judged:
    """
    Judge a file as a start would, and look for what it hardly means.

    Args:
        env: Variables, for the file and for telemetry.
        asks_names: Whether the names in it are looked up.
    """
    try:
        loaded = load_source(source, env)
        plan = dry_plan(loaded, write_frames(loaded))
    except ConfigError as error:
        return Judged(source.path, tuple(error.problems))
    warnings = [*loaded.warnings, *warnings_of(loaded, plan)]
    if asks_names:
        warnings += unresolved(loaded)
    problems: list[Problem] = []
    if loaded.config.tests:
        # Only here: most files have none, and the request's parser and all that decides on a request come with it.
        from sidecar.insight.routing_tests import run_tests

        try:
            run_tests(loaded, plan)
        except ConfigError as error:
            problems += (replace(problem, rule=TEST_FAILS) for problem in error.problems)
    return Judged(
        source.path,
        tuple(problems),
        tuple(sorted(warnings)),
        tuple(resolve(telemetry_settings(loaded.config), env).complaints),
        {} if problems else _counts(loaded),
    )


def strictly(judged: Judged) -> Judged:
    """The same, with each warning a problem."""
    severe = [replace(warning, severity="error") for warning in judged.warnings]
    severe += (Problem(judged.path, 1, 1, "", line, rule="otel-variable") for line in judged.complaints)
    return replace(judged, problems=tuple(sorted((*judged.problems, *severe))), warnings=(), complaints=())


def _counts(loaded: Loaded) -> dict[str, int]:
    config = loaded.config
    return {"routes": _routes_of(config), "upstreams": len(config.upstreams), "tests": len(config.tests)}


def _routes_of(config: Config) -> int:
    return sum(len(side.routes) for side in (config.inbound, config.outbound) if side is not None)
