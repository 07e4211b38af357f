"""HTTP/2 and gRPC in the file: what may be said of them, alone and together, and what is told where it may not."""

# ruff: noqa: E501 - a problem is easier to read unbroken

from __future__ import annotations

import pytest

from sidecar.config.load import load_source, load_text
from sidecar.config.model.root import Config
from sidecar.config.problems import ConfigError
from sidecar.config.source import make_source
from sidecar.config.values.grpc import STATUSES

R = "outbound.routes[0]"


def complaints(text: str) -> list[str]:
    """The problems of a file, or else its warnings."""
    try:
        return [str(one) for one in load_source(make_source("f", text.encode()), {}).warnings]
    except ConfigError as error:
        return [str(one) for one in error.problems]


def route(text: str) -> str:
    """A file whose only route is `text`, on line 3 from column 23."""
    return f"service: s\nupstreams: {{a: {{endpoints: ['h:1']}}}}\noutbound: {{routes: [ {{to: a, {text}}} ]}}\n"


def upstream(text: str) -> str:
    """A file whose only upstream is `text`, on line 3."""
    return f"service: s\noutbound: {{}}\nupstreams: {{a: {{dns: 'h:1', {text}}}}}\n"


def load(text: str) -> Config:
    return load_text(text.encode(), "f", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (route("match: {grpc: {service: s.A}, path: /x}"),
         f"f:3:60: {R}.match.path: expected one of `grpc` and `path`, found both; a call of gRPC is POST of"
         " `/SERVICE/METHOD`: say `service` and `method`, or leave `grpc` out"),
        (route("match: {path: {template: '/{x}'}, grpc: {}}"),
         f"f:3:38: {R}.match.path: expected one of `grpc` and `path`, found both; a call of gRPC is POST of"
         " `/SERVICE/METHOD`: say `service` and `method`, or leave `grpc` out"),
        (route("match: [{grpc: {}, methods: POST}]"),
         f"f:3:49: {R}.match[0].methods: expected one of `grpc` and `methods`, found both; a call of gRPC is POST of"
         " `/SERVICE/METHOD`: say `service` and `method`, or leave `grpc` out"),
        (route("match: {grpc: {}, headers: {Content-Type: {prefix: a}}}"),
         f"f:3:58: {R}.match.headers.Content-Type: expected one of `grpc` and a header `content-type`, found both; `grpc`"
         " asks for it already; remove the header, or `grpc`"),
        (route("match: {grpc: {method: List}}"),
         f"f:3:45: {R}.match.grpc.method: `method` without a `service`; methods of different services may have one name;"
         " say whose it is"),
        (route("match: {grpc: {service: /s.A/}}"),
         f"f:3:54: {R}.match.grpc.service: expected a gRPC service with its package, such as `shop.Recommendations`, found"
         ' "/s.A/"'),
        (route("fault: {abort: {status: 503, grpc_status: 14}}"),
         f"f:3:46: {R}.fault.abort.status: expected one of `status` and `grpc_status`, found both; a gRPC error has the"
         " status 200"),
        (route("fault: {abort: {grpc_status: unavailable}}"),
         f"f:3:59: {R}.fault.abort.grpc_status: expected an error of gRPC, such as `UNAVAILABLE`, or a number from 1 to 16,"
         ' found "unavailable"; did you mean `UNAVAILABLE`?'),
        (route("fault: {abort: {grpc_status: 0}}"),
         f"f:3:59: {R}.fault.abort.grpc_status: expected an error of gRPC, such as `UNAVAILABLE`, or a number from 1 to 16,"
         " found 0"),
        (upstream("protocol: grpc"),
         'f:3:39: upstreams.a.protocol: expected `auto`, `http1`, `http2` or `tcp`, found "grpc"; gRPC is spoken over'
         " HTTP/2: `http2`"),
        (upstream("protocol: htp2"),
         'f:3:39: upstreams.a.protocol: expected `auto`, `http1`, `http2` or `tcp`, found "htp2"; did you mean `http2`?'),
        (upstream("http2: {ping_interval: never}"),
         'f:3:52: upstreams.a.http2.ping_interval: expected a duration such as `250ms`, `2s`, `5m` or `1h`, found "never"'),
        (upstream("http2: {max_concurrent_streams: 0}"),
         "f:3:61: upstreams.a.http2.max_concurrent_streams: expected an integer from 1 to 100000, found 0"),
        (upstream("health_check: {grpc: {}, path: /x}"),
         "f:3:54: upstreams.a.health_check.path: `path` has no effect beside `grpc`; a call of gRPC has a path of its own,"
         " and says how it is: remove one of them"),
        ("service: s\ninbound: {app: 'h:1', health_check: {grpc: {}, expected_statuses: 204}}\n",
         "f:2:48: inbound.health_check.expected_statuses: `expected_statuses` has no effect beside `grpc`; a call of gRPC"
         " has a path of its own, and says how it is: remove one of them"),
        ("service: s\ninbound: {app: {address: 'h:1', protocol: tcp}}\n",
         'f:2:43: inbound.app.protocol: expected `auto`, `http1` or `http2`, found "tcp"'),
        ("service: s\ninbound: {app: {protocol: http2}}\n", "f:2:11: inbound.app: the key `address` is missing"),
        ("service: s\ninbound: {app: 'h:1'}\nlimits: {http2: {initial_window: 1KiB}}\n",
         'f:3:34: limits.http2.initial_window: expected a size from `65535` to `16MiB`, found "1KiB"'),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_at_its_place(text: str, expected: str) -> None:
    """Line, column, path, and what to do."""
    assert complaints(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        route("match: {grpc: {service: s.A}}, rewrite: {prefix: /t.A}"),
        route("match: {grpc: {}}, retry: {on: [grpc_internal, refused], methods: [POST]}"),
        route("retry: {on: grpc_unavailable}"),
        route("fault: {abort: {grpc_status: DATA_LOSS}}"),
        upstream("protocol: http1, http2: {ping_interval: off}, health_check: {grpc: {service: s.A}}"),
        "service: s\ninbound: {app: {address: 'h:1', protocol: http}}\n",
    ],
)
def test_what_can_be_meant_is_accepted(text: str) -> None:
    """Without a word."""
    assert complaints(text) == []


def test_http_is_another_word_for_auto() -> None:
    """As files that know of no versions say it."""
    config = load("service: s\ninbound: {app: 'h:1'}\nupstreams: {a: {dns: 'h:2', protocol: http}, b: {dns: 'h:3'}}\n")
    assert {one.protocol for one in config.upstreams.values()} == {"auto"}


@pytest.mark.parametrize("number", range(1, len(STATUSES)))
def test_an_error_is_known_by_its_number_and_by_its_name(number: int) -> None:
    """doc/statuscodes.md; 0 is none."""
    for word in (number, STATUSES[number]):
        outbound = load(route(f"fault: {{abort: {{grpc_status: {word}}}}}")).outbound
        assert outbound is not None
        fault = outbound.routes[0].fault
        assert fault is not None
        assert fault.abort is not None
        assert fault.abort.grpc_status == number


def test_a_rule_of_grpc_hides_what_it_matches_all_of() -> None:
    """The path of a method is below that of its service; other requests for the same path are not calls."""

    def of(*matches: str) -> list[str]:
        rules = ", ".join(f"{{name: r{index}, allow: {one}}}" for index, one in enumerate(matches))
        text = f"service: s\ninbound: {{app: 'h:8', authorization: {{default: deny, rules: [{rules}]}}}}\n"
        return [one.partition("rules")[2][:3] for one in complaints(text)]

    assert of("{grpc: {service: s.A}}", "{grpc: {service: s.A, method: M}}") == ["[1]"]
    assert of("{path: {prefix: /s.A}}", "{grpc: {service: s.A, method: M}}") == ["[1]"]
    assert of("{methods: [POST, GET]}", "{grpc: {}}") == ["[1]"]
    assert of("{grpc: {}}", "{path: /s.A/M}") == []
    assert of("{grpc: {service: s.A, method: M}}", "{grpc: {service: s.A}}") == []
    assert of("{grpc: {service: s.A}}", "{grpc: {service: s.B}}") == []
