"""What the listeners of `inbound` may say together, and where a file is told that they may not."""

from __future__ import annotations

import pytest

from sidecar.config.load import load_text
from sidecar.config.problems import ConfigError

TWO = "listen: [{address: 'h:1', name: http}, {address: 'h:2', name: grpc, app: 'h:9'}]"


def complaints(inbound: str, rest: str = "") -> list[str]:
    """What is said of a file with this `inbound`."""
    try:
        load_text(f"service: s\ninbound: {{{inbound}}}\n{rest}".encode(), "f", {})
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "inbound",
    [
        f"app: 'h:8', {TWO}",
        "listen: [{address: 'h:1', name: http, app: 'h:8'}, {address: 'h:2', name: grpc, app: 'h:8'}]",
        "listen: {address: 'h:1', name: http, app: 'unix:/x', protocol: http}, routes: [{timeout: 1s}]",
        "listen: [{address: 'h:1', name: http}, {address: 'h:2', name: grpc}], app: 'h:8'",
        f"{TWO}, routes: [{{respond: {{status: 204}}}}]",
        "listen: {address: 'h:1', name: http, app: 'h:8'}, circuit_breaker: {max_requests: 1}",
    ],
)
def test_every_request_has_somewhere_to_go(inbound: str) -> None:
    """By `inbound.app`, by each listener's own, or by routes."""
    assert complaints(inbound) == []


@pytest.mark.parametrize(
    ("inbound", "expected"),
    [
        (TWO, "f:2:20: inbound.listen[0]: what comes in here has no app to go to; give it an `app`, or `inbound` one"
         " for all that have none"),
        (f"{TWO}, routes: [{{timeout: 1s}}]", "f:2:102: inbound.routes[0]: expected one of `to`, `redirect` and"
         " `respond`, found none"),
        ("listen: {address: 'h:1', app: 'h:8'}",
         "f:2:36: inbound.listen.app: a listener with an `app` of its own needs a `name`; its upstream is called"
         " `app.NAME`, such as `app.grpc`"),
        ("app: 'h:8', listen: [{address: 'h:1', name: x}, {address: 'h:2', name: x}]",
         "f:2:82: inbound.listen[1].name: the name `x` is already that of inbound.listen[0]; names tell the app's ports"
         " apart"),
        ("routes: [{respond: {status: 204}}], circuit_breaker: {max_requests: 1}",
         "f:2:47: inbound.circuit_breaker: `circuit_breaker` has no effect without `app`; remove it"),
        ("app: 'h:8', listen: {address: 'h:1', name: a.b}",
         "f:2:54: inbound.listen.name: expected a port's name: up to 63 letters, digits and `_-`, found \"a.b\""),
        ("app: 'h:8', listen: {address: 'h:1', tls: {}}",
         "f:2:48: inbound.listen.tls: expected `certificate` and `key`, or `certificates`, found neither; such as"
         " `{certificate: /tls/tls.crt, key: /tls/tls.key}`"),
        ("app: 'h:8', listen: {address: 'h:1', protocol: udp}",
         "f:2:58: inbound.listen.protocol: expected `http`, `tcp`, `auto` or `tls`, found \"udp\""),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_at_its_place(inbound: str, expected: str) -> None:
    """Line, column, path, and what to do."""
    assert [said for said in complaints(inbound) if said.startswith(expected)] == complaints(inbound) != []


def test_a_protocol_that_is_not_spoken_yet_is_refused_as_such() -> None:
    """It belongs to the language: a later version reads the same file."""
    assert complaints("app: 'h:8', listen: {address: 'h:1', protocol: tls}") == [
        "f:2:58: inbound.listen.protocol: `tls` is not supported yet by this version; remove it; a later version"
        " will read it"
    ]


@pytest.mark.parametrize("word", ["http2", "grpc"])
def test_a_listener_takes_every_http_so_its_version_is_said_of_the_app(word: str) -> None:
    """Two keys of one name: who reads the one for the other is told which is meant."""
    assert complaints(f"app: 'h:8', listen: {{address: 'h:1', protocol: {word}}}") == [
        f'f:2:58: inbound.listen.protocol: expected `http`, `tcp`, `auto` or `tls`, found "{word}"; `http` takes'
        " HTTP/1.1 and HTTP/2 alike; what the app speaks is `app: {address: ..., protocol: http2}`"
    ]


def test_the_name_of_an_app_is_no_other_upstream_s() -> None:
    """Only where the listener of that name has an app of its own; tests may expect it then."""
    upstream = "upstreams: {app.grpc: {endpoints: []}}\n"
    assert complaints(f"app: 'h:8', {TWO}", upstream) == [
        "f:3:13: upstreams['app.grpc']: the name `app.grpc` means the app behind `inbound.listen[1].app`; rename it,"
        " and keep `hosts: [app.grpc]`"
    ]
    assert complaints("app: 'h:8'", upstream) == []
    test = "tests: [{name: t, request: {url: 'http://x/'}, expect: {to: app.grpc}}]\n"
    assert complaints(f"app: 'h:8', {TWO}", test) == []
    assert complaints("app: 'h:8'", test) == ["f:3:61: tests[0].expect.to: there is no upstream `app.grpc`"]


def test_outbound_listeners_have_no_app() -> None:
    """They are the app's way out, not one of its ports."""
    said = complaints("app: 'h:8'", "outbound: {listen: {address: 'h:1', name: x}}\n")
    assert said == ["f:3:37: outbound.listen.name: unknown key `name`; known here: `address`, `host`, `protocol`"]
