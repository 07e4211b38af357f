"""How commands ask a running sidecar: plain HTTP to its admin listener. *Cold.*"""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Callable
from typing import Any

import click

ADDRESS_VARIABLE = "SIDECAR_ADMIN"
DEFAULT_ADDRESS = "127.0.0.1:9901"
TIMEOUT_S = 10.0
_SHOWN_BYTES = 300


class AskError(Exception):
    """The sidecar cannot be asked, or refused; the text is for the user."""


def admin_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--admin` of commands that ask a running sidecar."""
    return click.option(
        "--admin",
        "address",
        default=DEFAULT_ADDRESS,
        envvar=ADDRESS_VARIABLE,
        show_default=True,
        show_envvar=True,
        metavar="ADDRESS",
        help="The sidecar's admin listener: host:port, [v6]:port or unix:/path.",
    )(command)


def fail(error: object) -> None:
    """End the command with this line on standard error and exit code 1."""
    click.echo(f"sidecar: {printable(str(error))}", err=True)
    sys.exit(1)


def printable(text: str) -> str:
    """`text` with every character escaped that a terminal might obey or that has no glyph."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Admin:
    """
    One connection to an admin listener, opened at the first request and again when it was lost.

    Args:
        address: `host:port`, `[v6]:port` or `unix:/path`.

    Raises:
        AskError: The address is none.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._connection: http.client.HTTPConnection | None = None
        self._make = _connector(address)

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str) -> bytes:
        """
        The body of a 200.

        Raises:
            AskError: There was no answer, or another.
        """
        is_fresh = self._connection is None
        try:
            return self._get(path)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not is_fresh:  # the sidecar closed what was idle, or was restarted
                return self.get(path)
            raise self._unreachable(error) from error

    def post(self, path: str, body: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
        """
        The body of a 200 to a POST, which is sent once.

        Args:
            timeout_s: How long its answer is waited for.

        Raises:
            AskError: There was no answer, or another.
        """
        self.close()
        try:
            self._connection = self._make()
            self._connection.connect()
            self._connection.sock.settimeout(timeout_s)
            self._connection.request("POST", path, body)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            self.close()
        if answer.status != 200:
            raise self._refusal(path, answer.status, said)
        return said

    def stream(self, path: str) -> http.client.HTTPResponse:
        """
        The response to a request whose body has no known end, to be closed; no time limit holds for it.

        Raises:
            AskError: As for `get`.
        """
        self.close()
        try:
            self._connection = self._make()
            self._connection.request("GET", path)
            sock = self._connection.sock  # which the connection forgets at the head of a response that is its last
            answer = self._connection.getresponse()
            if answer.status == 200:
                sock.settimeout(None)
                return answer
            with answer:
                raise self._refusal(path, answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self, path: str) -> bytes:
        answer = self._open(path)
        body = answer.read()
        if answer.status != 200:
            raise self._refusal(path, answer.status, body)
        return body

    def _open(self, path: str) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = self._make()
        self._connection.request("GET", path)
        return self._connection.getresponse()

    def _unreachable(self, error: Exception) -> AskError:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return AskError(
            f"no answer from {self.address}: {why}; is a sidecar running there (--admin, {ADDRESS_VARIABLE})?"
        )

    def _refusal(self, path: str, status: int, body: bytes) -> AskError:
        said = body[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
        return AskError(f"{self.address} answered {status} to {path.partition('?')[0]}: {said}")


def _connector(address: str) -> Callable[[], http.client.HTTPConnection]:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not path:
            raise AskError(f"{address!r}: expected unix:/path")
        return lambda: _UnixConnection(path)
    host, colon, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise AskError(f"{address!r}: expected host:port, [v6]:port or unix:/path, such as {DEFAULT_ADDRESS}")
    return lambda: http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)
