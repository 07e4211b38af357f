"""Which connections are captured, by the rules and their order."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sidecar.capture.rules import INBOUND_PORT, OUTBOUND_PORT, Wanted, rules_of
from tests.unit.capture.packets import Packet, led_to

PLAIN = rules_of(Wanted())


@pytest.mark.parametrize("packet", [
    Packet("output", "10.1.2.3"),
    Packet("output", "10.1.2.3", 5432),
    Packet("output", "10.1.2.3", 14999),
    Packet("output", "10.1.2.3", 15022),
    Packet("output", "2001:db8::7", 443),
    Packet("output", "10.1.2.3", user=0),
    Packet("output", "127.0.0.1"),  # by another interface, as a wrong route would have it
])  # fmt: skip
def test_outgoing_connections_are_captured(packet: Packet) -> None:
    """Of every user, to every port, by both families."""
    assert led_to(PLAIN, packet) == OUTBOUND_PORT


@pytest.mark.parametrize("packet", [
    Packet("output", "10.1.2.3", user=1337),
    Packet("output", "10.1.2.3", is_tcp=False),
    Packet("output", "10.1.2.3", is_first=False),
    Packet("output", "10.0.0.9", interface="lo"),
    *(Packet("output", "10.1.2.3", port) for port in (22, 53, 15000, 15001, 15010, 15021)),
    *(Packet("output", to) for to in ("169.254.169.254", "169.254.170.2", "fe80::1", "fd00:ec2::254", "168.63.129.16")),
])  # fmt: skip
def test_others_are_left_alone(packet: Packet) -> None:
    """The sidecar's own, what goes to other parts of a mesh, and what a platform needs."""
    assert led_to(PLAIN, packet) is None


@pytest.mark.parametrize("to", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("user", [0, 1000, 1337])
def test_the_proof_is_captured_for_everyone(to: str, user: int) -> None:
    """And at no other port is the sidecar's own user."""
    assert led_to(PLAIN, Packet("output", to, 15002, user=user)) == OUTBOUND_PORT
    assert led_to(PLAIN, Packet("output", to, 15003, user=1337)) is None


def test_incoming_connections_are_captured() -> None:
    """But for the sidecar's ports, ssh, and what never came from another machine."""
    assert led_to(PLAIN, Packet("prerouting", "10.0.0.9", 8080)) == INBOUND_PORT
    assert led_to(PLAIN, Packet("prerouting", "2001:db8::9", 5432)) == INBOUND_PORT
    for packet in (
        Packet("prerouting", "10.0.0.9", 22),
        Packet("prerouting", "10.0.0.9", 15020),
        Packet("prerouting", "10.0.0.9", 8080, interface="lo"),
        Packet("prerouting", "10.0.0.9", 8080, is_first=False),
        Packet("prerouting", "10.0.0.9", 8080, is_tcp=False),
    ):
        assert led_to(PLAIN, packet) is None


def test_what_is_excluded_is_left_alone() -> None:
    """By port, range, network, user and where it comes from."""
    rules = rules_of(
        Wanted(
            alone_ports=((5432, 5432), (9000, 9010)),
            alone_networks=(ip_network("10.9.0.0/16"), ip_network("fd12::/16")),
            alone_users=(33,),
            alone_inbound_ports=((9100, 9100),),
            alone_inbound_networks=(ip_network("10.7.0.0/16"),),
        )
    )
    for packet in (
        Packet("output", "10.1.2.3", 5432),
        Packet("output", "10.1.2.3", 9010),
        Packet("output", "10.9.255.1"),
        Packet("output", "fd12:1::1"),
        Packet("output", "10.1.2.3", user=33),
        Packet("prerouting", "10.0.0.9", 9100),
        Packet("prerouting", "10.0.0.9", source="10.7.3.4"),
    ):
        assert led_to(rules, packet) is None
    assert led_to(rules, Packet("output", "10.1.2.3", 9011)) == OUTBOUND_PORT
    assert led_to(rules, Packet("prerouting", "10.0.0.9", 5432)) == INBOUND_PORT


def test_only_named_ports_of_what_comes_for_this_machine() -> None:
    """As a host's first namespace needs it, which forwards for others, too."""
    rules = rules_of(Wanted(inbound_ports=((8080, 8081),)))
    assert led_to(rules, Packet("prerouting", "10.0.0.9", 8081)) == INBOUND_PORT
    assert led_to(rules, Packet("prerouting", "10.0.0.9", 8082)) is None
    assert led_to(rules, Packet("prerouting", "10.0.0.77", 8081, is_here=False)) is None


def test_other_ports_and_another_user() -> None:
    """As they were asked for."""
    rules = rules_of(Wanted(outbound_port=16001, inbound_port=16006, user=2000))
    assert led_to(rules, Packet("output", "10.1.2.3", user=1337)) == 16001
    assert led_to(rules, Packet("output", "10.1.2.3", user=2000)) is None
    assert led_to(rules, Packet("prerouting", "10.0.0.9")) == 16006
