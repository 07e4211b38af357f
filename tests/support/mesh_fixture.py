"""Answers of a control plane, in the form of its `/v1/`: a small shop, and meshes of any size. Deterministic."""

from __future__ import annotations

import math
import random
from typing import Any

Json = dict[str, Any]

NOW = 1_790_000_000
"""The control plane's clock in all that is made here."""


def service(
    name: str, instances: int = 3, *, kind: str = "mesh", versions: tuple[str, ...] = ("v1",), **more: Any
) -> Json:
    """One entry of `services`; healthy, unless `more` says otherwise."""
    said = {"name": name, "kind": kind, "versions": list(versions), "instances": instances, "healthy": instances}
    return {**said, "stale": 0, "refused": 0, "hosts": [name], "callees": [], **more}


def instance(service_name: str, number: int, version: str = "v1", **more: Any) -> Json:
    """One entry of `instances`; healthy and up to date, unless `more` says otherwise."""
    config = {"hash": "5d41402abc4b2a76b9719d911017c592", "revision": 12}
    return {
        "id": f"{service_name}-{number}", "service": service_name, "version": version, "zone": "abc"[number % 3],
        "address": f"10.0.{number // 250}.{number % 250 + 5}", "state": "healthy", "connected": True,
        "config": {**config, "since": NOW - 5400, "source": "pushed"}, "wanted": dict(config), "refused": None,
        "endpoints_behind": 0, "last_seen": NOW - 3, "release": "0.9.0", "language": 1, **more,
    }  # fmt: skip


def edge(caller: str, callee: str, rate: float, success: float = 1.0, p99_s: float = 0.03, **more: Any) -> Json:
    """One entry of `edges`, over a minute."""
    requests = round(rate * 60)
    return {
        "from": caller, "to": callee, "upstream": callee, "version": "v1", "route": callee, "rate": rate,
        "requests": requests, "success": success,
        "p50_s": p99_s / 4, "p99_s": p99_s, "failures": {}, "request_bytes": requests * 700,
        "response_bytes": requests * 5200, "window_s": 60, **more,
    }  # fmt: skip


def mesh(services: list[Json], instances: list[Json], edges: list[Json], **more: Any) -> Json:
    """The whole answer of `/v1/mesh`."""
    return {
        "mesh": "shop", "revision": 12, "hash": "9b74c9897bac770ffc029102a200c5de", "time": NOW, "started": NOW - 86000,
        "release": "0.9.0", "engine": "files",
        "replicas": [{"name": "control-0", "address": "10.0.0.2:15010", "seen_s": 0.4}],
        "source": {"problems": [], "since": None}, "services": services, "instances": instances, "edges": edges,
        "discovery": [], "doubt": {"fresh": len(instances), "stale": 0, "removing": True}, "rollouts": [], **more,
    }  # fmt: skip


def shop() -> Json:
    """Seven services: a canary that fails and whose rollout is halted, an instance that refused, one that is stale."""
    services = [
        service("storefront", callees=["recommendations", "catalog", "cart", "search"]),
        service("search", callees=["catalog", "recommendations"]),
        service("recommendations", 4, versions=("v1", "beta"), refused=1, callees=["catalog"],
                hosts=["recommendations", "recommendations.shop"]),
        service("catalog", 3, healthy=2, stale=1),
        service("cart", 2, callees=["payments", "catalog"]),
        service("payments", 0, kind="external", versions=(), hosts=["payments.example.com"]),
        service("gateway", 2, callees=["storefront"]),
    ]  # fmt: skip
    refused = {
        "hash": "c3fcd3d76192e4007dfb496cca67e13b", "revision": 13, "crashed": False,
        "problems": [{"file": "mesh/services/recommendations.yaml", "line": 14, "column": 9, "path": "routes[1].to",
                      "message": "weights sum to 0", "hint": "give at least one upstream a positive weight"}],
    }  # fmt: skip
    instances = [
        *(instance(name, n) for name in ("storefront", "search") for n in range(3)),
        *(instance("recommendations", n) for n in range(3)),
        instance("recommendations", 3, "beta", refused=refused, wanted={"hash": refused["hash"], "revision": 13}),
        *(instance("catalog", n) for n in range(2)),
        instance("catalog", 2, state="stale", connected=False, last_seen=NOW - 74),
        *(instance(name, n) for name in ("cart", "gateway") for n in range(2)),
    ]  # fmt: skip
    beta = {"version": "beta", "upstream": "recommendations.beta", "route": "recommendations.beta-users"}
    edges = [
        edge("gateway", "storefront", 148.2, 0.9991, 0.21),
        edge("storefront", "recommendations", 88.4, 0.9995, 0.048, upstream="recommendations.stable"),
        edge("storefront", "recommendations", 9.7, 0.41, 0.82, **beta, failures={"UF": 201, "5xx": 142}),
        edge("storefront", "catalog", 120.5, 1.0, 0.019), edge("storefront", "cart", 14.1, 0.9998, 0.064),
        edge("storefront", "search", 31.0, 1.0, 0.09), edge("search", "catalog", 62.3, 1.0, 0.35),
        edge("search", "recommendations", 4.2, 1.0, 0.041), edge("recommendations", "catalog", 41.0, 0.9993, 0.022),
        edge("cart", "payments", 3.1, 0.984, 0.41, failures={"UH": 3}), edge("cart", "catalog", 0.0, 0.0, 0.0),
    ]  # fmt: skip
    edges[-1].update(requests=0, p50_s=None, p99_s=None)
    halted = {
        "service": "recommendations", "revision": 13, "hash": refused["hash"],
        "previous": "5d41402abc4b2a76b9719d911017c592",
        "part": "routes", "wave": 1, "waves": ["one", "10%", "50%", "100%"], "state": "halted",
        "why": "1 instance refused: weights sum to 0", "since": NOW - 312, "accepted": 0, "of": 1,
        "refused": ["recommendations-3"], "ignored": [],
    }  # fmt: skip
    rolling = {**halted, "service": "storefront", "hash": "1f3870be274f6c49b3e31a0c6728957f", "wave": 3,
               "state": "holding", "why": "", "since": NOW - 12, "accepted": 2, "of": 3, "refused": []}  # fmt: skip
    return mesh(
        services, instances, edges, rollouts=[halted, rolling], doubt={"fresh": 16, "stale": 1, "removing": True}
    )


def history(said: Json) -> Json:
    """An hour that leads to what `/v1/mesh` says; the last ten minutes have the failures."""
    edges: dict[tuple[str, str], Json] = {}
    for n, row in enumerate(row for row in said["edges"] if "rate" in row and row["upstream"]):
        at = edges.setdefault(
            (row["from"], row["to"]), {"requests": [0] * 60, "failures": [0] * 60, "p99_s": [None] * 60}
        )
        for i in range(60):
            requests = round(row["rate"] * 60 * (0.8 + 0.15 * math.sin(i / 9 + n) + 0.05 * math.sin(i * 2.1)))
            share = (1 - row["success"]) * (1 if i >= 50 else 0.02) if requests else 0
            at["requests"][i] += requests
            at["failures"][i] += round(requests * share)
            if requests:
                usual = row["p99_s"] if i >= 50 or row["success"] > 0.9 else row["p99_s"] / 12
                at["p99_s"][i] = max(at["p99_s"][i] or 0, usual * (0.9 + 0.1 * math.sin(i * 1.7 + n)))
    rows = [{"from": caller, "to": callee, **row} for (caller, callee), row in edges.items()]
    return {"minutes": [NOW - 60 * (60 - i) for i in range(60)], "edges": rows}


def routes(caller: str, callee: str) -> Json:
    """What `/v1/routes` says of a call with a canary and a route of beta users."""
    to = [
        {"upstream": f"{callee}.stable", "weight": 95, "share": 0.943},
        {"upstream": f"{callee}.beta", "weight": 5, "share": 0.057},
    ]
    return {
        "routes": [
            {"name": f"{callee}.beta-users", "origin": f"mesh/services/{callee}.yaml:12",
             "match": "cookie BETA_USER is true", "to": [{"upstream": f"{callee}.beta", "weight": 1, "share": 1.0}]},
            {"name": f"{caller}.{callee}", "origin": f"mesh/services/{callee}.yaml:14",
             "match": "every other request", "to": to},
        ],
        "instances": [
            {"id": f"{callee}-{n}", "version": "beta" if n == 3 else "v1", "zone": "abc"[n % 3], "rate": 24.0 - 5 * n,
             "requests": 1440 - 300 * n, "success": 0.41 if n == 3 else 1.0, "p50_s": 0.01 * (n + 1),
             "p99_s": 0.04 if n < 3 else 0.82}
            for n in range(4)
        ],
    }  # fmt: skip


def generated(count: int, seed: int = 1) -> Json:
    """A mesh of `count` services in layers, most of it well; the same for the same arguments."""
    chance = random.Random(seed)
    words = ("order", "price", "stock", "user", "mail", "tax", "ship", "view", "rank", "feed", "media", "audit")
    names = [
        f"{words[i % len(words)]}-{('api', 'svc', 'store', 'worker')[i // len(words) % 4]}-{i}" for i in range(count)
    ]
    layers = [names[i * count // 6 : (i + 1) * count // 6] for i in range(6)]
    edges = []
    callees: dict[str, list[str]] = {name: [] for name in names}
    for upper, layer in enumerate(layers[:-1]):
        for name in layer:
            below = layers[upper + 1] if chance.random() < 0.8 or upper > 3 else layers[upper + 2]
            for callee in chance.sample(below, min(len(below), chance.randint(1, 3))):
                callees[name].append(callee)
                edges.append(
                    edge(name, callee, round(chance.lognormvariate(2, 1.5), 2), 1.0, 0.02 + chance.random() / 8)
                )
    for row in edges[:: max(9, len(edges) // 6)]:
        row.update(success=0.82, failures={"UF": 40})
    services = [service(name, chance.randint(1, 6), callees=callees[name]) for name in names]
    services[count // 2].update(healthy=0)
    instances = [instance(row["name"], n) for row in services for n in range(row["instances"])]
    return mesh(services, instances, edges)
