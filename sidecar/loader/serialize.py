"""
A file that was read becomes frames: the part of `compile.frames` that knows the models. *Cold, pure.*

Only a compiler process and `sidecar check` get here; see `compile.frames` for what is sent and `compile.deserialize`
for who reads it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from io import BytesIO
from itertools import islice
from typing import Any, Final

from pydantic_core import PydanticUndefined

from sidecar.compile.frames import MAX_WARNINGS, ControlSettings, Header, Kind, WantedListener, make_frame
from sidecar.compile.security.tls import identity_source, mode_of
from sidecar.config.load import Loaded
from sidecar.config.model.authorization import Authorization
from sidecar.config.model.root import Config, Inbound, InboundListen, Outbound
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.values.base import Model
from sidecar.config.yaml.places import Lines, lines_of, locate
from sidecar.routing.match import host_pattern

ITEMS_A_FRAME: Final = 32
"""Routes, upstreams or tests: less than 0.1 ms to load."""

MAX_PIECE_BYTES: Final = 16 * 1024
"""Fewer are taken where they are large; one item is never cut."""

LINES_A_FRAME: Final = 1000

_APART: Final[dict[type[Model], frozenset[str]]] = {
    Config: frozenset({"upstreams", "tests"}),
    Inbound: frozenset({"routes"}),
    Outbound: frozenset({"routes"}),
    Authorization: frozenset({"rules"}),
}
"""What may be long, and so has frames of its own."""


def write_frames(loaded: Loaded, local_files: Sequence[tuple[str, str]] = ()) -> list[bytes]:
    """
    All frames of a file.

    Args:
        local_files: As the header has them.

    Raises:
        ConfigError: A listener is for what is not one host.
    """
    config = loaded.config
    lines = _Lines(lines_of(loaded.root))
    if not loaded.is_whole:
        # A local file alone opens no way for requests: only who looks after the process is let in.
        config = config.model_copy(update={"inbound": None, "outbound": None, "capture": None})
    warnings = tuple(one.named() for one in loaded.warnings[:MAX_WARNINGS])
    frames = [
        Header(
            True,
            loaded.source.digest_hex,
            _listeners(loaded, config),
            config.workers,
            warnings=warnings,
            secret_files=tuple(loaded.files.digests.items()),
            secrets=tuple(sorted(loaded.files.values)),
            pushed=loaded.source.path if loaded.own is not None and loaded.is_whole else "",
            local_files=tuple(local_files),
            discovers=tuple(sorted(_discovered(config))),
            control=_control(loaded.own),
            identity=identity_source(config.identity),
            guard=_guard(config),
        ).to_frame(),
        _shapes_frame(tuple(_below(Model))),
        make_frame(Kind.SETTINGS, _pickled(config)),
    ]
    frames += (make_frame(Kind.UPSTREAMS, piece) for piece in _pieces(list(config.upstreams.items()), _as_it_is))
    for name, side in (("inbound", config.inbound), ("outbound", config.outbound)):
        form = partial(_routes_of, name, lines.of_routes)
        frames += (make_frame(Kind.ROUTES, piece) for piece in _pieces(side.routes if side is not None else [], form))
    authorization = config.inbound.authorization if config.inbound is not None else None
    if authorization is not None:
        form = partial(_rules_of, loaded)
        frames += (make_frame(Kind.RULES, piece) for piece in _pieces(authorization.rules, form))
    frames += (make_frame(Kind.TESTS, piece) for piece in _pieces(config.tests, _as_it_is))
    left = iter(lines.others.items())
    while some := dict(islice(left, LINES_A_FRAME)):
        frames.append(make_frame(Kind.LINES, _pickled(some)))
    return [*frames, make_frame(Kind.END)]


def _discovered(config: Config) -> set[str]:
    found = (one.discover.name for one in config.upstreams.values() if one.discover is not None)
    return {name for name in found if name is not None}


def _guard(config: Config) -> tuple[float, int] | None:
    guard = config.reload.guard
    return (guard.max_moved, guard.min_requests) if guard is not None else None


def _control(own: Config | None) -> ControlSettings | None:
    if own is None or own.control is None:
        return None
    control = own.control
    return ControlSettings(
        addresses=tuple(control.addresses),
        service=own.service.name,
        version=own.service.version or "",
        zone=own.zone or "",
        token_file=control.token_file or "",
        trust=control.trust or "",
        form=control.form,
        address=control.address or "",
        instance=control.instance or "",
        weight=control.weight,
        bootstrap=own.bootstrap or "",
        state=own.state or "",
    )


def _listeners(loaded: Loaded, config: Config) -> tuple[WantedListener, ...]:
    found: list[WantedListener] = []
    problems: list[Problem] = []
    for name, side in (("inbound", config.inbound), ("outbound", config.outbound)):
        for index, spec in enumerate(side.listen if side is not None else ()):
            try:
                host = host_pattern(spec.host) if spec.host is not None else None
                if host is not None and host.startswith(b"*"):
                    raise ValueError(f"expected one host, found the pattern {spec.host!r}")
            except ValueError as error:
                problems.append(loaded.problem_at((name, "listen", index, "host"), str(error)))
                continue
            location = (name, "listen", index, "address")
            wanted = _wanted(loaded, name, spec.address, location, host.decode() if host is not None else None)
            wanted = replace(wanted, protocol=spec.protocol)
            if isinstance(spec, InboundListen):
                assert config.inbound is not None
                tls = mode_of(config.inbound, index, has_identity=config.identity is not None)
                wanted = replace(wanted, name=spec.name or "", tls=tls)
                if spec.app is not None:
                    wanted = replace(wanted, app=spec.app.address, app_protocol=spec.app.protocol)
            found.append(wanted)
    found = _with_captured(loaded, config, found)
    hosts = tuple(config.admin.hosts)
    for role, at, addresses in (
        ("metrics", ("telemetry", "metrics", "listen"), config.telemetry.metrics.listen),
        ("admin", ("admin", "listen"), config.admin.listen),
    ):
        found += (_wanted(loaded, role, one, (*at, index), hosts=hosts) for index, one in enumerate(addresses))
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _with_captured(loaded: Loaded, config: Config, found: list[WantedListener]) -> list[WantedListener]:
    """With those of `capture`; one that has the address of an outbound listener is that listener."""
    if config.capture is None:
        return found
    wanted_too = set(config.capture.outbound)
    found = [replace(one, captures=one.role == "outbound" and one.address in wanted_too) for one in found]
    shared = {one.address for one in found if one.captures}
    for role, addresses in (("outbound", config.capture.outbound), ("inbound", config.capture.inbound)):
        for index, address in enumerate(addresses):
            if role == "inbound" or address not in shared:
                wanted = _wanted(loaded, role, address, ("capture", role, index))
                tls = mode_of(config.inbound, None, has_identity=config.identity is not None)
                found.append(replace(wanted, captures=True, tls=tls if role == "inbound" else "off"))
    return found


def _wanted(
    loaded: Loaded,
    role: str,
    address: str,
    location: tuple[int | str, ...],
    host: str | None = None,
    hosts: tuple[str, ...] = (),
) -> WantedListener:
    place = loaded.problem_at(location, "")
    return WantedListener(role, address, host, location, place.line, place.column, place.path, hosts, place.file)


# --- pickles ---------------------------------------------------------------------------------------------------


class _Writer(pickle.Pickler):
    """Writes a model as its class's name and what the file gives of it."""

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, Model):
            return NotImplemented
        names = value.model_fields_set - _APART.get(type(value), frozenset())
        return type(value), (), {name: getattr(value, name) for name in names}


def _pickled(value: object) -> bytes:
    stream = BytesIO()
    _Writer(stream, protocol=5).dump(value)
    return stream.getvalue()


def _pieces(items: Sequence[Any], form: Callable[[int, Sequence[Any]], object]) -> Iterator[bytes]:
    """`form(index of the first, some items)`, pickled, for all of the items in order."""
    at, count = 0, ITEMS_A_FRAME
    while at < len(items):
        piece = _pickled(form(at, items[at : at + count]))
        if len(piece) > MAX_PIECE_BYTES and count > 1:
            count //= 2
            continue
        yield piece
        at, count = at + count, ITEMS_A_FRAME


def _as_it_is(first: int, items: Sequence[Any]) -> object:
    return items


class _Lines:
    """Lines of a file: those of routes, which go with their routes, by side and index; and all others."""

    def __init__(self, lines: Lines) -> None:
        self.of_routes: dict[tuple[str, int], dict[tuple[int | str, ...], int | str]] = {}
        self.others: dict[tuple[int | str, ...], int | str] = {}
        for at, line in lines.items():
            match at:
                case (str() as side, "routes", int() as index, *rest) if side in ("inbound", "outbound"):
                    self.of_routes.setdefault((side, index), {})[tuple(rest)] = line
                case _:
                    self.others[at] = line


def _routes_of(
    side: str,
    lines: Mapping[tuple[str, int], Mapping[tuple[int | str, ...], int | str]],
    first: int,
    routes: Sequence[Any],
) -> object:
    """With the lines of each, by the keys that lead there from the route, which has the empty ones."""
    return side, first, routes, [lines.get((side, index), {}) for index in range(first, first + len(routes))]


def _rules_of(loaded: Loaded, first: int, rules: Sequence[Any]) -> object:
    """With where each is written, for the log."""
    marks = (
        locate(loaded.root, ("inbound", "authorization", "rules", index)).mark
        for index in range(first, first + len(rules))
    )
    return first, rules, [f"{mark.file}:{mark.line}" for mark in marks]


# --- shapes ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _shapes_frame(models: tuple[type[Model], ...]) -> bytes:
    """The frame of these; who judges many files makes it once."""
    return make_frame(Kind.SHAPES, _pickled(_shapes(models)))


def _shapes(models: Iterable[type[Model]]) -> list[tuple[str, tuple[str, ...], bytes, bool]]:
    """Every model: its full name, its settings, their defaults, whether it is one value; after those that it needs."""
    found: dict[type[Model], tuple[str, tuple[str, ...], bytes, bool]] = {}

    def add(model: type[Model]) -> None:
        defaults = {name: _default(field) for name, field in model.model_fields.items() if not field.is_required()}
        for needed in _models_in(list(defaults.values())):
            if needed not in found:
                add(needed)
        name = f"{model.__module__}.{model.__qualname__}"
        found[model] = name, tuple(model.model_fields), _pickled(defaults), model.is_one_value

    for model in models:
        if model not in found:
            add(model)
    return list(found.values())


def _below(model: type[Model]) -> Iterator[type[Model]]:
    for one in model.__subclasses__():
        if one.__module__.startswith("sidecar.config."):
            yield one
            yield from _below(one)


def _default(field: Any) -> object:
    assert field.default_factory is not None or field.default is not PydanticUndefined
    return field.get_default(call_default_factory=True)


def _models_in(value: object) -> Iterator[type[Model]]:
    """Classes of the models that a default holds."""
    if isinstance(value, list):
        for one in value:
            yield from _models_in(one)
    elif isinstance(value, Model):
        yield type(value)
