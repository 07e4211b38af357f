"""
Metrics, access log and spans agree to the request, whatever became of it.

One load holds everything that ends a request in an unusual way: clients that leave, reset, stall or talk nonsense;
servers that are slow, cut, reset, answer nonsense, are killed or were never there; pipelines, tunnels that are refused,
replies of the sidecar's own; and reloads all the while. Afterwards the three tell the same.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import re
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port
from tests.support.wire import Client, CutError
from tests.unit.telemetry.collector import Collector

Key = tuple[str, str, str, str, str]
"""Direction, route, upstream, code, flag."""

ROUNDS = 12
LARGE = 512 * 1024

CONFIG = """
    service: storefront
    inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app}"}}
    outbound:
      listen: "127.0.0.1:${{OUTBOUND_PORT}}"
      routes:
        - {{name: slow, match: {{host: shop, path: /slow}}, to: shop, timeout: 150ms}}
        - {{name: split, match: {{host: shop, path: {{prefix: /split}}}}, to: {{shop: 1, shaky: 1}},
           response_headers: {{set: {{x-turn: "{turn}"}}}}}}
        - {{name: moved, match: {{host: shop, path: /moved}}, redirect: {{path: /elsewhere, status: 301}}}}
        - {{name: teapot, match: {{host: shop, path: /teapot}}, respond: {{status: 418, body: "short and stout"}}}}
    upstreams:
      shop: {{endpoints: ["127.0.0.1:{shop}"]}}
      shaky: {{endpoints: ["127.0.0.1:{shaky}"]}}
      mortal: {{endpoints: ["127.0.0.1:{mortal}"]}}
      down: {{endpoints: ["127.0.0.1:{closed}"]}}
    limits: {{header_timeout: 400ms, max_header_bytes: 8KiB}}
    admin: {{listen: "127.0.0.1:${{ADMIN_PORT}}"}}
    telemetry:
      metrics: {{listen: "127.0.0.1:${{METRICS_PORT}}"}}
      traces: {{otlp_endpoint: "{collector}"}}
      access_log: {{path: "{log}"}}
"""


class Shaky:
    """
    A server that does to each request what its path says.

    Any other path is answered with `ok`; `kill` resets all its connections and stops it.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_dead = False
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Shaky:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._thread.join(10)

    def kill(self) -> None:
        """As if its process was: connections are reset, and further ones refused."""
        with self._lock:
            self._is_dead = True
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for one in self._open:
                _reset(one)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_dead:
                    _reset(sock)
                    return
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        buffer = b""
        with contextlib.suppress(OSError):
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = sock.recv(65536)
                    if not data:
                        break
                    buffer += data
                else:
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    if self._answer(sock, head.split(b" ", 2)[1]):
                        continue
                break
        with self._lock:
            if sock in self._open:
                self._open.discard(sock)
                sock.close()

    def _answer(self, sock: socket.socket, path: bytes) -> bool:
        """Whether the connection goes on."""
        act = path.rpartition(b"/")[2]
        if act == b"close":
            return False
        if act == b"reset":
            with self._lock:
                self._open.discard(sock)
                _reset(sock)
            return False
        if act == b"nonsense":
            sock.sendall(b"220 ready for mail\r\n\r\n")
            return False
        if act == b"cut":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
            return False
        if act == b"large":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE)
            return True
        status = b"500 Oh" if act == b"500" else b"200 OK"
        sock.sendall(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)
        return True


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@dataclass
class Told:
    """What the three said, and what clients know to be so."""

    counters: Counter[Key] = field(default_factory=Counter)
    durations: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    bytes_of: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    lines: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)


class Load:
    """The clients, each a thread; every choice comes from a seed."""

    def __init__(self, sidecar: SidecarProcess, mortal: Shaky, rewrite: Callable[[int], None]) -> None:
        self.sidecar = sidecar
        self.answered: dict[str, int] = {}
        """Status by request id, of clients that waited for the whole answer."""
        self._mortal = mortal
        self._rewrite = rewrite
        self._is_over = threading.Event()
        self._ids = itertools.count()
        self._failures: list[BaseException] = []

    def run(self) -> None:
        """All of it; raises what a client did not expect."""
        clients = [self.steady, self.steady, self.pipelining, self.leaving, self.nonsense, self.killing]
        threads = [
            threading.Thread(target=self._guarded, args=(client, seed), name=client.__name__)
            for seed, client in enumerate(clients)
        ]
        reloads = threading.Thread(target=self._guarded, args=(self.reloading, 0))
        for thread in (*threads, reloads):
            thread.start()
        for thread in threads:
            thread.join(90)
        self._is_over.set()
        reloads.join(30)
        if self._failures:
            raise self._failures[0]

    def _guarded(self, client: Callable[[random.Random], None], seed: int) -> None:
        try:
            client(random.Random(seed))
        except BaseException as error:
            self._failures.append(error)

    def _new_id(self) -> str:
        return f"client-{next(self._ids)}"

    def _ask(self, connection: http.client.HTTPConnection, host: str, method: str, path: str, body: bytes) -> None:
        """One request whose answer the client knows whole, or that was cut and of which it knows nothing."""
        name = self._new_id()
        connection.request(method, path, body=body or None, headers={"Host": host, "x-request-id": name})
        try:
            answer = connection.getresponse()
            answer.read()
            self.answered[name] = answer.status
        except (http.client.HTTPException, ConnectionError):
            connection.close()

    def steady(self, chance: random.Random) -> None:
        """Keep-alive connections in both directions, over everything that can be answered."""
        to_app = http.client.HTTPConnection("127.0.0.1", self.sidecar.inbound_port, timeout=30)
        from_app = http.client.HTTPConnection("127.0.0.1", self.sidecar.outbound_port, timeout=30)
        with contextlib.closing(to_app), contextlib.closing(from_app):
            for _ in range(ROUNDS * 10):
                method, body = chance.choice([("GET", b""), ("HEAD", b""), ("POST", b"x" * chance.randrange(1, 9000))])
                self._ask(to_app, "app", method, "/items?a=1", body)
                host, path = chance.choice(
                    [
                        ("shop", "/items"), ("shop", "/split/ok"), ("shop", "/moved"), ("shop", "/teapot"),
                        ("shop", "/slow"), ("shaky", "/500"), ("shaky", "/large"), ("shaky", "/close"),
                        ("shaky", "/reset"), ("shaky", "/nonsense"), ("shaky", "/cut"), ("mortal", "/ok"),
                        ("down", "/"), ("unknown.example", "/"),
                    ]
                )  # fmt: skip
                self._ask(from_app, host, method, path, body)

    def pipelining(self, chance: random.Random) -> None:
        """Several requests in one write; the answers come in order."""
        for _ in range(ROUNDS):
            with Client(self.sidecar.outbound_port) as client:
                paths = [chance.choice(["/items", "/teapot", "/moved", "/split/ok"]) for _ in range(8)]
                names = [self._new_id() for _ in paths]
                requests = [
                    f"GET {path} HTTP/1.1\r\nHost: shop\r\nX-Request-Id: {name}\r\n\r\n"
                    for path, name in zip(paths, names, strict=True)
                ]
                client.send("".join(requests).encode())
                for name in names:
                    self.answered[name] = client.response().status

    def leaving(self, chance: random.Random) -> None:
        """Clients that go at every moment: before, within and after the answer's head, politely or not."""
        for turn in range(ROUNDS * 2):
            client = Client(self.sidecar.inbound_port if turn % 2 else self.sidecar.outbound_port, receive_buffer=4096)
            act = chance.randrange(4)
            if act == 0:
                client.get("/slow", host="shop")
            elif act == 1:
                client.send(b"POST /items HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\nsome of it")
            elif act == 2:
                client.get("/large", host="shaky")
                client.read_until(b"\r\n")
            else:
                client.get("/items", host="shop")
            if chance.random() < 0.5:
                client.reset()
            else:
                client.close()

    def nonsense(self, chance: random.Random) -> None:
        """What is no HTTP, too large, never finished, or not allowed."""
        bad = [
            b"\x16\x03\x01\x02\x00\x01", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: shop\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
            b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: shop\r\n\r\n",
            b"POST /items HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
            b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/3.0\r\nHost: shop\r\n\r\n",
            b"CONNECT unknown.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"GET /items HTTP/1.1\r\nHo", b"BREW /items HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n",
            b"GET /items HTTP/1.0\r\nHost: shop\r\n\r\n",
        ]  # fmt: skip
        for data in bad * 2:
            port = chance.choice([self.sidecar.inbound_port, self.sidecar.outbound_port])
            with Client(port) as client, contextlib.suppress(CutError):
                client.send(data)
                client.read_to_end()

    def killing(self, _: random.Random) -> None:
        """A server that dies with requests on their way, and is asked again afterwards."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(self.sidecar.outbound_port)) for _ in range(8)]
            for index, client in enumerate(clients):
                client.get("/large" if index % 2 else "/ok", host="mortal")
            clients[0].read_until(b"\r\n")
            self._mortal.kill()
            for client in clients:
                client.read_until(b"\r\n") if client is not clients[0] else None
            for client in clients:
                client.reset()

    def reloading(self, _: random.Random) -> None:
        """Another configuration, again and again."""
        for turn in itertools.count(1):
            self._rewrite(turn)
            # A file that is written again and again is never settled; whoever sends a signal says that it is.
            self.sidecar.signal(signal.SIGHUP)
            if self._is_over.wait(0.2):
                return


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What was told of one load, once the sidecar has ended and has nothing more to say."""
    directory = tmp_path_factory.mktemp("agreement")
    told = Told()
    with contextlib.ExitStack() as stack:
        app, shop = stack.enter_context(Origin("app")), stack.enter_context(Origin("shop"))
        shaky, mortal = stack.enter_context(Shaky()), stack.enter_context(Shaky())
        collector = stack.enter_context(Collector())
        values = {
            "app": app.port, "shop": shop.port, "shaky": shaky.port, "mortal": mortal.port, "closed": free_port(),
            "collector": collector.url, "log": directory / "access.log",
        }  # fmt: skip
        text = CONFIG.format
        with running_sidecar(directory, text(**values, turn=0)) as sidecar:
            load = Load(sidecar, mortal, lambda turn: sidecar.rewrite(text(**values, turn=turn)))
            load.run()
            told.answered = load.answered
            app.release()
            shop.release()
            eventually(
                lambda: not sidecar.metric("sidecar_downstream_connections_active"), "all clients to be gone", 30
            )
            assert sidecar.metric("sidecar_requests_active") == 0
            assert sidecar.generation() > 3
            _read_metrics(sidecar, told)
            assert sidecar.stop() == 0
            told.lines = sidecar.access_log()
        told.spans = collector.spans()
    return told


def _read_metrics(sidecar: SidecarProcess, told: Told) -> None:
    for line in sidecar.metrics().text.splitlines():
        found = re.fullmatch(r"([a-z_]+)\{(.*)\} (\S+)", line)
        if not found:
            continue
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2]))
        name, value = found[1], int(float(found[3]))
        if name == "sidecar_requests_total":
            key = (labels["direction"], labels["route"], labels["upstream"], labels["code"], labels["flag"])
            told.counters[key] += value
        elif duration := re.fullmatch(r"http_(server|client)_request_duration_seconds_count", name):
            direction = "inbound" if duration[1] == "server" else "outbound"
            told.durations[direction, labels["http_route"], labels["http_response_status_code"]] += value
        elif size := re.fullmatch(r"sidecar_(request|response)_body_bytes_total", name):
            told.bytes_of[size[1], labels["direction"], labels["route"], labels["upstream"]] += value


def _key_of_line(line: dict[str, Any]) -> Key:
    route, upstream = line["route_name"] or "", line["upstream_cluster"] or ""
    return line["direction"], route, upstream, str(line["response_code"]), line["response_flags"]


def _attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in span.attributes}


def _key_of_span(span: Span) -> Key:
    have = _attributes(span)
    direction = {Span.SPAN_KIND_SERVER: "inbound", Span.SPAN_KIND_CLIENT: "outbound"}[span.kind]
    route, upstream = have.get("sidecar.route", ""), have.get("sidecar.upstream", "")
    return direction, route, upstream, str(have["http.response.status_code"]), have.get("sidecar.response_flag", "-")


def _last_spans(spans: list[Span]) -> dict[str, Span]:
    """
    By trace id, the span that tells how the request ended: the SERVER span, or the CLIENT span of the last attempt.

    Every request of this load begins a trace of its own.
    """
    last: dict[str, Span] = {}
    for span in spans:
        have = last.setdefault(span.trace_id.hex(), span)
        if _rank(span) > _rank(have):
            last[span.trace_id.hex()] = span
    return last


def _rank(span: Span) -> tuple[bool, int]:
    return span.kind == Span.SPAN_KIND_SERVER, _attributes(span).get("http.request.resend_count", 0)


def test_the_load_was_what_it_is_meant_to_be(told: Told) -> None:
    """Every kind of end is in it; else the rest would prove little."""
    flags = {flag for *_, flag in told.counters}
    assert flags >= {"-", "NR", "UF", "UC", "UT", "UPE", "DC", "DPE", "DT"}, flags
    assert flags & {"UR", "UC"}
    codes = {code for *_, code, _ in told.counters}
    assert codes >= {"200", "301", "404", "418", "400", "408", "414", "431", "499", "500", "502", "503", "504"}, codes
    assert sum(told.counters.values()) > 500


def test_log_lines_and_counters_agree(told: Told) -> None:
    """Per direction, route, upstream, code and flag, to the request."""
    assert Counter(map(_key_of_line, told.lines)) == told.counters


def test_spans_and_counters_agree(told: Told) -> None:
    """One span for each request that tells its end, and one for each attempt that another one followed."""
    assert len(told.spans) == sum(line["attempts"] or 1 for line in told.lines)
    assert Counter(map(_key_of_span, _last_spans(told.spans).values())) == told.counters


def test_duration_samples_and_counters_agree(told: Told) -> None:
    """One sample of the histograms for each request."""
    expected: Counter[tuple[str, str, str]] = Counter()
    for (direction, route, _, code, _), count in told.counters.items():
        expected[direction, route, code] += count
    assert told.durations == expected


def test_each_line_has_its_span(told: Told) -> None:
    """The same trace, status, flag, route, upstream and, where there was one attempt, duration."""
    lines = {line["trace_id"]: line for line in told.lines}
    spans = _last_spans(told.spans)
    assert len(lines) == len(told.lines)
    assert lines.keys() == spans.keys()
    for trace_id, line in lines.items():
        span = spans[trace_id]
        assert _key_of_line(line) == _key_of_span(span)
        if line["attempts"] > 1:
            continue  # the last attempt's span begins with the last attempt
        duration_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert line["duration"] == pytest.approx(duration_ms, abs=0.002)


def test_bytes_in_the_log_and_in_the_counters_agree(told: Told) -> None:
    """Octets of bodies, both ways, by direction, route and upstream."""
    expected: Counter[tuple[str, str, str, str]] = Counter()
    for line in told.lines:
        direction, route, upstream, _, _ = _key_of_line(line)
        expected["request", direction, route, upstream] += line["bytes_received"]
        expected["response", direction, route, upstream] += line["bytes_sent"]
    assert +told.bytes_of == +expected


def test_what_clients_saw_is_what_was_told(told: Told) -> None:
    """Each answer that a client read whole is one line with that status, found by the client's own request id."""
    by_id = Counter(line["request_id"] for line in told.lines)
    status = {line["request_id"]: line["response_code"] for line in told.lines}
    assert len(told.answered) > 300
    for name, code in told.answered.items():
        assert by_id[name] == 1, name
        assert status[name] == code, name
