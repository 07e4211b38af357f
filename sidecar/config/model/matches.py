"""What a request must be, and where a key of it is read from. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sidecar.config.values.addresses import AuthorityPattern
from sidecar.config.values.base import FoldedKeys, Model, OneOrMany, Reads, Short, expected, listing, setting, table
from sidecar.config.values.units import Boolean, value_of
from sidecar.config.values.words import (
    CookieName,
    GrpcMethod,
    GrpcService,
    HeaderName,
    Method,
    ParameterName,
    Part,
    Path,
    PathTemplate,
    Regex,
    Text,
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

    kinds: ClassVar[tuple[str, ...]] = ("exact", "prefix", "template", "starts_with", "suffix", "contains", "regex")

    exact: Path | None = setting(None, "The whole path; what a plain string means.")
    prefix: Path | None = setting(None, "Whole segments: `/v1` matches `/v1` and `/v1/x`, not `/v10`.")
    template: PathTemplate | None = setting(
        None, "Segment by segment: `/orders/{id}`; `{rest...}` at the end is all that is left. Also `http.route`."
    )
    starts_with: Path | None = setting(None, "Characters: `/v1` matches `/v10`, too.")
    suffix: Part | None = setting(None, "How the path ends.")
    contains: Part | None = setting(None, "What the path holds.")
    regex: Regex | None = setting(None, "A regular expression (RE2) that the whole path matches.")
    ignore_case: Boolean = setting(False, "Compare letters of ASCII without regard to case.")
    invert: Boolean = setting(False, "Match when the test fails.")


_TEXT_SCHEMA = {"type": ["string", "number", "boolean"]}
ValueTest = Annotated[ValueMatch, Short("exact", "a string, or a mapping such as `{prefix: v1}`", _TEXT_SCHEMA)]
PathTest = Annotated[
    PathMatch,
    Short("exact", "a path, or a mapping such as `{prefix: /v1}`", {"type": "string", "pattern": "^/"}),
]


class GrpcMatch(Model):
    """A call of gRPC: POST, its content type, and the path `/SERVICE/METHOD`. `{}` is every call."""

    service: GrpcService | None = setting(None, "With its package, such as `shop.Recommendations`; default: any.")
    method: GrpcMethod | None = setting(None, "One of its methods, such as `List`; default: any of them.")


class Match(Model):
    """What a request must be; every test that is given must hold. Without a test it is every request."""

    host: Annotated[list[AuthorityPattern], OneOrMany()] = listing(
        "Hosts, any of them: exact, `*.example.com` (any depth below), or `*`; with `:PORT` only requests to that port."
    )
    path: PathTest | None = setting(None, "The path, normalised and without the query.")
    grpc: GrpcMatch | None = setting(None, "A call of gRPC, in the place of `path` and `methods`; `{}`: any call.")
    methods: Annotated[list[Method], OneOrMany()] = listing("Methods, any of them.")
    headers: Annotated[dict[HeaderName, ValueTest], FoldedKeys()] = table(
        "Header fields, all of them; a field that comes several times is matched on its values joined by `, `."
    )
    cookies: dict[CookieName, ValueTest] = table("Cookies, all of them; of one that comes several times the first.")
    query: dict[ParameterName, ValueTest] = table(
        "Query parameters, decoded, all of them; of one that comes several times the first."
    )


class KeySource(Model):
    """Where a key is read from: exactly one of the four."""

    is_one_value: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("cookie", "header", "query", "source_ip")

    cookie: CookieName | None = setting(None, "The value of this cookie.")
    header: HeaderName | None = setting(None, "The value of this header field.")
    query: ParameterName | None = setting(None, "The value of this query parameter.")
    source_ip: Boolean | None = setting(None, "true: the IP address of the client's connection.")


class SourceIp:
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


Key = Annotated[KeySource, SourceIp()]
