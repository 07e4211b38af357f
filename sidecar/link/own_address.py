"""
By which address others reach this instance, and its name among others of its service. *Cold.*

The first that says something counts: what was given; the pod's address by the environment (`POD_IP` or `K8S_POD_IP`,
which a manifest fills from `status.podIP`); the metadata of ECS; the address from which the control plane is reached.
A loopback address leads every caller to itself, so it is refused, unless the control plane is on loopback, too: then
the whole mesh is on this machine.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from sidecar.link.transport.http_client import HttpClient, TransportError
from sidecar.link.transport.server import parse_server
from sidecar.link.transport.short import whole
from sidecar.net.address import TcpAddress, parse_address

POD_VARIABLES: Final = ("POD_IP", "K8S_POD_IP")
ECS_VARIABLE: Final = "ECS_CONTAINER_METADATA_URI_V4"
ECS_TIMEOUT_S: Final = 2.0
_MAX_METADATA_BYTES: Final = 256 * 1024
_MAX_NAME_CHARS: Final = 200

Fetch = Callable[[str], Awaitable[bytes]]
"""The body of what is at an address; raises TransportError or ValueError."""


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """
    Attributes:
        host: An IP address without brackets, or a name; empty if it is not known.
        why: Where it was had from, or why it is not known.
    """

    host: str
    why: str


async def find_own_address(
    given: str, environment: Mapping[str, str], local_host: str, peer_host: str, fetch: Fetch
) -> OwnAddress:
    """
    Find this instance's address.

    Args:
        given: By settings; empty for none.
        local_host, peer_host: The ends of a connection to the control plane, IP addresses.
        fetch: Asks ECS.
    """
    is_local_mesh = _is_loopback(peer_host)
    if given:
        return _judged(given, "given", is_local_mesh)
    for variable in POD_VARIABLES:
        # `status.podIPs` has both families, separated by a comma.
        if host := environment.get(variable, "").partition(",")[0].strip():
            return _judged(host, variable, is_local_mesh)
    why_not = ""
    if url := environment.get(ECS_VARIABLE, ""):
        try:
            return _judged(ecs_address(await fetch(url)), "ECS", is_local_mesh)
        except (TransportError, ValueError) as error:
            why_not = f"; {ECS_VARIABLE}: {error}"
    found = _judged(local_host, "the route to the control plane", is_local_mesh)
    return OwnAddress(found.host, found.why + why_not)


def _judged(host: str, origin: str, is_local_mesh: bool) -> OwnAddress:
    try:
        address = parse_address(f"[{host}]:1" if ":" in host else f"{host}:1")
    except ValueError as error:
        return OwnAddress("", f"{origin}: {error}")
    assert isinstance(address, TcpAddress)
    if _is_loopback(host) and not is_local_mesh:
        return OwnAddress("", f"{origin}: {host} is loopback, by which nobody else reaches this instance; give another")
    ip = _ip(host)
    if ip is not None and (ip.is_unspecified or ip.is_multicast):
        return OwnAddress("", f"{origin}: expected the address of a host, found {host}; give another")
    return OwnAddress(host, origin)


def _is_loopback(host: str) -> bool:
    ip = _ip(host)
    return ip.is_loopback if ip is not None else host == "localhost" or host.endswith(".localhost")


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    # As dual-stack sockets have an IPv4 address.
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def ecs_address(raw: bytes) -> str:
    """
    A container's address by the task metadata endpoint, version 4.

    Raises:
        ValueError: It is not known there: in other modes than `awsvpc` it is of the host's own network only.
    """
    try:
        networks = json.loads(raw)["Networks"]
        return next(str(one["IPv4Addresses"][0]) for one in networks if one["NetworkMode"] == "awsvpc")
    except (ValueError, KeyError, TypeError, IndexError, StopIteration, RecursionError):
        raise ValueError("expected `Networks` with an IPv4 address in the mode `awsvpc`") from None


async def fetch_metadata(url: str) -> bytes:
    """
    What ECS says; without the control plane's token.

    Raises:
        TransportError: It does not answer.
        ValueError: The address is none, or the answer no success.
    """
    server = parse_server(url)
    client = HttpClient(user_agent="sidecar", connect_timeout_s=ECS_TIMEOUT_S)
    try:
        answer = await client.ask(server, "GET", "" if server.prefix else "/", {}, b"", ECS_TIMEOUT_S)
        body = await whole(answer, _MAX_METADATA_BYTES, ECS_TIMEOUT_S)
    finally:
        await client.close()
    if answer.status != 200:
        raise ValueError(f"status {answer.status}")
    return body


def instance_name(given: str, environment: Mapping[str, str]) -> str:
    """
    The instance's name: what was given, or `HOSTNAME` and six random characters, because several sidecars may be on one
    host. It is made once and handed over at a takeover, so that the process that takes over is the same instance.
    """
    if given:
        return given
    host = environment.get("HOSTNAME", "") or socket.gethostname()
    return f"{host[:_MAX_NAME_CHARS]}-{secrets.token_hex(3)}"
