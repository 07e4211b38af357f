"""HTTP/1.1 over real sockets: connections, pipelines, heads, and what a proxy must and must not change of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.peers import require
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually
from tests.support.wire import Client, Upstream

# --- connections ---------------------------------------------------------------------------------------------------


def test_requests_of_one_client_share_one_connection_on_either_side(client: Client, upstream: Upstream) -> None:
    """Keep-alive on both sides: ten requests, one connection each way."""
    client.get("/0", host=upstream.authority)
    server = upstream.accept()
    server.serve(b"0")
    assert client.response().body == b"0"
    for number in range(1, 10):
        client.get(f"/{number}", host=upstream.authority)
        assert server.serve(str(number).encode()).target == f"/{number}"
        assert client.response().body == str(number).encode()
    assert not upstream.has_waiting()


def test_clients_share_pooled_connections(proxy: SidecarProcess, upstream: Upstream) -> None:
    """A connection that one client's request left clean serves another client's."""
    for number in range(5):
        with Client(proxy.outbound_port) as client:
            client.get(f"/{number}", host=upstream.authority)
            server = upstream.accept() if not upstream.accepted else upstream.accepted[0]
            server.serve()
            assert client.response().status == 200
    assert not upstream.has_waiting()


def test_requests_at_the_same_time_have_a_connection_each(proxy: SidecarProcess, upstream: Upstream) -> None:
    """An upstream is never sent a request before it has answered the one before."""
    with Client(proxy.outbound_port) as one, Client(proxy.outbound_port) as two:
        one.get("/one", host=upstream.authority)
        first = upstream.accept()
        assert first.request().target == "/one"
        two.get("/two", host=upstream.authority)
        second = upstream.accept()
        assert second.request().target == "/two"
        second.answer(b"two")
        assert two.response().body == b"two"
        first.answer(b"one")
        assert one.response().body == b"one"


def test_connection_close_of_either_side_is_that_sides_alone(proxy: SidecarProcess, upstream: Upstream) -> None:
    """`Connection` is hop-by-hop: a client's close leaves the upstream's connection pooled, and the other way round."""
    with Client(proxy.outbound_port) as client:
        client.get("/", host=upstream.authority, fields="Connection: close\r\n")
        server = upstream.accept()
        assert server.serve().get("connection") is None
        response = client.response()
        assert response.get("connection") == "close"
        assert client.is_ended()
    with Client(proxy.outbound_port) as client:
        client.get("/", host=upstream.authority)
        server.serve(fields="Connection: close\r\n")
        assert client.response().get("connection") is None
        assert server.is_ended()
        client.get("/", host=upstream.authority)
        upstream.accept().serve(b"new")
        assert client.response().body == b"new"


def test_a_connection_that_the_upstream_closed_while_idle_is_not_reused(client: Client, upstream: Upstream) -> None:
    """The request goes over a new connection, also one that may not be sent twice."""
    for method in ("GET", "POST"):
        client.get("/", host=upstream.authority, method=method, body=b"x" if method == "POST" else b"")
        server = upstream.accept()
        server.serve()
        assert client.response().status == 200
        server.close()


def test_an_idempotent_request_survives_the_keep_alive_race(client: Client, upstream: Upstream) -> None:
    """A reused connection that dies before the first byte of the answer: the GET is sent once more, the POST is not."""
    client.get("/", host=upstream.authority)
    server = upstream.accept()
    server.serve()
    assert client.response().status == 200
    client.get("/again", host=upstream.authority)
    assert server.request().target == "/again"
    server.close()
    again = upstream.accept()
    again.serve(b"second try")
    assert client.response().body == b"second try"
    client.get("/once", host=upstream.authority, method="POST", body=b"x")
    assert again.request().target == "/once"
    again.close()
    assert client.response().status == 503
    assert not upstream.has_waiting()


def test_pooled_connections_end_after_the_idle_timeout(tmp_path: Path, upstream: Upstream) -> None:
    """`upstreams.*.idle_timeout`."""
    text = f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{web: {{endpoints: ["{upstream.authority}"], idle_timeout: 200ms}}}}
    """
    with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.outbound_port) as client:
        client.get("/", host="web")
        server = upstream.accept()
        server.serve()
        assert client.response().status == 200
        assert server.is_ended()
        eventually(lambda: sidecar.metric("sidecar_upstream_connections_idle", upstream="web") == 0, "an empty pool")


# --- pipelines -----------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(client: Client, upstream: Upstream) -> None:
    """Fifty requests in one write, bodies among them, answered one after the other."""
    batch = b""
    for number in range(50):
        body = b"b" * number
        batch += f"POST /{number} HTTP/1.1\r\nHost: {upstream.authority}\r\nContent-Length: {number}\r\n\r\n".encode()
        batch += body
    client.send(batch)
    server = upstream.accept()
    for number in range(50):
        request = server.serve(f"answer {number}".encode())
        assert (request.target, request.body) == (f"/{number}", b"b" * number)
    for number in range(50):
        assert client.response().body == f"answer {number}".encode()
    assert not upstream.has_waiting()


def test_pipelined_requests_to_several_upstreams_are_answered_in_order(client: Client, upstream: Upstream) -> None:
    """The second waits for the first though its server is quicker."""
    with Upstream() as other:
        client.send(
            f"GET /1 HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode(),
            f"GET /2 HTTP/1.1\r\nHost: {other.authority}\r\n\r\n".encode(),
            b"GET /3 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
        )
        upstream.accept().serve(b"first")
        other.accept().serve(b"second")
        assert [client.response().body for _ in range(2)] == [b"first", b"second"]
        assert client.response().status == 503


def test_a_bad_request_in_a_pipeline_is_refused_behind_the_answers_before_it(
    client: Client, upstream: Upstream
) -> None:
    """The good one is answered, the bad one refused, what follows ignored."""
    good = f"GET /good HTTP/1.1\r\nHost: {upstream.authority}\r\n\r\n".encode()
    client.send(good, b"GET /bad HTTP/1.1\r\nHost : x\r\n\r\n", good)
    upstream.accept().serve(b"good")
    assert client.response().body == b"good"
    assert client.response().status == 400
    assert client.is_ended()
    assert not upstream.has_waiting()


# --- heads ---------------------------------------------------------------------------------------------------------


def test_hop_by_hop_fields_stay_and_the_rest_goes_byte_for_byte(client: Client, upstream: Upstream) -> None:
    """RFC 9110, 7.6.1: also what `Connection` names."""
    client.get(
        "/",
        host=upstream.authority,
        fields="Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n"
        "Proxy-Authorization: secret\r\nX-MiXed:  two  words \r\nX-Latin: \xe9\r\nX-Empty:\r\nX-MiXed: again\r\n",
    )
    server = upstream.accept()
    raw = server.read_until(b"\r\n\r\n")
    for name in (b"x-private", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"\r\nconnection"):
        assert name not in raw.lower()
    position = [
        raw.index(line) for line in (b"X-MiXed:  two  words", b"X-Latin: \xe9\r\n", b"X-Empty:", b"X-MiXed: again")
    ]
    assert position == sorted(position)
    assert raw.lower().count(b"via: 1.1 sidecar\r\n") == 1
    server.answer(
        fields="Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
    )
    response = client.response()
    names = [name for name, _ in response.fields]
    assert "x-hop" not in names
    assert "keep-alive" not in names
    assert [value for name, value in response.fields if name == "set-cookie"] == ["a=1", "b=2"]
    assert response.get("via") == "1.1 sidecar"


def test_what_was_matched_is_what_is_sent(client: Client, upstream: Upstream) -> None:
    """The path goes on in normal form, the query as it came."""
    client.get("/a/%7Eb/../c%2f//d/./?q=%7E&x=../", host=upstream.authority)
    assert upstream.accept().serve().target == "/a/c%2F//d/?q=%7E&x=../"
    assert client.response().status == 200


def test_inbound_appends_the_client_and_keeps_what_others_said(tmp_path: Path, upstream: Upstream) -> None:
    """`x-forwarded-for`, `x-forwarded-proto`, `x-request-id`."""
    text = f"""
        service: x
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "{upstream.authority}"}}
    """
    with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.inbound_port) as client:
        client.get("/", host="app.example")
        server = upstream.accept()
        request = server.serve()
        assert request.get("x-forwarded-for") == "127.0.0.1"
        assert request.get("x-forwarded-proto") == "http"
        assert request.get("host") == "app.example"
        assert request.get("x-request-id")
        client.response()
        fields = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\n"
        client.get("/", host="app.example", fields=fields)
        request = server.serve()
        assert request.get("x-forwarded-for") == "9.9.9.9, 127.0.0.1"
        assert request.get("x-forwarded-proto") == "https"
        assert request.get("x-request-id") == "mine"


# --- no body -------------------------------------------------------------------------------------------------------


def test_responses_without_a_body_do_not_hold_the_connection(client: Client, upstream: Upstream) -> None:
    """HEAD with a length or chunked, 204, 304 with a length: the next response follows at once."""
    cases = [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "content-length", "1000"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "x", None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", "content-length", None),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: "x"\r\n\r\n', "etag", '"x"'),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "content-length", "0"),
        ("POST", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", "content-length", "0"),
    ]
    server = None
    for method, answer, name, value in cases:
        client.get("/", host=upstream.authority, method=method)
        server = server or upstream.accept()
        assert server.request().method == method
        server.send(answer)
        assert client.response(method).get(name) == value
    client.get("/last", host=upstream.authority)
    assert server is not None
    server.serve(b"still in step")
    assert client.response().body == b"still in step"
    assert not upstream.has_waiting()


# --- 1xx -----------------------------------------------------------------------------------------------------------


def test_100_continue_and_103_pass_through(client: Client, upstream: Upstream) -> None:
    """The client's body follows the upstream's 100, not ours."""
    client.send(
        f"POST / HTTP/1.1\r\nHost: {upstream.authority}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n".encode()
    )
    server = upstream.accept()
    assert server.head().get("expect") == "100-continue"
    server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.response().status == 100
    client.send(b"body")
    assert server.read_exactly(4) == b"body"
    server.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    hint = client.response()
    assert (hint.status, hint.get("link")) == (103, "</a>")
    assert client.response().body == b"ok"


def test_an_answer_in_place_of_100_ends_the_connection(client: Client, upstream: Upstream) -> None:
    """Nobody can know whether the body still comes, so what follows is never read as a request."""
    client.send(
        f"POST / HTTP/1.1\r\nHost: {upstream.authority}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n".encode()
    )
    server = upstream.accept()
    server.head()
    server.answer(b"no", status="417 Expectation Failed")
    response = client.response()
    assert (response.status, response.get("connection")) == (417, "close")
    assert client.is_ended()


def test_curl_sends_its_body_after_100(proxy: SidecarProcess, upstream: Upstream, tmp_path: Path) -> None:
    """The real client."""
    (tmp_path / "body").write_bytes(b"z" * 5000)
    command = [require("curl"), "-sS", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "-m", "30"]
    command += ["--data-binary", f"@{tmp_path}/body", "-x", f"http://127.0.0.1:{proxy.outbound_port}"]
    process = subprocess.Popen([*command, f"http://{upstream.authority}/up"], stdout=subprocess.PIPE)
    server = upstream.accept()
    head = server.head()
    assert head.get("expect") == "100-continue"
    server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert server.read_exactly(5000) == b"z" * 5000
    server.answer(b"got it")
    assert process.communicate(timeout=30)[0] == b"got it"


def test_clients_of_http_1_0_get_no_1xx(client: Client, upstream: Upstream) -> None:
    """RFC 9110, 15.2."""
    client.send(f"GET / HTTP/1.0\r\nHost: {upstream.authority}\r\n\r\n".encode())
    server = upstream.accept()
    server.request()
    server.send(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.response().status == 200


# --- HTTP/1.0 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [False, True])
def test_http_1_0_clients_are_served(client: Client, upstream: Upstream, keeps: bool) -> None:
    """The upstream gets HTTP/1.1; the connection lives only with `Connection: keep-alive`, which is answered."""
    wish = "Connection: Keep-Alive\r\n" if keeps else ""
    client.send(f"GET / HTTP/1.0\r\nHost: {upstream.authority}\r\n{wish}\r\n".encode())
    server = upstream.accept()
    assert server.serve(b"one").start == "GET / HTTP/1.1"
    response = client.response()
    assert response.body == b"one"
    assert (response.get("connection") or "").lower() == ("keep-alive" if keeps else "close")
    if not keeps:
        assert client.is_ended()
        return
    client.send(f"GET / HTTP/1.0\r\nHost: {upstream.authority}\r\nConnection: keep-alive\r\n\r\n".encode())
    server.request()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\nX-Trailer: 1\r\n\r\n")
    response = client.response()
    assert response.get("transfer-encoding") is None
    assert response.body == b"two"


def test_a_server_of_http_1_0_is_understood(client: Client, upstream: Upstream) -> None:
    """Its response ends with its connection and reaches an HTTP/1.1 client in chunks."""
    client.get("/", host=upstream.authority)
    server = upstream.accept()
    server.request()
    server.send(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nold", b" bytes")
    server.close()
    response = client.response()
    assert response.start == "HTTP/1.1 200 OK"
    assert (response.get("transfer-encoding"), response.body) == ("chunked", b"old bytes")
    client.get("/", host=upstream.authority)
    upstream.accept().serve(b"next")
    assert client.response().body == b"next"
