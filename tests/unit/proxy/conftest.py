"""Worlds for conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.fakes import World


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Makes worlds, and closes them afterwards."""
    worlds: list[World] = []

    def make(**settings: object) -> World:
        world = World(**settings)  # type: ignore[arg-type]
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """One upstream `web` with one endpoint, reached outbound by its host."""
    return make_world()
