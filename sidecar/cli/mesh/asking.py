"""How commands ask a control plane: JSON by plain HTTP or TLS, with a token if there is one. *Cold.*"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import click

from sidecar.cli.admin_client import AskError, printable

DEFAULT_URL: Final = "http://127.0.0.1:15010"
TIMEOUT_S: Final = 10.0
_SHOWN_CHARS: Final = 300
_CONTROL: Final = re.compile(r"spiffe://[a-z0-9._-]+/control")
_MAX_BYTES: Final = 256 * 1024 * 1024


def control_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that ask a control plane."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--token-file", default="", envvar="SIDECAR_CONTROL_TOKEN_FILE", show_envvar=True, type=click.Path(),
            help="The first line is shown as bearer token.",
        ),
        click.option(
            "--trust", default="", envvar="SIDECAR_CONTROL_TRUST", show_envvar=True, type=click.Path(),
            help="Roots of the mesh in PEM (`sidecar mesh ca roots`): the control plane must be of this mesh.",
        ),
        click.option(
            "--control", "url", default=DEFAULT_URL, envvar="SIDECAR_CONTROL", show_default=True, show_envvar=True,
            metavar="URL", help="The control plane; of several, parted by spaces, the first that answers.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


class ControlPlane:
    """
    A control plane that can be asked.

    Args:
        urls: One or several, parted by spaces or commas.
        token_file: Empty: none.
        trust: A file with the roots of the mesh, of which `https://` must be then; empty: as of any site.

    Raises:
        AskError: A URL is none, or a file cannot be read.
    """

    def __init__(self, urls: str, token_file: str = "", trust: str = "") -> None:
        self._urls = [_parsed(url) for url in urls.replace(",", " ").split()]
        if not self._urls:
            raise AskError(f"{urls!r}: expected a URL such as {DEFAULT_URL}")
        self._token = _token(token_file) if token_file else ""
        self._context = _trusting(trust) if trust else None

    def get(self, path: str) -> Any:
        """
        The JSON of a 200.

        Raises:
            AskError: There was no answer, or another.
        """
        url, status, body = self._first("GET", path, None, TIMEOUT_S)
        said = _object(body)
        if status != 200 or said is None:
            why = said.get("error") if said is not None else body[:_SHOWN_CHARS].decode("utf-8", "replace")
            raise AskError(f"{url} answered {status} to {path.partition('?')[0]}: {str(why)[:_SHOWN_CHARS]}")
        return said

    def post(self, path: str, values: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> tuple[int, dict[str, Any]]:
        """
        Status and JSON of the answer, whatever it is. What is asked so may be asked twice: of the next control plane,
        where one was lost in the middle.

        Raises:
            AskError: There was none, or not of a control plane.
        """
        url, status, body = self._first("POST", path, json.dumps(values).encode(), timeout_s)
        said = _object(body)
        if said is None:
            raise AskError(f"{url} answered {status}: {body[:_SHOWN_CHARS].decode('utf-8', 'replace')}")
        return status, said

    def delete(self, path: str) -> tuple[int, dict[str, Any]]:
        """As `post`."""
        url, status, body = self._first("DELETE", path, None, TIMEOUT_S)
        said = _object(body)
        if said is None:
            raise AskError(f"{url} answered {status}: {body[:_SHOWN_CHARS].decode('utf-8', 'replace')}")
        return status, said

    def _first(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[str, int, bytes]:
        """URL, status and body of the first that answers."""
        failures = []
        for url in self._urls:
            try:
                return url, *self._ask(url, method, path, body, timeout_s)
            except (OSError, http.client.HTTPException) as error:
                failures.append(f"{url}: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}")
        raise AskError(f"no answer from {'; '.join(failures)}; is a control plane there (--control, SIDECAR_CONTROL)?")

    def _ask(self, url: str, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=timeout_s, context=self._context)
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=timeout_s)
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.connect()
            if self._context is not None and isinstance(connection.sock, ssl.SSLSocket):
                _check_control(connection.sock, url)
            connection.request(method, parts.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            said = answer.read(_MAX_BYTES)
        finally:
            connection.close()
        if answer.status == 401:
            raise AskError(f"{url} wants a token: --token-file, SIDECAR_CONTROL_TOKEN_FILE")
        return answer.status, said


def _trusting(path: str) -> ssl.SSLContext:
    """For a control plane by its own authority: it has a SPIFFE ID, and no DNS name. Raises AskError."""
    try:
        context = ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise AskError(f"{path}: expected certificates in PEM: {why}") from None
    context.check_hostname = False
    return context


def _check_control(sock: ssl.SSLSocket, url: str) -> None:
    """That who answers is a control plane, not just anybody of the mesh: before the token is shown. Raises AskError."""
    names: Any = (sock.getpeercert() or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) != 1 or _CONTROL.fullmatch(str(uris[0])) is None:
        raise AskError(f"{url} is {', '.join(map(str, uris)) or 'nobody'}: expected spiffe://MESH/control")


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _parsed(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_fine = False
    if not is_fine:
        raise AskError(f"{url!r}: expected a URL such as {DEFAULT_URL}")
    return url


def _token(path: str) -> str:
    try:
        with open(os.fspath(path), encoding="ascii") as file:
            lines = [line.strip() for line in file]
    except (OSError, ValueError) as error:
        raise AskError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    token = next((line for line in lines if line and not line.startswith("#")), "")
    if not token:
        raise AskError(f"{path}: expected a token, found none")
    return token


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as they must be; what came from elsewhere is shown in a way that no terminal obeys."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in [heads, *shown]) for index in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *shown]]
    return "\n".join(line.rstrip() for line in lines)


def age(seconds: float) -> str:
    """`12s`, `3m`, `5h`, `2d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def octets(number: float) -> str:
    """`1.2KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f}{unit}" if number >= 10 or unit == "B" else f"{number:.1f}{unit}"
        number /= 1024
    return f"{number:.1f}GiB"


def milliseconds(seconds: float | None) -> str:
    """`3.2ms`; `-` for what is not known."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.1f}ms" if value < 10 else f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.1f}s"
