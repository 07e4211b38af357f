"""Keys from an address, by a real server: what is taken, and what is given up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from sidecar.security.identity.certificates.trouble import TroubleError
from sidecar.security.tokens import fetching
from sidecar.security.tokens.fetching import fetch
from sidecar.security.tokens.rules import KeySource

Serve = Callable[..., str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Answers one connection with these octets; gives the address."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def begin(answer: bytes, *, is_held: bool = False) -> str:
        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(65536))
                connection.sendall(answer)
                if is_held:
                    connection.recv(1)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/keys"

    begin.seen = seen  # type: ignore[attr-defined]
    yield begin
    for thread in threads:
        thread.join(30)
    listener.close()


def why(url: str, trust: str = "system") -> str:
    with pytest.raises(TroubleError) as caught:
        fetch(KeySource(url=url, trust=trust))
    return str(caught.value)


def test_what_is_there_is_given(serve: Serve) -> None:
    """Whatever it is; who asks says what it is."""
    url = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nkeys")
    assert fetch(KeySource(url=url)) == b"keys"
    (request,) = serve.seen  # type: ignore[attr-defined]
    assert request.startswith(b"GET /keys HTTP/1.1\r\n")
    assert b"user-agent: sidecar/" in request.lower()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "answered 204"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nkeys", "the answer was cut"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nkeys", ": "),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nkeys\r\n", ": "),
        (b"ghost\r\n\r\n", ": "),
        (b"", ": "),
    ],
)
def test_whatever_else_comes_is_told(serve: Serve, answer: bytes, said: str) -> None:
    """No redirect is followed, and nothing that is cut is taken."""
    url = serve(answer)
    found = why(url)
    assert found.startswith(f"{url}: ")
    assert said in found


def test_what_does_not_end_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """By size, and by time."""
    monkeypatch.setattr(fetching, "MAX_BYTES", 1000)
    assert "expected at most 1000 bytes" in why(serve(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001))
    monkeypatch.setattr(fetching, "WAIT_S", 0.2)
    assert "timed out" in why(serve(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nke", is_held=True))
    monkeypatch.setattr(fetching, "WHOLE_S", 0.0)
    assert "not answered within 0 s" in why(serve(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nkeys"))


def test_nobody_there_and_no_roots() -> None:
    """Each in one sentence."""
    assert "connection refused" in why("http://127.0.0.1:1/")
    assert why("https://127.0.0.1:1/", trust="/nonexistent.pem").startswith("/nonexistent.pem: no roots can be read")
