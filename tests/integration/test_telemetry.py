"""Every way in which an exchange can end, for real: one log line, one span, one count, and they agree."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.peers import require
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port, refusing_port
from tests.support.wire import Client, CutError, ServerConnection, Upstream
from tests.unit.telemetry.collector import Collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e47{:02x}"
PARENT = "00f067aa0ba902b7"
KEYS = """
    start_time direction method path protocol response_code response_flags response_code_details route_name
    upstream_cluster upstream_host bytes_received bytes_sent duration upstream_service_time request_id trace_id
    authority user_agent downstream_remote_address attempts
"""


@dataclass
class World:
    """A sidecar with a collector behind it, and one upstream of each kind."""

    sidecar: SidecarProcess
    collector: Collector
    web: Upstream
    dead_port: int


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all cases, so that the sums at the end are over all of them."""
    directory = tmp_path_factory.mktemp("telemetry")
    dead = refusing_port()
    with Collector() as collector, Upstream() as web:
        text = f"""
            service: {{name: storefront, version: "1.2", namespace: shop}}
            inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "{web.authority}"}}
            outbound:
              listen: "127.0.0.1:${{OUTBOUND_PORT}}"
              routes:
                - {{name: hurried, match: {{host: web, path: {{prefix: /hurried}}}}, to: web, timeout: 300ms}}
                - {{name: of-user, match: {{host: web, path: {{template: "/users/{{id}}/items"}}}}, to: web}}
                - {{name: teapot, match: {{path: /teapot}}, respond: {{status: 418, body: "short"}}}}
            upstreams:
              web: {{endpoints: ["{web.authority}"]}}
              dead: {{endpoints: ["127.0.0.1:{dead}"]}}
              empty: {{endpoints: []}}
            limits: {{header_timeout: 500ms, max_header_bytes: 4KiB}}
            telemetry:
              metrics: {{listen: "127.0.0.1:${{METRICS_PORT}}"}}
              traces: {{otlp_endpoint: "{collector.url}"}}
              access_log: {{path: "{directory}/access.log"}}
        """
        with running_sidecar(directory, text) as sidecar:
            yield World(sidecar, collector, web, dead)


def _request(host: str, path: str, trace: str, fields: str = "", method: str = "GET") -> bytes:
    lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\ntraceparent: 00-{trace}-{PARENT}-01\r\n{fields}\r\n"
    return lines.encode()


def _serve(world: World, act: Callable[[ServerConnection], object]) -> ServerConnection:
    """Accept the exchange's own connection: every case leaves the pool empty."""
    server = world.web.accept()
    act(server)
    return server


def _answered(world: World, client: Client) -> None:
    server = _serve(world, lambda server: server.serve(b"hello", fields="Connection: close\r\n"))
    client.response()
    server.close()


def _closed_before(world: World, client: Client) -> None:
    _serve(world, lambda server: (server.request(), server.close()))
    client.response()


def _garbage(world: World, client: Client) -> None:
    _serve(world, lambda server: (server.request(), server.send(b"garbage\r\n\r\n")))
    client.response()


def _never(world: World, client: Client) -> None:
    server = _serve(world, lambda server: server.request())
    client.response()
    assert server.is_ended()


def _leave(world: World, client: Client) -> None:
    server = _serve(world, lambda server: server.request())
    client.reset()
    assert server.is_ended()


def _cut(world: World, client: Client) -> None:
    _serve(
        world,
        lambda server: (
            server.request(),
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"),
            server.close(),
        ),
    )
    client.read_to_end()


def _wait(world: World, client: Client) -> None:
    client.response()


@dataclass(frozen=True)
class Case:
    """What is sent, what the peers do, and what must be recorded of it."""

    status: int
    flag: str
    details: str
    host: str = "web"
    path: str = "/"
    route: str | None = "web"
    upstream: str | None = "web"
    act: Callable[[World, Client], None] = _wait
    data: bytes | None = None
    direction: str = "outbound"
    attempts: int = 1
    template: str | None = None


CASES = {
    "success": Case(200, "-", "via_upstream", act=_answered),
    "template": Case(
        200, "-", "via_upstream", act=_answered, path="/users/7/items", route="of-user", template="/users/{id}/items"
    ),
    "inbound": Case(200, "-", "via_upstream", "x", route="app", upstream="app", act=_answered, direction="inbound"),
    "direct": Case(418, "-", "direct_response", path="/teapot", route="teapot", upstream=None, attempts=0),
    "no-route": Case(404, "NR", "no_route", host="stranger", route=None, upstream=None, attempts=0),
    "refused": Case(503, "UF", "connect_failed", host="dead", route="dead", upstream="dead"),
    "no-endpoint": Case(503, "UH", "no_endpoint", host="empty", route="empty", upstream="empty", attempts=0),
    "closed": Case(503, "UC", "upstream_closed", act=_closed_before),
    "cut": Case(200, "UC", "response_cut", act=_cut),
    "garbage": Case(502, "UPE", "bad_response", act=_garbage),
    "timeout": Case(504, "UT", "response_timeout", path="/hurried", route="hurried", act=_never),
    "client-left": Case(499, "DC", "client_left", act=_leave),
    "bad": Case(400, "DPE", "bad_request", route=None, upstream=None, data=b"GET /bad\r\n\r\n", attempts=0),
    "slow": Case(408, "DT", "head_timeout", route=None, upstream=None, data=b"GET /slow HTTP/1.1\r\n", attempts=0),
    "large": Case(
        431, "DPE", "head_too_large", route=None, upstream=None,
        data=b"GET /large HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n", attempts=0,
    ),
}  # fmt: skip


def _counts(sidecar: SidecarProcess, case: Case) -> tuple[float, float]:
    """The two counters that must move for this case."""
    labels = {"direction": case.direction, "code": str(case.status), "flag": case.flag}
    requests = sidecar.metric("sidecar_requests_total", route=case.route or "", **labels)
    name = "http_server" if case.direction == "inbound" else "http_client"
    return requests, sidecar.metric(
        f"{name}_request_duration_seconds_count", http_response_status_code=str(case.status),
        http_route=case.template or case.route or "", route=case.route or "",
    )  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_every_end_leaves_one_line_one_span_and_one_count(world: World, name: str) -> None:
    """The status, the flag, the reason, the route and the trace are the same in all three."""
    case, sidecar = CASES[name], world.sidecar
    trace = TRACE.format(list(CASES).index(name))
    spans_before, lines_before = len(world.collector.spans()), len(sidecar.access_log())
    before = _counts(sidecar, case)
    port = sidecar.inbound_port if case.direction == "inbound" else sidecar.outbound_port
    with Client(port) as client:
        client.send(case.data if case.data is not None else _request(case.host, case.path, trace))
        case.act(world, client)

    (line,) = eventually(lambda: sidecar.access_log()[lines_before:], "the log line")
    assert set(line) >= set(KEYS.split())
    assert (line["response_code"], line["response_flags"]) == (case.status, case.flag)
    assert line["response_code_details"] == case.details
    assert (line["route_name"], line["upstream_cluster"]) == (case.route, case.upstream)
    assert line.get("http_route") == case.template
    assert (line["direction"], line["attempts"]) == (case.direction, case.attempts)
    assert line["downstream_remote_address"].startswith("127.0.0.1:")

    (span,) = eventually(lambda: world.collector.spans()[spans_before:], "the span")
    _check_span(span, case, line)
    if case.data is None:
        assert line["trace_id"] == span.trace_id.hex() == trace
        assert span.parent_span_id.hex() == PARENT
        assert (line["method"], line["path"]) == ("GET", case.path)
    else:
        assert line["method"] is None
        assert line["raw_line"] == case.data.split(b"\r\n")[0].decode()

    requests, durations = _counts(sidecar, case)
    assert (requests - before[0], durations - before[1]) == (1, 1)


def _check_span(span: Span, case: Case, line: dict[str, Any]) -> None:
    have = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
    assert span.kind == (Span.SPAN_KIND_SERVER if case.direction == "inbound" else Span.SPAN_KIND_CLIENT)
    assert have["http.response.status_code"] == case.status
    assert have.get("sidecar.response_flag", "-") == case.flag
    assert have.get("sidecar.upstream") == case.upstream
    assert (have.get("sidecar.route"), have.get("http.route")) == (case.route, case.template or case.route)
    if case.template is not None:
        assert span.name == f"GET {case.template}"
    is_error = case.flag != "-" or (case.status >= 400 and case.direction == "outbound")
    assert (span.status.code == Status.STATUS_CODE_ERROR) == is_error
    if case.flag != "-":
        assert have["error.type"] == case.details
    duration_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
    assert abs(duration_ms - line["duration"]) < 1


def test_the_resource_says_whose_spans_they_are(world: World) -> None:
    """From `service`."""
    resource = world.collector.requests[0].resource_spans[0].resource
    have = {pair.key: pair.value.string_value for pair in resource.attributes}
    assert (have["service.name"], have["service.version"], have["service.namespace"]) == ("storefront", "1.2", "shop")


def test_the_upstream_continues_the_trace_under_our_span(world: World) -> None:
    """What it gets names our span as its parent; a bad `traceparent` begins a new trace and goes no further."""
    for sent in (f"00-{TRACE.format(255)}-{PARENT}-01", "00-zz-bad-01", None):
        before = len(world.collector.spans())
        with Client(world.sidecar.outbound_port) as client:
            client.get("/trace", host="web", fields=f"traceparent: {sent}\r\ntracestate: a=1\r\n" if sent else "")
            server = world.web.accept()
            request = server.serve(fields="Connection: close\r\n")
            client.response()
        (span,) = eventually(lambda before=before: world.collector.spans()[before:], "the span")
        assert request.get("traceparent") == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
        is_continued = sent is not None and "bad" not in sent
        assert (span.parent_span_id.hex() == PARENT) == is_continued
        assert (request.get("tracestate") == "a=1") == is_continued


def test_sums_agree_after_a_mixed_load(world: World) -> None:
    """As many log lines as spans as counts, by status and flag, after several hundred exchanges of all kinds."""
    sidecar, stop = world.sidecar, threading.Event()

    def serve(server: ServerConnection) -> None:
        try:
            while True:
                target = server.request().target
                if target == "/garbage":
                    server.send(b"garbage\r\n\r\n")
                elif target == "/die":
                    server.close()
                    return
                else:
                    server.answer(b"x" * 1000)
        except (OSError, CutError):
            server.close()

    def accept() -> None:
        while not stop.is_set():
            try:
                server = world.web.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(server,), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    plan = [("web", "/ok", 200), ("web", "/garbage", 502), ("web", "/die", 503), ("stranger", "/", 404)]
    plan += [("dead", "/", 503), ("empty", "/", 503), ("web", "/teapot", 418), ("web", "/ok", 200)]
    for number in range(400):
        host, path, status = plan[number % len(plan)]
        if path == "/teapot":
            assert sidecar.outbound(path, host=host).status == status
        else:
            assert sidecar.outbound(path, host=host, method="POST", body=b"b").status == status, (host, path)
    stop.set()
    sidecar.outbound("/garbage", host="web")
    Client(world.web.port).close()  # wakes the acceptor
    acceptor.join(15)
    assert not acceptor.is_alive()

    def agree() -> bool:
        spans = Counter(_code_and_flag(span) for span in world.collector.spans())
        lines = Counter((row["response_code"], row["response_flags"]) for row in sidecar.access_log())
        # Counted at once, written a moment later.
        return spans == lines and sum(lines.values()) == sidecar.metric("sidecar_requests_total") > 400

    eventually(agree, "lines and spans to agree")
    for (code, flag), count in Counter(
        (row["response_code"], row["response_flags"]) for row in sidecar.access_log()
    ).items():
        assert sidecar.metric("sidecar_requests_total", code=str(code), flag=flag) == count, (code, flag)
    total = sidecar.metric("sidecar_requests_total")
    durations = [sidecar.metric(f"http_{side}_request_duration_seconds_count") for side in ("client", "server")]
    assert total == sum(durations) == len(sidecar.access_log())
    assert sidecar.metric("sidecar_spans_dropped_total") == 0
    assert sidecar.metric("sidecar_log_lines_dropped_total") == 0


def _code_and_flag(span: Span) -> tuple[int, str]:
    have = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
    return int(have["http.response.status_code"]), str(have.get("sidecar.response_flag", "-"))


def test_promtool_finds_nothing_to_say_about_the_metrics(world: World) -> None:
    """After all the exchanges above, of every kind."""
    program = require("promtool")
    text = world.sidecar.metrics("/metrics").body
    assert text == text.replace(b"\r", b"")
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_dead_collector_and_a_full_log_slow_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Requests go on; what is lost is counted."""
    directory = tmp_path_factory.mktemp("full")
    with Upstream() as web:
        text = f"""
            service: x
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{web: {{endpoints: ["{web.authority}"]}}}}
            telemetry:
              metrics: {{listen: "127.0.0.1:${{METRICS_PORT}}"}}
              traces: {{otlp_endpoint: "http://127.0.0.1:{free_port()}"}}
              access_log: {{path: /dev/full}}
        """
        with running_sidecar(directory, text) as sidecar, Client(sidecar.outbound_port) as client:
            client.get("/", host="web")
            server = web.accept()
            server.serve()
            client.response()
            for _ in range(200):
                client.get("/", host="web")
                server.serve()
                assert client.response().status == 200
            eventually(lambda: sidecar.metric("sidecar_log_lines_dropped_total") > 0, "lost lines to be counted")
            assert sidecar.is_ready()
