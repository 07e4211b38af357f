"""What is no HTTP, through a sidecar, over connections that the kernel leads to it: octet for octet."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from pathlib import Path

import pytest

from sidecar.http2.codes import PREFACE
from sidecar.proxy.client.detecting import WAIT_S
from tests.support.captured import APP, CapturingSidecar, app, capturing, get, server
from tests.support.certificates import Authority
from tests.support.http2 import GET, HELLO, OK, SETTINGS, SETTINGS_ACK, headers
from tests.support.namespaces import Host, hosts
from tests.support.peers import require
from tests.support.streams import PATIENCE_S, echo, greets, read_all
from tests.support.wait import eventually

WAITED_S = WAIT_S + 0.2
"""Longer than a client may say nothing before its server is asked."""
FILE = """
service: storefront
inbound: {app: "127.0.0.1:8080"}
capture: {ports: {7000: auto}}
"""


def dials(host: Host, to: str, port: int) -> socket.socket:
    made = host.do(lambda: socket.create_connection((to, port), PATIENCE_S), APP)
    made.settimeout(PATIENCE_S)
    return made


def detected(sidecar: CapturingSidecar, **labels: str) -> float:
    return sidecar.metric("sidecar_detected_connections_total", **labels)


def test_client_that_speaks_first_is_carried_to_where_it_was_meant_to_go_without_a_wait(tmp_path: Path) -> None:
    """Split over packets, with half-closes; counted and told as what it is."""
    with hosts(2) as (here, there), server(there, 7000, echo), capturing(here, tmp_path, FILE) as sidecar:
        for to in (there.v4, there.v6):
            with dials(here, to, 7000) as client:
                for octet in b"\x00\x01binary":
                    client.sendall(bytes((octet,)))
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"\x00\x01binary"
        lines = sidecar.wait_for_log_lines(2)
        assert [line["protocol"] for line in lines] == ["tcp", "tcp"]
        assert [line["upstream_host"] for line in lines] == [f"{there.v4}:7000", f"[{there.v6}]:7000"]
        assert [(line["bytes_received"], line["bytes_sent"], line["response_flags"]) for line in lines] == [
            (8, 8, "-")
        ] * 2
        assert detected(sidecar, protocol="tcp", waited="false") == 2
        names = {"direction": "outbound", "upstream": "passthrough", "protocol": "tcp"}
        assert sidecar.metric("sidecar_tcp_connections_closed_total", flag="-", **names) == 2
        assert sidecar.metric("sidecar_tcp_received_bytes_total", **names) == 16
        assert sidecar.metric("sidecar_tcp_connections_active") == 0
        assert sidecar.metric("sidecar_requests_total") == 0


def test_server_that_speaks_first_is_waited_for_once(tmp_path: Path) -> None:
    """And never at ports whose protocols are known to be of that kind."""
    with (
        hosts(2) as (here, there),
        server(there, 7000, greets),
        server(there, 25, greets),
        capturing(here, tmp_path, FILE) as sidecar,
    ):
        for port, waits in ((25, 0), (7000, 1), (7000, 1)):
            with dials(here, there.v4, port) as client:
                assert client.recv(100) == b"220 ready\r\n"
                client.sendall(b"GET lost\r\n")
                assert client.recv(100) == b"GET lost\r\n"
            assert detected(sidecar, protocol="tcp", waited="true") <= 2
            assert (detected(sidecar, waited="true") > 0) == bool(waits)


def test_client_of_http_that_connects_long_before_it_asks_is_still_one(tmp_path: Path) -> None:
    """The wait is over, and the server dialled that says nothing: what the client says then decides."""
    text = FILE + 'outbound: {}\nupstreams: {recommendations: {endpoints: ["198.51.100.2:9000"]}}\n'
    with (
        hosts(2) as (here, there),
        app(there, 9000, "nine"),
        app(there, 80, "eighty"),
        capturing(here, tmp_path, text) as sidecar,
        dials(here, there.v4, 80) as client,
    ):
        eventually(lambda: detected(sidecar, protocol="tcp", waited="true") == 1, "the wait to be over")
        client.sendall(b"GET /late HTTP/1.1\r\nHost: recommendations\r\nConnection: close\r\n\r\n")
        assert read_all(client).endswith(b"nine /late recommendations -")
        # Nobody takes the server for one that speaks first.
        assert get(here, there.v4, 80, headers={"Host": "recommendations"})[0] == 200
        assert detected(sidecar, protocol="http", waited="false") == 1


def test_silent_client_of_what_would_be_refused_is_not_refused_for_its_silence(tmp_path: Path) -> None:
    """With `unmatched: deny` a connection could go nowhere, but a request may."""
    text = """
    service: storefront
    outbound: {}
    capture: {unmatched: deny}
    upstreams: {recommendations: {endpoints: ["198.51.100.2:9000"]}}
    """
    with hosts(2) as (here, there), app(there, 9000, "nine"), capturing(here, tmp_path, text) as sidecar:
        with dials(here, there.v4, 80) as client:
            client.settimeout(WAITED_S)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(PATIENCE_S)
            client.sendall(b"GET /late HTTP/1.1\r\nHost: recommendations\r\nConnection: close\r\n\r\n")
            assert read_all(client).endswith(b"nine /late recommendations -")
        assert detected(sidecar, protocol="http", waited="true") == 1
        with dials(here, there.v4, 81) as client:
            client.sendall(b"\x00")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert sidecar.wait_for_log_lines(2)[1]["response_code_details"] == "no_route"


def test_tls_goes_by_as_it_is_and_is_routed_by_its_name(tmp_path: Path) -> None:
    """The sidecar decrypts nothing; who asks for an upstream's name gets that upstream."""
    authority = Authority("outside")
    authority.leaf(["api.example"]).write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    text = FILE + 'outbound: {}\nupstreams: {api: {hosts: ["api.example:443"], endpoints: ["198.51.100.2:9443"]}}\n'

    def serve(accepted: socket.socket) -> None:
        with context.wrap_socket(accepted, server_side=True) as secured:
            secured.sendall(secured.recv(100).upper())

    with (
        hosts(2) as (here, there),
        server(there, 9443, serve),
        server(there, 443, serve),
        capturing(here, tmp_path, text) as sidecar,
    ):
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        for name in ("api.example", "other.example"):
            trusting.check_hostname = name == "api.example"
            with trusting.wrap_socket(dials(here, there.v4, 443), server_hostname=name) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"HELLO"
        lines = sidecar.wait_for_log_lines(2)
        assert [line["protocol"] for line in lines] == ["tls", "tls"]
        assert [line["authority"] for line in lines] == ["api.example:443", "other.example:443"]
        assert [line["upstream_cluster"] for line in lines] == ["api", "passthrough"]


def test_connection_to_an_endpoint_of_an_upstream_is_that_upstreams(tmp_path: Path) -> None:
    """It is balanced and tried elsewhere: the endpoint that was dialled is down, and the other one serves."""
    text = """
    service: storefront
    outbound: {}
    capture: {}
    upstreams: {database: {endpoints: ["198.51.100.2:5432", "198.51.100.3:5432"], load_balancing: round_robin}}
    """
    with hosts(3) as (here, down, up), server(up, 5432, greets), capturing(here, tmp_path, text) as sidecar:
        for _ in range(4):
            with dials(here, down.v4, 5432) as client:
                assert client.recv(100) == b"220 ready\r\n"
        lines = sidecar.wait_for_log_lines(4)
        assert {(line["upstream_cluster"], line["upstream_host"]) for line in lines} == {("database", f"{up.v4}:5432")}
        assert sidecar.metric("sidecar_upstream_connect_failures_total", upstream="database") >= 1


def test_nobody_there_is_told_to_the_client_by_a_reset(tmp_path: Path) -> None:
    """And to us by its reason."""
    with hosts(2) as (here, there), capturing(here, tmp_path, FILE) as sidecar:
        with pytest.raises(ConnectionResetError), dials(here, there.v4, 5432) as client:
            client.recv(1)
        (line,) = sidecar.wait_for_log_lines(1)
        assert (line["response_flags"], line["response_code_details"]) == ("UF", "connect_failed")


def test_http2_is_requests_that_go_on_as_they_came(tmp_path: Path) -> None:
    """In any pieces: to where it was meant to go, by HTTP/2, and with a request's line."""
    seen: list[bytes] = []

    def serve(peer: socket.socket) -> None:
        seen.append(peer.recv(len(PREFACE), socket.MSG_WAITALL))
        peer.sendall(SETTINGS + SETTINGS_ACK + headers(1, OK))
        with contextlib.suppress(ConnectionError):
            read_all(peer)

    with hosts(2) as (here, there), server(there, 7000, serve), capturing(here, tmp_path, FILE) as sidecar:
        with dials(here, there.v4, 7000) as client:
            client.sendall(HELLO[:10])
            client.sendall(HELLO[10:] + headers(1))
            (line,) = sidecar.wait_for_log_lines(1)
        assert (line["protocol"], line["response_code"], line["authority"]) == ("HTTP/2", 200, "web:7000")
        assert seen == [PREFACE]
        assert detected(sidecar, protocol="http2") == 1


def test_request_for_a_proxy_that_the_app_knows_goes_to_that_proxy(tmp_path: Path) -> None:
    """As it is: only that one understands it."""
    with hosts(2) as (here, there), server(there, 3128, echo), capturing(here, tmp_path, FILE):
        for request in (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", b"GET http://example.com/ HTTP/1.1\r\n\r\n"):
            with dials(here, there.v4, 3128) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == request


class TestToTheApp:
    """Connections that come in."""

    def test_any_port_of_the_app_is_reached(self, tmp_path: Path) -> None:
        """With the client's address in the log."""
        with hosts(2) as (here, there), server(here, 5432, greets), capturing(here, tmp_path, FILE) as sidecar:
            with dials(there, here.v4, 5432) as client:
                assert client.recv(100) == b"220 ready\r\n"
            (line,) = sidecar.wait_for_log_lines(1)
            assert (line["direction"], line["upstream_host"]) == ("inbound", f"{here.v4}:5432")
            assert line["downstream_remote_address"].startswith(f"{there.v4}:")

    def test_rules_that_only_ask_who_it_is_are_kept(self, tmp_path: Path) -> None:
        """By the network that it comes from."""
        text = """
        service: storefront
        inbound:
          app: "127.0.0.1:8080"
          authorization: {default: deny, rules: [{name: near, allow: {from: {networks: "198.51.100.2/32"}}}]}
        capture: {}
        """
        with hosts(3) as (here, near, far), server(here, 5432, greets), capturing(here, tmp_path, text) as sidecar:
            with dials(near, here.v4, 5432) as client:
                assert client.recv(100) == b"220 ready\r\n"
            with pytest.raises(ConnectionResetError), dials(far, here.v4, 5432) as client:
                client.recv(1)
            lines = {line["response_code_details"]: line for line in sidecar.wait_for_log_lines(2)}
            assert lines["via_upstream"]["rule"] == "near"
            assert lines["authorization_denied"]["downstream_remote_address"].startswith(far.v4)

    def test_what_rules_for_requests_cannot_judge_does_not_go_by(self, tmp_path: Path) -> None:
        """Not one octet of it comes to the app: TLS, what nobody knows, a request by HTTP/2, and one as for a proxy."""
        text = """
        service: storefront
        inbound:
          app: "127.0.0.1:8080"
          authorization: {default: deny, rules: [{name: api, allow: {path: {prefix: /api}}}]}
        capture: {ports: {8080: auto}}
        """
        firsts = (
            HELLO + headers(1), b"\x16\x03\x01\x00\x02\x01\x00", b"\x00",
            b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        )  # fmt: skip
        seen: list[bytes] = []
        with (
            hosts(2) as (here, there),
            server(here, 8080, lambda accepted: seen.append(accepted.recv(100))),
            capturing(here, tmp_path, text) as sidecar,
        ):
            for count, first in enumerate(firsts, 1):
                with dials(there, here.v4, 8080) as client:
                    client.sendall(first)
                    with contextlib.suppress(OSError):  # it may have been reset already
                        client.shutdown(socket.SHUT_WR)
                        answer = read_all(client)
                        assert b"403" in answer or not answer, first
                line = sidecar.wait_for_log_lines(count)[-1]
                assert line["response_code_details"] == "authorization_denied", first
                assert "api" in line["detail"] or "asks for what requests say" in line["detail"], first
        assert seen == []

    def test_http2_does_not_go_by_routes(self, tmp_path: Path) -> None:
        """A route that refuses a path refuses it by HTTP/2, too."""
        text = """
        service: storefront
        inbound:
          app: "127.0.0.1:8080"
          routes: [{name: closed, match: {path: {prefix: /closed}}, respond: {status: 403}}]
        capture: {}
        """
        with hosts(2) as (here, there), server(here, 8080, echo), capturing(here, tmp_path, text) as sidecar:
            with dials(there, here.v4, 8080) as client:
                client.sendall(HELLO + headers(1, [*GET[:2], (b":path", b"/closed/x"), GET[3]]))
                (line,) = sidecar.wait_for_log_lines(1)
            assert (line["protocol"], line["response_code"], line["route_name"]) == ("HTTP/2", 403, "closed")


def test_large_transfers_are_whole_and_a_slow_reader_holds_its_server_back(tmp_path: Path) -> None:
    """Both ways, in constant memory."""
    size = 64 * 1024 * 1024
    poured = looked_at = 0

    def pours(accepted: socket.socket) -> None:
        nonlocal poured
        for _ in range(size // 65536):
            accepted.sendall(bytes(65536))
            poured += 65536

    def stands_still() -> bool:
        nonlocal looked_at
        before, looked_at = looked_at, poured
        return before == looked_at > 0

    with (
        hosts(2) as (here, there),
        server(there, 7001, pours),
        server(there, 7000, echo),
        capturing(here, tmp_path, FILE.replace("7000: auto", "7001: tcp")) as sidecar,
    ):
        with dials(here, there.v4, 7001) as client:
            client.recv(1)
            before = sidecar.memory_kib()
            eventually(stands_still, "the server to be held back")
            assert poured < size
            assert sidecar.memory_kib() < before + 8 * 1024
            assert len(read_all(client)) == size - 1
        with dials(here, there.v4, 7000) as client:
            sender = threading.Thread(target=lambda: (client.sendall(bytes(size)), client.shutdown(socket.SHUT_WR)))
            sender.start()
            assert len(read_all(client)) == size
            sender.join()


def test_connection_lives_through_reloads_and_ends_with_the_process(tmp_path: Path) -> None:
    """Also when the file does not capture any more."""
    with (
        hosts(2) as (here, there),
        server(there, 7000, echo),
        capturing(here, tmp_path, FILE) as sidecar,
        dials(here, there.v4, 7000) as client,
    ):
        client.sendall(b"\x00one")
        assert client.recv(100) == b"\x00one"
        sidecar.rewrite("service: storefront\noutbound: {}\ndrain: {timeout: 1s}\n")
        sidecar.wait_for_generation(2)
        client.sendall(b"two")
        assert client.recv(100) == b"two"
        assert sidecar.metric("sidecar_tcp_connections_active", direction="outbound") == 1
        assert sidecar.metric("sidecar_tcp_sent_bytes_total", protocol="tcp") == 7
        sidecar.stop()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_what_others_filter_stays_filtered(tmp_path: Path) -> None:
    """Rules of nftables and of iptables about the destination: the sidecar's own connection meets them."""
    with (
        hosts(2) as (here, there),
        server(there, 7001, echo),
        server(there, 7002, echo),
        server(there, 7000, echo),
        capturing(here, tmp_path, FILE) as sidecar,
    ):
        chain = "add table inet others; add chain inet others out { type filter hook output priority filter; }"
        rule = "add rule inet others out tcp dport 7001 reject with tcp reset"
        here.said(require("nft"), f"{chain}; {rule}")
        reset = "-j", "REJECT", "--reject-with", "tcp-reset"
        here.said(require("iptables"), "-A", "OUTPUT", "-p", "tcp", "--dport", 7002, *reset)
        for port in (7001, 7002):
            with dials(here, there.v4, port) as client:
                client.sendall(b"\x00")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        with dials(here, there.v4, 7000) as client:
            client.sendall(b"\x00open")
            assert client.recv(100) == b"\x00open"
        details = {line["authority"]: line["response_code_details"] for line in sidecar.wait_for_log_lines(3)}
        assert details == {
            f"{there.v4}:7001": "connect_failed",
            f"{there.v4}:7002": "connect_failed",
            f"{there.v4}:7000": "via_upstream",
        }


def test_reset_of_either_side_is_one_of_the_other(tmp_path: Path) -> None:
    """Nobody may take what came so far for all that there was."""
    ended = threading.Event()

    def resets(accepted: socket.socket) -> None:
        accepted.recv(100)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def waits(accepted: socket.socket) -> None:
        accepted.recv(100)
        try:
            accepted.recv(100)
        except ConnectionResetError:
            ended.set()

    with (
        hosts(2) as (here, there),
        server(there, 7000, resets),
        server(there, 7001, waits),
        capturing(here, tmp_path, FILE.replace("7000: auto", "7001: tcp")) as sidecar,
    ):
        with dials(here, there.v4, 7000) as client:
            client.sendall(b"\x00")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        client = dials(here, there.v4, 7001)
        client.sendall(b"\x00")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        eventually(lambda: sidecar.metric("sidecar_tcp_received_bytes_total") == 2, "its octet to be carried")
        client.close()
        assert ended.wait(PATIENCE_S)
