"""Every compiled file is judged, and what is wrong is told once, at its place in the mesh's files."""

# ruff: noqa: E501 - a row is files and the lines that a user sees, which are easier to compare unbroken

from __future__ import annotations

from sidecar.mesh.verify import verify
from tests.support.meshes import complaints, mesh

FRONT = "=== front.yaml\nservice: front\napp: 127.0.0.1:80\n"
BACK = (
    "=== back.yaml\nservice: back\napp: 127.0.0.1:80\ninstances: {v: {registered: {}}}\n"
    "routes:\n- {name: r, match: {path: /r}, to: v}\n"
    "tests:\n- {name: r stays, request: {url: 'http://back/r'}, expect: {route: r, to: v}}\n"
)
OTHERS = "".join(f"=== {name}.yaml\nservice: {name}\n" for name in ("u", "v", "w"))


def test_a_good_mesh_has_no_problems() -> None:
    """Its tests hold for every caller."""
    assert complaints(f"{FRONT}{BACK}{OTHERS}") == []


def test_a_producers_test_that_fails_is_told_once() -> None:
    """However many call it, and also if nobody does."""
    wrong = BACK.replace("http://back/r", "http://back/x")
    expected = [
        "back.yaml:7:3: tests[0]: the test `r stays` fails: expected the route `back.r` to `back.v`, found the route `back` to `back`; the test is wrong, or a route is"
    ]
    assert complaints(f"{FRONT}{wrong}{OTHERS}") == expected
    assert complaints(f"{wrong}callers: []\n") == expected


def test_a_callers_route_that_breaks_a_producers_test_is_a_problem_of_the_caller() -> None:
    """It names the test and where it is."""
    caller = f"{FRONT}calls:\n  back:\n    routes:\n    - {{name: own, match: {{path: /r}}, to: back}}\n"
    assert complaints(f"{caller}{BACK}{OTHERS}") == [
        'front.yaml:6:7: calls.back.routes[0]: breaks the test `r stays` of `back` (back.yaml:7): expected the route `back.r` to `back.v`, found the route `front.own` to `back`; if that is meant, say `overrides: ["r stays"]` in the route'
    ]


def test_unless_it_says_that_it_overrides_it() -> None:
    """A caller may know better."""
    caller = (
        f"{FRONT}calls: {{back: {{routes: [{{name: own, match: {{path: /r}}, to: back, overrides: [r stays]}}]}}}}\n"
    )
    assert complaints(f"{caller}{BACK}{OTHERS}") == []


def test_a_route_without_a_name_breaks_tests_as_well() -> None:
    """It is found by the name that it gets."""
    caller = f"{FRONT}calls: {{back: {{routes: [{{match: {{path: /r}}}}]}}}}\n"
    assert complaints(f"{caller}{BACK}")[0].startswith(
        "front.yaml:3:25: calls.back.routes[0]: breaks the test `r stays`"
    )


def test_a_callers_own_test_that_fails_is_told_at_it() -> None:
    """By the names of its file."""
    own = "tests: [{name: t, request: {url: 'http://back/'}, expect: {to: back.v}}]\n"
    assert complaints(f"{FRONT}{own}{BACK}") == [
        "front.yaml:3:9: tests[0]: the test `t` fails: expected to `back.v`, found the route `back` to `back`; the test is wrong, or a route is"
    ]


def test_a_problem_that_only_appears_in_callers_files_says_whose() -> None:
    """The producer's policy and the callers' timeout do not go together; each alone is good."""
    wrong = BACK + "retry: {per_try_timeout: 5s}\n"
    front = f"{FRONT}calls: {{back: {{timeout: 1s}}}}\n"
    more = "".join(f"=== {name}.yaml\nservice: {name}\ncalls: {{back: {{timeout: 1s}}}}\n" for name in ("u", "v", "w"))
    assert complaints(f"{front}{wrong}") == [
        "back.yaml:8:9: retry.per_try_timeout: longer than the route's `timeout` (in what `front` would get); `timeout` is for all attempts together, so this one would never end an attempt"
    ]
    assert "(in what `front`, `u` and 2 more would get)" in complaints(f"{front}{wrong}{more}")[0]


def test_a_caller_is_told_of_its_own_values_without_saying_whose() -> None:
    """The place says it."""
    caller = f"{FRONT}calls: {{back: {{listen: 127.0.0.1:15001}}}}\n"
    assert complaints(f"{caller}{BACK}") == [
        "front.yaml:3:24: calls.back.listen: `127.0.0.1:15001` is already listened on as `127.0.0.1:15001` by `outbound`; give each listener an address of its own"
    ]


def test_a_sidecars_own_routes_may_name_what_it_calls() -> None:
    """And nothing else."""
    inbound = "inbound: {routes: [{match: {path: /x}, to: back}]}\n"
    assert complaints(f"{FRONT}{inbound}{BACK}") == []
    assert complaints(f"{FRONT}{inbound.replace('to: back', 'to: bakc')}{BACK}") == [
        "front.yaml:3:44: inbound.routes[0].to: there is no upstream `bakc`; did you mean `back`?"
    ]


def test_only_the_services_that_are_asked_for_are_looked_at() -> None:
    """A change concerns a service and its callers."""
    own = "tests: [{name: t, request: {url: 'http://back/'}, expect: {to: back.v}}]\n"
    found = mesh(f"{FRONT}{own}{BACK}")
    assert verify(found, ["back", "nobody"]) == []
    assert len(verify(found, ["front"])) == 1
