"""Everything that runs during the demonstration of a mesh: made in order, given back in order whatever happens."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sidecar.demo.http11 import Client, HTTPError, is_ready
from sidecar.demo.mesh.files import CANARY, local_file, mesh_files
from sidecar.demo.mesh.refused import Refused
from sidecar.demo.processes import Child, DemoError, choose_ports, port_of, replace_file, start, until_ready
from sidecar.demo.samples import Samples, read_samples
from sidecar.demo.traffic import NoBook, Traffic

CONTROL_PORTS = (15010, 15014)
"""Of the control plane: for sidecars and people, and for readiness and metrics."""
STOREFRONT_PORTS = (15000, 15001, 15020, 9901)
"""Inbound, outbound, metrics, admin of the storefront's sidecar: what the product listens on."""
START_TIMEOUT_S = 60.0
V1_MS, BETA_MS, CATALOG_MS, PAYMENTS_MS, PRICES_MS = 2.0, 6.0, 1.0, 3.0, 1.0
"""What the apps take to answer; the beta is slower, and the map shows it."""


@dataclass(frozen=True, slots=True)
class Instance:
    """
    One instance of a service that is to run.

    Attributes:
        name: For people.
        calls: What its app calls.
        is_grpc: Its app serves gRPC, and nothing else.
    """

    name: str
    service: str
    version: str
    delay_ms: float
    calls: tuple[str, ...] = ()
    is_grpc: bool = False


INSTANCES = (
    Instance("storefront", "storefront", "v1", 0.0, ("recommendations", "payments")),
    Instance("recommendations-v1", "recommendations", "v1", V1_MS, ("catalog",)),
    Instance("recommendations-beta", "recommendations", "beta", BETA_MS, ("catalog",)),
    Instance("catalog", "catalog", "v1", CATALOG_MS, ("grpc:prices",)),
    Instance("prices", "prices", "v1", PRICES_MS, is_grpc=True),
    Instance("reports", "reports", "v1", 0.0, ("recommendations",)),
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Of a sidecar, on 127.0.0.1."""

    inbound: int
    outbound: int
    metrics: int
    admin: int


async def metrics_at(port: int) -> Samples:
    """Every sample of the metrics that are served at this port; raises `HTTPError`."""
    return read_samples((await _page(port, "/metrics")).decode())


async def _page(port: int, path: str) -> bytes:
    client = Client(port, timeout_s=5.0)
    try:
        response = await client.get(path)
    finally:
        client.close()
    if response.status != 200:
        raise HTTPError(f"{path} answered {response.status}")
    return response.body


class Control:
    """
    The control plane's process, which may be killed and started again.

    Args:
        called: By which names and addresses it is called besides those of loopback, where it listens.
        within: As `processes.start`.

    Attributes:
        port: For sidecars and people.
        ops_port: For readiness and metrics.
        child: The process.
    """

    def __init__(
        self, directory: Path, port: int, ops_port: int, called: Sequence[str] = (), within: Sequence[str] = ()
    ) -> None:
        self._called = called
        self._within = within
        self.port = port
        self.ops_port = ops_port
        self._directory = directory
        self.child: Child | None = None

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        arguments = [
            "sidecar", "control", "--mesh", str(self._directory / "mesh"), "--state", str(self._directory / "control"),
            "--listen", f"127.0.0.1:{self.port}", "--ops-listen", f"127.0.0.1:{self.ops_port}", "--create-ca",
            *(word for name in self._called for word in ("--allow-host", name)),
        ]  # fmt: skip
        self.child = await start("control", arguments, self._directory, is_read=False, within=self._within)
        await until_ready(self.child, lambda: is_ready(self.ops_port), START_TIMEOUT_S)

    async def kill(self) -> None:
        """End it as nothing else would."""
        assert self.child is not None
        await self.child.kill()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return await self.child.stop() if self.child is not None else 0

    async def token(self, service: str) -> str:
        """A token by which sidecars of a service join the mesh, as `sidecar mesh token create` makes it."""
        client = Client(self.port, timeout_s=5.0)
        try:
            response = await client.post("/v1/tokens", json.dumps({"service": service}).encode())
        finally:
            client.close()
        if response.status != 200:
            raise HTTPError(f"/v1/tokens answered {response.status}: {response.body[:200]!r}")
        return str(json.loads(response.body)["token"])

    async def shows(self) -> Any:
        """What it shows of the mesh; raises `HTTPError`."""
        return json.loads(await _page(self.port, "/v1/mesh"))

    async def metrics(self) -> Samples:
        """Every sample of its metrics; raises `HTTPError`."""
        return await metrics_at(self.ops_port)


class Stage:
    """
    What is running.

    Attributes:
        directory: Of the mesh's files; yours to edit.
        payments_port: Where the service outside of the mesh listens.
        sidecars: By the instance's name.
        apps: The same, and `payments`.
        ports: Of the sidecars.
        traffic: Of customers.
        refused: What became of the calls that nobody admits.
    """

    def __init__(self, directory: Path, per_second: float) -> None:
        self.directory = directory / "mesh"
        self.payments_port = 0
        self.sidecars: dict[str, Child] = {}
        self.apps: dict[str, Child] = {}
        self.ports: dict[str, Ports] = {}
        control_port, ops_port = choose_ports(CONTROL_PORTS)
        self.control = Control(directory, control_port, ops_port)
        self.traffic: Traffic
        self.refused: Refused
        self._home = directory
        self._per_second = per_second

    @property
    def children(self) -> dict[str, Child]:
        """All processes, by name, the control plane first."""
        control = {"control": self.control.child} if self.control.child is not None else {}
        return {**control, **{f"{name}'s sidecar": child for name, child in self.sidecars.items()}, **self.apps}

    def write(self, files: dict[str, str]) -> None:
        """Make these the mesh's files, as editors do: each that is another is renamed over the old one."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                replace_file(path, text)

    async def start(self) -> None:
        """Start everything, and wait until the storefront's sidecar knows what to do."""
        payments = await self._app("payments", ["payments", "v1", str(PAYMENTS_MS)])
        self.payments_port = await port_of(payments, START_TIMEOUT_S)
        self.write(mesh_files(self.payments_port, CANARY))
        control = asyncio.create_task(self.control.start())
        starting: list[Awaitable[None]] = [control]
        for instance in INSTANCES:
            wanted = STOREFRONT_PORTS if instance.name == "storefront" else (0, 0, 0, 0)
            self.ports[instance.name] = Ports(*choose_ports(wanted))
            starting.append(self._instance(instance, self.ports[instance.name], control))
        # All come to an end before a failure is told: whoever then ends the stage finds everything that was started.
        for came in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(came, BaseException):
                raise came
        for name, child in self.sidecars.items():
            await until_ready(child, partial(is_ready, self.ports[name].metrics), START_TIMEOUT_S)
        await self._until_registered()
        self.traffic = Traffic(self.ports["storefront"].inbound, self._per_second, NoBook())
        self.refused = Refused(self.ports["reports"].inbound)

    async def send(self) -> None:
        """Customers come, and `reports` asks what it may not, until this is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.traffic.run())
            group.create_task(self.refused.run())

    async def end(self) -> dict[str, int]:
        """
        End what runs, traffic first, the control plane last; exit codes by name. The sidecars at once: each serves on
        until nobody calls it, or as long as that may take where no control plane says so, which is not to be added up.
        """
        if hasattr(self, "traffic"):
            self.traffic.abandon()
        ended = await asyncio.gather(*(child.stop() for child in self.sidecars.values()))
        codes = {f"{name}'s sidecar": code for name, code in zip(self.sidecars, ended, strict=True)}
        for name, child in self.apps.items():
            codes[name] = await child.stop()
        codes["control"] = await self.control.stop()
        return codes

    async def _app(
        self, name: str, arguments: list[str], extra: dict[str, str] | None = None, module: str = "sidecar.demo.apps"
    ) -> Child:
        child = self.apps[name] = await start(name, [module, *arguments], self._home, extra)
        return child

    async def _instance(self, instance: Instance, ports: Ports, control: Awaitable[None]) -> None:
        """An app, and the sidecar beside it, which joins the mesh by a token once there is a control plane."""
        through = {"HTTP_PROXY": f"http://127.0.0.1:{ports.outbound}"}
        if instance.is_grpc:
            app = await self._app(instance.name, [str(instance.delay_ms)], module="sidecar.demo.prices")
        else:
            who = [instance.service, instance.version, str(instance.delay_ms), *instance.calls]
            app = await self._app(instance.name, who, through)
        app_port = await port_of(app, START_TIMEOUT_S)
        local = self._home / f"{instance.name}.yaml"
        local.write_text(
            local_file(
                inbound=ports.inbound, outbound=ports.outbound, metrics=ports.metrics, admin=ports.admin, app=app_port
            )
        )
        await control
        token = self._home / f"{instance.name}.token"
        token.write_text(await self.control.token(instance.service))
        self.sidecars[instance.name] = await start(
            f"{instance.name}-sidecar",
            ["sidecar", "run", "--control", f"https://127.0.0.1:{self.control.port}",
             "--control-token-file", str(token),
             "--service", instance.service, "--version", instance.version, "--instance", instance.name,
             "--config", str(local),
             "--state-dir", str(self._home / f"{instance.name}-state")],
            self._home, is_read=False,
        )  # fmt: skip

    async def _until_registered(self) -> None:
        """Wait until every instance says that its app is well, so that the first customer is served."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    shown = await self.control.shows()
                    well = [one["id"] for one in shown["instances"] if one["state"] == "healthy"]
                    behind = [one["id"] for one in shown["instances"] if one["endpoints_behind"]]
                    if len(well) == len(INSTANCES) and not behind:
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise DemoError(f"not all instances were registered within {START_TIMEOUT_S:g} s") from None


@asynccontextmanager
async def running(per_second: float) -> AsyncIterator[Stage]:
    """
    Everything, ready and without traffic yet.

    Raises:
        DemoError: Something did not start.
    """
    async with AsyncExitStack() as stack:
        try:
            stage = await _started(stack, per_second)
        except DemoError as error:
            if "in use" not in str(error):
                raise
            # Somebody took a port between our look and the start.
            await stack.aclose()
            stage = await _started(stack, per_second)
        yield stage


async def _started(stack: AsyncExitStack, per_second: float) -> Stage:
    home = stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-demo-", ignore_cleanup_errors=True))
    stage = Stage(Path(home), per_second)
    stack.push_async_callback(stage.end)
    await stage.start()
    return stage
