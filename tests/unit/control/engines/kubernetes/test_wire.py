"""Answers and events of the API, whatever comes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.changes import Events, Track
from sidecar.control.engines.kubernetes.mesh import files_of
from sidecar.control.engines.kubernetes.slices import Slices
from sidecar.control.engines.kubernetes.wire import CONFIG_MAPS, SLICES, ApiError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def of(version: int, name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, **fields}


def test_paths_are_of_core_and_of_groups() -> None:
    """As the API has them."""
    assert CONFIG_MAPS.path("shop") == "/api/v1/namespaces/shop/configmaps"
    assert SLICES.path("shop", "web-1") == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-1"


@pytest.mark.parametrize(
    ("status", "raw", "retry_after", "error"),
    [
        (404, b'{"kind":"Status","reason":"NotFound","message":"gone","code":404}', "", (404, "NotFound", "gone", 0.0)),
        (429, b"Too many requests\n", "7", (429, "", "Too many requests", 7.0)),
        (503, b"", "Wed, 21 Oct 2015 07:28:00 GMT", (503, "", "no reason given", 0.0)),
        (502, b"<html>\nbad gateway", "", (502, "", "<html>", 0.0)),
        (500, b'{"code":"x","message":null,"reason":"Boom"}', "", (500, "Boom", "Boom", 0.0)),
        (200, b"[]", "", (0, "", "expected an answer of the API of Kubernetes: no JSON object", 0.0)),
    ],
)  # fmt: skip
def test_refusal_is_told_by_the_apis_own_words(
    status: int, raw: bytes, retry_after: str, error: tuple[int, str, str, float]
) -> None:
    """Also where it is a load balancer that speaks."""
    with pytest.raises(ApiError) as raised:
        wire.read_answer(status, raw, retry_after)
    found = raised.value
    assert (found.status, found.reason, found.text, found.retry_after_s) == error


def test_event_of_an_error_is_a_refusal_though_the_status_was_200() -> None:
    """Too old a version among them."""
    status = {"kind": "Status", "message": "too old resource version", "reason": "Expired", "code": 410}
    line = json.dumps({"type": "ERROR", "object": status}).encode()
    with pytest.raises(ApiError, match="410: too old resource version") as raised:
        wire.read_event(line)
    assert raised.value.is_too_old


@given(JSON, st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "NEW", None]))
def test_whatever_comes_is_read_or_refused(value: Any, kind: str | None) -> None:
    """No other exception, from an answer or an event to what is made of the object."""
    raw = json.dumps({"type": kind, "object": value} if kind is not None else value).encode()
    with suppress(ApiError):
        wire.read_answer(200, raw)
    with suppress(ApiError):
        Track().heard([wire.read_event(raw)])
    whole = {**value, **of(1)} if isinstance(value, dict) else of(1)
    for one in (whole, {**of(1), "data": value}, {**of(1), "binaryData": value}):
        with suppress(ApiError):
            files_of([one])


@given(JSON, JSON, JSON)
def test_slice_of_any_shape_is_read_or_told(endpoints: Any, ports: Any, inner: Any) -> None:
    """By its name, and what was known of it holds."""
    good = of(1, addressType="IPv4", ports=[{"name": "http", "port": 80}], endpoints=[{"addresses": ["10.0.0.1"]}])
    for shape in (
        {"endpoints": endpoints, "ports": ports},
        {"endpoints": [{"addresses": inner, "conditions": endpoints, "targetRef": ports, "zone": inner}],
         "ports": [{"name": "http", "port": 80}]},
        {"endpoints": good["endpoints"], "ports": [{"name": inner, "port": endpoints, "protocol": ports}]},
    ):  # fmt: skip
        slices = Slices("shop/a", "http")
        slices.listed([good])
        found = slices.changed([of(2, addressType="IPv4", **shape)], [])
        if slices.problem.startswith("EndpointSlice"):
            assert slices.problem.startswith("EndpointSlice a: ")
            assert [one.address for one in found.endpoints] == ["10.0.0.1:80"]


@pytest.mark.parametrize("name", ["web-0", "a.b", "x" * 200])
def test_name_that_kubernetes_takes_is_kept(name: str) -> None:
    """For people who look for it."""
    assert wire.object_name("sidecar-mesh.registered", name) == f"sidecar-mesh.registered.{name}"


@given(st.text(max_size=300), st.text(max_size=300))
def test_names_of_objects_are_names_and_tell_apart(one: str, other: str) -> None:
    """Whatever an instance calls itself."""
    first, second = wire.object_name("p", one), wire.object_name("p", other)
    assert wire._SUBDOMAIN.fullmatch(first)
    assert len(first) <= 253
    assert (first == second) == (one == other)
    # Nor can one call itself what another is hashed to.
    assert wire.object_name("p", first.partition(".")[2]) != first or first == f"p.{one}"


class TestTrack:
    """What is known of objects, by events in any batches."""

    def test_of_several_changes_of_one_the_last_counts(self) -> None:
        """And what came and went in between was never there."""
        track = Track()
        track.listed([of(1, "a"), of(2, "b")], "5")
        found = track.heard(
            [("MODIFIED", of(6, "a", x=1)), ("DELETED", of(7, "b")), ("ADDED", of(8, "c")), ("DELETED", of(9, "c")),
             ("MODIFIED", of(10, "a", x=2))]
        )  # fmt: skip
        assert found == Events((of(10, "a", x=2),), (of(2, "b"), of(8, "c")))
        assert track.version == "10"

    def test_bookmark_moves_the_version_and_nothing_else(self) -> None:
        """Its object is nearly empty; it is no object without a name."""
        track = Track()
        track.listed([of(1)], "5")
        assert track.heard([("BOOKMARK", {"metadata": {"resourceVersion": "99", "creationTimestamp": None}})]) is None
        assert track.version == "99"
        assert track.heard([("DELETED", of(100, "never-seen"))]) is None

    @pytest.mark.parametrize("bad", [("ADDED", {}), ("NEW", of(7)), ("BOOKMARK", {"metadata": {}})])
    def test_event_that_is_none_is_refused(self, bad: tuple[str, dict[str, Any]]) -> None:
        """And the version stays where all was told: what came with it comes again."""
        track = Track()
        track.listed([of(1)], "5")
        with pytest.raises(ApiError):
            track.heard([("MODIFIED", of(6)), bad])
        assert track.version == "5"
        assert track.heard([("MODIFIED", of(6))]) == Events((of(6),), ())
