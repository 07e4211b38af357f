"""
Rules for who we are and how connections are encrypted: what cannot be meant, or protects less than it looks.

*Cold, pure.*
"""

from __future__ import annotations

import ipaddress
from typing import Final

from sidecar.config.model.root import Config, Upstream
from sidecar.config.model.tls import SYSTEM, CertificatePair, IdentitySource, InboundTls, ListenerTls, UpstreamTls
from sidecar.config.problems import At, Reporter
from sidecar.config.values.addresses import split_address
from sidecar.config.values.identities import is_on_this_machine
from sidecar.spiffe import parse_spiffe_id

_NEEDS_IDENTITY: Final = "give the file an `identity`; what a mesh has compiled gets it from the sidecar's local file"


def check_tls(config: Config, report: Reporter, *, is_to_run: bool = False) -> None:
    """
    Check `identity` and every `tls` of a file.

    Args:
        report: A `check.Report`.
        is_to_run: Nothing will be added to the file: what needs an identity has one, or is refused. Where a file is
            only looked at, it may be what a mesh has compiled, which never says who its sidecars are.
    """
    _check_identity(config, report)
    if config.inbound is not None:
        if config.inbound.tls is not None:
            _check_inbound(config.inbound.tls, config, report, is_to_run=is_to_run)
        for index, spec in enumerate(config.inbound.listen):
            if spec.tls is not None:
                _check_listener(spec.tls, spec.address, ("inbound", "listen", index, "tls"), report)
    for name, upstream in config.upstreams.items():
        if upstream.tls is not None:
            _check_upstream(upstream.tls, upstream, ("upstreams", name, "tls"), config, report, is_to_run=is_to_run)


def _check_identity(config: Config, report: Reporter) -> None:
    identity = config.identity
    if identity is None:
        return
    at, source = ("identity",), identity.source
    if isinstance(source, IdentitySource):
        given = [key for key in ("files", "workload_api") if getattr(source, key) is not None]
        if len(given) != 1:
            found = "both" if given else "neither"
            hint = "" if given else "or write `from: control`"
            report((*at, "from"), f"expected one of `files` and `workload_api`, found {found}", hint, at_key=True)
        if source.workload_api is not None and not is_on_this_machine(source.workload_api):
            message = "the agent is not on this machine: our key comes over the network in clear"
            hint = "use the socket of the agent on this machine, such as `unix:///run/spire/agent.sock`"
            report((*at, "from", "workload_api"), message, hint, at_key=True, rule="workload-api-remote")
        for key in ("keep", "lifetime"):
            if key in identity.model_fields_set:
                hint = "remove it: who gives us the certificate says how long it lasts and where it is"
                report((*at, key), f"`{key}` has no effect without `from: control`", hint, at_key=True)
        return
    if config.control is None:
        hint = "name one by `control`, or take certificates `from: {files: {certificate, key, trust}}`"
        report((*at, "from"), "`control` needs a control plane, found none", hint)
    if identity.trust_domain is not None:
        hint = "remove it: the control plane says which mesh this is"
        report((*at, "trust_domain"), "`trust_domain` has no effect with `from: control`", hint, at_key=True)


def _check_inbound(tls: InboundTls, config: Config, report: Reporter, *, is_to_run: bool) -> None:
    assert config.inbound is not None
    at = ("inbound", "tls")
    if tls.mode != "off" and config.identity is None:
        what = "nobody can come in by TLS" if tls.mode == "permissive" else "nobody can come in"
        report(
            (*at, "mode"),
            f"`{tls.mode}` without an `identity`: {what}",
            _NEEDS_IDENTITY,
            rule="" if is_to_run else "tls-without-identity",
        )
    elif tls.mode != "off" and all(spec.tls is not None for spec in config.inbound.listen):
        message = "every listener has a `tls` of its own, so this holds for none"
        report(
            at, message, "add a listener for other sidecars, or remove it", at_key=True, rule="setting-without-effect"
        )
    if tls.clear is not None and tls.mode != "strict":
        message = f"`clear` has no effect beside `mode: {tls.mode}`, which takes everything in clear"
        report((*at, "clear"), message, "remove it, or say `mode: strict`", at_key=True)
    for index, rule in enumerate(tls.clear or ()):
        if not (rule.methods or rule.path or rule.networks):
            hint = "such a rule would take everything in clear, which is `mode: permissive`"
            report((*at, "clear", index), "expected `methods`, `path` or `networks`, found none", hint)


def _check_listener(tls: ListenerTls, address: str, at: At, report: Reporter) -> None:
    if address.startswith("unix:"):
        hint = "who reaches the socket is on this machine: remove `tls`, or listen at `host:port`"
        report(at, "a Unix socket has no clients outside", hint, at_key=True)
    is_alone = _check_pair(tls, at, report)
    if tls.certificates is not None and is_alone:
        hint = "put it into the list as well, first if it is for clients that ask for no name"
        report(at, "expected one of `certificate` and `certificates`, found both", hint, at_key=True)
    elif tls.certificates is None and not is_alone:
        hint = "such as `{certificate: /tls/tls.crt, key: /tls/tls.key}`"
        report(at, "expected `certificate` and `key`, or `certificates`, found neither", hint, at_key=True)
    seen: list[CertificatePair] = []
    for index, pair in enumerate(tls.certificates or ()):
        if pair in seen:
            report((*at, "certificates", index), f"`{pair.certificate}` comes twice", "remove one")
        seen.append(pair)


def _check_pair(tls: ListenerTls | UpstreamTls, at: At, report: Reporter) -> bool:
    """Whether there is a certificate of its own, or a part of it."""
    for given, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(tls, given) is not None and getattr(tls, other) is None:
            hint = f"name the file of its `{other}`, which may be the same"
            report((*at, given), f"a `{given}` without a `{other}`", hint, at_key=True)
    return tls.certificate is not None or tls.key is not None


def _check_upstream(
    tls: UpstreamTls, upstream: Upstream, at: At, config: Config, report: Reporter, *, is_to_run: bool
) -> None:
    if tls.identities is not None:
        _check_identities(tls, tls.identities, at, config, report, is_to_run=is_to_run)
        return
    _check_pair(tls, at, report)
    if tls.verify == "off":
        hint = "give `trust` the roots that the server's certificate chains to"
        message = "whoever answers is believed: all that is sent here can be read and changed on its way"
        report((*at, "verify"), message, hint, at_key=True, rule="tls-not-verified")
        if "trust" in tls.model_fields_set:
            report((*at, "trust"), "`trust` has no effect beside `verify: off`", "remove one of them", at_key=True)
        return
    if tls.server_name is not None:
        return
    for endpoint in upstream.endpoints or ():
        host, _ = split_address(endpoint.address)
        if endpoint.address.startswith("unix:"):
            hint = "give `tls` a `server_name`"
            report(at, f"`{endpoint.address}` has no host that a certificate could be for", hint, at_key=True)
        elif tls.trust == SYSTEM and _is_ip(host):
            message = f"the certificate of `{endpoint.address}` must be for this address, as hardly any is"
            report(
                at, message, "give `tls` the `server_name` that it is for", at_key=True, rule="tls-server-name-missing"
            )
        else:
            continue
        break


def _check_identities(
    tls: UpstreamTls, identities: list[str], at: At, config: Config, report: Reporter, *, is_to_run: bool
) -> None:
    for key in UpstreamTls.model_fields:
        if key != "identities" and key in tls.model_fields_set:
            hint = "a sidecar is known by its SPIFFE ID alone, and what we show it and believe is said by `identity`"
            report((*at, key), f"`{key}` has no effect beside `identities`", f"remove it: {hint}", at_key=True)
    ours = config.identity.trust_domain if config.identity is not None else None
    for index, one in enumerate(identities):
        if one in identities[:index]:
            report((*at, "identities", index), f"`{one}` comes twice", "remove one")
        elif ours is not None and parse_spiffe_id(one).trust_domain != ours:
            hint = "sidecars of other trust domains are not believed yet"
            report((*at, "identities", index), f"`{one}` is not of our trust domain, `{ours}`", hint)
    if config.identity is None:
        message = "`identities` without an `identity`: there is nothing to show to the server, and nobody to believe"
        report(
            (*at, "identities"), message, _NEEDS_IDENTITY, at_key=True, rule="" if is_to_run else "tls-without-identity"
        )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
