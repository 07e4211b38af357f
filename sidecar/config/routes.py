"""Routes: what a request must be, and what is done with it. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sidecar.config.addresses import Authority, Host, HostPattern
from sidecar.config.shape import FoldedKeys, Model, OneOrMany, Reads, Short, expected, listing, setting, table
from sidecar.config.units import Boolean, PositiveDuration, Weight, integer, value_of
from sidecar.config.words import (
    CookieName,
    EditedHeaderName,
    HeaderName,
    HeaderValue,
    Method,
    ParameterName,
    Part,
    Path,
    PathAndQuery,
    Regex,
    RouteName,
    Text,
    UpstreamName,
    UrlScheme,
)

_INT64 = 2**63


def parse_range(written: object) -> tuple[int, int]:
    """Read `[start, end]`: integers, the start included, the end not."""
    values = [value_of(item) for item in written] if isinstance(written, list) else []
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(values) != 2 or len(numbers) != 2:
        raise expected("a range `[start, end]` of two integers", "the start is included, the end is not")
    if not -_INT64 <= numbers[0] < numbers[1] < _INT64:
        hint = "the start is included, the end is not"
        raise expected("a range of 64-bit integers whose start is less than its end", hint)
    return numbers[0], numbers[1]


_RANGE_SCHEMA = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
IntegerRange = Annotated[tuple[int, int], Reads(parse_range, _RANGE_SCHEMA)]


class ValueMatch(Model):
    """What the value of a header, a cookie or a query parameter must be: exactly one kind of test."""

    kinds: ClassVar[tuple[str, ...]] = ("exact", "prefix", "suffix", "contains", "regex", "range", "present")

    exact: Text | None = setting(None, "The whole value; what a plain string means.")
    prefix: Part | None = setting(None, "How the value begins.")
    suffix: Part | None = setting(None, "How the value ends.")
    contains: Part | None = setting(None, "What the value holds.")
    regex: Regex | None = setting(None, "A regular expression (RE2) that the whole value matches.")
    range: IntegerRange | None = setting(None, "[start, end): the value is an integer in it; the end is excluded.")
    present: Boolean | None = setting(None, "true: it is there, whatever its value. false: it is not there.")
    ignore_case: Boolean = setting(False, "Compare letters of ASCII without regard to case.")
    invert: Boolean = setting(False, "Match when the test fails; an absent value still matches nothing but `present`.")


class PathMatch(Model):
    """What the path of the request, in its normal form and without the query, must be: exactly one kind of test."""

    kinds: ClassVar[tuple[str, ...]] = ("exact", "prefix", "starts_with", "suffix", "contains", "regex")

    exact: Path | None = setting(None, "The whole path; what a plain string means.")
    prefix: Path | None = setting(None, "Whole segments: `/v1` matches `/v1` and `/v1/x`, not `/v10`.")
    starts_with: Path | None = setting(None, "Characters: `/v1` matches `/v10`, too.")
    suffix: Part | None = setting(None, "How the path ends.")
    contains: Part | None = setting(None, "What the path holds.")
    regex: Regex | None = setting(None, "A regular expression (RE2) that the whole path matches.")
    ignore_case: Boolean = setting(False, "Compare letters of ASCII without regard to case.")
    invert: Boolean = setting(False, "Match when the test fails.")


_TEXT_SCHEMA = {"type": ["string", "number", "boolean"]}
_ValueTest = Annotated[ValueMatch, Short("exact", "a string, or a mapping such as `{prefix: v1}`", _TEXT_SCHEMA)]
_PathTest = Annotated[
    PathMatch,
    Short("exact", "a path, or a mapping such as `{prefix: /v1}`", {"type": "string", "pattern": "^/"}),
]


class Match(Model):
    """What a request must be; every test that is given must hold. Without a test it is every request."""

    host: Annotated[list[HostPattern], OneOrMany()] = listing(
        "Hosts, any of them: exact, `*.example.com` (any depth below), or `*`; the request's port is ignored."
    )
    path: _PathTest | None = setting(None, "The path, normalised and without the query.")
    methods: Annotated[list[Method], OneOrMany()] = listing("Methods, any of them.")
    headers: Annotated[dict[HeaderName, _ValueTest], FoldedKeys()] = table(
        "Header fields, all of them; a field that comes several times is matched on its values joined by `, `."
    )
    cookies: dict[CookieName, _ValueTest] = table("Cookies, all of them; of one that comes several times the first.")
    query: dict[ParameterName, _ValueTest] = table(
        "Query parameters, decoded, all of them; of one that comes several times the first."
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


class Destination(Model):
    """One upstream of a route and its share."""

    upstream: UpstreamName = setting(..., "Name of an upstream of this file.")
    weight: Weight = setting(1.0, "Share relative to the other destinations of the route.")
    request_headers: HeaderEdits | None = setting(None, "Edits of requests that go here, after the route's own.")
    response_headers: HeaderEdits | None = setting(
        None, "Edits of responses from here, before the route's own, which have the last word."
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
            value = [{"upstream": name, "weight": weight} for name, weight in value.items()]
        if not isinstance(value, list):
            raise expected(what)
        if not value:
            raise expected("at least one upstream")
        return [{"upstream": item} if isinstance(item, str) else item for item in value]


class KeySource(Model):
    """Where a key is read from: exactly one of the four."""

    kinds: ClassVar[tuple[str, ...]] = ("cookie", "header", "query", "source_ip")

    cookie: CookieName | None = setting(None, "The value of this cookie.")
    header: HeaderName | None = setting(None, "The value of this header field.")
    query: ParameterName | None = setting(None, "The value of this query parameter.")
    source_ip: Boolean | None = setting(None, "true: the IP address of the client's connection.")


class Sticky(KeySource):
    """What keeps a user on one side of a weighted split; where the key is absent the split is random."""


class _SourceIp:
    """Reads the word `source_ip` as `{source_ip: true}`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._lengthen, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"const": "source_ip"}, handler(schema)]}

    def _lengthen(self, value: object) -> object:
        if value == "source_ip":
            return {"source_ip": True}
        if isinstance(value, dict | KeySource):
            return value
        raise expected("`source_ip`, or a mapping such as `{cookie: uid}`, `{header: x-user}` or `{query: user}`")


Key = Annotated[KeySource, _SourceIp()]


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


class Respond(Model):
    """A response made by the proxy itself."""

    status: Annotated[int, integer(200, 599)] = setting(..., "The status code.")
    body: Text = setting("", "The body, sent as UTF-8.")
    headers: Annotated[dict[EditedHeaderName, HeaderValue], FoldedKeys()] = table("Header fields of the response.")


class Route(Model):
    """One route. The first whose match holds is taken, in the order of the file."""

    not_yet: ClassVar[frozenset[str]] = frozenset({"retry", "mirror", "fault", "rate_limit"})

    name: RouteName | None = setting(None, "What it is called in metrics, logs and spans; unique in its list.")
    match: Annotated[list[Match], OneOrMany(may_be_empty=True)] = listing(
        "A match, or a list of which any may hold; without it the route matches every request."
    )
    to: Annotated[list[Destination], _Destinations()] | None = setting(
        None, "An upstream, a mapping of upstreams to weights, or a list of destinations. Inbound: default is the app."
    )
    sticky: Annotated[Sticky, _SourceIp()] | None = setting(None, "What keeps a user on one side of the weights.")
    rewrite: Rewrite | None = setting(None, "What is changed of host and path before the request goes on.")
    request_headers: HeaderEdits | None = setting(None, "Edits of the request's header fields.")
    response_headers: HeaderEdits | None = setting(None, "Edits of the response's header fields.")
    timeout: PositiveDuration | None = setting(None, "For the whole exchange, all attempts; without it there is none.")
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
