"""The page of one sidecar, before answers that the tests set: what one sees, and what is asked for whom."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from sidecar.page.files import reasons
from tests.browser.conftest import OpenSidecar, look_again
from tests.support import sidecar_fixture as fixture
from tests.support.chromium import Tab
from tests.support.sidecar_page import SidecarPage

ROW = "#routes tr.is-{severity}"
MARKUP = '<img src=x onerror="window.owned = true">'


def wait_text(tab: Tab, selector: str, said: str) -> None:
    """Until an element says this."""
    text = f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').replace(/\\s+/g, ' ')"
    tab.wait(f"{text}.includes({json.dumps(said)})")


def rows(tab: Tab, section: str) -> list[list[str]]:
    """The cells of all rows of a section, as a reader sees them, each in one line."""
    found: list[list[str]] = tab.run(
        f"[...document.querySelectorAll('#{section} tbody tr')].map((row) =>"
        " [...row.children].map((cell) => cell.innerText.replace(/\\s+/g, ' ').trim()))"
    )
    return found


def fill(tab: Tab, **fields: str) -> None:
    """What somebody types into the form that explains."""
    for name, text in fields.items():
        tab.run(f"document.getElementById('explain-{name}').select()")
        tab.type(text)


def ask(tab: Tab) -> None:
    tab.click("#explain button[type=submit]")


def drop(tab: Tab, name: str, text: str) -> None:
    """A file that somebody drags over the page and lets go."""
    made = f"new File([{json.dumps(text)}], {json.dumps(name)})"
    tab.run(
        f"(() => {{ const dataTransfer = new DataTransfer(); dataTransfer.items.add({made});"
        " for (const type of ['dragover', 'drop']) document.getElementById('main').dispatchEvent("
        "new DragEvent(type, {dataTransfer, bubbles: true, cancelable: true})); })()"
    )


def test_head_tells_who_it_is_and_how_busy(open_sidecar: OpenSidecar) -> None:
    """Name, version, hash, state, requests a second in both directions, and what hurts, with a title for the tab."""
    tab = open_sidecar(SidecarPage())
    tab.wait("/[1-9]\\S*\\/s inbound/.test(document.getElementById('top').innerText)", "a rate")
    assert tab.text("#top h1") == "storefront"
    assert "shop · v7" in tab.text("#top")
    assert "0bbdcad0" in tab.text("#top")
    assert "live" in tab.text(".health-sum")
    assert tab.run("document.title") == "storefront – sidecar"
    wait_text(tab, ".health-sum", "2 things hurt")
    assert "to look at" in tab.text(".health-sum")


def test_app_and_listeners_are_told(open_sidecar: OpenSidecar) -> None:
    """Where the app is, and where the sidecar listens for whom."""
    tab = open_sidecar(SidecarPage())
    wait_text(tab, "#app", "127.0.0.1:8080")
    text = tab.text("#app")
    for said in ("0.0.0.0:15000", "127.0.0.1:15001", "127.0.0.1:9901", "compiled", "12 inbound, 19 outbound", "2 h"):
        assert said in text


def test_routes_stand_in_their_order_with_rates_and_hits(open_sidecar: OpenSidecar) -> None:
    """Name, place and match of each; where it goes; rate, success and latency of now; hits since a time, and shares."""
    tab = open_sidecar(SidecarPage())
    tab.wait("document.querySelector('#routes tr.is-bad') !== null", "rates")
    beta, canary, payments, old, none, app = rows(tab, "routes")
    assert beta[0].startswith("beta-users sidecar.yaml:6 host recommendations, cookie BETA_USER exact")
    assert canary[0].startswith("canary sidecar.yaml:7 host recommendations")
    assert payments[1] == "payments"
    assert 85 < float(payments[3].split()[0]) < 95
    meaning = reasons()["UF"][0]["text"]
    assert re.search(rf"failed: UF \d+, {re.escape(meaning)}", payments[0])
    assert canary[3] == "100 %"
    assert canary[4].endswith("ms")
    assert (canary[6].split()[:3], beta[6].split()[0]) == (["804k", "80", "%"], "32.2k")
    assert (old[1], old[2], old[6]) == ("redirects (308)", "0/s", "0 never")
    assert none[:2] == ["(no route) all that no route takes", "answered with 404"]
    assert app[0] == "app sidecar.yaml:1 all that no route takes"
    assert "hits since" in tab.text("#routes .hint")


def test_split_is_told_as_written_and_as_it_falls(open_sidecar: OpenSidecar) -> None:
    """95 to 5 is written; of the last minute's requests it is told where they went."""
    tab = open_sidecar(SidecarPage())
    wait_text(tab, "#routes .splits", "as it falls")
    bars = [text for text in tab.texts("#routes .split-text") if "as" in text]
    assert bars[::2] == ["95 % as written", "5 % as written"]
    shares = [float(text.split()[0]) for text in bars[1::2]]
    assert abs(shares[0] - 95) < 3
    assert abs(sum(shares) - 100) < 0.2


def test_upstreams_tell_who_gets_nothing_and_why(open_sidecar: OpenSidecar) -> None:
    """Each endpoint with a sign and a word; ejections and failed checks by their causes."""
    tab = open_sidecar(SidecarPage())
    tab.wait("document.querySelector('#upstreams tbody tr') !== null")
    told = {row[0].split()[0]: row for row in rows(tab, "upstreams")}
    assert "1 of 3 endpoints gets nothing" in told["recommendations"][0]
    assert "12 health checks failed of 4800" in told["recommendations"][0]
    assert "10.0.0.12:8080 unhealthy" in told["recommendations"][1]
    assert "10.0.2.12:8443 ejected zone b · TLS" in told["payments"][1]
    assert "ejected 2 times: 1 for answers of 5xx in a row, 1 for a success rate below" in told["payments"][0]
    assert "127.0.0.1:8080 in use" in told["app"][1]


def test_upstream_without_an_endpoint_that_is_well_hurts(open_sidecar: OpenSidecar) -> None:
    """All ejected, or none known: both are red, and say which it is."""
    page = SidecarPage()
    page.upstreams["payments"]["endpoints"] = [fixture.endpoint("10.0.2.12:8443", ejected=True)]
    page.upstreams["recommendations"] |= {"endpoints": [], "dns": "rec.internal:80"}
    page.upstreams["app"]["endpoints"] = [fixture.endpoint("127.0.0.1:8080", shared_connections=1, streams=12)]
    tab = open_sidecar(page)
    tab.wait("document.querySelectorAll('#upstreams tr.is-bad').length === 2")
    wait_text(tab, "#upstreams", "no endpoint is well")
    wait_text(tab, "#upstreams", "rec.internal:80 has no address")
    wait_text(tab, "#upstreams", "12 streams on 1 connection of HTTP/2")


def test_recent_request_opens_its_decision(open_sidecar: OpenSidecar) -> None:
    """One click asks by the request's id, and shows what was decided, why, and what happened; the keyboard is there."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 5")
    found = rows(tab, "requests")[1]
    assert "POST payments/v1/charges" in found[1]
    assert found[2:] == ["503 UF", "payments", "payments 10.0.2.12:8443 2 attempts", "104 ms"]
    assert "2000 of at most 2000 are kept; 312 were too many to keep" in tab.text("#requests")
    tab.click("#requests tr.is-bad .link")
    wait_text(tab, "#explain .outcome", "forwarded by route canary to recommendations")
    assert "/explain?request_id=req-0001&direction=outbound" in page.paths()
    assert tab.run("document.activeElement.id") == "answer-title"
    text = " ".join(tab.text("#explain .answer").split())
    for said in (
        "It took payments then; it would take canary now.", "answered 503 UF", "sent to payments, 10.0.2.12:8443",
        "attempts 2", "took 104 ms", "Not all of it was kept header x-tenant was not kept",
    ):  # fmt: skip
        assert said in text
    assert tab.run("document.querySelector('#requests tr.is-chosen') !== null")
    tab.press("Escape")
    tab.wait("document.querySelector('#explain .answer') === null")


def test_request_that_is_no_longer_known_is_told(open_sidecar: OpenSidecar) -> None:
    """A 404 of a request that was pushed out is said in the sidecar's words."""
    tab = open_sidecar(SidecarPage())
    tab.click("#requests tbody tr:nth-child(4) .link")
    wait_text(tab, "#explain .answer", "no request `req-0003` is known here")


def test_requests_can_be_held_and_sifted(open_sidecar: OpenSidecar) -> None:
    """Held still, new ones do not come; failed only, and by the search, others go."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 5")
    tab.click("#requests .acts button:nth-child(1)")
    assert page.requests is not None
    page.requests["requests"].insert(0, fixture.request(9))
    asked = page.paths().count("/upstreams")
    look_again(tab)
    tab.wait("document.querySelector('#requests [aria-pressed=true]') !== null")
    while page.paths().count("/upstreams") == asked:
        tab.run("0")
    assert len(rows(tab, "requests")) == 5
    # By the element and not by where it is: it is drawn anew with each answer, under another word.
    tab.run("document.querySelector('#requests .acts button:nth-child(1)').click()")
    tab.wait("document.querySelector('#requests [aria-pressed=true]') === null")
    look_again(tab)
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 6")
    tab.click("#requests .acts button:nth-child(2)")
    assert [row[2] for row in rows(tab, "requests")] == ["503 UF", "404 NR"]
    tab.press("/")
    tab.type("nowhere")
    assert [row[1] for row in rows(tab, "requests")] == ["from the app ← GET nowhere/x"]
    assert "0 routes, 0 upstreams, 1 request" in tab.text(".found")


def test_of_many_requests_the_newest_are_drawn(open_sidecar: OpenSidecar) -> None:
    """Twenty, and all that were asked for when somebody wants them: what is below them is not far."""
    kept = [fixture.request(number) for number in range(150)]
    tab = open_sidecar(
        SidecarPage(requests={"keep": 2000, "kept": 1900, "not_kept": 0, "passed_over": 0, "requests": kept})
    )
    wait_text(tab, "#requests .more", "20 of 150 are shown.")
    assert len(rows(tab, "requests")) == 20
    tab.click("#requests .more button")
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 150")


def test_call_that_failed_is_a_failure_though_it_has_200(open_sidecar: OpenSidecar) -> None:
    """With its status beside HTTP's, as a failure where 500 and more stands for it; and it can be searched for."""
    calls = [
        fixture.request(0, path="/a/Bad", grpc_status="UNAVAILABLE", counts_as=503),
        fixture.request(1, path="/a/None", grpc_status="NOT_FOUND", counts_as=404),
        fixture.request(2, path="/a/Good", grpc_status="OK", counts_as=200),
    ]
    tab = open_sidecar(SidecarPage(requests={**fixture.requests(), "requests": calls}))
    assert ["200 UNAVAILABLE" in row for row in rows(tab, "requests")] == [True, False, False]
    assert tab.run("document.querySelectorAll('#requests tbody tr.is-bad').length") == 1
    tab.click("#requests .acts button:nth-child(2)")
    tab.wait("document.querySelectorAll('#requests tbody tr').length === 2")


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (None, "this release of the sidecar keeps no recent requests"),
        ({"keep": 0, "kept": 0, "not_kept": 0, "passed_over": 0, "requests": []}, "the configuration keeps none"),
    ],
)
def test_sidecar_that_keeps_no_requests_says_so(
    open_sidecar: OpenSidecar, requests: dict[str, object] | None, said: str
) -> None:
    """It is no fault: it is told plainly, and not asked for again and again."""
    page = SidecarPage(requests=requests)
    tab = open_sidecar(page)
    wait_text(tab, "#requests", f"Not kept: {said}")
    tab.wait("new Promise((done) => setTimeout(() => done(true), 2500))")
    assert len([path for path in page.paths() if path.startswith("/requests")]) == 1
    assert page.paths().count("/server_info") > 1


def test_form_asks_as_it_is_filled_in(open_sidecar: OpenSidecar) -> None:
    """Method, URL with or without a scheme, headers line by line, address and direction become the question."""
    page = SidecarPage()
    tab = open_sidecar(page)
    fill(tab, method="POST", url="recommendations/v1?x=1&y=2", headers="x-a: b\nCookie: uid=7", source="10.1.2.3")
    tab.click("#explain .views button:nth-child(2)")
    ask(tab)
    wait_text(tab, "#explain .outcome", "forwarded")
    asked = [path for path in page.paths() if path.startswith("/explain")]
    assert parse_qsl(urlsplit(asked[0]).query) == [
        ("url", "http://recommendations/v1?x=1&y=2"), ("method", "POST"), ("header", "x-a: b"),
        ("header", "Cookie: uid=7"), ("source_ip", "10.1.2.3"), ("direction", "inbound"),
    ]  # fmt: skip


def test_curl_command_is_asked_as_it_was_pasted(open_sidecar: OpenSidecar) -> None:
    """The sidecar reads it, as `sidecar explain` does: lines and quotes come there as they are; Enter asks."""
    page = SidecarPage()
    tab = open_sidecar(page)
    command = "curl -X PUT 'http://recommendations/v1' \\\n  -H 'x-a: it'\\''s'"
    fill(tab, url=f"  {command}\n")
    tab.press("Enter")
    wait_text(tab, "#explain .outcome", "forwarded")
    [asked] = [path for path in page.paths() if path.startswith("/explain")]
    assert parse_qsl(urlsplit(asked).query) == [("curl", command), ("direction", "outbound")]


def test_form_that_makes_no_sense_says_what_would(open_sidecar: OpenSidecar) -> None:
    """Nothing is asked; the message says which field, and the keyboard goes there."""
    page = SidecarPage()
    tab = open_sidecar(page)
    ask(tab)
    wait_text(tab, "#explain-error", "URL: expected one, such as http://recommendations/v1")
    assert tab.run("document.activeElement.id") == "explain-url"
    assert tab.run("document.activeElement.getAttribute('aria-describedby')") == "explain-error"
    fill(tab, url="http://a/", headers="x-a: b\nnonsense")
    ask(tab)
    wait_text(tab, "#explain-error", "Headers, line 2: expected NAME: VALUE, found nonsense")
    assert [path for path in page.paths() if path.startswith("/explain")] == []


def test_explanation_reads_from_outcome_to_settings(open_sidecar: OpenSidecar) -> None:
    """Each part of the account in words: what was missed and found, shares, who is out, lines that differ, settings."""
    tab = open_sidecar(SidecarPage())
    fill(tab, url="http://recommendations/v1/items")
    ask(tab)
    wait_text(tab, "#explain .outcome", "forwarded by route canary to recommendations sidecar.yaml:7")
    text = " ".join(tab.text("#explain .answer").split())
    for said in (
        "GET recommendations/v1/items", "beta-users missed sidecar.yaml:6",
        'cookie BETA_USER exact "true", found nothing',
        "canary taken", "40 routes, missed",
        "at host 39, path 1", "host zoo, found recommendations", "sticky by cookie uid: u1", "95 %",
        "10.0.0.11:8080 gets 51 %", "10.0.0.12:8080 out its health checks fail", "- removed: x-debug: 1",
        "+ added: x-forwarded-proto: http", "timeout 2 s sidecar.yaml:7", "and 1 more by default",
    ):  # fmt: skip
        assert said in text
    assert "retry.attempts" not in text
    tab.click("#explain summary")
    assert "retry.attempts" in tab.text("#explain .answer")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"kind": "redirect", "route": "old", "status": 308, "why": "http://new.example/x", "position": "a.yaml:3"},
         "redirected with 308 to http://new.example/x by route old a.yaml:3"),
        ({"kind": "respond", "route": "teapot", "status": 418, "why": ""},
         "answered by the sidecar with 418 by route teapot"),
        ({"kind": "refused", "route": None, "status": 404, "flag": "NR", "why": "no route matches"},
         "refused with 404 NR no route matches"),
        ({"kind": "of a later release"}, "of a later release"),
    ],
)  # fmt: skip
def test_every_outcome_is_a_sentence(open_sidecar: OpenSidecar, outcome: object, said: str) -> None:
    """What is not forwarded has no split, endpoint or settings, and the page misses none of them."""
    page = SidecarPage(explain=lambda _: (200, {"outcome": outcome, "routes": [], "settings": {}, "split": None}))
    tab = open_sidecar(page)
    fill(tab, url="x")
    ask(tab)
    tab.wait("document.querySelector('#explain .outcome') !== null")
    assert " ".join(tab.text("#explain .outcome").split()) == said


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (400, "url: expected http://HOST/PATH, found `ftp://x`\n", "url: expected http://HOST/PATH, found `ftp://x`"),
        (400, {"error": "as JSON"}, "as JSON"),
        (404, "no such endpoint; there are: /metrics\n", "This release of the sidecar does not explain requests."),
        (500, "", "it answers 500"),
    ],
)
def test_explanation_that_is_refused_says_why(
    open_sidecar: OpenSidecar, status: int, answer: object, said: str
) -> None:
    """In the words of the sidecar, where it has some."""
    tab = open_sidecar(SidecarPage(explain=lambda _: (status, answer)))
    fill(tab, url="ftp://x")
    ask(tab)
    wait_text(tab, "#explain .answer .wrong", said)


def test_configuration_tells_its_last_refusal_with_places(open_sidecar: OpenSidecar) -> None:
    """Refused while one looks: a banner, file, line, column, path, message and hint; mended, it is gone."""
    page = SidecarPage()
    tab = open_sidecar(page)
    wait_text(tab, "#config", "in force")
    assert "0bbdcad0250b" in tab.text("#config")
    page.info, page.config = fixture.refused()
    look_again(tab)
    wait_text(tab, "[data-banner=refused]", "refused: 1 problem")
    assert tab.text("#config .problems .place") == "/etc/sidecar/sidecar.yaml:14:9"
    for said in ("outbound.routes[2].to", "weights sum to 0", "give at least one upstream a positive weight"):
        assert said in tab.text("#config .problems")
    tab.click("[data-banner=refused] button")
    assert tab.run("document.activeElement.id") == "config-title"
    page.config["last_load"] |= {"problems": [], "error": "it would move 12 of 2000", "preview": fixture.report()}
    page.info["config"]["last_load_at"] = "2026-03-01T11:59:00.000Z"
    look_again(tab)
    wait_text(tab, "#config", "it would move 12 of 2000")
    wait_text(tab, "#config", "What moves 10 from canary")
    page.info, page.config = fixture.info(), fixture.config(warnings=["sidecar.yaml:3:1: a warning"])
    look_again(tab)
    tab.wait("document.querySelector('[data-banner=refused]') === null")
    wait_text(tab, "#config .warnings", "sidecar.yaml:3:1: a warning")


def test_dropped_file_is_previewed(open_sidecar: OpenSidecar) -> None:
    """Its text is sent, and the report told: how many move, from where to where, what cannot be said, what changes."""
    page = SidecarPage()
    tab = open_sidecar(page)
    drop(tab, "new.yaml", "service: storefront\n")
    wait_text(tab, "#preview .outcome", "112 of 2000 recent requests go elsewhere (5.6 %)")
    [asked] = [one for one in page.asked if one.path == "/preview"]
    assert asked.target == "/preview?name=new.yaml"
    assert (asked.method, asked.body) == ("POST", b"service: storefront\n")
    assert (asked.headers["sec-fetch-site"], asked.headers["origin"]) == ("same-origin", page.url[:-1])
    text = " ".join(tab.text("#preview").split())
    for said in (
        "new.yaml", "2 requests would be refused, 2 of them for want of a route",
        "Of 3 requests it cannot be said",
        "10 from canary → recommendations to beta-users → recommendations-beta sidecar.yaml:6", "to no route → 404 NR",
        "100 by other shares of canary → recommendations, recommendations-beta sidecar.yaml:7",
        "such as POST payments/v0/old", "3 need header x-tenant its value was not recorded",
        "recommendations 90 %", "4 of 80",
        "canary, timeout sidecar.yaml:33 2 s 1 s", "no route leads there",
    ):  # fmt: skip
        assert said in text
    assert tab.run("document.getElementById('drop').hidden")
    tab.click("#preview .moves .link")
    wait_text(tab, "#explain .answer", "What happened to it")


def test_chosen_file_is_previewed_like_a_dropped_one(open_sidecar: OpenSidecar, tmp_path: Path) -> None:
    """By the button, for those who drop nothing; what would be refused is told with its problems."""
    page = SidecarPage()
    tab = open_sidecar(page)
    (tmp_path / "bad.yaml").write_text("broken")
    node = tab.send("DOM.getDocument")["root"]["nodeId"]
    found = tab.send("DOM.querySelector", nodeId=node, selector="#preview-file")
    tab.send("DOM.setFileInputFiles", files=[str(tmp_path / "bad.yaml")], nodeId=found["nodeId"])
    wait_text(tab, "#preview .outcome", "it would be refused: 1 problem")
    assert tab.text("#preview .problems .place") == "bad.yaml:1:1"
    tab.click("#preview .acts button")
    tab.wait("document.querySelector('#preview .answer') === null")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("empty.yaml", "", "empty.yaml is empty"),
        ("film.mp4", "x" * (10 * 1024 * 1024 + 1), "film.mp4 has 10 MiB; a configuration has 10 MiB at most"),
    ],
    ids=["empty", "film"],
)
def test_file_that_is_none_is_not_sent(open_sidecar: OpenSidecar, name: str, text: str, said: str) -> None:
    """An empty one, and a film that was dropped by mistake."""
    page = SidecarPage()
    tab = open_sidecar(page)
    tab.run(
        "(() => { const dataTransfer = new DataTransfer();"
        f" dataTransfer.items.add(new File(['x'.repeat({len(text)})], {json.dumps(name)}));"
        " document.body.dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true})); })()"
    )
    wait_text(tab, "#preview .wrong", said)
    assert [one for one in page.asked if one.path == "/preview"] == []


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (404, "no such endpoint; there are: /metrics\n", "This release of the sidecar makes no previews."),
        (403, "requests from web pages may not change anything here\n", "requests from web pages may not"),
        (413, "this is not a request that is served here\n", "larger than the sidecar takes"),
        (503, "busy\n", "busy"),
    ],
)
def test_preview_that_is_refused_says_why(open_sidecar: OpenSidecar, status: int, answer: str, said: str) -> None:
    """In the words of the sidecar, or in ours where those say little."""
    tab = open_sidecar(SidecarPage(preview=lambda _: (status, answer)))
    drop(tab, "new.yaml", "a: b\n")
    wait_text(tab, "#preview .wrong", said)


def test_names_of_markup_are_text(open_sidecar: OpenSidecar) -> None:
    """Whatever a route, an upstream, a request or a file is called, it is letters here."""
    page = SidecarPage()
    page.info["service"]["name"] = MARKUP
    page.routes["outbound"]["routes"][0] |= {"name": MARKUP, "match": [{"host": MARKUP}]}
    page.upstreams[MARKUP] = page.upstreams["payments"]
    assert page.requests is not None
    page.requests["requests"][0] |= {"path": MARKUP, "route": MARKUP, "endpoint": MARKUP}
    page.explain = lambda _: (200, fixture.account(outcome={"kind": MARKUP, "route": MARKUP, "why": MARKUP}))
    tab = open_sidecar(page)
    tab.click("#requests .link")
    tab.wait("document.querySelector('#explain .outcome') !== null")
    drop(tab, MARKUP, "broken")
    tab.wait("document.querySelector('#preview .outcome') !== null")
    for selector in ("#top h1", "#routes", "#upstreams", "#requests", "#explain", "#preview"):
        assert MARKUP in tab.text(selector)
    assert tab.run("document.querySelector('img') === null && window.owned === undefined")
