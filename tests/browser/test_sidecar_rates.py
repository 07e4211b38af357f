"""What the page makes of counters, beside what `sidecar top` makes of the same scrapes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.cli import rates
from tests.browser.test_modules import js
from tests.support import sidecar_fixture as fixture
from tests.support.chromium import Chromium, Tab
from tests.support.sidecar_page import SidecarPage, serving_sidecar

# A flow as it can be sent here: counts, and quantiles of its latency.
FLOW = """((flow) => [flow.requests, flow.failed, flow.refused, flow.left, m.success(flow),
  m.quantile(flow, 0.5), m.quantile(flow, 0.99)])"""


@pytest.fixture(scope="module")
def tab(browser: Chromium) -> Iterator[Tab]:
    """A page whose modules can be imported."""
    with serving_sidecar(SidecarPage()) as page, browser.tab() as tab:
        tab.open(page.url)
        yield tab


def told_by_page(tab: Tab, earlier: str, later: str) -> dict[str, dict[str, Any]]:
    """Flows between two scrapes that are two seconds apart, as the page's module has them."""
    body = f"""(() => {{
      const made = m.between(m.readScrape(earlier, 10), m.readScrape(later, 12));
      const told = (flows) => Object.fromEntries([...flows].map(([key, flow]) => [key, {FLOW}(flow)]));
      return {{totals: told(made.totals), routes: told(made.routes), parts: told(made.parts)}};
    }})()"""
    found: dict[str, dict[str, Any]] = js(tab, "rates", body, earlier=earlier, later=later)
    return found


def told_by_top(earlier: str, later: str) -> dict[str, dict[str, Any]]:
    """The same of `sidecar top`."""
    made = rates.between(rates.read(earlier, 10), rates.read(later, 12))

    def told(flows: Any) -> dict[str, Any]:
        return {
            key if isinstance(key, str) else "\0".join(key): [
                flow.requests, flow.failed, flow.refused, flow.left, flow.success, flow.quantile(0.5),
                flow.quantile(0.99),
            ]
            for key, flow in flows.items()
        }  # fmt: skip

    return {"totals": told(made.totals), "routes": told(made.routes), "parts": told(made.upstreams)}


def random_scrape(chance: random.Random, before: dict[str, int], resets: bool) -> str:
    """Counters that have grown, and some that began anew; names that need escaping are among them."""
    lines = []
    for direction in ("inbound", "outbound"):
        for route in ("", "a", 'odd "name"', "back\\slash"):
            for upstream in ("", "u1", "u2"):
                written = route.replace("\\", "\\\\").replace('"', '\\"')
                for code in ("200", "404", "499", "500", "503"):
                    key = f"{direction} {route} {upstream} {code}"
                    grown = before.get(key, 0) + chance.choice((0, 0, 1, 7, 900))
                    before[key] = chance.choice((0, 3)) if resets and chance.random() < 0.1 else grown
                    labels = f'code="{code}",direction="{direction}",flag="-",route="{written}",upstream="{upstream}"'
                    lines.append(f"sidecar_requests_total{{{labels}}} {before[key]}")
                for name, code, counts_as in (
                    ("OK", "200", "200"), ("UNAVAILABLE", "200", "503"), ("NOT_FOUND", "200", "404"),
                    ("CANCELLED", "200", "499"), ("UNAVAILABLE", "503", "503"),
                ):  # fmt: skip
                    key = f"{direction} {route} {upstream} {code} {name}"
                    before[key] = before.get(key, 0) + chance.choice((0, 0, 1, 5))
                    labels = f'code="{code}",counts_as="{counts_as}",direction="{direction}",flag="-"'
                    labels += f',grpc_status="{name}",route="{written}",upstream="{upstream}"'
                    lines.append(f"sidecar_grpc_requests_total{{{labels}}} {before[key]}")
                side, total = ("server" if direction == "inbound" else "client"), 0
                for bound in ("0.005", "0.05", "0.5", "+Inf"):
                    key = f"{direction} {route} {upstream} le {bound}"
                    before[key] = before.get(key, 0) + chance.choice((0, 1, 20))
                    total += before[key]
                    labels = f'http_route="{written}",upstream="{upstream}",le="{bound}"'
                    lines.append(f"http_{side}_request_duration_seconds_bucket{{{labels}}} {total}")
    return "\n".join(["# HELP x y", *lines, "other_metric 1", ""])


@pytest.mark.parametrize("seed", range(6))
def test_page_counts_as_top_does(tab: Tab, seed: int) -> None:
    """Of any two scrapes the same requests, success and quantiles, by direction, route and upstream."""
    chance, before = random.Random(seed), dict[str, int]()
    earlier = random_scrape(chance, before, resets=False)
    later = random_scrape(chance, before, resets=seed % 2 == 1)
    page, top = told_by_page(tab, earlier, later), told_by_top(earlier, later)
    for kind, flows in top.items():
        for key, flow in flows.items():
            # Of a route with one upstream `top` tells the latency twice, where the sidecar has told it once.
            assert page[kind].get(key, [0, 0, 0, 0, None, None, None]) == pytest.approx(flow, abs=1e-9), (kind, key)


def test_why_a_call_failed_is_told_by_its_flag_or_its_status(tab: Tab) -> None:
    """As of requests by their flags or as `5xx`."""
    calls = [
        ("200", "-", "503", "UNAVAILABLE"), ("200", "UH", "503", "UNAVAILABLE"), ("200", "-", "404", "NOT_FOUND"),
        ("503", "-", "503", "UNAVAILABLE"),
    ]  # fmt: skip
    lines = []
    for code, flag, counts_as, name in calls:
        labels = f'code="{code}",direction="outbound",flag="{flag}",route="r",upstream="u"'
        lines.append(f"sidecar_requests_total{{{labels}}} 1")
        lines.append(f'sidecar_grpc_requests_total{{counts_as="{counts_as}",grpc_status="{name}",{labels}}} 1')
    body = "[...m.between(m.readScrape('', 0), m.readScrape(text, 1)).upstreams.get('u').flags].sort()"
    assert js(tab, "rates", body, text="\n".join(lines)) == [["5xx", 1], ["UH", 1], ["UNAVAILABLE", 1]]


def test_window_is_ten_seconds_for_rates_and_a_minute_for_splits(tab: Tab) -> None:
    """Of what came 40 seconds ago no rate is told any more, and of its split something is."""
    body = """(() => {
      const scrapes = new m.Scrapes();
      const line = (upstream, value) =>
        `sidecar_requests_total{code="200",direction="outbound",flag="-",route="r",upstream="${upstream}"} ${value}`;
      const text = (now, old) => `${line('a', now)}\\n${line('b', old)}`;
      const none = scrapes.flows();
      for (let at = 0; at <= 200; at += 2) scrapes.add(m.readScrape(text(at, Math.min(at, 160)), at));
      const {now, long} = scrapes.flows();
      const of = (flows, upstream) => flows.parts.get(m.partKey('outbound', 'r', upstream))?.requests ?? 0;
      scrapes.forget();
      const told = [now, long].map((flows) => [flows.seconds, of(flows, 'a'), of(flows, 'b')]);
      return [none, ...told, scrapes.flows()];
    })()"""
    assert js(tab, "rates", body) == [None, [10, 10, 0], [60, 60, 20], None]


def test_exemplars_and_nonsense_do_not_disturb(tab: Tab) -> None:
    """OpenMetrics' exemplars stand behind the value; what is no sample is not looked at."""
    line = (
        'http_client_request_duration_seconds_bucket{http_route="r",upstream="u",le="0.5"} 7 # {trace_id="ab"} 0.3 1.5'
    )
    body = "[...m.readScrape(text, 0).buckets].map(([key, bounds]) => [key, [...bounds]])"
    assert js(tab, "rates", body, text=f"\n}} \n{line}\nhttp_\n") == [["outbound\0r\0u", [[0.5, 7]]]]


def test_scrape_of_the_fixture_is_one_that_top_reads() -> None:
    """The tests of the page stand on a text that Prometheus' parser accepts."""
    made = rates.between(rates.read(fixture.scrape(0), 0), rates.read(fixture.scrape(10), 10))
    assert made.routes["outbound", "payments"].success == 0.9
