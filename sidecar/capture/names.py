"""
Whether an app that is captured can call upstreams by their names: to be led anywhere, a connection must begin. *Cold.*
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sidecar.capture.proof import Finding
from sidecar.config.values.addresses import split_pattern
from sidecar.net.address import is_ip_address

_AT_ONCE: Final = 16
_SHOWN: Final = 4
"""Addresses of a name."""

Lookup = Callable[[str], list[str]]


def lookup(name: str) -> list[str]:
    """
    What this machine's resolver says, as for any program here.

    Raises:
        OSError: Nothing.
    """
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def names_of(config: Mapping[str, Any]) -> list[str]:
    """
    By which names the app calls upstreams.

    Args:
        config: As `/config` of the admin listener has it under `effective`.
    """
    found: dict[str, None] = {}
    for upstream, said in (config.get("upstreams") or {}).items():
        for host in [upstream] if said.get("hosts") is None else said["hosts"]:
            name, _ = split_pattern(host)
            if "*" not in name and not is_ip_address(name.strip("[]")):
                found[name] = None
    return sorted(found)


def find_names(names: Iterable[str], lookup: Lookup = lookup) -> tuple[Finding, ...]:
    """Ask for all of these; takes as long as the slowest answer."""

    def one(name: str) -> Finding:
        try:
            addresses = lookup(name)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return Finding("name", "", "refuted", f"{name}: {why}; an app cannot call it so")
        shown = ", ".join(addresses[:_SHOWN])
        if all(_is_loopback(address) for address in addresses):
            return Finding("name", "", "refuted", f"{name} is {shown}: what goes by loopback is never captured")
        return Finding("name", "", "proved", f"{name} is {shown}")

    with ThreadPoolExecutor(_AT_ONCE, "capture-names") as threads:
        return tuple(threads.map(one, names))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
