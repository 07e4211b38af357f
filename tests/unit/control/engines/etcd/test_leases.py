"""The mover's key where etcd answers late or not at all: whoever may have it has it again at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sidecar.control.engines.etcd.leases import MOVER_TTL_S, EtcdMover
from sidecar.control.engines.etcd.wire import EtcdError, written
from tests.support.held_loop import run_held

KEY = b"/mesh/mover"


class Store:
    """
    As much of etcd as a mover asks, its time that of the loop.

    Attributes:
        is_mute: What is asked is done, but no answer comes.
    """

    prefix = b"/mesh/"

    def __init__(self) -> None:
        self.is_mute = False
        self.holder = ""
        self.grants = 0
        self._ends_s: dict[str, float] = {}

    async def call(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = self._answer(path, body)
        if self.is_mute:
            await asyncio.sleep(4.0)
            raise EtcdError("no answer in time")
        return answer

    def _answer(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        now_s = asyncio.get_running_loop().time()
        self._ends_s = {id_: end_s for id_, end_s in self._ends_s.items() if end_s > now_s}
        if self.holder not in self._ends_s:
            self.holder = ""
        if path == "/v3/lease/grant":
            self.grants += 1
            self._ends_s[str(self.grants)] = now_s + MOVER_TTL_S
            return {"ID": str(self.grants), "TTL": str(MOVER_TTL_S)}
        if path == "/v3/lease/keepalive":
            if body["ID"] not in self._ends_s:
                return {"result": {"ID": body["ID"]}}
            self._ends_s[body["ID"]] = now_s + MOVER_TTL_S
            return {"result": {"ID": body["ID"], "TTL": str(MOVER_TTL_S)}}
        if path == "/v3/lease/revoke":
            self._ends_s.pop(body["ID"], None)
            return {}
        if path == "/v3/kv/txn":
            if self.holder:
                return {"succeeded": False}
            self.holder = body["success"][0]["request_put"]["lease"]
            return {"succeeded": True}
        assert path == "/v3/kv/range"
        return {"kvs": [{"key": written(KEY), "lease": self.holder}]} if self.holder else {}


async def until(condition: Any) -> float:
    """When it became true."""
    while not condition():
        await asyncio.sleep(0.1)
    return asyncio.get_running_loop().time()


def test_mover_whose_key_did_not_end_goes_on_when_etcd_answers_again() -> None:
    """Its keep-alives came through, the answers did not: it gave up, and nobody else could take over meanwhile."""

    async def test() -> None:
        loop, store = asyncio.get_running_loop(), Store()
        mover = EtcdMover(store, "one", loop.time)  # type: ignore[arg-type]
        campaign = asyncio.create_task(mover.campaign())
        await until(lambda: mover.is_ours)
        store.is_mute = True
        await until(lambda: not mover.is_ours)
        await asyncio.sleep(5.0)
        assert store.holder == "1", "its key is there for nobody else"
        store.is_mute = False
        answers_s = loop.time()
        assert await until(lambda: mover.is_ours) - answers_s < 6.0, "the call that was out, and a try"
        assert store.grants == 1
        campaign.cancel()
        await asyncio.gather(campaign, return_exceptions=True)
        assert not mover.is_ours

    run_held(test())


def test_key_of_another_is_left_alone() -> None:
    """Who has lost its lease waits until the other's has ended, too."""

    async def test() -> None:
        loop, store = asyncio.get_running_loop(), Store()
        movers = [EtcdMover(store, name, loop.time) for name in ("one", "two")]  # type: ignore[arg-type]
        campaigns = [asyncio.create_task(mover.campaign()) for mover in movers]
        await until(lambda: any(mover.is_ours for mover in movers))
        for _ in range(400):
            assert sum(mover.is_ours for mover in movers) == 1
            await asyncio.sleep(0.1)
        for campaign in campaigns:
            campaign.cancel()
        await asyncio.gather(*campaigns, return_exceptions=True)

    run_held(test())
