"""
The door of this room: a file's bytes in, a `Config` out, or every problem at once. *Cold, pure but for reading.*

Nothing here touches an event loop or keeps state; a running sidecar calls it in a process of its own
(`loader.compiler`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.check import Report, check
from sidecar.config.concealed import concealed
from sidecar.config.model.root import Config
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import Source, decode
from sidecar.config.validate import CONFIG, shape
from sidecar.config.yaml.document import Node, parse
from sidecar.config.yaml.places import Location, locate
from sidecar.config.yaml.secret_files import SecretFiles
from sidecar.redact import Secrets


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A file that was read and understood.

    Attributes:
        config: What it says.
        source: What it was read from.
        root: Its tree, which knows where everything is written.
        secrets: What no problem may show.
        warnings: What is hardly meant, in the order of the file.
        files: Secrets that it read.
    """

    config: Config
    source: Source
    root: Node
    secrets: Secrets
    warnings: tuple[Problem, ...] = ()
    files: SecretFiles = field(default_factory=SecretFiles)

    def problem_at(self, location: Location, message: str, hint: str = "") -> Problem:
        """A problem at the line and column of a location of the models."""
        place = locate(self.root, location)
        said = concealed(place, message, hint)
        problem = Problem(self.source.path, place.mark.line, place.mark.column, place.path, *said)
        return problem.without(self.secrets)


def load_text(text: bytes, filename: str, env: Mapping[str, str]) -> Config:
    """
    Understand a configuration.

    Args:
        text: YAML in UTF-8, at most 10 MiB.
        filename: For the problems; nothing is read but what `${file:...}` names.
        env: Variables for `${NAME}`.

    Raises:
        ConfigError: With every problem found; no other exception, whatever the bytes.
    """
    return _understand(text, filename, env, Secrets.of(env))[0]


def _understand(
    text: bytes, filename: str, env: Mapping[str, str], secrets: Secrets, files: SecretFiles | None = None
) -> tuple[Config, Node, list[Problem]]:
    """The configuration, the tree that it was read from, and warnings."""
    files = files if files is not None else SecretFiles()
    root, problems = parse(decode(text, filename), filename, env, files)
    secrets.learn(files.values)
    if root is None:
        message = "expected a mapping, found an empty file"
        raise ConfigError([Problem(filename, 1, 1, "", message, "begin with `service: <name of your app>`")])
    shaped = shape(root, filename, CONFIG)
    problems = problems + shaped.problems
    warnings: list[Problem] = []
    if shaped.config is not None:
        report = Report(root, filename, shaped.blamed)
        check(shaped.config, report)
        problems += report.problems
        warnings = sorted(report.warnings)
    if problems or shaped.config is None:
        raise ConfigError([problem.without(secrets) for problem in problems])
    return shaped.config, root, [warning.without(secrets) for warning in warnings]


def load_source(source: Source, env: Mapping[str, str], files: SecretFiles | None = None) -> Loaded:
    """
    Understand what was read; raises as `load_text`.

    Args:
        files: Knows afterwards which secrets were read, also if the file is refused.
    """
    secrets = Secrets.of(env)
    files = files if files is not None else SecretFiles()
    config, root, warnings = _understand(source.raw, source.path, env, secrets, files)
    return Loaded(config, source, root, secrets, tuple(warnings), files)
