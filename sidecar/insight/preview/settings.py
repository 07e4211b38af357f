"""Which settings of a route another file has otherwise: of routes with the same name in both. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from sidecar.compile.deserialize import Written, plain
from sidecar.compile.time_slices import at_once
from sidecar.redact import Secrets

MAX_CHANGES: Final = 200
_TOLD_ELSEWHERE: Final = frozenset({"name", "match", "to"})
"""What a request goes to is told by requests, and shares by splits."""

_OF_SHARES: Final = frozenset({"upstream", "weight"})

Route = tuple[str, str]
Lines = Mapping[tuple[int | str, ...], int | str]


def changed_settings(live: Written, new: Written, file: str, secrets: Secrets) -> list[dict[str, Any]]:
    """
    The settings that differ, each with its place in the new file, or that of its route where it is not there any more.

    Args:
        file: Name of the new file.
        secrets: What may not be shown.
    """
    before = {key: settings for key, _, settings in _routes(live)}
    lines = at_once(new.lines())
    found: list[dict[str, Any]] = []
    for key, index, after in _routes(new):
        was = before.get(key)
        if was is None or was == after:
            continue
        for name in dict.fromkeys((*was, *after)):
            one, other = was.get(name), after.get(name)
            at = name.split(".") if not name.startswith("to.") else ["to"]
            if one != other and len(found) < MAX_CHANGES:
                found.append(
                    {
                        "route": key[1],
                        "direction": key[0],
                        "setting": name,
                        "before": secrets.under(name, one),
                        "after": secrets.under(name, other),
                        "position": position(lines, file, (key[0], "routes", index, *at)),
                    }
                )
    return found


def position(lines: Lines, file: str, at: tuple[int | str, ...]) -> str:
    """`file:line` of a place, or of what it stands in; empty if the file does not write it."""
    while len(at) > 2 or (len(at) == 2 and at[0] == "upstreams"):
        line = lines.get(at)
        if line is not None:
            return line if isinstance(line, str) else f"{file}:{line}"
        at = at[:-1]
    return ""


def _routes(written: Written) -> Iterator[tuple[Route, int, dict[str, Any]]]:
    config = at_once(written.config())
    for direction, side in (("inbound", config.inbound), ("outbound", config.outbound)):
        for index, route in enumerate(side.routes if side is not None else ()):
            name = route.name if route.name is not None else f"routes[{index}]"
            settings = {key: value for key, value in plain(route).items() if key not in _TOLD_ELSEWHERE}
            yield (direction, name), index, dict(_flat("", settings)) | dict(_of_destinations(route.to or ()))


def _of_destinations(to: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """What is done with requests on the sides of a split, by the side's name."""
    for one in to:
        side = one.upstream if one.upstream is not None else "redirect"
        settings = {key: value for key, value in plain(one, has_nones=False).items() if key not in _OF_SHARES}
        yield from _flat(f"to.{side}.", settings)


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value
