"""What the data path reads of a configuration is what the models say, without the models."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from sidecar.compile.deserialize import Section, Shapes, Written, given, plain, shapes_of
from sidecar.compile.effective import Effective
from sidecar.compile.frames import FrameError, Header, Kind, kind_of, make_frame
from sidecar.compile.time_slices import at_once
from sidecar.config.model.root import Config, Hash, Upstream
from sidecar.config.values.base import Model
from sidecar.loader.serialize import ITEMS_A_FRAME, MAX_PIECE_BYTES, write_frames
from tests.support.compiling import frames_of, loaded

ROOT = Path(__file__).parents[3]
EXAMPLES = [ROOT / "config" / "examples" / "full.yaml", Path(__file__).parents[1] / "config" / "design_example.yaml"]
SMALL = "service: s\noutbound: {}\n"


def many(routes: int, upstreams: int = 1) -> str:
    """A file of so many routes and upstreams."""
    lines = [SMALL.replace("{}", "{routes: ["), *(f"  {{match: {{path: /{n}}}, to: u0}}," for n in range(routes))]
    lines += ["]}", "upstreams:", *(f"  u{n}: {{endpoints: ['10.0.0.1:80']}}" for n in range(upstreams))]
    return "\n".join(lines)


LISTS = {"routes", "upstreams", "tests"}
"""What is put together of pieces: given or not, it is a list."""


def same(model: object, section: object) -> None:
    """Assert that a section has a model's class name, its values and the names of those that were given."""
    if isinstance(model, Model):
        assert isinstance(section, Section)
        assert type(section).__name__ == type(model).__name__
        assert section.fields_ == tuple(type(model).model_fields)
        assert given(section) - LISTS == model.model_fields_set - LISTS
        for name in section.fields_:
            same(getattr(model, name), getattr(section, name))
    elif isinstance(model, dict):
        assert isinstance(section, dict)
        assert list(model) == list(section)
        for key in model:
            same(model[key], section[key])
    elif isinstance(model, list | tuple):
        assert type(model) is type(section)
        assert len(model) == len(section)  # type: ignore[arg-type]
        for one, other in zip(model, section, strict=True):  # type: ignore[call-overload]
            same(one, other)
    else:
        assert (type(model), model) == (type(section), section)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_sections_have_all_that_the_models_have(path: Path) -> None:
    """Values, their types, defaults, and which of them the file gives; the dump for people is the models' own."""
    file = loaded(path.read_text())
    written = Written(write_frames(file))
    same(file.config, at_once(written.config()))
    assert at_once(Effective("f.yaml", written).everything()) == file.config.model_dump(mode="json")


def test_every_model_has_its_shape() -> None:
    """With its settings, its defaults, and whether it is shown as one value."""
    shapes = Written(frames_of(SMALL)).shapes
    upstream = shapes.default("sidecar.config.model.root.Upstream")
    same(Upstream(), upstream)
    assert not upstream.is_one_value_
    assert shapes.find("sidecar.config.model.root.Hash").is_one_value_ is Hash.is_one_value is True
    assert shapes.find("sidecar.config.model.root.Config").fields_ == tuple(Config.model_fields)


def test_nones_are_left_out_where_wished() -> None:
    """As the pages show keys: what was not chosen is not there."""
    written = Written(
        frames_of("service: s\noutbound: {}\nupstreams: {a: {dns: 'a:1', load_balancing: {hash: {cookie: c}}}}")
    )
    value: Any = at_once(written.config()).upstreams["a"].load_balancing
    assert plain(value, has_nones=False) == {"hash": {"cookie": "c"}}
    assert plain(value) == {"hash": {"cookie": "c", "header": None, "query": None, "source_ip": None}}


def test_the_settings_hold_no_long_list() -> None:
    """Routes, upstreams and tests have frames of their own; what is always loaded is small."""
    frames = frames_of(many(routes=200))
    (settings,) = [frame for frame in frames if kind_of(frame) is Kind.SETTINGS]
    assert len(settings) < 1000


def test_long_lists_are_cut_into_pieces_that_are_loaded_in_a_moment() -> None:
    """In order and complete; large items go alone."""
    frames = frames_of(many(routes=3 * ITEMS_A_FRAME + 1, upstreams=ITEMS_A_FRAME + 1))
    kinds = [kind_of(frame) for frame in frames]
    assert (kinds.count(Kind.ROUTES), kinds.count(Kind.UPSTREAMS)) == (4, 2)
    config = at_once(Written(frames).config())
    assert config.outbound is not None
    assert [route.match[0].path.exact for route in config.outbound.routes if route.match[0].path is not None] == [
        f"/{n}" for n in range(3 * ITEMS_A_FRAME + 1)
    ]
    assert list(config.upstreams) == [f"u{n}" for n in range(ITEMS_A_FRAME + 1)]
    body = "x" * (MAX_PIECE_BYTES // 2)
    routes = ", ".join(f"{{match: {{path: /{n}}}, respond: {{status: 200, body: {body}}}}}" for n in range(5))
    large = [one for one in frames_of(f"service: s\noutbound: {{routes: [{routes}]}}") if kind_of(one) is Kind.ROUTES]
    assert len(large) == 5


def test_the_same_shapes_are_made_once() -> None:
    """Classes are cyclic garbage when they go, and what is garbage after a load stays."""
    first, second = frames_of(SMALL), frames_of(many(3))
    assert first[1] == second[1]
    assert Written(first).shapes is Written(second).shapes


def test_frames_of_a_refused_file_or_cut_ones_are_no_configuration() -> None:
    """Whoever forwards frames forwards all of them."""
    frames = frames_of(SMALL)
    refused = [Header(False).to_frame(), make_frame(Kind.END)]
    for wrong in (refused, frames[:-1], frames[1:], [*frames[:1], *frames[2:]]):
        with pytest.raises(FrameError, match="expected header, shapes, settings"):
            Written(wrong)


@pytest.mark.parametrize("what", [os.system, eval, Config, Section, pickle.loads, Path("/")])
def test_nothing_but_sections_is_unpickled(what: object) -> None:
    """Whoever could write frames could not make the data path call anything."""
    shapes = shapes_of(frames_of(SMALL)[1])
    if what is Config:
        assert issubclass(shapes.load(make_frame(Kind.SETTINGS, pickle.dumps(what))), Section)
        return
    with pytest.raises(FrameError, match="expected a section, found "):
        shapes.load(make_frame(Kind.SETTINGS, pickle.dumps(what)))


@pytest.mark.parametrize(
    "payload", [b"", b"garbage", b"\x80\x05.", b"\x80\x05(((", b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"]
)
def test_what_is_no_pickle_is_a_frame_error(payload: bytes) -> None:
    """Whatever pickle itself makes of it."""
    shapes = shapes_of(frames_of(SMALL)[1])
    with pytest.raises(FrameError):
        shapes.load(make_frame(Kind.ROUTES, payload))
    with pytest.raises(FrameError):
        Shapes(make_frame(Kind.SHAPES, payload))
