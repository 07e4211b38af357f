"""What becomes of writes that the engine takes slowly, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sidecar.control.discovery.registry import Registry
from sidecar.control.doubt import Doubt
from sidecar.control.engines.interface import Registration, Unavailable
from sidecar.control.registering import Registering
from sidecar.control.storing import Storing
from sidecar.link.report import Port


class Store:
    """An engine that takes a write when the test lets it."""

    unwritten = None

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.may_go_on = asyncio.Event()
        self.error: Unavailable | None = None

    async def put(self, registration: Registration) -> None:
        await self._take(f"put {registration.instance}")

    async def remove(self, instance: str) -> None:
        await self._take(f"remove {instance}")

    async def _take(self, what: str) -> None:
        self.begun.append(what)
        await self.may_go_on.wait()
        if self.error is not None:
            raise self.error
        self.done.append(what)


class World:
    def __init__(self) -> None:
        self.store = Store()
        self.registry = Registry(Doubt(lambda: 0.0), lambda service: None)
        self.registering = Registering(self.registry, self.store, Storing(lambda: 0.0), "me", lambda: 0.0)  # type: ignore[arg-type]
        for name in ("1", "2"):
            self.registry.put(Registration("s", name, ports={"http": Port("10.0.0.1:1")}, holder="me"))
        self.task = asyncio.create_task(self.registering.run())

    async def end(self) -> asyncio.Task[None]:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        finishing = asyncio.create_task(self.registering.finish())
        await settle()
        return finishing


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(test: Callable[[World], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test(World())

    asyncio.run(bounded())


def test_goodbye_that_is_being_written_at_the_end_is_written() -> None:
    """And what came after it, behind it: what was sent first must not arrive last."""

    async def test(world: World) -> None:
        world.registering.left("1")
        await settle()
        world.registering.lost("2")
        finishing = await world.end()
        assert world.store.begun == ["remove 1"]
        world.store.may_go_on.set()
        await finishing
        assert world.store.done == ["remove 1", "put 2"]
        assert world.registering.waiting == 0

    run(test)


def test_write_that_fails_at_the_end_waits_and_is_told() -> None:
    """Nobody can do more; nothing is said to be written that is not."""

    async def test(world: World) -> None:
        world.registering.left("1")
        await settle()
        world.store.error = Unavailable("no quorum")
        finishing = await world.end()
        world.store.may_go_on.set()
        await finishing
        assert world.store.done == []
        assert world.registering.waiting == 1

    run(test)


def test_write_that_failed_before_the_end_is_tried_once_more() -> None:
    """The engine may be there again."""

    async def test(world: World) -> None:
        world.store.may_go_on.set()
        world.store.error = Unavailable("no quorum")
        world.registering.left("1")
        await settle()
        assert world.registering.waiting == 1
        world.store.error = None
        await (await world.end())
        assert world.store.done == ["remove 1"]

    run(test)
