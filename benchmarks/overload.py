"""What an overloaded app is worth behind the sidecar, without a limit and with one that finds itself.

    python -m benchmarks.overload

The app is what most are: so many workers, each busy for so long with a request, and a queue before them. It does not
notice that a client has given up, and works on what nobody waits for. Clients come at random at a rate of their own,
whatever becomes of the others (an open loop), and give up after a second. What counts is goodput: answers in time.

Without a limit the queue grows until every request in it is older than its client's patience: the app works all the
time and helps nobody. With `circuit_breaker: {adaptive: true}` the excess is refused at once and the rest is served.
Measured on a 2-core virtual machine with Python 3.11, app with 10 workers of 50 ms, 200 requests a second at most:

                  load  offered/s  in time/s  refused/s  too late/s  p50 ms  p99 ms
    no limit       0.5         97         97          0          0       51      63
    no limit       1.0        201        201          0          0      299     426
    no limit       2.0        398         34          0        364      489     982
    no limit       4.0        808         25          0        783      508     989
    adaptive       0.5         97         97          0          0       51      76
    adaptive       1.0        201        189         12          0       80     194
    adaptive       2.0        398        196        202          0       99     231
    adaptive       4.0        808        198        610          0       99     183
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness.processes import Process, free_ports
from benchmarks.harness.site import write

WORKERS = 10
SERVICE_S = 0.05
CAPACITY = WORKERS / SERVICE_S
PATIENCE_S = 1.0
SECONDS = 10
LOADS = (0.5, 1.0, 2.0, 4.0)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"GET /work HTTP/1.1\r\nHost: app\r\n\r\n"

SIDECAR = """\
service: app
inbound:
  listen: 127.0.0.1:{port}
  app: 127.0.0.1:{app}
  {limit}
admin: {{listen: "127.0.0.1:{admin}"}}
telemetry:
  metrics: {{listen: "127.0.0.1:{metrics}"}}
  access_log: {{format: off}}
"""
LIMITS = {
    "no limit": "",
    "adaptive": "circuit_breaker: {adaptive: true}",
}


# --- the app -----------------------------------------------------------------------------------------------------


async def serve(port: int) -> None:
    """The app: a queue, and workers that never look whether anybody still waits."""
    queue: asyncio.Queue[tuple[asyncio.StreamWriter, asyncio.Event]] = asyncio.Queue()

    async def work() -> None:
        while True:
            writer, is_done = await queue.get()
            await asyncio.sleep(SERVICE_S)
            if not writer.is_closing():
                writer.write(RESPONSE)
            is_done.set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                is_done = asyncio.Event()
                queue.put_nowait((writer, is_done))
                await is_done.wait()
        writer.close()

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    server = await asyncio.start_server(handle, "127.0.0.1", port, backlog=4096)
    async with server:
        await asyncio.gather(server.serve_forever(), *workers)


# --- the clients -------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What clients saw at one load."""

    offered: int = 0
    refused: int = 0
    gave_up: int = 0
    latencies: list[float] = field(default_factory=list)

    def quantile_ms(self, part: float) -> float:
        """Of the answers in time, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[int(part * (len(ordered) - 1))] * 1000 if ordered else float("nan")


class Clients:
    """Clients at random, on connections that are kept while they work."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._random = Random(1)

    async def come(self, rate: float, seconds: float) -> Outcome:
        """Offer so many requests a second for so long, and wait for the last."""
        outcome = Outcome()
        began = time.perf_counter()
        due = 0.0
        async with asyncio.TaskGroup() as group:
            while due < seconds:
                await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
                outcome.offered += 1
                group.create_task(self._ask(outcome))
                due += self._random.expovariate(rate)
        return outcome

    async def _ask(self, outcome: Outcome) -> None:
        began = time.perf_counter()
        connection = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = connection
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            outcome.gave_up += 1
            if connection is not None:
                connection[1].transport.abort()
            return
        self._idle.append(connection)
        if head.startswith(b"HTTP/1.1 200"):
            outcome.latencies.append(time.perf_counter() - began)
        else:
            outcome.refused += 1

    def close(self) -> None:
        """Leave."""
        for _, writer in self._idle:
            writer.transport.abort()


async def measure(port: int) -> list[Outcome]:
    """Every load after the other, with a pause in which the app's queue empties."""
    clients = Clients(port)
    outcomes = []
    for load in LOADS:
        outcomes.append(await clients.come(load * CAPACITY, SECONDS))
        await asyncio.sleep(SECONDS * max(0.0, load - 1) + 1 if outcomes[-1].gave_up else 1)
    clients.close()
    return outcomes


def main() -> None:
    """Measure both, and print a table."""
    columns = ("load", "offered/s", "in time/s", "refused/s", "too late/s", "p50 ms", "p99 ms")
    widths = (6, 11, 11, 11, 12, 8, 8)
    print(f"{'':12}" + "".join(f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)))
    for label, limit in LIMITS.items():
        with tempfile.TemporaryDirectory(prefix="overload-") as name:
            folder = Path(name)
            app_port, port, admin, metrics = free_ports(4)
            app = Process("app", [sys.executable, str(Path(__file__).resolve()), str(app_port)], folder, (), {})
            text = SIDECAR.format(port=port, app=app_port, admin=admin, metrics=metrics, limit=limit)
            config = write(folder, "sidecar.yaml", text)
            command = str(Path(sys.executable).parent / "sidecar")
            sidecar = None
            try:
                app.wait_for(app_port, "/work")
                sidecar = Process("sidecar", [command, "run", "--config", str(config)], folder, (), {})
                sidecar.wait_for(port, "/work")
                for load, seen in zip(LOADS, asyncio.run(measure(port)), strict=True):
                    rates = [seen.offered, len(seen.latencies), seen.refused, seen.gave_up]
                    row = "".join(
                        f"{count / SECONDS:{width}.0f}" for count, width in zip(rates, widths[1:5], strict=True)
                    )
                    print(f"{label:12}{load:6.1f}{row}{seen.quantile_ms(0.5):8.0f}{seen.quantile_ms(0.99):8.0f}")
            finally:
                if sidecar is not None:
                    sidecar.stop()
                app.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(int(sys.argv[1])))
    else:
        main()
