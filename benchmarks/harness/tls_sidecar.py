"""The sidecar's words for TLS, workload identity and authorization."""

from __future__ import annotations

from .site import Site, Work
from .tls_certificates import UPSTREAM, Identity, spiffe
from .tls_client import MESH_PROTOCOL
from .tls_rules import rule


def protocol(work: Work) -> str:
    """What a client asks for: clients outside speak HTTP, those with an identity are of the mesh."""
    return MESH_PROTOCOL if work.tls is not None and work.tls.is_mutual else "http/1.1"


def identity_of(work: Work, identity: Identity | None) -> str:
    """The key `identity`, where clients are told by theirs; empty otherwise."""
    if identity is None or work.tls is None or not work.tls.is_mutual:
        return ""
    pair = identity.pair
    files = f"{{certificate: {pair.certificate}, key: {pair.key}, trust: {identity.trust}}}"
    return f"identity: {{from: {{files: {files}}}}}\n"


def side(work: Work, port: int, identity: Identity | None) -> str:
    """The side with the routes, up to these: what comes by TLS is inbound."""
    if identity is None or not work.is_inward:
        return f"outbound:\n  listen: 127.0.0.1:{port}\n"
    if work.tls is not None and work.tls.is_mutual:
        return f"inbound:\n  listen: 127.0.0.1:{port}\n  tls: strict\n{authorization(work.rules)}"
    pair = identity.pair
    tls = f"{{certificate: {pair.certificate}, key: {pair.key}}}"
    return f'inbound:\n  listen: [{{address: "127.0.0.1:{port}", tls: {tls}}}]\n'


def authorization(rules: int) -> str:
    """The key `inbound.authorization` with so many rules, of which the last is for the load; empty for none."""
    if not rules:
        return ""
    lines = ["  authorization:", "    mode: enforce", "    default: deny", "    rules:"]
    for number in range(1, rules + 1):
        caller, path = rule(number, rules)
        allowed = f"{{from: '{spiffe(caller)}', methods: [GET], path: {{prefix: {path}}}}}"
        lines.append(f"      - {{name: rule-{number:05d}, allow: {allowed}}}")
    return "\n".join([*lines, ""])


def more_routes(site: Site) -> str:
    """Before the last two those to upstreams that must not be spoken to."""
    if not site.wrong_port:
        return ""
    return "".join(
        f"    - {{name: {name}, match: {{path: {{prefix: /{name}}}}}, to: {name}}}\n" for name in ("wrong", "stranger")
    )


def last_route(work: Work) -> str:
    """What no route matches would go to the app, of which there is none; outbound it is refused anyway."""
    return "    - {name: closed, respond: {status: 404}}\n" if work.is_inward else ""


def upstreams(site: Site, work: Work, identity: Identity | None) -> str:
    """The key `upstreams`."""
    ports = {"v1": site.v1_port, "beta": site.beta_port}
    if site.wrong_port:
        ports |= {"wrong": site.wrong_port, "stranger": site.stranger_port}
    tls = ""
    if identity is not None and work.is_outward:
        shown = f"certificate: {identity.pair.certificate}, key: {identity.pair.key}"
        tls = f", tls: {{server_name: {UPSTREAM}, trust: {identity.trust}, {shown}}}"
    # As long as the others' are kept: what a new connection costs is not the matter of most scenarios.
    kept = ", idle_timeout: 1h" if tls else ""
    # What a call would go by of itself is HTTP/2.
    spoken = ", protocol: http2" if work.is_http2_out else ", protocol: http1" if work.is_http2_in else ""
    lines = [f'  {name}: {{endpoints: ["127.0.0.1:{port}"]{spoken}{tls}{kept}}}' for name, port in ports.items()]
    return "\n".join(["upstreams:", *lines, ""])
