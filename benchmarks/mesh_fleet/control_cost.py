"""
What `control` adds to a request: one sidecar with a file, another that was told the same file, in interleaved rounds.

A third has the file again: how far it is from the first says how exact the comparison is on this machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness.bench import Bench, Entry, Record, faults_of
from benchmarks.harness.evidence import verify
from benchmarks.harness.figures import Spread, ratio
from benchmarks.harness.processes import Process, free_ports
from benchmarks.harness.rounds import Stage
from benchmarks.harness.site import HOST, Running, Work
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from sidecar.mesh.source import read_directory

from .control import Control
from .directory import write
from .real import command

SERVICE = "storefront"
FILE, TOLD, AGAIN = "file", "told", "file_again"
MESH = """\
mesh: bench
unmatched: deny
services:
  {service}:
    app: 127.0.0.1:{v1}
    calls:
      {host}:
        routes:
{routes}
  {host}:
    app: 127.0.0.1:{v1}
    instances:
      v1: {{endpoints: ["127.0.0.1:{v1}"]}}
      beta: {{endpoints: ["127.0.0.1:{beta}"]}}
    routes:
      - {{name: beta-users, match: {{path: {{prefix: /v1}}, cookies: {{BETA_USER: "true"}}}}, to: beta}}
      - {{name: canary, match: {{path: {{prefix: /v1}}}}, to: {{v1: 95, beta: 5}}}}
"""
"""The routes of `compare.py`."""


def control_cost(bench: Bench, form: str) -> dict[str, Any]:
    """CPU a request of each, and of one against the other within a round."""
    work = Work()
    with bench.grounds("control-cost") as grounds, ExitStack() as started:
        routes = "\n".join(
            f"          - {{name: {path[1:]}, match: {{path: {{prefix: {path}}}}}, to: v1}}" for path in work.services
        )
        text = MESH.format(service=SERVICE, host=HOST, v1=grounds.v1_port, beta=grounds.beta_port, routes=routes)
        write(grounds.folder / "mesh", [("mesh.yaml", text)])
        control = Control(grounds.folder, bench.other_cpus, ["--now", "--spread", "0s"])
        started.callback(control.stop)
        control.start()
        endpoints = {
            HOST: [grounds.v1_port, grounds.beta_port],
            f"{HOST}.v1": [grounds.v1_port],
            f"{HOST}.beta": [grounds.beta_port],
        }
        whole = with_endpoints(
            compile_service(read_mesh(read_directory(str(grounds.folder / "mesh"))), SERVICE).text,
            {name: [f"127.0.0.1:{port}" for port in ports] for name, ports in endpoints.items()},
        )
        entries = []
        for name in (FILE, TOLD, AGAIN):
            entry = _start(bench, grounds.folder / name, name, whole, control, work, form, grounds.v1_port)
            started.callback(entry.running.process.stop)
            verify(name, entry.running, work, is_closed=False)
            entries.append(entry)
        cpu_s = control.cpu_s()
        contests = [(Stage("", 0), entry, bench.load()) for entry in entries]
        records = bench.take_turns("control-cost", contests, bench.rounds)
        reports = sum_of_reports(control)
        return {
            "form": form, "rounds": bench.rounds, "seconds": bench.seconds, **summary(records),
            "control_cpu_s": round(control.cpu_s() - cpu_s, 2), "reports": reports, "records": records,
        }  # fmt: skip


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Medians and ranges of the rounds. *Pure.*"""
    by_name = {
        name: {int(str(one["round"])): float(str(one["cpu_us"])) for one in records if one["subject"] == name}
        for name in (FILE, TOLD, AGAIN)
    }
    found: dict[str, Any] = {
        f"{name}_cpu_us": _numbers(Spread.of(list(values.values())), 2) for name, values in by_name.items() if values
    }
    for name in (TOLD, AGAIN):
        against = ratio(by_name[name], by_name[FILE])
        if against is not None:
            found[f"{name}_against_file"] = _numbers(against, 4)
            means = statistics.fmean(by_name[name].values()) / statistics.fmean(by_name[FILE].values())
            found[f"{name}_against_file_by_means"] = round(means, 4)
    found["faults"] = sum(len(faults_of(one)) for one in records)
    found["failed"] = sum(int(str(one["failed"])) for one in records)
    return found


def _numbers(spread: Spread, digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in asdict(spread).items()}


def with_endpoints(text: str, endpoints: dict[str, list[str]]) -> dict[str, Any]:
    """A compiled file that needs nobody to tell it endpoints: they stand where `discover` was. *Pure.*"""
    whole: dict[str, Any] = yaml.safe_load(text)
    for name, upstream in whole["upstreams"].items():
        del upstream["discover"]
        upstream["endpoints"] = endpoints[name]
    return whole


def sum_of_reports(control: Control) -> int:
    """That it took."""
    return int(control.metric("sidecar_control_requests_total", "report"))


def _start(
    bench: Bench, folder: Path, name: str, whole: dict[str, Any], control: Control, work: Work, form: str, app: int
) -> Entry:
    folder.mkdir()
    port, inbound, admin, metrics = free_ports(4)
    own: dict[str, Any] = {
        "inbound": {"listen": f"127.0.0.1:{inbound}", "app": f"127.0.0.1:{app}"},
        "outbound": {"listen": f"127.0.0.1:{port}"},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "telemetry": {"metrics": {"listen": f"127.0.0.1:{metrics}"}, "access_log": {"format": "off"}},
    }
    argv, env = command(form)
    argv += ["run", "--config", str(folder / "sidecar.yaml")]
    if name == TOLD:
        argv += ["--control", f"http://127.0.0.1:{control.port}", "--service", SERVICE, "--version", "v1"]
        argv += ["--instance", name, "--state-dir", str(folder / "state")]
    else:
        own = whole | own | {"outbound": whole["outbound"] | own["outbound"]}
    write(folder, [("sidecar.yaml", yaml.safe_dump(own, sort_keys=False))])
    process = Process("sidecar", argv, folder, bench.subject_cpus, env)
    try:
        process.wait_for(port, "/v1/", host=HOST, timeout_s=120)
    except BaseException:
        process.stop()
        raise
    return Entry(name, Running(process, port), 0, work)
