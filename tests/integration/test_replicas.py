"""Two control planes on real etcd, half of the sidecars at each: one picture; gates wait for who is unseen."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sidecar.control.rollout.record import place_of
from sidecar.link.messages import Ask, Config, Current, Endpoints, Ping
from sidecar.link.report import LATENCY_BOUNDS_S, Edge, Port, Refused, RefusedProblem, Running
from tests.integration.test_control_etcd import push
from tests.support.control import ROOT, SHOP, Control, Peer, encoded, replica
from tests.support.etcd import etcd
from tests.support.relay import Relay
from tests.support.wait import eventually

pytestmark = pytest.mark.long

WAVES = SHOP | {"mesh.yaml": "mesh: shop\nrollout: {hold: 10m}\n"}


def edited(timeout: str) -> Mapping[str, str]:
    """The mesh with another file for the storefront's sidecars."""
    return WAVES | {
        "storefront.yaml": SHOP["storefront.yaml"].replace("catalog: {}", f"catalog: {{timeout: {timeout}}}")
    }


def own_prefix() -> str:
    """Of this run: a control plane that another one left behind may take an etcd on the same port for its own."""
    return f"/{secrets.token_hex(6)}/shop"


def rollout(control: Control) -> Any:
    """The row of the storefront's rollout, the last of them."""
    rows = [row for row in control.shown()["rollouts"] if row["service"] == "storefront"]
    return max(rows, key=lambda row: int(row["revision"]), default=None)


def seen(control: Control) -> dict[str, bool]:
    """Which replicas it sees."""
    return {row["name"]: row["seen"] for row in control.shown()["replicas"]}


def missing(answer: Any) -> list[str]:
    """Replicas that an answer says it lacks."""
    return [row["replica"] for row in answer["missing"]]


def has_one_picture(one: Control, two: Control, asked: Peer) -> None:
    """
    Both say the same of the last hour and of the slowest instances, and put a question to a sidecar of either.

    Args:
        asked: Connected to `two`, and to be asked by `one`.
    """
    for control in (one, two):
        history = control.get("/v1/history?minutes=3").json()
        row = next(row for row in history["edges"] if (row["from"], row["to"]) == ("storefront", "catalog"))
        assert (sum(row["requests"]), missing(history)) == (100, [])
        assert max(filter(None, row["p99_s"])) == LATENCY_BOUNDS_S[-1], "of the sums: 40 of 100 took so long"
        assert abs(history["minutes"][-1] - control.shown()["time"]) <= 120, "by its own clock"
        routes = control.get("/v1/routes?from=storefront&to=catalog").json()
        assert ([row["id"] for row in routes["instances"]], missing(routes)) == ([asked.instance], [])
    with ThreadPoolExecutor(1) as pool:
        body = encoded({"instance": asked.instance, "kind": "explain", "url": "http://x/"})
        asking = pool.submit(one.post, "/v1/ask", body)
        ask = asked.wait_for(Ask)
        assert (ask.kind, ask.body["url"]) == ("explain", "http://x/")
        assert two.post("/v1/answer", encoded({"id": ask.id, "answer": {"route": "r"}})).status == 200
        assert asking.result(30).json() == {"answer": {"route": "r"}}
    nobody = one.post("/v1/ask", encoded({"instance": "nobody", "kind": "explain"}))
    assert (nobody.status, nobody.json()["error"]) == (502, "no such instance is connected")


def test_the_mover_sees_what_happens_at_the_other_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Their clocks are an hour apart. A refusal there halts the rollout, both show all sidecars and their calls, and while
    the other does not answer, no gate opens, for a reason that is told.
    """
    names = sorted((f"storefront-{number}" for number in range(4)), key=place_of)
    with etcd(tmp_path) as cluster:
        url = f"{cluster.url}/sidecar/shop"
        push(url, WAVES)
        with replica(tmp_path, url, "one") as one, ExitStack() as stack:
            monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/support/ahead"))
            monkeypatch.setenv("CLOCK_AHEAD_S", "3600")
            two = stack.enter_context(replica(tmp_path, url, "two"))
            assert two.shown()["time"] - one.shown()["time"] > 3500
            eventually(lambda: seen(one) == seen(two) == {"one": True, "two": True}, "each other")
            # `one` was first, so it moves rollouts; whose place comes first in every wave is at `two`.
            first, *others = (Peer(two if index < 2 else one, "storefront", name) for index, name in enumerate(names))
            for peer in (first, *others):
                stack.enter_context(peer).wait_for(Config)
                peer.report()
            eventually(lambda: rollout(one) is not None and rollout(one)["state"] == "done", "the first revision")
            slow = (*(0,) * len(LATENCY_BOUNDS_S), 40)
            first.report(edges=(Edge("outbound", "catalog", "calls", 40, latency=slow),))
            callee = stack.enter_context(Peer(two, "catalog"))
            callee.wait_for(Config)
            callee.report(edges=(Edge("inbound", "app", "app", 40, latency=slow),))
            others[-1].report(edges=(Edge("outbound", "catalog", "calls", 60, latency=(60, *slow[:-1])),))
            for control in (one, two):

                def is_whole(control: Control = control) -> bool:
                    shown = control.shown()
                    connected = {row["id"] for row in shown["instances"] if row["connected"]}
                    return connected == {*names, callee.instance} and [row["requests"] for row in shown["edges"]] == [
                        100
                    ]

                eventually(is_whole, "all sidecars and their calls")

            has_one_picture(one, two, callee)
            old = first.has
            push(url, edited("9s"))
            eventually(lambda: first.has != old, "the first of the wave")
            refused = Refused(first.has, 2, (RefusedProblem(1, 1, "", "it does not suit me"),))
            first.report(running=Running(old, 1, 1.0, "pushed"), refused=refused)
            eventually(lambda: rollout(one)["state"] == rollout(two)["state"] == "halted", "the halt")
            assert rollout(one)["refused"] == [first.instance]
            eventually(lambda: "rollout_halted" in one.log(), "a line of it")
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
                began_s = time.monotonic()
                assert missing(one.get("/v1/history").json()) == ["two"]
                assert time.monotonic() - began_s < 20, "one that hangs is waited for, but not for long"
                eventually(lambda: missing(one.shown()) == ["two"], "that it is missing there, too")
                eventually(lambda: seen(one) == {"one": True, "two": False}, "the loss", 20)
                assert "not seen: two" in one.post("/v1/ask", encoded({"instance": "x", "kind": "y"})).json()["error"]
                row = rollout(one)
                assert row["state"] == "waiting", row
                assert row["why"].startswith("not seen: ")
                assert "two" in row["why"]
            finally:
                os.kill(two.process.pid, signal.SIGCONT)
            eventually(lambda: seen(one) == {"one": True, "two": True}, "its return", 40)
            eventually(lambda: rollout(one)["state"] == "holding", "the hold again", 40)
            assert {peer.has for peer in others} == {old}


def test_replica_that_is_cut_off_takes_nobody_back(tmp_path: Path) -> None:
    """
    For a minute it knows the revision before. A sidecar that comes to it with a newer file keeps that; when the engine
    answers again, all go on from where they are. No number that is told is ever lower.
    """
    with etcd(tmp_path) as cluster, Relay(cluster.members[0].port) as relay:
        prefix = own_prefix()
        url = cluster.url + prefix
        push(url, SHOP)
        with (
            replica(tmp_path, url, "one") as one,
            replica(tmp_path, f"etcd://127.0.0.1:{relay.port}{prefix}", "two") as two,
            Peer(one, "storefront", "moves") as moves,
            Peer(two, "storefront", "stays") as stays,
            Peer(two, "catalog") as callee,
        ):
            for peer in (moves, stays, callee):
                peer.wait_for(Config)
                peer.report(ports={"http": Port("127.0.0.1:4001")})
            eventually(lambda: moves.knows("catalog") == stays.knows("catalog") == {"127.0.0.1:4001"}, "the endpoint")
            old = moves.has
            relay.mode = "refuse"
            relay.cut()
            push(url, edited("9s") | {"mesh.yaml": SHOP["mesh.yaml"]})
            eventually(lambda: moves.has != old and moves.revision == 2, "the new file")
            moves.report()
            assert two.shown()["revision"] == 1
            moves.close()
            told = len(moves.lines)
            moves._control = two
            moves.open()
            moves.wait_for(Ping, after=told)
            eventually(lambda: "record_not_confirmed" in two.log(), "that it cannot know better")
            assert not [line for line in moves.lines[told:] if isinstance(line, Config | Current | Endpoints)]
            assert (moves.revision, stays.revision) == (2, 1)
            relay.mode = "pass"
            eventually(lambda: moves.wait_for(Current, after=told).revision == 2, "that it has what is wanted")
            eventually(lambda: stays.has == moves.has, "the new file, for who has stayed", 60)
            for peer in (moves, stays):
                numbers = [line.revision for line in peer.lines if isinstance(line, Config | Current)]
                assert numbers == sorted(numbers)
            callee.report(ports={"http": Port("127.0.0.1:4002")})
            eventually(lambda: moves.knows("catalog") == {"127.0.0.1:4002"}, "endpoints, also there")
