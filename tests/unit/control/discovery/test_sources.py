"""The sources that need no engine, as discovery hears them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidecar.control.discovery.sources import DnsDiscoverer
from sidecar.control.engines.interface import Sighted, Sighting, Trouble
from sidecar.net import resolve
from sidecar.net.resolve import Resolver


def test_answer_of_dns_is_a_fact_and_none_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What an answer does not have any more is gone with a word, as a sidecar takes its own answers; one without an
    address, a name that is unknown and a server that is silent change nothing.
    """
    monkeypatch.setattr(resolve, "REFRESH_PERIOD_S", 0.0)
    answers: asyncio.Queue[list[str] | OSError] = asyncio.Queue()

    async def lookup(name: str) -> list[str]:
        answer = await answers.get()
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def test() -> None:
        told = DnsDiscoverer(Resolver(lookup)).follow({"address": "name:80"})
        one, two = Sighted("10.0.0.1:80"), Sighted("10.0.0.2:80")
        answers.put_nowait(["10.0.0.2", "10.0.0.1"])
        assert await anext(told) == Sighting((one, two))
        for nothing in ([], socket.gaierror(socket.EAI_NONAME, "unknown"), socket.gaierror(socket.EAI_AGAIN, "silent")):
            answers.put_nowait(nothing)
            trouble = await anext(told)
            assert isinstance(trouble, Trouble)
            assert trouble.error
        answers.put_nowait(["10.0.0.1"])
        assert await anext(told) == Trouble("")
        assert await anext(told) == Sighting((one,), frozenset({two.address}))
        await told.aclose()  # type: ignore[attr-defined]

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())
