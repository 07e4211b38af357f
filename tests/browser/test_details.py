"""What is told of a call, a service and a rollout; and that names from the mesh are text, whatever they are."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.browser.conftest import Open, look_again
from tests.support.mesh_fixture import NOW, Json, edge, history, instance, mesh, routes, service, shop

CANARY = '["storefront","recommendations"]'


def test_click_on_a_call_tells_its_routes_as_written_and_as_they_fall(open_mesh: Open) -> None:
    """The routes of the call in their order, with where each is written, what it takes and both splits."""
    tab, page = open_mesh(shop())
    tab.click(".label.is-bad")
    tab.wait("document.querySelector('.routes') !== null")
    assert tab.text("#panel-title") == "storefront → recommendations"
    assert tab.texts(".route-name .id") == ["recommendations.beta-users", "storefront.recommendations"]
    assert tab.texts(".route-name .place") == [
        "mesh/services/recommendations.yaml:12",
        "mesh/services/recommendations.yaml:14",
    ]
    assert tab.texts(".routes .match") == ["cookie BETA_USER is true", "every other request"]
    assert tab.texts(".routes > li:last-child .split-text") == [
        "95 % as written",
        "94.3 % as it falls",
        "5 % as written",
        "5.7 % as it falls",
    ]
    assert ("/v1/routes?from=storefront&to=recommendations", "") in page.asked


def test_call_tells_why_requests_failed(open_mesh: Open) -> None:
    """Reasons by how often, each with what it means and what to look at: the words of the one table of reasons."""
    tab, _ = open_mesh(shop())
    tab.click(".label.is-bad")
    tab.wait("document.querySelectorAll('.reasons li li').length > 0")
    assert tab.texts(".reasons .times") == ["201", "142"]
    assert tab.texts(".reasons > li > code") == ["UF", "5xx"]
    said = tab.text(".reasons > li")
    assert "connecting to the upstream failed – see whether the endpoint listens and is reachable" in said
    assert "the callee answered with status 5xx" in tab.text(".reasons > li:last-child")


def test_call_without_requests_tells_connections_and_octets(open_mesh: Open) -> None:
    """Marked as TCP on its line; in its details what was carried, and no requests."""
    tcp = {
        "rate": 0.5, "octet_rate": 3072.0, "connections": 30, "failed": 1,
        "received_bytes": 61440, "sent_bytes": 122880,
    }  # fmt: skip
    row = edge("app", "db", 0.0, tcp=tcp) | {"success": None, "p50_s": None, "p99_s": None, "route": ""}
    services = [service("app", callees=["db"]), service("db", 0, kind="external", versions=())]
    tab, _ = open_mesh(mesh(services, [instance("app", 0)], [row]))
    tab.wait("document.querySelector('.edge.is-tcp') !== null")
    assert tab.texts(".label text") == ["0.5/s TCP", "3.0 KiB/s"]
    tab.click(".label")
    tab.wait("document.getElementById('panel-title').innerText === 'app → db'")
    told = tab.text("#panel")
    assert "As TCP, in the last minute" in told
    assert "0.5/s (30 ended)" in told
    assert "60 KiB out, 120 KiB in (3.0 KiB/s)" in told
    assert "No requests." not in told


def test_call_tells_its_slowest_instances(open_mesh: Open) -> None:
    """The slowest first; told by a control plane that does not know them, this is said."""
    tab, page = open_mesh(shop())
    tab.click(".label.is-bad")
    tab.wait("document.querySelectorAll('#panel tbody').length > 1")
    rows = tab.run(
        "[...document.querySelectorAll('#panel section:last-child tbody tr')]"
        ".map((one) => [...one.children].map((cell) => cell.innerText))"
    )
    assert [row[0].splitlines()[0] for row in rows] == [f"recommendations-{n}" for n in (3, 0, 1, 2)]
    assert rows[0][1:] == ["9.0/s", "41 %", "820 ms\np50 40 ms"]
    page.routes = lambda caller, callee: {"routes": routes(caller, callee)["routes"]}
    look_again(tab)
    tab.wait("document.querySelector('#panel section:last-child').innerText.includes('Not told by the control plane.')")


def test_call_tells_when_its_routes_cannot_be_had(open_mesh: Open) -> None:
    """An error of this one question is said where the answer would be; the rest stands."""
    tab, page = open_mesh(shop())
    page.routes = lambda caller, callee: {"routes": []}
    look_again(tab)
    tab.click(".label.is-bad")
    tab.wait("document.getElementById('panel').innerText.includes('No route leads here.')")
    page.status = 500
    look_again(tab)
    tab.wait("document.getElementById('panel').innerText.includes('The routes cannot be told now: it answers 500.')")
    assert tab.text("#panel-title") == "storefront → recommendations"


def test_click_on_a_service_tells_instances_and_refusals_with_places(open_mesh: Open) -> None:
    """Each instance with version, state and revision; a refused configuration with its place in the mesh's files."""
    tab, _ = open_mesh(shop())
    tab.click("[data-node=recommendations] .name")
    assert tab.text("#panel-title") == "recommendations"
    assert tab.texts("#panel .problems .place") == ["mesh/services/recommendations.yaml:14:9"]
    assert "weights sum to 0" in tab.text("#panel .problems")
    assert "give at least one upstream a positive weight" in tab.text("#panel .problems")
    assert "Revision 13 (c3fcd3d7), by recommendations-3" in tab.text("#panel .refusal")
    rows = tab.run(
        "[...document.querySelectorAll('#panel tbody tr')].map((one) => one.innerText)"
        ".filter((text) => text.includes('recommendations-'))"
    )
    assert len(rows) == 4
    assert "wanted: 13" in rows[3]
    tab.click("[data-node=catalog] .name")
    assert "stream lost" in tab.text("#panel")
    assert "stale" in tab.text("#panel")


def test_time_line_is_of_what_is_chosen(open_mesh: Open) -> None:
    """Of all calls, of a service's callers, of a call; a minute can be pointed at with the keyboard."""
    tab, page = open_mesh(shop())
    assert tab.text(".time-name") == "Last hour · all calls"
    tab.click("[data-node=cart] .name")
    assert tab.text(".time-name") == "Last hour · calls to cart"
    tab.click(".label.is-warn")
    assert tab.text(".time-name") == "Last hour · cart → payments"
    slider = "document.querySelector('.charts')"
    assert tab.run(f"{slider}.getAttribute('aria-valuenow')") == "59"
    tab.run(f"{slider}.focus()")
    tab.press("ArrowLeft", "ArrowLeft")
    assert tab.run(f"{slider}.getAttribute('aria-valuenow')") == "57"
    assert tab.run(f"{slider}.getAttribute('aria-valuetext')") == tab.text(".time-now")
    tab.press("Home")
    row = next(row for row in history(page.mesh)["edges"] if (row["from"], row["to"]) == ("cart", "payments"))
    said = f": {row['requests'][0]} requests, {row['failures'][0]} failed, p99 {row['p99_s'][0] * 1000:.0f} ms"
    assert said in tab.text(".time-now")


def test_halted_rollout_is_seen_and_announced(open_mesh: Open) -> None:
    """When a rollout halts, an alert says so without being asked; banner, node and panel show where and why."""
    said = shop()
    halted = said["rollouts"][0]
    tab, page = open_mesh({**said, "rollouts": [{**halted, "state": "rolling", "why": "", "refused": []}]})
    assert tab.text("#alarm") == ""
    assert tab.texts("[data-node=recommendations] .sub") == ["v1, beta · wave 1"]
    assert tab.run("document.querySelector('[data-banner=halted]')") is None
    page.mesh = {**said, "rollouts": [halted]}
    look_again(tab)
    tab.wait("document.getElementById('alarm').textContent !== ''")
    assert tab.text("#alarm") == "Rollout halted: recommendations, revision 13"
    assert tab.run("document.getElementById('alarm').getAttribute('role')") == "alert"
    assert "recommendations (revision 13: 1 instance refused: weights sum to 0)" in tab.text("[data-banner=halted]")
    assert tab.texts("[data-node=recommendations] .sub") == ["v1, beta · halted"]
    tab.click("[data-banner=halted] button")
    assert tab.text("#panel-title") == "recommendations"
    assert "refused by recommendations-3" in tab.text(".rollout")
    page.mesh = {**said, "rollouts": [{**halted, "state": "done"}]}
    look_again(tab)
    tab.wait("document.getElementById('alarm').textContent === 'No rollout is halted any more.'")
    assert tab.run("document.querySelector('[data-banner=halted]')") is None


def test_rollout_shows_parts_and_waves(open_mesh: Open) -> None:
    """Which part, which wave, how many accepted: also to who does not see the colours."""
    tab, _ = open_mesh(shop())
    steps = (
        "[...document.querySelectorAll('.state-holding .steps')]"
        ".map((one) => [...one.children].map((step) => step.textContent))"
    )
    assert tab.run(steps) == [
        ["widen (done)", "routes (holding)", "narrow (to come)"],
        ["one (done)", "10% (done)", "50% (holding)", "100% (to come)"],
    ]
    assert "2 of 3 instances accepted" in tab.text(".state-holding")
    # What needs a person comes first.
    assert tab.texts(".rollout-name") == ["recommendations", "storefront"]


def test_refused_edit_of_the_mesh_is_told_with_its_places(open_mesh: Open) -> None:
    """A bad edit: which revision stays, and every problem at its place."""
    said = shop()
    said["source"] = {
        "since": said["time"] - 65,
        "problems": [
            {"file": "mesh/services/cart.yaml", "line": 3, "column": 1, "path": "calls.paymets",
             "message": "no service is called `paymets`", "hint": "did you mean `payments`?"},
            {"file": "mesh/mesh.yaml", "line": 9, "column": 4, "path": "", "message": "unknown key", "hint": None},
        ],
    }  # fmt: skip
    tab, page = open_mesh(said)
    assert "The last edit of the mesh is refused: 2 problems. Revision 12 stays in force." in tab.text(
        "[data-banner=source]"
    )
    assert tab.texts("#panel .problems .place") == ["mesh/services/cart.yaml:3:1", "mesh/mesh.yaml:9:4"]
    assert "did you mean `payments`?" in tab.text("#panel .problems")
    page.mesh = {**said, "source": {"problems": [], "since": None}}
    look_again(tab)
    tab.wait("document.querySelector('[data-banner=source]') === null")


def test_doubt_is_told(open_mesh: Open) -> None:
    """Stale registrations, the brake on removing, sources that fail and replicas that are not seen."""
    said = shop()
    said["doubt"] = {"fresh": 5, "stale": 12, "removing": False}
    said["discovery"] = [
        {"name": "recommendations.beta", "kind": "kubernetes", "endpoints": 2, "stale": 0, "error": "410 Gone"},
        {"name": "catalog", "kind": "registered", "endpoints": 3, "stale": 1, "error": None},
        {"name": "cart", "kind": "registered", "endpoints": 2, "stale": 0, "error": None},
    ]
    said["replicas"].append({"name": "control-1", "address": "10.0.0.3:15010", "seen_s": 75})
    tab, _ = open_mesh(said)
    assert "12 registrations stale, 5 fresh" in tab.text("[data-banner=doubt]")
    assert "no endpoint is removed" in tab.text("[data-banner=doubt]")
    panel = tab.text("#panel")
    assert "410 Gone" in panel
    assert "1 stale endpoint" in panel
    assert "cart (registered)" not in panel
    assert "control-1 not seen for 75 s" in panel


MARKUP = (
    '<img src=x onerror="window.hit=1"><script>window.hit=2</script>\'">&amp;</title></svg><svg onload=window.hit=3>'
)


def _hostile(said: Any) -> Any:
    """The same answer with markup in every text."""
    if isinstance(said, dict):
        keys = {"failures"}
        return {key: {MARKUP: 4} if key in keys else _kept(key, value) for key, value in said.items()}
    if isinstance(said, list):
        return [_hostile(one) for one in said]
    return said


def _kept(key: str, value: Any) -> Any:
    if key in ("kind", "state", "part") or not isinstance(value, str):
        return [MARKUP + one for one in value] if key in ("versions", "hosts", "waves") else _hostile(value)
    return MARKUP + value


def test_markup_in_names_is_text(open_mesh: Open) -> None:
    """A name, version, reason or message of markup is shown as it is written, and runs nowhere: map, panel, table."""
    said: Json = _hostile(shop())
    problem = {"file": "a", "line": 1, "column": 1, "path": "b", "message": "c", "hint": "d"}
    said["source"] = _hostile({"problems": [problem], "since": None})
    tab, page = open_mesh(said)
    page.routes = lambda caller, callee: _hostile(routes("a", "b"))
    look_again(tab)
    tab.run("document.querySelector('.node.is-bad').focus()")
    tab.press("Enter")
    assert tab.text("#panel-title") == MARKUP + "recommendations"
    assert MARKUP + "weights sum to 0" in tab.text("#panel .problems").replace("\n", "")
    tab.press("e", "Enter")
    tab.wait("document.querySelector('.routes') !== null")
    assert "as written" in tab.text("#panel")
    tab.run("[...document.querySelectorAll('.node')].find((one) => one.textContent.includes('front')).focus()")
    tab.press("e", "Enter")
    tab.press("t")
    tab.wait("!document.getElementById('tables').hidden")
    assert MARKUP in tab.text("#tables")
    assert tab.run("document.title").startswith(MARKUP)
    assert tab.run("window.hit ?? null") is None
    assert tab.run("document.querySelectorAll('img, body script, [onload], [onerror]').length") == 0


def test_service_of_no_name_and_of_names_of_objects(open_mesh: Open) -> None:
    """Callers that nobody knows, and names that mean something to JavaScript, are services like others."""
    names = ["__proto__", "constructor", "toString"]
    edges = [edge("", "__proto__", 2), edge("constructor", "toString", 1), edge("toString", "toString", 1)]
    tab, _ = open_mesh(mesh([service(name) for name in names], [instance("__proto__", 1)], edges))
    assert sorted(tab.texts(".node .name")) == ["__proto__", "constructor", "toString", "unknown callers"]
    tab.run("document.querySelector('[data-node=__proto__]').focus()")
    tab.press("Enter")
    assert "__proto__-1" in tab.text("#panel")


@pytest.mark.parametrize(
    "name", ["x" * 300, "a b\tc", "ü–東京-🜁", "\u202eevil"], ids=["long", "spaces", "scripts", "turned"]
)
def test_odd_name_breaks_nothing(open_mesh: Open, name: str) -> None:
    """A long, spaced or foreign name stays within its box and can be chosen."""
    tab, _ = open_mesh(mesh([service(name), service("b")], [], [edge(name, "b", 1)]))
    box = tab.run("Math.max(...[...document.querySelectorAll('.node .name')].map((one) => one.getBBox().width))")
    assert box < 158
    tab.run("document.querySelector('.node').focus()")
    tab.press("Enter", "e", "Enter")
    assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")


def test_answer_of_another_release_is_read(open_mesh: Open) -> None:
    """What an older control plane does not say is taken for nothing, what a newer one says beside is not looked at."""
    older = {"mesh": "shop", "services": [{"name": "a"}, {"name": "b"}], "edges": [{"from": "a", "to": "b"}]}
    tab, page = open_mesh(older)
    tab.click("[data-node=a] .name")
    assert tab.text("#panel-title") == "a"
    newer = copy.deepcopy(shop())
    for row in (*newer["services"], *newer["edges"], *newer["instances"], *newer["rollouts"], newer):
        row["from_the_future"] = {"x": [1]}
    newer["rollouts"][0]["state"] = "pondering"
    newer["instances"][0]["state"] = "levitating"
    page.mesh = newer
    look_again(tab)
    tab.wait("document.querySelectorAll('.node').length > 3")
    tab.press("Escape")
    assert "pondering" in tab.text("#panel")


def test_rollouts_that_are_over_are_a_list(open_mesh: Open) -> None:
    """What is under way, and what was just done, is drawn as it goes; what was done before is one line."""
    said = shop()
    done = {**said["rollouts"][1], "state": "done", "since": NOW - 4000}
    said["rollouts"] += [{**done, "service": f"s{number:03}"} for number in range(200)]
    said["rollouts"].append({**done, "service": "cart", "since": NOW - 20})
    tab, _ = open_mesh(said)
    assert tab.texts("#panel .rollout-name") == ["recommendations", "storefront", "cart"]
    assert tab.text("#panel summary") == "201 of 201 services done"
    assert not tab.run("document.querySelector('#panel .over').checkVisibility()")
    tab.click("#panel summary")
    assert tab.text("#panel .over li:nth-child(2)").split("\n") == ["s000", "revision 13, done 66 min ago"]


def test_sidecars_of_no_service_are_told_and_few_of_them(open_mesh: Open) -> None:
    """Of a service that the mesh has no file for: beside the map, which is the mesh's, and no more than can be read."""
    said = shop()
    said["instances"] += [instance(f"nobody-{number:02}", 0) for number in range(12)]
    said["instances"].append(instance("left", 0, state="draining", connected=False))
    tab, _ = open_mesh(said)
    assert tab.run("document.querySelectorAll('.node').length") == 7
    assert tab.texts("#panel .hurts .id") == [f"nobody-{number:02}" for number in range(10)]
    assert "and 2 more" in tab.text("#panel")
    assert "14 to look at" in tab.text(".health-sum")


def test_service_tells_what_each_instance_answered(open_mesh: Open) -> None:
    """Rate, success and p99 of the last minute beside the instance, and why some of it failed."""
    tab, page = open_mesh(shop())
    answered = {"id": "recommendations-3", "rate": 9.7, "requests": 582, "success": 0.41, "p50_s": 0.1, "p99_s": 0.82}
    page.routes = lambda caller, callee: {"instances": [{**answered, "failures": {"UF": 201, "UT": 3}}]}
    tab.click("[data-node=recommendations] .name")
    tab.wait("document.getElementById('panel').innerText.includes('9.7/s · 41 % · p99 820 ms')")
    assert "failed: UF 201, UT 3" in tab.text("#panel")
    assert tab.text("#panel").count("no requests") == 3
