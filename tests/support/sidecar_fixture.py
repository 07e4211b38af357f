"""What the admin listener of one sidecar says, in the shapes of its endpoints: a storefront with a canary."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
FILE = "/etc/sidecar/sidecar.yaml"
NEXT = "sidecar.yaml"

RATES = {
    # direction, route, upstream, status, flag -> requests a second
    ("outbound", "beta-users", "recommendations-beta", 200, "-"): 4.0,
    ("outbound", "canary", "recommendations", 200, "-"): 95.0,
    ("outbound", "canary", "recommendations-beta", 200, "-"): 5.0,
    ("outbound", "payments", "payments", 200, "-"): 18.0,
    ("outbound", "payments", "payments", 503, "UF"): 2.0,
    ("outbound", "", "", 404, "NR"): 0.5,
    ("inbound", "app", "app", 200, "-"): 60.0,
}
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BELOW = (0.4, 0.7, 0.9, 0.96, 0.985, 0.995, 1.0, 1.0)
"""Shares of requests up to each bound."""


def info(**changes: Any) -> Json:
    """Of `/server_info`."""
    return {
        "version": "0.1.0", "build": "compiled", "state": "LIVE", "uptime_seconds": 8040.2, "pid": 7,
        "python": "3.13.5",
        "service": {"name": "storefront", "version": "v7", "namespace": "shop"},
        "config": {
            "file": FILE, "hash": "0bbdcad0250b", "generation": 3, "loaded_at": "2026-03-01T11:20:00.000Z",
            "last_load_ok": True, "last_load_at": "2026-03-01T11:20:00.000Z", "loading_for_s": None, "retry_in_s": None,
            "retries": 0,
        },
        "control": None,
        "listeners": [
            {"role": "inbound", "address": "0.0.0.0:15000", "bound": "0.0.0.0:15000", "host": None, "name": None},
            {"role": "outbound", "address": "127.0.0.1:15001", "bound": "127.0.0.1:15001", "host": None, "name": None},
            {"role": "metrics", "address": "0.0.0.0:15020", "bound": "0.0.0.0:15020", "host": None, "name": None},
            {"role": "admin", "address": "127.0.0.1:9901", "bound": "127.0.0.1:9901", "host": None, "name": None},
        ],
        "capture": None, "connections": {"inbound": 12, "outbound": 19},
    } | changes  # fmt: skip


def config(problems: list[Json] | None = None, warnings: list[str] | None = None) -> Json:
    """Of `/config`; refused if there are problems."""
    return {
        "file": FILE,
        "live": {"hash": "0bbdcad0250b", "generation": 3, "loaded_at": "2026-03-01T11:20:00.000Z"},
        "last_load": {
            "ok": not problems, "trigger": "file", "at": "2026-03-01T11:58:30.000Z", "took_ms": 61.2,
            "hash": "1111cad0250b", "generation": 3, "error": None, "problems": problems or [],
            "warnings": warnings or [],
        },
        "effective": {"inbound": {"app": "127.0.0.1:8080"}},
    }  # fmt: skip


def refused() -> tuple[Json, Json]:
    """`/server_info` and `/config` after an edit that was refused."""
    said = info()
    said["config"] |= {"last_load_ok": False, "last_load_at": "2026-03-01T11:58:30.000Z"}
    problem = {
        "text": "sidecar.yaml:14:9: ...", "file": FILE, "line": 14, "column": 9, "path": "outbound.routes[2].to",
        "message": "weights sum to 0", "hint": "give at least one upstream a positive weight",
    }  # fmt: skip
    return said, config([problem])


def _route(name: str, match: Any, to: Any, line: int, hits: int, share: float, **more: Any) -> Json:
    return {
        "name": name, "match": match, "to": [{"upstream": one, "weight": weight} for one, weight in to],
        "timeout_s": 2.0, "settings": {}, "from": f"{FILE}:{line}", "hits": hits, "share": share,
        "last_hit": "2026-03-01T11:59:58.000Z" if hits else None,
    } | more  # fmt: skip


def routes() -> Json:
    """Of `/routes`."""
    return {
        "inbound": {
            "routes": [],
            "unmatched": _route("app", [], [("app", 1.0)], 1, 482_000, 1.0),
            "counted_since": "2026-03-01T09:46:00.000Z",
        },
        "outbound": {
            "routes": [
                _route("beta-users", [{"host": "recommendations", "cookie BETA_USER": 'exact "true"'}],
                       [("recommendations-beta", 1.0)], 6, 32_160, 0.032),
                _route("canary", [{"host": "recommendations"}],
                       [("recommendations", 95.0), ("recommendations-beta", 5.0)], 7, 804_000, 0.8),
                _route("payments", [{"host": "payments", "path": 'prefix "/v1"'}], [("payments", 1.0)], 9, 160_800,
                       0.16),
                {"name": "old-shop", "match": [{"host": "shop.example"}], "redirect": 308, "from": f"{FILE}:12",
                 "hits": 0, "last_hit": None, "share": 0.0},
            ],
            "unmatched": "404",
            "counted_since": "2026-03-01T09:46:00.000Z",
        },
        "settings": {},
    }  # fmt: skip


def many_routes(number: int) -> Json:
    """The same of a file with many."""
    made = routes()
    made["outbound"]["routes"] = [
        _route(f"route-{n:04}", [{"host": f"host-{n}.example"}], [("recommendations", 1.0)], 10 + n, 0, 0.0)
        for n in range(number)
    ]
    return made


def endpoint(address: str, health: str = "healthy", **more: Any) -> Json:
    """Of an upstream."""
    return {
        "address": address, "weight": 1.0, "share": 1.0, "zone": None, "tls": False, "health": health,
        "ejected": False, "probation": False, "active": 1, "idle_connections": 2, "shared_connections": 0,
        "streams": 0, "connecting": 0,
    } | more  # fmt: skip


def upstreams() -> Json:
    """Of `/upstreams`."""

    def upstream(*endpoints: Json, **stats: int) -> Json:
        return {
            "load_balancing": "least_request", "dns": None, "discover": None, "settings": {}, "panic": False,
            "endpoints": list(endpoints), "stats": stats,
        }  # fmt: skip

    return {
        "recommendations": upstream(
            endpoint("10.0.0.11:8080"), endpoint("10.0.0.12:8080", "unhealthy"), endpoint("10.0.0.13:8080"),
            health_checks=4800, health_check_failures=12,
        ),
        "recommendations-beta": upstream(endpoint("10.0.1.11:8080")),
        "payments": upstream(
            endpoint("10.0.2.11:8443", tls=True, zone="a"),
            endpoint("10.0.2.12:8443", tls=True, zone="b", ejected=True),
            ejections=2, ejections_consecutive_5xx=1, ejections_success_rate=1, connect_failures=3,
        ),
        "app": upstream(endpoint("127.0.0.1:8080", "unknown")),
    }  # fmt: skip


def request(number: int, **changes: Any) -> Json:
    """One of `/requests`."""
    return {
        "time": f"2026-03-01T11:59:{59 - number % 60:02}.{number % 10}00Z", "request_id": f"req-{number:04}",
        "direction": "outbound", "method": "GET", "host": "recommendations", "path": "/v1/items", "status": 200,
        "flag": "-", "route": "canary", "upstream": "recommendations", "endpoint": "10.0.0.11:8080", "attempts": 1,
        "duration_ms": 4.2,
    } | changes  # fmt: skip


def requests() -> Json:
    """Of `/requests`."""
    kept = [
        request(0),
        request(1, method="POST", host="payments", path="/v1/charges", status=503, flag="UF", route="payments",
                upstream="payments", endpoint="10.0.2.12:8443", attempts=2, duration_ms=104.0),
        request(2, direction="inbound", host="storefront", path="/", route="app", upstream="app",
                endpoint="127.0.0.1:8080", duration_ms=11.3),
        request(3, route="beta-users", upstream="recommendations-beta", endpoint="10.0.1.11:8080"),
        request(4, host="nowhere", path="/x", status=404, flag="NR", route="", upstream="", endpoint="", attempts=0,
                duration_ms=0.1),
    ]  # fmt: skip
    return {"keep": 2000, "kept": 2000, "not_kept": 312, "passed_over": 0, "requests": kept}


def scrape(seconds: float) -> str:
    """Of `/metrics`, when `RATES` have been so for that long."""
    lines = ["# TYPE sidecar_requests_total counter"]
    durations: dict[tuple[str, str, str], float] = {}
    for (direction, route, upstream, code, flag), rate in RATES.items():
        times = round(1000 + rate * seconds)
        labels = f'code="{code}",direction="{direction}",flag="{flag}",route="{route}",upstream="{upstream}"'
        lines.append(f"sidecar_requests_total{{{labels}}} {times}")
        key = (direction, route, upstream)
        durations[key] = durations.get(key, 0) + times
    for (direction, route, upstream), times in durations.items():
        side = "server" if direction == "inbound" else "client"
        for bound, share in zip((*BOUNDS, "+Inf"), (*BELOW, 1.0), strict=True):
            labels = f'http_route="{route}",upstream="{upstream}",le="{bound}"'
            lines.append(f"http_{side}_request_duration_seconds_bucket{{{labels}}} {round(times * share)}")
    return "\n".join([*lines, ""])


def account(**changes: Any) -> Json:
    """Of `/explain`: a request that a canary takes."""
    return {
        "request": {"direction": "outbound", "method": "GET", "host": "recommendations", "port": None,
                    "path": "/v1/items", "query": None, "source_ip": "127.0.0.1", "identity": ""},
        "outcome": {"kind": "forward", "route": "canary", "position": f"{FILE}:7", "status": None, "flag": "",
                    "why": ""},
        "authorization": None,
        "routes": [
            {"index": 0, "count": 1, "name": "beta-users", "position": f"{FILE}:6", "result": "missed",
             "matches": [{"part": "cookie BETA_USER", "expected": 'exact "true"', "found": None}]},
            {"index": 1, "count": 1, "name": "canary", "position": f"{FILE}:7", "result": "taken", "matches": []},
            {"index": 2, "count": 40, "name": "payments … zebra", "position": f"{FILE}:9", "result": "missed",
             "matches": [], "missed_at": {"host": 39, "path": 1}},
            {"index": 42, "count": 1, "name": "zoo", "position": f"{FILE}:60", "result": "missed",
             "matches": [{"part": "host", "expected": "zoo", "found": "recommendations"}]},
        ],
        "split": {
            "sticky": "cookie uid", "key": "u1",
            "sides": [
                {"upstream": "recommendations", "weight": 95.0, "share": 0.95, "is_taken": True, "note": ""},
                {"upstream": "recommendations-beta", "weight": 5.0, "share": 0.05, "is_taken": False, "note": ""},
            ],
        },
        "endpoint": {
            "upstream": "recommendations", "source": "", "balancer": "least_request", "would_take": None,
            "panic": False,
            "endpoints": [
                {"address": "10.0.0.11:8080", "state": "in", "why": "", "chance": 0.51, "active": 1},
                {"address": "10.0.0.12:8080", "state": "out", "why": "its health checks fail", "chance": 0.0,
                 "active": 0},
                {"address": "10.0.0.13:8080", "state": "in", "why": "", "chance": 0.49, "active": 1},
            ],
        },
        "sent": {"upstream": "recommendations", "lines": [
            [" ", "GET /v1/items HTTP/1.1"], [" ", "host: recommendations"], ["-", "x-debug: 1"],
            ["+", "x-forwarded-proto: http"], [" ", "cookie: [redacted]"],
        ]},
        "settings": {
            "timeout": {"value": 2.0, "from": f"{FILE}:7"}, "retry.attempts": {"value": 1, "from": "default"},
        },
        "happened": None, "missing": [],
    } | changes  # fmt: skip


def explain(params: list[tuple[str, str]]) -> tuple[int, Any]:
    """What is answered: what happened is of a request that was kept."""
    asked = dict(params)
    if not asked.get("request_id"):
        return 200, account()
    served = [one for one in requests()["requests"][:2] if one["request_id"] == asked["request_id"]]
    if not served:
        return 404, f"no request `{asked['request_id']}` is known here\n"
    if served[0]["route"] == "canary":
        return 200, account(happened=served[0])
    return 200, account(happened=served[0], missing=["header x-tenant was not kept"])


def report(**changes: Any) -> Json:
    """Of `/preview`."""
    return {
        "requests": 2000, "moved": 112, "moved_share": 0.056, "unknown": 3, "refused": 2,
        "not_found": 2, "groups_left_out": 0,
        "groups": [
            {"count": 10, "direction": "outbound",
             "from": {"route": "canary", "to": ["recommendations"], "status": None, "flag": ""},
             "to": {"route": "beta-users", "to": ["recommendations-beta"], "status": None, "flag": ""},
             "position": f"{NEXT}:6",
             "example": {"method": "GET", "host": "recommendations", "path": "/v1/items", "request_id": "req-0001"}},
            {"count": 100, "direction": "outbound",
             "from": {"route": "canary", "to": ["recommendations", "recommendations-beta"], "status": None, "flag": ""},
             "to": {"route": "canary", "to": ["recommendations", "recommendations-beta"], "status": None, "flag": ""},
             "position": f"{NEXT}:7", "example": {}},
            {"count": 2, "direction": "outbound",
             "from": {"route": "payments", "to": ["payments"], "status": None, "flag": ""},
             "to": {"route": None, "to": [], "status": 404, "flag": "NR"},
             "position": "", "example": {"method": "POST", "host": "payments", "path": "/v0/old", "request_id": ""}},
        ],
        "unknowns": [{"count": 3, "needs": "header x-tenant", "why": "its value was not recorded",
                      "example": {}}],
        "splits": [{"route": "canary", "before": {"recommendations": 0.95, "recommendations-beta": 0.05},
                    "after": {"recommendations": 0.9, "recommendations-beta": 0.1}, "sticky_moved": 4,
                    "sticky_of": 80}],
        "settings": [{"route": "canary", "setting": "timeout", "before": 2.0, "after": 1.0, "position": f"{NEXT}:33"}],
        "warnings": ["sidecar.yaml:40:5: upstreams.old: no route leads there"], "problems": [],
    } | changes  # fmt: skip


def preview(body: bytes) -> tuple[int, Any]:
    """What is answered to a file: problems if it has `broken` in it."""
    if b"broken" not in body:
        return 200, report()
    problem = {"file": "bad.yaml", "line": 1, "column": 1, "path": "", "message": "expected a mapping", "hint": ""}
    return 200, report(
        requests=0,
        moved=0,
        moved_share=0.0,
        unknown=0,
        refused=0,
        not_found=0,
        groups=[],
        unknowns=[],
        splits=[],
        settings=[],
        warnings=[],
        problems=[problem],
    )
