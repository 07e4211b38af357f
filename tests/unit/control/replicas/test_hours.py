"""The last hour of callers that only those tell of that were asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.control.calls import edges as module
from sidecar.control.calls.callers import Names
from sidecar.control.calls.counted import Tally
from sidecar.control.calls.edges import Edges
from sidecar.control.replicas.hours import Hours, Rows, read_rows
from sidecar.control.replicas.tallies import tally_rows
from sidecar.control.revision.judged import Judged, ServiceFacts
from sidecar.link.fields import MessageError
from sidecar.link.report import OTHERS, Asked, Edge
from sidecar.mesh.learn import Call, calls_of

NOW = 100_000
"""A minute since the Unix epoch."""
WEB, OLD, STRANGER = "spiffe://shop/ns/shop/sa/web", "spiffe://shop/ns/old/sa/web", "spiffe://elsewhere/job"
NAMES = Names(Judged("shop", "h", {"web": ServiceFacts("mesh", (), (), (WEB, OLD))}, {}, (), {}))


class World:
    """What one replica knows, by a clock that the test holds."""

    def __init__(self) -> None:
        self.now_s = NOW * 60.0
        self.edges = Edges(lambda: self.now_s)
        self.hours = Hours(self.edges, lambda: self.now_s)

    def asked(self, *rows: Asked) -> None:
        """As a sidecar of the catalog reports it."""
        self.edges.add_asked("catalog", NAMES.of, rows)

    def told(self, heard: Mapping[str, Rows] | None = None) -> dict[tuple[str, str], Any]:
        """Rows of `/v1/history`, by pair."""
        now = int(self.now_s) // 60
        asyncio.run(self.hours.join(now - 59, now, heard or {}))
        return {(row["from"], row["to"]): row for row in self.hours.told(60)["edges"]}

    def learned(self) -> tuple[Call, ...]:
        """What `sidecar mesh learn` sees when the last minute had nothing."""
        return calls_of({"edges": []}, {"edges": [*self.told().values()]})


def test_who_is_known_by_its_certificate_only_is_in_the_history_of_an_hour() -> None:
    """By the service that has the identity, whichever of several it showed; and so `sidecar mesh learn` sees it."""
    world = World()
    world.asked(Asked(WEB, 5), Asked(OLD, 2), Asked(STRANGER, 1), Asked(OTHERS, 9), Asked("", 3, "", "unidentified"))
    world.now_s += 20 * 60
    world.asked(Asked(WEB, 4), Asked("", 2, "callers", "denied"))
    told = world.told()
    assert set(told) == {("web", "catalog"), (STRANGER, "catalog")}
    row = told["web", "catalog"]
    assert (row["requests"][39], row["requests"][59], sum(row["requests"])) == (7, 4, 11)
    assert set(row["failures"]) == set(row["p99_s"]) == {None}
    assert world.learned() == (Call(STRANGER, "catalog", 1), Call("web", "catalog", 11))
    world.now_s += 3600
    world.edges.sweep()
    assert world.told() == {}


def test_what_its_own_sidecar_tells_is_not_told_twice() -> None:
    """Neither of what came before its first report, nor of what came after."""
    world = World()
    world.asked(Asked(WEB, 5))
    world.edges.add("web", "web-1", lambda upstream: upstream, [Edge("outbound", "catalog", "r", 7)])
    world.asked(Asked(WEB, 2))
    assert world.told()["web", "catalog"]["requests"][-1] == 7
    (packed,) = world.edges.asked_minutes(NOW, NOW).values()
    assert [(pair, tally.requests) for pair, tally in packed.tallies()] == [(("web", "catalog"), 5)]


def test_what_a_rule_refused_is_no_call() -> None:
    """Also where the request and its refusal are told in two minutes, either first; some that passed are calls."""
    world = World()
    world.asked(Asked(WEB, 2), Asked(WEB, 1, "callers", "denied"))
    world.now_s += 60
    world.asked(Asked(WEB, 1), Asked(WEB, 2, "callers", "denied"))
    assert world.told() == {}
    world.asked(Asked(WEB, 1))
    assert (sum(world.told()["web", "catalog"]["refused"]), world.learned()) == (3, ())
    world.asked(Asked(WEB, 30), Asked(WEB, 5, "other", "audit_denied"))
    ((pair, row),) = world.told().items()
    assert (pair, row["refused"][-2:], row["requests"][-2:]) == (("web", "catalog"), [1, 2], [1, 30])
    assert world.learned() == (Call("web", "catalog", 31),)


def test_callers_take_no_room_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many identities are shown; what finds none is counted."""
    monkeypatch.setattr(module, "MAX_EDGES", 2)
    world = World()
    world.asked(*(Asked(f"spiffe://shop/s{index}", 1) for index in range(4)))
    assert world.edges.left_out == 2 * 2, "of the minute and of the hour"
    world.edges.add("web", "web-1", lambda upstream: upstream, [Edge("outbound", "catalog", "r", 7)])
    assert world.edges.left_out == 4
    assert len(world.told()) == 3


def test_other_replicas_say_who_asked_there() -> None:
    """One of an older release does not, and what is of another form is refused."""
    rows = tally_rows([(("web", "catalog", str(NOW)), Tally(3, errors=1))])
    told = tally_rows([(("a", "b", str(NOW)), Tally(9))])
    heard = read_rows(json.dumps({"rows": told, "asked": rows}).encode(), 0)
    world = World()
    world.asked(Asked(WEB, 5))
    found = world.told({"two": heard, "three": read_rows(json.dumps({"rows": told}).encode(), 0)})
    assert (found["a", "b"]["requests"][-1], "refused" in found["a", "b"]) == (18, False)
    assert (found["web", "catalog"]["requests"][-1], found["web", "catalog"]["refused"][-1]) == (7, 1)
    world.edges = Edges(lambda: world.now_s)
    world.hours = Hours(world.edges, lambda: world.now_s)
    of_its_own = tally_rows([(("web", "catalog", str(NOW)), Tally(4))])
    found = world.told({"two": heard, "three": read_rows(json.dumps({"rows": of_its_own}).encode(), 0)})
    assert found["web", "catalog"]["requests"][-1] == 4
    for wrong in ({}, {"rows": [], "asked": {}}, {"rows": [], "asked": [["a", "b", "x"]]}):
        with pytest.raises(MessageError):
            read_rows(json.dumps(wrong).encode(), 0)
