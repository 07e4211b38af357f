"""
Envoy's words for TLS, workload identity and authorization.

Its own certificate is a secret from a file that it follows (SDS from the file system), as its routes are, so that it
can be rotated.
"""

from __future__ import annotations

import json
from pathlib import Path

from .site import Work, write
from .tls_certificates import TRUST_DOMAIN, UPSTREAM, Identity, spiffe
from .tls_client import MESH_PROTOCOL
from .tls_rules import rule

TYPES = "type.googleapis.com/envoy.extensions."
SECRETS = "envoy-secrets.json"
VERSION_1_3 = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}

LOG_KEYS = {
    "tls_version": "%DOWNSTREAM_TLS_VERSION%",
    "peer_identity": "%DOWNSTREAM_PEER_URI_SAN%",
    "upstream_tls_version": "%UPSTREAM_TLS_VERSION%",
    "upstream_peer_identity": "%UPSTREAM_PEER_URI_SAN%",
}


def write_secret(folder: Path, identity: Identity) -> Path:
    """The file of the secret. What it names is read again when the symbolic link in the watched folder is replaced."""
    secret = {
        "@type": TYPES + "transport_sockets.tls.v3.Secret",
        "name": "identity",
        "tls_certificate": {
            "certificate_chain": {"filename": str(identity.pair.certificate)},
            "private_key": {"filename": str(identity.pair.key)},
            "watched_directory": {"path": str(folder)},
        },
    }
    return write(folder, SECRETS, json.dumps({"version_info": "1", "resources": [secret]}))


def _own(folder: Path) -> dict[str, object]:
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(folder / SECRETS)}}
    return {
        "tls_certificate_sds_secret_configs": [{"name": "identity", "sds_config": source}],
        "tls_params": VERSION_1_3,
    }


def downstream(folder: Path, identity: Identity, work: Work) -> dict[str, object]:
    """The listener's transport socket: who shows a certificate of the trust domain is let in."""
    protocols = ["h2", MESH_PROTOCOL] if work.is_http2_in else [MESH_PROTOCOL]
    common: dict[str, object] = {**_own(folder), "alpn_protocols": protocols}
    context: dict[str, object] = {"@type": TYPES + "transport_sockets.tls.v3.DownstreamTlsContext"}
    if work.tls is not None and work.tls.is_mutual:
        member = {"san_type": "URI", "matcher": {"prefix": f"spiffe://{TRUST_DOMAIN}/"}}
        common["validation_context"] = {
            "trusted_ca": {"filename": str(identity.trust)},
            "match_typed_subject_alt_names": [member],
        }
        context["require_client_certificate"] = True
    return {"name": "tls", "typed_config": {**context, "common_tls_context": common}}


def upstream(folder: Path, identity: Identity, *, is_http2: bool) -> dict[str, object]:
    """A cluster's transport socket: the server must be who it should, by its name."""
    name = {"san_type": "DNS", "matcher": {"exact": UPSTREAM}}
    validation = {"trusted_ca": {"filename": str(identity.trust)}, "match_typed_subject_alt_names": [name]}
    protocols = ["h2" if is_http2 else "http/1.1"]
    common = {**_own(folder), "alpn_protocols": protocols, "validation_context": validation}
    context = {"@type": TYPES + "transport_sockets.tls.v3.UpstreamTlsContext", "sni": UPSTREAM}
    return {"name": "tls", "typed_config": {**context, "common_tls_context": common}}


def forwarded() -> dict[str, object]:
    """What the connection manager tells the upstream of the client."""
    return {
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"uri": True},
    }


def rbac(rules: int) -> dict[str, object]:
    """The filter with so many rules."""
    policies = {}
    for number in range(1, rules + 1):
        caller, path = rule(number, rules)
        permissions = [
            {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
            {"url_path": {"path": {"prefix": path}}},
        ]
        policies[f"rule-{number:05d}"] = {
            "permissions": [{"and_rules": {"rules": permissions}}],
            "principals": [{"authenticated": {"principal_name": {"exact": spiffe(caller)}}}],
        }
    return {
        "name": "rbac",
        "typed_config": {
            "@type": TYPES + "filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": policies},
        },
    }
