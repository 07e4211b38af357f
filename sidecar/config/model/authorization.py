"""Authorization: which requests to the app may pass, as the file says it. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sidecar.config.model.matches import Match, PathMatch, PathTest
from sidecar.config.model.tokens import Jwt
from sidecar.config.values.addresses import IpNetwork
from sidecar.config.values.base import Model, OneOrMany, Reads, expected, listing, refused, setting
from sidecar.config.values.identities import parse_identity
from sidecar.config.values.units import Boolean, choice
from sidecar.config.values.words import RouteName
from sidecar.spiffe import SCHEME, SpiffeError, parse_workload_id

_SERVICE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NO_SERVICES: Final = {
    "mesh": "`mesh` is a word of `callers`; whoever has an identity is `authenticated`",
    "ns": "the name is reserved",
    "control": "the name is reserved; the control plane calls no app",
}
_WORDS: Final = ("anyone", "authenticated")


def parse_service_name(written: object) -> str:
    """Read the name of a service of the mesh."""
    what = "a service's name such as `storefront`, `anyone`, `authenticated`, a SPIFFE ID, or a network"
    if not isinstance(written, str) or _SERVICE.fullmatch(written) is None:
        raise expected(what)
    if written in _NO_SERVICES:
        raise refused(f"there can be no service `{written}`", _NO_SERVICES[written])
    return str(written)


def parse_spiffe_pattern(written: object) -> str:
    """Read a SPIFFE ID, or a pattern: `*` in the place of a segment, at the end of one or more."""
    what = "a SPIFFE ID such as `spiffe://shop/storefront`, or a pattern such as `spiffe://shop/ns/ops/*`"
    if not isinstance(written, str):
        raise expected(what)
    domain, slash, path = written.removeprefix(SCHEME).partition("/")
    if "*" in domain:
        raise expected(what, "no pattern reaches into several trust domains")
    segments = path.split("/")
    if any("*" in segment and segment != "*" for segment in segments):
        raise expected(what, "a `*` stands for a whole segment")
    plain = "/".join("x" if segment == "*" else segment for segment in segments)
    try:
        parse_workload_id(f"{SCHEME if written.startswith(SCHEME) else ''}{domain}{slash}{plain}")
    except SpiffeError as error:
        raise expected(what, str(error) if slash else f"for all of the trust domain, write `{written}/*`") from None
    return str(written)


def parse_requester(written: object) -> str:
    """Read who asks in a test: a SPIFFE ID or the name of a service."""
    return parse_identity(written) if isinstance(written, str) and "://" in written else parse_service_name(written)


class Source(Model):
    """Who asks: exactly one of these; a plain word is the one that it looks like."""

    is_one_value: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("anyone", "authenticated", "service", "spiffe", "networks", "jwt")

    anyone: Boolean | None = setting(None, "true: also who has no identity.")
    authenticated: Boolean | None = setting(None, "true: whoever has an identity that was verified.")
    service: Annotated[str, Reads(parse_service_name, {"type": "string"})] | None = setting(
        None, "A service of the trust domain: `storefront` is `spiffe://TRUST_DOMAIN/storefront`."
    )
    spiffe: Annotated[str, Reads(parse_spiffe_pattern, {"type": "string", "pattern": "^spiffe://"})] | None = setting(
        None, "A SPIFFE ID, or a pattern: `*` stands for a segment of its path, at the end for one or more."
    )
    networks: Annotated[list[IpNetwork], OneOrMany()] | None = setting(
        None, "Networks in which the client's address is, as `inbound.forwarded` finds it, or `unix`."
    )
    jwt: Jwt | None = setting(None, "A token that was verified: `{issuer, audience, claims, keys}`.")


class _SourceForm:
    """Reads a plain word as the source that it looks like."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._lengthen, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}

    def _lengthen(self, value: object) -> object:
        if isinstance(value, dict | Source):
            return value
        if not isinstance(value, str):
            raise expected("who asks: a word, or a mapping such as `{spiffe: ...}` or `{networks: ...}`")
        if value in _WORDS:
            return {value: True}
        if "://" in value:
            return {"spiffe": value}
        if any(mark in value for mark in ".:/"):
            return {"networks": [value]}
        return {"service": value}


_Sources = Annotated[list[Annotated[Source, _SourceForm()]], OneOrMany()]


class RuleMatch(Match):
    """Which requests a rule is about: by who asks, and by what a route could match; all that is given must hold."""

    # A word of Python's own, which no class body can spell.
    vars().setdefault("__annotations__", {})["from"] = "_Sources"
    vars()["from"] = listing("Who asks, any of them; default: anyone.")
    path: Annotated[list[PathTest], OneOrMany()] | None = setting(  # type: ignore[assignment]
        None, "Paths, normalised and without the query, any of them."
    )

    @property
    def paths(self) -> list[PathMatch]:
        """What stands under `path`; empty for any."""
        return self.path or []

    @property
    def sources(self) -> list[Source]:
        """What stands under `from`; empty for anyone."""
        found: list[Source] = getattr(self, "from")
        return found


_MODE = choice("enforce", "audit")


class Rule(Model):
    """One rule: `allow` or `deny`. The first that matches decides."""

    name: RouteName = setting(..., "What it is called in logs, metrics and tests; unique, and not `default`.")
    mode: Annotated[Literal["enforce", "audit"], _MODE] = setting(
        "enforce", "`audit`: tell what it would refuse, and let it pass; of rules that allow, only for `callers`."
    )
    allow: Annotated[list[RuleMatch], OneOrMany(may_be_empty=True)] | None = setting(
        None, "What passes: a mapping, or a list of which any may hold; `{}` is every request, `[]` none."
    )
    deny: Annotated[list[RuleMatch], OneOrMany()] | None = setting(
        None, "What is refused: a mapping, or a list of which any may hold; `{}` is every request."
    )


class Authorization(Model):
    """Which requests may pass. Rules are asked in order; the first that matches decides."""

    mode: Annotated[Literal["enforce", "audit"], _MODE] = setting(
        "enforce", "`audit`: decide, count and log, but let everything pass."
    )
    default: Annotated[Literal["allow", "deny"], choice("allow", "deny")] | None = setting(
        None, "What becomes of a request that no rule matches; must be said where there are rules."
    )
    unidentified: Annotated[Literal["allow", "deny"], choice("allow", "deny")] = setting(
        "allow", "Whether who has no identity passes the rule `callers` while the listener is permissive."
    )
    rules: list[Rule] = listing("Asked in order.")
