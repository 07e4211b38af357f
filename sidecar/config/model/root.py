"""
The configuration file as typed, frozen values: what `compile.plan` reads. *Cold, pure.*

Durations are seconds, sizes bytes, short forms have become long ones. Rules between several values are not here but
in `check.py`. The JSON Schema is generated from these models, so a description here is what an editor shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Tag

from sidecar.config.model.authorization import Authorization
from sidecar.config.model.capture import Capture
from sidecar.config.model.control import Control
from sidecar.config.model.listen import (
    App,
    AppAddress,
    InboundListen,
    Listen,
    ListenInbound,
    ListenSpec,
    UpstreamProtocol,
    default_listen,
)
from sidecar.config.model.matches import Key, KeySource, Match, PathMatch, ValueMatch
from sidecar.config.model.preview import Guard, RecentRequests, Reload
from sidecar.config.model.resilience import (
    CircuitBreaker,
    Fault,
    HealthCheck,
    Mirror,
    OutlierDetection,
    RateLimit,
    Retry,
    RetryBudget,
    UpstreamHttp2,
)
from sidecar.config.model.routes import (
    Destination,
    HeaderEdits,
    Redirect,
    RegexRewrite,
    Respond,
    Rewrite,
    Route,
    Sticky,
)
from sidecar.config.model.routing_tests import Expectation, RoutingTest, TestRequest
from sidecar.config.model.telemetry import AccessLog, LogWhen, Metrics, Telemetry, Traces
from sidecar.config.model.tls import (
    CertificatePair,
    ClearRule,
    Identity,
    IdentityFiles,
    IdentitySetting,
    IdentitySource,
    InboundTls,
    InboundTlsSetting,
    ListenerTls,
    UpstreamTls,
)
from sidecar.config.values.addresses import (
    AuthorityPattern,
    DnsAddress,
    EndpointAddress,
    HostPattern,
    IpNetwork,
    TcpListenAddresses,
)
from sidecar.config.values.base import Model, OneOrMany, Short, listing, setting, table
from sidecar.config.values.units import Duration, Percent, PositiveDuration, Weight, choice, integer, size
from sidecar.config.values.unsupported import Unsupported, UnsupportedWords
from sidecar.config.values.words import (
    FilePath,
    FreeName,
    UpgradeName,
    UpstreamName,
)
from sidecar.config.values.workers import Workers

__all__ = [
    "AccessLog",
    "Admin",
    "App",
    "Authorization",
    "Capture",
    "CertificatePair",
    "CircuitBreaker",
    "ClearRule",
    "Config",
    "Control",
    "Destination",
    "Discover",
    "Drain",
    "EndpointSpec",
    "Expectation",
    "Fault",
    "Forwarded",
    "Guard",
    "Hash",
    "HeaderEdits",
    "HealthCheck",
    "Identity",
    "IdentityFiles",
    "IdentitySource",
    "Inbound",
    "InboundListen",
    "InboundRules",
    "InboundTls",
    "KeySource",
    "Limits",
    "ListenSpec",
    "ListenerTls",
    "LogWhen",
    "Match",
    "Metrics",
    "Mirror",
    "Outbound",
    "OutlierDetection",
    "PathMatch",
    "RateLimit",
    "RecentRequests",
    "Redirect",
    "RegexRewrite",
    "Reload",
    "Respond",
    "Retry",
    "RetryBudget",
    "Rewrite",
    "Route",
    "RoutingTest",
    "Service",
    "Sticky",
    "Telemetry",
    "TestRequest",
    "Traces",
    "Upstream",
    "UpstreamPolicy",
    "UpstreamTls",
    "ValueMatch",
]


class Service(Model):
    """Who the app is, in telemetry."""

    name: FreeName = setting(..., "The app's name.")
    version: FreeName | None = setting(None, "The app's version.")
    namespace: FreeName | None = setting(None, "What groups apps, such as a team or an environment.")


class Forwarded(Model):
    """Which proxies before the sidecar are believed about the client's address: exactly one of the two."""

    is_one_value: ClassVar[bool] = True

    trusted_hops: Annotated[int, integer(1, 32)] | None = setting(
        None, "How many: the client is so many addresses from the right of `x-forwarded-for`."
    )
    trusted_networks: Annotated[list[IpNetwork], OneOrMany()] | None = setting(
        None, "Where they are: the client is the first address from the right that is in none of these."
    )


class InboundRules(Model):
    """What is done with requests to the app."""

    tls: InboundTlsSetting | None = setting(
        None,
        "TLS between sidecars at listeners without a `tls`: `permissive`, `strict`, `off`, or `{mode, clear}`; default:"
        " `permissive` with `identity`, else `off`.",
    )
    circuit_breaker: Annotated[CircuitBreaker | None, Unsupported("inbound.circuit_breaker")] = setting(
        None, "How much may be under way at the app."
    )
    health_check: HealthCheck | None = setting(
        None, "How the app is asked how it is, for `/app-health` and the mesh; default with `control`: a connection."
    )
    rate_limit: Annotated[RateLimit | None, Unsupported("inbound.rate_limit")] = setting(
        None, "How often requests may come, all routes together."
    )
    forwarded: Forwarded | None = setting(
        None, "Who is believed about the client's address; default: nobody, it is who connects."
    )
    upgrades: Annotated[list[UpgradeName], OneOrMany(may_be_empty=True)] = setting(
        ["websocket"],
        "Protocols that a request may switch to by `Upgrade`, where its route does not say; `[]`: none.",
    )
    routes: list[Route] = listing("What matches none of them goes to the app.")


class Inbound(InboundRules):
    """Requests to the app."""

    listen: ListenInbound = default_listen(InboundListen, "0.0.0.0:15000", "{address, name, app, host, protocol}")
    app: AppAddress | None = setting(
        None, "Where the app listens: `host:port` or `unix:/path`, or `{address, protocol}`."
    )
    authorization: Authorization | None = setting(None, "Which requests may pass; default: all.")


class Outbound(Model):
    """Requests from the app."""

    listen: Listen = default_listen(ListenSpec, "127.0.0.1:15001", "{address, host, protocol}")
    unmatched: Annotated[Literal["deny", "passthrough"], choice("deny", "passthrough")] = setting(
        "deny", "What is done with requests for hosts that no route and no upstream names: 404, or sent as addressed."
    )
    routes: list[Route] = listing("Tried in order; after all of them come the upstreams by their hosts.")


class EndpointSpec(Model):
    """One server of an upstream."""

    address: EndpointAddress = setting(..., "`host:port`, `[v6]:port` or `unix:/path`.")
    weight: Weight = setting(1.0, "Share relative to the other endpoints; 0 gets no requests.")
    zone: Annotated[FreeName | None, Unsupported("endpoint.zone")] = setting(
        None, "Where it is; those in the sidecar's own `zone` are preferred."
    )


class Discover(Model):
    """What tells endpoints while the sidecar runs: exactly one of the two."""

    is_one_value: ClassVar[bool] = True

    name: UpstreamName | None = setting(None, "What the control plane knows them by.")
    file: FilePath | None = setting(
        None, "A file that is followed, in the form of Prometheus's `file_sd`, as JSON: `[{targets, labels}]`."
    )


class Hash(Model):
    """Consistent hashing: requests with the same key go to the same endpoint."""

    is_one_value: ClassVar[bool] = True

    hash: Key = setting(..., "Where the key is read from; requests without it are spread at random.")

    @property
    def cookie(self) -> str | None:
        """Name of the cookie that is hashed, or None."""
        return self.hash.cookie

    @property
    def header(self) -> str | None:
        """Name of the header that is hashed, lower case, or None."""
        return self.hash.header

    @property
    def query(self) -> str | None:
        """Name of the query parameter that is hashed, or None."""
        return self.hash.query

    @property
    def source_ip(self) -> bool:
        """Whether the client's address is hashed."""
        return bool(self.hash.source_ip)


_POLICIES = choice("round_robin", "least_request", "random", "peak_ewma")
_LoadBalancing = Annotated[
    Annotated[
        Literal["round_robin", "least_request", "random", "peak_ewma"],
        _POLICIES,
        UnsupportedWords("load_balancing"),
        Tag("<word>"),
    ]
    | Annotated[Hash, Tag("<mapping>")],
    Discriminator(lambda value: "<mapping>" if isinstance(value, dict | Hash) else "<word>"),
]


class UpstreamPolicy(Model):
    """How servers are used, wherever they come from."""

    load_balancing: _LoadBalancing = setting("least_request", "How an endpoint is chosen.")
    connect_timeout: PositiveDuration = setting(1.0, "For opening a connection.", "1s")
    idle_timeout: PositiveDuration | None = setting(
        None, "How long a connection without a request is kept; default: `4s`, by TLS to a sidecar `1m`."
    )
    max_age: Duration = setting(600.0, "From what age on a connection serves no further request; 0: any age.", "10m")
    http2: UpstreamHttp2 = setting(UpstreamHttp2(), "Connections of HTTP/2, which many requests share.")
    retry_budget: Annotated[RetryBudget, Unsupported("upstream.retry_budget")] = setting(
        RetryBudget(), "How much of its traffic retries may be."
    )
    circuit_breaker: Annotated[CircuitBreaker | None, Unsupported("upstream.circuit_breaker")] = setting(
        None, "How much may be under way at once."
    )
    outlier_detection: Annotated[OutlierDetection | None, Unsupported("upstream.outlier_detection")] = setting(
        None, "When an endpoint that fails is taken out for a while; default: never."
    )
    health_check: Annotated[HealthCheck | None, Unsupported("upstream.health_check")] = setting(
        None, "How each endpoint is asked how it is; default: not at all."
    )
    slow_start: Annotated[PositiveDuration | None, Unsupported("upstream.slow_start")] = setting(
        None, "How long an endpoint that is new or comes back takes to get its full share; default: no time."
    )
    panic_threshold: Annotated[Percent, Unsupported("upstream.panic_threshold")] = setting(
        50.0, "When a smaller share of the endpoints is usable, all are used; 0: never.", "50%"
    )


class Upstream(UpstreamPolicy):
    """Servers that are interchangeable: exactly one of `endpoints`, `dns` and `discover`."""

    hosts: Annotated[list[AuthorityPattern], OneOrMany(may_be_empty=True)] | None = setting(
        None,
        "Hosts by which the app calls it, with or without a port, tried after all routes; default: its own name;"
        " `[]`: none.",
    )
    endpoints: (
        list[Annotated[EndpointSpec, Short("address", "an address, or a mapping `{address, weight}`")]] | None
    ) = setting(None, "Addresses; an empty list answers 503.")
    dns: DnsAddress | None = setting(None, "`name:port`; every A and AAAA record is an endpoint; resolved again.")
    discover: Annotated[Discover, Short("name", "a name, or a mapping `{file: PATH}`")] | None = setting(
        None, "What tells endpoints while the sidecar runs: a name that the control plane knows, or `{file: PATH}`."
    )
    protocol: UpstreamProtocol = setting(
        "auto",
        "What its servers speak: `http1`; `http2`; `auto`, as is agreed on by TLS, else HTTP/2 for gRPC and HTTP/1.1"
        " for all else; `tcp`, connections as they are; those that are captured are not asked.",
    )
    tls: UpstreamTls | None = setting(
        None, "TLS to its servers: `{}` for all defaults, or to sidecars `{identities: [...]}`; default: in clear."
    )


class Http2Limits(Model):
    """What a client may make grow by HTTP/2."""

    max_concurrent_streams: Annotated[int, integer(1, 100_000)] = setting(
        100, "Requests under way on one connection of a client."
    )
    initial_window: Annotated[int, size(65535, 16 * 1024 * 1024)] = setting(
        262144, "Of a request's body that a client may send before it is asked for more.", "256KiB"
    )
    max_resets: Annotated[int, integer(1, 1_000_000)] = setting(
        200, "Requests that a client may give up within a short time, before its connection is closed."
    )


class Limits(Model):
    """What a peer may make grow."""

    max_header_bytes: Annotated[int, size(1024, 1024 * 1024)] = setting(
        65536, "Of a head, start line included; of requests and responses.", "64KiB"
    )
    max_headers: Annotated[int, integer(1, 10_000)] = setting(128, "Fields of a head.")
    headers_with_underscores: Annotated[Literal["drop", "pass"], choice("drop", "pass")] = setting(
        "pass", "Request fields with `_` in their name; `drop` where the app reads `_` as `-`, as CGI, WSGI and PHP do."
    )
    max_connections: Annotated[int, integer(1, 1_000_000)] = setting(
        10_000, "Connections of clients, all listeners together."
    )
    header_timeout: PositiveDuration = setting(10.0, "From a request's first byte to its whole head.", "10s")
    idle_timeout: PositiveDuration = setting(
        300.0, "Without a byte in either direction: default of the three that follow.", "5m"
    )
    client_idle_timeout: PositiveDuration | None = setting(
        None, "Of a client's connection between two requests; default: `idle_timeout`."
    )
    stream_idle_timeout: PositiveDuration | None = setting(
        None, "Of a request and its response, without a byte in either direction; default: `idle_timeout`."
    )
    tunnel_idle_timeout: PositiveDuration | None = setting(
        None, "Of a WebSocket or CONNECT, without a byte in either direction; default: `idle_timeout`."
    )
    on_client_reset: Annotated[Literal["cancel", "finish"], choice("cancel", "finish")] = setting(
        "cancel", "What becomes of a request at its upstream when the client's connection is reset."
    )
    http2: Http2Limits = setting(Http2Limits(), "What a client may make grow by HTTP/2.")
    max_loop_lag: PositiveDuration = setting(
        1.0, "When the event loop is later than this twice in a row, new connections and requests are refused.", "1s"
    )


class Drain(Model):
    """The end of the process."""

    timeout: Duration = setting(20.0, "From SIGTERM to the end, at most; 0 ends at once.", "20s")
    delay: Annotated[Duration, Unsupported("drain.delay")] = setting(
        0.0, "Of this time, how long inbound accepts while readiness fails already.", "0s"
    )


class Explain(Model):
    """Who is told in responses how their requests were decided."""

    sources: Annotated[list[IpNetwork], OneOrMany()] = setting(
        ..., "Networks or addresses of clients, or `unix`, whose requests may have the field `x-sidecar-explain`."
    )


class Admin(Model):
    """The administrative interface."""

    listen: TcpListenAddresses = setting(
        ["127.0.0.1:9901"], "An address, or a list; keep it on loopback: it can stop the process.", "127.0.0.1:9901"
    )
    hosts: Annotated[list[HostPattern], OneOrMany(may_be_empty=True)] = setting(
        [],
        "Hosts by which listeners on loopback may be called, those of metrics included, besides `localhost`,"
        " `*.localhost` and addresses.",
    )


_OF_A_MESH = "this is a file of a mesh: `sidecar mesh check` judges its directory"
_TLS_ELSEWHERE = "who we are is `identity`; `tls` is a key of `inbound`, of a listener and of an upstream"


class Config(Model):
    """The whole file."""

    hints: ClassVar[Mapping[str, str]] = {
        "tls": _TLS_ELSEWHERE,
        "mesh": _OF_A_MESH,
        "services": _OF_A_MESH,
    }

    service: Annotated[Service, Short("name", "a name, or a mapping `{name, version, namespace}`")] = setting(
        ..., "Who this app is, in telemetry."
    )
    inbound: Inbound | None = setting(None, "Requests to the app; without it there is no inbound listener.")
    outbound: Outbound | None = setting(None, "Requests from the app; without it there is no outbound listener.")
    capture: Capture | None = setting(
        None, "Connections that `sidecar capture install` leads here; without it there are no listeners for them."
    )
    upstreams: dict[UpstreamName, Upstream] = table("Servers by the name that routes use.")
    zone: Annotated[FreeName | None, Unsupported("zone")] = setting(
        None, "Where this sidecar is, such as `eu-west-1a`."
    )
    identity: IdentitySetting | None = setting(
        None, "Who this sidecar is to others, for TLS between sidecars: `control`, or a mapping `{from, ...}`."
    )
    workers: Annotated[Workers, Unsupported("workers")] = setting(1, "Data-path processes, or `auto`: as many as CPUs.")
    via: Annotated[Literal["on", "off"], choice("on", "off")] = setting(
        "on", "Whether `Via` is added to what is forwarded; without it a request that runs in a circle is not noticed."
    )
    limits: Limits = setting(Limits(), "What a peer may make grow.")
    drain: Drain = setting(Drain(), "The end of the process.")
    admin: Admin = setting(Admin(), "The administrative interface.")
    explain: Explain | None = setting(
        None, "Who is told in responses how their requests were decided; without it nobody is."
    )
    telemetry: Telemetry = setting(Telemetry(), "What is told about every request.")
    reload: Reload = setting(Reload(), "When a changed file is put in force.")
    tests: list[RoutingTest] = listing("Requests and where they must go; run at every load.")
    control: Annotated[Control, Short("addresses", "a URL, or a mapping `{addresses, token_file, trust}`")] | None = (
        setting(None, "The control plane that says what is run; this file then says only what concerns the machine.")
    )
    bootstrap: FilePath | None = setting(
        None, "A whole file that is run where there is no control plane and nothing is known from before."
    )
    state: FilePath | None = setting(
        None, "Directory in which what was pushed is kept for the next start; `off`: nowhere."
    )
