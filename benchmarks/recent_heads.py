"""
What it costs a request of a real sidecar that its head is kept (`telemetry.recent_requests`): on and off, in turns.

    python -m benchmarks.recent_heads                              # the interpreted sidecar
    python -m benchmarks.recent_heads --sidecar build/bin/sidecar  # the compiled one (`make compile`)
    python -m benchmarks.recent_heads --keep 100000                # a ring so large that each request is kept

These turns are some thousand requests a second, of which a ring of 2,000 keeps 200 once it is full
(`proxy.recent.SPAN_NS`); it is filled before the first turn that counts.

Two sidecars with the same routes run at once before the same server; one keeps heads, the other does not. A client with
a few connections sends each of them some hundred requests, now to the one first and now to the other, so that what the
machine does meanwhile hits both. Told is processor time that the kernel counts for each sidecar's process
(`/proc/PID/schedstat`, in nanoseconds): the median of the turns' differences, as a share of the median without.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.micro.data_path import requests

_CONNECTIONS, _A_TURN = 8, 400
_ORIGIN, _OFF, _ON = 26_100, 26_001, 26_002
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1024\r\n\r\n" + b"x" * 1024
_FILE: Final = """\
service: storefront
outbound:
  listen: 127.0.0.1:{port}
  routes:
    - {{name: beta, match: {{host: recommendations, path: {{prefix: /v1}}, cookies: {{BETA_USER: "true"}}}}, to: one}}
    - {{name: tenant, match: {{host: recommendations, headers: {{x-tenant: {{prefix: b}}}}}}, to: one}}
    - {{name: canary, match: {{host: recommendations}}, to: {{one: 95, two: 5}}, sticky: {{cookie: uid}}}}
upstreams: {{one: {{endpoints: ["127.0.0.1:{origin}"]}}, two: {{endpoints: ["127.0.0.1:{origin}"]}}}}
admin: {{listen: "127.0.0.1:{admin}"}}
telemetry:
  metrics: {{listen: "127.0.0.1:{metrics}"}}
  access_log: {{path: /dev/null}}
  recent_requests: {keep}
"""


async def _serve() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", _ORIGIN)
    await server.serve_forever()


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _turn(connections: list[socket.socket], some: list[bytes]) -> None:
    """One request on each connection, then the answers, until all are answered."""
    for at in range(0, len(some), len(connections)):
        for connection, request in zip(connections, some[at:], strict=False):
            connection.sendall(request)
        for connection, _ in zip(connections, some[at:], strict=False):
            left = connection.recv(65536)
            while not left.endswith(b"x" * 1024):
                left += connection.recv(65536)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[1])
    parser.add_argument("--sidecar", default=str(Path(sys.executable).parent / "sidecar"))
    parser.add_argument("--turns", type=int, default=120)
    parser.add_argument("--keep", type=int, default=2000, help="how many heads the one keeps")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(_serve())
        return
    children = [subprocess.Popen([sys.executable, "-m", "benchmarks.recent_heads", "--serve"])]
    try:
        with tempfile.TemporaryDirectory() as folder:
            ports = {_OFF: 0, _ON: arguments.keep}
            for port, keep in ports.items():
                file = Path(folder) / f"{port}.yaml"
                text = _FILE.format(port=port, keep=keep, origin=_ORIGIN, admin=port + 100, metrics=port + 200)
                file.write_text(text)
                children.append(
                    subprocess.Popen([arguments.sidecar, "run", "-c", str(file)], stderr=subprocess.DEVNULL)
                )
            _connect(_ORIGIN).close()
            clients = [[_connect(port) for _ in range(_CONNECTIONS)] for port in ports]
            _measure([child.pid for child in children[1:]], clients, arguments.turns)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def _measure(pids: list[int], clients: list[list[socket.socket]], turns: int) -> None:
    chance, users = random.Random(7), requests(5000, seed=3)
    for connections in clients:
        for _ in range(8):
            _turn(connections, chance.sample(users, _A_TURN))
    without: list[float] = []
    differences: list[float] = []
    for number in range(turns):
        some = chance.sample(users, _A_TURN)
        took = [0.0, 0.0]
        for at in (0, 1) if number % 2 else (1, 0):
            began = _cpu_ns(pids[at])
            _turn(clients[at], some)
            took[at] = (_cpu_ns(pids[at]) - began) / _A_TURN
        without.append(took[0])
        differences.append(took[1] - took[0])
    base, more = statistics.median(without), statistics.median(differences)
    quarters = statistics.quantiles(differences, n=4)
    print(
        f"{base / 1000:.1f} us a request without, {more / 1000:+.2f} us with: {more / base:+.2%} "
        f"(half of {turns} turns between {quarters[0] / base:+.2%} and {quarters[2] / base:+.2%})"
    )


if __name__ == "__main__":
    main()
