"""
What the plan in force needs to verify tokens, and nothing for a plan without such rules: not even the code. *Cold.*

Keys that cannot be had refuse no configuration and hold up no readiness: until they come a token proves nothing, so
rules that ask for one match nobody, and all others are in force. A start, or a reload that names new sources, waits a
moment for them, so that usually the first request is judged with keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sidecar.config.problems import Problem
from sidecar.proxy.plan import Plan
from sidecar.security.authorization.authorization import Authorization
from sidecar.security.tokens.rules import TokenRule

if TYPE_CHECKING:
    from sidecar.security.tokens.holder import TokenKeys

SETTLE_S: Final = 2.0
"""For keys that have never been had."""
_AT: Final = "inbound.authorization"


class TokenKeeper:
    """
    Attributes:
        keys: What is held; None as long as no configuration has asked for tokens.
        made: Told of `keys` when there are some.
    """

    def __init__(self) -> None:
        self.keys: TokenKeys | None = None
        self.made: Callable[[TokenKeys], None] = lambda keys: None

    async def prepare(self, plan: Plan, pushed: str) -> list[Problem]:
        """
        Have keys for what the plan's rules ask, if they can be had in a moment.

        Args:
            pushed: Name of the file that was pushed, for problems; empty for the process's own.

        Returns:
            Why nothing of the kind can be verified here.
        """
        rules = _rules(plan)
        if not rules:
            return []
        if self.keys is None:
            from sidecar.security.tokens.library import why_missing

            missing = why_missing()
            if missing is not None:
                return [Problem(pushed, 0, 0, _AT, missing)]
            self.keys = self._make()
        self.keys.tokens(rules)
        await self.keys.settle(SETTLE_S)
        return []

    def commit(self, plan: Plan) -> None:
        """The plan is in force: its rules have who verifies for them, and what it does not need goes."""
        if self.keys is None:
            return
        rules = _rules(plan)
        for authorization in _authorizations(plan):
            if authorization.token_rules:
                authorization.tokens = self.keys.tokens(rules)
        self.keys.keep_only(rules)

    def stop(self) -> None:
        """Follow nothing any more."""
        if self.keys is not None:
            self.keys.stop()

    def _make(self) -> TokenKeys:
        from sidecar.security.tokens.holder import TokenKeys

        made = TokenKeys()
        self.made(made)
        return made


def _authorizations(plan: Plan) -> list[Authorization]:
    found = [side.authorization for side in (*plan.sides, *plan.side_of.values())]
    return list({id(one): one for one in found if one is not None}.values())


def _rules(plan: Plan) -> list[TokenRule]:
    return [rule for one in _authorizations(plan) for rule in one.token_rules]
