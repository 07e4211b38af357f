"""What is known of endpoints: whole, by changes, and what does not fit."""

from __future__ import annotations

import asyncio
import logging

import pytest

from sidecar.link.known_endpoints import MANY, KnownEndpoints, endpoint_set
from sidecar.link.messages import EndpointEntry, Endpoints, endpoints_version

ONE, TWO = EndpointEntry("10.0.0.1:15000"), EndpointEntry("10.0.0.2:15000", 2.0, "a", True)


def test_changes_are_applied_to_what_is_known() -> None:
    """One that does not fit changes nothing, and its upstream is not named until it was told whole."""

    async def main() -> None:
        known = KnownEndpoints({"b": [ONE]})
        grown = endpoints_version([ONE, TWO])
        found = await known.apply(Endpoints("b", grown, endpoints_version([ONE]), (TWO,)))
        assert found is not None
        assert len(found) == 2
        assert known.versions() == known.wanted() == {"b": grown}
        assert await known.apply(Endpoints("b", "0" * 16, "1" * 16, (), ("10.0.0.1:15000",))) is None
        assert known.versions() == {"b": grown}
        assert known.wanted() == {}
        assert known.entries() == {"b": (ONE, TWO)}
        assert await known.apply(Endpoints("b", endpoints_version([]), "")) is not None
        assert known.wanted() == {"b": endpoints_version([])}
        known.keep(["c"])
        assert known.versions() == {}

    asyncio.run(main())


def test_the_largest_are_named_first() -> None:
    """They cost most to be told again, where a question has no room for all."""
    many = [EndpointEntry(f"10.0.0.{n}:1") for n in range(5)]
    assert list(KnownEndpoints({"a": [ONE], "z": many, "b": [TWO]}).wanted()) == ["z", "a", "b"]


def test_many_are_worked_out_beside_the_loop() -> None:
    """With the same result."""
    many = [EndpointEntry(f"10.{n // 250}.{n % 250}.1:80") for n in range(2 * MANY)]

    async def main() -> None:
        known = KnownEndpoints({})
        found = await known.apply(Endpoints("b", endpoints_version(many), "", tuple(many)))
        assert found is not None
        assert len(found) == 2 * MANY

    asyncio.run(main())


def test_who_is_told_by_tls_is_known_as_such() -> None:
    """And who is not is known to be spoken to in clear: nothing is left to the upstream's default."""
    found = endpoint_set("b", [ONE, TWO])
    assert {str(address): is_tls for address, is_tls in found.tls.items()} == {ONE.address: False, TWO.address: True}


def test_an_address_that_is_none_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The others serve; it is told."""
    with caplog.at_level(logging.WARNING):
        found = endpoint_set("b", [ONE, EndpointEntry("nonsense"), EndpointEntry("10.0.0.1:0")])
    assert [str(address) for address in found.weights] == ["10.0.0.1:15000"]
    assert caplog.text.count("endpoint_left_out upstream=b") == 2
