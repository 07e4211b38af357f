"""The page of one sidecar that is away or has a thousand routes, and the page for who sees and uses it otherwise."""

from __future__ import annotations

import itertools

import pytest

from tests.browser.conftest import OpenSidecar, look_again
from tests.browser.test_sidecar_page import ask, drop, fill, wait_text
from tests.support import sidecar_fixture as fixture
from tests.support.chromium import Tab
from tests.support.legible import faint_texts, ids_that_come_twice, nameless
from tests.support.sidecar_page import SidecarPage


def open_everything(tab: Tab) -> None:
    """The page with all that it can show at once."""
    wait_text(tab, "#routes .splits", "as it falls")
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 5")
    fill(tab, url="http://recommendations/v1")
    ask(tab)
    tab.wait("document.querySelector('#explain .outcome') !== null")
    drop(tab, "new.yaml", "a: b\n")
    tab.wait("document.querySelector('#preview .outcome') !== null")


def test_sidecar_that_is_lost_keeps_what_was_known_and_comes_back(open_sidecar: OpenSidecar) -> None:
    """What was shown stays, marked, with since when; an alert says it; it goes when answers come."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.wait("document.querySelector('#routes tbody tr') !== null")
    page.status = 503
    look_again(tab)
    wait_text(tab, "[data-banner=lost]", "The sidecar has not answered since ")
    assert tab.run(
        "/since \\d\\d:\\d\\d:\\d\\d \\(it answers 503\\)/.test(document.querySelector('.banner').innerText)"
    )
    assert tab.text("#alarm") == "The sidecar does not answer."
    assert tab.text(".fresh") == "not connected"
    assert tab.run("document.querySelectorAll('#routes tbody tr').length") == 6
    page.status = 200
    look_again(tab)
    tab.wait("document.querySelector('[data-banner=lost]') === null")
    assert tab.text("#alarm") == "The sidecar answers again."
    assert tab.text(".fresh").startswith("live")


def test_sidecar_that_never_answered_is_told_apart(open_sidecar: OpenSidecar) -> None:
    """Opened while the sidecar is ill: this is said, and all comes by itself."""
    page = SidecarPage(status=500)
    tab = open_sidecar(page)
    wait_text(tab, "#note h2", "The sidecar does not answer")
    page.status = 200
    look_again(tab)
    tab.wait("document.querySelector('#routes tbody tr') !== null")
    assert tab.run("document.querySelector('#note h2')") is None


def test_sidecar_that_was_restarted_counts_anew(open_sidecar: OpenSidecar) -> None:
    """Counters of another process are never compared with those of the one before."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.wait("/[1-9]\\S*\\/s outbound/.test(document.getElementById('top').innerText)", "a rate")
    page.scrape = lambda _: fixture.scrape(0)
    page.info = fixture.info(pid=8)
    look_again(tab)
    # An old number and a smaller one, as of a process that began a moment ago.
    tab.wait("/(–|0\\/s) outbound/.test(document.getElementById('top').innerText)", "no rate of two processes")


@pytest.mark.parametrize(
    ("state", "said"), [("DRAINING", "The sidecar drains"), ("INITIALIZING", None), ("OF_LATER", None)]
)
def test_every_state_of_a_sidecar_is_told(open_sidecar: OpenSidecar, state: str, said: str | None) -> None:
    """In the head; that it drains in a banner, too, for who wonders where the requests are."""
    tab = open_sidecar(SidecarPage(info=fixture.info(state=state)))
    word = {"INITIALIZING": "starting", "OF_LATER": "of_later"}.get(state, "draining")
    wait_text(tab, ".health-sum", word)
    if said is not None:
        wait_text(tab, "[data-banner=draining]", said)


def test_sidecar_of_a_mesh_tells_its_control_plane(open_sidecar: OpenSidecar) -> None:
    """Connected to which, or why not; workers are counted, and what they see differently is told as that."""
    control = {
        "addresses": ["https://control:15010"], "connected": False, "why": "connection refused",
        "config": {"source": "last_good", "hash": "ab", "revision": 11},
        "refused": {"hash": "cd", "revision": 12, "crashed": False, "problems": ["rec.yaml:3:1: weights sum to 0"]},
    }  # fmt: skip
    workers = [{"worker": n, "pid": 10 + n} for n in range(2)]
    page = SidecarPage(info=fixture.info(control=control, workers=workers))
    well = {"health": "healthy", "ejected": False, "probation": False, "share": 1.0}
    page.upstreams["payments"]["endpoints"] = [
        {"address": "10.0.2.11:8443", "active": 3, "by_worker": {"0": well, "1": well | {"ejected": True}}},
        {"address": "10.0.2.12:8443", "active": 0, "by_worker": dict.fromkeys("01", well | {"ejected": True})},
    ]
    tab = open_sidecar(page)
    wait_text(tab, "#app", "not connected https://control:15010 connection refused")
    wait_text(tab, "#app", "2 workers")
    wait_text(tab, "[data-banner=pushed]", "Revision 12 of the control plane is refused.")
    wait_text(tab, "#config", "the last good one that was kept, revision 11")
    wait_text(tab, "#config .problems", "rec.yaml:3:1: weights sum to 0")
    wait_text(tab, "#upstreams", "10.0.2.11:8443 ejected, say 1 of 2 workers 3 active")
    wait_text(tab, "#upstreams", "10.0.2.12:8443 ejected")
    wait_text(tab, "#upstreams", "1 of 2 endpoints gets nothing")


def test_answers_that_lack_everything_are_shown(open_sidecar: OpenSidecar) -> None:
    """Of a sidecar of another release, whatever it leaves out: nothing fails, and nothing is invented."""
    page = SidecarPage(info={}, config={}, routes={}, upstreams={"a": {}}, requests={}, scrape=lambda _: "# nothing\n")
    page.explain = lambda _: (200, {})
    page.preview = lambda _: (200, {})
    tab = open_sidecar(page)
    wait_text(tab, "#routes", "There are no routes.")
    wait_text(tab, "#upstreams", "it has no endpoint")
    wait_text(tab, "#requests", "No request came yet.")
    fill(tab, url="x")
    ask(tab)
    drop(tab, "new.yaml", "a: b\n")
    wait_text(tab, "#preview .outcome", "no recent request to try it with")


def test_of_a_thousand_routes_a_part_is_drawn_and_all_are_found(open_sidecar: OpenSidecar) -> None:
    """The first hundred, and it is said of how many; the search looks at all; more come when asked for."""
    tab = open_sidecar(SidecarPage(routes=fixture.many_routes(1000)))
    wait_text(tab, "#routes .more", "100 of 1002 are shown.")
    assert tab.run("document.querySelectorAll('#routes tbody tr').length") == 100
    tab.click("#routes .more button")
    wait_text(tab, "#routes .more", "200 of 1002 are shown.")
    tab.press("/")
    tab.type("ROUTE-0999")
    assert tab.run("document.querySelectorAll('#routes tbody tr').length") == 1
    assert "1 route, 0 upstreams" in tab.text(".found")
    tab.press("Escape")
    wait_text(tab, "#routes .more", "100 of 1002 are shown.")


def test_question_that_takes_long_is_asked_seldom(open_sidecar: OpenSidecar) -> None:
    """A fiftieth of the time at most: of what takes 100 ms, the next question comes after five seconds, not two."""
    tab = open_sidecar(SidecarPage())
    waits = tab.run(
        "import('/page/asking.js').then(async ({Question}) => {"
        " const waits = [];"
        " for (const tookMs of [[], [100, 100], [100, 120, 110], [1, 900, 1]]) {"
        "   const question = new Question(2000, () => null, () => null);"
        "   waits.push(Object.assign(question, {tookMs}).waitMs());"
        " }"
        " waits.push(Object.assign(new Question(2000), {failures: 2}).waitMs());"
        " return waits; })"
    )
    assert waits == [2000, 2000, 5000, 2000, 5000]


def test_question_that_is_put_while_an_answer_is_awaited_is_put_again(open_sidecar: OpenSidecar) -> None:
    """Once, however often it was: that answer may be of the time before a reload. Else it waits as always."""
    tab = open_sidecar(SidecarPage())
    asked = tab.run(
        "import('/page/asking.js').then(async ({Question}) => {"
        " const answers = [];"
        " const question = new Question(3600000, () => new Promise((answer) => answers.push(answer)), () => null);"
        " const turn = () => new Promise((done) => setTimeout(done, 20));"
        " const asked = [];"
        " question.ask();"
        " asked.push(answers.length);"
        " question.ask(); question.ask();"
        " asked.push(answers.length);"
        " answers[0]();"
        " while (answers.length < 2) await turn();"
        " answers[1]();"
        " while (question.isAsked) await turn();"
        " clearTimeout(question.timer);"
        " return [...asked, answers.length, question.isAskedAgain]; })"
    )
    assert asked == [1, 1, 2, False]


def test_page_asks_no_more_than_it_needs(open_sidecar: OpenSidecar) -> None:
    """The configuration once for each load; routes seldom; no question while another of its kind is open."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.wait("new Promise((done) => setTimeout(() => done(true), 4500))")
    asked = page.paths()
    assert asked.count("/config") == 1
    assert [one.path for one in page.asked].count("/page/reasons.json") == 1
    assert asked.count("/routes") == 1
    assert 2 <= asked.count("/server_info") <= 4
    assert 2 <= asked.count("/metrics") <= 4


def test_page_that_is_hidden_asks_nothing(open_sidecar: OpenSidecar) -> None:
    """A tab in the background costs the sidecar nothing."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.run("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    tab.wait("new Promise((done) => setTimeout(() => done(true), 300))")
    before = len(page.asked)
    tab.wait("new Promise((done) => setTimeout(() => done(true), 2600))")
    assert len(page.asked) == before
    tab.run("delete document.hidden")
    look_again(tab)
    tab.wait("new Promise((done) => setTimeout(() => done(true), 300))")
    assert len(page.asked) > before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(open_sidecar: OpenSidecar, scheme: str) -> None:
    """Every text that is drawn has a contrast of 4.5 to what is behind it (WCAG 2.2, 1.4.3)."""
    page = SidecarPage()
    page.info, page.config = fixture.refused()
    tab = open_sidecar(page)
    tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    open_everything(tab)
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground.removeprefix("rgb(").rstrip(")").split(",")) > 600) == (scheme == "light")
    assert faint_texts(tab) == []


def test_every_control_has_a_name(open_sidecar: OpenSidecar) -> None:
    """Buttons and fields have a name for a screen reader; no id comes twice; tables have captions and heads."""
    tab = open_sidecar(SidecarPage())
    open_everything(tab)
    assert nameless(tab) == []
    assert ids_that_come_twice(tab) == []
    assert tab.run("document.querySelectorAll('main, aside, header, [role=search]').length") == 4
    assert tab.run(
        "[...document.querySelectorAll('table')].every((one) =>"
        " one.caption && one.tHead && one.querySelector('tbody th[scope=row]'))"
    )
    headings = tab.run("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.localName[1]))")
    assert headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(headings))


def test_keyboard_reaches_everything(open_sidecar: OpenSidecar) -> None:
    """Tab goes through all that can be used, and each has a ring that one sees while it has the focus."""
    tab = open_sidecar(SidecarPage())
    open_everything(tab)
    reached: list[str] = []
    tab.run("document.querySelector('.skip').focus()")
    tab.press("Tab", "Shift+Tab")  # Only whom a key brought there sees the ring.
    while True:
        said = tab.run(
            "(() => { const it = document.activeElement; if (it === document.body) return '';"
            " const shown = it.type === 'file' ? it.labels[0] : it; const style = getComputedStyle(shown);"
            " return `${it.id || it.ariaLabel || it.textContent}|${style.outlineStyle !== 'none'}`; })()"
        )
        if not said:
            break
        reached.append(said)
        assert len(reached) < 100, "the keyboard is caught"
        tab.press("Tab")
    names = [said.partition("|")[0] for said in reached]
    for name in ("To explain and preview", "search", "Hold still", "explain-method", "explain-url", "explain-headers",
                 "Explain", "preview-file", "Explain GET recommendations/v1/items"):  # fmt: skip
        assert name in names
    assert [said for said in reached if said.endswith("|false")] == []


def test_focus_stays_where_it_is_while_numbers_change(open_sidecar: OpenSidecar) -> None:
    """A row that one is at keeps the keyboard when the page is made anew, and so does a field that one writes into."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 5")
    tab.run("document.querySelector('#requests tr:nth-child(3) .link').focus()")
    assert page.requests is not None
    page.requests["requests"].insert(0, fixture.request(9, path="/new"))
    look_again(tab)
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 6")
    assert tab.run("document.activeElement.ariaLabel") == "Explain GET storefront/"
    fill(tab, url="http://a/")
    look_again(tab)
    assert tab.run("document.activeElement.value") == "http://a/"


def test_nothing_moves_for_who_wants_no_motion(open_sidecar: OpenSidecar) -> None:
    """`prefers-reduced-motion`: nothing glides and nothing blinks."""
    tab = open_sidecar(SidecarPage())
    open_everything(tab)
    moving = tab.run(
        "[...document.querySelectorAll('*')].filter((one) => { const style = getComputedStyle(one);"
        " return style.transitionDuration !== '0s' || style.animationName !== 'none'; }).length"
    )
    assert moving == 0


@pytest.mark.parametrize(
    "width", [2560, 320, *(pytest.param(one, marks=pytest.mark.long) for one in (1440, 1000, 640))]
)
def test_page_fits_windows_of_all_widths(open_sidecar: OpenSidecar, width: int) -> None:
    """Nothing is cut off sideways: what is wide is scrolled in its own place; narrow, the desk stands below."""
    tab = open_sidecar(SidecarPage())
    tab.size(width, 800)
    tab.wait(f"document.documentElement.clientWidth === {width}")
    open_everything(tab)
    assert tab.run("document.documentElement.scrollWidth") == width
    wide = tab.run(
        "[...document.querySelectorAll('main > *, aside > *, .sheet > *, .answer > *')].filter((one) =>"
        f" one.getBoundingClientRect().right > {width} + 1 && !one.closest('.unseen')).map((one) => one.outerHTML)"
    )
    assert wide == []
    below = tab.run(
        "document.getElementById('desk').getBoundingClientRect().top"
        " >= document.getElementById('config').getBoundingClientRect().bottom"
    )
    assert below == (width <= 1100)
