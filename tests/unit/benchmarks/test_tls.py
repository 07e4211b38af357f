"""The comparison over TLS: who is who, and that work which is not what was asked for is found out."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.harness import subjects
from benchmarks.harness.evidence import WrongWorkError
from benchmarks.harness.processes import Process
from benchmarks.harness.rounds import wrong_handshakes
from benchmarks.harness.site import HOST, Running, Site, Work
from benchmarks.harness.tls_certificates import CLIENT, SUBJECT, Certificates, Identity, Pair, spiffe
from benchmarks.harness.tls_client import MESH_PROTOCOL, Tls, build_wrk_tls, handshakes_of
from benchmarks.harness.tls_proof import serial_of, shown_by, verify_tls
from benchmarks.harness.tls_rules import rule
from sidecar.config.load import load_text

STEADY = Path(__file__).resolve().parents[3] / "benchmarks" / "steady.py"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def _server_context(files: Certificates, pair: Pair, *, wants_client: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(files.trust)
    context.verify_mode = ssl.CERT_REQUIRED if wants_client else ssl.CERT_NONE
    context.set_alpn_protocols([MESH_PROTOCOL])
    return context


class _Subject(ThreadingHTTPServer):
    """Answers as a subject would, and says what its upstream would have seen."""

    daemon_threads = False  # its end waits for theirs

    def __init__(self, answer: Callable[[str, str], tuple[int, dict[str, str]]], context: ssl.SSLContext) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                assert isinstance(self.connection, ssl.SSLSocket)
                shown: Any = self.connection.getpeercert() or {}
                name = dict(shown.get("subjectAltName", ())).get("URI", "")
                status, headers = answer(self.path, name)
                self.send_response(status)
                for each in headers.items():
                    self.send_header(*each)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(20)
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, *_: object) -> None:
        """A client that is refused, or refuses."""


@contextmanager
def _subject(
    answer: Callable[[str, str], tuple[int, dict[str, str]]], context: ssl.SSLContext, tls: Tls
) -> Iterator[Running]:
    with _Subject(answer, context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Running(cast(Process, None), server.server_port, client=tls.client(MESH_PROTOCOL))
        finally:
            server.shutdown()
            thread.join()


def _right(path: str, who: str) -> tuple[int, dict[str, str]]:
    if path in ("/wrong", "/stranger"):
        return 503, {}
    return 200, {"x-tls": f"TLSv1.3 SUCCESS CN={SUBJECT}", "x-forwarded-client": f"URI={who}"}


def _both(files: Certificates) -> Tls:
    return Tls(files, Path(), is_inward=True, is_mutual=True, is_outward=True)


class TestProof:
    """A subject that does other work is not compared."""

    def test_right_work_passes(self, files: Certificates) -> None:
        """A server that wants certificates of the root, shows its own, and tells what it should."""
        context = _server_context(files, files.subject, wants_client=True)
        with _subject(_right, context, _both(files)) as running:
            verify_tls("right", running, Work(tls=_both(files)))
            assert running.client is not None
            assert shown_by(running.port, running.client)["serialNumber"] == serial_of(files.subject)

    def test_server_that_lets_anybody_in_is_found_out(self, files: Certificates) -> None:
        """It spared itself the certificates of its clients."""
        context = _server_context(files, files.subject, wants_client=False)
        with (
            _subject(_right, context, _both(files)) as running,
            pytest.raises(WrongWorkError, match="expected nobody to be refused, got 200"),
        ):
            verify_tls("open", running, Work(tls=_both(files)))

    def test_server_with_another_certificate_is_found_out(self, files: Certificates) -> None:
        """Of the same root, but not its own."""
        context = _server_context(files, files.other, wants_client=True)
        with (
            _subject(_right, context, _both(files)) as running,
            pytest.raises(WrongWorkError, match="expected a certificate of storefront"),
        ):
            verify_tls("another", running, Work(tls=_both(files)))

    @pytest.mark.parametrize(
        ("wrong", "problem"),
        [
            ({"/wrong": (200, {})}, "upstream of /wrong not to be spoken to, got 200"),
            ({"/stranger": (200, {})}, "upstream of /stranger not to be spoken to, got 200"),
            ({"/v1/items/1": (200, {})}, "upstream to see 'TLSv1.3 SUCCESS CN=storefront', got None"),
            (
                {"/v1/items/1": (200, {"x-tls": f"TLSv1.3 SUCCESS CN={SUBJECT}"})},
                "upstream to be told who asked, got ''",
            ),
        ],
    )
    def test_wrong_work_towards_upstreams_is_found_out(
        self, wrong: dict[str, tuple[int, dict[str, str]]], problem: str, files: Certificates
    ) -> None:
        """A server's certificate that was not verified, one's own that was not shown, a client that was not told of."""
        context = _server_context(files, files.subject, wants_client=True)
        with (
            _subject(lambda path, who: wrong.get(path) or _right(path, who), context, _both(files)) as running,
            pytest.raises(WrongWorkError, match=problem),
        ):
            verify_tls("careless", running, Work(tls=_both(files)))

    def test_rules_that_let_all_in_are_found_out(self, files: Certificates) -> None:
        """Another's request is answered as the load's is."""
        tls = Tls(files, Path(), is_inward=True, is_mutual=True)
        context = _server_context(files, files.subject, wants_client=True)
        with (
            _subject(_right, context, tls) as running,
            pytest.raises(
                WrongWorkError, match=r"another's request and another method to be refused, got \(200, 501\)"
            ),
        ):
            verify_tls("lax", running, Work(tls=tls, rules=10))


@pytest.mark.parametrize(
    ("connections", "requests", "made", "resumed", "problem"),
    [
        ("", 1000, 32, 0, None),
        ("", 1000, 33, 0, "33 handshakes of 32 connections that were to be kept"),
        ("full", 1000, 1032, 0, None),
        ("full", 1000, 999, 0, "999 handshakes for 1000 requests, each on a connection of its own"),
        ("full", 1000, 1032, 1, "1 of 1032 handshakes took up an earlier session"),
        ("resumed", 1000, 1032, 1000, None),
        ("resumed", 1000, 1032, 999, "999 of 1032 handshakes took up an earlier session, all but 32 were to"),
    ],
)
def test_handshakes_of_a_round_are_counted(
    connections: str, requests: int, made: int, resumed: int, problem: str | None
) -> None:
    """A cheaper handshake than was asked for, or none, is a fault of the round."""
    assert wrong_handshakes(connections, requests, made, resumed, 32) == ([problem] if problem else [])


def test_certificates_are_replaced_behind_a_link(files: Certificates, tmp_path: Path) -> None:
    """A rotation: the same paths, another pair, and both halves of it at once."""
    identity = Identity(tmp_path, files.subject, files.trust)
    before = identity.pair.certificate.resolve().parent
    new = files.another()
    identity.put(new)
    assert serial_of(identity.pair) == serial_of(new) != serial_of(files.subject)
    assert identity.pair.key.resolve().parent == identity.pair.certificate.resolve().parent != before
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(identity.pair.certificate, identity.pair.key)


def test_only_the_last_rule_lets_the_load_in() -> None:
    """A tenth of the others is for it as well, and none of them for what it asks."""
    found = [rule(number, 1000) for number in range(1, 1001)]
    assert found[-1] == (CLIENT, "/")
    assert sum(caller == CLIENT for caller, _ in found) == 100
    assert not any("/v1/items/1".startswith(path) for _, path in found[:-1])


def test_fixed_rate_speaks_tls_with_a_certificate(files: Certificates, tmp_path: Path) -> None:
    """None fails, on connections that the server knows the client of; a busy machine may leave some unanswered."""
    seen: set[str] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        shown: Any = tls.getpeercert()
        seen.add(f"{dict(shown['subjectAltName'])['URI']} {tls.version()} {tls.selected_alpn_protocol()}")
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)
        except asyncio.IncompleteReadError:
            writer.close()

    async def load() -> dict[str, Any]:
        context = _server_context(files, files.subject, wants_client=True)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        (tmp_path / "traffic").write_bytes(f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        client = _both(files).client(MESH_PROTOCOL)
        assert client is not None
        order = {"port": server.sockets[0].getsockname()[1], "rate": 200, "seconds": 0.5, "connections": 3}
        order |= {"traffic": str(tmp_path / "traffic"), "out": str(tmp_path / "out"), "tls": client.order()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(STEADY), json.dumps(order), stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
        server.close()
        return cast(dict[str, Any], json.loads(printed))

    report = asyncio.run(load())
    latencies = array("d")
    latencies.frombytes((tmp_path / "out").read_bytes())
    assert (report["requests"], report["failed"], report["reopened"]) == (100, 0, 0)
    assert report["unanswered"] < 100
    assert len(latencies) == 100
    assert seen == {f"{spiffe(CLIENT)} TLSv1.3 {MESH_PROTOCOL}"}


@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("wrk")), reason="gcc and wrk are not installed")
@pytest.mark.parametrize("resumes", [False, True])
def test_wrk_shows_a_certificate_and_counts_its_handshakes(resumes: bool, files: Certificates, tmp_path: Path) -> None:
    """With a connection for each request, all handshakes are full, or all but the first take up a session."""
    tls = Tls(files, build_wrk_tls(tmp_path), is_inward=True, is_mutual=True)
    seen: set[str] = set()

    def answer(path: str, who: str) -> tuple[int, dict[str, str]]:
        seen.add(who)
        return 200, {"Connection": "close"}

    context = _server_context(files, files.subject, wants_client=True)
    context.num_tickets = 1
    with _subject(answer, context, tls) as running:
        assert running.client is not None
        for seconds in (1, 5, 30):  # more only on a machine that has no time for two connections in one
            done = subprocess.run(
                ["wrk", "-t1", "-c1", f"-d{seconds}s", "--timeout", "60s", f"https://127.0.0.1:{running.port}/"],
                env=running.client.environment(resumes=resumes),
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            made = handshakes_of(done.stderr)
            if made.count > 1:
                break
    assert made.kind == running.client.kind
    assert made.count > 1
    assert made.resumed == (made.count - 1 if resumes else 0)
    assert seen == {spiffe(CLIENT)}


class _NoProcess(Process):
    """Starts nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def wait_for(self, *_: object, **__: object) -> None:
        """It answers at once."""


@pytest.mark.parametrize("case", ["clear", "in", "out", "both", "rules"])
def test_sidecar_reads_what_is_written_for_it(
    case: str, files: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every configuration of the scenarios is good, and asks for what the scenario is about."""
    base = Tls(files, Path())
    mutual = replace(base, is_inward=True, is_mutual=True)
    work = {
        "clear": Work(),
        "in": Work(tls=replace(base, is_inward=True)),
        "out": Work(tls=replace(base, is_outward=True)),
        "both": Work(is_full=True, tls=replace(mutual, is_outward=True)),
        "rules": Work(tls=mutual, rules=20),
    }[case]
    monkeypatch.setattr(subjects, "Process", _NoProcess)
    impostors = (1004, 1005) if work.is_outward else (0, 0)
    running = subjects.SIDECAR_SUBJECT.start(Site(tmp_path, (), 1001, 1002, 1003, *impostors), work)
    config = load_text((tmp_path / "sidecar.yaml").read_bytes(), "sidecar.yaml", {})
    side = config.inbound if work.is_inward else config.outbound
    assert side is not None
    assert f":{running.port}" in str(side.listen[0].address)
    assert {name: one.tls is not None for name, one in config.upstreams.items()} == dict.fromkeys(
        ("v1", "beta", "wrong", "stranger") if work.is_outward else ("v1", "beta"), work.is_outward
    )
    assert (config.identity is not None) is (case in ("both", "rules"))
    if config.inbound is not None:
        assert (config.inbound.listen[0].tls is not None) is (case == "in")
        assert (config.inbound.tls is not None and config.inbound.tls.mode == "strict") is (case != "in")
        rules = config.inbound.authorization.rules if config.inbound.authorization is not None else []
        assert len(rules) == work.rules
