"""Each row of the table of reasons, provoked through a real sidecar: client, log and table say the same."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import REASONS, Reason
from sidecar.http2 import frames
from sidecar.http2.codes import Code
from tests.integration import test_tls_reasons
from tests.support.http2 import HELLO, SETTINGS, headers
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port
from tests.support.wire import Client, CutError, Message, ServerConnection, Upstream

MAX_CONNECTIONS = 12
HAND = "127.0.0.1:${HAND_PORT}"
TEXT = f"""
    service: storefront
    inbound:
      listen: "127.0.0.1:${{INBOUND_PORT}}"
      routes: [{{match: {{path: {{exact: /only}}}}, respond: {{status: 200}}}}]
      authorization: {{default: allow, rules: [{{name: no, deny: {{path: /forbidden}}}}]}}
    outbound:
      listen: "127.0.0.1:${{OUTBOUND_PORT}}"
      routes:
        - {{match: {{host: rewritten}}, to: hand, rewrite: {{regex: {{pattern: "/to/(.*)", substitution: '\\1'}}}}}}
        - {{match: {{host: brief}}, to: hand, timeout: 300ms}}
        - {{match: {{host: impatient}}, to: hand, retry: {{on: [connect_failure], per_try_timeout: 300ms}}}}
        - {{match: {{host: limited}}, to: hand, rate_limit: {{requests: 1, per: 60s}}}}
        - {{match: {{host: hurt}}, to: hand, fault: {{abort: {{status: 503}}}}}}
    upstreams:
      hand: {{endpoints: ["{HAND}"]}}
      nowhere: {{dns: "nowhere.invalid:80"}}
      few: {{endpoints: ["{HAND}"], circuit_breaker: {{max_requests: 1}}}}
      narrow: {{endpoints: ["{HAND}"], circuit_breaker: {{max_connections: 1, pending_timeout: 200ms}}}}
      closed: {{endpoints: ["127.0.0.1:${{CLOSED_PORT}}"]}}
      silent: {{endpoints: ["127.0.0.1:${{SILENT_PORT}}"], connect_timeout: 300ms}}
    limits: {{header_timeout: 500ms, idle_timeout: 1s, client_idle_timeout: 1m, max_header_bytes: 4KiB, max_headers: 20,
              max_connections: {MAX_CONNECTIONS}}}
    drain: {{timeout: 500ms}}
"""


@dataclass
class Place:
    """
    A sidecar, a server that the test plays, and what to close afterwards.

    Attributes:
        stack: Closed when the test is over.
        number: Of the last request, which is its path.
    """

    sidecar: SidecarProcess
    hand: Upstream
    stack: contextlib.ExitStack
    number: int = 0

    def client(self, receive_buffer: int | None = None) -> Client:
        """A connection to the outbound listener."""
        return self._kept(Client(self.sidecar.outbound_port, receive_buffer))

    def inbound(self) -> Client:
        """A connection to the inbound listener."""
        return self._kept(Client(self.sidecar.inbound_port))

    def _kept(self, client: Client) -> Client:
        def reset() -> None:
            with contextlib.suppress(OSError):
                client.reset()

        self.stack.callback(reset)  # so that what it waits for ends at once
        return client

    def ask(self, host: str = "hand", receive_buffer: int | None = None) -> Client:
        """A client that has sent a GET."""
        self.number += 1
        client = self.client(receive_buffer)
        client.get(f"/{self.number}", host=host)
        return client

    def serve(self, host: str = "hand", receive_buffer: int | None = None) -> tuple[Client, ServerConnection]:
        """A client, and the server's end of its exchange, which has the request."""
        client = self.ask(host, receive_buffer)
        while True:
            server = self.hand.accept()
            with contextlib.suppress(CutError):  # of a test before
                if server.request().target == f"/{self.number}":
                    return client, server


Provoke = Callable[[Place], Message | None]
PROVOKED: dict[str, Provoke] = {}


def provokes(function: Provoke) -> Provoke:
    """Adds a function to the table under its own name."""
    PROVOKED[function.__name__] = function
    return function


def sent(place: Place, data: bytes) -> Message:
    """The answer to these bytes."""
    client = place.client()
    client.send(data)
    return client.response()


# --- what the client did -------------------------------------------------------------------------------------


@provokes
def bad_request(place: Place) -> Message:
    """A space before the colon."""
    return sent(place, b"GET / HTTP/1.1\r\nHost: hand\r\nBad : x\r\n\r\n")


@provokes
def bad_request_body(place: Place) -> Message:
    """A chunk without a size."""
    return sent(place, b"POST / HTTP/1.1\r\nHost: hand\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")


@provokes
def bad_frames(place: Place) -> None:
    """A stream of a number that is a server's to open."""
    place.client().send(HELLO + headers(2))


@provokes
def client_too_much(place: Place) -> None:
    """A thousand pings and some more."""
    place.client().send(HELLO + 1100 * frames.ping(bytes(8), is_ack=False))


@provokes
def stream_refused(place: Place) -> None:
    """A server of gRPC that says goodbye before it looks at anything, and once more to the retry."""
    kind = b"Content-Type: application/grpc\r\nContent-Length: 0\r\n"
    place.client().send(b"POST /shop.Shop/Buy HTTP/1.1\r\nHost: hand\r\n" + kind + b"\r\n")
    for _ in range(2):
        place.hand.accept().send(SETTINGS + frames.goaway(0, Code.NO_ERROR))


@provokes
def target_too_long(place: Place) -> Message:
    """A request line beyond the limit of a head."""
    return sent(place, b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n")


@provokes
def head_too_large(place: Place) -> Message:
    """Too many fields."""
    return sent(place, b"GET / HTTP/1.1\r\nHost: hand\r\n" + b"X: y\r\n" * 30 + b"\r\n")


@provokes
def head_timeout(place: Place) -> Message:
    """Half a head."""
    return sent(place, b"GET / HTTP/1.1\r\nHost")


@provokes
def body_timeout(place: Place) -> Message:
    """Half a body."""
    return sent(place, b"POST / HTTP/1.1\r\nHost: hand\r\nContent-Length: 10\r\n\r\nhalf")


@provokes
def unsupported_version(place: Place) -> Message:
    """A version of the future."""
    return sent(place, b"GET / HTTP/3.0\r\nHost: hand\r\n\r\n")


@provokes
def unsupported_coding(place: Place) -> Message:
    """A transfer coding that nobody sends."""
    return sent(place, b"POST / HTTP/1.1\r\nHost: hand\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")


@provokes
def client_left(place: Place) -> None:
    """A reset while the upstream thinks."""
    client, _ = place.serve()
    client.reset()


@provokes
def client_stalled(place: Place) -> None:
    """A client that does not read more than anybody could keep for it."""
    _, server = place.serve(receive_buffer=4096)
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.sock.settimeout(0.2)
    with contextlib.suppress(OSError):
        while True:
            server.send(b"10000\r\n%b\r\n" % (b"x" * 65536))
    server.sock.settimeout(15)


@provokes
def loop(place: Place) -> Message:
    """A request that has been here before, and again, and again."""
    place_of = b", ".join([b"1.1 sidecar"] * 70)
    return sent(place, b"GET / HTTP/1.1\r\nHost: hand\r\nVia: " + place_of + b"\r\n\r\n")


@provokes
def connect_not_allowed(place: Place) -> Message:
    """CONNECT to the app's side."""
    client = place.inbound()
    client.send(b"CONNECT hand:80 HTTP/1.1\r\nHost: hand:80\r\n\r\n")
    return client.response()


# --- what the proxy decided ------------------------------------------------------------------------------------


@provokes
def no_route(place: Place) -> Message:
    """A name that the file does not have."""
    return place.ask("unheard-of").response()


@provokes
def authorization_denied(place: Place) -> Message:
    """A rule denies it."""
    client = place.inbound()
    client.get("/forbidden", host="x")
    return client.response()


@provokes
def no_app(place: Place) -> Message:
    """No route matches, and there is no app."""
    client = place.inbound()
    client.get("/other", host="x")
    return client.response()


@provokes
def local_exhaustion(place: Place) -> Message:
    """No descriptor is left for a connection to the server."""
    client = place.client()
    client.get("/first", host="nobody.test")
    assert client.response().status == 404  # it is in
    assert place.sidecar.process is not None
    pid = place.sidecar.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        place.number += 1
        client.get(f"/{place.number}", host="closed")
        return client.response()
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@provokes
def no_endpoint(place: Place) -> Message:
    """A name that DNS does not know."""
    return place.ask("nowhere").response()


@provokes
def overloaded(place: Place) -> Message:
    """One connection more than `limits.max_connections`."""

    def active() -> float:
        return place.sidecar.metric("sidecar_downstream_connections_active")

    eventually(lambda: active() == 0, "those of the test before to be gone")
    for _ in range(MAX_CONNECTIONS):
        place.client()
    eventually(lambda: active() == MAX_CONNECTIONS, "all to be accepted")
    return place.client().response()


@provokes
def upstream_overloaded(place: Place) -> Message:
    """One request more than `max_requests`."""
    place.serve("few")
    return place.ask("few").response()


@provokes
def pending_timeout(place: Place) -> Message:
    """The only connection is in use."""
    place.serve("narrow")
    return place.ask("narrow").response()


@provokes
def rate_limited(place: Place) -> Message:
    """The second in a minute."""
    client, server = place.serve("limited")
    server.answer(fields="Connection: close\r\n")
    client.response()
    client.get("/", host="limited")
    return client.response()


@provokes
def fault_injected(place: Place) -> Message:
    """On purpose."""
    return place.ask("hurt").response()


@provokes
def rewrite_invalid(place: Place) -> Message:
    """What the client sent becomes, by the file's pattern, a path that is none."""
    client = place.client()
    client.get("/to/nothing-with-a-slash", host="rewritten")
    return client.response()


@provokes
def draining(place: Place) -> None:
    """An exchange that is still running when the drain is over."""
    place.serve()
    place.sidecar.stop()


# --- what the server did ---------------------------------------------------------------------------------------


@provokes
def connect_failed(place: Place) -> Message:
    """Nobody listens."""
    return place.ask("closed").response()


@provokes
def connect_timeout(place: Place) -> Message:
    """A port whose queue is full."""
    return place.ask("silent").response()


@provokes
def upstream_closed(place: Place) -> Message:
    """A close before the answer."""
    client, server = place.serve()
    server.close()
    return client.response()


@provokes
def upstream_reset(place: Place) -> Message:
    """A reset before the answer."""
    client, server = place.serve()
    server.reset()
    return client.response()


@provokes
def response_cut(place: Place) -> None:
    """Half an answer."""
    client, server = place.serve()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    server.close()
    with pytest.raises(CutError):
        client.response()


@provokes
def response_timeout(place: Place) -> Message:
    """No answer in the route's time."""
    client, _ = place.serve("brief")
    return client.response()


@provokes
def try_timeout(place: Place) -> Message:
    """No answer in the time of a try."""
    client, _ = place.serve("impatient")
    return client.response()


@provokes
def response_stalled(place: Place) -> None:
    """An answer that stops."""
    client, server = place.serve()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    with pytest.raises(CutError):
        client.response()


@provokes
def bad_response(place: Place) -> Message:
    """No HTTP."""
    client, server = place.serve()
    server.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    return client.response()


@provokes
def response_head_too_large(place: Place) -> Message:
    """Too many fields."""
    client, server = place.serve()
    server.send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30 + b"\r\n")
    return client.response()


@provokes
def bad_response_body(place: Place) -> None:
    """A chunk without a size, behind a good one."""
    client, server = place.serve()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    client.read_until(b"hello")
    server.send(b"nonsense\r\n")
    with pytest.raises(CutError):
        client.read_until(b"0\r\n\r\n")


# --- the table -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose connections are never made: its queue is full, so the kernel drops what asks to come in."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


@contextlib.contextmanager
def a_place(directory: Path) -> Iterator[Place]:
    """Everything that a reason needs."""
    with Upstream() as hand, black_hole() as silent, contextlib.ExitStack() as stack:
        env = {"HAND_PORT": str(hand.port), "CLOSED_PORT": str(free_port()), "SILENT_PORT": str(silent)}
        with running_sidecar(directory, TEXT, env=env) as sidecar:
            yield Place(sidecar, hand, stack)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One place for all that leave it as it was."""
    with a_place(tmp_path_factory.mktemp("reasons")) as place:
        yield place


ELSEWHERE = {"internal", "resolve_failed", "resolve_timeout", "resolve_overloaded"}
"""A way to `internal` from outside would be a bug; names take a name server of their own, in `test_names`."""


def test_each_row_is_provoked_here() -> None:
    """All but those that cannot be, or are elsewhere."""
    assert {reason.name for reason in REASONS} == PROVOKED.keys() | ELSEWHERE | test_tls_reasons.PROVOKED


def lines_of(place: Place, reason: Reason) -> list[dict[str, Any]]:
    """The access-log lines of a reason."""
    return [row for row in place.sidecar.access_log() if row["response_code_details"] == reason.name]


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason.name in PROVOKED], ids=lambda row: row.name)
def test_a_reason_as_the_client_and_the_log_hear_it(shared: Place, tmp_path: Path, reason: Reason) -> None:
    """Status, `Proxy-Status` and JSON, where an answer can be sent; flag and name in the one log line, always."""
    with contextlib.ExitStack() as stack:
        place = shared if reason.name != "draining" else stack.enter_context(a_place(tmp_path))
        place.stack = stack.enter_context(contextlib.ExitStack())
        before = len(lines_of(place, reason))
        response = PROVOKED[reason.name](place)
        (line,) = eventually(lambda: lines_of(place, reason)[before:], f"the log line of {reason.name}")
        assert line["response_flags"] == reason.flag
        if response is not None:
            assert response.status == line["response_code"] == reason.status
            assert response.get("proxy-status") == f'sidecar; error={reason.proxy_error}; details="{reason.name}"'
            said = json.loads(response.body)
            assert (said["error"], said["status"], said["flag"]) == (reason.name, reason.status, reason.flag)
            assert (said["source"], said["phase"]) == (reason.source.value, reason.phase.value)
            assert said["look_at"] == reason.hint
            has_retry_after = reason.name in ("rate_limited", "upstream_overloaded", "pending_timeout")
            assert (response.get("retry-after") is not None) == has_retry_after
        else:
            assert line["response_code"] in (200, reason.status)
