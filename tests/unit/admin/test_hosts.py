"""Listeners on loopback answer to loopback's names only, whoever resolves to them."""

from __future__ import annotations

import pytest

from sidecar.admin.hosts import AllowedHosts


@pytest.mark.parametrize(
    "authority",
    ["", "localhost", "LOCALHOST:9901", "localhost.:9901", "app.localhost", "127.0.0.1", "127.0.0.1:9901", "[::1]:9901",
     "[::1]", "10.0.0.7:1", "[fd00::1]:9901", "127.0.0.1.:9901", "127.9.9.9"],
)  # fmt: skip
def test_loopback_names_addresses_and_no_host_are_served(authority: str) -> None:
    """With and without port; a page cannot have an address as its own name."""
    assert not AllowedHosts("127.0.0.1:9901").refuses(authority, "127.0.0.1")


@pytest.mark.parametrize(
    "authority",
    ["evil.example", "evil.example:9901", "localhost.evil.example", "evil-localhost", "127.0.0.1.evil.example",
     "notlocalhost", "2130706433", "a@evil.example", "localhost@evil.example", ".localhost.evil", "%"],
)  # fmt: skip
def test_every_other_name_is_refused(authority: str) -> None:
    """Also one that only looks like loopback's."""
    assert AllowedHosts("127.0.0.1:9901").refuses(authority, "127.0.0.1")


@pytest.mark.parametrize(
    ("address", "local", "checks"),
    [
        ("127.0.0.1:9901", "127.0.0.1", True),
        ("127.9.9.9:9901", "127.9.9.9", True),
        ("[::1]:9901", "::1", True),
        ("localhost:9901", "127.0.0.1", True),
        ("myself:9901", "127.0.1.1", True),
        ("myself:9901", "10.0.0.7", False),
        ("0.0.0.0:15020", "127.0.0.1", False),
        ("[::]:15020", "::1", False),
        ("10.0.0.7:15020", "10.0.0.7", False),
    ],
)
def test_only_listeners_on_loopback_ask(address: str, local: str, checks: bool) -> None:
    """What the network reaches has names that nobody here knows."""
    assert AllowedHosts(address).refuses("evil.example", local) is checks


def test_the_file_may_allow_more_names() -> None:
    """Exact ones, and all below one."""
    hosts = AllowedHosts("127.0.0.1:9901", ["sidecar", "*.mesh.example"])
    assert not hosts.refuses("Sidecar:9901", "127.0.0.1")
    assert not hosts.refuses("a.mesh.example.", "127.0.0.1")
    assert hosts.refuses("mesh.example", "127.0.0.1")
    assert hosts.refuses("evil.example", "127.0.0.1")
    assert not AllowedHosts("127.0.0.1:9901", ["*"]).refuses("evil.example", "127.0.0.1")


def test_a_listener_is_called_by_the_name_in_the_file() -> None:
    """Whoever listens on `myself:9901` asks for `myself`."""
    assert not AllowedHosts("myself:9901").refuses("myself:9901", "127.0.0.1")
