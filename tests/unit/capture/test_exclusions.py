"""Ports and networks as people write them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sidecar.capture.exclusions import parse_exclusions, parse_ports


def test_ports_ranges_addresses_and_networks() -> None:
    """In one list, with spaces and without."""
    ports, networks = parse_exclusions("5432, 8000-8100,10.0.0.0/8 ,192.0.2.7,2001:db8::/32,::1,")
    assert ports == ((5432, 5432), (8000, 8100))
    assert networks == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128")))
    assert parse_exclusions("") == ((), ())
    assert parse_ports("80,443") == ((80, 80), (443, 443))


@pytest.mark.parametrize(
    "value", ["0", "65536", "90-80", "http", "-5", "5-", "٣", "10.0.0.1/8", "10.0.0.256", "1:2", "8_0"]
)
def test_others_are_refused_by_name(value: str) -> None:
    """The part that is wrong is said."""
    with pytest.raises(ValueError, match="expected") as refused:
        parse_exclusions(f"80,{value}")
    assert repr(value) in str(refused.value)
