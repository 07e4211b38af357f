"""Addresses that are listened on for requests: their part of the configuration file. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from sidecar.config.model.tls import ListenerTls
from sidecar.config.values.addresses import EndpointAddress, ListenAddress, ListenedHost
from sidecar.config.values.base import Model, OneOrMany, Short, setting
from sidecar.config.values.units import choice
from sidecar.config.values.unsupported import UnsupportedWords
from sidecar.config.values.words import PortName

Protocol = Annotated[
    Literal["http", "http2", "grpc", "tcp", "auto", "tls"],
    choice("http", "http2", "grpc", "tcp", "auto", "tls"),
    UnsupportedWords("listen.protocol"),
]
UpstreamProtocol = Annotated[Literal["http", "tcp"], choice("http", "tcp")]


class ListenSpec(Model):
    """One address that is listened on."""

    address: ListenAddress = setting(..., "`host:port`, `[v6]:port` or `unix:/path`.")
    host: ListenedHost | None = setting(
        None, "The host, with or without a port, that every request here is for, whatever its `Host` says."
    )
    protocol: Protocol = setting(
        "http",
        "What is spoken here: `http` (HTTP/1.1); `tcp`, connections as they are; `auto`, told by the first octets.",
    )


class InboundListen(ListenSpec):
    """One address that is listened on for requests to the app: one of the app's ports, as others see it."""

    name: PortName | None = setting(None, "What this port of the app is called, such as `http`.")
    app: EndpointAddress | None = setting(
        None,
        "Where the app listens for what comes in here: the upstream `app.NAME`, so it needs a `name`; default:"
        " `inbound.app`.",
    )
    tls: ListenerTls | None = setting(
        None, "TLS for clients outside: `{certificate, key}`, or several; default: what `inbound.tls` says."
    )


Listen = Annotated[
    list[Annotated[ListenSpec, Short("address", "an address, or a mapping `{address, host, protocol}`")]], OneOrMany()
]
ListenInbound = Annotated[
    list[Annotated[InboundListen, Short("address", "an address, or a mapping `{address, name, app, host, protocol}`")]],
    OneOrMany(),
]


def default_listen(model: type[ListenSpec], address: str, mapping: str) -> Any:
    """What is listened on where the file does not say."""
    return setting([model(address=address)], f"An address, `{mapping}`, or a list of these.", spelled=address)
