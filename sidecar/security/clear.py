"""What a strict listener takes in clear all the same: probes, scrapes. *For requests in clear on such a listener.*"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from sidecar.message import RequestHead
from sidecar.net.tls.settings import ClearRule

_NOT_AN_ADDRESS: Final = "unix"


class ClearRules:
    """
    Args:
        rules: A request must meet all that one of them names.

    Raises:
        ValueError: A network is none.
    """

    __slots__ = ("_rules",)

    def __init__(self, rules: Sequence[ClearRule]) -> None:
        self._rules = [
            (
                frozenset(method.encode() for method in rule.methods),
                frozenset(path.encode() for path in rule.paths),
                tuple(ip_network(network) for network in rule.networks),
            )
            for rule in rules
        ]

    def __repr__(self) -> str:
        return f"<ClearRules {len(self._rules)}>"

    def admit(self, head: RequestHead, peer_ip: str) -> bool:
        """
        Whether the request may be in clear.

        Args:
            peer_ip: Of who connected, whatever the request says.
        """
        address = None if peer_ip == _NOT_AN_ADDRESS else ip_address(peer_ip.partition("%")[0])
        return any(
            (not methods or head.method in methods)
            and (not paths or head.path in paths)
            and (not networks or (address is not None and any(address in network for network in networks)))
            for methods, paths, networks in self._rules
        )
