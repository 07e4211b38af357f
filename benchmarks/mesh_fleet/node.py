"""A push to all sidecars of one node: what their traffic feels of it, with the control plane's spread and without."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.nginx import start_upstreams

from .control import Control
from .directory import HUB, Plan, name_of, write
from .figures import Happened, Span
from .real import Clients, Place, RealSidecar, available_mib, memory_mib, start_many, traffic_figures

SPREADS = {"spread": "5s", "at_once": "0s"}
"""What the control plane is started with: its default, and none."""
MIB_EACH = 60.0  # of a sidecar, its compiler at work and its clients, that must be free before all are started
APPLIED_WITHIN_S = 300.0
AFTER_S = 0.5  # after the last has reported what it runs
GAP_S = 5.0
POLL_S = 0.25
FIXED = 5  # endpoints of each service
DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Node:
    """
    What is run.

    Attributes:
        calls: Of each service.
        rate: Requests a second of each one's clients.
        pushes: With each spread, in each cycle.
        cycles: Of both spreads in turn.
    """

    sidecars: int
    services: int
    calls: int
    rate: float
    pushes: int
    cycles: int
    form: str


def node(size: Node, folder: Path, show: Callable[[str], None]) -> dict[str, Any]:
    """Start them, push to all, and say what the clients saw meanwhile, and else."""
    wanted_mib = size.sidecars * MIB_EACH
    if available_mib() < wanted_mib:
        raise RuntimeError(f"{size.sidecars} sidecars want {wanted_mib:.0f} MiB, and {available_mib():.0f} are there")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    spans: list[Span] = []
    lasted_s: dict[str, list[float]] = {kind: [] for kind in SPREADS}
    edition = 1
    with ExitStack() as started:
        apps, app, _ = start_upstreams(folder, (), 1024, "0.0.0.0")
        started.callback(apps.stop)
        plan = Plan(size.services, size.calls, FIXED, app, folder / "pool.json")
        plan.pool.write_text(plan.pool_file(1.0))
        write(folder / "mesh", plan.files())
        control = Control(folder, (), [])
        started.callback(control.stop)
        control.start()
        began = time.monotonic()
        services = [name_of(one) for one in plan.callers(0)]
        place = Place(folder, control.port, app, size.form)
        real = start_many(place, [services[one % len(services)] for one in range(size.sidecars)], started)
        _wait(lambda: _unsettled(control, real))
        ready_s = time.monotonic() - began
        show(f"{len(real)} sidecars are ready after {ready_s:.0f} s, {memory_mib(real):.0f} MiB")
        ports = {one.instance: one.outbound for one in real} | {DIRECT: app}
        at_most_s = 120 + size.cycles * len(SPREADS) * (60 + size.pushes * (APPLIED_WITHIN_S + GAP_S))
        clients = Clients(folder, ports, (HUB,), size.rate, at_most_s)
        time.sleep(GAP_S)
        for _ in range(size.cycles):
            for kind, spread in SPREADS.items():
                at = time.monotonic_ns()
                control.restart(["--now", "--spread", spread])
                _wait(lambda: _unsettled(control, real))
                time.sleep(GAP_S)
                spans.append(("restart", at, time.monotonic_ns()))
                time.sleep(GAP_S)
                for _ in range(size.pushes):
                    edition += 1
                    at = time.monotonic_ns()
                    _push(plan, folder, edition, control, real)
                    lasted_s[kind].append((time.monotonic_ns() - at) / 1e9)
                    show(f"{kind}: all {len(real)} run it after {lasted_s[kind][-1]:.1f} s")
                    time.sleep(AFTER_S)
                    spans.append((kind, at, time.monotonic_ns()))
                    time.sleep(GAP_S)
        memory = memory_mib(real)
        refused = sum(one["refused"] is not None for one in control.shown()["instances"])
        streams = clients.finish()
        happened = Happened(spans, ("restart", *SPREADS))
        through = traffic_figures([stream for name, stream in streams.items() if name != DIRECT], happened)
        direct = traffic_figures([streams[DIRECT]], happened)
        return {
            "sidecars": len(real), "form": size.form, "cores": len(os.sched_getaffinity(0)),
            "services": size.services, "calls": size.calls, "requests_per_s_each": size.rate,
            "all_ready_s": round(ready_s, 1), "memory_mib": round(memory), "refused": refused,
            "pushes_of_each": size.cycles * size.pushes,
            "all_run_it_s": {kind: [round(one, 1) for one in found] for kind, found in lasted_s.items()},
            "real": through, "p99_more_ms": p99_more(through["by_event"]),
            "no_sidecar": direct, "no_sidecar_p99_more_ms": p99_more(direct["by_event"]),
        }  # fmt: skip


def p99_more(by_event: Any) -> dict[str, float]:
    """By which each push's p99 is above that of the rest, in milliseconds. *Pure.*"""
    quiet = by_event.get("quiet", {}).get("p99_ms")
    if quiet is None:
        return {}
    return {kind: round(by_event[kind]["p99_ms"] - quiet, 2) for kind in SPREADS if "p99_ms" in by_event.get(kind, {})}


def _push(plan: Plan, folder: Path, edition: int, control: Control, real: list[RealSidecar]) -> None:
    """Change a route that concerns all, and wait until all say that they run it."""
    before = {one["id"]: one["wanted"]["hash"] for one in control.shown()["instances"]}
    write(folder / "mesh", [(f"services/{HUB}.yaml", plan.service_file(0, edition))])
    _wait(lambda: _unsettled(control, real, before))


def _unsettled(control: Control, real: list[RealSidecar], before: dict[str, str] | None = None) -> list[str]:
    """Who does not run what is wanted, or what was wanted before."""
    shown = {one["id"]: one for one in control.shown()["instances"]}
    return [one.instance for one in real if not _is_settled(shown.get(one.instance), (before or {}).get(one.instance))]


def _is_settled(shown: dict[str, Any] | None, before: str | None) -> bool:
    if shown is None or not shown["connected"] or not shown["config"]["hash"]:
        return False
    return bool(shown["config"]["hash"] == shown["wanted"]["hash"] != before)


def _wait(unsettled: Callable[[], list[str]]) -> None:
    deadline = time.monotonic() + APPLIED_WITHIN_S
    while names := unsettled():
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {APPLIED_WITHIN_S:.0f} s these are not as wanted: {', '.join(names)}")
        time.sleep(POLL_S)
