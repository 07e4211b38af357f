"""
Who asked whom, as people see it: services by their identities, whom rules refused, callers that report nothing. *Pure.*

A call is told by its caller's sidecar. Who has an identity of the mesh and no sidecar that reports here, and whom a
rule refused, is told by the sidecar that was asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Final

from sidecar.control.calls.edges import WINDOW_S, AskedKey, Pair
from sidecar.control.revision.judged import Judged
from sidecar.link.report import OTHERS
from sidecar.spiffe import SCHEME

UNIDENTIFIED: Final = "unidentified"
MAX_REFUSED: Final = 1000
"""Rows that are shown, those of the most requests."""


class Names:
    """
    By which name people see an identity.

    Args:
        judged: The mesh; None while it is not known.

    Attributes:
        judged: The same.
    """

    def __init__(self, judged: Judged | None) -> None:
        self.judged = judged
        self._domain = f"{SCHEME}{judged.name}/" if judged is not None else ""
        self._services: dict[str, str] = {}
        for name, facts in judged.services.items() if judged is not None else ():
            self._services.update(dict.fromkeys(facts.identities, name))

    def of(self, identity: str) -> str:
        """The service that has this identity; the identity itself where it is none's."""
        known = self._services.get(identity)
        if known is not None:
            return known
        own = identity.removeprefix(self._domain) if self._domain else identity
        return own if own and "/" not in own else identity


class Callers:
    """
    Who asked in the last minute.

    Args:
        asked: How often who asked whom, and which rule was against it.
        names: By which they are seen.

    Attributes:
        refused: Rows of `/v1/mesh`: whom which rule refused, or would have.
        unidentified: Requests that passed only because who has no identity is let in, by service.
    """

    def __init__(self, asked: Mapping[AskedKey, int], names: Names) -> None:
        self.unidentified: Counter[str] = Counter()
        passed: defaultdict[Pair, int] = defaultdict(int)
        refused = []
        for key, requests in asked.items():
            pair = names.of(key.identity), key.service
            if not key.outcome:
                if key.identity != OTHERS:
                    passed[pair] += requests
            elif key.outcome == UNIDENTIFIED:
                self.unidentified[key.service] += requests
            else:
                if key.outcome == "denied" and key.identity:
                    passed[pair] -= requests
                refused.append(_refused(pair, key, requests))
        refused.sort(key=lambda row: (row["to"], row["from"], row["identity"], row["rule"], row["audit"]))
        if len(refused) > MAX_REFUSED:
            refused = sorted(refused, key=lambda row: -row["count"])[:MAX_REFUSED]
        self.refused: list[dict[str, Any]] = refused
        self._passed = passed

    def beside(self, told: Collection[Pair]) -> dict[Pair, int]:
        """Requests of callers whose own sidecars tell nothing of them, and that were let in."""
        return {pair: number for pair, number in sorted(self._passed.items()) if number > 0 and pair not in told}


def _refused(pair: Pair, key: AskedKey, requests: int) -> dict[str, Any]:
    return {
        "from": pair[0],
        "to": pair[1],
        "identity": key.identity,
        "rule": key.rule,
        "count": requests,
        "audit": key.outcome != "denied",
        "window_s": WINDOW_S,
    }
