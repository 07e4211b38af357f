"""Join tokens: what is kept of them, and how uses are counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sidecar.control.authority.names import BadName
from sidecar.control.authority.tokens import (
    MAX_TOKENS,
    JoinToken,
    JoinTokens,
    TokenError,
    TokenRefused,
    parse,
    printed,
)
from sidecar.control.engines.interface import Unavailable, Versioned
from sidecar.control.engines.secrets.disk import MemorySecrets
from tests.support.authority import DAY_S, Clock


def run(test: Callable[[JoinTokens, Clock, MemorySecrets], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        secrets, clock = MemorySecrets(), Clock()
        async with asyncio.timeout(30):
            await test(JoinTokens(secrets, clock), clock, secrets)

    asyncio.run(bounded())


async def code_of(use: Coroutine[Any, Any, JoinToken]) -> str:
    with pytest.raises(TokenRefused) as caught:
        await use
    return caught.value.code


def test_token_has_256_bits_and_its_text_names_a_root() -> None:
    """The form that the protocol says."""

    async def test(tokens: JoinTokens, clock: Clock, secrets: MemorySecrets) -> None:
        made, token = await tokens.create("storefront")
        assert len(token) == 47
        root = "ab" * 32
        assert parse(printed(token, root) + "\n") == (token, root)
        assert parse(token) == (token, "")
        assert made.expires_s == clock.now_s + 90 * DAY_S

    run(test)


def test_only_its_hash_is_kept() -> None:
    """Neither the engine nor `repr` has a token."""

    async def test(tokens: JoinTokens, clock: Clock, secrets: MemorySecrets) -> None:
        made, token = await tokens.create("storefront")
        stored = await secrets.read("tokens")
        assert stored is not None
        assert token[4:].encode() not in stored.value
        assert made.hash not in repr(made)
        assert "hash" not in made.told()

    run(test)


def test_token_lets_in_many_times_and_counts() -> None:
    """A container that restarts ten times, and thirty days later."""

    async def test(tokens: JoinTokens, clock: Clock, secrets: MemorySecrets) -> None:
        _, token = await tokens.create("storefront")
        for _ in range(10):
            assert (await tokens.redeem(token, "key")).service == "storefront"
        clock.now_s += 30 * DAY_S
        assert (await tokens.redeem(token, "key")).uses == 11
        (kept,) = await tokens.list()
        assert (kept.uses, kept.used_s, kept.user) == (11, clock.now_s, "")

    run(test)


def test_token_for_one_use_lets_in_once() -> None:
    """But for the same key, whose answer was lost on its way."""

    async def test(tokens: JoinTokens, clock: Clock, secrets: MemorySecrets) -> None:
        _, token = await tokens.create("storefront", is_once=True)
        await tokens.redeem(token, "key")
        assert await code_of(tokens.redeem(token, "other")) == "token_used"
        await tokens.redeem(token, "key")
        clock.now_s += 601
        assert await code_of(tokens.redeem(token, "key")) == "token_used"

    run(test)


def test_of_two_replicas_only_one_takes_a_token_for_one_use() -> None:
    """By compare-and-swap, in the middle of which each lets the other go on."""

    class Slow(MemorySecrets):
        async def read(self, name: str) -> Versioned | None:
            found = await super().read(name)
            await asyncio.sleep(0)
            return found

    async def test() -> None:
        secrets, clock = Slow(), Clock()
        replicas = [JoinTokens(secrets, clock) for _ in range(3)]
        _, token = await replicas[0].create("storefront", is_once=True)
        uses = [one.redeem(token, f"key-{number}") for number, one in enumerate(replicas)]
        found = await asyncio.gather(*uses, return_exceptions=True)
        assert sum(isinstance(one, JoinToken) for one in found) == 1
        assert sum(isinstance(one, TokenRefused) and one.code == "token_used" for one in found) == 2

    asyncio.run(test())


def test_a_thousand_uses_at_once_are_a_few_writes() -> None:
    """Counted together, each once."""

    class Counting(MemorySecrets):
        writes = 0

        async def swap(self, name: str, value: bytes, expected: str) -> str:
            self.writes += 1
            await asyncio.sleep(0)
            return await super().swap(name, value, expected)

    async def test() -> None:
        secrets = Counting()
        tokens = JoinTokens(secrets, Clock())
        _, token = await tokens.create("storefront")
        found = await asyncio.gather(*(tokens.redeem(token, "key") for _ in range(1000)))
        assert sorted(one.uses for one in found) == list(range(1, 1001))
        assert secrets.writes < 10

    asyncio.run(test())


def test_what_is_unknown_revoked_or_expired_lets_nobody_in() -> None:
    """Each with its own code; an expired one is remembered for a month."""

    async def test(tokens: JoinTokens, clock: Clock, secrets: MemorySecrets) -> None:
        made, token = await tokens.create("storefront", 3600)
        assert await code_of(tokens.redeem("sct_" + "A" * 43, "k")) == "token_unknown"
        assert await code_of(tokens.redeem("secret", "k")) == "token_unknown"
        clock.now_s += 3600
        assert await code_of(tokens.redeem(token, "k")) == "token_expired"
        clock.now_s += 31 * DAY_S
        assert await code_of(tokens.redeem(token, "k")) == "token_unknown"
        other, second = await tokens.create("storefront")
        assert await tokens.revoke(other.id)
        assert not await tokens.revoke(made.id)
        assert await code_of(tokens.redeem(second, "k")) == "token_unknown"

    run(test)


def test_token_is_made_for_services_alone() -> None:
    """`control` is no service, nor is anything that is no name; a ttl has bounds; so has their number."""

    async def test(tokens: JoinTokens, clock: Clock, secrets: MemorySecrets) -> None:
        for wrong in ("control", "ns", "", "a/b", "Storefront", "x" * 64):
            with pytest.raises(BadName):
                await tokens.create(wrong)
        for ttl_s in (0.0, 1e12):
            with pytest.raises(TokenError, match="ttl"):
                await tokens.create("storefront", ttl_s)
        many = [(await tokens.create("storefront"))[0].told() for _ in range(2)]
        raw = [
            {"id": str(n), "hash": "h", "service": "s", "created": 1, "expires": many[0]["expires"]}
            for n in range(MAX_TOKENS)
        ]
        stored = await secrets.read("tokens")
        assert stored is not None
        await secrets.swap("tokens", json.dumps({"tokens": raw}).encode(), stored.version)
        with pytest.raises(TokenError, match="revoke"):
            await tokens.create("storefront")

    run(test)


def test_use_that_could_not_be_counted_lets_nobody_in() -> None:
    """An engine that is away; who waited together is told together."""

    class Away(MemorySecrets):
        is_away = False

        async def read(self, name: str) -> Versioned | None:
            if self.is_away:
                raise Unavailable("away")
            return await super().read(name)

    async def test() -> None:
        secrets = Away()
        tokens = JoinTokens(secrets, Clock())
        _, token = await tokens.create("storefront")
        secrets.is_away = True
        found = await asyncio.gather(*(tokens.redeem(token, "k") for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in found)
        secrets.is_away = False
        assert (await tokens.redeem(token, "k")).uses == 1

    asyncio.run(test())
