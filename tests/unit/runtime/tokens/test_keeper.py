"""What a reload has of tokens: nothing where no rule asks, the same judge for the same rules, and why it cannot be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.config.problems import Problem
from sidecar.proxy.plan import Plan
from sidecar.runtime.tokens.keeper import TokenKeeper
from sidecar.security.authorization.authorization import Authorization
from sidecar.security.tokens import library
from sidecar.security.tokens.holder import TokenKeys
from tests.support.compiling import compiled
from tests.support.tokens import jwk, jwks

TEXT = """
service: s
inbound:
  app: "h:1"
  authorization: {{default: deny, rules: [{rule}]}}
"""


def plan(rule: str) -> Plan:
    """Of a file with this rule."""
    return compiled(TEXT.format(rule=rule)).plan


def asking(keys: Path, more: str = "") -> Plan:
    """Of one that asks for tokens."""
    return plan(f"{{name: r, allow: {{from: {{jwt: {{issuer: i, keys: {keys}}}}}}}}}{more}")


def rules_of(one: Plan) -> Authorization:
    found = one.side_of["inbound"].authorization
    assert found is not None
    return found


def test_where_no_rule_asks_there_is_nothing() -> None:
    """And nobody is told."""

    async def main() -> None:
        keeper = TokenKeeper()
        keeper.made = pytest.fail
        one = plan("{name: r, allow: {path: /x}}")
        assert await keeper.prepare(one, "") == []
        keeper.commit(one)
        keeper.stop()
        assert keeper.keys is None
        assert rules_of(one).tokens is None

    asyncio.run(main())


def test_a_plan_gets_who_verifies_and_the_next_the_same(tmp_path: Path) -> None:
    """As long as it asks the same; one that asks for nothing ends the following."""
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk("p256", "1")))

    async def main() -> None:
        made: list[TokenKeys] = []
        keeper = TokenKeeper()
        keeper.made = made.append
        first, second = asking(path), asking(path, ", {name: other, allow: {path: /x}}")
        assert await keeper.prepare(first, "") == []
        assert rules_of(first).tokens is None  # not in force yet
        keeper.commit(first)
        assert [one.state for one in made[0].followed] == ["fresh"]
        assert await keeper.prepare(second, "") == []
        keeper.commit(second)
        assert rules_of(second).tokens is rules_of(first).tokens is not None
        last = plan("{name: r, allow: {path: /x}}")
        await keeper.prepare(last, "")
        keeper.commit(last)
        assert made[0].followed == ()
        assert len(made) == 1
        keeper.stop()

    asyncio.run(main())


def test_without_the_library_a_file_that_asks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what to install."""
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    (found,) = asyncio.run(TokenKeeper().prepare(asking(tmp_path / "k"), "pushed.yaml"))
    assert isinstance(found, Problem)
    assert (found.file, found.path) == ("pushed.yaml", "inbound.authorization")
    assert "install `sidecar-mesh[jwt]`" in found.message
