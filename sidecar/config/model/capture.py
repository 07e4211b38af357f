"""Connections that the kernel leads to the sidecar: their part of the configuration file. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from sidecar.config.values.addresses import TcpListenAddress
from sidecar.config.values.base import Model, OneOrMany, Reads, expected, setting, table
from sidecar.config.values.units import Boolean, choice

OUTBOUND: Final = ["127.0.0.1:15001", "[::1]:15001"]
INBOUND: Final = ["0.0.0.0:15006", "[::]:15006"]


def parse_port(written: object) -> int:
    """Read the number of a port."""
    if not isinstance(written, str) or not written.isascii() or not written.isdigit() or not 0 < int(written) < 65536:
        raise expected("a port from 1 to 65535")
    return int(written)


Port = Annotated[int, Reads(parse_port, {"type": "string", "pattern": "^[0-9]{1,5}$"})]
Addresses = Annotated[list[TcpListenAddress], OneOrMany(may_be_empty=True)]


def _addresses(default: list[str], whose: str) -> Any:
    return setting(list(default), f"Where {whose} are led to, or a list; `[]`: none.")


class Capture(Model):
    """Connections that `sidecar capture install` leads here."""

    outbound: Addresses = _addresses(OUTBOUND, "the app's own")
    inbound: Addresses = _addresses(INBOUND, "those to the app")
    unmatched: Annotated[Literal["deny", "passthrough"], choice("deny", "passthrough")] = setting(
        "passthrough", "What is done with what no route and no upstream names: refused, or sent to where it was meant."
    )
    required: Boolean = setting(False, "Not ready before it is proved that the app's connections are led here.")
    ports: dict[Port, Annotated[Literal["auto", "http", "tcp"], choice("auto", "http", "tcp")]] = table(
        "What is spoken to ports, instead of asking the first octets: `5432: tcp`."
    )
