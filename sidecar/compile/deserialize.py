"""
The parts of a configuration as the data path reads them: plain objects with the attributes of the models. *Cold.*

A model instance travels as its class's name and the values that the file gives it; what it does not give is a default,
and stands in the class. The classes are made from the first frame after the header (`Kind.SHAPES`), so that nothing
here knows a setting's name, and the data path imports neither the models nor what they are made of. Functions that
read sections are annotated with the models, whose attributes these are.

The frames come from a process of our own; all the same nothing that they say can call anything but these classes.
"""

from __future__ import annotations

import pickle
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sidecar.compile.frames import FrameError, Kind, kind_of
from sidecar.compile.time_slices import Steps

if TYPE_CHECKING:
    from sidecar.config.model import root as model


Lines = Mapping[tuple[int | str, ...], int | str]
"""Where in the file each setting is written (`config.yaml.places.Lines`)."""


class Section:
    """
    A part of the configuration; a class of its own for each model.

    Attributes:
        fields_: Names of the model's settings, in its order.
        is_one_value_: Shown as one value, not setting by setting.
    """

    __slots__ = ("__dict__",)

    fields_: ClassVar[tuple[str, ...]] = ()
    is_one_value_: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__dict__}>"


def given(section: Section) -> set[str]:
    """Names of the settings that the file gives; all others have their defaults."""
    return set(section.__dict__)


def plain(value: object, *, has_nones: bool = True) -> Any:
    """A section as dicts, lists and scalars, ready for JSON, defaults included; without what is None, if so wished."""
    if isinstance(value, Section):
        settings = ((name, getattr(value, name)) for name in value.fields_)
        return {name: plain(one, has_nones=has_nones) for name, one in settings if has_nones or one is not None}
    if isinstance(value, Mapping):
        return {str(key): plain(inner, has_nones=has_nones) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, has_nones=has_nones) for inner in value]
    return value


class Shapes:
    """
    The classes of a configuration's sections, and the reader of what is made of them.

    Args:
        frame: Of kind `SHAPES`: for each class its full name, its settings, their defaults (pickled; they need earlier
            classes only) and whether it is one value.

    Raises:
        FrameError: It is something else.
    """

    def __init__(self, frame: bytes) -> None:
        self._classes: dict[str, type[Section]] = {}
        if kind_of(frame) is not Kind.SHAPES:
            raise FrameError(f"expected shapes, found {frame[:20]!r}")
        for name, fields, defaults, is_one_value in self.load(frame):
            attributes = {"__slots__": (), "fields_": fields, "is_one_value_": is_one_value, **self._loads(defaults)}
            self._classes[name] = type(name.rpartition(".")[2], (Section,), attributes)

    def load(self, frame: bytes) -> Any:
        """
        What a frame holds, with sections of these classes.

        Raises:
            FrameError: It does not hold that.
        """
        return self._loads(frame[1:])

    def default(self, name: str) -> Any:
        """A section of the model of this full name in which everything has its default."""
        return self._classes[name]()

    def find(self, name: str) -> type[Section]:
        """The class of this full name; `FrameError` if there is none."""
        try:
            return self._classes[name]
        except KeyError:
            raise FrameError(f"expected a section, found {name[:200]!r}") from None

    def _loads(self, payload: bytes) -> Any:
        try:
            return _Reader(payload, self).load()
        except FrameError:
            raise
        except Exception as error:  # whatever pickle makes of octets that are none of its own
            raise FrameError(f"expected sections, found {payload[:20]!r}: {error!r:.200}") from None


@lru_cache(maxsize=2)
def shapes_of(frame: bytes) -> Shapes:
    """The shapes of a frame; the same frame makes the same classes, which as cyclic garbage would outlive a reload."""
    return Shapes(frame)


class _Reader(pickle.Unpickler):
    """Reads pickles that are made of sections and scalars; whatever else they name is an error."""

    def __init__(self, payload: bytes, shapes: Shapes) -> None:
        super().__init__(BytesIO(payload))
        self._shapes = shapes

    def find_class(self, module: str, name: str) -> Any:
        """The class of a section, and nothing else."""
        return self._shapes.find(f"{module}.{name}")


class Written:
    """
    A configuration that was read, kept as its frames: a tenth of the memory, and decoded only for who asks.

    Args:
        frames: All of them.

    Attributes:
        settings: Everything but routes, rules, upstreams and tests.
        shapes: Reads the frames.

    Raises:
        FrameError: The frames are not those of a good file.
    """

    __slots__ = ("_frames", "settings", "shapes")

    def __init__(self, frames: Sequence[bytes]) -> None:
        kinds = [kind_of(frame) for frame in frames]
        if kinds[:3] != [Kind.HEADER, Kind.SHAPES, Kind.SETTINGS] or kinds[-1] is not Kind.END:
            raise FrameError("expected header, shapes, settings and an end, found other frames")
        self._frames = tuple(frames)
        self.shapes = shapes_of(frames[1])
        self.settings: model.Config = self.shapes.load(frames[2])

    def pieces(self, kind: Kind) -> list[bytes]:
        """Frames of one kind, in order."""
        return [frame for frame in self._frames if frame[0] == kind]

    def config(self) -> Steps[model.Config]:
        """The whole of it, for people, in steps; takes some 10 us a route."""
        config: Any = self.shapes.load(self._frames[2])
        upstreams: dict[str, Any] = {}
        for frame in self.pieces(Kind.UPSTREAMS):
            upstreams.update(self.shapes.load(frame))
            yield
        routes: dict[str, list[Any]] = {"inbound": [], "outbound": []}
        for frame in self.pieces(Kind.ROUTES):
            side, _, some, _ = self.shapes.load(frame)
            routes[side] += some
            yield
        for name, side_routes in routes.items():
            if getattr(config, name) is not None and side_routes:
                getattr(config, name).routes = side_routes
        rules: list[Any] = []
        for frame in self.pieces(Kind.RULES):
            rules += self.shapes.load(frame)[1]
            yield
        if rules:
            config.inbound.authorization.rules = rules
        config.upstreams = upstreams
        config.tests = []
        for frame in self.pieces(Kind.TESTS):
            config.tests += self.shapes.load(frame)
            yield
        return cast("model.Config", config)

    def part(
        self, side: str, index: int, upstreams: Container[str]
    ) -> Steps[tuple[model.Config, model.Route | None, Lines]]:
        """
        Of a large configuration what concerns one route, in steps.

        Args:
            side: `inbound` or `outbound`.
            index: Of the route; one that is not there finds none.
            upstreams: Names of those that are wanted.

        Returns:
            Everything but routes, rules, tests and other upstreams; the route; and the lines of these.
        """
        config: Any = self.shapes.load(self._frames[2])
        config.upstreams = {}
        route: Any = None
        for frame in self.pieces(Kind.UPSTREAMS):
            config.upstreams |= {name: one for name, one in self.shapes.load(frame) if name in upstreams}
            yield
        lines: dict[tuple[int | str, ...], int | str] = {}
        pieces = self.pieces(Kind.ROUTES)
        low, high = 0, len(pieces)  # in the order of sides and routes, so that a few of them are decoded
        while low < high:
            at = (low + high) // 2
            label, first, some, said = self.shapes.load(pieces[at])
            if label == side and first <= index < first + len(some):
                route = some[index - first]
                lines.update(((side, "routes", index, *rest), line) for rest, line in said[index - first].items())
                break
            low, high = (low, at) if (label, first) > (side, index) else (at + 1, high)
            yield
        for frame in self.pieces(Kind.LINES):
            yield
            lines.update(
                (at, line)
                for at, line in self.shapes.load(frame).items()
                if at[0] != "upstreams" or len(at) < 2 or at[1] in upstreams
            )
        return config, route, lines

    def lines(self) -> Steps[Lines]:
        """Where in the file each setting is written, in steps."""
        found: dict[tuple[int | str, ...], int | str] = {}
        for frame in self.pieces(Kind.LINES):
            found.update(self.shapes.load(frame))
            yield
        for frame in self.pieces(Kind.ROUTES):
            side, first, _, said = self.shapes.load(frame)
            for index, lines in enumerate(said, first):
                found.update(((side, "routes", index, *rest), line) for rest, line in lines.items())
            yield
        return found
