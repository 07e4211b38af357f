"""Who the client is behind proxies, and that nobody can say to be another."""

from __future__ import annotations

import pytest

from sidecar.http1.head import parse_request_head
from sidecar.routing.client_address import MAX_HOPS, ClientAddress, parse_client

PEER = ("10.0.0.5", 40000)


def client(trusted: ClientAddress, *values: str, peer: tuple[str, int] = PEER) -> tuple[str, int]:
    """Of a request with these fields."""
    fields = [f"X-Forwarded-For: {value}" for value in values]
    head = parse_request_head("\r\n".join(["GET / HTTP/1.1", "Host: x", *fields]).encode("latin-1"), 1000)
    return trusted.of(peer, head)


class TestByNumber:
    """Envoy's `xff_num_trusted_hops` beside `use_remote_address`."""

    @pytest.mark.parametrize(
        ("hops", "values", "expected"),
        [
            (1, ["203.0.113.7"], "203.0.113.7"),
            (1, ["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            (2, ["6.6.6.6, 203.0.113.7, 192.0.2.1"], "203.0.113.7"),
            (2, ["203.0.113.7, 192.0.2.1"], "203.0.113.7"),
            (1, ["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
            (2, ["6.6.6.6, 203.0.113.7", "192.0.2.1"], "203.0.113.7"),
            (1, ["6.6.6.6,,203.0.113.7 , ,"], "203.0.113.7"),
        ],
    )
    def test_the_nth_from_the_right_is_the_client(self, hops: int, values: list[str], expected: str) -> None:
        """What stands left of it a client wrote, and it counts for nothing."""
        assert client(ClientAddress(hops), *values) == (expected, 0)

    @pytest.mark.parametrize(
        ("hops", "values"),
        [
            (2, ["203.0.113.7"]),
            (1, []),
            (1, [""]),
            (1, [" , ,"]),
            (1, ["203.0.113.7, unknown"]),
            (3, ["1.1.1.1, 2.2.2.2"]),
        ],
    )
    def test_who_connected_is_the_client_where_the_list_does_not_say(self, hops: int, values: list[str]) -> None:
        """A request that did not come through all of them, or a member that is no address."""
        assert client(ClientAddress(hops), *values) == PEER


class TestByNetwork:
    """nginx's `set_real_ip_from` with `real_ip_recursive on`."""

    TRUSTED = ("10.0.0.0/8", "192.0.2.1", "fd00::/8")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("203.0.113.7", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7, fd00::7, 192.0.2.1, 10.1.1.1", "203.0.113.7"),
            ("10.2.2.2, 10.1.1.1", "10.2.2.2"),
            ("203.0.113.7, unknown, 10.1.1.1", "10.1.1.1"),
            ("203.0.113.7, ::ffff:10.1.1.1", "203.0.113.7"),
        ],
    )
    def test_the_first_from_the_right_that_is_not_trusted_is_the_client(self, value: str, expected: str) -> None:
        """All trusted: the leftmost; one that is no address: nobody left of it is believed."""
        assert client(ClientAddress(networks=self.TRUSTED), value)[0] == expected

    @pytest.mark.parametrize("value", ["203.0.113.7", "10.0.0.1", "10.0.0.1, 10.0.0.2"])
    def test_nobody_else_is_believed(self, value: str) -> None:
        """A client that connects itself says what it likes."""
        peer = ("203.0.113.99", 1)
        assert client(ClientAddress(networks=self.TRUSTED), value, peer=peer) == peer

    def test_who_connected_is_the_client_where_the_list_says_nothing(self) -> None:
        """No field, or nothing in it but what is no address."""
        for values in ([], ["unknown"], [""]):
            assert client(ClientAddress(networks=self.TRUSTED), *values) == PEER

    def test_a_unix_socket_is_trusted_if_the_file_says_so(self) -> None:
        """Whoever can reach its directory."""
        unix = ("unix", 0)
        assert client(ClientAddress(networks=["unix"]), "203.0.113.7", peer=unix) == ("203.0.113.7", 0)
        assert client(ClientAddress(networks=["10.0.0.0/8"]), "203.0.113.7", peer=unix) == unix

    def test_a_claimed_chain_is_followed_for_so_long_only(self) -> None:
        """A thousand trusted proxies cost what 32 do."""
        chain = ", ".join(["203.0.113.7", *["10.9.9.9"] * 1000])
        assert client(ClientAddress(networks=self.TRUSTED), chain) == ("10.9.9.9", 0)
        assert client(ClientAddress(networks=self.TRUSTED), ", ".join(["203.0.113.7", *["10.9.9.9"] * (MAX_HOPS - 1)]))[
            0
        ] == ("203.0.113.7")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"203.0.113.7", ("203.0.113.7", 0)),
        (b"203.0.113.7:8080", ("203.0.113.7", 8080)),
        (b"2001:DB8:0::1", ("2001:db8::1", 0)),
        (b"[2001:db8::1]", ("2001:db8::1", 0)),
        (b"[2001:db8::1]:443", ("2001:db8::1", 443)),
        (b"::ffff:203.0.113.7", ("203.0.113.7", 0)),
        (b"[::ffff:203.0.113.7]:1", ("203.0.113.7", 1)),
    ],
)
def test_addresses_are_read_in_every_form_that_proxies_write(written: bytes, expected: tuple[str, int]) -> None:
    """With ports and brackets; one address has one spelling, so that it has one limit."""
    assert parse_client(written) == expected


@pytest.mark.parametrize(
    "written",
    [b"unknown", b"_hidden", b"localhost", b"1.2.3", b"1.2.3.4.5", b"01.2.3.4", b"1.2.3.4:", b"1.2.3.4:x",
     b"1.2.3.4:99999", b"1.2.3.4:-1", b"[::1", b"[::1]x", b"[::1]:", b"[1.2.3.4", b"fe80::1%eth0", b'"1.2.3.4"',
     b"for=1.2.3.4", b"1.2.3.4 5", b"\xff\xfe", b"::1::", b":", b"[]", b"1.2.3.4/8", b"\xb2.1.1.1"],
)  # fmt: skip
def test_what_is_no_address_is_none(written: bytes) -> None:
    """Never an error, and never half of it."""
    assert parse_client(written) is None


@pytest.mark.parametrize("octet", range(256))
def test_no_octet_makes_an_address_of_something_else(octet: int) -> None:
    """Behind and before one: only what the list's grammar and hexadecimal digits allow."""
    for written in (b"1.2.3.4" + bytes([octet]), bytes([octet]) + b"1.2.3.4"):
        found = parse_client(written)
        assert found is None or chr(octet).isdigit()


def test_what_is_remembered_is_bounded() -> None:
    """A client may invent lists without end; long ones are not kept at all."""
    trusted = ClientAddress(1)
    for number in range(5000):
        address = f"10.1.{number // 256}.{number % 256}"
        assert client(trusted, address) == (address, 0)
        assert len(trusted._known) <= 4096
    client(trusted, "6.6.6.6, " * 100 + "203.0.113.8")
    assert not any(len(said) > 128 for _, said in trusted._known)


def test_the_same_list_of_another_peer_is_another_question() -> None:
    """What is remembered of a trusted peer says nothing of one that is not."""
    trusted = ClientAddress(networks=["10.0.0.0/8"])
    assert client(trusted, "203.0.113.7") == ("203.0.113.7", 0)
    assert client(trusted, "203.0.113.7", peer=("203.0.113.99", 2)) == ("203.0.113.99", 2)
    assert client(trusted, "203.0.113.7") == ("203.0.113.7", 0)
