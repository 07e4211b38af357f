"""What is held of keys for tokens: a scrape's numbers, and what `/certs` shows of them. *Pure, cold.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.security.identity.certificates.trouble import moment
from sidecar.security.tokens.holder import Followed, TokenKeys
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import Numbers, Section, labelled

_STATES = ("fresh", "last_good", "none")


def sections(keys: TokenKeys) -> Iterator[Section]:
    """All series."""
    counted = {(outcome,): float(number) for outcome, number in keys.counts.items()}
    yield Numbers(catalogue.AUTHORIZATION_JWT, labelled(catalogue.AUTHORIZATION_JWT, counted.items()))
    states = [one.state for one in keys.followed]
    series = {(state,): float(states.count(state)) for state in _STATES}
    yield Numbers(catalogue.AUTHORIZATION_JWT_KEYS, labelled(catalogue.AUTHORIZATION_JWT_KEYS, series.items()))


def token_keys(keys: TokenKeys) -> list[dict[str, object]]:
    """Each source: what is held of it, and what is wrong with what came last. Keys are public, and not shown."""
    return [_shown(one) for one in keys.followed]


def _shown(one: Followed) -> dict[str, object]:
    held = one.keys
    trouble = one.trouble
    return {
        "source": str(one.source),
        "state": one.state,
        "since": moment(one.since_s) if held is not None else None,
        "keys": [
            {"kid": key.kid or None, "algorithms": sorted(key.algorithms)}
            for key in (held.keys if held is not None else ())
        ],
        "ignored": held.ignored if held is not None else 0,
        "replaced": one.replaced,
        "last_error": {"code": trouble.code, "text": trouble.text} if trouble is not None else None,
    }
