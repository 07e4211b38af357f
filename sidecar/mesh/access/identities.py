"""SPIFFE IDs of services, and whom the `from` of a rule names. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidecar.config.model.authorization import Rule, RuleMatch, Source
from sidecar.mesh.model.service import Service
from sidecar.security.authorization.sources import pattern_matches
from sidecar.spiffe import SCHEME


def paths_of(name: str, service: Service) -> list[str]:
    """Paths of the identities that a service's instances may have, without the `/` that each begins with."""
    return service.identities if service.identities is not None else [name]


def ids_of(trust_domain: str, name: str, service: Service) -> list[str]:
    """The same as whole SPIFFE IDs."""
    return [f"{SCHEME}{trust_domain}/{path}" for path in paths_of(name, service)]


def is_identity(source: Source) -> bool:
    """Whether nobody without an identity can be meant."""
    return bool(source.authenticated) or source.service is not None or source.spiffe is not None


def matches_of(rules: Iterable[Rule]) -> Iterator[RuleMatch]:
    """What rules allow and deny."""
    for rule in rules:
        yield from rule.allow or ()
        yield from rule.deny or ()


def names_of(matches: Iterable[RuleMatch]) -> Iterator[str]:
    """Services that are named."""
    for match in matches:
        yield from (source.service for source in match.sources if source.service is not None)


def can_be(match: RuleMatch, name: str, service: Service) -> bool:
    """
    Whether a service may be among whom a match names; where its instances are and what their requests show is not
    known, so by network and by token it may.
    """
    return not match.sources or any(_can_be(source, name, service) for source in match.sources)


def _can_be(source: Source, name: str, service: Service) -> bool:
    if source.spiffe is not None:
        domain = source.spiffe.removeprefix(SCHEME).partition("/")[0]
        return any(pattern_matches(source.spiffe, one) for one in ids_of(domain, name, service))
    is_possible = source.anyone or source.authenticated or source.networks or source.jwt is not None
    return bool(is_possible) or source.service == name
