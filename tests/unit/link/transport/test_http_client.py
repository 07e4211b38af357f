"""What the client reads of files."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from sidecar.link.transport import http_client
from sidecar.link.transport.http_client import HttpClient, TransportError
from sidecar.link.transport.reading import read_token
from sidecar.link.transport.server import parse_server
from tests.support.wait import refusing_port


@pytest.mark.parametrize("raw", [b"", b" \n", b"two words", b"a\nb", b"\xff", b"a\x00b", b"x" * 20_000])
def test_what_is_no_token_is_refused(raw: bytes, tmp_path: Path) -> None:
    """Before it gets into a request."""
    (tmp_path / "token").write_bytes(raw)
    with pytest.raises(ValueError, match="expected one token of printable ASCII"):
        read_token(str(tmp_path / "token"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into it."""
    os.mkfifo(tmp_path / "token")
    with pytest.raises(ValueError, match="expected one token"):
        read_token(str(tmp_path / "token"))


def test_a_file_that_hangs_holds_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is tried: threads are few, and others need them."""
    released, begun = threading.Event(), []

    def hang(path: str) -> str:
        begun.append(path)
        released.wait(30)
        return "token"

    monkeypatch.setattr(http_client, "read_token", hang)
    server = parse_server(f"http://127.0.0.1:{refusing_port()}")

    async def main() -> None:
        client = HttpClient(user_agent="test", token_file="/mnt/token", connect_timeout_s=0.01)
        for _ in range(5):
            with pytest.raises(TransportError, match="token_file /mnt/token: it could not be read in time"):
                await client.ask(server, "GET", "/", {}, b"", 1.0)
        assert len(begun) == 1
        released.set()
        for _ in range(2000):
            with pytest.raises(TransportError) as caught:
                await client.ask(server, "GET", "/", {}, b"", 1.0)
            if str(caught.value).startswith("no connection"):
                break
        else:
            raise AssertionError(caught.value)
        await client.close()

    asyncio.run(main())
