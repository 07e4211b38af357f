"""Requests and what must become of them, `tests:`. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from sidecar.config.model.authorization import parse_requester
from sidecar.config.model.matches import ValueTest
from sidecar.config.model.tokens import Claims
from sidecar.config.values.addresses import HttpUrl, IpAddress
from sidecar.config.values.base import FoldedKeys, Model, OneOrMany, Reads, expected, listing, setting, table
from sidecar.config.values.units import PositiveDuration, Weight, choice, integer, parse_positive_duration
from sidecar.config.values.words import (
    CookieName,
    FreeName,
    HeaderName,
    HeaderValue,
    Method,
    RouteName,
    UpstreamName,
)

NO_TIMEOUT = 0.0
"""What `timeout: none` means."""

_Requester = Annotated[str, Reads(parse_requester, {"type": "string"})] | None


def parse_timeout(written: object) -> float:
    """Read a duration, or the word `none` as no limit."""
    if written == "none":
        return NO_TIMEOUT
    try:
        return parse_positive_duration(written)
    except ValueError:
        raise expected("a duration such as `2s`, or `none`") from None


class Asked(Model):
    """A request without its URL."""

    method: Method = setting("GET", "The method.")
    headers: Annotated[dict[HeaderName, HeaderValue], FoldedKeys()] = table("Header fields.")
    cookies: dict[CookieName, HeaderValue] = table("Cookies.")
    source_ip: IpAddress | None = setting(None, "IP address of the client, for `sticky`, `hash` and `from` of rules.")
    jwt: Claims | None = setting(
        None, "What the request's token claims, as if it were signed by its issuer's key and just made, for rules."
    )
    # A word of Python's own, which no class body can spell.
    __annotations__["from"] = "_Requester"
    vars()["from"] = setting(None, "Who asks, by TLS: a SPIFFE ID, or the name of a service; default: nobody known.")

    @property
    def requester(self) -> str | None:
        """What stands under `from`."""
        found: str | None = getattr(self, "from")
        return found


class TestRequest(Asked):
    """The request of a test."""

    __test__: ClassVar[bool] = False

    url: HttpUrl = setting(..., "Absolute URL; only host, path and query count.")


class Sent(Model):
    """What an upstream must get of a request."""

    host: ValueTest | None = setting(None, "Its `Host`.")
    path: ValueTest | None = setting(None, "Its path, without the query.")
    headers: Annotated[dict[HeaderName, ValueTest], FoldedKeys()] = table("Its header fields, all of them.")


class Retries(Model):
    """What must be tried again."""

    attempts: Annotated[int, integer(0, 10)] | None = setting(None, "Retries after the first attempt.")
    on: Annotated[list[str], OneOrMany(may_be_empty=True)] | None = setting(
        None, "All that is tried again, as `retry.on` of a route says it."
    )
    per_try_timeout: PositiveDuration | None = setting(None, "Of an attempt.")


class Expectation(Model):
    """What a test expects; at least one of these."""

    route: FreeName | None = setting(None, "Name of the route that is taken; of an implicit route the upstream's.")
    to: UpstreamName | None = setting(None, "Upstream that the request may go to.")
    status: Annotated[int, integer(200, 599)] | None = setting(
        None, "Status of a redirection or response by the proxy; 404 where nothing matches, 403 where it is refused."
    )
    authorization: Annotated[Literal["allowed", "denied"], choice("allowed", "denied")] | None = setting(
        None, "What `inbound.authorization` says of it; what is in audit counts as if it were enforced."
    )
    rule: RouteName | None = setting(None, "Name of the rule that says so; `default` where none matches.")
    split: dict[UpstreamName, Weight] | None = setting(
        None, "Shares of requests like this one, by upstream; the request of a key that sticks has one."
    )
    sent: Sent | None = setting(None, "What each upstream that it may go to gets, or the one that `to` names.")
    timeout: Annotated[float, Reads(parse_timeout, {"type": "string"})] | None = setting(
        None, "Of the whole exchange, or `none`."
    )
    retry: Retries | None = setting(None, "What is tried again; what it does not name is not looked at.")


class Example(Asked, Expectation):
    """A row of a test's table: what of the request, and of what is expected, differs from what the test says."""

    url: HttpUrl | None = setting(None, "Absolute URL; default: the test's.")


@dataclass(frozen=True, slots=True)
class Case:
    """
    One request of a test with what is expected of it.

    Attributes:
        at: Where it stands below the test, empty for the test itself.
        request: The request.
        expect: What must become of it.
    """

    at: tuple[int | str, ...]
    request: TestRequest
    expect: Expectation


class RoutingTest(Model):
    """A request and where it must go."""

    name: FreeName = setting(..., "What is promised.")
    request: TestRequest = setting(..., "The request.")
    expect: Expectation = setting(Expectation(), "Where it goes.")
    given: list[Example] = listing(
        "A table: each row is tried for itself, with the test's request and expectation where it says nothing else."
    )

    def cases(self) -> Iterator[Case]:
        """All that is tried: each row of the table, or the test itself where it has none."""
        if not self.given:
            yield Case((), self.request, self.expect)
        for index, row in enumerate(self.given):
            yield Case(("given", index), self._request_of(row), self._expectation_of(row))

    def _request_of(self, row: Example) -> TestRequest:
        said = _said(row, TestRequest)
        for name in ("headers", "cookies"):
            if name in said:
                said[name] = {**getattr(self.request, name), **said[name]}
        return self.request.model_copy(update=said)

    def _expectation_of(self, row: Example) -> Expectation:
        return self.expect.model_copy(update=_said(row, Expectation))


def _said(row: Example, model: type[Model]) -> dict[str, Any]:
    """What a row says of the fields of a model."""
    fields: Mapping[str, object] = model.model_fields
    return {name: getattr(row, name) for name in row.model_fields_set if name in fields}
