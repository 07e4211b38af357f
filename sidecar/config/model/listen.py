"""Addresses that are listened on for requests: their part of the configuration file. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from sidecar.config.model.tls import ListenerTls
from sidecar.config.problems import did_you_mean
from sidecar.config.values.addresses import EndpointAddress, ListenAddress, ListenedHost
from sidecar.config.values.base import Model, OneOrMany, Reads, Short, expected, setting
from sidecar.config.values.units import choice
from sidecar.config.values.unsupported import UnsupportedWords
from sidecar.config.values.words import PortName

_OF_HTTP2 = "`http` takes HTTP/1.1 and HTTP/2 alike; what the app speaks is `app: {address: ..., protocol: http2}`"


def _of_http2(word: str) -> str:
    return _OF_HTTP2 if word in ("http1", "http2", "grpc", "h2c") else ""


Protocol = Annotated[
    Literal["http", "tcp", "auto", "tls"],
    choice("http", "tcp", "auto", "tls", later=_of_http2),
    UnsupportedWords("listen.protocol"),
]

_VERSIONS = ("auto", "http1", "http2")


def _version_hint(written: object) -> str:
    return "gRPC is spoken over HTTP/2: `http2`" if written in ("grpc", "h2", "h2c") else ""


def parse_version(written: object) -> str:
    """Read `auto`, `http1` or `http2`; `http` is `auto`."""
    if written == "http":
        return "auto"
    if written not in _VERSIONS:
        raise expected("`auto`, `http1` or `http2`", _version_hint(written) or did_you_mean(str(written), _VERSIONS))
    return str(written)


def parse_spoken(written: object) -> str:
    """Read `auto`, `http1`, `http2` or `tcp`; `http` is `auto`."""
    words = (*_VERSIONS, "tcp")
    if written == "http":
        return "auto"
    if written not in words:
        raise expected("`auto`, `http1`, `http2` or `tcp`", _version_hint(written) or did_you_mean(str(written), words))
    return str(written)


HttpVersion = Annotated[Literal["auto", "http1", "http2"], Reads(parse_version, {"enum": [*_VERSIONS, "http"]})]
UpstreamProtocol = Annotated[
    Literal["auto", "http1", "http2", "tcp"], Reads(parse_spoken, {"enum": [*_VERSIONS, "tcp", "http"]})
]


class App(Model):
    """Where the app listens, and what it speaks there."""

    address: EndpointAddress = setting(..., "`host:port` or `unix:/path`.")
    protocol: HttpVersion = setting(
        "auto", "Which HTTP it speaks: `http1`, `http2`, or `auto`: HTTP/2 for gRPC, HTTP/1.1 for all else."
    )


AppAddress = Annotated[App, Short("address", "an address, or a mapping `{address, protocol}`")]


class ListenSpec(Model):
    """One address that is listened on."""

    address: ListenAddress = setting(..., "`host:port`, `[v6]:port` or `unix:/path`.")
    host: ListenedHost | None = setting(
        None, "The host, with or without a port, that every request here is for, whatever its `Host` says."
    )
    protocol: Protocol = setting(
        "http",
        "What is spoken here: `http` (HTTP/1.1 and HTTP/2); `tcp`, connections as they are; `auto`, told by the first"
        " octets.",
    )


class InboundListen(ListenSpec):
    """One address that is listened on for requests to the app: one of the app's ports, as others see it."""

    name: PortName | None = setting(None, "What this port of the app is called, such as `http`.")
    app: AppAddress | None = setting(
        None,
        "Where the app listens for what comes in here, an address or `{address, protocol}`: the upstream `app.NAME`, so"
        " it needs a `name`; default: `inbound.app`.",
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
