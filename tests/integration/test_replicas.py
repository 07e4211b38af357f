"""Two control planes on real etcd, half of the sidecars at each: one picture; gates wait for who is unseen."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sidecar.control.rollout.record import place_of
from sidecar.link.messages import Config
from sidecar.link.report import Edge, Refused, RefusedProblem, Running
from tests.integration.test_control_etcd import push
from tests.support.control import SHOP, Control, Peer, replica
from tests.support.etcd import etcd
from tests.support.wait import eventually

WAVES = SHOP | {"mesh.yaml": "mesh: shop\nrollout: {hold: 10m}\n"}


def edited(timeout: str) -> Mapping[str, str]:
    """The mesh with another file for the storefront's sidecars."""
    return WAVES | {
        "storefront.yaml": SHOP["storefront.yaml"].replace("catalog: {}", f"catalog: {{timeout: {timeout}}}")
    }


def rollout(control: Control) -> Any:
    """The row of the storefront's rollout, the last of them."""
    rows = [row for row in control.shown()["rollouts"] if row["service"] == "storefront"]
    return max(rows, key=lambda row: int(row["revision"]), default=None)


def seen(control: Control) -> dict[str, bool]:
    """Which replicas it sees."""
    return {row["name"]: row["seen"] for row in control.shown()["replicas"]}


def test_the_mover_sees_what_happens_at_the_other_replica(tmp_path: Path) -> None:
    """
    A refusal there halts the rollout, both show all sidecars and their calls, and while the other does not answer, no
    gate opens, for a reason that is told.
    """
    names = sorted((f"storefront-{number}" for number in range(4)), key=place_of)
    with etcd(tmp_path) as cluster:
        url = f"{cluster.url}/sidecar/shop"
        push(url, WAVES)
        with replica(tmp_path, url, "one") as one, replica(tmp_path, url, "two") as two, ExitStack() as stack:
            eventually(lambda: seen(one) == seen(two) == {"one": True, "two": True}, "each other")
            # `one` was first, so it moves rollouts; whose place comes first in every wave is at `two`.
            first, *others = (Peer(two if index < 2 else one, "storefront", name) for index, name in enumerate(names))
            for peer in (first, *others):
                stack.enter_context(peer).wait_for(Config)
                peer.report()
            eventually(lambda: rollout(one) is not None and rollout(one)["state"] == "done", "the first revision")
            first.report(edges=(Edge("outbound", "catalog", "calls", 60),))
            for control in (one, two):

                def is_whole(control: Control = control) -> bool:
                    shown = control.shown()
                    connected = {row["id"] for row in shown["instances"] if row["connected"]}
                    return connected == set(names) and [row["requests"] for row in shown["edges"]] == [60]

                eventually(is_whole, "all sidecars and their calls")

            old = first.has
            push(url, edited("9s"))
            eventually(lambda: first.has != old, "the first of the wave")
            refused = Refused(first.has, 2, (RefusedProblem(1, 1, "", "it does not suit me"),))
            first.report(running=Running(old, 1, 1.0, "pushed"), refused=refused)
            eventually(lambda: rollout(one)["state"] == rollout(two)["state"] == "halted", "the halt")
            assert rollout(one)["refused"] == [first.instance]
            assert "rollout_halted" in one.log()
            assert "rollout_halted" not in two.log()
            row = one.instance(first.instance)
            assert row["refused"]["problems"][0]["message"] == "it does not suit me"
            eventually(lambda: first.has == old, "the old file")
            first.report()
            eventually(lambda: one.instance(first.instance)["refused"] is None, "that it accepted that")

            push(url, edited("8s"))
            eventually(lambda: first.has != old, "the next one")
            first.report()
            eventually(lambda: rollout(one)["state"] == "holding", f"the hold: {rollout(one)}")
            assert two.process is not None
            os.kill(two.process.pid, signal.SIGSTOP)
            try:
                eventually(lambda: seen(one) == {"one": True, "two": False}, "the loss", 20)
                row = rollout(one)
                assert row["state"] == "waiting", row
                assert row["why"].startswith("not seen: ")
                assert "two" in row["why"]
            finally:
                os.kill(two.process.pid, signal.SIGCONT)
            eventually(lambda: seen(one) == {"one": True, "two": True}, "its return", 40)
            eventually(lambda: rollout(one)["state"] == "holding", "the hold again", 40)
            assert {peer.has for peer in others} == {old}
