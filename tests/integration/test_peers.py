"""The sidecar between programs that were not written for it: nginx, uvicorn, curl, httpx, websockets, the library."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.origin import Origin
from tests.support.peers import nginx, require, uvicorn
from tests.support.process import SidecarProcess, running_sidecar

LARGE = os.urandom(1 << 20) * 3


@pytest.fixture(scope="module")
def nginx_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """nginx with a large file, a text and an empty file."""
    directory = tmp_path_factory.mktemp("nginx")
    files = directory / "files"
    files.mkdir()
    (files / "large.bin").write_bytes(LARGE)
    (files / "words.txt").write_text("many words " * 5000)
    (files / "empty.bin").write_bytes(b"")
    with nginx(directory) as server:
        yield server.port


@pytest.fixture(scope="module", params=["httptools", "h11"])
def behind_uvicorn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SidecarProcess]:
    """A sidecar whose app is uvicorn."""
    directory = tmp_path_factory.mktemp(f"uvicorn-{request.param}")
    with uvicorn(directory, request.param) as port:
        text = f"""
            service: x
            inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{port}"}}
        """
        with running_sidecar(directory, text) as sidecar:
            yield sidecar


@pytest.fixture
def web(proxy: SidecarProcess, nginx_port: int) -> Iterator[httpx.Client]:
    """httpx that reaches nginx through the outbound listener as an HTTP proxy."""
    with httpx.Client(
        proxy=f"http://127.0.0.1:{proxy.outbound_port}", base_url=f"http://127.0.0.1:{nginx_port}", timeout=30
    ) as client:
        yield client


# --- nginx ---------------------------------------------------------------------------------------------------------


def test_nginx_serves_files_whole(web: httpx.Client) -> None:
    """Large, compressed on the way, empty, missing."""
    assert hashlib.sha256(web.get("/large.bin").content).digest() == hashlib.sha256(LARGE).digest()
    assert web.get("/empty.bin").content == b""
    assert web.get("/missing").status_code == 404
    response = web.get("/words.txt")
    assert response.headers["content-encoding"] == "gzip"
    assert response.text == "many words " * 5000
    with web.stream("GET", "/words.txt") as stream:
        assert gzip.decompress(b"".join(stream.iter_raw())) == b"many words " * 5000


def test_nginx_answers_ranges_conditions_and_head(web: httpx.Client) -> None:
    """206 of one range and of several, 304, 416, HEAD."""
    one = web.get("/large.bin", headers={"range": "bytes=1000-1999"})
    assert (one.status_code, one.content) == (206, LARGE[1000:2000])
    several = web.get("/large.bin", headers={"range": "bytes=0-9,100-109"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert LARGE[100:110] in several.content
    assert web.get("/large.bin", headers={"range": "bytes=99999999-"}).status_code == 416
    etag = web.get("/large.bin").headers["etag"]
    assert web.get("/large.bin", headers={"if-none-match": etag}).status_code == 304
    head = web.head("/large.bin")
    assert (head.headers["content-length"], head.content) == (str(len(LARGE)), b"")


def test_nginx_sees_pooled_connections(proxy: SidecarProcess, nginx_port: int) -> None:
    """Clients that each open a connection of their own share one to nginx."""
    serials = set()
    for _ in range(20):
        response = proxy.outbound("/connection", host=f"127.0.0.1:{nginx_port}", headers={"Connection": "close"})
        serials.add(response.text)
    assert len(serials) == 1


# --- uvicorn -------------------------------------------------------------------------------------------------------


def test_uvicorn_gets_what_was_sent(behind_uvicorn: SidecarProcess) -> None:
    """Method, path, query, fields and the client's address."""
    with httpx.Client(base_url=f"http://127.0.0.1:{behind_uvicorn.inbound_port}") as client:
        response = client.put("/echo?a=1&b=%20", content=b"xyz", headers={"x-one": "1", "host": "shop.example"})
        said = response.json()
        assert (said["method"], said["path"], said["query"], said["size"]) == ("PUT", "/echo", "a=1&b=%20", 3)
        assert said["headers"]["x-one"] == "1"
        assert said["headers"]["host"] == "shop.example"
        assert said["headers"]["x-forwarded-for"] == "127.0.0.1"
        assert said["client"][0] == "127.0.0.1"
        assert response.headers["x-app"] == "asgi"


def test_uvicorn_gets_and_sends_streams(behind_uvicorn: SidecarProcess) -> None:
    """A chunked upload of 3 MiB and of known length, and a chunked download."""
    digest = hashlib.sha256(LARGE).hexdigest()
    with httpx.Client(base_url=f"http://127.0.0.1:{behind_uvicorn.inbound_port}", timeout=30) as client:
        assert client.post("/digest", content=LARGE).text == digest
        pieces = iter([LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)])
        assert client.post("/digest", content=pieces).text == digest
        assert client.get("/stream").content == b"".join(bytes([number]) * 1024 for number in range(100))


# --- clients -------------------------------------------------------------------------------------------------------


def curl(*arguments: str) -> str:
    """Standard output of curl, which must succeed."""
    command = [require("curl"), "-sS", "--fail-with-body", "-m", "30", "--noproxy", "", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """A server that echoes."""
    with Origin("origin") as server:
        yield server


def test_curl_as_it_is_used(proxy: SidecarProcess, origin: Origin, tmp_path: Path) -> None:
    """By Host, as a proxy, with HTTP/1.0, with uploads of known and unknown length, several URLs on one connection."""
    by_proxy = ("-x", f"http://127.0.0.1:{proxy.outbound_port}")
    url = f"http://127.0.0.1:{origin.port}/echo"
    direct = f"http://127.0.0.1:{proxy.outbound_port}/echo"
    host = f"127.0.0.1:{origin.port}"
    assert json.loads(curl("-H", f"Host: {host}", direct))["method"] == "GET"
    absolute = json.loads(curl(*by_proxy, url + "?q=1"))
    assert (absolute["path"], dict(absolute["headers"])["host"]) == ("/echo?q=1", host)
    assert json.loads(curl("--http1.0", *by_proxy, url))["method"] == "GET"
    body = tmp_path / "body"
    body.write_bytes(b"0123456789" * 1000)
    assert len(json.loads(curl(*by_proxy, "--data-binary", f"@{body}", url))["body"]) == 10_000
    assert curl(*by_proxy, "-w", "%{num_connects} ", "-o", "/dev/null", "-o", "/dev/null", url, url).split() == [
        "1",
        "0",
    ]


def test_curl_through_a_tunnel(proxy: SidecarProcess, origin: Origin) -> None:
    """CONNECT, as for https."""
    said = curl("-p", "-x", f"http://127.0.0.1:{proxy.outbound_port}", f"http://127.0.0.1:{origin.port}/echo")
    assert "via" not in dict(json.loads(said)["headers"])


def test_httpx_by_environment_variable(proxy: SidecarProcess, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """`HTTP_PROXY`, without a line of the app changed."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.outbound_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with httpx.Client() as client:
        for number in range(3):
            response = client.post(f"http://127.0.0.1:{origin.port}/echo", content=b"x" * number)
            assert len(response.json()["body"]) == number
            assert response.headers["via"] == "1.1 sidecar"


def test_urllib_by_proxy_handler(proxy: SidecarProcess, origin: Origin) -> None:
    """The library's own opener, which sends `Connection: close`."""
    handler = urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{proxy.outbound_port}"})
    opener = urllib.request.build_opener(handler)
    with opener.open(f"http://127.0.0.1:{origin.port}/echo", timeout=15) as response:
        assert json.load(response)["path"] == "/echo"


def test_http_client_reuses_its_connection(behind_uvicorn: SidecarProcess) -> None:
    """Requests with every kind of body on one connection, the chunked one included."""
    connection = http.client.HTTPConnection("127.0.0.1", behind_uvicorn.inbound_port, timeout=15)
    local = None
    try:
        for body, size in ((None, 0), (b"", 0), (b"known", 5), (iter([b"un", b"known"]), 7), (None, 0)):
            connection.request("POST", "/echo", body=body)
            local = local or connection.sock.getsockname()
            response = connection.getresponse()
            assert json.load(response)["size"] == size
            assert connection.sock.getsockname() == local
    finally:
        connection.close()


def test_http_client_tunnels_with_http_1_0(proxy: SidecarProcess, origin: Origin) -> None:
    """Python's `set_tunnel`, which up to 3.11 sends its CONNECT as HTTP/1.0 and without `Host`."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.outbound_port, timeout=15)
    try:
        connection.set_tunnel("127.0.0.1", origin.port)
        connection.request("GET", "/echo")
        response = connection.getresponse()
        assert response.status == 200
        fields = dict(json.load(response)["headers"])
        assert "via" not in fields
        connection.request("GET", "/again")
        assert connection.getresponse().read() == b"origin"
    finally:
        connection.close()
