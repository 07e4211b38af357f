"""
The door of this room: a file's bytes in, a `Config` out, or every problem at once. *Cold, pure but for reading.*

Nothing here touches an event loop or keeps state; a running sidecar calls it in a process of its own
(`loader.compiler`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sidecar.config.check import Report, check
from sidecar.config.concealed import concealed
from sidecar.config.merge import add_default, is_followed, merge
from sidecar.config.model.root import Config
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import Source, decode, make_source
from sidecar.config.validate import CONFIG, shape
from sidecar.config.warnings.ignored import Ignored, ignored_in, not_ignored
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Node, describe, parse
from sidecar.config.yaml.places import Location, locate, place_of_key
from sidecar.config.yaml.secret_files import SecretFiles
from sidecar.redact import Secrets

FOLLOWED_DELAY_S: Final = 3.0
"""`drain.delay` of a sidecar that follows a control plane: what others may take to hear of its goodbye."""
FOLLOWED_POD_DELAY_S: Final = 10.0
"""The same in a pod of Kubernetes, whose endpoints may be found by others than the control plane, later."""
_IN_POD: Final = "KUBERNETES_SERVICE_HOST"
"""Set by the kubelet in every container."""


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
        is_whole: It is no local file, which says only what concerns the machine.
        own: What of it is the machine's, if a control plane says the rest; else None.
        ignored: Warnings that its comments want not to be told, by file.
    """

    config: Config
    source: Source
    root: Node
    secrets: Secrets
    warnings: tuple[Problem, ...] = ()
    files: SecretFiles = field(default_factory=SecretFiles)
    is_whole: bool = True
    own: Config | None = None
    ignored: Mapping[str, Ignored] = field(default_factory=dict)

    def problem_at(self, location: Location, message: str, hint: str = "") -> Problem:
        """A problem at the line and column of a location of the models."""
        place = locate(self.root, location)
        said = concealed(place, message, hint)
        problem = Problem(place.mark.file, place.mark.line, place.mark.column, place.path, *said)
        return problem.without(self.secrets)

    def warning_at(
        self, location: Location, message: str, hint: str = "", *, rule: str, at_key: bool = False
    ) -> Problem:
        """As `problem_at`, a warning of this rule; at the key if that is meant."""
        place = (place_of_key if at_key else locate)(self.root, location)
        said = concealed(place, message, hint)
        mark = place.mark
        problem = Problem(mark.file, mark.line, mark.column, place.path, *said, severity="warning", rule=rule)
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
    return load_source(make_source(filename, text), env).config


def load_source(
    source: Source, env: Mapping[str, str], files: SecretFiles | None = None, *, is_to_run: bool = False
) -> Loaded:
    """
    Understand what was read; raises as `load_text`.

    A file with `control` is a sidecar's local file, and judged as one.

    Args:
        files: Knows afterwards which secrets were read, also if the file is refused.
        is_to_run: It is to be put in force here, and not only looked at.
    """
    reader = _Reader(env, files, is_to_run=is_to_run)
    root = reader.read(source)
    if root is None:
        message = "expected a mapping, found an empty file"
        raise ConfigError([Problem(source.path, 1, 1, "", message, "begin with `service: <name of your app>`")])
    if is_followed(root, {}):
        return reader.follow(source, None, root, {})
    return reader.judge(source, root)


def load_followed(
    pushed: Source | None,
    local: Source | None,
    options: Mapping[str, str | Sequence[str]],
    env: Mapping[str, str],
    files: SecretFiles | None = None,
    *,
    is_to_run: bool = False,
) -> Loaded:
    """
    Understand what a sidecar is to run that follows a control plane; raises as `load_text`. One that follows none has
    its file, as `load_source` understands it.

    Args:
        pushed: What it said; None before it said anything: what concerns the machine is all there is.
        local: The file of this machine, if there is one.
        options: Of the command line (`merge.OPTIONS`).
        files: As `load_source`; so for `is_to_run`.
    """
    reader = _Reader(env, files, is_to_run=is_to_run)
    roots = [reader.read(source) if source is not None else None for source in (pushed, local)]
    if pushed is None and local is not None and roots[1] is not None and not is_followed(roots[1], options):
        return reader.judge(local, roots[1])
    named = pushed or local or Source("command line", b"", "")
    return reader.follow(named, roots[0], roots[1], options, is_whole=pushed is not None)


class _Reader:
    """What reading one file, or two, found; its problems come all at once."""

    def __init__(self, env: Mapping[str, str], files: SecretFiles | None, *, is_to_run: bool) -> None:
        self._env = env
        self._is_to_run = is_to_run
        self._files = files if files is not None else SecretFiles()
        self._secrets = Secrets.of(env)
        self._problems: list[Problem] = []
        self._ignored: dict[str, Ignored] = {}

    def read(self, source: Source) -> Node | None:
        """The tree of a file; None if it is empty."""
        text = decode(source.raw, source.path)
        self._ignored[source.path] = ignored_in(text)
        root, problems = parse(text, source.path, self._env, self._files)
        self._secrets.learn(self._files.values)
        self._problems += problems
        return root

    def follow(
        self,
        source: Source,
        pushed: Node | None,
        local: Node | None,
        options: Mapping[str, str | Sequence[str]],
        *,
        is_whole: bool = False,
    ) -> Loaded:
        """As `judge`, of the one tree that all of these make."""
        for root in (pushed, local):
            if root is not None and not isinstance(root, MappingNode):
                message = f"expected a mapping, found {describe(root)}"
                self._problems.append(Problem(root.file, root.line, root.column, "", message))
        root, problems = merge(pushed, local, options)
        if "identity" not in root.entries:
            # In a mesh everybody is somebody; who has no certificate (yet) is as open as if the file did not say so.
            add_default(root, ("identity", "from"), "control")
        self._problems += (one for one in problems if one.severity != "warning")
        loaded = self.judge(source, root, is_whole=is_whole)
        left_out = [one for one in problems if one.severity == "warning"]
        left_out = [one.without(self._secrets) for one in not_ignored(left_out, self._ignored)]
        own = shape(merge(None, local, options)[0], CONFIG).config if is_whole else loaded.config
        delayed = _with_delay(loaded.config, root, is_pod=_IN_POD in self._env)
        return replace(loaded, config=delayed, own=own, warnings=tuple(sorted((*left_out, *loaded.warnings))))

    def judge(self, source: Source, root: Node, *, is_whole: bool = True) -> Loaded:
        """The configuration of a tree."""
        shaped = shape(root, CONFIG)
        problems = self._problems + shaped.problems
        warnings: list[Problem] = []
        if shaped.config is not None:
            report = Report(root, shaped.blamed)
            check(shaped.config, report, is_whole=is_whole, is_to_run=self._is_to_run)
            problems += report.problems
            warnings = sorted(not_ignored(report.warnings, self._ignored))
        if problems or shaped.config is None:
            raise ConfigError([problem.without(self._secrets) for problem in problems])
        told = tuple(warning.without(self._secrets) for warning in warnings)
        return Loaded(shaped.config, source, root, self._secrets, told, self._files, is_whole, ignored=self._ignored)


def _with_delay(config: Config, root: MappingNode, *, is_pod: bool) -> Config:
    """Who is registered goes on accepting for a while after it has said goodbye, if nobody says otherwise."""
    if "delay" in config.drain.model_fields_set or not config.drain.timeout:
        return config
    delay_s = min(FOLLOWED_POD_DELAY_S if is_pod else FOLLOWED_DELAY_S, config.drain.timeout / 2)
    add_default(root, ("drain", "delay"), f"{delay_s:g}s")
    return config.model_copy(update={"drain": config.drain.model_copy(update={"delay": delay_s})})
