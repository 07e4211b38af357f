"""Several endpoints of an upstream, and endpoints that cannot be reached or take too long."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel import held_octets
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, refusing_port
from tests.support.wire import Client, CutError, Stream, Upstream


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


@pytest.fixture(scope="module")
def three() -> Iterator[list[Origin]]:
    """Three servers that say which they are."""
    with Origin("a") as a, Origin("b") as b, Origin("c") as c:
        yield [a, b, c]


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, three: list[Origin]) -> Iterator[SidecarProcess]:
    """An upstream for each policy over the same three endpoints, the last with weight 2 where weights count."""
    addresses = [f"127.0.0.1:{origin.port}" for origin in three]
    plain = ", ".join(f'"{address}"' for address in addresses)
    heavy = f'"{addresses[0]}", "{addresses[1]}", {{address: "{addresses[2]}", weight: 2}}'
    text = f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          turn: {{endpoints: [{plain}], load_balancing: round_robin}}
          turn-heavy: {{endpoints: [{heavy}], load_balancing: round_robin}}
          any: {{endpoints: [{plain}], load_balancing: random}}
          least: {{endpoints: [{plain}], load_balancing: least_request}}
          hashed: {{endpoints: [{plain}], load_balancing: {{hash: {{header: x-user}}}}}}
          all-dead: {{endpoints: ["127.0.0.1:{refusing_port()}", "127.0.0.1:{refusing_port()}"]}}
    """
    with running_sidecar(tmp_path_factory.mktemp("balanced"), text) as sidecar:
        yield sidecar


def test_each_policy_chooses_as_it_says(balanced: SidecarProcess) -> None:
    """In turn exactly; with weights as they say; at random all of them."""
    assert Counter(balanced.outbound("/", host="turn").text for _ in range(30)) == {"a": 10, "b": 10, "c": 10}
    assert Counter(balanced.outbound("/", host="turn-heavy").text for _ in range(40)) == {"a": 10, "b": 10, "c": 20}
    for host in ("any", "least"):
        assert {balanced.outbound("/", host=host).text for _ in range(60)} == {"a", "b", "c"}


def test_a_hashed_key_stays_with_its_endpoint(balanced: SidecarProcess) -> None:
    """Every user always reaches the same one, and users are spread."""
    reached = set()
    for user in range(30):
        answers = {balanced.outbound("/", host="hashed", headers={"X-User": f"u{user}"}).text for _ in range(3)}
        assert len(answers) == 1
        reached |= answers
    assert reached == {"a", "b", "c"}


def test_a_busy_endpoint_gets_fewer_requests(tmp_path: Path) -> None:
    """`least_request` of two: while one hangs in a request, every other goes to its neighbour."""
    with Origin("a") as one, Origin("b") as two:
        text = f"""
            service: x
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{least: {{endpoints: ["127.0.0.1:{one.port}", "127.0.0.1:{two.port}"]}}}}
        """
        with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.outbound_port) as hanging:
            hanging.get("/slow", host="least")
            busy = eventually(lambda: next((o for o in (one, two) if o.entered.is_set()), None), "the slow request")
            idle = two if busy is one else one
            assert {sidecar.outbound("/", host="least").text for _ in range(20)} == {idle.name}
            busy.release()
            assert hanging.response().status == 200
            assert {sidecar.outbound("/", host="least").text for _ in range(40)} == {"a", "b"}


@pytest.mark.parametrize("policy", ["round_robin", "random", "least_request", "{hash: {header: x-user}}"])
def test_a_dead_endpoint_costs_no_request(tmp_path: Path, three: list[Origin], policy: str) -> None:
    """Where no connection can be made another endpoint is tried, whatever the policy and the method."""
    text = f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams:
          half: {{endpoints: ["127.0.0.1:{three[0].port}", "127.0.0.1:{refusing_port()}"], load_balancing: {policy}}}
    """
    with running_sidecar(tmp_path, text) as sidecar:
        for number in range(200):
            user = {"X-User": f"user {number}"}
            response = sidecar.outbound("/", host="half", method="POST", body=b"x" * 1000, headers=user)
            assert (response.status, response.text) == (200, "a"), number
        attempts = {row["attempts"] for row in sidecar.wait_for_log_lines(200)}
        assert 2 in attempts
        assert attempts <= {1, 2}


def test_where_all_are_dead_the_answer_says_which_was_tried(balanced: SidecarProcess) -> None:
    """503 `UF` with the endpoint and the number of attempts."""
    response = balanced.outbound("/", host="all-dead")
    said = response.json()
    assert (response.status, said["flag"], said["attempt"]) == (503, "UF", 2)
    assert said["endpoint"].startswith("127.0.0.1:")
    assert "connection_refused" in response.headers["proxy-status"]


# --- too long ------------------------------------------------------------------------------------------------------


def test_connecting_takes_no_longer_than_the_connect_timeout(tmp_path: Path) -> None:
    """503 `UF`, reason `connect_timeout`; also while a large body is waiting to be sent, which is not taken whole."""
    with black_hole() as port:
        text = f"""
            service: x
            outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
            upstreams: {{hole: {{endpoints: ["127.0.0.1:{port}"], connect_timeout: 300ms}}}}
        """
        with running_sidecar(tmp_path, text) as sidecar:
            began = time.monotonic()
            response = sidecar.outbound("/", host="hole")
            assert (response.status, response.json()["error"]) == (503, "connect_timeout")
            assert 0.25 < time.monotonic() - began < 4
            with Client(sidecar.outbound_port) as client:
                size = held_octets() + (32 << 20)
                client.send(f"POST /big HTTP/1.1\r\nHost: hole\r\nContent-Length: {size}\r\n\r\n".encode())
                client.sock.settimeout(0.1)
                taken = 0
                with contextlib.suppress(TimeoutError):
                    while taken < size:
                        taken += client.sock.send(b"x" * 65536)
                assert taken < held_octets()
                client.sock.settimeout(15)
                assert client.response().status == 503
            assert sidecar.metric("sidecar_upstream_connect_failures_total", upstream="hole", reason="timeout") == 2


def drip(server: Stream, client: Client, count: int) -> None:
    """Send octet by octet, each once the one before has arrived."""
    for _ in range(count):
        with contextlib.suppress(OSError):
            server.send(b"x")
        client.read_exactly(1)


def test_a_routes_timeout_ends_the_exchange_wherever_it_is(tmp_path: Path, upstream: Upstream) -> None:
    """504 before the response, a cut in the middle of it, though bytes still move; the connection is freed."""
    text = f"""
        service: x
        outbound:
          listen: "127.0.0.1:${{OUTBOUND_PORT}}"
          routes: [{{name: hurried, to: web, timeout: 1s}}]
        upstreams: {{web: {{endpoints: ["{upstream.authority}"]}}}}
    """
    with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.outbound_port) as client:
        began = time.monotonic()
        client.get("/silent", host="web")
        server = upstream.accept()
        response = client.response()
        assert (response.status, json.loads(response.body)["flag"]) == (504, "UT")
        assert 0.9 < time.monotonic() - began < 10
        server.request()
        assert server.is_ended()

        client.get("/drip", host="web")
        server = upstream.accept()
        server.request()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        client.head()
        with pytest.raises(CutError):
            drip(server, client, 1_000_000)
        lines = sidecar.wait_for_log_lines(2)
        assert [(row["response_code"], row["response_flags"]) for row in lines] == [(504, "UT"), (200, "UT")]


def test_an_upstream_that_stops_in_its_response_is_cut(tmp_path: Path, upstream: Upstream) -> None:
    """`limits.idle_timeout`, flag `UT`."""
    text = f"""
        service: x
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{web: {{endpoints: ["{upstream.authority}"]}}}}
        limits: {{idle_timeout: 1s}}
    """
    with running_sidecar(tmp_path, text) as sidecar, Client(sidecar.outbound_port) as client:
        client.get("/stops", host="web")
        server = upstream.accept()
        server.request()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        client.head()
        with pytest.raises(CutError) as cut:
            client.read_exactly(10)
        assert cut.value.received == b"12345"
        assert server.is_ended()
        (line,) = sidecar.wait_for_log_lines(1)
        assert (line["response_flags"], line["response_code_details"]) == ("UT", "response_stalled")
