"""Whom a service admits, and which TLS its sidecars take. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from sidecar.config.model.authorization import RuleMatch
from sidecar.mesh.access.identities import can_be, matches_of, names_of
from sidecar.mesh.model.access import Caller, InboundDefaults
from sidecar.mesh.model.service import Service
from sidecar.mesh.model.words import ANYONE, MESH

TlsMode = Literal["permissive", "strict", "off"]

DEFAULT_TLS: Final = "permissive"
"""In a mesh; so clients with and without a sidecar are served from the first day."""


def tls_mode(service: Service, defaults: InboundDefaults | None) -> TlsMode:
    """Which TLS its sidecars take: what it says, or else what the mesh says."""
    for said in (service.inbound, defaults):
        if said is not None and said.tls is not None:
            return said.tls.mode
    return DEFAULT_TLS


def callers_of(service: Service, access: str, mode: TlsMode) -> Sequence[Caller]:
    """
    Who may call a service: what `callers` says, or else what `access` of the mesh comes to.

    Open is everyone, and under `strict`, where nobody comes without one, every identity.
    """
    if service.callers is not None:
        return service.callers
    if access == "closed":
        return []
    return [MESH if mode == "strict" else ANYONE]


def admits(callee: Service, name: str, caller: Service, access: str) -> bool:
    """Whether a service lets another one call it, for some requests at least."""
    if callee.callers is None:
        return access == "open"
    return any(
        can_be(one, name, caller) if isinstance(one, RuleMatch) else one in (MESH, ANYONE, name)
        for one in callee.callers
    )


def named_by(service: Service) -> set[str]:
    """Services that its `callers` and rules name: their identities stand in its compiled file."""
    callers = service.callers or ()
    rules = service.authorization.rules if service.authorization is not None else ()
    words = {one for one in callers if isinstance(one, str)} - {MESH, ANYONE}
    return (
        words | set(names_of([one for one in callers if isinstance(one, RuleMatch)])) | set(names_of(matches_of(rules)))
    )


def caller_text(caller: Caller) -> str:
    """An item of `callers` for people."""
    if not isinstance(caller, RuleMatch):
        return caller
    who = [
        f"a token of {one.jwt.issuer}"
        if one.jwt is not None
        else next((str(value) for value in vars(one).values() if value is not None), "")
        for one in caller.sources
    ]
    return f"{' or '.join(who) or ANYONE} (some requests)"
