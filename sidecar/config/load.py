"""
The door of this room: a file's bytes in, a `Config` out, or every problem at once. *Cold, pure but for reading.*

Nothing here touches an event loop or keeps state; a running sidecar calls it in a process of its own
(`loader.compiler`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.check import Report, check
from sidecar.config.model.root import Config
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import Source, decode
from sidecar.config.validate import shape
from sidecar.config.yaml.document import Node, parse
from sidecar.config.yaml.places import Location, locate
from sidecar.config.yaml.secret_files import SecretFiles


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A file that was read and understood.

    Attributes:
        config: What it says.
        source: What it was read from.
        root: Its tree, which knows where everything is written.
        files: Secrets that it read.
    """

    config: Config
    source: Source
    root: Node
    files: SecretFiles = field(default_factory=SecretFiles)

    def problem_at(self, location: Location, message: str, hint: str = "") -> Problem:
        """A problem at the line and column of a location of the models."""
        place = locate(self.root, location)
        return Problem(self.source.path, place.mark.line, place.mark.column, place.path, message, hint)


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
    return _understand(text, filename, env)[0]


def _understand(
    text: bytes, filename: str, env: Mapping[str, str], files: SecretFiles | None = None
) -> tuple[Config, Node]:
    """The configuration, and the tree that it was read from."""
    root, problems = parse(decode(text, filename), filename, env, files)
    if root is None:
        message = "expected a mapping, found an empty file"
        raise ConfigError([Problem(filename, 1, 1, "", message, "begin with `service: <name of your app>`")])
    shaped = shape(root, filename)
    problems = problems + shaped.problems
    if shaped.config is not None:
        report = Report(root, filename, shaped.blamed)
        check(shaped.config, report)
        problems += report.problems
    if problems or shaped.config is None:
        raise ConfigError(problems)
    return shaped.config, root


def load_source(source: Source, env: Mapping[str, str], files: SecretFiles | None = None) -> Loaded:
    """
    Understand what was read; raises as `load_text`.

    Args:
        files: Knows afterwards which secrets were read, also if the file is refused.
    """
    files = files if files is not None else SecretFiles()
    config, root = _understand(source.raw, source.path, env, files)
    return Loaded(config, source, root, files)
