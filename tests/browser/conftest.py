"""One browser and one tab for all tests; and what no page may do: complain, or ask anybody else."""

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


@pytest.fixture(scope="session")
def shared(browser: Chromium) -> Iterator[Tab]:
    """A tab that each test gets in turn: a page of its own, at a port of its own, has nothing of another's."""
    with browser.tab() as tab:
        yield tab


def look_again(tab: Tab) -> None:
    """The page asks now, as when one comes back to it, and not two seconds later."""
    tab.run("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.fixture
def serve(shared: Tab) -> Iterator[Callable[[Json], tuple[Tab, MeshPage]]]:
    """
    Serve a mesh, and give a tab that has not gone there yet, in which nothing glides. In the end nothing may have been
    complained of but what the browser itself says of an answer that the test made an error, and nobody else may have
    been asked for anything.
    """
    with ExitStack() as stack:
        pages: list[MeshPage] = []

        def make(mesh: Json) -> tuple[Tab, MeshPage]:
            assert not pages, "one page a test"
            pages.append(stack.enter_context(serving(mesh)))
            shared.reset()
            shared.prefer(prefers_reduced_motion="reduce")
            return shared, pages[0]

        yield make
        for page in pages:
            shared.run("0")  # What was said before is noted by then.
            assert [one for one in shared.problems if not one.startswith("Failed to load resource")] == []
            shared.send("Page.navigate", url="about:blank")  # It asks no more.
            assert [url for url in shared.requests if not url.startswith((page.url, "data:", "about:"))] == []


@pytest.fixture
def open_mesh(serve: Open) -> Open:
    """Serve a mesh, and give a tab in which its map is drawn."""

    def make(mesh: Json) -> tuple[Tab, MeshPage]:
        tab, page = serve(mesh)
        tab.open(page.url)
        tab.wait("document.querySelector('.node') !== null && document.querySelector('.charts') !== null", "the map")
        return tab, page

    return make
