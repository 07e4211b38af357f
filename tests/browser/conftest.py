"""One browser and one tab for all tests; and what no page may do: complain, or ask anybody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.chromium import Chromium, Tab, chromium
from tests.support.mesh_fixture import Json
from tests.support.mesh_page import MeshPage, serving
from tests.support.sidecar_page import SidecarPage, serving_sidecar

OpenSidecar = Callable[[SidecarPage], Tab]
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


@contextmanager
def watched(tab: Tab, url: str) -> Iterator[None]:
    """
    A tab in which nothing glides, until leaving. In the end nothing may have been complained of but what the browser
    itself says of an answer that the test made an error, and nobody but `url` may have been asked for anything.
    """
    tab.reset()
    tab.prefer(prefers_reduced_motion="reduce")
    yield
    tab.run("0")  # What was said before is noted by then.
    assert [one for one in tab.problems if not one.startswith("Failed to load resource")] == []
    tab.send("Page.navigate", url="about:blank")  # It asks no more.
    assert [asked for asked in tab.requests if not asked.startswith((url, "data:", "about:"))] == []


@pytest.fixture
def serve(shared: Tab) -> Iterator[Callable[[Json], tuple[Tab, MeshPage]]]:
    """Serve a mesh, and give a tab that has not gone there yet, which is `watched`."""
    with ExitStack() as stack:

        def make(mesh: Json) -> tuple[Tab, MeshPage]:
            page = stack.enter_context(serving(mesh))
            stack.enter_context(watched(shared, page.url))
            return shared, page

        yield make


@pytest.fixture
def open_mesh(serve: Open) -> Open:
    """Serve a mesh, and give a tab in which its map is drawn."""

    def make(mesh: Json) -> tuple[Tab, MeshPage]:
        tab, page = serve(mesh)
        tab.open(page.url)
        tab.wait("document.querySelector('.node') !== null && document.querySelector('.charts') !== null", "the map")
        return tab, page

    return make


@pytest.fixture
def open_sidecar(shared: Tab) -> Iterator[OpenSidecar]:
    """Serve a sidecar's page, and give a tab that shows it, which is `watched`."""
    with ExitStack() as stack:

        def make(page: SidecarPage) -> Tab:
            stack.enter_context(serving_sidecar(page))
            stack.enter_context(watched(shared, page.url))
            shared.open(page.url)
            shared.wait("document.querySelector('#explain h2') !== null", "the page")
            return shared

        yield make
