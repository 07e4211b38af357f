"""curl and httpx by HTTP/2, over TLS and by prior knowledge, at a sidecar whose app does not know of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.certificates import Authority
from tests.support.peers import require
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually, free_port
from tests.support.web_app import CROWD, HALF_BYTES, WebApp
from tests.support.wire import Upstream

BODY = bytes(range(256)) * ((16 << 20) // 256)
WAYS = ("tls", "clear")


@dataclass
class Place:
    """
    Attributes:
        ports: Of the sidecar, by way.
        app: Behind it.
        by_hand: Behind it, at listeners of its own.
        ports_by_hand: These, by way.
    """

    folder: Path
    sidecar: SidecarProcess
    text: str
    app: WebApp
    by_hand: Upstream
    ports: dict[str, int]
    ports_by_hand: dict[str, int]

    def url(self, way: str, path: str, *, by_hand: bool = False) -> str:
        """Of a path."""
        port = (self.ports_by_hand if by_hand else self.ports)[way]
        return f"{'https' if way == 'tls' else 'http'}://localhost:{port}{path}"

    def addresses(self, name: str) -> set[str]:
        """From which a crowd has come that is called `name` by its queries."""

        def there() -> list[dict[str, Any]]:
            lines = [one for one in self.sidecar.access_log() if str(one["path"]).startswith(f"/crowd?{name}")]
            return lines if len(lines) == CROWD else []

        return {line["downstream_remote_address"] for line in eventually(there, "a line of each")}

    def curl(self, way: str, *arguments: str) -> list[str]:
        """A command."""
        how = ["--http2", "--cacert", f"{self.folder}/root.pem"] if way == "tls" else ["--http2-prior-knowledge"]
        return [require("curl"), "-sS", "--noproxy", "*", "--ipv4", *how, *arguments]

    def said(self, way: str, *arguments: str) -> str:
        """What curl has printed."""
        done = subprocess.run(self.curl(way, *arguments), capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()


@contextlib.contextmanager
def made(folder: Path) -> Iterator[Place]:
    """A place of its own."""
    root = Authority("root")
    (folder / "root.pem").write_bytes(root.pem)
    root.leaf(["localhost"]).write(folder)
    ports, ports_by_hand = ({way: free_port() for way in WAYS} for _ in range(2))
    tls = f"tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key}}"
    with WebApp() as app, Upstream() as by_hand:
        text = f"""
            service: storefront
            inbound:
              app: "127.0.0.1:{app.port}"
              listen:
                - {{address: "127.0.0.1:{ports["clear"]}", name: clear}}
                - {{address: "127.0.0.1:{ports["tls"]}", name: safe, {tls}}}
                - address: "127.0.0.1:{ports_by_hand["clear"]}"
                  name: clear-by-hand
                  app: "127.0.0.1:{by_hand.port}"
                - address: "127.0.0.1:{ports_by_hand["tls"]}"
                  name: safe-by-hand
                  app: "127.0.0.1:{by_hand.port}"
                  {tls}
            drain: {{timeout: 20s}}
        """
        with running_sidecar(folder, text) as sidecar:
            yield Place(folder, sidecar, text, app, by_hand, ports, ports_by_hand)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all."""
    with made(tmp_path_factory.mktemp("clients")) as one:
        yield one


@pytest.mark.parametrize("way", WAYS)
class TestCurl:
    """Both ways."""

    def test_bodies_heads_and_answers_without_content(self, place: Place, way: str, tmp_path: Path) -> None:
        """16 MiB up, HEAD, 204, 304; each in HTTP/2."""
        (tmp_path / "body").write_bytes(BODY)
        told = "-w", " %{http_version} %{response_code} %{size_download}"
        upload = place.said(way, *told, "--data-binary", f"@{tmp_path}/body", place.url(way, "/digest"))
        assert upload == f"{sha256(BODY).hexdigest()} 2 200 64"
        head = place.said(way, "-I", place.url(way, "/cached")).lower()
        assert head.startswith("http/2 200")
        assert "content-length: 4" in head
        assert place.said(way, *told, place.url(way, "/empty")) == " 2 204 0"
        assert place.said(way, *told, "-H", 'If-None-Match: "one"', place.url(way, "/cached")) == " 2 304 0"

    def test_trailers(self, place: Place, way: str) -> None:
        """Of a chunked response of HTTP/1.1, which are fields behind the content."""
        command = place.curl(way, "-D", "-", place.url(way, "/", by_hand=True))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as asking, place.by_hand.accept() as server:
            server.head()
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
            server.send(head + b"2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n")
            said, _ = asking.communicate(timeout=30)
        assert b"x-sum: 7" in said
        assert b"hi" in said

    def test_events_come_as_they_are_sent(self, place: Place, way: str) -> None:
        """The first while the app holds the second."""
        place.app.hold()
        with subprocess.Popen(place.curl(way, "-N", place.url(way, "/events")), stdout=subprocess.PIPE) as asking:
            assert asking.stdout is not None
            assert asking.stdout.read(13) == b"data: first\n\n"
            place.app.release()
            assert asking.communicate(timeout=30)[0] == b"data: last\n\n"

    def test_a_download_lives_through_a_reload_and_the_order_to_end(self, tmp_path: Path, way: str) -> None:
        """Whole; and the process ends behind it."""
        with made(tmp_path) as place:
            command = place.curl(way, "-N", "-w", "%{response_code}", place.url(way, "/held"))
            with subprocess.Popen(command, stdout=subprocess.PIPE) as asking:
                assert asking.stdout is not None
                assert asking.stdout.read(HALF_BYTES) == bytes(HALF_BYTES)
                place.sidecar.rewrite(place.text.replace("20s", "21s"))
                place.sidecar.wait_for_generation(2)
                place.sidecar.signal(signal.SIGTERM)
                eventually(lambda: not place.sidecar.is_ready(), "the end to begin")
                place.app.release()
                assert asking.communicate(timeout=30)[0] == bytes(HALF_BYTES) + b"200"
                assert place.sidecar.wait() == 0


def test_a_hundred_of_curls_at_once_go_by_one_connection(place: Place) -> None:
    """
    The app answers none before it has all. Over TLS alone: by prior knowledge curl 7.88 fails by itself ("Error in the
    HTTP2 framing layer"), whoever the server is.
    """
    url = place.url("tls", f"/crowd?c[1-{CROWD}]")
    assert place.said("tls", "-Z", "--parallel-max", str(CROWD), url) == "here" * CROWD
    assert len(place.addresses("c")) == 1


class TestHttpx:
    """Over TLS."""

    def test_bodies_and_a_crowd(self, place: Place) -> None:
        """16 MiB up, and a hundred at once by the same connection."""
        trust = ssl.create_default_context(cafile=str(place.folder / "root.pem"))

        async def ask() -> None:
            limits = httpx.Limits(max_connections=1)
            async with httpx.AsyncClient(
                http1=False, http2=True, trust_env=False, verify=trust, limits=limits, timeout=60
            ) as client:
                answer = await client.post(place.url("tls", "/digest"), content=BODY)
                assert (answer.http_version, answer.text) == ("HTTP/2", sha256(BODY).hexdigest())
                crowd = [client.get(place.url("tls", f"/crowd?h{number}")) for number in range(CROWD)]
                assert [one.text for one in await asyncio.gather(*crowd)] == ["here"] * CROWD

        asyncio.run(ask())
        assert len(place.addresses("h")) == 1

    def test_events_come_as_they_are_sent(self, place: Place) -> None:
        """A streamed response."""
        trust = ssl.create_default_context(cafile=str(place.folder / "root.pem"))
        first = threading.Event()
        place.app.hold()
        with (
            httpx.Client(http1=False, http2=True, trust_env=False, verify=trust, timeout=60) as client,
            client.stream("GET", place.url("tls", "/events")) as answer,
        ):
            said = b""
            for piece in answer.iter_bytes():
                said += piece
                if said == b"data: first\n\n":
                    first.set()
                    place.app.release()
        assert first.is_set()
        assert said == b"data: first\n\ndata: last\n\n"
