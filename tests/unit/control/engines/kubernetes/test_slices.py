"""Endpoints of a Service, out of its EndpointSlices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.engines.interface import Sighted
from sidecar.control.engines.kubernetes.slices import Slices
from tests.support.fake_kubernetes import endpoint

HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}


def made(name: str, endpoints: list[dict[str, Any]], *ports: dict[str, Any], **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": list(ports) or [HTTP], **more}


def test_pod_of_two_families_is_one_endpoint_at_its_address_of_ipv4() -> None:
    """A pod that has only one of IPv6 is there by that; so are addresses of which nobody says whose they are."""
    slices = Slices("shop/web", "http")
    found = slices.listed(
        [
            made("v6", [endpoint("fd00::1", pod="a"), endpoint("fd00::2", pod="b")], addressType="IPv6"),
            made("v4", [endpoint("10.0.0.1", pod="a"), endpoint("10.0.0.9")]),
        ]
    )
    assert {one.address for one in found.endpoints} == {"10.0.0.1:8080", "[fd00::2]:8080", "10.0.0.9:8080"}
    assert not slices.problem


def test_what_is_not_said_is_ready() -> None:
    """By the API's own words; terminating ends it, even if it is said to be ready and still serves."""
    conditions: dict[str, dict[str, Any]] = {
        "10.0.0.1": {}, "10.0.0.2": {"ready": None}, "10.0.0.3": {"ready": False},
        "10.0.0.4": {"ready": True, "serving": True, "terminating": True}, "10.0.0.5": {"terminating": None},
    }  # fmt: skip
    endpoints = [{"addresses": [address], "conditions": said} for address, said in conditions.items()]
    endpoints += [{"addresses": ["10.0.0.6"]}, {"addresses": []}, {"addresses": ["10.0.0.7", "10.0.0.99"]}]
    found = Slices("shop/web", "http").listed([made("web", endpoints)])
    ready = {one.address.partition(":")[0] for one in found.endpoints if one.is_ready}
    assert ready == {f"10.0.0.{n}" for n in (1, 2, 5, 6, 7)}
    assert [one.address for one in found.endpoints if not one.is_ready] == ["10.0.0.3:8080"]
    assert found.gone == {"10.0.0.4:8080"}


def test_endpoint_in_two_slices_is_the_better_of_both() -> None:
    """While the controller moves it; it goes when both have let it go."""
    slices = Slices("shop/web", "http")
    one, two = made("one", [endpoint("10.0.0.1", "a", ready=False)]), made("two", [endpoint("10.0.0.1", "a")])
    assert slices.listed([one, two]).endpoints == (Sighted("10.0.0.1:8080", zone="a"),)
    found = slices.changed([made("one", [])], [])
    assert found.endpoints == (Sighted("10.0.0.1:8080", zone="a"),)
    assert not found.gone
    found = slices.changed([made("two", [])], [])
    assert not found.endpoints
    assert found.gone == {"10.0.0.1:8080"}


def test_slice_that_was_made_again_says_nothing_of_who_was_in_it() -> None:
    """It is another one, by its UID."""
    slices = Slices("shop/web", "http")
    slices.listed([made("web", [endpoint("10.0.0.1"), endpoint("10.0.0.2")])])
    again = made("web", [endpoint("10.0.0.2")])
    again["metadata"] = {**again["metadata"], "uid": "another"}
    found = slices.changed([again], [])
    assert [one.address for one in found.endpoints] == ["10.0.0.2:8080"]
    assert not found.gone


def test_pods_with_other_numbers_are_in_slices_of_their_own() -> None:
    """A named port has several numbers while a rollout changes it; a port of UDP with the name is none."""
    found = Slices("shop/web", "http").listed(
        [
            made("old", [endpoint("10.0.0.1")]),
            made("new", [endpoint("10.0.0.2")], {"name": "grpc", "port": 1}, {"name": "http", "port": 9090}),
            made("udp", [endpoint("10.0.0.3")], {"name": "http", "port": 53, "protocol": "UDP"}),
        ]
    )
    assert {one.address for one in found.endpoints} == {"10.0.0.1:8080", "10.0.0.2:9090"}


@pytest.mark.parametrize(
    ("service", "expected", "problem"),
    [
        ([{"port": 80}], {"10.0.0.1:8080"}, ""),
        ([{"port": 53}, {"port": 80, "protocol": "UDP"}], set(), "shop/web: the Service has no TCP port 80; it has 53"),
        (None, set(), "shop/web: no TCP port `80` in its EndpointSlices; there is `8080`"),
    ],
    ids=("one without a name", "another", "no Service"),
)  # fmt: skip
def test_number_of_the_service_leads_to_the_pods(service: Any, expected: set[str], problem: str) -> None:
    """By the name of its port, which may be empty."""
    slices = Slices("shop/web", 80)
    slices.service_is({"spec": {"ports": service}} if service is not None else None)
    found = slices.listed([made("web", [endpoint("10.0.0.1")], {"port": 8080})])
    assert {one.address for one in found.endpoints} == expected
    assert slices.problem == problem


def test_slice_of_names_is_told() -> None:
    """`FQDN` has no meaning that anyone defined."""
    slices = Slices("shop/web", "http")
    slices.listed([made("web", [{"addresses": ["example.com"]}], addressType="FQDN")])
    assert slices.problem == "EndpointSlice web: expected addresses of IPv4 or IPv6, found FQDN"


POD = st.integers(1, 5)
SLICE = st.sampled_from(["s1", "s2", "s3"])
STEP = st.tuples(SLICE, st.none() | st.dictionaries(POD, st.sampled_from(["ready", "not", "terminating"]), max_size=5))


@given(st.lists(STEP, max_size=12))
def test_any_history_ends_in_what_a_list_would_find(steps: list[tuple[str, dict[int, str] | None]]) -> None:
    """And who is gone with a word was in a slice that lives, or is terminating, and is nowhere else."""
    slices, now = Slices("shop/web", "http"), dict[str, dict[str, Any]]()
    slices.listed([])
    for name, pods in steps:
        before = now.get(name)
        if pods is None:
            if before is None:
                continue
            del now[name]
            found = slices.changed([], [before])
        else:
            states = {"ready": {}, "not": {"ready": False}, "terminating": {"terminating": True}}
            now[name] = made(name, [endpoint(f"10.0.0.{pod}", **states[state]) for pod, state in pods.items()])
            found = slices.changed([now[name]], [])
        fresh = Slices("shop/web", "http").listed(now.values())
        assert set(found.endpoints) == set(fresh.endpoints)
        assert fresh.gone <= found.gone
        assert not found.gone & {one.address for one in found.endpoints}
        if pods is None:
            assert found.gone == fresh.gone
