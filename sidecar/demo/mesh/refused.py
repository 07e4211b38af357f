"""The calls of `reports`, which nobody has admitted to `recommendations`: each is refused, and that is right."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

from sidecar.demo.http11 import Client, HTTPError

EVERY_S = 1.0
REFUSED = "403 by callers"
"""Status, and the rule that the caller is told as it is known by its certificate."""


class Refused:
    """
    Asks `reports` for its page, which asks `recommendations`.

    Args:
        port: Of the inbound listener of the sidecar of `reports`.

    Attributes:
        answers: How often `reports` was answered what: a status and a rule, or what else there was.
    """

    def __init__(self, port: int) -> None:
        self.answers: Counter[str] = Counter()
        self._client = Client(port)

    async def run(self) -> None:
        """Ask for ever; cancel it to stop."""
        try:
            while True:
                self.answers[await self._ask()] += 1
                await asyncio.sleep(EVERY_S)
        finally:
            self._client.close()

    async def _ask(self) -> str:
        try:
            page: Any = json.loads((await self._client.get("/")).body)
            told = page["recommendations"]
            return f"{told['status']} by {told['rule']}"
        except HTTPError as error:
            return str(error)
        except (ValueError, KeyError, TypeError):
            return "another answer"
