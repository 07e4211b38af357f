"""
What connections cost that the kernel leads to the sidecar: HTTP beside the same by address, TCP beside a bare relay on
the same loop, HAProxy and Envoy. As root, in network namespaces of its own.

    python -m benchmarks.captured [--rounds 5] [--sidecar build/bin/sidecar]

Subjects have one CPU, clients and servers the other; a figure is the CPU time of the subject's process, user and
system, per unit of work. Rounds are interleaved; the ratios are of the same round. The sidecar writes an access log,
Envoy too; the relay and HAProxy write none. Clients of the sidecar dial the server and are captured; those of the
others dial the other proxy. Writes `benchmarks/results/captured-*.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness.envoy import envoy_binary
from tests.support.namespaces import Host, hosts

ROOT = Path(__file__).resolve().parents[1]
APP = 1000
SUBJECT_CPU, OTHER_CPU = 0, 1
BULK_BYTES = 256 * 1024 * 1024
CONNECTIONS = 150
TURNS = 10
"""Of connections in a round: a virtual machine may be held up for milliseconds, which then concerns one turn of one."""
IDLE = 8_000
"""Two descriptors each, of the 20,000 that a process may have on many machines."""
HTTP_S = 4
KIB = bytes(1024)

_SERVERS = """
import asyncio, uvloop
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)
class Pour(asyncio.Protocol):
    chunk = bytes(1 << 18)
    def connection_made(self, transport): self.transport = transport; transport.set_write_buffer_limits(1 << 20)
    def data_received(self, data): self.is_on = True; self.resume_writing()
    def pause_writing(self): self.is_on = False
    def connection_lost(self, error): self.is_on = False
    def resume_writing(self):
        self.is_on = True
        while self.is_on and not self.transport.is_closing(): self.transport.write(self.chunk)
async def main():
    loop = asyncio.get_running_loop()
    await loop.create_server(Echo, "0.0.0.0", 7000, backlog=4096)
    await loop.create_server(Pour, "0.0.0.0", 7001, backlog=4096)
    await asyncio.sleep(86400)
uvloop.run(main())
"""
_NGINX = """
daemon off; worker_processes 1; error_log /dev/null; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  server {{ listen 9000 backlog=4096; location / {{ return 200 ok; }} }}
}}
"""
_SIDECAR = """
service: bench
inbound: {{app: "127.0.0.1:8080"}}
outbound: {{}}
capture: {{}}
upstreams:
  web: {{endpoints: ["{server}:9000"]}}
  echo: {{endpoints: ["{server}:7000"], circuit_breaker: {{max_requests: 20000, max_connections: 20000}}}}
  pour: {{endpoints: ["{server}:7001"]}}
admin: {{listen: "127.0.0.1:9901"}}
telemetry: {{metrics: {{listen: "127.0.0.1:15020"}}, access_log: {{path: {folder}/access.log}}}}
limits: {{max_connections: 20000}}
"""
_HAPROXY = """
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen echo
  bind 127.0.0.1:7100
  server one {server}:7000
listen pour
  bind 127.0.0.1:7101
  server one {server}:7001
"""


def _envoy(server: str, folder: Path) -> dict[str, object]:
    types = "type.googleapis.com/envoy."

    def address(host: str, port: int) -> dict[str, object]:
        return {"socket_address": {"address": host, "port_value": port}}

    log = {
        "name": "file",
        "typed_config": {
            "@type": types + "extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(folder / "envoy.log"),
        },
    }
    listeners, clusters = [], []
    for port, to in ((7200, 7000), (7201, 7001)):
        proxy = {
            "@type": types + "extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": f"p{to}",
            "cluster": f"c{to}",
            "access_log": [log],
        }
        chain = {"filters": [{"name": "tcp", "typed_config": proxy}]}
        listeners.append({"name": f"l{port}", "address": address("127.0.0.1", port), "filter_chains": [chain]})
        endpoint = {"endpoint": {"address": address(server, to)}}
        clusters.append(
            {
                "name": f"c{to}",
                "type": "STATIC",
                "connect_timeout": "5s",
                "circuit_breakers": {"thresholds": [{"max_connections": 20_000}]},
                "load_assignment": {"cluster_name": f"c{to}", "endpoints": [{"lb_endpoints": [endpoint]}]},
            }
        )
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


class Subject:
    """
    A proxy under measurement.

    Attributes:
        host, echo, pour: Where its clients dial.
    """

    def __init__(self, process: subprocess.Popen[str], host: str, echo: int, pour: int) -> None:
        # `ip netns exec` and taskset replace themselves by what they run.
        self.pid = process.pid
        self.host = host
        self.echo = echo
        self.pour = pour

    def cpu_s(self) -> float:
        """Time that its threads have had a CPU so far, by the scheduler's clock of nanoseconds."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(one.read_text().split()[0]) for one in tasks) / 1e9

    def memory_kib(self) -> int:
        """Proportional set size."""
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{self.pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])


def _started(stack: contextlib.ExitStack, host: Host, *words: object, cpu: int) -> subprocess.Popen[str]:
    return stack.enter_context(
        host.started(
            "taskset",
            "-c",
            cpu,
            *words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )


def _await(host: Host, address: str, port: int) -> None:
    def dial() -> None:
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection((address, port), 1).close()
                return
            time.sleep(0.05)
        raise SystemExit(f"nobody listens at {address}:{port}")

    host.do(dial)


@contextlib.contextmanager
def everybody(sidecar: list[str], folder: Path) -> Iterator[tuple[Host, Host, dict[str, Subject]]]:
    """Both hosts, and all subjects in the first."""
    with hosts(2) as (here, there), contextlib.ExitStack() as stack:
        server = there.v4
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
        (folder / "sidecar.yaml").write_text(_SIDECAR.format(folder=folder, server=server))
        (folder / "haproxy.cfg").write_text(_HAPROXY.format(server=server))
        (folder / "envoy.json").write_text(json.dumps(_envoy(server, folder)))
        (folder / "servers.py").write_text(_SERVERS)
        _started(stack, there, sys.executable, folder / "servers.py", cpu=OTHER_CPU)
        _started(stack, there, "nginx", "-c", folder / "nginx.conf", cpu=OTHER_CPU)
        for port in (7000, 7001, 9000):
            _await(there, server, port)
        found: dict[str, Subject] = {}
        command = [*sidecar, "run", "--config", folder / "sidecar.yaml"]
        process = _started(stack, here, *command, cpu=SUBJECT_CPU)
        _await(here, "127.0.0.1", 15020)
        found["sidecar"] = Subject(process, server, 7000, 7001)
        relay = ROOT / "benchmarks" / "relay.py"
        envoy = (envoy_binary() or "envoy", "-c", folder / "envoy.json", "--concurrency", 1, "-l", "off")
        for name, words, echo, pour in (
            ("relay", (sys.executable, relay, 7300, 7000, server), 7300, 0),
            ("relay of bulk", (sys.executable, relay, 7301, 7001, server), 0, 7301),
            ("haproxy", ("haproxy", "-f", folder / "haproxy.cfg", "-db"), 7100, 7101),
            ("envoy", envoy, 7200, 7201),
        ):  # fmt: skip
            process = _started(stack, here, *words, cpu=SUBJECT_CPU)
            _await(here, "127.0.0.1", echo or pour)
            found[name] = Subject(process, "127.0.0.1", echo, pour)
        done = here.run(*sidecar, "capture", "install", "--user", 0)
        assert done.returncode == 0, done.stderr
        time.sleep(6)  # until the sidecar has proved it
        yield here, there, found


def http(here: Host, there: Host, subject: Subject, *, is_captured: bool) -> float:
    """Microseconds of CPU a request."""
    url = f"http://{there.v4}:80/" if is_captured else "http://127.0.0.1:15001/"
    words = ("taskset", "-c", OTHER_CPU, "wrk", "-t1", "-c32", f"-d{HTTP_S}s", "-H", "Host: web", url)
    before = subject.cpu_s()
    said = here.said(*words, user=APP)
    used = subject.cpu_s() - before
    assert "Non-2xx" not in said, said
    found = re.search(r"(\d+) requests in", said)
    assert found is not None, said
    return used / int(found[1]) * 1e6


def bulk(here: Host, subject: Subject) -> float:
    """Microseconds of CPU a MiB that goes to the client."""

    def read() -> None:
        with socket.create_connection((subject.host, subject.pour), 20) as client:
            client.sendall(b"\x00")
            left, memory = BULK_BYTES, bytearray(1 << 20)
            while left > 0:
                got = client.recv_into(memory)
                assert got
                left -= got

    before = subject.cpu_s()
    here.do(read, APP)
    return (subject.cpu_s() - before) / (BULK_BYTES >> 20) * 1e6


def connections(here: Host, subject: Subject) -> float:
    """Microseconds of CPU a connection: made, 1 KiB each way, closed."""

    def talk() -> None:
        for _ in range(CONNECTIONS):
            with socket.create_connection((subject.host, subject.echo), 20) as client:
                client.sendall(b"\x00" + KIB[1:])
                left = len(KIB)
                while left > 0:
                    left -= len(client.recv(4096))

    before = subject.cpu_s()
    here.do(talk, APP)
    time.sleep(0.2)  # for what is left to do behind the last
    return (subject.cpu_s() - before) / CONNECTIONS * 1e6


def idle(here: Host, subject: Subject) -> float:
    """KiB of memory an idle connection, in the process."""

    def hold() -> list[socket.socket]:
        held = []
        for _ in range(IDLE):
            client = socket.create_connection((subject.host, subject.echo), 20)
            client.sendall(b"\x00")
            client.recv(1)
            held.append(client)
        return held

    before = subject.memory_kib()
    held = here.do(hold, APP)
    time.sleep(1)
    after = subject.memory_kib()
    for client in held:
        client.close()
    time.sleep(2)
    return (after - before) / IDLE


def install_ms(here: Host, sidecar: list[str]) -> float:
    """From the command's start to its end."""
    began = time.monotonic()
    done = here.run(*sidecar, "capture", "install", "--user", 0)
    assert done.returncode == 0, done.stderr
    return (time.monotonic() - began) * 1e3


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sidecar", default=str(ROOT / "build" / "bin" / "sidecar"))
    given = parser.parse_args()
    os.sched_setaffinity(0, {OTHER_CPU})
    sidecar = [given.sidecar]
    rows: dict[str, list[float]] = {}

    def note(what: str, measure: Callable[[], float]) -> None:
        rows.setdefault(what, []).append(round(measure(), 3))

    with tempfile.TemporaryDirectory() as folder, everybody(sidecar, Path(folder)) as (here, there, subjects):
        os.chmod(folder, 0o755)
        own = subjects["sidecar"]
        for name in ("sidecar", "relay", "envoy"):
            note(f"idle, {name}", lambda name=name: idle(here, subjects[name]))  # type: ignore[misc]
        for number in range(given.rounds):
            note("http, captured", lambda: http(here, there, own, is_captured=True))
            note("http, by address", lambda: http(here, there, own, is_captured=False))
            for name in ("sidecar", "relay of bulk", "haproxy", "envoy"):
                note(f"bulk, {name}", lambda name=name: bulk(here, subjects[name]))  # type: ignore[misc]
            for _ in range(TURNS):
                for name in ("sidecar", "relay", "haproxy", "envoy"):
                    note(f"connection, {name}", lambda name=name: connections(here, subjects[name]))  # type: ignore[misc]
            note("capture install", lambda: install_ms(here, sidecar))
            print(
                f"round {number + 1}: " + ", ".join(f"{what} {found[-1]:.1f}" for what, found in rows.items()),
                flush=True,
            )
    for what, found in rows.items():
        print(f"{what:28} median {statistics.median(found):9.2f}   {min(found):.2f} to {max(found):.2f}")
    ratios = {
        "captured to addressed": ("http, captured", "http, by address"),
        "bulk to relay": ("bulk, sidecar", "bulk, relay of bulk"),
        "bulk to envoy": ("bulk, sidecar", "bulk, envoy"),
        "connection to relay": ("connection, sidecar", "connection, relay"),
        "connection to haproxy": ("connection, sidecar", "connection, haproxy"),
        "connection to envoy": ("connection, sidecar", "connection, envoy"),
    }
    told = {}
    for what, (mine, theirs) in ratios.items():
        each = [a / b for a, b in zip(rows[mine], rows[theirs], strict=True) if b]
        told[what] = [round(one, 3) for one in each]
        print(f"{what:28} median {statistics.median(each):9.2f}   {min(each):.2f} to {max(each):.2f}")
    when = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = ROOT / "benchmarks" / "results" / f"captured-{when}.json"
    kept.write_text(json.dumps({"rounds": rows, "ratios": told, "load_average": os.getloadavg()}, indent=1) + "\n")
    print(kept)


if __name__ == "__main__":
    main()
