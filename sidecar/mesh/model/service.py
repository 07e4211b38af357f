"""A service's file: `services/NAME.yaml`, or an entry of `services` in a mesh of one file. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from sidecar.config.model.listen import UpstreamProtocol
from sidecar.config.model.resilience import Retry
from sidecar.config.model.root import InboundRules, RoutingTest, UpstreamPolicy
from sidecar.config.model.routes import Route
from sidecar.config.model.tls import UpstreamTls
from sidecar.config.values.addresses import DnsAddress, EndpointAddress, ListenAddress
from sidecar.config.values.base import Model, OneOrMany, Reads, Short, expected, listing, setting, table
from sidecar.config.values.units import PositiveDuration, choice
from sidecar.config.values.words import FreeName
from sidecar.mesh.model.access import Caller, ServiceAuthorization
from sidecar.mesh.model.instances import Endpoints, InstanceSource
from sidecar.mesh.model.words import InstanceName, OwnIdentity, PortName, ServiceHost, ServiceName


def parse_keep(written: object) -> Literal["keep"]:
    """Read `keep`."""
    if written != "keep":
        raise expected("`keep`", "without it `Host` is the name in `dns`; a route may `rewrite: {host: ...}`")
    return "keep"


def _of_listeners(word: str) -> str:
    if word == "auto":
        return "`auto` is a word for a listener of one sidecar; callers' sidecars must know what to send"
    return "gRPC is spoken over HTTP/2: `http2`" if word == "grpc" else ""


PortProtocol = Annotated[
    Literal["http", "http1", "http2", "tcp"], choice("http", "http1", "http2", "tcp", later=_of_listeners)
]


class Values(UpstreamPolicy):
    """What `defaults`, a service and `calls` may say of the same thing; the caller has the last word."""

    hints: ClassVar[Mapping[str, str]] = {"tls": "a service outside of the mesh says `tls` itself, for all its callers"}

    timeout: PositiveDuration | None = setting(
        None, "Of routes that say none: for the whole exchange, all attempts; default: none."
    )
    retry: Retry | None = setting(None, "Of routes that say none: what is tried again, and how often.")


class Port(Model):
    """Where the app listens, and what it speaks there."""

    app: EndpointAddress = setting(..., "`host:port` or `unix:/path`, seen from the app's own sidecar.")
    protocol: PortProtocol = setting(
        "http",
        "What the app speaks: `http` (HTTP/2 for gRPC, HTTP/1.1 for all else), `http1`, `http2`, or `tcp` for anything"
        " else.",
    )


class CallerRoute(Route):
    """A caller's own route to a service; it is tried before the service's."""

    overrides: Annotated[list[FreeName], OneOrMany(may_be_empty=True)] = listing(
        "Tests of the called service that this route breaks on purpose."
    )


class Call(Values):
    """How one service is called by this one."""

    listen: ListenAddress | None = setting(
        None, "An address on which every request is for the called service, for apps without host and proxy settings."
    )
    routes: list[CallerRoute] = listing("Tried before the called service's own; no host needed.")


class ServiceInbound(InboundRules):
    """What a service's own sidecars do with requests to the app."""

    hints: ClassVar[Mapping[str, str]] = {
        "authorization": "write it beside `callers`, as `authorization` of the service: its `default` is made from them"
    }


class Service(Values):
    """One service: what it is called, where its instances are, how it is called and what it calls."""

    hosts: Annotated[list[ServiceHost], OneOrMany()] | None = setting(
        None, "Names by which apps call it, with or without a port; default: its own name."
    )
    app: EndpointAddress | None = setting(None, "Short for `ports: {http: ADDRESS}`.")
    ports: dict[PortName, Annotated[Port, Short("app", "an address, or a mapping `{app, protocol}`")]] = table(
        "Where the app listens, by the port's name; hosts without a port lead to the first."
    )
    callers: Annotated[list[Caller], OneOrMany(may_be_empty=True)] | None = setting(
        None,
        "Who may call it: services, `mesh`, `anyone`, or mappings such as `{from: storefront, methods: [GET]}`;"
        " default: what `access` of the mesh says.",
    )
    authorization: ServiceAuthorization | None = setting(None, "Rules beside `callers`, asked before it.")
    identities: Annotated[list[OwnIdentity], OneOrMany()] | None = setting(
        None, "Paths of the SPIFFE IDs that its instances may have, such as `ns/shop/sa/storefront`; default: its name."
    )
    instances: dict[InstanceName, InstanceSource] = table(
        "Subsets of its instances that routes can name; default: none, there are only all."
    )
    dns: DnsAddress | None = setting(None, "Outside of the mesh, by DNS: `name:port`.")
    endpoints: Endpoints | None = setting(None, "Outside of the mesh, at these addresses.")
    tls: UpstreamTls | None = setting(
        None,
        "Outside of the mesh: callers speak TLS to it; `{}`: verified for the name in `dns`, by the machine's roots.",
    )
    protocol: UpstreamProtocol | None = setting(
        None,
        "Outside of the mesh: what it speaks, `auto` (the default), `http1`, `http2`, or `tcp` for anything else.",
    )
    host: Annotated[Literal["keep"], Reads(parse_keep, {"const": "keep"})] | None = setting(
        None, "`keep`: `Host` is sent as the app wrote it; default: `tls.server_name`, or else the name in `dns`."
    )
    routes: list[Route] = listing("They hold for every caller, after its own; `to` names instances; no host needed.")
    calls: dict[ServiceName, Call] | None = setting(
        None, "What it calls, and all that its sidecars are told; default: every service that admits it."
    )
    inbound: ServiceInbound | None = setting(None, "What its own sidecars do with requests to the app.")
    tests: list[RoutingTest] = listing(
        "Requests and where they must go: those for its own hosts in every caller's file, others in its own."
    )

    @property
    def is_outside(self) -> bool:
        """Whether it is no part of the mesh, but only called from there."""
        return self.dns is not None or self.endpoints is not None

    def speaks_tcp(self, port: str) -> bool:
        """Whether a port of it, or it if it is outside of the mesh, speaks something else than HTTP."""
        return self.listens[port].protocol == "tcp" if port in self.listens else self.protocol == "tcp"

    @cached_property
    def listens(self) -> dict[str, Port]:
        """Its ports, the short form included; empty for what has no app that is called."""
        return {**({"http": Port(app=self.app)} if self.app is not None else {}), **self.ports}


class ServiceFile(Service):
    """A file of one service."""

    service: ServiceName = setting(..., "Its name: the identity, the upstream, and by default the host.")
