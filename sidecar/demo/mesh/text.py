"""What the demonstration of a mesh says in plain lines. *Pure.*"""

from __future__ import annotations

from typing import Any

from sidecar.demo.mesh.stage import Stage


def introduction(stage: Stage) -> list[str]:
    """What is running, where to look, what to try."""
    storefront = stage.ports["storefront"]
    control = f"http://127.0.0.1:{stage.control.port}"
    shop = f"http://127.0.0.1:{storefront.inbound}/"
    pids = " ".join(str(child.pid) for child in stage.children.values())
    return [
        "sidecar demo: a control plane, storefront, recommendations v1 and beta, catalog, prices, reports, each with a"
        " sidecar; payments has none",
        "  customers -> storefront -> recommendations (v1 | beta) -> catalog -> prices; storefront -> payments",
        "  catalog calls prices by gRPC, over HTTP/2; all else is HTTP/1.1",
        "  reports -> recommendations, whose callers it is not among: refused. Between sidecars all is mutual TLS",
        f"  pids {pids}",
        f"  map:      {control}/",
        f"  edit:     {stage.directory}/services/recommendations.yaml  (95 and 5, or a mistake)",
        f"  status:   sidecar mesh status --control {control}",
        f"  edges:    sidecar mesh top --control {control}",
        f"  try:      curl -H 'cookie: BETA_USER=true' {shop}    # always `beta`; without the cookie 95 to 5",
        f"  try:      kill -9 {_control_pid(stage)}    # the control plane: nothing happens",
        f"  admin:    http://127.0.0.1:{storefront.admin}/  (the storefront's sidecar: /config /routes /upstreams)",
        f"  metrics:  http://127.0.0.1:{storefront.metrics}/metrics",
    ]


def _control_pid(stage: Stage) -> int:
    assert stage.control.child is not None
    return stage.control.child.pid


def progress(stage: Stage, shown: Any) -> str:
    """One line about now; `shown` is what the control plane shows, None while it is away."""
    ok = sum(tally.ok for tally in stage.traffic.tallies)
    failed = sum(tally.failed.total() for tally in stage.traffic.tallies)
    return " | ".join([f"{ok} answered, {failed} failed", *now(shown)])


def now(shown: Any) -> list[str]:
    """The revision, and each call with its rate; `shown` as in `progress`."""
    if shown is None:
        return ["the control plane is away"]
    parts = [f"revision {shown['revision']}"]
    merged: dict[tuple[str, str, str], list[float]] = {}
    carried: dict[tuple[str, str], list[float]] = {}
    for edge in shown["edges"]:
        if edge["tcp"] is not None:
            rates = carried.setdefault((edge["from"], edge["to"]), [0.0, 0.0])
            rates[0] += edge["tcp"]["rate"]
            rates[1] += edge["tcp"]["octet_rate"]
        if edge["tcp"] is not None and not edge["requests"]:
            continue
        # A version says more than an upstream does, and several routes lead to one.
        sums = merged.setdefault((edge["from"], edge["to"], edge["version"]), [0.0, 0.0])
        sums[0] += edge["rate"]
        # Of a caller whose own sidecar tells nothing yet, nobody knows it.
        sums[1] += edge["rate"] * (1 - edge["success"]) if edge["success"] is not None else 0.0
    for (caller, callee, version), (rate, bad) in sorted(merged.items()):
        name = f"{callee}@{version}" if version else callee
        parts.append(f"{caller} -> {name} {rate:.0f}/s" + (f", {bad:.0f}/s fail" if bad else ""))
    for (caller, callee), (rate, octet_rate) in sorted(carried.items()):
        parts.append(f"{caller} -> {callee} TCP {rate:.1f} connections/s, {octet_rate:.0f} octets/s")
    return parts


def rollout_lines(shown: Any) -> list[str]:
    """A line for each rollout."""
    lines = []
    for one in shown["rollouts"]:
        wave = one["waves"][one["wave"] - 1] if one["waves"] and 0 < one["wave"] <= len(one["waves"]) else "all"
        why = f": {one['why']}" if one["why"] else ""
        lines.append(
            f"  rollout of revision {one['revision']} to {one['service']}: {one['part']}, wave {wave},"
            f" {one['accepted']} of {one['of']}, {one['state']}{why}"
        )
    return lines


def source_lines(shown: Any) -> list[str]:
    """Problems of the mesh's files, if they are refused."""
    problems = shown["source"]["problems"]
    if not problems:
        return []
    return [
        "  the mesh's files are refused; every sidecar goes on as before:",
        *(f"    {one['file']}:{one['line']}:{one['column']}: {one['path']}: {one['message']}" for one in problems),
    ]
