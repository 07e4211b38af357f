"""One mesh under a ruler: simulated sidecars, real ones with clients, changes, and the end of the control plane."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.harness.bench import AVAILABLE
from benchmarks.harness.load import Stream
from benchmarks.harness.nginx import start_upstreams

from .control import Control
from .directory import HUB, Plan, address_of, name_of, write
from .figures import Happened, Span, spread_of
from .real import Clients, Place, RealSidecar, start_many, traffic_figures
from .sidecars import Fleet, Sidecar
from .strain import Peak, Strain

ENDPOINT_PERIOD_S = 1.0
LIMIT_S = 30.0
SETTLE_S = 5.0
AFTER_ENDPOINTS_S = 0.3  # of the clients' requests: what is told is in force by then
AFTER_ROUTE_S = 2.0  # a file is compiled by each sidecar before it is in force
BACK_S = 120.0
NICE = 10  # of the fleet: sidecars that carry requests come before those that only pretend to
EVENTS = ("killed", "route", "pool", "endpoint")
DIRECT = "direct"
BLOCK = 200  # of addresses that register


@dataclass(frozen=True, slots=True)
class Size:
    """
    What is run.

    Attributes:
        calls: Of each service.
        fixed: Endpoints of each service beside those that register.
        real: Sidecars that are processes, with clients.
        rate: Requests a second of each one's clients.
        minutes: Of changes.
        route_period_s: From one change of a route to the next.
        form: Of the real sidecars.
    """

    sidecars: int
    services: int
    calls: int
    fixed: int
    real: int = 0
    rate: float = 40.0
    minutes: float = 1.0
    route_period_s: float = 12.0
    idle_s: float = 20.0
    kills: bool = True
    form: str = "interpreted"


@dataclass(slots=True)
class Times:
    """Of changes of one kind: each receiver's, each change's slowest, the control plane's CPU where it is taken."""

    each_s: list[float] = field(default_factory=list)
    slowest_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    missed: int = 0  # receivers that had a change not within `LIMIT_S`

    def add(self, told: float, wanted: set[Sidecar], found: dict[Sidecar, float]) -> None:
        """One more change."""
        times = [at - told for at in found.values()]
        self.each_s += times
        self.slowest_s.append(max(times) if len(found) == len(wanted) and times else LIMIT_S)
        self.missed += len(wanted) - len(found)

    def figures(self) -> dict[str, object]:
        """Of all changes."""
        return {
            "changes": len(self.slowest_s), "each": spread_of(self.each_s), "slowest": spread_of(self.slowest_s),
            "not_within_30_s": self.missed,
        }  # fmt: skip


class Run:
    """
    One run, inside of `running`.

    Attributes:
        control: The control plane.
        fleet: The simulated sidecars.
        real: The processes.
        figures: What was found so far.
    """

    def __init__(self, size: Size, folder: Path, plan: Plan, control: Control, in_thread: Callable[..., Any]) -> None:
        self.size, self.control = size, control
        self.real: list[RealSidecar] = []
        self.fleet = Fleet(
            [name_of(one) for one in range(size.services)], control.port,
            [address_of(BLOCK, one, plan.port) for one in range(size.sidecars)],
        )  # fmt: skip
        self.figures: dict[str, Any] = {}
        self.clients: Clients | None = None
        self._folder, self._plan, self._in_thread = folder, plan, in_thread
        self._target = size.services // 2
        self._edition = 1
        self._pool_weight = 1.0
        self._spans: list[Span] = []
        self._strain = Strain()

    async def join(self) -> None:
        """Start the fleet, and wait until each has a file."""
        began = time.monotonic()
        await self.fleet.start(min(30.0, self.size.sidecars / 50))
        while waiting := sum(not one.hash for one in self.fleet.sidecars):
            await asyncio.sleep(0.1)
            if time.monotonic() > began + 300:
                raise RuntimeError(f"{waiting} sidecars have no file")
        self.figures["all_joined_s"] = round(time.monotonic() - began, 1)
        await asyncio.sleep(SETTLE_S)

    async def idle(self) -> None:
        """What the control plane uses while nothing changes."""
        self._strain.begin()
        reports, cpu_s, began = self.fleet.reports, self.control.cpu_s(), time.monotonic()
        await asyncio.sleep(self.size.idle_s)
        cpu_s = self.control.cpu_s() - cpu_s
        share = cpu_s / (time.monotonic() - began)
        reports = self.fleet.reports - reports
        self.figures["idle"] = {
            "core_share": round(share, 4), "reports_per_s": round(reports / self.size.idle_s, 1),
            "cpu_us_per_report": round(1e6 * cpu_s / max(1, reports)), "fleet": self._strain.figures(),
        }  # fmt: skip
        self._idle_share = share

    async def changes(self) -> None:
        """Changes of endpoints and routes for so many minutes."""
        size, fleet = self.size, self.fleet
        callers = {name_of(one) for one in self._plan.callers(self._target)}
        concerned, everybody = fleet.of(callers), fleet.of({name_of(one) for one in self._plan.callers(0)})
        changing = cycle(sorted(fleet.of({HUB}), key=lambda one: one.instance))
        times = {kind: Times() for kind in ("endpoint", "pool", "route")}
        peak = Peak(self.control.pss_mib)
        self._strain.begin()
        reports, cpu_s, began = fleet.reports, self.control.cpu_s(), time.monotonic()
        next_route = began + size.route_period_s
        next_pool = began + size.route_period_s / 2
        apart_cpu_s = apart_s = 0.0
        while time.monotonic() < began + 60 * size.minutes:
            turn = time.monotonic()
            if size.fixed and turn >= next_pool:
                next_pool += size.route_period_s
                before_s = self.control.cpu_s()
                await self._change_pool(times["pool"], everybody)
                apart_cpu_s, apart_s = apart_cpu_s + self.control.cpu_s() - before_s, apart_s + time.monotonic() - turn
            else:
                await self._change_weight(next(changing), times["endpoint"], everybody)
            if time.monotonic() >= next_route:
                next_route += size.route_period_s
                before_s, at = self.control.cpu_s(), time.monotonic()
                await self._route(times["route"], concerned)
                spent_s, lasted_s = self.control.cpu_s() - before_s, time.monotonic() - at
                times["route"].cpu_s.append(spent_s - self._idle_share * lasted_s)
                apart_cpu_s, apart_s = apart_cpu_s + spent_s, apart_s + lasted_s
            await asyncio.sleep(max(0.0, turn + ENDPOINT_PERIOD_S - time.monotonic()))
        lasted_s = time.monotonic() - began
        all_cpu_s, reports = self.control.cpu_s() - cpu_s, fleet.reports - reports
        count = max(1, len(times["endpoint"].slowest_s))
        gross_s = all_cpu_s - apart_cpu_s
        endpoint_cpu = {
            "receivers": len(everybody),
            "cpu_ms_net_of_idle": round(1e3 * (gross_s - self._idle_share * (lasted_s - apart_s)) / count, 1),
            "cpu_ms_with_all_reports": round(1e3 * gross_s / count, 1),
        }
        route_cpu_s = times["route"].cpu_s
        self.figures["endpoint_change_by_report"] = {**times["endpoint"].figures(), **endpoint_cpu}
        self.figures["endpoint_change_by_file"] = times["pool"].figures()
        self.figures["route_change"] = {
            **times["route"].figures(), "receivers": len(concerned), "services": len(callers),
            "cpu_s_median": round(statistics.median(route_cpu_s), 3) if route_cpu_s else None,
            "cpu_s_max": round(max(route_cpu_s), 3) if route_cpu_s else None,
        }  # fmt: skip
        self.figures["control"] = {
            "core_share": round(all_cpu_s / lasted_s, 3), "reports_per_s": round(reports / lasted_s, 1),
            "processes": self.control.processes(), "pss_peak_mib": round(await peak.end(), 1),
            "rss_peak_mib": round(self.control.peak_rss_mib(), 1),
        }  # fmt: skip
        self.figures["fleet"] = self._strain.figures()

    async def kill(self) -> None:
        """SIGKILL to the control plane, another in its place, and who comes back with what."""
        before = sum(one.config_octets for one in self.fleet.sidecars)
        began = time.monotonic_ns()
        self.control.kill()
        killed = time.monotonic()
        for one in self.fleet.sidecars:
            one.has_stream = False
        restart_s = await self._in_thread(self.control.start)
        ready = time.monotonic()
        while not all(one.has_stream for one in self.fleet.sidecars) and time.monotonic() < ready + BACK_S:
            await asyncio.sleep(0.02)
        back_s = time.monotonic() - ready
        missing = sum(not one.has_stream for one in self.fleet.sidecars)
        names = {one.instance for one in self.real}
        while time.monotonic() < ready + BACK_S:
            shown = await self._in_thread(self.control.shown)
            connected = [one for one in shown["instances"] if one["connected"]]
            if names <= {one["id"] for one in connected}:
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(2)
        self._spans.append(("killed", began, time.monotonic_ns()))
        octets = await self._in_thread(lambda: self.control.metric("sidecar_control_stream_bytes_total", '"config"'))
        self.figures["killed"] = {
            "restart_s": round(restart_s, 2), "away_s": round(ready - killed, 2), "all_back_s": round(back_s, 2),
            "not_back_within_120_s": missing,
            "config_octets_received": sum(one.config_octets for one in self.fleet.sidecars) - before,
            "config_octets_sent_by_its_own_count": int(octets),
        }  # fmt: skip

    async def traffic(self) -> None:
        """End the clients, and say what they saw."""
        if self.clients is None:
            return
        shown = await self._in_thread(self.control.shown)
        names = {one.instance for one in self.real}
        own = [one for one in shown["instances"] if one["id"] in names]
        streams: dict[str, Stream] = await self._in_thread(self.clients.finish)
        happened = Happened(self._spans, EVENTS)
        through = [stream for name, stream in streams.items() if name != DIRECT]
        self.figures["real"] = {
            "sidecars": len(self.real), "form": self.size.form, "requests_per_s_each": self.size.rate,
            "run_what_is_wanted": sum(one["config"]["hash"] == one["wanted"]["hash"] for one in own),
            "refused": sum(one["refused"] is not None for one in own), **traffic_figures(through, happened),
        }  # fmt: skip
        self.figures["no_sidecar"] = traffic_figures([streams[DIRECT]], happened)

    async def end(self) -> None:
        """Of the simulated sidecars."""
        await self._strain.end()
        await self.fleet.stop()

    def start_real(self, started: ExitStack, app: int, cpus: tuple[int, ...]) -> None:
        """Real sidecars of services that both kinds of change concern, and the clients of each; blocks."""
        services = [name_of(one) for one in self._plan.callers(self._target) if one][-self.size.real :]
        chosen = [services[one % len(services)] for one in range(self.size.real)]
        place = Place(self._folder, self.control.port, app, self.size.form, cpus)
        self.real = start_many(place, chosen, started)
        ports = {one.instance: one.outbound for one in self.real} | {DIRECT: app}
        seconds = 60 * self.size.minutes + self.size.idle_s + 600  # it is told when it is over
        hosts = (HUB, name_of(self._target))
        self.clients = Clients(self._folder, ports, hosts, self.size.rate, seconds, cpus)

    async def _change_weight(self, changing: Sidecar, times: Times, wanted: set[Sidecar]) -> None:
        """From when its report leaves: a sidecar waits a moment before it reports, which is not the control plane's."""
        self.fleet.forget()
        changing.change(3.0 - changing.weight)
        found = await self.fleet.until_endpoints(HUB, wanted, LIMIT_S)
        told = changing.told_at
        times.add(told, wanted, found)
        self._spans.append(("endpoint", int(1e9 * told), int(1e9 * (told + AFTER_ENDPOINTS_S))))

    async def _change_pool(self, times: Times, wanted: set[Sidecar]) -> None:
        """From when the file is there; it is looked at once a second."""
        self.fleet.forget()
        self._pool_weight = 3.0 - self._pool_weight
        new = self._plan.pool.with_suffix(".new")
        new.write_text(self._plan.pool_file(self._pool_weight))
        told = time.monotonic()
        os.replace(new, self._plan.pool)
        found = await self.fleet.until_endpoints(HUB, wanted, LIMIT_S)
        times.add(told, wanted, found)
        first = min(found.values(), default=told)
        self._spans.append(("pool", int(1e9 * first), int(1e9 * (first + AFTER_ENDPOINTS_S))))

    async def _route(self, times: Times, wanted: set[Sidecar]) -> None:
        self.fleet.forget()
        self._edition += 1
        text = self._plan.service_file(self._target, self._edition)
        told, began = time.monotonic(), time.monotonic_ns()
        write(self._folder / "mesh", [(f"services/{name_of(self._target)}.yaml", text)])
        times.add(told, wanted, await self.fleet.until_config(wanted, LIMIT_S))
        self._spans.append(("route", began, began + int(1e9 * AFTER_ROUTE_S)))
        await asyncio.sleep(0.5)


@asynccontextmanager
async def running(size: Size, folder: Path) -> AsyncIterator[Run]:
    """
    A mesh of this size, joined and settled: the control plane has a core of its own where there are two.

    What starts processes does so in one thread, which has neither the nice value nor the core of the fleet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    own, others = (AVAILABLE[:1], AVAILABLE[1:]) if len(AVAILABLE) > 1 else ((), ())
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(1)

    async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return await loop.run_in_executor(threads, call, *arguments)

    with ExitStack() as started:
        started.callback(threads.shutdown)
        apps, app, _ = await in_thread(start_upstreams, folder, others, 1024, "0.0.0.0")
        started.callback(apps.stop)
        plan = Plan(size.services, size.calls, size.fixed, app, folder / "pool.json")
        write(folder / "mesh", plan.files())
        if size.fixed:
            plan.pool.write_text(plan.pool_file(1.0))
        control = Control(folder, own, ["--now", "--spread", "0s"])
        started.callback(control.stop)
        ready_s = await in_thread(control.start)
        before = os.getpriority(os.PRIO_PROCESS, 0)
        if others:
            os.sched_setaffinity(0, others)
        os.setpriority(os.PRIO_PROCESS, 0, before + NICE)
        run = Run(size, folder, plan, control, in_thread)
        run.figures |= {
            "sidecars": size.sidecars + size.real, "services": size.services, "calls": size.calls,
            "endpoints": size.sidecars + size.real + size.fixed * size.services, "own_core": bool(own),
            "start_s": round(ready_s, 2),
        }  # fmt: skip
        try:
            await run.join()
            if size.real:
                await in_thread(run.start_real, started, app, others)
                await asyncio.sleep(SETTLE_S)
            yield run
        finally:
            await run.end()
            os.sched_setaffinity(0, AVAILABLE)
            with suppress(OSError):  # only root may; what follows is then as nice as the fleet was
                os.setpriority(os.PRIO_PROCESS, 0, before)
