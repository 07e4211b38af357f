"""What the configuration says about one upstream. *Cold, pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Final

from sidecar.net.address import Address, TcpAddress, UnixAddress, parse_address
from sidecar.net.tls.settings import UpstreamTls, WorkloadTls
from sidecar.upstream.balance.algorithms import HashKey, Policy
from sidecar.upstream.discovery.endpoint_set import Source
from sidecar.upstream.endpoint import Shares
from sidecar.upstream.health.checks import HealthSpec
from sidecar.upstream.health.outlier import OutlierSpec
from sidecar.upstream.limits.breaker import BreakerSpec
from sidecar.upstream.limits.retry_budget import DEFAULT_BUDGET, RetryBudgetSpec

IDLE_TIMEOUT_S: Final = 4.0
"""Against the keep-alive race: many servers close after five seconds."""
MESH_IDLE_TIMEOUT_S: Final = 60.0
"""A sidecar keeps its clients' connections for minutes, and a new one costs a handshake at both ends."""

AS_CAME: Final = "as_came"
"""Of servers that are known by nothing but what clients speak with them."""
PROTOCOLS: Final = ("auto", "http1", "http2", AS_CAME)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """
    What the configuration says about one upstream; two equal specs need nothing done at a reload.

    Attributes:
        name: The upstream's name.
        endpoints: `(address, weight)` pairs, the address as `net.address.parse_address` reads it. Weights are relative
            and not negative; 0 gets no traffic. An address that comes twice counts with the sum of its weights.
        dns: `(name, port)` whose every A and AAAA record is an endpoint, or None; excludes `endpoints`.
        discover: What tells the endpoints while the sidecar runs, or None; excludes the two before.
        policy: How one is chosen.
        hash_key: What `hash` hashes; None for the other policies.
        connect_timeout_s: Seconds to open a connection, resolving a static endpoint's name included.
        idle_timeout_s: Seconds that a connection without an exchange is kept.
        mesh_idle_timeout_s: The same, of one by TLS to a sidecar, which keeps its clients' for minutes.
        max_age_s: Seconds after its opening from which a connection serves no further exchange; 0 for any age.
        breaker: Limits, or None.
        retry_budget: How much of its traffic retries may be, or None for any.
        outlier: Ejection of endpoints that fail, or None.
        health: Active checks, or None.
        panic_threshold: Percentage of usable endpoints below which all are used; 0 for never.
        slow_start_s: Seconds in which an endpoint that comes (back) reaches its full weight; 0 for none.
        zone: Where this sidecar is; empty for no preference.
        zones: `(address, zone)` of static endpoints.
        tls: How servers are spoken to by TLS, or None for in clear.
        is_stream: What its servers are sent is no HTTP of ours.
        protocol: Which HTTP they are sent: `http1`, `http2`, or `auto`: what is agreed on by TLS, else HTTP/2 for gRPC
            and HTTP/1.1 for all else. Of no account with `is_stream`.
        max_streams: Exchanges that share a connection of HTTP/2 at most, 1 or more; its server may allow fewer.
        ping_interval_s: Seconds without an octet from the server after which a connection of HTTP/2 is asked for a sign
            of life (RFC 9113, 6.7); inf for never.
        ping_timeout_s: Seconds that this is waited for.
        called: Names, or IP addresses without brackets, and ports by which it is called where connections are captured
            that say none.

    Raises:
        ValueError: A part contradicts the above.
    """

    name: str
    endpoints: tuple[tuple[str, float], ...] = ()
    dns: tuple[str, int] | None = None
    discover: Source | None = None
    policy: Policy = "least_request"
    hash_key: HashKey | None = None
    connect_timeout_s: float = 1.0
    idle_timeout_s: float = IDLE_TIMEOUT_S
    mesh_idle_timeout_s: float = MESH_IDLE_TIMEOUT_S
    max_age_s: float = 600.0
    breaker: BreakerSpec | None = None
    retry_budget: RetryBudgetSpec | None = DEFAULT_BUDGET
    outlier: OutlierSpec | None = None
    health: HealthSpec | None = None
    panic_threshold: float = 50.0
    slow_start_s: float = 0.0
    zone: str = ""
    zones: tuple[tuple[str, str], ...] = ()
    tls: UpstreamTls | None = None
    is_stream: bool = False
    protocol: str = "auto"
    max_streams: int = 100
    ping_interval_s: float = inf
    ping_timeout_s: float = 10.0
    called: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.panic_threshold <= 100:
            raise ValueError(f"{self.name}: expected a panic threshold from 0 to 100, found {self.panic_threshold}")
        if not (isfinite(self.max_age_s) and self.max_age_s >= 0):
            raise ValueError(f"{self.name}: expected a greatest age of 0 or more seconds, found {self.max_age_s}")
        if not (isfinite(self.slow_start_s) and self.slow_start_s >= 0):
            raise ValueError(f"{self.name}: expected a slow start of 0 or more seconds, found {self.slow_start_s}")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"{self.name}: expected one of {', '.join(PROTOCOLS)}, found {self.protocol!r}")
        if self.max_streams < 1 or not self.ping_interval_s > 0 or not self.ping_timeout_s > 0:
            raise ValueError(f"{self.name}: expected at least one stream, and pings with times above 0")
        if bool(self.endpoints) + (self.dns is not None) + (self.discover is not None) > 1:
            raise ValueError(f"{self.name}: expected one of endpoints, dns and discover, found several")
        if (self.policy == "hash") != (self.hash_key is not None):
            raise ValueError(f"{self.name}: expected a hash key with the policy hash and only there")
        if self.dns is not None and not 0 < self.dns[1] < 65536:
            raise ValueError(f"{self.name}: expected a port from 1 to 65535, found {self.dns[1]}")
        self.static_addresses()

    def static_addresses(self) -> dict[Address, float]:
        """Weight by address of `endpoints`, in their order."""
        weights: dict[Address, float] = {}
        for text, weight in self.endpoints:
            address = parse_address(text)
            if isinstance(address, TcpAddress) and address.port == 0:
                raise ValueError(f"{self.name}: expected a port from 1 to 65535, found 0 in {text!r}")
            if not isfinite(weight) or weight < 0:
                raise ValueError(f"{self.name}: expected a weight of 0 or more, found {weight} for {text!r}")
            weights[address] = weights.get(address, 0) + weight
        return weights

    def is_tls(self, said: bool | None = None) -> bool:
        """
        Whether an endpoint is spoken to by TLS.

        Args:
            said: What is told of it by who discovered it; None for nothing. Only sidecars are believed to speak in
                clear: a server outside is spoken to as the file says. Where the file wants no TLS there is none.
        """
        return self.tls is not None and (said is not False or not isinstance(self.tls, WorkloadTls))

    @property
    def shares(self) -> int:
        """Which of its requests share connections, which is by HTTP/2: of `endpoint.Shares`."""
        if self.protocol == AS_CAME:
            return Shares.AS_CAME
        if self.protocol == "http1" or self.is_stream:
            return Shares.NEVER
        if self.protocol == "http2":
            return Shares.ALWAYS
        # Who is spoken to by TLS says whether he speaks it; of all others only gRPC does so for certain.
        if isinstance(self.tls, WorkloadTls):
            return Shares.TO_SIDECARS
        return Shares.GRPC if self.tls is None else Shares.ALWAYS

    @property
    def needs_ticks(self) -> bool:
        """Whether `Cluster.tick` must be called about once a second."""
        is_adaptive = self.breaker is not None and self.breaker.adaptive
        return self.outlier is not None or is_adaptive or self.slow_start_s > 0 or self.policy == "peak_ewma"

    @property
    def server_address(self) -> str:
        """
        Whom the app talks to, for telemetry's `server.address`, bounded and known before anything is resolved: the name
        in DNS, else the host or socket of a single endpoint, else the upstream's name.
        """
        if self.dns is not None:
            return self.dns[0]
        addresses = list(self.static_addresses())
        if self.discover is not None or len(addresses) != 1:
            return self.name
        only = addresses[0]
        return only.path if isinstance(only, UnixAddress) else only.host
