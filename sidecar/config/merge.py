"""
The tree of a sidecar that follows a control plane: the file that was pushed, what its local file says of the machine,
and the command line. *Cold, pure.*

    pushed file            everything, but what is the machine's alone (`NEVER_PUSHED`)
      <- local file        what concerns the machine (`_LOCAL`); each key replaces the pushed value, and is not merged
        <- command line    single values: the control plane, who this is, where it is

Every node knows its file, so that what is wrong, and what is in force, is told with the place where it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as MappingLike
from collections.abc import Sequence as SequenceLike
from typing import Final

from sidecar.config.model.root import Config
from sidecar.config.problems import Problem
from sidecar.config.yaml.document import Mapping, Node, Scalar, Sequence

NEVER_PUSHED: Final = ("control", "bootstrap", "identity", "state", "workers")

_ALL: Final[frozenset[str]] = frozenset()
_LOCAL: Final[MappingLike[str, frozenset[str]]] = {
    "control": _ALL,
    "bootstrap": _ALL,
    "state": _ALL,
    "service": _ALL,
    "identity": _ALL,
    "zone": _ALL,
    "workers": _ALL,
    "limits": _ALL,
    "drain": _ALL,
    "admin": _ALL,
    "explain": _ALL,
    "reload": _ALL,
    "inbound": frozenset({"listen", "app", "health_check"}),
    "outbound": frozenset({"listen"}),
    "capture": _ALL,
    "telemetry": frozenset({"access_log", "metrics", "recent_requests"}),
}
"""What a local file may say; of sections only these keys."""
_LISTEN_ONLY: Final = frozenset({("telemetry", "metrics")})
"""Sections of which only `listen` is the machine's."""

OPTIONS: Final[MappingLike[str, tuple[str, ...]]] = {
    "control": ("control", "addresses"),
    "control-token-file": ("control", "token_file"),
    "capture": ("capture", "unmatched"),
    "control-trust": ("control", "trust"),
    "address": ("control", "address"),
    "instance": ("control", "instance"),
    "service": ("service", "name"),
    "version": ("service", "version"),
    "zone": ("zone",),
    "state-dir": ("state",),
}
"""Options of the command line, by what they set."""

_SHORT: Final = {"control": "addresses", "service": "name"}
"""What a scalar in the place of one of these sections is."""

_KNOWN_BY: Final = {"inbound": "name", "outbound": "host"}
"""By which key a listener of a section is known to others: callers know a port's name, an app the dependency's port."""

DEFAULT: Final = "default with `control`"
"""In the place of a file: nobody has written it."""


def is_followed(local: Node | None, options: MappingLike[str, object]) -> bool:
    """Whether these ask for a control plane."""
    return "control" in options or (isinstance(local, Mapping) and "control" in local.entries)


def merge(
    pushed: Node | None, local: Node | None, options: MappingLike[str, str | SequenceLike[str]]
) -> tuple[Mapping, list[Problem]]:
    """
    One tree of all three, and the keys that are where they do not belong, which the tree does not have; with a warning
    for each listener that the pushed file has and the local list of listeners, which replaces its, leaves out.

    Args:
        pushed: The root of what was pushed; None before anything was.
        local: The root of the local file; None if there is none.
        options: Of the command line, by name (`OPTIONS`); a list for several values.
    """
    problems: list[Problem] = []
    first = next((one for one in (pushed, local) if isinstance(one, Mapping)), None)
    root = Mapping(1, 1, first.file if first is not None else "command line")
    if isinstance(pushed, Mapping):
        root.entries.update(pushed.entries)
        for name in NEVER_PUSHED:
            if name in root.entries:
                key, _ = root.entries.pop(name)
                hint = "say it in the sidecar's local file, or on its command line"
                problems.append(_at(key, name, f"`{name}` is the machine's own and never pushed", hint))
    if isinstance(local, Mapping):
        _replace(root, local, problems)
    for name, written in options.items():
        _set(root, OPTIONS[name], written, f"--{name}")
    return root, problems


def add_default(root: Mapping, location: tuple[str, str], text: str) -> None:
    """Let the tree have a value that nobody has written."""
    _set(root, location, text, DEFAULT)


def _replace(root: Mapping, local: Mapping, problems: list[Problem]) -> None:
    """Take over what the local file says of the machine; what it may not say is a problem."""
    for name, (key, node) in local.entries.items():
        inner = _LOCAL.get(name)
        if inner is None and name in Config.model_fields:
            problems.append(_misplaced(key, name))
        elif inner is None or inner is _ALL or not isinstance(node, Mapping):
            # What no file knows is for the models to say.
            root.entries[name] = (key, node)
        else:
            _replace_within(root, name, key, node, inner, problems)


def _replace_within(
    root: Mapping, name: str, key: Scalar, local: Mapping, allowed: Iterable[str], problems: list[Problem]
) -> None:
    section = _own_section(root, name, key)
    for inner_name, (inner_key, inner) in local.entries.items():
        at = f"{name}.{inner_name}"
        if inner_name not in allowed and inner_name in _keys_of(name):
            problems.append(_misplaced(inner_key, at))
        elif (name, inner_name) in _LISTEN_ONLY and isinstance(inner, Mapping):
            part = _own_section(section, inner_name, inner_key)
            for last_name, (last_key, last) in inner.entries.items():
                if last_name == "listen":
                    part.entries[last_name] = (last_key, last)
                else:
                    problems.append(_misplaced(last_key, f"{at}.{last_name}"))
        else:
            if inner_name == "listen" and inner_name in section.entries:
                problems += _left_out(name, inner_key, inner, section.entries[inner_name][1])
            section.entries[inner_name] = (inner_key, inner)


def _left_out(section: str, key: Scalar, local: Node, pushed: Node) -> Iterable[Problem]:
    """Listeners that somebody counts on, and that the local list silently ended."""
    known_by = _KNOWN_BY[section]
    kept = _listeners(local, known_by).keys()
    for known, listener in _listeners(pushed, known_by).items():
        if known in kept:
            continue
        message = (
            f"replaces the pushed list of listeners, so nothing listens for `{known}`, which the pushed file has at"
            f" {listener.file}:{listener.line}:{listener.column}"
        )
        hint = f"if it is wanted on this machine, add `{{address: ..., {known_by}: {_flow(known)}}}` here"
        yield Problem(
            key.file, key.line, key.column, f"{section}.listen", message, hint, "warning", "listener-left-out"
        )


def _listeners(listen: Node, known_by: str) -> dict[str, Node]:
    """What `listen` says, one or many, by what each is known by; a port without a name is called `http`."""
    found: dict[str, Node] = {}
    for one in listen.items if isinstance(listen, Sequence) else (listen,):
        entry = one.entries.get(known_by) if isinstance(one, Mapping) else None
        if entry is not None and isinstance(entry[1], Scalar):
            found.setdefault(entry[1].text.lower(), one)
        elif known_by == "name":
            found.setdefault("http", one)
    return found


def _flow(word: str) -> str:
    return f'"{word}"' if ":" in word else word


def _own_section(parent: Mapping, name: str, key: Scalar) -> Mapping:
    """The section of this name, as a mapping that is nobody else's; a new one if there is none."""
    found = parent.entries.get(name)
    if found is None or not isinstance(found[1], Mapping):
        section = Mapping(key.line, key.column, key.file)
        short = _SHORT.get(name)
        if found is not None and short is not None and isinstance(found[1], Scalar):
            section = Mapping(found[1].line, found[1].column, found[1].file)
            section.entries[short] = (found[0], found[1])
        parent.entries[name] = (found[0] if found is not None else key, section)
        return section
    section = Mapping(found[1].line, found[1].column, found[1].file)
    section.entries.update(found[1].entries)
    parent.entries[name] = (found[0], section)
    return section


def _set(root: Mapping, location: tuple[str, ...], written: str | SequenceLike[str], file: str) -> None:
    line = 0 if file == DEFAULT else 1
    parent = root
    for name in location[:-1]:
        parent = _own_section(parent, name, Scalar(line, 1, name, name, file))
    value: Node
    if isinstance(written, str):
        value = Scalar(line, 1, written, written, file)
    else:
        value = items = Sequence(line, 1, file)
        items.items += (Scalar(line, 1, one, one, file) for one in written)
    name = location[-1]
    parent.entries[name] = (Scalar(line, 1, name, name, file), value)


def _keys_of(section: str) -> Iterable[str]:
    """Keys that the language has in a section of a local file."""
    annotation = Config.model_fields[section].annotation
    models = (annotation, *getattr(annotation, "__args__", ()))
    return next(one.model_fields for one in models if hasattr(one, "model_fields"))


def _misplaced(key: Scalar, path: str) -> Problem:
    message = f"with `control`, `{path}` is not for a local file, which says only what concerns the machine"
    return _at(key, path, message, "it belongs in the mesh's file of this service")


def _at(key: Scalar, path: str, message: str, hint: str) -> Problem:
    return Problem(key.file, key.line, key.column, path, message, hint)
