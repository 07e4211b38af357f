"""What was signed gets to who holds it, whichever is there first."""

from __future__ import annotations

import asyncio

from sidecar.runtime.mesh.offered import Offered
from sidecar.security.identity.certificates.credentials import Material
from sidecar.workers.identity import GroupIdentity


def material(name: bytes = b"chain") -> Material:
    return Material(name, b"SECRET", b"roots", "a", "b", "c", 7.0)


class Holds:
    """A holder."""

    def __init__(self) -> None:
        self.told: list[Material | str] = []

    async def offer(self, material: Material) -> None:
        self.told.append(material)

    def source_failed(self, text: str) -> None:
        self.told.append(text)


class Worker:
    """As its supervisor sees it."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def tell(self, name: str, *values: object) -> None:
        self.told.append((name, *values))


def test_a_holder_that_comes_later_gets_what_there_is() -> None:
    """And what comes then."""

    async def main() -> None:
        offered, early, holds = Offered(), Offered(), Holds()
        offered.source_failed("away")
        early.attach(holds)
        offered.attach(holds)
        await offered.offer(material())
        offered.source_failed("away again")
        later = Holds()
        offered.attach(later)
        assert later.told == []
        await asyncio.sleep(0)
        assert holds.told == ["away", material(), "away again"]
        assert later.told == [material()]
        assert "SECRET" not in repr([offered, holds.told])

    asyncio.run(main())


def test_what_came_last_is_given() -> None:
    """Also if it came in the same moment as the holder."""

    async def main() -> None:
        offered, holds = Offered(), Holds()
        await offered.offer(material())
        offered.attach(holds)
        await offered.offer(material(b"next"))
        await asyncio.sleep(0)
        assert holds.told[-1] == material(b"next")
        assert material() not in holds.told

    asyncio.run(main())


def test_workers_that_come_later_get_what_there_is() -> None:
    """In one message each, of which the same is made again."""

    async def main() -> None:
        workers = [Worker()]
        group = GroupIdentity(lambda: workers)
        group.source_failed("away")
        await group.offer(material())
        await group.offer(material(b"next"))
        workers.append(Worker())
        group.catch_up(workers[1])
        assert [one[0] for one in workers[0].told] == ["identity_failed", "identity", "identity"]
        assert [one[0] for one in workers[1].told] == ["identity"]
        assert Material(*workers[1].told[0][1:]) == material(b"next")  # type: ignore[arg-type]
        assert "SECRET" not in repr(group)

    asyncio.run(main())
