"""What `capture` makes of a plan: its listeners, whose routes its connections take, and where they go."""

from __future__ import annotations

import pytest

from sidecar import errors
from sidecar.config.problems import ConfigError
from sidecar.exchange import Direction
from sidecar.message import RequestHead
from sidecar.proxy.exchange.destination import Destination, chooser_for, declared_protocol, side_of, stream_route
from sidecar.proxy.exchange.steps import find_route
from sidecar.proxy.plan import Plan
from sidecar.routing.actions import Route
from tests.support.compiling import compiled

TEXT = """
service: s
inbound:
  app: "127.0.0.1:1"
  listen: [{address: "h:15000", name: http}, {address: "h:15100", name: web, app: "127.0.0.1:2"}]
outbound: {routes: [{name: all, match: {path: {prefix: /all}}, to: named}]}
capture: {ports: {5432: auto, 2525: tcp, 80: http}}
upstreams:
  named: {hosts: ["named:9090", "other"], endpoints: ["10.0.0.1:80", "10.0.0.2:80"]}
  secured: {endpoints: ["10.0.0.3:80"], tls: {}}
  told: {discover: told}
"""


def captured(plan: Plan) -> list[tuple[str, str]]:
    return [(one.direction.label, one.address) for one in plan.listeners if one.captures]


def head(host: str, port: int) -> RequestHead:
    made = RequestHead(b"CONNECT", b"", None, 1)
    made.host, made.port = host.encode(), port
    return made


def test_an_address_that_is_listened_on_anyway_is_one_listener() -> None:
    """For who is captured and who comes by address; the others are listeners of their own."""
    plan = compiled(TEXT).plan
    assert captured(plan) == [
        ("outbound", "127.0.0.1:15001"), ("outbound", "[::1]:15001"), ("inbound", "0.0.0.0:15006"),
        ("inbound", "[::]:15006"),
    ]  # fmt: skip
    assert len({(one.direction, one.address) for one in plan.listeners}) == len(plan.listeners) == 6


@pytest.mark.parametrize(
    ("capture", "found"),
    [
        ("{outbound: [], inbound: []}", []),
        ('{outbound: "127.0.0.1:9", inbound: "10.0.0.9:8"}', [("outbound", "127.0.0.1:9"), ("inbound", "10.0.0.9:8")]),
    ],
)
def test_addresses_can_be_chosen(capture: str, found: list[tuple[str, str]]) -> None:
    """Or left out."""
    assert captured(compiled(f'service: s\noutbound: {{listen: "127.0.0.1:7"}}\ncapture: {capture}\n').plan) == found


def test_connections_to_the_app_take_the_routes_of_its_port() -> None:
    """Others those of all."""
    plan = compiled(TEXT).plan
    listener = next(one for one in plan.listeners if one.captures and one.direction is Direction.INBOUND)
    sides = {port: side_of(plan, listener, Destination(b"10.0.0.9", port)) for port in (1, 2, 3)}
    assert sides[1] is sides[3] is plan.side_of["inbound"]
    assert sides[2] is plan.side_of["app.web"]
    for port, app in ((1, "app"), (2, "app.web"), (3, "app")):
        side = sides[port]
        assert side.fallback is not None
        cluster = plan.clusters[app]
        chooser = chooser_for(side.captured, Destination(b"10.0.0.9", port), side.fallback, cluster)
        endpoint = chooser.choose(head("x", port), "10.0.0.1")
        assert endpoint is not None
        assert (endpoint.label, endpoint.cluster) == (f"10.0.0.9:{port}", cluster)


def test_requests_pass_by_the_rule_for_captured_ones() -> None:
    """Whatever holds for those that come by address."""
    side = compiled(TEXT).plan.side_of["outbound"]
    assert find_route(side, head("nobody", 80), "::1") is errors.NO_ROUTE
    found = find_route(side, head("nobody", 80), "::1", is_captured=True)
    assert isinstance(found, Route)
    assert found.name == "passthrough"


@pytest.mark.parametrize(
    ("name", "address", "port", "route"),
    [
        ("named", "10.9.9.9", 9090, "named"),
        ("named", "10.9.9.9", 80, "passthrough"),
        ("other", "10.9.9.9", 443, "named"),
        ("10.0.0.2", "10.0.0.2", 80, "named"),
        ("10.0.0.2", "10.0.0.2", 81, "passthrough"),
        # They expect requests, or TLS of ours.
        ("secured", "10.9.9.9", 443, "passthrough"),
        ("10.0.0.3", "10.0.0.3", 80, "passthrough"),
        ("told", "10.9.9.9", 443, "passthrough"),
    ],
)
def test_what_is_no_http_goes_to_who_has_its_name_or_its_address(
    name: str, address: str, port: int, route: str
) -> None:
    """Routes are for requests."""
    side = compiled(TEXT).plan.side_of["outbound"]
    found = stream_route(side, head(name, port), Destination(address.encode(), port))
    assert isinstance(found, Route)
    assert found.name == route


def test_what_nobody_has_can_be_denied() -> None:
    """Requests and all else."""
    side = compiled(TEXT.replace("capture: {", "capture: {unmatched: deny, ")).plan.side_of["outbound"]
    assert find_route(side, head("nobody", 80), "::1", is_captured=True) is errors.NO_ROUTE
    assert stream_route(side, head("nobody", 80), Destination(b"10.9.9.9", 80)) is errors.NO_ROUTE


def test_ports_are_those_of_servers_that_speak_first_and_what_the_file_says() -> None:
    """Which may take one of them back."""
    protocols = compiled(TEXT).plan.protocol_of_port
    assert {port: protocols.get(port) for port in (25, 5432, 2525, 80, 81)} == {
        25: "tcp", 5432: "auto", 2525: "tcp", 80: "http", 81: None,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["service: s\ncapture: {}\n", "service: s\ninbound: {}\ncapture: {}\n"])
def test_the_app_need_not_be_named(text: str) -> None:
    """It is where it was called."""
    plan = compiled(text).plan
    side = plan.side_of["inbound"]
    assert side.fallback is not None
    assert side.captured is not None
    assert side.captured.app is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("capture: {ports: {0: tcp}}", "expected a port from 1 to 65535"),
        ("capture: {ports: {http: tcp}}", "expected a port from 1 to 65535"),
        ("capture: {ports: {80: tls}}", "expected `auto`, `http` or `tcp`"),
        ("capture: {outbound: 15001}", "127.0.0.1:15001"),
        ('capture: {outbound: "unix:/x"}', "expected an address"),
        ('inbound: {app: "a:1", listen: "0.0.0.0:15006"}\ncapture: {}', "already listened on"),
        ("capture: {required: maybe}", "expected `true` or `false`"),
    ],
)
def test_mistakes_are_told(text: str, problem: str) -> None:
    """With their place."""
    with pytest.raises(ConfigError) as found:
        compiled(f"service: s\n{text}\n")
    assert problem in str(found.value)


STREAMS = """
service: s
inbound:
  listen: [{address: "h:15000", name: db, protocol: tcp}, {address: "h:15100", name: web, app: "127.0.0.1:2"}]
  app: "127.0.0.1:5432"
outbound:
  routes:
    - {name: shared, match: {host: "db:5432"}, to: {db: 90, new: 10}}
    - {name: read, match: {host: "db:5432", path: /x}, to: new}
    - {name: all, to: named}
capture: {ports: {7: tcp}}
upstreams:
  db:
    hosts: ["db:5432", "10.0.0.7:5432", "[fd00::7]:5432", "*.db:5432", "db.local"]
    protocol: tcp
    discover: db
    tls: {identities: "spiffe://shop/db"}
  new: {hosts: [], protocol: tcp, endpoints: ["10.0.0.8:5432"]}
  named: {endpoints: ["10.0.0.1:80"]}
identity: {from: {files: {certificate: a, key: b, trust: c}}}
"""


def test_an_upstream_that_speaks_tcp_is_known_by_what_its_hosts_mean() -> None:
    """Not by its endpoints, which are listeners of sidecars; then nobody asks what a connection carries."""
    plan = compiled(STREAMS).plan
    side = plan.side_of["outbound"]
    db = plan.clusters["db"]
    assert db.spec.called == (("db", 5432), ("10.0.0.7", 5432), ("fd00::7", 5432))
    db.called = (("10.0.0.6", 5432),)
    listener = next(one for one in plan.listeners if one.captures and one.direction is Direction.OUTBOUND)
    for host, port, told in (("10.0.0.6", 5432, "tcp"), ("10.0.0.8", 5432, "tcp"), ("10.0.0.1", 80, None)):
        destination = Destination(host.encode(), port)
        assert declared_protocol(plan, listener, destination) == told
    route = stream_route(side, head("10.0.0.6", 5432), Destination(b"10.0.0.6", 5432))
    assert isinstance(route, Route)
    assert route.name == "shared"


def test_routes_that_ask_for_a_host_alone_hold_for_connections() -> None:
    """As far as all that they lead to speaks something else than HTTP; others are for requests."""
    streams = compiled(STREAMS).plan.side_of["outbound"].streams
    assert streams is not None
    assert [route.name for route in streams.names.routes] == ["shared", "db", "db", "named"]
    assert {name: route.name for name, route in streams.route_to.items()} == {
        "db": "shared", "new": "new", "named": "named",
    }  # fmt: skip


def test_ports_of_the_app_carry_what_their_listeners_say() -> None:
    """Unless the operator says it of captured ones himself."""
    plan = compiled(STREAMS).plan
    assert plan.protocol_of_app == {5432: "tcp"}
    assert compiled(STREAMS.replace("{7: tcp}", "{5432: tcp}")).plan.protocol_of_app == {}
