"""Routes: what is done with a request that matches. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sidecar.config.model.matches import KeySource, Match, SourceIp
from sidecar.config.model.resilience import Fault, MirrorSpec, RateLimit, Retry
from sidecar.config.values.addresses import Authority, Host
from sidecar.config.values.base import FoldedKeys, Model, OneOrMany, expected, listing, setting, table
from sidecar.config.values.units import PositiveDuration, Weight, integer, value_of
from sidecar.config.values.unsupported import Unsupported
from sidecar.config.values.words import (
    EditedHeaderName,
    HeaderValue,
    Path,
    PathAndQuery,
    Regex,
    RouteName,
    Text,
    UpgradeName,
    UpstreamName,
    UrlScheme,
)


class HeaderEdits(Model):
    """Changes to the header fields of a message; made in the order `remove`, `set`, `add`."""

    set: Annotated[dict[EditedHeaderName, HeaderValue], FoldedKeys()] = table(
        "Fields that replace those of their name."
    )
    add: Annotated[dict[EditedHeaderName, Annotated[list[HeaderValue], OneOrMany()]], FoldedKeys()] = table(
        "Fields that are added to those of their name; a value, or a list of them."
    )
    remove: Annotated[list[EditedHeaderName], OneOrMany(may_be_empty=True)] = listing("Names of fields to take away.")


class RegexRewrite(Model):
    """A replacement in the path."""

    pattern: Regex = setting(..., "A regular expression (RE2); every part of the path that it matches is replaced.")
    substitution: Text = setting(..., "What replaces it; `\\1` is the first group, `\\0` the whole match.")


class Rewrite(Model):
    """What is changed of the target before the request goes on; at most one of `path`, `prefix` and `regex`."""

    host: Authority | None = setting(None, "The `Host` that is sent, with or without a port.")
    path: Path | None = setting(None, "The path that is sent; the query is kept.")
    prefix: Path | None = setting(None, "What replaces the prefix that the route matched.")
    regex: RegexRewrite | None = setting(None, "A replacement in the path.")


_RedirectStatus = Annotated[int, integer(300, 399)]


class Redirect(Model):
    """A redirection; what is not given stays as in the request."""

    scheme: UrlScheme | None = setting(None, "`http` or `https`.")
    host: Host | None = setting(None, "The host to go to.")
    port: Annotated[int, integer(1, 65535)] | None = setting(None, "The port to go to.")
    path: PathAndQuery | None = setting(None, "The path to go to; a query in it replaces the request's.")
    prefix: Path | None = setting(None, "What replaces the prefix that the route matched.")
    status: _RedirectStatus = setting(301, "301, 302, 303, 307 or 308.")


class Destination(Model):
    """One side of a route, an upstream or a redirect, and its share."""

    upstream: UpstreamName | None = setting(None, "Name of an upstream of this file.")
    redirect: Redirect | None = setting(None, "In the place of `upstream`: requests of this side are answered so.")
    weight: Weight = setting(1.0, "Share relative to the other destinations of the route.")
    request_headers: HeaderEdits | None = setting(None, "Edits of requests that go here, after the route's own.")
    response_headers: HeaderEdits | None = setting(
        None, "Edits of responses from here, before the route's own, which have the last word."
    )
    rewrite: Rewrite | None = setting(
        None, "What is changed of requests that go here, in the place of the route's own."
    )


class _Destinations:
    """Reads a name, a mapping of names to weights, or a list of destinations as the list."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = handler(schema)
        weight = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": "%$"}]}
        items = {"anyOf": [{"type": "string"}, inner["items"]]}
        return {
            "anyOf": [
                {"type": "string", "description": "Name of an upstream."},
                {"type": "object", "additionalProperties": weight, "minProperties": 1, "description": "Name: weight."},
                {**inner, "items": items, "minItems": 1},
            ]
        }

    def _listed(self, value: object) -> object:
        what = "an upstream's name, a mapping `{name: weight}`, or a list of `{upstream, weight}`"
        if isinstance(value, str):
            return [{"upstream": value}]
        if isinstance(value, dict):
            if isinstance(value_of(value.get("upstream")), str):
                raise expected(what, "put the mapping with `upstream` into a list: `- upstream: ...`")
            if isinstance(value.get("redirect"), dict):
                raise expected(what, "put the mapping with `redirect` into a list: `- redirect: ...`")
            value = [{"upstream": name, "weight": weight} for name, weight in value.items()]
        if not isinstance(value, list):
            raise expected(what)
        if not value:
            raise expected("at least one upstream")
        return [{"upstream": item} if isinstance(item, str) else item for item in value]


class Sticky(KeySource):
    """What keeps a user on one side of a weighted split; where the key is absent the split is random."""


class Respond(Model):
    """A response made by the proxy itself."""

    status: Annotated[int, integer(200, 599)] = setting(..., "The status code.")
    body: Text = setting("", "The body, sent as UTF-8.")
    headers: Annotated[dict[EditedHeaderName, HeaderValue], FoldedKeys()] = table("Header fields of the response.")


class Route(Model):
    """One route. The first whose match holds is taken, in the order of the file."""

    name: RouteName | None = setting(None, "What it is called in metrics, logs and spans; unique in its list.")
    match: Annotated[list[Match], OneOrMany(may_be_empty=True)] = listing(
        "A match, or a list of which any may hold; without it the route matches every request."
    )
    to: Annotated[list[Destination], _Destinations()] | None = setting(
        None, "An upstream, a mapping of upstreams to weights, or a list of destinations. Inbound: default is the app."
    )
    sticky: Annotated[Sticky, SourceIp()] | None = setting(None, "What keeps a user on one side of the weights.")
    rewrite: Rewrite | None = setting(None, "What is changed of host and path before the request goes on.")
    request_headers: HeaderEdits | None = setting(None, "Edits of the request's header fields.")
    response_headers: HeaderEdits | None = setting(None, "Edits of the response's header fields.")
    timeout: PositiveDuration | None = setting(None, "For the whole exchange, all attempts; without it there is none.")
    retry: Annotated[Retry | None, Unsupported("route.retry")] = setting(None, "What is tried again, and how often.")
    mirror: Annotated[Annotated[list[MirrorSpec], OneOrMany()] | None, Unsupported("route.mirror")] = setting(
        None, "A copy for another upstream, or a list of those who get one."
    )
    fault: Annotated[Fault | None, Unsupported("route.fault")] = setting(None, "Failures on purpose.")
    rate_limit: Annotated[RateLimit | None, Unsupported("route.rate_limit")] = setting(
        None, "How often requests may take this route."
    )
    upgrades: Annotated[list[UpgradeName], OneOrMany(may_be_empty=True)] | None = setting(
        None, "Protocols that a request may switch to by `Upgrade`; default: those of `inbound`, else `[websocket]`."
    )
    redirect: Redirect | None = setting(None, "Answer with a redirection.")
    respond: Respond | None = setting(None, "Answer with this response.")

    @property
    def action(self) -> Literal["to", "redirect", "respond"] | None:
        """The one that is given, or None: the app, which only an inbound route may mean."""
        if self.redirect is not None:
            return "redirect"
        if self.respond is not None:
            return "respond"
        return "to" if self.to is not None else None
