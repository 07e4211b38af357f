"""
What a control plane carries: many sidecars that speak the real protocol, endpoint changes, route changes, a kill.

    .venv/bin/python benchmarks/mesh.py [--sidecars 1000] [--services 200] [--calls 20] [--minutes 10] [--save]

The control plane is `sidecar control` with the engine `files`, with waves skipped and pushes not spread; it gets one
core where there are two, the sidecars the other. Every second an instance of a service that all others call changes
its weight, every twelve seconds a route of a service that a tenth of them call changes. For each change the time is
taken until each sidecar concerned has it in force; all of them count, the slowest sidecar of a change as one figure.
Then the control plane is killed and started again. Prints a table; with `--save` the figures go to `results/`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.harness.surroundings import surroundings  # noqa: E402
from benchmarks.mesh_fleet.control import Control  # noqa: E402
from benchmarks.mesh_fleet.directory import HUB, callees_of, mesh_files, name_of, service_file, write  # noqa: E402
from benchmarks.mesh_fleet.sidecars import Fleet  # noqa: E402

ENDPOINT_PERIOD_S = 1.0
ROUTE_PERIOD_S = 12.0
LIMIT_S = 30.0


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def quantile(values: list[float], share: float) -> float:
    """The value below which this share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """One run; its figures."""
    count, services, calls = arguments.sidecars, arguments.services, arguments.calls
    fixed = max(0, (arguments.endpoints - count) // services)
    write(folder / "mesh", mesh_files(services, calls, fixed))
    cores = sorted(os.sched_getaffinity(0))
    own_core = len(cores) > 1
    control = Control(folder, free_port(), free_port(), cores[0] if own_core else None, ["--now", "--spread", "0s"])
    if own_core:
        os.sched_setaffinity(0, {cores[1]})
    loop = asyncio.get_running_loop()
    ready_s = await loop.run_in_executor(None, control.start)
    fleet = Fleet(count, [name_of(one) for one in range(services)], control.port)
    began = time.monotonic()
    await fleet.start(min(30.0, count / 50))
    while not all(one.hash for one in fleet.sidecars):
        await asyncio.sleep(0.1)
        if time.monotonic() > began + 300:
            raise RuntimeError(f"{sum(not one.hash for one in fleet.sidecars)} sidecars have no file")
    joined_s = time.monotonic() - began
    await asyncio.sleep(5)

    callers = {
        one: [number for number in range(services) if one in callees_of(number, services, calls)]
        for one in {0, services // 2}
    }
    by_service: dict[str, list] = {}  # type: ignore[type-arg]
    for sidecar in fleet.sidecars:
        by_service.setdefault(sidecar.service, []).append(sidecar)

    def concerned(service: int) -> set:  # type: ignore[type-arg]
        return {one for number in callers[service] for one in by_service.get(name_of(number), [])}

    endpoint_times: list[float] = []
    endpoint_slowest: list[float] = []
    route_slowest: list[float] = []
    route_times: list[float] = []
    lost = 0
    all_callers = concerned(0)
    changing = by_service[HUB][0]
    edition = 1
    upstreams = sorted({name for one in all_callers for name in one.endpoints if name.split(".")[0] == HUB})
    upstream = HUB if HUB in upstreams else upstreams[0]
    deadline = time.monotonic() + arguments.minutes * 60
    next_route = time.monotonic() + ROUTE_PERIOD_S
    weight = 1.0
    idle_cpu = control.cpu_s()
    idle_from = time.monotonic()
    await asyncio.sleep(10)
    idle_share = (control.cpu_s() - idle_cpu) / (time.monotonic() - idle_from)
    loud_cpu, loud_from = control.cpu_s(), time.monotonic()
    route_cpu: list[float] = []
    while time.monotonic() < deadline:
        turn = time.monotonic()
        fleet.forget()
        weight = 2.0 if weight == 1.0 else 1.0
        told = time.monotonic()
        changing.change(weight)
        found = await fleet.until_endpoints(upstream, all_callers, LIMIT_S)
        lost += len(all_callers) - len(found)
        times = [at - told for at in found.values()]
        endpoint_times += times
        endpoint_slowest.append(max(times, default=LIMIT_S))
        if time.monotonic() >= next_route:
            next_route += ROUTE_PERIOD_S
            fleet.forget()
            edition += 1
            before = control.cpu_s()
            target = services // 2
            written = time.monotonic()
            write(
                folder / "mesh",
                [(f"services/{name_of(target)}.yaml", service_file(target, services, calls, fixed, edition))],
            )
            wanted = concerned(target)
            found = await fleet.until_config(wanted, LIMIT_S)
            lost += len(wanted) - len(found)
            times = [at - written for at in found.values()]
            route_times += times
            route_slowest.append(max(times, default=LIMIT_S))
            await asyncio.sleep(0.5)
            route_cpu.append(control.cpu_s() - before - idle_share * (time.monotonic() - written))
        await asyncio.sleep(max(0.0, turn + ENDPOINT_PERIOD_S - time.monotonic()))
    loud_s = time.monotonic() - loud_from
    busy = control.cpu_s() - loud_cpu - idle_share * loud_s - sum(route_cpu)
    memory = control.memory_bytes()

    octets_before = sum(one.config_octets for one in fleet.sidecars)
    control.kill()
    for one in fleet.sidecars:
        one.has_stream = False
    killed = time.monotonic()
    restart_s = await loop.run_in_executor(None, control.start)
    ready = time.monotonic()
    while not all(one.has_stream for one in fleet.sidecars) and time.monotonic() < ready + 120:
        await asyncio.sleep(0.02)
    back_s = time.monotonic() - ready
    await asyncio.sleep(2)
    octets = sum(one.config_octets for one in fleet.sidecars) - octets_before
    await fleet.stop()
    control.stop()
    return {
        "sidecars": count, "services": services, "calls": calls, "endpoints": count + fixed * services,
        "minutes": arguments.minutes, "own_core": own_core,
        "start_s": round(ready_s, 2), "all_joined_s": round(joined_s, 1),
        "endpoint_changes": len(endpoint_slowest), "endpoint_receivers": len(all_callers),
        "endpoint_p50_ms": round(1e3 * quantile(endpoint_times, 0.5), 1),
        "endpoint_p99_ms": round(1e3 * quantile(endpoint_times, 0.99), 1),
        "endpoint_slowest_median_ms": round(1e3 * statistics.median(endpoint_slowest), 1),
        "endpoint_slowest_p99_ms": round(1e3 * quantile(endpoint_slowest, 0.99), 1),
        "endpoint_cpu_ms": round(1e3 * busy / max(1, len(endpoint_slowest)), 1),
        "route_changes": len(route_slowest), "route_receivers": len(concerned(services // 2)),
        "route_p99_s": round(quantile(route_times, 0.99), 2) if route_times else None,
        "route_slowest_median_s": round(statistics.median(route_slowest), 2) if route_slowest else None,
        "route_cpu_s": round(statistics.median(route_cpu), 2) if route_cpu else None,
        "idle_cpu_share": round(idle_share, 3), "memory_mib": round(memory / 2**20, 1),
        "not_told": lost, "restart_s": round(restart_s, 2), "away_s": round(ready - killed, 2),
        "all_back_s": round(back_s, 2), "config_octets_after_restart": octets,
    }  # fmt: skip


def main() -> None:
    """Run, print, and perhaps keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sidecars", type=int, default=1000)
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--endpoints", type=int, default=10_000, help="all together, those of the sidecars included")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--save", action="store_true", help="keep the figures in results/")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * arguments.sidecars + 1000)), hard))
    about = surroundings([])
    with tempfile.TemporaryDirectory(prefix="sidecar-mesh-bench-") as folder:
        figures = asyncio.run(measure(arguments, Path(folder)))
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if arguments.save:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = HERE / "results" / f"mesh-{stamp}.json"
        path.write_text(json.dumps({"surroundings": about, "figures": figures}, indent=1) + "\n")
        print(f"kept in {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
