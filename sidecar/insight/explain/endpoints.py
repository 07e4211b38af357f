"""Which endpoint of an upstream a request would get, who is out, and why. *Cold; takes nobody's turn.*"""

from __future__ import annotations

from random import Random

from sidecar.message import RequestHead
from sidecar.redact import Secrets
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint, Health

DRAWS = 500
"""Of each explanation: shares within some 2 % of what they are."""

_OUT = {
    "unhealthy": "its health checks fail",
    "ejected": "ejected: too many of its answers were failures",
    "probation": "on probation after an ejection: the next request that can be repeated is to show how it is",
}


def endpoints_of(cluster: Cluster, head: RequestHead, client_ip: str, secrets: Secrets) -> dict[str, object]:
    """
    The choice among an upstream's endpoints at this moment, ready for JSON.

    `would_take` is the address that the request gets if that is certain: the only one, or that of its hash key; else
    None, and each endpoint's `chance` says how likely it is, by the balancer's own choice repeated.
    """
    candidates = set(cluster.candidates())
    drawn = cluster.drawn(head, client_ip, DRAWS, Random(0).random)
    certain = next(iter(drawn)) if len(drawn) == 1 and _is_certain(cluster, head, client_ip) else None
    return {
        "upstream": cluster.name,
        "source": _source(cluster, secrets),
        "balancer": cluster.spec.policy,
        "would_take": secrets.hide(certain.label) if certain is not None else None,
        "panic": cluster.is_panicking,
        "endpoints": [
            {
                "address": secrets.hide(one.label),
                "state": "in" if one in candidates else "out",
                "why": "" if one in candidates else _why_out(one),
                "chance": round(drawn.get(one, 0) / DRAWS, 2),
                "active": one.active,
            }
            for one in cluster.endpoints
        ],
    }


def _source(cluster: Cluster, secrets: Secrets) -> str:
    """Where endpoints come from that the file does not name; empty where it does."""
    spec = cluster.spec
    if spec.dns is not None:
        return secrets.hide(f"DNS, {spec.dns[0]}:{spec.dns[1]}")
    return secrets.hide(f"discovery, {spec.discover}") if spec.discover is not None else ""


def _is_certain(cluster: Cluster, head: RequestHead, client_ip: str) -> bool:
    key = cluster.spec.hash_key
    if len(cluster.candidates()) == 1:
        return True
    return cluster.spec.policy == "hash" and key is not None and bool(key.reader()(head, client_ip))


def _why_out(endpoint: Endpoint) -> str:
    if not endpoint.weight:
        return "its weight is 0"
    if endpoint.health is Health.UNHEALTHY or endpoint.ejected_until:
        return _OUT[endpoint.standing]
    return "those in this sidecar's zone are enough"
