"""Warnings of requests that come back: to an address at which the file itself listens. *Cold, pure.*"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from sidecar.config.model.root import Config
from sidecar.config.problems import At, Reporter
from sidecar.config.values.addresses import split_address

_RULE: Final = "own-listener"
_SOCKET: Final = -1
"""What `split_address` has for a port of a Unix socket, whose path is then the host."""


def warn_of_addresses(config: Config, report: Reporter) -> None:
    """Warn of each app, endpoint and name that is a listener of the file."""
    own: dict[int, list[tuple[str, str, str]]] = {}
    for owner, address in _listeners(config):
        host, port = split_address(address)
        if port != 0:  # the system chooses one
            own.setdefault(port, []).append((host, owner, address))
    for at, address in _destinations(config):
        host, port = split_address(address)
        for listened, owner, written in own.get(port, ()):
            if (host == listened) if port == _SOCKET else _leads_to(host, listened):
                message = f"`{address}` is our own: `{owner}` listens at `{written}`, so requests come back"
                report(at, message, "name the address of the server itself", rule=_RULE)
                break


def _listeners(config: Config) -> Iterator[tuple[str, str]]:
    for name, side in (("inbound", config.inbound), ("outbound", config.outbound)):
        for spec in side.listen if side is not None else ():
            yield name, spec.address
    if config.capture is not None:
        yield from (("capture.outbound", one) for one in config.capture.outbound)
        yield from (("capture.inbound", one) for one in config.capture.inbound)
    yield from (("admin", one) for one in config.admin.listen)
    yield from (("telemetry.metrics", one) for one in config.telemetry.metrics.listen)


def _destinations(config: Config) -> Iterator[tuple[At, str]]:
    if config.inbound is not None:
        if config.inbound.app is not None:
            yield ("inbound", "app", "address"), config.inbound.app.address
        for index, spec in enumerate(config.inbound.listen):
            if spec.app is not None:
                yield ("inbound", "listen", index, "app", "address"), spec.app.address
    for name, upstream in config.upstreams.items():
        for index, endpoint in enumerate(upstream.endpoints or ()):
            yield ("upstreams", name, "endpoints", index, "address"), endpoint.address
        if upstream.dns is not None:
            yield ("upstreams", name, "dns"), upstream.dns


def _leads_to(host: str, listened: str) -> bool:
    """Whether who connects to `host` of this machine's comes to who listens; of other names nothing is known here."""
    one, other = _address(host), _address(listened)
    if one is None or other is None:
        return host == listened
    if one.is_unspecified or other.is_unspecified:
        # Connecting to 0.0.0.0 is connecting to this machine. One of IPv6 may or may not take IPv4: it is not said.
        return one.version == other.version and all(each.is_loopback or each.is_unspecified for each in (one, other))
    return one == other


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if host == "localhost":
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
