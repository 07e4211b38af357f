"""
Programs that were not written for us, through a sidecar, over connections that the kernel leads to it.

One sidecar and its host serve all of these tests; each has ports of its own, by which it knows its lines of the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.captured import APP, CapturingSidecar, app, capturing, get, install, server
from tests.support.certificates import Authority
from tests.support.commands import sidecar_command
from tests.support.namespaces import Host, hosts
from tests.support.peers import nginx, require
from tests.support.postgres import Postgres
from tests.support.streams import greets
from tests.support.wait import eventually

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
PSQL = ("env", "HOME=/nonexistent")
"""Whose own settings and certificates are nobody's business here."""
UPLOAD_BYTES = 2 * 1024 * 1024
FILE = """
service: storefront
inbound:
  app: "127.0.0.1:8080"
  routes: [{name: closed, match: {path: {prefix: /closed}}, respond: {status: 403}}]
outbound: {}
capture: {}
upstreams:
  shop: {hosts: ["shop.example"], endpoints: ["198.51.100.2:9000"]}
  secure: {hosts: ["secure.example:443"], endpoints: ["198.51.100.2:9443"]}
  database: {endpoints: ["198.51.100.2:5432"]}
  cache: {endpoints: ["198.51.100.2:6379"]}
"""


class World:
    """
    Attributes:
        here: The host that is captured.
        there: Another one, with whatever is called.
        sidecar: Of `here`.
        authority: Of the certificate of `secure.example` and `database.example`.
        directory: Of files that any user may read.
    """

    def __init__(self, here: Host, there: Host, sidecar: CapturingSidecar, directory: Path) -> None:
        self.here = here
        self.there = there
        self.sidecar = sidecar
        self.directory = directory
        self.authority = Authority("outside")
        self.authority.leaf(["secure.example", "database.example"]).write(directory)
        (directory / "ca.pem").write_bytes(self.authority.pem)

    @property
    def context(self) -> ssl.SSLContext:
        """Of a server."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.directory / "tls.crt", self.directory / "tls.key")
        return made

    def lines(self, port: int, count: int) -> list[dict[str, Any]]:
        """The log's lines of connections and requests to this port, of which there are so many, or to be."""

        def found() -> list[dict[str, Any]]:
            log = self.sidecar.access_log()
            return [line for line in log if str(line["upstream_host"] or line["authority"]).endswith(f":{port}")]

        eventually(lambda: len(found()) >= count, f"{count} lines about port {port}")
        assert len(found()) == count
        return found()

    def curl(self, *words: object) -> str:
        """What it prints, as the app's user; it ends well."""
        ca = ("--cacert", str(self.directory / "ca.pem"))
        return self.here.said(require("curl"), "-sS", "--max-time", 20, "--noproxy", "*", *ca, *words, user=APP)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # Not one of pytest's, which are its user's alone: apps read certificates in it, and nothing there is secret.
    with tempfile.TemporaryDirectory(prefix="sidecar-peers-") as public, hosts(2) as (here, there):
        directory = Path(public)
        directory.chmod(0o755)
        with capturing(here, tmp_path_factory.mktemp("sidecar"), FILE) as sidecar:
            yield World(here, there, sidecar, directory)


def with_python(host: Host, *words: object) -> list[str]:
    """What runs our Python as the app's user, who otherwise may have no right to it, wherever it lies."""
    read = "-all,+dac_read_search"
    kept = [f"--inh-caps={read}", f"--ambient-caps={read}", f"--bounding-set={read}"]
    return [
        require("setpriv"),
        f"--reuid={APP}",
        f"--regid={APP}",
        "--clear-groups",
        *kept,
        sys.executable,
        *map(str, words),
    ]


@contextlib.contextmanager
def inside(host: Host, peer: contextlib.AbstractContextManager[T]) -> Iterator[T]:
    """A peer that is started, and waited for, in the network of a host."""
    made = host.do(peer.__enter__)
    try:
        yield made
    finally:
        peer.__exit__(None, None, None)


@contextlib.contextmanager
def serving_grpc(host: Host, port: int) -> Iterator[None]:
    """By a process of the app's user."""
    words = with_python(host, "-m", "tests.support.grpc_peer", "serve", port)
    with host.started(*words, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening {port}\n"
        yield
        process.stdout.close()


def asking_grpc(host: Host, target: str) -> str:
    """What a client says, of the app's user."""
    done = host.run(*with_python(host, "-m", "tests.support.grpc_peer", "ask", target, "hello"), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestCurl:
    """curl, as the app."""

    def test_requests_of_one_connection_are_routed_by_their_name(self, world: World) -> None:
        """It opens one connection for two, and gets the upstream's answers, wherever it looked the name up."""
        with app(world.there, 9000, "shop"):
            told = world.curl(
                "--resolve", f"shop.example:80:{world.there.v4}", "--write-out", " %{num_connects}\n",
                "http://shop.example/one", "http://shop.example/two",
            )  # fmt: skip
            assert told.splitlines() == ["shop /one shop.example - 1", "shop /two shop.example - 0"]
            assert [line["upstream_cluster"] for line in world.lines(9000, 2)] == ["shop", "shop"]

    def test_upload_waits_for_100_continue_and_is_whole(self, world: World) -> None:
        """By its length and in chunks."""
        given = bytes(range(256)) * (UPLOAD_BYTES // 256)
        (world.directory / "given").write_bytes(given)
        (world.directory / "given").chmod(0o644)
        with app(world.there, 8001, "taker"):
            told = world.curl(
                "--header", "Expect: 100-continue", "--verbose", "--stderr", "-", "--upload-file",
                world.directory / "given", f"http://{world.there.v4}:8001/",
            )  # fmt: skip
            assert "HTTP/1.1 100 Continue" in told
            assert f"taker {UPLOAD_BYTES} {hashlib.sha256(given).hexdigest()}" in told
            (line,) = world.lines(8001, 1)
            assert (line["bytes_received"], line["response_code"]) == (UPLOAD_BYTES, 201)

    @pytest.mark.parametrize("family", ["v4", "v6"])
    def test_https_goes_by_to_the_upstream_of_its_name(self, world: World, family: str) -> None:
        """With the server's own certificate, which nobody on the way has replaced; HTTP/2 or not."""
        at: str = getattr(world.there, family)
        count = len([one for one in world.sidecar.access_log() if one["authority"] == "secure.example:443"])

        def serve(accepted: Any) -> None:
            with world.context.wrap_socket(accepted, server_side=True) as secured:
                secured.recv(4096)
                secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecure")

        with server(world.there, 9443, serve):
            address = f"[{at}]" if family == "v6" else at
            told = world.curl("--resolve", f"secure.example:443:{address}", "https://secure.example/")
            assert told == "secure"
            line = world.lines(9443, count + 1)[-1]
            assert (line["protocol"], line["upstream_cluster"]) == ("tls", "secure")

    def test_http2_by_prior_knowledge_goes_on_as_it_came(self, world: World, tmp_path: Path) -> None:
        """curl speaks it with the sidecar, and that with nginx."""
        served = 'listen 0.0.0.0:8002 http2; location / { return 200 "$server_protocol\\n"; }'
        with inside(world.there, nginx(tmp_path, served)):
            assert world.curl("--http2-prior-knowledge", f"http://{world.there.v4}:8002/") == "HTTP/2.0\n"
            assert world.lines(8002, 1)[0]["protocol"] == "HTTP/2"


class TestPsql:
    """psql speaks first, by a question for TLS that is no TLS."""

    @pytest.mark.parametrize("mode", ["disable", "prefer", "verify-full"])
    def test_query_is_answered_by_the_database(self, world: World, mode: str) -> None:
        """In clear, in clear because TLS was refused, and by TLS with the database's own certificate."""
        database = Postgres(world.context if mode == "verify-full" else None)
        before = len([one for one in world.sidecar.access_log() if one["upstream_cluster"] == "database"])
        settings = f"host=database.example hostaddr={world.there.v4} user=app dbname=shop connect_timeout=15"
        trust = f"sslmode={mode} sslrootcert={world.directory / 'ca.pem'} gssencmode=disable"
        with server(world.there, 5432, database.serve):
            told = world.here.said(*PSQL, require("psql"), "-AtX", "-c", "select 42", f"{settings} {trust}", user=APP)
            assert told == "select 42\n"
            line = world.lines(5432, before + 1)[-1]
            assert (line["protocol"], line["upstream_cluster"], line["response_flags"]) == ("tcp", "database", "-")
        assert database.queries == ["select 42"]


def test_redis_answers_its_client(world: World) -> None:
    """A real one, at the port that is known for TCP, and at another one, where the client's first octets say it."""
    with contextlib.ExitStack() as stack:
        for port in (6379, 6380):
            words = (
                "--port",
                port,
                "--bind",
                world.there.v4,
                "--protected-mode",
                "no",
                "--save",
                "",
                "--logfile",
                "/dev/null",
            )
            stack.enter_context(world.there.started(require("redis-server"), *words))
            ask = require("redis-cli"), "-h", world.there.v4, "-p", port

            def is_up(ask: tuple[object, ...] = ask) -> bool:
                return world.there.run(*ask, "ping").stdout == "PONG\n"

            eventually(is_up, "redis to answer on its own host")
            assert world.here.said(*ask, "set", "cart", "full", user=APP) == "OK\n"
            assert world.here.said(*ask, "get", "cart", user=APP) == "full\n"
        assert [line["upstream_cluster"] for line in world.lines(6379, 2)] == ["cache", "cache"]
        assert [line["upstream_cluster"] for line in world.lines(6380, 2)] == ["passthrough", "passthrough"]
        assert {line["protocol"] for line in (*world.lines(6379, 2), *world.lines(6380, 2))} == {"tcp"}


def test_nginx_calls_through_and_is_called(world: World, tmp_path: Path) -> None:
    """As a client that keeps its connections to an upstream of ours, and as the server behind it."""
    behind = 'listen 0.0.0.0:8003; location / { return 200 "$connection $http_host"; }'
    upstream = f"upstream behind {{ server {world.there.v4}:8003; keepalive 4; }}"
    before = 'location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; }'
    with (
        inside(world.there, nginx(tmp_path / "behind", behind)),
        inside(world.here, nginx(tmp_path / "before", before, around=upstream, user="www-data")) as front,
    ):
        answers = [get(world.here, "127.0.0.1", front.port) for _ in range(3)]
        assert [status for status, _ in answers] == [200] * 3
        serials = {body.split()[0] for _, body in answers}
        assert len(serials) == 1
        assert {body.split()[1] for _, body in answers} == {"behind"}
        # One more: the look at whether it answers.
        assert {line["protocol"] for line in world.lines(8003, 4)} == {"HTTP/1.1"}


class TestGrpc:
    """grpcio speaks HTTP/2 without asking."""

    def test_calls_and_streams_are_requests(self, world: World) -> None:
        """Each call has its line, with its status."""
        with serving_grpc(world.there, 50051):
            told = asking_grpc(world.here, f"{world.there.v4}:50051")
            assert told.splitlines() == ["HELLO", "HELLO0 HELLO1 HELLO2"]
            lines = world.lines(50051, 2)
            assert {(line["protocol"], line["grpc_status"]) for line in lines} == {("HTTP/2", "OK")}
            assert [line["path"] for line in lines] == ["/tests.Shout/Word", "/tests.Shout/Words"]

    def test_calls_to_the_app_go_by_its_routes(self, world: World) -> None:
        """And by the port that was called, as requests do."""
        with serving_grpc(world.here, 50052):
            told = asking_grpc(world.there, f"{world.here.v4}:50052")
            assert told.splitlines() == ["HELLO", "HELLO0 HELLO1 HELLO2"]

            def served() -> list[tuple[str, str]]:
                log = [line for line in world.sidecar.access_log() if line["direction"] == "inbound"]
                return [(line["protocol"], line["grpc_status"]) for line in log] if len(log) == 2 else []

            assert eventually(served, "both calls in the log") == [("HTTP/2", "OK")] * 2


def test_server_that_speaks_first_like_ssh_is_waited_for(world: World) -> None:
    """At a port that nobody has declared; what both say then is whole."""
    with server(world.there, 2222, greets):
        told = world.here.said(
            "bash", "-c", f"exec 3<>/dev/tcp/{world.there.v4}/2222; read -u 3 line; echo $line; echo SSH-2.0-x >&3;"
            " read -u 3 line; echo $line", user=APP,
        )  # fmt: skip
        assert told.splitlines() == ["220 ready", "SSH-2.0-x"]
        assert world.lines(2222, 1)[0]["protocol"] == "tcp"


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "plain"])
def test_migration_reaches_its_database_in_either_order(tmp_path: Path, is_native: bool) -> None:
    """
    As containers of a pod come: rules, a native sidecar, the migration; or, with a plain sidecar, which starts beside
    the app, the migration, then the rules. Between rules and sidecar nobody is let around.
    """
    database = Postgres()
    with hosts(2) as (here, there), server(there, 5432, database.serve):
        settings = f"host={there.v4} user=app sslmode=disable connect_timeout=15"
        migrate = *PSQL, require("psql"), "-AtX", "-c", "create", settings
        sidecar = CapturingSidecar(here, tmp_path)
        sidecar.rewrite(FILE)
        if not is_native:
            assert here.said(*migrate, user=APP) == "create\n"
        install(here)
        refused = here.run(*migrate, user=APP)
        assert refused.returncode == 2
        assert "Connection refused" in refused.stderr
        sidecar.start()
        try:
            sidecar.wait_ready()
            assert here.said(*migrate, user=APP) == "create\n"
            assert sidecar.wait_for_log_lines(1)[0]["upstream_cluster"] == "database"
        finally:
            sidecar.kill()
        assert here.do(lambda: sidecar_command("capture", "uninstall")).returncode == 0
        assert here.said(*migrate, user=APP) == "create\n"
        assert database.queries == ["create"] * (2 if is_native else 3)
