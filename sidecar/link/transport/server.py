"""A control plane's address, as people write it. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from sidecar.net.address import join_host_port, parse_address

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Server:
    """
    Where a control plane is.

    Attributes:
        host: A name or an IP address, without brackets.
        prefix: Of every path, without a slash at its end; usually empty.
        url: As it was written.
    """

    is_tls: bool
    host: str
    port: int
    prefix: str
    url: str

    @property
    def authority(self) -> str:
        """For the field `Host`; the port of the scheme is left out (RFC 9110, 4.2.3)."""
        if self.port == _PORTS["https" if self.is_tls else "http"]:
            return f"[{self.host}]" if ":" in self.host else self.host
        return join_host_port(self.host, self.port)

    def __str__(self) -> str:
        return self.url


def parse_server(text: str) -> Server:
    """
    Understand `http://host:port` or `https://host:port`, perhaps with a path.

    Raises:
        ValueError: It is something else; the message says what was expected.
    """
    wanted = f"expected http://host:port or https://host:port, found {text!r}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(wanted)
    if parts.username is not None or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"{wanted}; a token goes into a file of its own, a query nowhere")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(f"{wanted}; only printable ASCII")
    host, port = parts.hostname, _PORTS[parts.scheme] if port is None else port
    try:
        parse_address(join_host_port(host, port))
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from None
    if not port:
        raise ValueError(f"{wanted}; a port from 1 to 65535")
    return Server(parts.scheme == "https", host, port, parts.path.rstrip("/"), text)
