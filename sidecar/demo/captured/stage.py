"""Everything that runs during the demonstration of captured traffic: made in order, given back whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sidecar.capture.netfilter.table import install
from sidecar.capture.rules import SIDECAR_USER, Wanted, rules_of
from sidecar.demo.captured.door import Door
from sidecar.demo.captured.files import (
    APP_PORT,
    BANK,
    CONTROL_HOST,
    CUSTOMERS_HOST,
    HOSTS,
    HTTPS_PORT,
    KNOWN_AS,
    OUTSIDE,
    REDIS_PORT,
    SERVICES,
    Service,
    local_file,
    mesh_files,
)
from sidecar.demo.mesh.stage import CONTROL_PORTS, START_TIMEOUT_S, Control
from sidecar.demo.namespaces import RUN, Host, NamespaceError, network, remove_left_behind
from sidecar.demo.processes import Child, DemoError, choose_ports, replace_file, start

PREFIX: Final = "sidecar-demo"
APP_USER: Final = 1000
_LOOK_S: Final = 0.1
_KEPT: Final = ("-all", "+dac_read_search", "+net_bind_service")
"""Of capabilities: a user that is not root may not be able to read this Python, wherever it lies, nor have port 443."""


class Stage:
    """
    What is running.

    Attributes:
        directory: Of the mesh's files; yours to edit.
        hosts: By their names.
        control: The control plane.
        children: All other processes, by their names.
        answers: What customers were answered, by status.
        last_page: The last page that a customer was given.
        has_redis: Whether the store is a real one.
    """

    def __init__(self, home: Path, hosts: dict[str, Host], per_second: float) -> None:
        self.directory = home / "mesh"
        self.hosts = hosts
        port, ops_port = choose_ports(CONTROL_PORTS)
        where = hosts[CONTROL_HOST]
        self.control = Control(home, port, ops_port, (where.v4,), where.argv())
        self.children: dict[str, Child] = {}
        self.answers: Counter[int] = Counter()
        self.last_page: Any = None
        self.last_trouble = ""
        self.has_redis = shutil.which("redis-server") is not None
        self._home = home
        self._trust = home / "bank.crt"
        self._per_second = per_second
        # It listens on its own loopback, where it asks nobody for a token.
        people = [Door(None, "127.0.0.1", where, one) for one in (port, ops_port)]
        self._doors = [*people, Door(where, where.v4, where, port)]
        self._listening: asyncio.Task[None] | None = None

    @property
    def processes(self) -> list[Child]:
        """All that run, the control plane first."""
        return [*([self.control.child] if self.control.child is not None else []), *self.children.values()]

    async def start(self) -> None:
        """Start everything but the customers, and wait until every sidecar says that its app is well."""
        addresses = {name: self.hosts[name].v4 for name in OUTSIDE}
        for name, text in mesh_files(addresses).items():
            (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.directory / name, text)
        key = self._home / "bank.key"
        words = ["sidecar.demo.captured.make_certificate", BANK, str(self._trust), str(key)]
        maker = await start("certificate", words, self._home, is_read=False)
        if await maker.wait():
            raise DemoError(f"no certificate was made for {BANK}:\n{maker.tail()}")
        for door in self._doors:
            await door.open()
        await self._outside(key)
        await self.control.start()
        for service in SERVICES:
            await self._app(service)
        for service in SERVICES:
            await self._sidecar(service)
        await self._until_well()

    async def send(self) -> None:
        """Let customers come."""
        url = f"http://storefront:{APP_PORT}/"
        arguments = ["sidecar.demo.captured.customers", url, str(self._per_second)]
        child = await self._start("customers", CUSTOMERS_HOST, arguments, is_read=True)
        if await child.output.readline() != b"begun\n":
            raise DemoError(f"no customers have come:\n{child.tail()}")
        self._listening = asyncio.create_task(self._listen(child))

    async def end(self) -> dict[str, int]:
        """End what runs, customers first, the control plane last; exit codes by name."""
        codes: dict[str, int] = {}
        if "customers" in self.children:
            codes["customers"] = await self.children["customers"].stop()
        if self._listening is not None:
            await asyncio.wait({self._listening})
        sidecars = [name for name in self.children if name.endswith("sidecar")]
        # At once: how long each drains is not to be added up.
        ended = await asyncio.gather(*(self.children[name].stop() for name in sidecars))
        codes |= dict(zip(sidecars, ended, strict=True))
        for name, child in self.children.items():
            if name not in codes:
                codes[name] = await child.stop()
        codes["control"] = await self.control.stop()
        for door in self._doors:
            await door.close()
        return codes

    async def _outside(self, key: Path) -> None:
        """Servers that have no sidecar."""
        await self._start("payments", "payments", _app_words("payments", "v1", self._trust))
        words = ["sidecar.demo.captured.bank", str(HTTPS_PORT), str(self._trust), str(key)]
        await self._start("bank", "bank", words)
        if self.has_redis:
            words = ["--port", str(REDIS_PORT), "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
            await self._start("cart", "cart", words, program="redis-server")
        else:
            await self._start("cart", "cart", ["sidecar.demo.captured.store", str(REDIS_PORT)])

    async def _app(self, service: Service) -> None:
        words = _app_words(service.service, service.version, self._trust, *service.calls)
        await self._start(service.host, service.host, words)

    async def _sidecar(self, service: Service) -> None:
        """As in a pod: the rules, which an init container would write, and then the sidecar, as user 1337."""
        host, name = self.hosts[service.host], service.host
        local, token = self._home / f"{name}.yaml", self._home / f"{name}.token"
        local.write_text(local_file())
        token.write_text(await self.control.token(service.service))
        state = self._home / f"{name}-state"
        state.mkdir(0o700)
        token.chmod(0o600)
        for path in (local, token, state):
            os.chown(path, SIDECAR_USER, SIDECAR_USER)
        control = f"https://{self.hosts[CONTROL_HOST].v4}:{self.control.port}"
        words = [
            "sidecar", "run", "--control", control, "--control-token-file", str(token), "--config", str(local),
            "--service", service.service, "--version", service.version, "--instance", name, "--capture", "passthrough",
            "--state-dir", str(state),
        ]  # fmt: skip
        host.do(partial(install, rules_of(Wanted())))
        await self._start(f"{name}-sidecar", name, words, user=SIDECAR_USER)

    async def _start(
        self, name: str, host: str, words: list[str], *, user: int = APP_USER, is_read: bool = False, program: str = ""
    ) -> Child:
        kept = ",".join(_KEPT)
        become = (f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}", "--pdeathsig=TERM")
        within = (*self.hosts[host].argv(user), *become)
        child = await start(name, words, self._home, is_read=is_read, within=within, program=program)
        self.children[name] = child
        return child

    async def _until_well(self) -> None:
        """Wait until every instance says that its app is well, so that the first customer is served."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    for child in self.children.values():
                        if child.exit_code is not None:
                            raise DemoError(f"{child.name} ended with code {child.exit_code}:\n{child.tail()}")
                    shown = await self.control.shows()
                    well = [one["id"] for one in shown["instances"] if one["state"] == "healthy"]
                    if len(well) == len(SERVICES) and not any(one["endpoints_behind"] for one in shown["instances"]):
                        return
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise DemoError(f"not all sidecars were ready within {START_TIMEOUT_S:g} s:\n{self._tails()}") from None

    def _tails(self) -> str:
        return "\n".join(f"{name}:\n{child.tail()}" for name, child in self.children.items() if "sidecar" in name)

    async def _listen(self, child: Child) -> None:
        while line := await child.output.readline():
            said = json.loads(line)
            self.answers[said["status"]] += 1
            if said["status"] == 200:
                self.last_page = said["page"]
            else:
                self.last_trouble = f"{said['status']}: {said['page']}"


def _app_words(name: str, version: str, trust: Path, *urls: str) -> list[str]:
    return ["sidecar.demo.captured.app", name, version, str(APP_PORT), str(trust), *urls]


@asynccontextmanager
async def running(per_second: float) -> AsyncIterator[Stage]:
    """
    Everything, ready and without customers yet; on leaving no process, namespace, rule or file of it is left.

    Raises:
        NamespaceError: This machine, or this user, cannot have such hosts.
        DemoError: Something did not start.
    """
    if shutil.which("setpriv") is None:
        raise NamespaceError("the program `setpriv` is missing: it is in the package util-linux")
    async with AsyncExitStack() as stack:
        if os.geteuid() == 0 and shutil.which("ip") is not None:
            remove_left_behind(PREFIX)
        made = stack.enter_context(network(f"{PREFIX}-{os.getpid()}", HOSTS, known_as=KNOWN_AS))
        home = RUN / f"{PREFIX}-{os.getpid()}-files"
        home.mkdir()
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o711)  # what is in it is for several users; what is secret there is for one of them
        stage = Stage(home, dict(zip(HOSTS, made, strict=True)), per_second)
        stack.push_async_callback(stage.end)
        await stage.start()
        yield stage
