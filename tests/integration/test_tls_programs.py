"""TLS with programs that were not written for it, on both sides of a real sidecar: openssl, curl, nginx."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_tls import CATALOG, metric
from tests.support.certificates import Authority, identity_of
from tests.support.http2 import HELLO, headers
from tests.support.origin import Origin, large
from tests.support.peers import Nginx, nginx, require
from tests.support.process import SidecarProcess, request, running_sidecar
from tests.support.talking import Talk, talking
from tests.support.wait import eventually, free_port

ASK = b"GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n"
ASK_AND_LEAVE = b"GET /x HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SERVERS = ("new", "old", "once", "stranger")
"""Of `openssl s_server`, each with a port of its own."""


@dataclass
class Place:
    """
    A sidecar and who is around it.

    Attributes:
        folder: `ca.crt`, and `NAME.crt` and `NAME.key` of `shop` (a server), `us` (a client) and `own` (the sidecar's).
        sidecar: Strict for the mesh; and for clients outside.
        new, old, asking: Ports for clients outside: by 1.3, from 1.2 on, and for those who show a certificate.
        servers: Ports that upstreams lead to, by name.
        nginx: A server outside that wants a client's certificate.
        front: Where it takes requests in clear, and asks `asking` by TLS.
    """

    folder: Path
    sidecar: SidecarProcess
    app: Origin
    new: int
    old: int
    asking: int
    servers: dict[str, int]
    nginx: Nginx
    front: int

    def s_client(self, port: int, *arguments: str) -> list[str]:
        """The command, which verifies the server."""
        return [
            require("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "shop.example",
            "-verify_hostname", "shop.example", "-CAfile", f"{self.folder}/ca.crt", "-verify_return_error", *arguments,
        ]  # fmt: skip

    def openssl(self, port: int, *arguments: str, says: bytes = ASK_AND_LEAVE) -> str:
        """What it has to say of a connection on which it says this; it stays until the server has ended it."""
        command = [*self.s_client(port, *arguments), "-ign_eof"]
        done = subprocess.run(command, input=says, capture_output=True, timeout=60)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    def s_server(self, name: str, *arguments: str) -> list[str]:
        """The command: a server outside that wants a client's certificate."""
        files = ["-cert", "shop.crt", "-key", "shop.key", "-CAfile", "ca.crt", "-Verify", "3", "-verify_return_error"]
        return [require("openssl"), "s_server", "-accept", f"127.0.0.1:{self.servers[name]}", *files, *arguments]

    def line_of(self, upstream: str) -> dict[str, Any]:
        """The first log line of a request to this upstream."""
        log = self.sidecar.access_log
        found = eventually(
            lambda: [one for one in log() if one.get("upstream_cluster") == upstream], f"a log line of {upstream}"
        )
        return dict(found[0])

    def shown(self) -> list[str]:
        """Arguments of `s_client` that show a certificate."""
        return ["-cert", f"{self.folder}/us.crt", "-key", f"{self.folder}/us.key"]


def nginx_text(folder: Path, asking: int, front: int) -> tuple[str, str]:
    """A server outside with mutual TLS, and beside it one that asks the sidecar by TLS."""
    server = f"""
        ssl_certificate {folder}/shop.crt; ssl_certificate_key {folder}/shop.key;
        ssl_client_certificate {folder}/ca.crt; ssl_verify_client on;
        ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache shared:sessions:1m;
        root FOLDER/files;
        location = /who {{ return 200 "$pid $connection $ssl_session_reused $ssl_client_s_dn $ssl_server_name"; }}
    """
    around = f"""
        upstream sidecar {{ server 127.0.0.1:{asking}; keepalive 4; }}
        server {{
            listen 127.0.0.1:{front};
            client_max_body_size 10m;
            location / {{
                proxy_pass https://sidecar; proxy_http_version 1.1;
                proxy_set_header Connection ""; proxy_set_header Host shop.example;
                proxy_ssl_certificate {folder}/us.crt; proxy_ssl_certificate_key {folder}/us.key;
                proxy_ssl_trusted_certificate {folder}/ca.crt; proxy_ssl_verify on; proxy_ssl_verify_depth 2;
                proxy_ssl_name shop.example; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;
            }}
        }}
    """
    return server, around


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all tests."""
    folder = tmp_path_factory.mktemp("programs")
    root = Authority("shop root")
    identity = identity_of(folder / "own", root.workload(CATALOG), root)
    root.leaf(["shop.example"]).write(folder, "shop.crt", "shop.key")
    root.leaf(["us.example"], common_name="us").write(folder, "us.crt", "us.key")
    (folder / "ca.crt").write_bytes(root.pem)
    new, old, asking, front = (free_port() for _ in range(4))
    servers = {name: free_port() for name in SERVERS}
    pair = f"certificate: {folder}/shop.crt, key: {folder}/shop.key"
    tls = f"server_name: shop.example, trust: {folder}/ca.crt, certificate: {folder}/us.crt, key: {folder}/us.key"
    upstreams = "".join(
        f"\n  {name}: {{endpoints: ['127.0.0.1:{port}'], tls: {{{tls}{', min_version: 1.2' * (name == 'old')}}}}}"
        for name, port in servers.items()
    )
    (folder / "nginx" / "files").mkdir(parents=True)
    (folder / "nginx" / "files" / "large.bin").write_bytes(large("nginx"))
    server, around = nginx_text(folder, asking, front)
    with Origin("app") as app, nginx(folder / "nginx", server, "ssl", around) as outside:
        text = (
            f"service: catalog\nidentity: {identity}\n"
            f"inbound:\n  app: 127.0.0.1:{app.port}\n  tls: strict\n  listen:\n"
            '    - "127.0.0.1:${INBOUND_PORT}"\n'
            f'    - {{address: "127.0.0.1:{new}", name: new, tls: {{{pair}}}}}\n'
            f'    - {{address: "127.0.0.1:{old}", name: old, tls: {{{pair}, min_version: 1.2}}}}\n'
            f'    - {{address: "127.0.0.1:{asking}", name: asking, tls: {{{pair}, client_trust: {folder}/ca.crt}}}}\n'
            f'outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}\nupstreams:{upstreams}\n'
            f"  strict-1-3: {{endpoints: ['127.0.0.1:{servers['old']}'], tls: {{{tls}}}}}\n"
            f"  nginx: {{endpoints: ['127.0.0.1:{outside.port}'], tls: {{{tls}}}}}\n"
        )
        with running_sidecar(folder / "s", text) as sidecar:
            yield Place(folder, sidecar, app, new, old, asking, servers, outside, front)


# --- openssl s_client ----------------------------------------------------------------------------------------------


def test_openssl_is_served_by_what_it_offers(place: Place) -> None:
    """1.3; 1.2 only where the file says so, and nothing older; by ALPN HTTP/2 rather than HTTP/1.1, or none."""
    said = place.openssl(place.new, "-alpn", "http/1.0,http/1.1")
    assert "HTTP/1.1 200" in said
    assert "New, TLSv1.3, Cipher is TLS_" in said
    assert "ALPN protocol: http/1.1" in said
    assert "Verified peername: shop.example" in said
    said = place.openssl(place.new, "-alpn", "http/1.0")
    assert "No ALPN negotiated" in said
    assert "HTTP/1.1 200" in said
    # No client opens a stream of an even number: the connection ends at once.
    assert "ALPN protocol: h2" in place.openssl(place.new, "-alpn", "http/1.1,h2", says=HELLO + headers(2))
    assert "alert protocol version" in place.openssl(place.new, "-tls1_2")
    said = place.openssl(place.old, "-tls1_2", "-alpn", "http/1.1")
    assert "HTTP/1.1 200" in said
    assert "New, TLSv1.2, Cipher is ECDHE-ECDSA-AES" in said
    assert "ALPN protocol: http/1.1" in said
    assert "Extended master secret: yes" in said
    assert "alert handshake failure" in place.openssl(place.old, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256")


def test_openssl_shows_a_certificate_where_it_is_wanted(place: Place) -> None:
    """It is told which kinds are taken; without one it is told that one is required, and no request is served."""
    said = place.openssl(place.asking, *place.shown())
    assert "HTTP/1.1 200" in said
    assert "Requested Signature Algorithms: ECDSA" in said
    before = len(place.app.requests)
    said = place.openssl(place.asking)
    assert "certificate required" in said
    assert "HTTP/1.1" not in said
    assert len(place.app.requests) == before


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
def test_openssl_takes_a_session_up_again(place: Place, tmp_path: Path, version: str) -> None:
    """By a ticket; by 1.2 also one after the other on the spot."""
    session = f"{tmp_path}/session"
    before = metric(place.sidecar, "sidecar_tls_handshakes_total", 'resumed="true"', 'side="client"')
    assert "HTTP/1.1 200" in place.openssl(place.old, version, "-sess_out", session)
    said = place.openssl(place.old, version, "-sess_in", session)
    assert "HTTP/1.1 200" in said
    assert "Reused, TLSv1." in said
    again = 0
    if version == "-tls1_2":
        again = 5
        assert place.openssl(place.old, version, "-reconnect").count("Reused, TLSv1.2") == again
    eventually(
        lambda: (
            metric(place.sidecar, "sidecar_tls_handshakes_total", 'resumed="true"', 'side="client"')
            == before + 1 + again
        ),
        "all of them to be counted",
    )


def test_early_data_is_refused_and_the_request_behind_it_is_served(place: Place, tmp_path: Path) -> None:
    """Whoever could say it again would be served twice; no ticket of ours invites it, and another's is passed over."""
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(b"GET /early HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    place.openssl(place.new, "-sess_out", str(session))
    shown = subprocess.run(
        [require("openssl"), "sess_id", "-in", str(session), "-text", "-noout"], capture_output=True, timeout=60
    )
    assert b"Max Early Data: 0" in shown.stdout
    # A ticket of another server that takes it makes the client send it to us.
    port = free_port()
    command = [require("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "shop.crt", "-key", "shop.key"]
    with talking([*command, "-early_data"], place.folder) as other:
        other.hear("ACCEPT")
        with talking(place.s_client(port, "-sess_out", str(session))) as client:
            client.hear("Max Early Data: 16384", 2)  # each ticket is written over the one before
    said = place.openssl(place.new, "-sess_in", str(session), "-early_data", str(early))
    assert "Early data was rejected" in said
    assert "HTTP/1.1 200" in said
    assert "/early" not in [path for _, path in place.app.requests]


@pytest.mark.parametrize("command", [b"K\n", b"k\n"], ids=["and wants ours to be", "alone"])
def test_keys_of_openssl_are_renewed_between_requests(place: Place, command: bytes) -> None:
    """A key update of 1.3 (RFC 8446, 4.6.3), which we answer if we are asked to, costs no connection."""
    with talking(place.s_client(place.new)) as client:
        client.hear("Verify return code: 0")
        for turn in range(1, 4):
            client.tell(ASK)
            client.hear("HTTP/1.1 200", turn)
            client.tell(command)
            client.hear("KEYUPDATE", turn)


def test_renegotiation_is_refused(place: Place) -> None:
    """By the alert that says so, at no cost."""
    with talking(place.s_client(place.old, "-tls1_2")) as client:
        client.hear("Secure Renegotiation IS supported")
        client.tell(ASK)
        client.hear("HTTP/1.1 200")
        client.tell(b"R\n")
        client.hear("no renegotiation")
        client.end()


# --- openssl s_server ----------------------------------------------------------------------------------------------


class Asked(threading.Thread):
    """A request through the sidecar, on a thread; its answer, once there is one."""

    def __init__(self, place: Place, upstream: str) -> None:
        super().__init__(daemon=True)
        self.answer = ""
        self._place, self._upstream = place, upstream
        self.start()

    def run(self) -> None:
        """Ask."""
        answer = self._place.sidecar.outbound("/x", host=self._upstream)
        self.answer = f"{answer.status} {answer.text}"

    def hear(self) -> str:
        """The answer."""
        self.join(30)
        return self.answer


@contextlib.contextmanager
def s_server(place: Place, name: str, *arguments: str) -> Iterator[Talk]:
    """Once it listens."""
    with talking(place.s_server(name, *arguments), place.folder) as server:
        server.hear("ACCEPT")
        yield server


@pytest.mark.parametrize("command", [b"K\n", b"k\n"], ids=["and wants ours to be", "alone"])
def test_keys_of_a_server_are_renewed_in_front_of_an_answer_and_after_it(place: Place, command: bytes) -> None:
    """The pooled connection goes on; a request is sent with keys that are new."""
    with s_server(place, "new") as server:
        for turn in range(1, 4):
            asked = Asked(place, "new")
            server.hear("GET /x HTTP/1.1", turn)
            server.tell(command)
            server.hear("SSL_do_handshake -> 1", 2 * turn - 1)
            server.tell(OK)
            assert asked.hear() == "200 ok"
            server.tell(command)
            server.hear("SSL_do_handshake -> 1", 2 * turn)
        assert server.said.count("CIPHER is TLS_") == 1, "one connection"
        assert "CN = us" in server.said


def test_a_server_that_only_has_1_2_is_refused_unless_the_file_says_so(place: Place) -> None:
    """With its reason, and a sentence that names what was heard."""
    with s_server(place, "old", "-tls1_2", "-www"):
        answer = place.sidecar.outbound("/x", host="strict-1-3")
        assert (answer.status, answer.json()["error"]) == (503, "upstream_tls_failed")
        line = place.line_of("strict-1-3")
        assert line["response_code_details"] == "upstream_tls_failed"
        assert line["detail"].endswith(f"127.0.0.1:{place.servers['old']}: alert: protocol version")
        assert "TLSv1.2" in place.sidecar.outbound("/x", host="old").text
        line = place.line_of("old")
        assert (line["response_code"], line["upstream_tls_version"]) == (200, "1.2")


def test_a_session_with_a_server_is_taken_up_again_and_its_end_is_told(place: Place) -> None:
    """Of a server that closes after each answer, and is gone after three: each time it is asked for HTTP/2 anew."""
    resumed = 'resumed="true"', 'side="server"'
    before = metric(place.sidecar, "sidecar_tls_handshakes_total", *resumed)
    with s_server(place, "once", "-naccept", "3", "-www") as server:
        assert "New, TLSv1.3" in place.sidecar.outbound("/x", host="once").text
        for _ in range(2):
            assert "Reused, TLSv1.3" in place.sidecar.outbound("/x", host="once").text
        assert server.end() == 0
        assert metric(place.sidecar, "sidecar_tls_handshakes_total", *resumed) == before + 2
        assert place.sidecar.outbound("/x", host="once").json()["error"] == "connect_failed"


class Hasty(threading.Thread):
    """A server that does not believe who comes, and resets the connection as soon as it has said so, as Envoy does."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        super().__init__(daemon=True)
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", port))
        self.start()

    def run(self) -> None:
        """Take one after the other."""
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listening.accept()
                raw.settimeout(30)
                # What is closed is this one, at once, whatever `ssl` would do with its own.
                with raw, raw.dup() as secured, contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self._context.wrap_socket(secured, server_side=True)

    def close(self) -> None:
        """Take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_a_server_that_does_not_believe_us_is_told_as_that_whenever_it_leaves(place: Place) -> None:
    """It says so when we have sent the request already, or are about to: each time the reason is the same."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place.folder / "shop.crt", place.folder / "shop.key")
    context.load_verify_locations(cadata=Authority("other root").pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    server = Hasty(context, place.servers["stranger"])
    try:
        answers = [place.sidecar.outbound("/x", host="stranger").json()["error"] for _ in range(40)]
    finally:
        server.close()
    assert answers == ["upstream_refused_certificate"] * 40


# --- curl ----------------------------------------------------------------------------------------------------------


def test_curl_with_a_certificate(place: Place, tmp_path: Path) -> None:
    """Several requests on one connection, a large upload that waits for 100, HTTP/1.0, HTTP/2 that is not had."""
    url = f"https://shop.example:{place.asking}"
    command = [
        require("curl"), "-sS", "--fail-with-body", "-m", "30", "--noproxy", "*", "--cacert", f"{place.folder}/ca.crt",
        "--resolve", f"shop.example:{place.asking}:127.0.0.1", "--cert", f"{place.folder}/us.crt",
        "--key", f"{place.folder}/us.key",
    ]  # fmt: skip

    def curl(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=60, text=True)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    said = json.loads(curl(f"{url}/echo"))
    fields = {name.lower(): value for name, value in said["headers"]}
    assert fields["x-forwarded-proto"] == "https"
    assert "CN=us" in fields["x-forwarded-client-cert"]
    written = "%{http_version} %{num_connects} %{ssl_verify_result}\n"
    out = ["-o", "/dev/null", "-o", "/dev/null", "-w", written]
    assert curl("--http2", *out, f"{url}/x", f"{url}/y").split() == ["2", "1", "0", "2", "0", "0"]
    assert curl("--http1.0", f"{url}/x") == "app"
    body = tmp_path / "body"
    body.write_bytes(large("up"))
    sent = ("-H", "Expect: 100-continue", "--data-binary", f"@{body}")
    assert curl(*sent, f"{url}/digest") == sha256(large("up")).hexdigest()
    down = subprocess.run([*command, f"{url}/large/down"], capture_output=True, timeout=60)
    assert down.stdout == large("down")


# --- nginx ---------------------------------------------------------------------------------------------------------


class Callers:
    """Three who ask nginx one after the other through the sidecar, until they are told to stop."""

    def __init__(self, place: Place) -> None:
        self.answers: list[tuple[int, str]] = []
        self._place = place
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(3)]
        for one in self._threads:
            one.start()

    def _ask(self) -> None:
        while not self._is_over.is_set():
            answer = self._place.sidecar.outbound("/who", host="nginx")
            self.answers.append((answer.status, answer.text))

    def wait_for(self, count: int, master: str = "") -> None:
        """So many further answers, of another worker than this one."""
        before = len(self.answers)
        eventually(
            lambda: sum(text.partition(" ")[0] != master for _, text in self.answers[before:]) >= count, "answers"
        )

    def stop(self) -> set[int]:
        """All statuses that there were."""
        self._is_over.set()
        for one in self._threads:
            one.join(60)
        return {status for status, _ in self.answers}


def test_nginx_knows_who_asks_and_keeps_the_connection(place: Place) -> None:
    """Mutual TLS with a server that gives no tickets; large files in records of its own size."""
    worker, connection, _, name, asked = place.sidecar.outbound("/who", host="nginx").text.split()
    assert (name, asked) == ("CN=us", "shop.example")
    for _ in range(10):
        again = place.sidecar.outbound("/who", host="nginx").text.split()
        assert again[:2] == [worker, connection]
    assert place.sidecar.outbound("/large.bin", host="nginx").body == large("nginx")


def test_nginx_is_reloaded_under_load_and_nothing_is_lost(place: Place) -> None:
    """Old workers close what they have; new ones know sessions of before."""
    callers = Callers(place)
    callers.wait_for(20)
    worker = place.sidecar.outbound("/who", host="nginx").text.split()[0]
    resumed = 'resumed="true"', 'side="server"'
    before = metric(place.sidecar, "sidecar_tls_handshakes_total", *resumed)
    place.nginx.reload()
    callers.wait_for(40, worker)
    assert callers.stop() == {200}
    assert metric(place.sidecar, "sidecar_tls_handshakes_total", *resumed) > before


def test_nginx_asks_by_tls_with_a_certificate(place: Place) -> None:
    """One handshake for all that it asks; bodies come through whole."""
    before = metric(place.sidecar, "sidecar_tls_handshakes_total", 'side="client"')
    for _ in range(10):
        assert request(place.front, "/x").text == "app"
    fields = dict(request(place.front, "/echo").json()["headers"])
    assert "CN=us" in fields["x-forwarded-client-cert"]
    body = large("up")
    assert request(place.front, "/digest", method="POST", body=body).text == sha256(body).hexdigest()
    assert request(place.front, "/large/down").body == large("down")
    assert metric(place.sidecar, "sidecar_tls_handshakes_total", 'side="client"') == before + 1
