"""What a preview says of a request is what the new file does with it, or that it is not known: for random files."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.insight.preview.decide import Asked, Outcome
from sidecar.insight.preview.probe import Settled
from sidecar.insight.preview.restore import operands_of, restore, sides_of
from sidecar.proxy.exchange.steps import find_route
from sidecar.proxy.plan import Plan
from sidecar.routing.actions import Forward, Route
from tests.support.compiling import compiled
from tests.support.keeping import Keeping, head_of
from tests.support.thoroughness import examples

# Few words, so that requests and routes meet; a name that speaks of secrets among them.
VALUES = ["a", "b", "ab"]
NAMES = [("headers", "x-a"), ("headers", "x-token"), ("cookies", "c"), ("query", "q")]


@st.composite
def questions(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(["exact", "exact", "prefix", "contains", "present"]))
    if kind == "present":
        return {"present": draw(st.booleans())}
    asked: dict[str, object] = {kind: draw(st.sampled_from(VALUES))}
    if draw(st.integers(0, 3)) == 0:
        asked["invert"] = True
    if draw(st.integers(0, 5)) == 0:
        asked["ignore_case"] = True
    return asked


@st.composite
def routes(draw: st.DrawFn) -> dict[str, Any]:
    match: dict[str, Any] = {}
    for section, name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True)):
        match.setdefault(section, {})[name] = draw(questions())
    if draw(st.booleans()):
        match["path"] = {"prefix": draw(st.sampled_from(["/v1", "/v2"]))}
    route: dict[str, Any] = {"match": match} if match else {}
    if draw(st.integers(0, 2)) == 0:
        route["to"] = [{"upstream": "one", "weight": draw(st.integers(1, 9))}, {"upstream": "two", "weight": 1}]
        route["sticky"] = {draw(st.sampled_from(["cookie", "header"])): draw(st.sampled_from(["c", "x-a"]))}
    else:
        route["to"] = draw(st.sampled_from(["one", "two"]))
    return route


@st.composite
def files(draw: st.DrawFn) -> str:
    found = draw(st.lists(routes(), max_size=4))
    for number, route in enumerate(found):
        route["name"] = f"r{number}"
    upstreams = {name: {"endpoints": [], "hosts": []} for name in ("one", "two")}
    return yaml.safe_dump({"service": "s", "outbound": {"routes": found}, "upstreams": upstreams})


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, list[str]]:
    values = st.sampled_from([*VALUES, "A", "other"])
    query = f"?q={draw(values)}" if draw(st.booleans()) else ""
    fields = [f"{name}: {draw(values)}" for name in ("x-a", "x-token") if draw(st.booleans())]
    if draw(st.booleans()):
        fields.append(f"cookie: c={draw(values)}")
    return draw(st.sampled_from(["/v1", "/v2/x", "/"])) + query, fields


def decided(plan: Plan, target: str, fields: list[str]) -> tuple[str, set[str]]:
    """The route that a request takes, and where it may be sent, live."""
    head = head_of("GET", "h", target, *fields)
    found = find_route(plan.side_of["outbound"], head, "127.0.0.1")
    if not isinstance(found, Route):
        return "", set()
    assert isinstance(found.action, Forward)
    return found.name, {found.action.choose(head, "127.0.0.1").name for _ in range(30)}


def previewed(keeping: Keeping, new: Plan, target: str, fields: list[str]) -> Settled[Outcome]:
    entry = keeping.request("GET", "h", target, *fields)
    operands = operands_of([*sides_of(keeping.plan), *sides_of(new)])
    return Asked(new).about(entry, restore(entry, operands))


def check(found: Settled[Outcome], live: tuple[str, set[str]]) -> None:
    route, targets = live
    assert found.result.route == route
    # A share of more than a tenth that is not chosen in thirty tries would be one request in twenty.
    assert targets <= {name for name, _ in found.result.to}
    if found.result.key and not found.result.needs:
        assert [name for name, _ in found.result.to] == list(targets)


@given(files(), files(), st.lists(requests(), min_size=1, max_size=4))
@settings(max_examples=examples(150), deadline=None)
def test_what_is_known_of_another_file_is_what_it_does(live: str, new: str, asked: list[tuple[str, list[str]]]) -> None:
    """Whatever the file in force has kept of a request: a preview is right, or says that it does not know."""
    keeping = Keeping(live)
    plan = compiled(new).plan
    for target, fields in asked:
        found = previewed(keeping, plan, target, fields)
        if not found.needs:
            check(found, decided(plan, target, fields))


@given(files(), st.lists(requests(), min_size=1, max_size=4))
@settings(max_examples=examples(100), deadline=None)
def test_of_the_file_in_force_everything_is_known_but_values_of_secrets(
    live: str, asked: list[tuple[str, list[str]]]
) -> None:
    """What routes read is kept, so that the same file sends each request where it went."""
    live = live.replace("x-token", "x-plain")
    keeping = Keeping(live)
    for target, fields in asked:
        fields = [field.replace("x-token", "x-plain") for field in fields]
        found = previewed(keeping, keeping.plan, target, fields)
        assert (found.needs, found.result.needs) == ("", "")
        check(found, decided(keeping.plan, target, fields))
