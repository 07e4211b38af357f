"""By which address others reach this instance: the first that says something counts, and loopback is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest

from sidecar.link.own_address import OwnAddress, find_own_address, instance_name
from sidecar.link.transport.http_client import TransportError

ECS = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"}
METADATA = json.dumps({"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.106"]}]}).encode()


def find(
    given: str = "", environment: Mapping[str, str] | None = None, local: str = "10.0.0.5", peer: str = "10.0.0.1",
    metadata: bytes | Exception = METADATA,
) -> OwnAddress:  # fmt: skip
    async def fetch(url: str) -> bytes:
        assert url == ECS["ECS_CONTAINER_METADATA_URI_V4"]
        if isinstance(metadata, Exception):
            raise metadata
        return metadata

    return asyncio.run(find_own_address(given, environment or {}, local, peer, fetch))


def test_order_is_given_pod_ecs_route() -> None:
    """Each where the one before says nothing."""
    pod = {"POD_IP": "10.1.0.1", "K8S_POD_IP": "10.1.0.2"}
    assert find("10.9.9.9", {**pod, **ECS}) == OwnAddress("10.9.9.9", "given")
    assert find("", {**pod, **ECS}) == OwnAddress("10.1.0.1", "POD_IP")
    assert find("", {"POD_IP": "", "K8S_POD_IP": "10.1.0.2", **ECS}) == OwnAddress("10.1.0.2", "K8S_POD_IP")
    assert find("", ECS) == OwnAddress("10.0.2.106", "ECS")
    assert find() == OwnAddress("10.0.0.5", "the route to the control plane")
    assert find("", {"POD_IP": "10.1.0.1,fd00::1"}).host == "10.1.0.1"
    assert find("fd00::1").host == "fd00::1"
    assert find("node-7.example.com").host == "node-7.example.com"


@pytest.mark.parametrize("given", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "app.localhost", "::ffff:127.0.0.1"])
def test_loopback_is_refused(given: str) -> None:
    """Every caller would reach itself; the reason says so, and what to do."""
    found = find(given)
    assert found.host == ""
    assert "is loopback, by which nobody else reaches this instance; give another" in found.why


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_taken_where_the_control_plane_is_on_it(peer: str) -> None:
    """The whole mesh is on this machine."""
    assert find(local=peer, peer=peer).host == peer
    assert find("127.0.0.1", peer=peer).host == "127.0.0.1"


@pytest.mark.parametrize("given", ["0.0.0.0", "::", "224.0.0.1"])
def test_what_is_no_host_is_refused(given: str) -> None:
    """An address to listen on is none to be reached by."""
    assert find(given).host == ""
    assert "expected the address of a host" in find(given).why


@pytest.mark.parametrize(
    "metadata",
    [
        b"{}", b"[]", b"<html>", b'{"Networks": [{"NetworkMode": "bridge", "IPv4Addresses": ["172.17.0.2"]}]}',
        b'{"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": []}]}', TransportError("no answer within 2 s"),
    ],
)  # fmt: skip
def test_metadata_that_says_nothing_leaves_the_route(metadata: bytes | Exception) -> None:
    """And it is told why."""
    found = find("", ECS, metadata=metadata)
    assert found.host == "10.0.0.5"
    assert found.why.startswith("the route to the control plane; ECS_CONTAINER_METADATA_URI_V4: ")


def test_an_instance_has_a_name_that_no_other_has() -> None:
    """Two sidecars of one host are two; a name that was given is kept."""
    names = {instance_name("", {"HOSTNAME": "shop-7d9f"}) for _ in range(50)}
    assert len(names) == 50
    assert all(name.startswith("shop-7d9f-") for name in names)
    assert instance_name("mine", {"HOSTNAME": "x"}) == "mine"
    assert len(instance_name("", {"HOSTNAME": "h" * 5000})) < 1024
    assert instance_name("", {})
