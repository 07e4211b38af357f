"""When there is nothing to show, nobody answers, or a token is asked for; and how the page looks to whom."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Open, look_again
from tests.support.legible import ids_that_come_twice, nameless, poor_contrasts
from tests.support.mesh_fixture import edge, mesh, service, shop

TOKEN = "s3cret.token-1"


def test_mesh_without_services_says_what_to_do(serve: Open) -> None:
    """No service yet: what to write, not an empty sheet; the first one appears by itself."""
    tab, page = serve(mesh([], [], []))
    tab.open(page.url)
    tab.wait("document.querySelector('.says') !== null")
    tab.wait("document.querySelector('.says h2').textContent === 'This mesh has no services yet'")
    page.mesh = mesh([service("storefront", 0)], [], [])
    look_again(tab)
    tab.wait("document.querySelectorAll('.node').length === 1")
    assert tab.run("document.querySelector('.says')") is None


def test_mesh_without_instances_says_how_one_starts(serve: Open) -> None:
    """Services that nobody runs are drawn at rest, with the command that starts a sidecar."""
    tab, page = serve(mesh([service("a", 0, callees=["b"]), service("b", 0)], [], []))
    tab.open(page.url)
    tab.wait("document.querySelectorAll('.node').length === 2")
    assert "sidecar run --control URL --service NAME" in tab.text(".stage-line")
    told = tab.run("document.querySelector('[data-node=a]').getAttribute('aria-label')")
    assert told.endswith("0 of 0 instances healthy; at rest (no instance)")
    assert tab.text(".health-sum") == "no sidecar yet"
    assert tab.text(".all-well") == "No sidecar has reported yet."


def test_lost_control_plane_keeps_what_was_known(open_mesh: Open) -> None:
    """An error: all that was shown stays, marked, with since when; an alert says it; it goes when answers come."""
    tab, page = open_mesh(shop())
    page.status = 503
    look_again(tab)
    tab.wait("document.querySelector('[data-banner=lost]') !== null")
    said = tab.text("[data-banner=lost]")
    assert "The control plane has not answered since " in said
    assert "(it answers 503)" in said
    assert tab.run("/since \\d\\d:\\d\\d:\\d\\d /.test(document.querySelector('[data-banner=lost]').textContent)")
    assert tab.text("#alarm") == "The control plane does not answer."
    assert tab.text(".fresh") == "not connected"
    assert tab.run("document.querySelectorAll('.node').length") == 7
    tab.click("[data-node=cart] .name")
    assert tab.text("#panel-title") == "cart"
    page.status = 200
    look_again(tab)
    tab.wait("document.querySelector('[data-banner=lost]') === null")
    assert tab.text("#alarm") == "The control plane answers again."


def test_control_plane_that_never_answered_is_told_apart_from_an_empty_mesh(serve: Open) -> None:
    """Opened while the control plane is ill: this is said, and the map comes by itself."""
    tab, page = serve(shop())
    page.status = 500
    tab.open(page.url)
    tab.wait("document.querySelector('.says h2')?.textContent === 'The control plane does not answer'")
    page.status = 200
    look_again(tab)
    tab.wait("document.querySelectorAll('.node').length === 7")


def test_token_is_asked_for_and_kept_out_of_addresses(serve: Open) -> None:
    """401: a dialog asks; a wrong token is told; a right one opens the map, is kept in this tab, and in no address."""
    tab, page = serve(shop())
    page.token = TOKEN
    tab.open(page.url)
    tab.wait("document.getElementById('ask').open")
    assert tab.run("document.activeElement.id") == "ask-token"
    assert tab.run("document.activeElement.type") == "password"
    tab.type("with space")
    tab.press("Enter")
    assert tab.text("#ask-why").startswith("That cannot be a token")
    tab.run("document.getElementById('ask-token').value = ''")
    tab.type("wrong")
    tab.press("Enter")
    tab.wait("document.getElementById('ask-why').textContent === 'This token was refused.'")
    tab.type(TOKEN)
    tab.press("Enter")
    tab.wait("document.querySelectorAll('.node').length === 7")
    assert not tab.run("document.getElementById('ask').open")
    assert tab.run("sessionStorage.getItem('sidecar.token')") == TOKEN
    assert tab.run("localStorage.length + document.cookie.length") == 0
    assert TOKEN not in tab.run("location.href")
    assert [path for path, _ in page.asked if TOKEN in path] == []
    assert ("/v1/mesh", f"Bearer {TOKEN}") in page.asked
    tab.open(page.url)
    tab.wait("document.querySelectorAll('.node').length === 7")
    assert not tab.run("document.getElementById('ask').open")


def test_token_that_is_taken_back_leaves_what_was_known(serve: Open) -> None:
    """401 later: the dialog comes back over the map, can be left, and the map says that it is old."""
    tab, page = serve(shop())
    tab.open(page.url)
    tab.wait("document.querySelectorAll('.node').length === 7")
    page.token = TOKEN
    look_again(tab)
    tab.wait("document.getElementById('ask').open")
    tab.press("Escape")
    tab.wait("!document.getElementById('ask').open")
    assert tab.run("document.querySelectorAll('.node').length") == 7
    tab.click("[data-banner=token] button")
    tab.wait("document.getElementById('ask').open")
    tab.type(TOKEN)
    tab.press("Enter")
    tab.wait("document.querySelector('[data-banner=token]') === null")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(open_mesh: Open, scheme: str) -> None:
    """Every colour of text has a contrast of 4.5 against every ground that it stands on (WCAG 2.2, 1.4.3)."""
    tab, _ = open_mesh(shop())
    tab.prefer(prefers_color_scheme=scheme)
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground.removeprefix("rgb(").rstrip(")").split(",")) > 600) == (scheme == "light")
    assert poor_contrasts(tab) == {}


def test_nothing_glides_for_who_wants_no_motion(open_mesh: Open) -> None:
    """`prefers-reduced-motion`: a service that must move is at its new place at once."""
    tab, _ = open_mesh(shop())
    tab.prefer(prefers_reduced_motion="no-preference")
    ask = "getComputedStyle(document.querySelector('.node')).transitionDuration"
    assert tab.run(ask) == "0.35s"
    tab.prefer(prefers_reduced_motion="reduce")
    assert tab.run(ask) == "0s"


def test_every_control_has_a_name(open_mesh: Open) -> None:
    """Buttons, fields and services have a name for a screen reader; no id comes twice; regions are told apart."""
    tab, _ = open_mesh(shop())
    for state in ("map", "table"):
        assert nameless(tab) == [], state
        assert ids_that_come_twice(tab) == []
        tab.run("document.activeElement.blur()")
        tab.press("t")
    assert tab.run("document.querySelectorAll('main, aside, header, [role=search]').length") >= 4


@pytest.mark.parametrize("width", [1440, 900, 390])
def test_page_fits_windows_of_all_widths(open_mesh: Open, width: int) -> None:
    """Nothing is cut off sideways; narrow, the details stand below the map."""
    tab, _ = open_mesh(shop())
    tab.size(width, 800)
    tab.wait(f"document.documentElement.clientWidth === {width}")
    assert tab.run("document.documentElement.scrollWidth") == width
    below = tab.run(
        "document.getElementById('panel').getBoundingClientRect().top"
        " >= document.getElementById('time').getBoundingClientRect().bottom - 1"
    )
    assert below == (width < 1000)


def test_address_remembers_what_was_chosen(open_mesh: Open) -> None:
    """The address of a chosen call can be sent to somebody, who sees the same; nonsense chooses nothing."""
    tab, page = open_mesh(shop())
    tab.click(".label.is-bad")
    address = tab.run("location.href")
    tab.open("about:blank#")
    tab.open(address)
    tab.wait("document.querySelector('.routes') !== null")
    assert tab.text("#panel-title") == "storefront → recommendations"
    for nonsense in ("#edge=%5B1%5D", "#service=%E0%A4%A", "#service=nobody"):
        tab.open("about:blank#")
        tab.open(page.url + nonsense)
        tab.wait("document.querySelector('.node') !== null")
        assert tab.text("#panel-title") == "What needs a look"


def test_page_asks_no_more_than_it_needs(open_mesh: Open) -> None:
    """One question for the mesh at a time, the hour's history and the reasons once in the first seconds."""
    tab, page = open_mesh(mesh([service("a"), service("b")], [], [edge("a", "b", 1)]))
    tab.wait("new Promise((done) => setTimeout(() => done(true), 4500))")
    asked = [path for path, _ in page.asked]
    assert 2 <= asked.count("/v1/mesh") <= 4
    assert asked.count("/v1/history?minutes=60") == asked.count("/page/reasons.json") == 1
