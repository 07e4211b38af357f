"""The page's pure modules, run where they are used: layout, lines, verdicts, sums, and numbers as words."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chromium import Chromium, Tab
from tests.support.mesh_fixture import generated, mesh
from tests.support.mesh_page import serving


@pytest.fixture(scope="module")
def tab(browser: Chromium) -> Iterator[Tab]:
    """A page whose modules can be imported."""
    with serving(mesh([], [], [])) as page, browser.tab() as tab:
        tab.open(page.url)
        yield tab


def js(tab: Tab, module: str, body: str, **values: Any) -> Any:
    """The value of `body`, in which the module is `m` and each of `values` has its name."""
    names = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    return tab.run(f"import('/page/{module}.js').then((m) => {{ {names} return {body}; }})")


# Lays out step after step, each from the one before, and gives what can be sent here.
STEPS = """(() => { let made = null; return steps.map(([names, edges]) => {
  made = m.layout(names, edges, made);
  const placed = ([name, {tier, col, row}]) => [name, {tier, col, row, ...m.position(made, name)}];
  return {places: Object.fromEntries([...made.places].map(placed)), back: [...made.back]};
}); })()"""

Step = tuple[list[str], list[list[str]]]


def layouts(tab: Tab, *steps: Step) -> list[Any]:
    """The layouts of steps, each made from the one before."""
    made: list[Any] = js(tab, "layout", STEPS, steps=steps)
    return made


def moved(before: Any, after: Any) -> set[str]:
    """Who is in both and stands elsewhere."""
    return {name for name, place in before["places"].items() if after["places"].get(name, place) != place}


def test_layout_is_the_same_for_the_same_names_in_any_order(tab: Tab) -> None:
    """Two people who open the page see the same map."""
    said = generated(40)
    names = [row["name"] for row in said["services"]]
    edges = [[row["from"], row["to"]] for row in said["edges"]]
    first = layouts(tab, (names, edges))
    random.Random(3).shuffle(names)
    random.Random(4).shuffle(edges)
    assert layouts(tab, (names, [*edges, *edges[:5]])) == first


@pytest.mark.parametrize("seed", range(8))
def test_layout_holds_for_any_mesh(tab: Tab, seed: int) -> None:
    """No two services share a place, and every call that is not told as backwards leads to the right."""
    chance = random.Random(seed)
    names = [f"s{n}" for n in range(chance.choice((1, 2, 7, 30, 90, 200)))]
    edges = [[chance.choice(names), chance.choice(names)] for _ in range(len(names) * chance.randint(0, 4))]
    steps: list[Step] = [(names, edges)]
    for _ in range(4):
        names = [name for name in names if chance.random() < 0.9] + [
            f"n{chance.random()}" for _ in range(chance.randint(0, 3))
        ]
        edges = [edge for edge in edges if chance.random() < 0.95] + [
            [chance.choice(names), chance.choice(names)] for _ in names[:4]
        ]
        steps.append((names, edges))
    for (names, edges), made in zip(steps, layouts(tab, *steps), strict=True):
        assert set(made["places"]) == set(names)
        for a, b in edges:
            if (
                a in made["places"]
                and b in made["places"]
                and json.dumps([a, b], separators=(",", ":")) not in made["back"]
            ):
                assert made["places"][a]["col"] < made["places"][b]["col"]
        spots = sorted((place["col"], place["row"]) for place in made["places"].values())
        assert all(a[0] != b[0] or b[1] - a[1] >= 1 for a, b in itertools.pairwise(spots))
        assert all(place["row"] >= 0 for place in made["places"].values())


def test_service_that_comes_or_goes_moves_nobody(tab: Tab) -> None:
    """The others stay, to the pixel, and one that returns while its place is free finds one in the same column."""
    names, edges = ["a", "b", "c", "d"], [["a", "b"], ["a", "c"], ["b", "d"]]
    more = ([*names, "e", "f"], [*edges, ["a", "e"], ["e", "d"], ["d", "f"]])
    less = (["a", "c", "d", "e", "f"], [["a", "c"], ["a", "e"], ["e", "d"], ["d", "f"]])
    first, second, third, fourth = layouts(tab, (names, edges), more, less, more)
    assert moved(first, second) == moved(second, third) == moved(third, fourth) == set()
    assert fourth["places"]["b"]["col"] == first["places"]["b"]["col"]
    assert second["places"]["e"]["col"] == first["places"]["b"]["col"]


def test_new_call_moves_only_who_must_move(tab: Tab) -> None:
    """A callee left of its new caller moves right, with those that it calls; a call to the right moves nobody."""
    names, edges = ["a", "b", "c", "d", "x", "y"], [["a", "b"], ["b", "c"], ["c", "d"], ["a", "x"], ["x", "y"]]
    first, right, left = layouts(
        tab, (names, edges), (names, [*edges, ["a", "d"]]), (names, [*edges, ["a", "d"], ["c", "x"]])
    )
    assert moved(first, right) == set()
    assert moved(right, left) == {"x", "y"}


def test_call_that_closes_a_circle_moves_nobody(tab: Tab) -> None:
    """The new call is the one that is drawn backwards, whatever the names are; also a service that calls itself."""
    names, edges = ["z", "m", "a"], [["z", "m"], ["m", "a"]]
    first, second = layouts(tab, (names, edges), (names, [*edges, ["a", "z"], ["m", "m"]]))
    assert moved(first, second) == set()
    assert sorted(second["back"]) == ['["a","z"]', '["m","m"]']


def test_long_chain_is_laid_out(tab: Tab) -> None:
    """A chain of 5,000 calls does not exhaust the stack."""
    names = [f"s{n:04}" for n in range(5000)]
    (made,) = layouts(tab, (names, [list(pair) for pair in itertools.pairwise(names)]))
    assert made["places"]["s4999"]["tier"] == 4999


def test_layout_without_services_is_empty(tab: Tab) -> None:
    """Nothing to lay out is no error, nor are calls of nobody; what comes then is laid out."""
    empty, one = layouts(tab, ([], [["a", "b"]]), (["a"], []))
    assert empty["places"] == {}
    assert set(one["places"]) == {"a"}


def test_lines_pass_between_services(tab: Tab) -> None:
    """No line of a call lies on a service that it does not belong to."""
    said = generated(30)
    names = [row["name"] for row in said["services"]]
    edges = [[row["from"], row["to"]] for row in said["edges"]]
    body = """Promise.all([m, import('/page/paths.js')]).then(([layouts, paths]) => {
      const made = layouts.layout(names, edges, null);
      const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      const hits = [];
      for (const [key, {d}] of paths.paths(made, edges)) {
        line.setAttribute('d', d);
        for (let at = 0; at < line.getTotalLength(); at += 4) {
          const {x, y} = line.getPointAtLength(at);
          for (const name of names) {
            const box = layouts.position(made, name);
            const across = x > box.x + 1 && x < box.x + layouts.NODE_W - 1;
            const inside = across && y > box.y + 1 && y < box.y + made.high - 1;
            if (inside && !JSON.parse(key).includes(name)) hits.push([key, name]);
          }
        }
      }
      return hits;
    })"""
    assert js(tab, "layout", body, names=names, edges=edges) == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("percent(1)", "100 %"), ("percent(0.99999)", "99.9 %"), ("percent(0.5)", "50 %"),
        ("percent(0.00001)", "0.1 %"),
        ("percent(0)", "0 %"), ("percent(null)", "–"), ("percent(NaN)", "–"),
        ("rate(0)", "0/s"), ("rate(0.02)", "<0.1/s"), ("rate(3.14)", "3.1/s"), ("rate(12345)", "12.3k/s"),
        ("latency(0.0002)", "<1 ms"), ("latency(0.0042)", "4.2 ms"), ("latency(0.25)", "250 ms"),
        ("latency(2.5)", "2.50 s"),
        ("latency(null)", "–"), ("latency(31)", "31 s"),
        ("span(-5)", "0 s"), ("span(119)", "119 s"), ("span(3600)", "60 min"), ("span(90000)", "25 h"),
        ("span(864000)", "10 days"),
        ("count(9999)", "9999"), ("count(12345)", "12.3k"), ("count(3200000)", "3.2M"),
        ("octets(900)", "900 B"), ("octets(1536)", "1.5 KiB"), ("octets(5e12)", "4657 GiB"),
        ("many(1, 'call')", "1 call"), ("many(2, 'call')", "2 calls"),
        ("fit('recommendations', 9)", "recom…ons"), ("fit('short', 9)", "short"),
        ("place({file: 'a.yaml', line: 3, column: 1})", "a.yaml:3:1"),
        ("place({file: 'a.yaml', line: null})", "a.yaml"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(tab: Tab, call: str, said: str) -> None:
    """Less than all is never all, more than nothing never nothing, and what is not known is a dash."""
    assert js(tab, "format", f"m.{call}") == said


@pytest.mark.parametrize(
    ("call", "severity"),
    [
        ({"success": 1, "failed": 0, "p99": 0.1}, "ok"),
        ({"success": 0.995, "failed": 5, "p99": 0.1}, "ok"),
        ({"success": 0.98, "failed": 20, "p99": 0.1}, "warn"),
        ({"success": 0.9, "failed": 100, "p99": 0.1}, "bad"),
        # One failure of three requests is a third, and says little.
        ({"success": 0.67, "failed": 1, "p99": 0.1}, "warn"),
        ({"success": 1, "failed": 0, "p99": 0.3, "usual": 0.1}, "warn"),
        ({"success": 1, "failed": 0, "p99": 0.19, "usual": 0.1}, "ok"),
        # Three times two milliseconds cannot be felt.
        ({"success": 1, "failed": 0, "p99": 0.006, "usual": 0.002}, "ok"),
        ({"success": 0.5, "failed": 50, "p99": 0.9, "usual": 0.1}, "bad"),
    ],
)
def test_call_hurts_when_it_fails_or_is_slow_against_itself(tab: Tab, call: Any, severity: str) -> None:
    """The rules of `docs/mesh-page.md`, at their edges."""
    assert js(tab, "judge", "m.judge(call).severity", call=call) == severity


def test_hour_adds_up_what_is_chosen(tab: Tab) -> None:
    """Requests and failures are sums, p99 is the slowest, and a minute of which nothing was told stays empty."""
    history = {
        "minutes": [60, 120, 180],
        "edges": [
            {"from": "a", "to": "b", "requests": [1, 2, None], "failures": [0, 1, None], "p99_s": [0.1, None, None]},
            {"from": "c", "to": "b", "requests": [10, 20], "failures": [0, 0], "p99_s": [0.3, 0.2]},
            {"from": "b", "to": "d", "requests": [99, 99, 99], "failures": [9, 9, 9], "p99_s": [9, 9, 9]},
        ],
    }  # fmt: skip
    made = js(tab, "timeline", "m.series(history, (from, to) => to === 'b')", history=history)
    assert made == {
        "minutes": [60, 120, 180],
        "requests": [11, 22, None],
        "failures": [0, 1, None],
        "p99": [0.3, 0.2, None],
    }


def test_rows_of_a_call_are_summed(tab: Tab) -> None:
    """Rates and failures of routes and versions add up, success is over all requests, of p99 the slowest counts."""
    rows = [
        {"from": "a", "to": "b", "rate": 9, "requests": 900, "success": 1, "p99_s": 0.1, "failures": {}},
        {"from": "a", "to": "b", "rate": 1, "requests": 100, "success": 0.5, "p99_s": 0.4, "failures": {"UF": 50}},
        {"from": "a", "to": "b", "rate": 0, "requests": 0, "success": 0, "p99_s": 7, "failures": {}},
    ]
    body = """(() => {
      const [call] = m.modelOf({edges: rows}, null, new Set()).edges.values();
      const {rate, requests, failed, success, p99} = call;
      return {rate, requests, failed, success, p99, failures: [...call.failures]};
    })()"""
    assert js(tab, "model", body, rows=rows) == {
        "rate": 10, "requests": 1000, "failed": 50, "success": 0.95, "p99": 0.4, "failures": [["UF", 50]],
    }  # fmt: skip


def test_connections_without_requests_are_a_call_of_their_own_kind(tab: Tab) -> None:
    """Marked as TCP, with connections and octets a second; it hurts when they end badly and not while one stays."""
    tcp = {"rate": 0.5, "octet_rate": 2048, "connections": 30, "failed": 0, "received_bytes": 9, "sent_bytes": 8}
    row = {"from": "a", "rate": 0, "requests": 0, "success": None, "p99_s": None, "failures": {}}
    rows = [
        {**row, "to": "db", "tcp": tcp}, {**row, "to": "db", "tcp": {**tcp, "upstream": "other"}},
        {**row, "to": "lost", "tcp": {**tcp, "failed": 30}},
        {**row, "to": "open", "tcp": {**tcp, "rate": 0, "connections": 0}},
        {**row, "to": "both", "rate": 2, "requests": 120, "success": 1, "p99_s": 0.1, "tcp": tcp},
    ]  # fmt: skip
    body = """(() => [...m.modelOf({edges: rows}, null, new Set()).edges.values()]
      .map(({to, severity, tcp, silent}) => [to, severity, tcp.connections, Boolean(silent)]))()"""
    assert sorted(js(tab, "model", body, rows=rows)) == [
        ["both", "ok", 30, False], ["db", "ok", 60, False], ["lost", "bad", 30, False], ["open", "ok", 0, False],
    ]  # fmt: skip
    flows = "[[tcp, 0], [{...tcp, rate: 0}, 0], [tcp, 9]].map(([tcp, requests]) => m.flow({requests, rate: 3, tcp}))"
    assert js(tab, "format", flows, tcp=tcp) == ["0.5/s TCP", "TCP", "3.0/s"]
    assert js(tab, "format", "m.octetRate(tcp)", tcp=tcp) == "2.0 KiB/s"
    call = {"from": "a", "to": "db", "why": [], "refusals": [], "severity": "ok", "requests": 0, "tcp": tcp}
    assert (
        js(tab, "map", "m.tell(call)", call=call)
        == "a to db: TCP, 2.0 KiB/s, 30 connections ended, 0 of them badly; well"
    )


def test_elements_are_kept_and_changed(tab: Tab) -> None:
    """A patch keeps elements by key, the focus, and a changed text's node; the newest handler runs."""
    body = """(() => {
      const root = document.body.appendChild(document.createElement('div'));
      const calls = [];
      const draw = (names) => m.patch(root, names.map((name) => {
        const on = {click: () => calls.push(names.length)};
        return m.h('button', {key: name, on}, `${name} of ${names.length}`);
      }));
      draw(['a', 'b', 'c']);
      const [a, b] = root.children;
      const text = a.firstChild;
      a.focus();
      draw(['b', 'd', 'a']);
      a.click();
      const places = [root.children[0] === b, root.children[2] === a];
      const kept = [...places, a.firstChild === text, document.activeElement === a];
      const said = [root.textContent, ...kept, calls];
      root.remove();
      return said;
    })()"""
    assert js(tab, "dom", body) == ["b of 3d of 3a of 3", True, True, True, True, [3]]


def test_element_takes_no_attribute_that_could_run(tab: Tab) -> None:
    """`dom.js` has a list of attributes; handlers as text, styles and addresses are not on it."""
    for name in ("onclick", "style", "href", "src", "srcdoc", "formaction"):
        body = """(() => { try {
          m.patch(document.createElement('div'), [m.h('p', {[name]: 'x'})]);
          return 'taken';
        } catch (error) { return error.message; } })()"""
        assert js(tab, "dom", body, name=name) == f"no attribute of ours: {name}"
