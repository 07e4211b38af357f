"""One browser for all tests, a profile for each; and what no page may do: complain, or ask anybody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.chromium import Chromium, Tab, chromium
from tests.support.mesh_fixture import Json
from tests.support.mesh_page import MeshPage, serving

Open = Callable[[Json], tuple[Tab, MeshPage]]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A headless Chromium."""
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def serve(browser: Chromium) -> Iterator[Callable[[Json], tuple[Tab, MeshPage]]]:
    """
    Serve a mesh, and give a tab that has not gone there yet, in which nothing glides. In the end nothing may have been
    complained of but what the browser itself says of an answer that the test made an error, and nobody else may have
    been asked for anything.
    """
    with ExitStack() as stack:
        pairs: list[tuple[Tab, MeshPage]] = []

        def make(mesh: Json) -> tuple[Tab, MeshPage]:
            pairs.append((stack.enter_context(browser.tab()), stack.enter_context(serving(mesh))))
            pairs[-1][0].prefer(prefers_reduced_motion="reduce")
            return pairs[-1]

        yield make
        for tab, page in pairs:
            tab.run("0")  # What was said before is noted by then.
            assert [one for one in tab.problems if not one.startswith("Failed to load resource")] == []
            assert [url for url in tab.requests if not url.startswith((page.url, "data:"))] == []


@pytest.fixture
def open_mesh(serve: Open) -> Open:
    """Serve a mesh, and give a tab in which its map is drawn."""

    def make(mesh: Json) -> tuple[Tab, MeshPage]:
        tab, page = serve(mesh)
        tab.open(page.url)
        tab.wait("document.querySelector('.node') !== null && document.querySelector('.charts') !== null", "the map")
        return tab, page

    return make
