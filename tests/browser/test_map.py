"""The map: what it shows, that it stays where it is, and how one gets around in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.browser.conftest import Open, look_again
from tests.support.chromium import Tab
from tests.support.mesh_fixture import edge, generated, mesh, service, shop
from tests.support.wait import eventually

PLACES = """Object.fromEntries([...document.querySelectorAll('.node')].map((one) => {
  const {x, y, width, height} = one.querySelector('.box').getBoundingClientRect();
  return [one.dataset.node, [x, y, width, height]];
}))"""
LINES = """Object.fromEntries([...document.querySelectorAll('.edge')].map((one) => [
  one.dataset.edge, one.querySelector('.line').getAttribute('d')
]))"""
STAGE = """(({left, top, right, bottom}) => [left, top, right, bottom])(
  document.getElementById('stage').getBoundingClientRect()
)"""
RED = '[data-edge=\'["storefront","recommendations"]\']'


def places(tab: Tab) -> dict[str, list[float]]:
    """Where every service stands, in pixels of the window."""
    found: dict[str, list[float]] = tab.run(PLACES)
    return found


def focused(tab: Tab) -> Any:
    """The service or call that has the focus."""
    return tab.run(
        "document.activeElement.dataset.node ?? document.activeElement.dataset.edge ?? document.activeElement.id"
    )


def test_services_are_shown_with_versions_and_health(open_mesh: Open) -> None:
    """Every service is a node that tells its versions, its health and what is wrong, to the eye and in words."""
    tab, _ = open_mesh(shop())
    assert set(places(tab)) == {"gateway", "storefront", "search", "recommendations", "catalog", "cart", "payments"}
    assert tab.texts("[data-node=recommendations] text") == ["recommendations", "v1, beta · halted", "4/4"]
    assert tab.texts("[data-node=catalog] .health") == ["2/3"]
    told = tab.run("document.querySelector('[data-node=catalog]').getAttribute('aria-label')")
    assert (
        told == "catalog: version v1; 2 of 3 instances healthy; look at it (1 instance not healthy, 1 instance stale)"
    )
    assert tab.texts("[data-node=payments] .sub") == ["outside of the mesh"]


def test_calls_are_shown_with_rate_success_and_latency(open_mesh: Open) -> None:
    """Every call has its numbers; one that fails is told by form, sign and word beside its colour."""
    tab, _ = open_mesh(shop())
    assert len(tab.texts(".edge")) == 10
    told = tab.run(f"document.querySelector({RED!r}).getAttribute('aria-label')")
    numbers, _, verdict = told.partition("; ")
    assert numbers == "storefront to recommendations: 98/s, 94.1 % succeed, p99 820 ms"
    assert verdict == "hurts (5.9 % fails, p99 820 ms, mostly 64 ms)"
    line = f"getComputedStyle(document.querySelector({RED!r} + ' .line'))"
    calm = "getComputedStyle(document.querySelector('.edge.is-ok .line'))"
    assert tab.run(f"{line}.stroke") != tab.run(f"{calm}.stroke")
    assert tab.run(f"{line}.strokeDasharray") != "none"
    assert tab.run(f"{calm}.strokeDasharray") == "none"
    assert "98/s94.1 % · 820 ms" in tab.texts(".label.is-bad")
    assert tab.run("document.querySelectorAll('.label.is-bad .mark-bad').length") == 1


def test_callers_stand_left_of_callees(open_mesh: Open) -> None:
    """One reads the map from left to right."""
    tab, page = open_mesh(shop())
    where = places(tab)
    assert all(where[row["from"]][0] + where[row["from"]][2] < where[row["to"]][0] for row in page.mesh["edges"])


def test_nothing_moves_as_numbers_change(open_mesh: Open) -> None:
    """Rates, failures, health and versions change; every service and line stays where it is, in the same element."""
    tab, page = open_mesh(shop())
    before, lines = places(tab), tab.run(LINES)
    tab.run("document.querySelectorAll('.node, .edge, .node text').forEach((one) => { one.kept = true; })")
    changed = copy.deepcopy(page.mesh)
    for row in changed["edges"]:
        row.update(
            rate=row["rate"] * 7 + 3, requests=row["requests"] * 7 + 180, success=0.5, p99_s=1.5, failures={"UC": 9}
        )
    for row in changed["services"]:
        row.update(healthy=0, versions=["v1", "v2", "v3"])
    changed["edges"].reverse()
    changed["services"].reverse()
    page.mesh = changed
    look_again(tab)
    tab.wait("document.querySelector('[data-node=catalog] .health').textContent === '0/3'")
    assert tab.texts("[data-node=catalog] .sub") == ["v1, v2, v3"]
    assert places(tab) == before
    assert tab.run(LINES) == lines
    assert tab.run("[...document.querySelectorAll('.node, .edge, .node text')].filter((one) => !one.kept).length") == 0


def test_call_that_rests_stays_where_it_was(open_mesh: Open) -> None:
    """A call without requests in the window is still a call; nothing is laid out anew because traffic paused."""
    tab, page = open_mesh(shop())
    before = places(tab)
    page.mesh = {**page.mesh, "edges": page.mesh["edges"][:2], "revision": 14}
    look_again(tab)
    tab.wait("document.querySelector('.brand').textContent.includes('revision 14')")
    assert places(tab) == before
    assert len(tab.texts(".edge")) == 10


def test_new_service_moves_nobody(open_mesh: Open) -> None:
    """A service that comes takes a free place; one that goes leaves its place free."""
    tab, page = open_mesh(shop())
    nodes = "[...document.querySelectorAll('.node')]"
    transforms = f"Object.fromEntries({nodes}.map((one) => [one.dataset.node, one.style.transform]))"
    before = tab.run(transforms)
    services = [row for row in page.mesh["services"] if row["name"] != "cart"]
    edges = [row for row in page.mesh["edges"] if "cart" not in (row["from"], row["to"])]
    page.mesh = {
        **page.mesh,
        "services": [*services, service("reviews")],
        "edges": [*edges, edge("storefront", "reviews", 3)],
    }
    tab.wait("document.querySelector('[data-node=reviews]') !== null")
    after = tab.run(transforms)
    assert set(after) == {*before, "reviews"} - {"cart"}
    stay = set(before) & set(after)
    assert {name: after[name] for name in stay} == {name: before[name] for name in stay}
    assert after["reviews"] not in [after[name] for name in stay]


def test_keyboard_reaches_everything(open_mesh: Open) -> None:
    """Tab comes to the map, arrows go along it, `e` to calls, Enter opens, again goes to the details, Escape back."""
    tab, _ = open_mesh(shop())
    tab.run("document.querySelector('.views button[aria-pressed=false]').focus()")
    tab.press("Tab")
    assert focused(tab) == "gateway"
    tab.press("ArrowRight", "ArrowRight")
    second = focused(tab)
    assert second in ("cart", "search")
    tab.press("ArrowDown" if second == "cart" else "ArrowUp")
    assert focused(tab) == ("search" if second == "cart" else "cart")
    tab.press("Home", "ArrowRight")
    assert focused(tab) == "storefront"
    tab.press("Enter")
    assert tab.text("#panel-title") == "storefront"
    assert focused(tab) == "storefront"
    tab.press("e")
    first = focused(tab)
    assert first.startswith('["storefront"')
    tab.press("ArrowDown")
    assert focused(tab) != first
    tab.press("ArrowUp", "Enter")
    assert tab.text("#panel-title").startswith("storefront → ")
    tab.press("Enter")
    assert focused(tab) == "panel-title"
    tab.press("Escape")
    assert tab.text("#panel-title") == "What needs a look"
    assert focused(tab) == first
    tab.press("ArrowLeft")
    assert focused(tab) == "storefront"
    tab.press("End")
    assert focused(tab) == "catalog"


def test_only_one_service_is_a_stop_of_the_tabulator(open_mesh: Open) -> None:
    """A map of 200 services is one stop, and what was left is where one comes back to."""
    tab, _ = open_mesh(generated(200))
    assert tab.run("document.querySelectorAll('#map [tabindex=\"0\"]').length") == 1
    tab.run("document.querySelector('#map [tabindex=\"0\"]').focus()")
    tab.press("ArrowRight", "ArrowDown")
    here = focused(tab)
    tab.press("Tab", "Shift+Tab")
    assert focused(tab) == here


def test_services_of_a_large_mesh_can_be_read(open_mesh: Open) -> None:
    """Of 200 services every name is in the window, in letters of nine pixels or more, and none lies on another."""
    tab, _ = open_mesh(generated(200))
    where = list(places(tab).values())
    assert len(where) == 200
    stage = tab.run(STAGE)
    assert all(x >= stage[0] and y >= stage[1] and x + w <= stage[2] and y + h <= stage[3] for x, y, w, h in where)
    scale = "document.getElementById('viewport').getCTM().a"
    assert tab.run(f"parseFloat(getComputedStyle(document.querySelector('.node .name')).fontSize) * {scale}") >= 9
    wide = "[...document.querySelectorAll('.node .name')].filter((one) => one.getBBox().width > 158).length"
    assert tab.run(wide) == 0
    overlaps = [
        (a, b) for i, a in enumerate(where) for b in where[:i] if abs(a[0] - b[0]) < a[2] and abs(a[1] - b[1]) < a[3]
    ]
    assert overlaps == []


def test_search_finds_and_goes_there(open_mesh: Open) -> None:
    """`/` searches: what is not found steps back, Enter goes to the first, near enough to read it, then to the next."""
    tab, _ = open_mesh(generated(200))
    tab.press("/")
    tab.type("tax-api")
    tab.wait("document.querySelector('.found') !== null")
    assert tab.text(".found") == "5 found, Enter goes to the next"
    assert tab.run("document.querySelectorAll('.node:not(.is-dim)').length") == 5
    assert tab.text("#said") == "5 services found"
    tab.press("Enter")
    tab.wait("document.querySelector('.node.is-selected') !== null")
    first = tab.text("#panel-title")
    assert first.startswith("tax-api")
    x, y, width, height = places(tab)[first]
    stage = tab.run(STAGE)
    assert stage[0] <= x <= x + width <= stage[2]
    assert stage[1] <= y <= y + height <= stage[3]
    assert width > 110
    tab.press("Enter")
    tab.wait(f"document.getElementById('panel-title').textContent !== {first!r}")
    tab.press("Escape")
    tab.wait("document.querySelector('.node.is-dim') === null")


def test_focus_shows_a_neighbourhood_and_leads_back(open_mesh: Open) -> None:
    """`f` shows a service with its callers and callees only; back, everything stands where it stood."""
    tab, page = open_mesh(generated(200))
    tab.click(".zoom button:nth-of-type(2)")
    before = places(tab)
    name = next(row["to"] for row in page.mesh["edges"])
    near = {name} | {row["from"] for row in page.mesh["edges"] if row["to"] == name}
    near |= {row["to"] for row in page.mesh["edges"] if row["from"] == name}
    tab.run(f"document.querySelector('[data-node={name}]').focus()")
    tab.press("f")
    tab.wait(f"document.querySelectorAll('.node').length === {len(near)}")
    assert set(places(tab)) == near
    assert tab.text(".chip").startswith(f"around {name}")
    tab.press("f")
    tab.wait("document.querySelectorAll('.node').length === 200")
    assert places(tab) == before


def test_groups_are_namespaces(open_mesh: Open) -> None:
    """Services with a prefix are drawn as one box a prefix, with sums; a click opens it, another's stay closed."""
    names = ["shop.web", "shop.cart", "pay.card", "pay.bank"]
    edges = [edge("shop.web", "shop.cart", 5), edge("shop.cart", "pay.card", 4), edge("shop.web", "pay.bank", 3, 0.5)]
    tab, _ = open_mesh(mesh([service(name) for name in names], [], edges))
    tab.click("[data-check=grouped]")
    tab.wait("document.querySelectorAll('.node').length === 2")
    assert sorted(tab.texts(".node .name")) == ["pay", "shop"]
    assert tab.texts(".label .label-rate") == ["7.0/s"]
    assert tab.run("document.querySelector('.edge').classList.contains('is-bad')")
    tab.click(".edge .hit")
    assert tab.texts("#panel tbody th") == ["shop.cart → pay.card", "shop.web → pay.bank"]
    tab.run("[...document.querySelectorAll('.node')].find((one) => one.textContent.includes('shop')).focus()")
    tab.press("Enter")
    tab.wait("document.querySelectorAll('.node').length === 3")
    assert sorted(tab.texts(".node .name")) == ["pay", "shop.cart", "shop.web"]


def test_groups_are_hops_where_no_name_has_a_namespace(open_mesh: Open) -> None:
    """Without prefixes, the number of calls from the outermost callers groups."""
    tab, _ = open_mesh(shop())
    tab.click("[data-check=grouped]")
    tab.wait("document.querySelectorAll('.of-group').length === 4")
    assert sorted(tab.texts(".of-group .name")) == ["1 hop", "2 hops", "3 hops", "entry"]


def test_two_fingers_zoom_where_they_are_and_one_moves(open_mesh: Open) -> None:
    """
    Spread by half, the map is half as large again, around what the fingers hold, and goes where they go.
    One finger moves it, a tap opens, and what was moved or pinched opens nothing.
    """
    tab, _ = open_mesh(shop())
    tab.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    x, y, width, height = places(tab)["search"]
    x, y = x + width / 2, y + height / 2
    fingers = [((x - reach, y), (x + reach, y)) for reach in (40, 45, 55, 60)]
    tab.touch(*fingers)
    wide = places(tab)["search"]
    assert wide[2] / width == pytest.approx(1.5, rel=0.02)
    assert (wide[0] + wide[2] / 2, wide[1] + wide[3] / 2) == pytest.approx((x, y), abs=3)
    tab.touch(*(((a - 0, b + 9 * n), (c, d + 9 * n)) for n, ((a, b), (c, d)) in enumerate(reversed(fingers))))
    assert places(tab)["search"] == pytest.approx((x - width / 2, y - height / 2 + 27, width, height), abs=4)
    tab.touch(((x, y),), ((x - 20, y + 5),), ((x - 60, y + 40),))
    assert places(tab)["search"][:2] == pytest.approx((x - width / 2 - 60, y - height / 2 + 67), abs=4)
    assert tab.text("#panel-title") == "What needs a look"
    x, y, width, height = places(tab)["catalog"]

    def tapped() -> bool:
        # A tap that a busy machine makes long is none.
        tab.touch(((x + width / 2, y + height / 2),))
        return tab.text("#panel-title") == "catalog"

    eventually(tapped, "a tap")


def test_finger_scrolls_the_page_over_a_map_that_is_all_there(open_mesh: Open) -> None:
    """On a phone the map does not hold whoever wants to get past it; larger than its window, it moves itself."""
    tab, _ = open_mesh(shop())
    tab.size(390, 844)
    tab.wait("document.documentElement.clientWidth === 390")
    tab.press("0")
    ask = "getComputedStyle(document.getElementById('map')).touchAction"
    tab.wait(f"{ask} === 'pan-y'")
    tab.press("+")
    tab.wait(f"{ask} === 'none'")
    tab.press("0")
    assert tab.run(ask) == "pan-y"


def test_map_of_a_narrow_window_stands_upright(open_mesh: Open) -> None:
    """Callers above callees, names to be read, keys by where things are; wide again, all is where it was."""
    tab, page = open_mesh(shop())
    wide = places(tab)
    tab.size(390, 844)
    tab.wait("document.querySelector('[data-node=gateway] .box').getBoundingClientRect().top"
             " < document.querySelector('[data-node=storefront] .box').getBoundingClientRect().top - 40")  # fmt: skip
    tab.press("0")
    narrow = places(tab)
    calls = {(row["from"], row["to"]) for row in page.mesh["edges"]}
    assert [(a, b) for a, b in calls if narrow[a][1] + narrow[a][3] > narrow[b][1]] == []
    assert all(x >= 0 and x + width <= 390 and width > 110 for x, _, width, _ in narrow.values())
    assert "recommendations" in tab.texts(".node .name")
    tab.run("document.querySelector('[data-node=gateway]').focus()")
    tab.press("ArrowDown")
    assert focused(tab) == "storefront"
    tab.press("ArrowDown", "ArrowRight")
    assert narrow[focused(tab)][1] == narrow["cart"][1]
    tab.size(1440, 900)
    tab.wait("document.documentElement.clientWidth === 1440")
    tab.press("0")
    # The window has its size before the page has heard of it, and stands the map down again.
    eventually(lambda: places(tab) == wide, "the map as it was")


def test_keys_move_the_map(open_mesh: Open) -> None:
    """Shift and an arrow key: as a drag, for who has no pointer; the focus stays where it is."""
    tab, _ = open_mesh(shop())
    tab.run("document.querySelector('[data-node=search]').focus()")
    before = places(tab)["search"]
    tab.press("Shift+ArrowLeft", "Shift+ArrowUp", "Shift+ArrowUp")
    assert places(tab)["search"][:2] == pytest.approx((before[0] + 60, before[1] + 120), abs=1)
    assert tab.run("document.activeElement.dataset.node") == "search"
    tab.press("0")
    assert places(tab)["search"] == before


def test_map_is_zoomed_and_moved(open_mesh: Open) -> None:
    """Keys, buttons and the wheel zoom, a drag moves, `0` fits; a drag that begins on a service opens nothing."""
    tab, _ = open_mesh(shop())
    before = places(tab)
    tab.run("document.querySelector('.node').focus()")
    tab.press("+")
    assert places(tab)["catalog"][2] > before["catalog"][2]
    tab.press("0")
    assert places(tab) == before
    x, y, width, height = before["search"]
    tab.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=200)
    tab.wait(f"document.querySelector('[data-node=search] .box').getBoundingClientRect().width < {width - 1}")
    tab.press("0")
    middle = (x + width / 2, y + height / 2)
    tab.send("Input.dispatchMouseEvent", type="mousePressed", x=middle[0], y=middle[1], button="left", clickCount=1)
    for step in (20, 60):
        tab.send(
            "Input.dispatchMouseEvent",
            type="mouseMoved",
            x=middle[0] + step,
            y=middle[1] + 30,
            button="left",
            buttons=1,
        )
    tab.send(
        "Input.dispatchMouseEvent",
        type="mouseReleased",
        x=middle[0] + 60,
        y=middle[1] + 30,
        button="left",
        clickCount=1,
    )
    assert places(tab)["search"][0] > x + 30
    assert tab.text("#panel-title") == "What needs a look"


def test_calls_without_requests_can_be_shown_and_hidden(open_mesh: Open) -> None:
    """What is allowed and was not seen is drawn where it is little, as what it is, and can be hidden."""
    tab, _ = open_mesh(mesh([service("a", callees=["b", "c"]), service("b"), service("c")], [], [edge("a", "b", 1)]))
    assert tab.run("document.querySelectorAll('.edge.is-silent').length") == 1
    told = tab.run("document.querySelector('.edge.is-silent').getAttribute('aria-label')")
    assert told == "a to c: allowed to call, no requests seen"
    tab.click("[data-check=silent]")
    tab.wait("document.querySelectorAll('.edge.is-silent').length === 0")


def test_table_says_what_the_map_says(open_mesh: Open) -> None:
    """`t` gives the same services and calls as tables, with captions and heads of rows and columns."""
    tab, page = open_mesh(shop())
    tab.run("document.activeElement.blur()")
    tab.press("t")
    tab.wait("!document.getElementById('tables').hidden")
    assert tab.texts("#tables caption") == ["Services (7)", "Calls (10)"]
    names = tab.texts("#tables table:first-of-type tbody th")
    assert [name for name in names if "→" not in name] == sorted(row["name"] for row in page.mesh["services"])
    assert tab.run("document.querySelectorAll('#tables th:not([scope])').length") == 0
    assert tab.run("getComputedStyle(document.getElementById('map')).display") == "none"
    tab.click("#tables tr.is-bad .link")
    assert tab.text("#panel-title") == "recommendations"
