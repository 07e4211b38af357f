"""`identity` and every `tls` of a file become `net.tls.settings`: paths and names, never what is in a file. *Cold.*"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sidecar.net.tls.settings import (
    ClearRule,
    ControlIdentity,
    FilesIdentity,
    IdentitySource,
    ListenerTls,
    MeshTls,
    OutsideTls,
    Pair,
    ServerTls,
    UpstreamTls,
    WorkloadApiIdentity,
    WorkloadTls,
)
from sidecar.routing.matchers import path_matcher

if TYPE_CHECKING:
    from sidecar.config.model import root as model
    from sidecar.config.model import tls as tls_model

Mode = Literal["permissive", "strict", "outside", "off"]


def identity_source(identity: model.Identity | None) -> IdentitySource | None:
    """Where our own certificate comes from."""
    if identity is None:
        return None
    source: str | model.IdentitySource = getattr(identity, "from")
    if isinstance(source, str):
        return ControlIdentity(identity.keep, identity.lifetime)
    trust_domain = identity.trust_domain or ""
    if source.files is not None:
        files = source.files
        return FilesIdentity(Pair(files.certificate, files.key), files.trust, trust_domain)
    return WorkloadApiIdentity(source.workload_api or "", trust_domain)


def mode_of(inbound: model.Inbound | None, index: int | None, *, has_identity: bool) -> Mode:
    """
    What is taken at a listener beside, or instead of, what comes in clear.

    Args:
        index: Of the listener; None for one to which connections are led that were meant for the app.
        has_identity: Whether the file says who we are: others may come by TLS then, unless it says something else.

    Returns:
        `permissive` and `strict` for other sidecars, `outside` for clients outside, `off` for no TLS.
    """
    if inbound is not None and index is not None and inbound.listen[index].tls is not None:
        return "outside"
    if inbound is not None and inbound.tls is not None:
        return inbound.tls.mode
    return "permissive" if has_identity else "off"


def listener_tls(inbound: model.Inbound | None, index: int | None, *, has_identity: bool) -> ListenerTls | None:
    """
    How clients of a listener speak TLS; arguments as `mode_of`.

    Raises:
        ValueError: A path of a rule is none.
    """
    mode = mode_of(inbound, index, has_identity=has_identity)
    if mode == "off":
        return None
    if mode == "outside":
        assert inbound is not None
        assert index is not None
        outside = inbound.listen[index].tls
        assert outside is not None
        pairs = tuple(_pair(one) for one in outside.certificates or ())
        if outside.certificate is not None and outside.key is not None:
            pairs = (Pair(outside.certificate, outside.key),)
        takes_streams = inbound.listen[index].protocol != "http"
        return OutsideTls(pairs, outside.client_trust or "", outside.min_version, takes_streams)
    clear = inbound.tls.clear if inbound is not None and inbound.tls is not None else None
    # What is captured may be anything.
    takes_streams = index is None or inbound is None or inbound.listen[index].protocol != "http"
    return MeshTls(mode, tuple(_clear_rule(rule) for rule in clear or ()), takes_streams)


def upstream_tls(upstream: model.Upstream) -> UpstreamTls | None:
    """How the servers of an upstream are spoken to."""
    tls = upstream.tls
    if tls is None:
        return None
    if tls.identities is not None:
        return WorkloadTls(tuple(tls.identities), is_stream=upstream.protocol == "tcp")
    # Endpoints that DNS finds are addresses, and a certificate is for the name.
    name = upstream.dns.rpartition(":")[0].strip("[]") if upstream.dns is not None else ""
    return ServerTls(
        server_name=(tls.server_name or name).strip("[]"),
        trust=tls.trust,
        pair=Pair(tls.certificate, tls.key) if tls.certificate is not None and tls.key is not None else None,
        min_version=tls.min_version,
        is_verified=tls.verify == "on",
        is_stream=upstream.protocol == "tcp",
    )


def _pair(pair: tls_model.CertificatePair) -> Pair:
    return Pair(pair.certificate, pair.key)


def _clear_rule(rule: tls_model.ClearRule) -> ClearRule:
    paths = tuple(path_matcher("exact", path).value.decode("ascii") for path in rule.path)
    return ClearRule(tuple(rule.methods), paths, tuple(rule.networks))
