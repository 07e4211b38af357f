"""What a configuration says about TLS: paths and names, never a key. *Cold, pure; parts of a plan.*"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MinVersion = Literal["1.2", "1.3"]

SYSTEM = "system"
"""In place of a file of roots: those that the machine trusts."""


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A certificate and its key, both in PEM.

    Attributes:
        certificate: Path: the leaf first, then who signed it, up to and without the root.
        key: Path; may be the same file.
    """

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class ClearRule:
    """
    What a strict listener takes in clear all the same; a request must meet all that is named.

    Attributes:
        methods: Empty: any.
        paths: Exact, in the normal form that routes see; empty: any.
        networks: Of who connects, such as `10.0.0.0/8`; empty: any.
    """

    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeshTls:
    """
    A listener's: mutual TLS with the workload's own identity.

    Attributes:
        mode: `permissive` takes what comes in clear, too, told by the first octet; `strict` only what `clear` names.
        clear: Rules of which one must hold.
        takes_streams: Connections that are no HTTP's are taken, too.
    """

    mode: Literal["permissive", "strict"]
    clear: tuple[ClearRule, ...] = ()
    takes_streams: bool = False


@dataclass(frozen=True, slots=True)
class OutsideTls:
    """
    A listener's: TLS for clients outside, with certificates of its own.

    Attributes:
        pairs: The one whose names match what the client asks for (RFC 6066, 3) is shown, else the first.
        client_trust: Path of the roots that clients' certificates must chain to; empty: none is asked for.
        min_version: Older ones are refused.
        takes_streams: What comes is no HTTP.
    """

    pairs: tuple[Pair, ...]
    client_trust: str = ""
    min_version: MinVersion = "1.3"
    takes_streams: bool = False


ListenerTls = MeshTls | OutsideTls


@dataclass(frozen=True, slots=True)
class WorkloadTls:
    """
    An upstream's: mutual TLS between sidecars.

    Attributes:
        identities: SPIFFE IDs of which the server must have one. Endpoints that are discovered say themselves whether
            they are spoken to by TLS; all others are.
        is_stream: What is sent is no HTTP of ours.
    """

    identities: tuple[str, ...]
    is_stream: bool = False


@dataclass(frozen=True, slots=True)
class ServerTls:
    """
    An upstream's: TLS to servers outside.

    Attributes:
        server_name: What the server's certificate must be for, and is asked for by SNI; empty: the endpoint's host.
        trust: Path of roots, or `SYSTEM`.
        pair: Shown if the server asks for one; None: none.
        min_version: Older ones are refused.
        is_verified: False only where the file says so, loudly.
        is_stream: As `WorkloadTls.is_stream`.
    """

    server_name: str = ""
    trust: str = SYSTEM
    pair: Pair | None = None
    min_version: MinVersion = "1.3"
    is_verified: bool = True
    is_stream: bool = False


UpstreamTls = WorkloadTls | ServerTls


@dataclass(frozen=True, slots=True)
class FilesIdentity:
    """
    Certificates that others write: cert-manager, Vault's agent, spiffe-helper.

    Attributes:
        trust: Path of the roots.
        trust_domain: Of whom we are, and of peers that are accepted; empty: what our certificate says.
    """

    pair: Pair
    trust: str
    trust_domain: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadApiIdentity:
    """
    SPIRE's agent, or another that speaks the SPIFFE Workload API, at this address: `unix:///PATH` or `tcp://IP:PORT`.

    Attributes:
        trust_domain: As `FilesIdentity` has it; of several identities the first that is of it is ours.
    """

    address: str
    trust_domain: str = ""


@dataclass(frozen=True, slots=True)
class ControlIdentity:
    """
    The control plane signs.

    Attributes:
        keep: Whether key and leaf stay on disk for the next start: `memory` only on a file system in memory.
        lifetime_s: That a certificate is asked for.
    """

    keep: Literal["memory", "always", "never"] = "memory"
    lifetime_s: float = 604_800.0


IdentitySource = FilesIdentity | WorkloadApiIdentity | ControlIdentity
