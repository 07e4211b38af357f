"""What a scrape shows of certificates. *Pure, cold.*"""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.security.identity.holder import Identity
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import Numbers, Section, labelled

Series = dict[tuple[str, ...], float]
"""Numbers by the labels of their row."""


def sections(identity: Identity) -> Iterator[Section]:
    """All series."""
    for row, series in (
        (catalogue.CERTIFICATE_EXPIRY, expiries(identity)),
        (catalogue.CERTIFICATE_ROTATIONS, rotations(identity)),
        (catalogue.CERTIFICATE_TROUBLES, troubles(identity)),
        (catalogue.UPSTREAM_UNVERIFIED, {(name,): 1.0 for name in identity.unverified}),
    ):
        yield Numbers(row, labelled(row, series.items()))


def expiries(identity: Identity) -> Series:
    """By purpose, name and which: the first end."""
    found: Series = {}
    for kept in identity.kept:
        for one in kept.made.certificates if kept.made is not None else ():
            for name in kept.names:
                key, end_s = (kept.purpose, name, one.which), one.facts.not_after_s
                found[key] = min(found.get(key, end_s), end_s)
    return found


def rotations(identity: Identity) -> Series:
    """By purpose and outcome."""
    return {(purpose, outcome): float(number) for (purpose, outcome), number in identity.rotations.items()}


def troubles(identity: Identity) -> Series:
    """By purpose."""
    found: Series = {}
    for kept in identity.kept:
        found[(kept.purpose,)] = found.get((kept.purpose,), 0.0) + (kept.trouble is not None)
    return found
