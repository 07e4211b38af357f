"""
Who we are, and how connections are encrypted: `identity` and every `tls` of the file. *Cold, pure.*

Certificates and keys stand here by their paths only, and are read by whoever shows them: they need not be where a file
is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Discriminator, Tag

from sidecar.config.values.addresses import Host, IpNetwork
from sidecar.config.values.base import Model, OneOrMany, Reads, Short, expected, listing, setting
from sidecar.config.values.identities import Lifetime, MinVersion, SpiffeIdentity, TrustDomain, WorkloadApi
from sidecar.config.values.units import choice
from sidecar.config.values.words import FilePath, Method, Path

SYSTEM: Final = "system"
"""In place of a file of roots: those that the machine trusts."""

MODES: Final = ("permissive", "strict", "off")

_OF_THE_MESH: Final = "it is for TLS between sidecars: `inbound.tls`, which holds for listeners without a `tls`"


class CertificatePair(Model):
    """A certificate and its key, both in PEM."""

    certificate: FilePath = setting(..., "A file: the certificate, then who signed it, up to and without the root.")
    key: FilePath = setting(..., "A file with its key; may be the same.")


class ListenerTls(Model):
    """TLS for clients outside, with certificates of its own."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("mode", "clear", "identities"), _OF_THE_MESH),
        "trust": "roots of clients' certificates are `client_trust`",
    }

    certificate: FilePath | None = setting(
        None, "A file: the certificate, then who signed it, up to and without the root; with `key`."
    )
    key: FilePath | None = setting(None, "A file with its key; may be the same.")
    certificates: Annotated[list[CertificatePair], OneOrMany()] | None = setting(
        None,
        "Several pairs `{certificate, key}`: the one for the name that a client asks for is shown, else the first.",
    )
    client_trust: FilePath | None = setting(
        None, "Roots (PEM) that clients' certificates must chain to; default: none is asked for."
    )
    min_version: MinVersion = setting("1.3", "The oldest version of TLS that is spoken: `1.2` or `1.3`.")


class ClearRule(Model):
    """What a strict listener takes in clear all the same; a request must meet all that is given, of each one."""

    methods: Annotated[list[Method], OneOrMany()] = listing("Methods, any of them; default: any.")
    path: Annotated[list[Path], OneOrMany()] = listing(
        "Whole paths, normalised and without the query, any of them; default: any."
    )
    networks: Annotated[list[IpNetwork], OneOrMany()] = listing(
        "Networks, or `unix`, of who connects, any of them; default: any."
    )


class InboundTls(Model):
    """TLS between sidecars, by `identity`."""

    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("certificate", "key", "certificates", "client_trust", "min_version"),
        "certificates for clients outside are a listener's: `listen: {address, tls: {certificate, key}}`",
    )

    mode: Annotated[Literal["permissive", "strict", "off"], choice(*MODES)] = setting(
        ..., "`permissive` takes what comes in clear, too; `strict` only what `clear` names; `off`: no TLS."
    )
    clear: Annotated[list[ClearRule], OneOrMany()] | None = setting(
        None, "What `strict` takes in clear all the same, such as probes; one rule or a list."
    )


class UpstreamTls(Model):
    """TLS to servers outside; or, with `identities`, to sidecars."""

    hints: ClassVar[Mapping[str, str]] = {"client_trust": "roots of servers' certificates are `trust`"}

    identities: Annotated[list[SpiffeIdentity], OneOrMany()] | None = setting(
        None, "SPIFFE IDs of which the server must have one: mutual TLS by `identity`; nothing else stands beside it."
    )
    server_name: Host | None = setting(
        None, "What the server's certificate must be for, and is asked for; default: the name in `dns`, else its host."
    )
    trust: FilePath = setting(SYSTEM, "Roots (PEM) that its certificate must chain to; `system`: the machine's.")
    certificate: FilePath | None = setting(None, "A file with a certificate that is shown if it asks; with `key`.")
    key: FilePath | None = setting(None, "A file with its key; may be the same.")
    min_version: MinVersion = setting("1.3", "The oldest version of TLS that is spoken: `1.2` or `1.3`.")
    verify: Annotated[Literal["on", "off"], choice("on", "off")] = setting(
        "on", "`off`: whoever answers is believed, and can read and change all that is sent. Warned of and counted."
    )


class IdentityFiles(Model):
    """Certificates that others write: cert-manager, Vault's agent, spiffe-helper."""

    certificate: FilePath = setting(..., "A file: our certificate, then who signed it, up to and without the root.")
    key: FilePath = setting(..., "A file with its key; may be the same.")
    trust: FilePath = setting(..., "Roots (PEM) that others' certificates must chain to.")


class IdentitySource(Model):
    """Where our certificate comes from, if not from the control plane: exactly one of the two."""

    files: IdentityFiles | None = setting(None, "Files that are followed.")
    workload_api: WorkloadApi | None = setting(
        None, "SPIRE's agent, or another's: `unix:///run/spire/agent.sock`, `tcp://127.0.0.1:8081`."
    )


def parse_control(written: object) -> Literal["control"]:
    """Read `control`."""
    if written != "control":
        raise expected("`control`, or a mapping `{files: {certificate, key, trust}}` or `{workload_api: ADDRESS}`")
    return "control"


_Source = Annotated[
    Annotated[Literal["control"], Reads(parse_control, {"const": "control"}), Tag("<word>")]
    | Annotated[IdentitySource, Tag("<mapping>")],
    Discriminator(lambda value: "<mapping>" if isinstance(value, dict | IdentitySource) else "<word>"),
]


class Identity(Model):
    """Who this sidecar is to others, and whom of them it believes."""

    hints: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("files", "workload_api", "control"), "it stands under `from`: `identity: {from: ...}`"
    )

    # A word of Python's own, which no class body can spell.
    __annotations__["from"] = "_Source"
    vars()["from"] = setting(..., "`control`, `{files: {certificate, key, trust}}` or `{workload_api: ADDRESS}`.")
    trust_domain: TrustDomain | None = setting(
        None, "Of whom we are, and whose certificates are accepted; default: that of our certificate."
    )
    keep: Annotated[Literal["memory", "always", "never"], choice("memory", "always", "never")] = setting(
        "memory", "With `control`: whether key and certificate outlive a restart; `memory`: on a file system in memory."
    )
    lifetime: Lifetime = setting(7 * 86_400.0, "With `control`: how long a certificate is to last.", "7d")

    @property
    def source(self) -> Literal["control"] | IdentitySource:
        """What stands under `from`."""
        found: Literal["control"] | IdentitySource = getattr(self, "from")
        return found


InboundTlsSetting = Annotated[
    InboundTls, Short("mode", "`permissive`, `strict`, `off`, or a mapping `{mode, clear}`", {"enum": list(MODES)})
]
IdentitySetting = Annotated[Identity, Short("from", "`control`, or a mapping `{from, ...}`", {"enum": ["control"]})]
