"""Rules of authorization, compiled from the file's words. *Cold.*"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sidecar.compile.deserialize import Written
from sidecar.compile.frames import Kind
from sidecar.compile.matches import match
from sidecar.compile.routes import CompileError, ScopeFactory
from sidecar.compile.time_slices import Steps
from sidecar.exchange import Direction
from sidecar.security.authorization.authorization import Authorization, RuleSpec, make_authorization
from sidecar.security.authorization.rules import Clause
from sidecar.security.authorization.sources import ANYONE, AUTHENTICATED, Sources, make_sources
from sidecar.security.tokens.rules import KeySource, TokenRule, make_token_rule

if TYPE_CHECKING:
    from sidecar.config.model import authorization as model
    from sidecar.config.model import root
    from sidecar.config.model import tokens as tokens_model


def compile_authorization(
    written: Written, scope: ScopeFactory, problems: list[CompileError]
) -> Steps[Authorization | None]:
    """
    The rules of a configuration; None where it has none.

    Args:
        scope: Binds telemetry.
        problems: Gets what cannot be compiled.
    """
    config = written.settings
    settings = config.inbound.authorization if config.inbound is not None else None
    if settings is None:
        return None
    trust_domain = trust_domain_of(config)
    specs: list[RuleSpec] = []
    names = hashlib.sha256()
    for frame in written.pieces(Kind.RULES):
        first, rules, positions = written.shapes.load(frame)
        yield
        for index, (rule, position) in enumerate(zip(rules, positions, strict=True), first):
            try:
                specs.append(_spec(rule, position, trust_domain))
            except ValueError as error:
                problems.append(CompileError(("inbound", "authorization", "rules", index), str(error)))
            names.update(rule.name.encode() + b"\0")
            yield
    # Counters live as long as a plan with rules of these names; no request is recorded in this scope.
    counted_in = scope(Direction.INBOUND, "", "", f"authorization {names.hexdigest()[:16]}")
    return (
        yield from make_authorization(
            specs,
            is_default_allow=settings.default != "deny",
            is_audit=settings.mode == "audit",
            admits_unidentified=settings.unidentified == "allow",
            scope=counted_in,
        )
    )


def trust_domain_of(config: root.Config) -> str:
    """The trust domain that a file says it is in, or an empty string."""
    identity = config.identity
    return (identity.trust_domain if identity is not None else None) or ""


def spiffe_id(requester: str, trust_domain: str) -> str:
    """Who asks, as a file may name it: by its whole ID, or as a service of the trust domain."""
    return requester if "://" in requester else f"spiffe://{trust_domain}/{requester}"


def _spec(rule: model.Rule, position: str, trust_domain: str) -> RuleSpec:
    clauses = tuple(
        Clause(_sources(getattr(one, "from"), trust_domain), match(one))
        for one in (rule.allow if rule.allow is not None else rule.deny or ())
    )
    return RuleSpec(rule.name, rule.allow is not None, rule.mode == "audit", clauses, position)


def _sources(sources: list[model.Source], trust_domain: str) -> Sources:
    words: list[str] = []
    tokens: list[TokenRule] = []
    for source in sources:
        if source.anyone:
            words.append(ANYONE)
        elif source.authenticated:
            words.append(AUTHENTICATED)
        elif source.service is not None:
            words.append(spiffe_id(source.service, trust_domain))
        elif source.spiffe is not None:
            words.append(source.spiffe)
        elif source.jwt is not None:
            tokens.append(_token_rule(source.jwt))
        words += source.networks or ()
    return make_sources(words if words or tokens else (ANYONE,), tokens)


def _token_rule(jwt: tokens_model.Jwt) -> TokenRule:
    keys = jwt.keys
    source = KeySource(keys.file or "", keys.url or "", keys.trust)
    return make_token_rule(jwt.issuer, jwt.audience or (), jwt.claims, source, jwt.leeway)
