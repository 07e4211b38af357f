"""Who may call: `callers`, the rules of a service, and those of the platform around them. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Tag

from sidecar.config.model.authorization import Rule, RuleMatch
from sidecar.config.model.tls import InboundTlsSetting
from sidecar.config.values.base import Model, listing, setting
from sidecar.config.values.identities import Lifetime
from sidecar.config.values.units import choice
from sidecar.mesh.model.words import CallerName

Mode = Annotated[Literal["audit", "enforce"], choice("audit", "enforce")]
Unidentified = Annotated[Literal["allow", "deny"], choice("allow", "deny")]

Caller = Annotated[
    Annotated[CallerName, Tag("<word>")] | Annotated[RuleMatch, Tag("<mapping>")],
    Discriminator(lambda value: "<mapping>" if isinstance(value, dict | RuleMatch) else "<word>"),
]
"""A service, a word, or who asks with what may be asked for, as `allow` of a rule has it."""


class ServiceAuthorization(Model):
    """Which requests to a service may pass, beside those of its `callers`."""

    mode: Mode | None = setting(
        None, "Of the rule that is made from `callers`: `audit` tells what it would refuse; default: the mesh's."
    )
    unidentified: Unidentified | None = setting(
        None, "Whether who has no identity passes `callers` while `inbound.tls` is `permissive`; default: the mesh's."
    )
    rules: list[Rule] = listing("Asked in order, before the rule that is made from `callers`.")


class MeshAuthorization(Model):
    """The platform's rules, around those of each service."""

    mode: Mode = setting(
        "audit", "Of the rules that are made from `callers`: `audit` tells what they would refuse and lets it pass."
    )
    unidentified: Unidentified = setting(
        "allow", "Whether who has no identity passes `callers` while `inbound.tls` is `permissive`."
    )
    first: list[Rule] = listing("Asked before each service's own.")
    last: list[Rule] = listing("Asked after each service's own and its `callers`.")


class MeshIdentity(Model):
    """The certificates that the control plane signs."""

    lifetime: Lifetime = setting(7 * 86_400.0, "How long a certificate lasts, `1h` to `30d`.", "7d")


class InboundDefaults(Model):
    """What services do with requests to their apps where they do not say otherwise."""

    tls: InboundTlsSetting | None = setting(
        None, "TLS between sidecars: `permissive`, `strict`, `off`, or `{mode, clear}`; default: `permissive`."
    )
