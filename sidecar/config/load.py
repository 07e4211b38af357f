"""
The door of this room: a file's bytes in, a `Config` out, or every problem at once. *Cold, pure but for reading.*

Nothing here touches an event loop or keeps state, so `load_text` may run in a worker thread or another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.config.check import Report, check
from sidecar.config.document import Node, parse
from sidecar.config.model import Config
from sidecar.config.places import Lines, lines_of
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import Source, decode, read_source
from sidecar.config.validate import shape


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A file that was read and understood.

    Attributes:
        config: What it says.
        digest_hex: SHA-256 of its bytes.
        raw: Its bytes.
        lines: Where its settings are written.
    """

    config: Config
    digest_hex: str
    raw: bytes
    lines: Lines


def load_text(text: bytes, filename: str, env: Mapping[str, str]) -> Config:
    """
    Understand a configuration.

    Args:
        text: YAML in UTF-8, at most 10 MiB.
        filename: For the problems; nothing is read.
        env: Variables for `${NAME}`.

    Raises:
        ConfigError: With every problem found; no other exception, whatever the bytes.
    """
    return _understand(text, filename, env)[0]


def _understand(text: bytes, filename: str, env: Mapping[str, str]) -> tuple[Config, Node]:
    """The configuration, and the tree that it was read from."""
    root, problems = parse(decode(text, filename), filename, env)
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


def read_config(path: str, env: Mapping[str, str]) -> Loaded:
    """
    Read and understand a file.

    Raises:
        SourceError: It cannot be read.
        ConfigError: It cannot be used.
    """
    return load_source(read_source(path), env)


def load_source(source: Source, env: Mapping[str, str]) -> Loaded:
    """Understand what was read, such as by `read_source_async`; raises as `load_text`."""
    config, root = _understand(source.raw, source.path, env)
    return Loaded(config, source.digest_hex, source.raw, lines_of(root))
