"""Which addresses a sidecar may register. *Pure.*"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from sidecar.link.report import Port, Report
from sidecar.net.address import TcpAddress, is_ip_address, parse_address


def is_loopback(host: str) -> bool:
    """Whether a host, without brackets, is this machine's own, by address or by name."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return is_ip_address(host) and _plain(host).is_loopback


def complaint(address: str, peer_is_local: bool) -> str:
    """
    Why others cannot, or must not, be sent to an address; empty if they may.

    Args:
        address: As the sidecar says it.
        peer_is_local: Whether the sidecar reports from loopback itself: then everyone is on this machine.
    """
    try:
        parsed = parse_address(address)
    except ValueError as error:
        return str(error)
    if not isinstance(parsed, TcpAddress) or not parsed.port:
        return f"expected host:port, found {address!r}"
    if is_loopback(parsed.host):
        if peer_is_local:
            return ""
        return f"{address!r} is loopback, which others reach themselves by; start the sidecar with --address"
    if is_ip_address(parsed.host):
        ip = _plain(parsed.host)
        if ip.is_unspecified or ip.is_multicast or ip.is_link_local or ip == IPv4Address("255.255.255.255"):
            return f"{address!r} is no address of one machine that others can reach; start the sidecar with --address"
    return ""


def usable_ports(report: Report, peer_is_local: bool) -> tuple[dict[str, Port], tuple[str, ...]]:
    """The ports of a report that may be registered, and what is wrong with the others."""
    ports: dict[str, Port] = {}
    problems = []
    for name, port in report.ports.items():
        why = complaint(port.address, peer_is_local)
        if why:
            problems.append(f"ports.{name}: {why}")
        else:
            ports[name] = port
    return ports, tuple(problems)


def _plain(host: str) -> IPv4Address | IPv6Address:
    """The IPv4 address of one that is written as IPv6: `::ffff:127.0.0.1` is loopback."""
    ip = ip_address(host)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
