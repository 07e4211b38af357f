"""How keys are followed, on a clock that is held: files, addresses, what is wrong with them, and who is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.tokens import holder
from sidecar.security.tokens.holder import TokenKeys
from sidecar.security.tokens.rules import KeySource, TokenRule, make_token_rule
from sidecar.security.tokens.shown import sections, token_keys
from tests.support.held_loop import HeldLoop, run_held
from tests.support.tokens import ISSUER, NOW_S, jwk, jwks, signed
from tests.unit.security.authorization.support import head

URL = KeySource(url="https://id.example.com/jwks.json")


class Issuer:
    """What is at the address: octets, or what goes wrong there; and when it was asked."""

    def __init__(self) -> None:
        self.answer: bytes | TroubleError = jwks(jwk("p256", "1"))
        self.asked: list[float] = []

    def __call__(self, source: KeySource, machine_trust: str) -> bytes:
        assert source == URL
        self.asked.append(asyncio.get_running_loop().time())
        if isinstance(self.answer, TroubleError):
            raise self.answer
        return self.answer


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """Asked instead of an address; threads are done with at once, and chance is in the middle."""
    found = Issuer()

    def run(self: HeldLoop, executor: Any, call: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(HeldLoop, "run_in_executor", run)
    monkeypatch.setattr(holder, "fetch", found)
    monkeypatch.setattr(holder.random, "uniform", lambda low, high: (low + high) / 2)
    return found


def rule(source: KeySource) -> TokenRule:
    return make_token_rule(ISSUER, [], {}, source)


def run(body: Callable[[TokenKeys], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        keys = TokenKeys(lambda: int((NOW_S + loop.time()) * 1e9), machine_trust="")
        try:
            await body(keys)
        finally:
            keys.stop()
            await asyncio.sleep(0)

    run_held(main())


def outcome(keys: TokenKeys, source: KeySource, token: bytes) -> str:
    found = keys.tokens([rule(source)]).of(head("/", "GET", f"authorization: Bearer {token.decode()}"))
    assert found is not None
    return found.outcome


def test_an_address_is_asked_at_once_and_every_five_minutes(issuer: Issuer) -> None:
    """And with the same answer nothing is forgotten."""

    async def body(keys: TokenKeys) -> None:
        tokens = keys.tokens([rule(URL)])
        await keys.settle(2.0)
        assert issuer.asked == [0.0]
        assert outcome(keys, URL, signed("p256", "ES256")) == "accepted"
        await asyncio.sleep(901)
        assert issuer.asked == [0.0, 300.0, 600.0, 900.0]
        assert len(tokens._accepted) == 1
        assert keys.tokens([rule(URL)]) is tokens

    run(body)


def test_an_address_that_fails_is_asked_again_soon_then_later_and_what_is_held_goes_on(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """Told at each change and once a day."""
    caplog.set_level(logging.INFO, "sidecar")

    async def body(keys: TokenKeys) -> None:
        keys.tokens([rule(URL)])
        await keys.settle(2.0)
        issuer.answer = TroubleError("source_failed", f"{URL.url}: connection refused")
        await asyncio.sleep(305)
        assert issuer.asked == [0.0, 300.0, 301.0, 303.0]
        assert outcome(keys, URL, signed("p256", "ES256")) == "accepted"
        await asyncio.sleep(3595)
        assert issuer.asked[4:9] == [307.0, 315.0, 331.0, 363.0, 427.0]
        assert issuer.asked[-1] - issuer.asked[-2] == 300.0
        (followed,) = keys.followed
        assert followed.state == "last_good"
        (shown,) = token_keys(keys)
        assert shown["last_error"] == {"code": "source_failed", "text": f"{URL.url}: connection refused"}
        assert shown["keys"] == [{"kid": "1", "algorithms": ["ES256"]}]
        issuer.answer = jwks(jwk("p256", "1"))
        await asyncio.sleep(301)
        assert followed.state == "fresh"
        await asyncio.sleep(1)

    run(body)
    events = [record.message.partition(" ")[0] for record in caplog.records]
    assert [one for one in events if "token_keys" in one] == [
        "token_keys_loaded", "token_keys_failed", "token_keys_fine",
    ]  # fmt: skip


def test_without_keys_a_start_waits_a_moment_and_no_longer(issuer: Issuer) -> None:
    """A token proves nothing until they come."""
    issuer.answer = TroubleError("source_failed", "nobody there")

    async def body(keys: TokenKeys) -> None:
        keys.tokens([rule(URL)])
        await keys.settle(2.0)
        assert asyncio.get_running_loop().time() == 0.0
        assert outcome(keys, URL, signed("p256", "ES256")) == "no_keys"
        assert [one.state for one in keys.followed] == ["none"]
        issuer.answer = jwks(jwk("p256", "1"))
        await asyncio.sleep(1.5)
        assert outcome(keys, URL, signed("p256", "ES256")) == "accepted"

    run(body)


def test_an_unknown_key_asks_again_but_not_often(issuer: Issuer) -> None:
    """Whoever names one that there is not, again and again, has the address asked every ten seconds."""

    async def body(keys: TokenKeys) -> None:
        keys.tokens([rule(URL)])
        await keys.settle(2.0)
        await asyncio.sleep(100)
        new = signed("p256-2", "ES256", kid="2")
        assert outcome(keys, URL, new) == "unknown_key"
        issuer.answer = jwks(jwk("p256", "1"), jwk("p256-2", "2"))
        await asyncio.sleep(0.1)
        assert issuer.asked == [0.0, 100.0]
        assert outcome(keys, URL, new) == "accepted"
        for number in range(40):
            assert outcome(keys, URL, signed("p256", "ES256", kid=f"x{number}")) == "unknown_key"
            await asyncio.sleep(1)
        assert issuer.asked == [0.0, 100.0, 110.0, 120.0, 130.0, 140.0]

    run(body)


def test_new_keys_take_the_place_of_the_old_for_every_token(issuer: Issuer) -> None:
    """A key that its issuer has taken back proves nothing from then on."""

    async def body(keys: TokenKeys) -> None:
        keys.tokens([rule(URL)])
        await keys.settle(2.0)
        old = signed("p256", "ES256")
        assert outcome(keys, URL, old) == "accepted"
        issuer.answer = jwks(jwk("p256-2", "2"))
        await asyncio.sleep(301)
        assert outcome(keys, URL, old) == "unknown_key"
        assert keys.followed[0].replaced == 1

    run(body)


def test_what_no_plan_needs_is_not_asked_any_more(issuer: Issuer) -> None:
    """Nor is its judge kept; what came of tokens stays counted."""

    async def body(keys: TokenKeys) -> None:
        keys.tokens([rule(URL)])
        await keys.settle(2.0)
        outcome(keys, URL, signed("p256", "ES256"))
        keys.keep_only([])
        await asyncio.sleep(1000)
        assert issuer.asked == [0.0]
        assert keys.followed == ()
        assert keys.counts == {"accepted": 1}
        keys.miss(URL)

    run(body)


def test_files_are_followed(issuer: Issuer, tmp_path: Path) -> None:
    """A change counts when two looks agree; a bad one is told, and the good one goes on."""
    path = tmp_path / "keys.json"
    source = KeySource(file=str(path))

    async def body(keys: TokenKeys) -> None:
        keys.tokens([rule(source)])
        await keys.settle(2.0)
        (followed,) = keys.followed
        assert followed.state == "none"
        assert followed.trouble is not None
        assert followed.trouble.code == "unreadable"
        path.write_bytes(jwks(jwk("p256", "1")))
        await asyncio.sleep(2.1)
        old, new = signed("p256", "ES256"), signed("p256-2", "ES256", kid="2")
        assert outcome(keys, source, old) == "accepted"
        assert (followed.state, followed.trouble) == ("fresh", None)
        path.write_bytes(b'{"keys": [')
        await asyncio.sleep(4.1)
        assert followed.state == "last_good"
        assert outcome(keys, source, old) == "accepted"
        path.write_bytes(jwks(jwk("p256", "1")))
        await asyncio.sleep(4.1)
        assert (followed.state, followed.replaced) == ("fresh", 0)
        path.write_bytes(jwks(jwk("p256-2", "2")))
        await asyncio.sleep(4.1)
        assert [outcome(keys, source, old), outcome(keys, source, new)] == ["unknown_key", "accepted"]
        path.unlink()
        await asyncio.sleep(4.1)
        assert followed.state == "last_good"
        assert outcome(keys, source, new) == "accepted"

    run(body)


def test_numbers(issuer: Issuer) -> None:
    """Of what tokens came to, and of sources by how they are."""

    async def body(keys: TokenKeys) -> None:
        keys.tokens([rule(URL), rule(KeySource(file="/nonexistent/keys.json"))])
        await keys.settle(2.0)
        keys.counts["accepted"] = 3
        counted, states = sections(keys)
        assert counted is not None
        assert states is not None
        assert [number for _, number in counted.series] == [3.0]  # type: ignore[union-attr]
        assert [number for _, number in states.series] == [1.0, 0.0, 1.0]  # type: ignore[union-attr]

    run(body)
