"""
The page of a real control plane, in front of a mesh of processes under load: one mesh and one tab for all tests here,
in the order of a day on which much happens. Nothing is loaded anew from the first test to the last.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.chromium import Chromium, Tab
from tests.support.control import Peer
from tests.support.mesh import Load, Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.wait import eventually, refusing_port

pytestmark = pytest.mark.long

MARKUP = '<img src=x onerror="window.owned = true">'
PRODUCER = """\
service: recommendations
app: 127.0.0.1:8080
instances:
  stable: {{registered: {{version: v1}}}}
  beta: {{registered: {{version: beta}}}}
routes:
  - {{name: split, to: {{stable: {stable}, beta: {beta}}}}}
calls: {{}}
"""
FILES = {
    # A wave is watched for longer than the page's two seconds, so that the page sees it.
    "mesh.yaml": "mesh: shop\nunmatched: deny\nrollout: {waves: [one, 100%], hold: 4s, thin: {after: 500ms}}\n",
    "storefront.yaml": "service: storefront\napp: 127.0.0.1:8080\ncalls: {recommendations: {}, payments: {}}\n",
    "recommendations.yaml": PRODUCER.format(stable=90, beta=10),
}


@dataclass
class Day:
    """What all tests share."""

    mesh: MeshOfProcesses
    tab: Tab
    front: Member
    back: list[Member]

    def wait_node(self, service: str, said: str) -> None:
        """Until the map says this of a service, as a screen reader hears it."""
        ask = f"document.querySelector('[data-node={service}]')?.ariaLabel ?? ''"
        heard: list[str] = []

        def found() -> bool:
            heard[:] = [self.tab.run(ask)]
            return said in heard[0]

        try:
            eventually(found, f"{service}: {said}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {heard}") from None

    def choose(self, **chosen: object) -> None:
        """As an address chooses it: a service's name, or a call's two ends."""
        [(kind, what)] = chosen.items()
        id_ = what if isinstance(what, str) else json.dumps(what, separators=(",", ":"))
        self.tab.run(f"location.hash = '{kind}=' + encodeURIComponent({json.dumps(id_)})")

    def edge(self, caller: str, callee: str) -> str:
        """The selector of a call."""
        key = json.dumps([caller, callee], separators=(",", ":"))
        return f"[data-edge='{key}']"


@pytest.fixture(scope="module")
def day(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """A control plane, a caller, three instances of a callee, a callee that refuses connections; and the page."""
    nobody = f"service: payments\nendpoints: [127.0.0.1:{refusing_port()}]\n"
    with ExitStack() as stack:
        mesh = stack.enter_context(running_mesh(tmp_path_factory.mktemp("mesh"), FILES | {"payments.yaml": nobody}))
        mesh.delay = "3s"  # as by default: a control plane that was just started tells nobody `left`
        app = stack.enter_context(Origin("app"))
        front = mesh.join("storefront", app.port)
        back = [mesh.join("recommendations", app.port, version=version) for version in ("v1", "v1", "beta")]
        tab = stack.enter_context(browser.tab())
        tab.prefer(prefers_reduced_motion="reduce")
        tab.open(f"http://127.0.0.1:{mesh.control.port}/")
        tab.run("window.opened = true")
        mesh.wait_settled()
        stack.enter_context(Load(front, "recommendations"))
        stack.enter_context(Load(front, "payments", clients=1))
        yield Day(mesh, tab, front, back)
        # What nothing may do, whatever happened: load the page anew, complain, ask anybody else, run a name.
        assert tab.run("window.opened && window.owned === undefined")
        ours = [one for one in tab.problems if not re.match("Failed to load resource|.*ERR_CONNECTION", one)]
        assert ours == []
        url = f"http://127.0.0.1:{mesh.control.port}/"
        assert [one for one in tab.requests if not one.startswith((url, "data:"))] == []


def test_map_is_what_the_sidecars_report(day: Day) -> None:
    """Services with versions and health, and calls with rates, without anybody having told the page of them."""
    day.wait_node("storefront", "1 of 1 instance healthy")
    day.wait_node("recommendations", "versions beta, v1; 3 of 3 instances healthy")
    day.wait_node("payments", "outside of the mesh")
    good, bad = day.edge("storefront", "recommendations"), day.edge("storefront", "payments")
    day.tab.wait(
        f"/[1-9].*\\/s, 100 % succeed, p99 .*ms; well/.test(document.querySelector({json.dumps(good)})?.ariaLabel)"
    )
    day.tab.wait(f"/\\/s, 0 % succeed, .*; hurts/.test(document.querySelector({json.dumps(bad)})?.ariaLabel)")
    day.tab.wait("document.querySelector('.label.is-ok .label-rate')?.textContent.endsWith('/s')")


def test_call_is_told_by_routes_shares_latency_and_reasons(day: Day) -> None:
    """As written and as it falls, from the producer's file; both percentiles; slowest instances; reasons in words."""
    tab = day.tab
    day.choose(edge=["storefront", "recommendations"])
    tab.wait("document.querySelectorAll('.routes .falls').length >= 2", "the routes")
    assert "recommendations.yaml:7" in tab.texts(".route-name .place")
    split = "[...document.querySelectorAll('.routes > li:first-child .split-text')].map((one) => one.textContent)"
    assert tab.run(split)[0::2] == ["90 % as written", "10 % as written"]
    tab.wait(f"{split}.every((text) => !text.includes('no requests'))", "shares as they fall")
    stable, beta = (float(text.split()[0]) for text in tab.run(split)[1::2])
    assert stable > 70 > beta > 0
    assert tab.run("/p99\\s*\\d.*ms/s.test(document.querySelector('.facts').innerText)")
    tab.wait("/p50 .*ms/.test(document.getElementById('panel').innerText)")
    tab.wait("[...document.querySelectorAll('#panel section:last-child .id')].length === 3", "three instances")
    day.choose(edge=["storefront", "payments"])
    tab.wait("document.querySelector('.reasons code')?.textContent === 'UF'")
    assert "see whether the endpoint listens and is reachable" in tab.text(".reasons")


def test_edit_is_seen_wave_by_wave_until_it_is_done(day: Day) -> None:
    """A weight is edited in its file: which wave it is in, that it is done, and the new split, all by itself."""
    tab = day.tab
    day.choose(service="storefront")
    tab.wait("document.querySelector('#panel-title').textContent === 'storefront'")
    before = day.mesh.control.shown()["revision"]
    day.mesh.control.write({"recommendations.yaml": PRODUCER.format(stable=50, beta=50)})
    tab.wait("document.querySelector('.waves .is-now') !== null", "a wave")
    assert "routes" in tab.text(".steps .is-now")
    tab.wait(f"document.querySelector('#panel .state-done')?.textContent.includes('revision {before + 1}')", "done")
    day.choose(edge=["storefront", "recommendations"])
    tab.wait("document.querySelector('.split-text')?.textContent === '50 % as written'")


def test_bad_edit_is_told_with_its_place(day: Day) -> None:
    """What is wrong, and file, line and column of it; mended, it is gone."""
    tab, good = day.tab, FILES["storefront.yaml"]
    day.mesh.control.write({"storefront.yaml": good + "circuit_braker: {}\n"})
    tab.wait("document.querySelector('[data-banner=source]') !== null", "a banner")
    tab.click("[data-banner=source] button")
    tab.wait("document.querySelector('#panel .problems .place')?.textContent === 'storefront.yaml:4:1'")
    assert "circuit_breaker" in tab.text("#panel .problems")
    day.mesh.control.write({"storefront.yaml": good})
    tab.wait("document.querySelector('[data-banner=source]') === null", "the banner to go")


def test_name_of_markup_is_text(day: Day) -> None:
    """A sidecar that says it is of a service of markup is told as one that the mesh has no file for, in its letters."""
    with Peer(day.mesh.control, MARKUP, instance="odd", version=MARKUP) as peer:
        assert peer.report().status == 200
        day.tab.run("location.hash = ''")
        day.tab.press("Escape")
        told = "[...document.querySelectorAll('#panel .id')].map((one) => one.textContent)"
        day.tab.wait(f"{told}.includes({json.dumps(MARKUP)})", "a sidecar of no service")
        assert day.tab.run("document.querySelector('#panel img, #map img') === null && window.owned === undefined")


def test_control_plane_that_dies_leaves_numbers_with_their_age(day: Day) -> None:
    """SIGKILL: the page says since when it knows nothing new, keeps the map, and goes on when it is back."""
    tab, control = day.tab, day.mesh.control
    services = tab.run("document.querySelectorAll('.node').length")
    control.stop(signal.SIGKILL)
    tab.wait("document.querySelector('[data-banner=lost]') !== null", "a banner")
    assert re.search(r"has not answered since \d\d:\d\d:\d\d", tab.text("[data-banner=lost]"))
    assert tab.run("document.querySelectorAll('.node').length") == services
    control.start()
    tab.wait("document.querySelector('[data-banner=lost]') === null", "the banner to go")
    day.wait_node("recommendations", "3 of 3 instances healthy")


def test_instance_that_leaves_is_gone_and_one_that_dies_lost_its_stream(day: Day) -> None:
    """SIGTERM is a goodbye, of which nobody is alarmed; SIGKILL is none, and told at once. What it answered is told."""
    tab = day.tab
    day.choose(service="recommendations")
    tab.wait("/\\d\\/s · 100 % · p99/.test(document.getElementById('panel').innerText)", "what an instance answered")
    day.back[1].kill()
    day.back[0].signal(signal.SIGTERM)
    tab.wait("document.getElementById('panel').innerText.includes('stream lost')", "a lost stream")
    day.wait_node("recommendations", "2 of 2 instances healthy; well")
    tab.wait("!document.getElementById('panel').innerText.includes('recommendations-1')", "it to be gone")
