"""
The page of a real `sidecar run` with apps behind it: one sidecar and one tab for all tests here, in the order of a day
on which much happens. Nothing is loaded anew from the first test to the last.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.browser.conftest import watched
from tests.support.chromium import Chromium, Tab
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, request, running_sidecar
from tests.support.wait import eventually

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FILE = """
service: storefront
inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app}"}}
outbound:
  listen: 127.0.0.1:${{OUTBOUND_PORT}}
  routes:
    - {{name: beta-users, match: {{host: rec, cookies: {{BETA_USER: "true"}}}}, to: beta}}
    - {{name: canary, match: {{host: rec}}, to: {{stable: {stable}, beta: {beta}}}}}
upstreams:
  stable:
    endpoints: ["127.0.0.1:{v1}", "127.0.0.1:{gone}"]
    health_check: {{path: /, interval: 200ms, timeout: 100ms, unhealthy_threshold: 1, healthy_threshold: 1}}
  beta: {{endpoints: ["127.0.0.1:{v2}"]}}
"""


@dataclass
class Day:
    """What all tests share."""

    sidecar: SidecarProcess
    tab: Tab
    ports: dict[str, int]
    sent: list[int] = field(default_factory=list)

    def write(self, stable: int = 80, beta: int = 20, more: str = "") -> None:
        """The file, anew."""
        self.sidecar.rewrite(FILE.format(stable=stable, beta=beta, **self.ports) + more)

    def send(self) -> None:
        """Some traffic in both directions."""
        for number in range(10):
            headers = {"cookie": "BETA_USER=true"} if number == 0 else {}
            self.sent.append(self.sidecar.outbound("/items", host="rec", headers=headers).status)
        self.sent.append(self.sidecar.inbound("/").status)

    def drop(self, name: str, text: str) -> None:
        """A file that somebody drags over the page and lets go."""
        self.tab.run(
            "(() => { const dataTransfer = new DataTransfer();"
            f" dataTransfer.items.add(new File([{json.dumps(text)}], {json.dumps(name)}));"
            " document.body.dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true})); })()"
        )

    def wait(self, expression: str, what: str, *, is_busy: bool = True) -> None:
        """Until the page shows it, while traffic goes on."""

        def is_shown() -> bool:
            if is_busy:
                self.send()
            return bool(self.tab.run(expression))

        eventually(is_shown, what, 60)

    def wait_text(self, selector: str, said: str, *, is_busy: bool = True) -> None:
        """Until an element says this."""
        text = f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').replace(/\\s+/g, ' ')"
        self.wait(f"{text}.includes({json.dumps(said)})", f"{selector}: {said}", is_busy=is_busy)


@pytest.fixture(scope="module")
def day(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The sidecar, three apps and an endpoint where nobody is; in the end the page has asked nobody but the sidecar."""
    with ExitStack() as stack:
        apps = {name: stack.enter_context(Origin(name)) for name in ("app", "v1", "v2")}
        gone = Origin("gone")
        with gone:
            pass
        ports = {name: one.port for name, one in apps.items()} | {"gone": gone.port}
        text = FILE.format(stable=80, beta=20, **ports)
        sidecar = stack.enter_context(running_sidecar(tmp_path_factory.mktemp("page"), text))
        tab = stack.enter_context(browser.tab())
        url = f"http://127.0.0.1:{sidecar.admin_port}/"
        stack.enter_context(watched(tab, url))
        tab.open(url)
        yield Day(sidecar, tab, ports)


def test_browser_gets_the_page_and_curl_the_list(day: Day) -> None:
    """By the same address; the metrics listener has the list for both."""
    assert day.sidecar.admin("/", headers=BROWSER).text.startswith("<!doctype html>")
    assert "GET  /server_info" in day.sidecar.admin("/", headers={"accept": "*/*"}).text
    assert "GET  /metrics" in day.sidecar.metrics("/", headers=BROWSER).text
    assert day.sidecar.metrics("/page/app.js").status == 404


def test_traffic_is_seen_as_it_flows(day: Day) -> None:
    """Rates, success and latency of each route, and the split as written and as it falls."""
    day.wait("/[1-9]\\S*\\/s inbound/.test(document.getElementById('top').innerText)", "a rate")
    day.wait("document.querySelectorAll('#routes .falls').length === 2", "a split")
    day.wait_text("#routes", "as it falls")
    told = {
        row[0].split()[0]: row
        for row in day.tab.run(
            "[...document.querySelectorAll('#routes tbody tr')].map((row) =>"
            " [...row.children].map((cell) => cell.innerText.replace(/\\s+/g, ' ')))"
        )
    }
    assert "80 % as written" in told["canary"][1]
    assert re.search(r"[1-9]\S*/s", told["canary"][2])
    assert told["canary"][3] == told["beta-users"][3] == told["app"][3] == "100 %"
    assert told["canary"][5].endswith("ms")
    assert set(day.sent) == {200}


def test_recent_request_opens_its_decision(day: Day) -> None:
    """One click: which route took it and why the one before did not, what is sent, and what happened."""
    day.wait("document.querySelectorAll('#requests tbody .link').length > 5", "requests")
    day.tab.press("/")
    day.tab.type("canary")
    day.wait("document.querySelectorAll('#requests tbody .link').length > 5", "requests of the canary")
    day.tab.run("document.querySelector('#requests tbody .link').click()")
    day.wait_text("#explain .outcome", "forwarded by route canary", is_busy=False)
    text = " ".join(day.tab.text("#explain .answer").split())
    for said in (
        'cookie BETA_USER exact "true", found nothing',
        "canary taken",
        "answered 200",
        "its health checks fail",
    ):
        assert said in text
    day.tab.press("Escape", "Escape")


def test_curl_command_is_explained(day: Day) -> None:
    """As it was pasted, quotes and all, by the routes in force."""
    day.tab.run("document.getElementById('explain-url').select()")
    day.tab.type("curl -H 'cookie: BETA_USER=true' http://rec/items")
    day.tab.press("Enter")
    day.wait_text("#explain .outcome", "forwarded by route beta-users to beta", is_busy=False)


def test_dropped_file_is_previewed(day: Day) -> None:
    """What the recent requests would do under it, by the sidecar's own compiler; the file in force stays."""
    before = day.sidecar.generation()
    text = day.sidecar.config.read_text().replace("to: {stable: 80, beta: 20}", "to: beta")
    day.drop("next.yaml", text)
    day.wait_text("#preview .outcome", "go elsewhere", is_busy=False)
    told = " ".join(day.tab.text("#preview").split())
    assert "from canary → stable, beta to canary → beta next.yaml:" in told
    assert day.sidecar.generation() == before
    day.drop("broken.yaml", text.replace("to: beta}", "to: nobody}"))
    day.wait_text("#preview .outcome", "it would be refused", is_busy=False)
    assert "nobody" in day.tab.text("#preview .problems")


def test_endpoint_that_fails_its_checks_is_told(day: Day) -> None:
    """Where nobody listens: unhealthy, beside the one that is well."""
    day.wait_text("#upstreams", f"127.0.0.1:{day.ports['gone']} unhealthy")
    day.wait_text("#upstreams", f"127.0.0.1:{day.ports['v1']} healthy")
    day.wait_text("#upstreams", "1 of 2 endpoints gets nothing")


def test_page_follows_the_configuration(day: Day) -> None:
    """An edit that is good is seen as soon as it is live, without a reload of the page."""
    day.write(stable=50, beta=50)
    day.wait_text("#routes .splits", "50 % as written")
    day.wait_text("#config", "2 good loads since the start")


def test_edit_that_is_refused_is_told_with_its_place(day: Day) -> None:
    """What is wrong, and where; another mistake is another refusal; mended, it is gone."""
    day.write(more="circuit_braker: {}\n")
    day.wait_text("[data-banner=refused]", "refused: 1 problem", is_busy=False)
    place = day.tab.text("#config .problems .place")
    assert re.fullmatch(r".*sidecar\.yaml:\d+:1", place)
    assert "circuit_braker" in day.tab.text("#config .problems")
    day.write(more="outlier_detektion: {}\n")
    day.wait_text("#config .problems", "outlier_detektion", is_busy=False)
    day.write()
    day.wait("document.querySelector('[data-banner=refused]') === null", "the banner to go", is_busy=False)


def test_page_can_change_nothing(day: Day) -> None:
    """Its own browser is refused what would change something, by whatever script; a preview is not refused."""
    post = "fetch('{}', {{method: 'POST', body: 'a: b'}}).then((answer) => answer.status)"
    asked = ("reload", "drain", "quitquitquit", "logging?level=debug")
    assert {path: day.tab.run(post.format(path)) for path in asked} == dict.fromkeys(asked, 403)
    assert day.tab.run(post.format("preview?name=a.yaml")) == 200
    elsewhere = {"origin": "http://127.0.0.1:1", "sec-fetch-site": "cross-site"}
    assert request(day.sidecar.admin_port, "/preview", method="POST", headers=elsewhere).status == 403
    day.tab.problems[:] = [one for one in day.tab.problems if not one.startswith("Failed to load resource")]


def test_sidecar_that_dies_is_told_and_its_successor_found(day: Day) -> None:
    """SIGKILL: the page keeps what it knew and says since when; of the next process it counts anew."""
    routes = day.tab.run("document.querySelectorAll('#routes tbody tr').length")
    day.sidecar.signal(signal.SIGKILL)
    assert day.sidecar.process is not None
    day.sidecar.process.wait(30)
    day.wait_text("[data-banner=lost]", "The sidecar has not answered since", is_busy=False)
    assert day.tab.run("document.querySelectorAll('#routes tbody tr').length") == routes
    day.sidecar.start()
    day.sidecar.wait_ready()
    day.wait("document.querySelector('[data-banner=lost]') === null", "the banner to go", is_busy=False)
    day.wait("/[1-9]\\S*\\/s outbound/.test(document.getElementById('top').innerText)", "a rate")
