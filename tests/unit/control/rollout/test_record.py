"""The record: what survives, who may write it, and what a mover does that cannot see everyone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.control.rollout.mover import advance, target_of
from sidecar.control.rollout.record import EVERYONE, Record, RecordError, place_of
from sidecar.control.rollout.rules import Rules
from tests.support.rollouts import Mesh, render, settled, tree

NEW = tree("new")
CALM = Rules(worse_by=None)


def said(mesh: Mesh) -> dict[str, Any]:
    """The record as it is kept."""
    return json.loads(json.dumps(mesh.record.to_json()))  # type: ignore[no-any-return]


def midway() -> Mesh:
    """With everything in the record that can be: a wave, a pin's source, what was superseded, someone odd."""
    mesh = settled(Rules(), shop=10, search=2)
    mesh.push(shop=NEW, search=NEW)
    mesh.pass_time(40, {"shop": (100, 0)})
    mesh.back(1)
    mesh.pass_time(5, {"shop": (100, 0)})
    return mesh


def test_record_is_the_same_after_it_was_written_and_read() -> None:
    """All of it; every test with this double also checks it at each step."""
    mesh = midway()
    assert mesh.record.pin is not None
    assert any(service.superseded for service in mesh.record.services.values())
    assert Record.from_json(said(mesh)) == mesh.record


def test_unknown_fields_are_ignored_at_every_depth() -> None:
    """A later release wrote them."""
    mesh = midway()

    def sprinkle(value: Any) -> Any:
        if isinstance(value, dict):
            # Not where keys are names of services.
            is_named = value.keys() <= {"shop", "search"}
            return {key: sprinkle(one) for key, one in value.items()} | ({} if is_named else {"later": [1]})
        return [sprinkle(one) for one in value] if isinstance(value, list) else value

    assert Record.from_json(sprinkle(said(mesh))) == mesh.record


def test_fields_that_are_not_there_yet_have_their_defaults() -> None:
    """An earlier release wrote it."""
    mesh = midway()
    old = said(mesh)
    for name in ("pin", "mover", "is_blind", "clear_s"):
        del old[name]
    for name in ("odd", "superseded", "is_thin", "before", "called", "begun"):
        old["services"]["shop"].pop(name, None)
    del old["rules"]["thin_then"]
    assert Record.from_json(old).services["shop"].limit == mesh.service("shop").limit


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"form": 2},
        {"form": 1, "services": {"shop": {}}},
        {"form": 1, "services": []},
        {"form": 1, "services": {"shop": {"revision": 1, "wanted": "", "routed": "", "bands": []}}},
        {"form": 1, "rules": {"waves": ["many"]}},
        {"form": 1, "revisions": [{"number": 1}]},
        {"form": 1, "pin": {"revision": 1}},
    ],
)
def test_what_is_no_record_is_refused_with_a_reason(broken: dict[str, Any]) -> None:
    """Nothing is made up from half of one."""
    with pytest.raises(RecordError, match="rollout record: "):
        Record.from_json(broken)


def test_record_of_many_services_is_small() -> None:
    """200 services that call 20 each, four revisions: a quarter of what a ConfigMap holds."""
    mesh = Mesh(CALM)
    names = [f"service-{number}" for number in range(200)]
    mesh.callees = {name: tuple(names[:20]) for name in names}
    for number in range(4):
        mesh.push(**{name: tree(f"{number} {name}" if index < 20 else name) for index, name in enumerate(names)})
        mesh.look()
    assert len(json.dumps(mesh.record.to_json())) < 260_000


def test_empty_record_is_one() -> None:
    """The first mover writes it."""
    assert Record.from_json(json.loads(json.dumps(Record().to_json()))) == Record()


def test_mover_that_dies_after_any_step_is_continued() -> None:
    """At each step another one reads the record and goes on; the fleet ends where it would have."""
    mesh = settled(Rules(), shop=20)
    mesh.push(shop=NEW)
    sizes = set()
    for number in range(400):
        mesh.mover = f"mover-{number // 12}"  # each lives for a minute
        mesh.pass_time(5, {"shop": (100, 0)})
        sizes.add(len(mesh.running("shop", NEW)))
        if mesh.service("shop").state == "done":
            break
    assert sizes == {1, 2, 10, 20}
    assert [event.details["wave"] for event in mesh.told("wave")] == ["one", "10%", "50%", "100%"]


def test_step_that_was_not_written_is_taken_by_the_next() -> None:
    """The mover died between its decision and the write: nothing was sent, and the next decides the same."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    lost = advance(mesh.record, mesh.view(), mesh.now_s)
    assert lost.record.version == mesh.record.version + 1
    again = advance(mesh.record, mesh.view(), mesh.now_s)
    assert again == lost


def test_of_two_movers_one_advances() -> None:
    """Both look at once, with different clocks and views; the second write finds another version, and reads again."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    read = mesh.record
    first = advance(read, mesh.view(), mesh.now_s)
    mesh.mover = "two"
    second = advance(read, mesh.view(), mesh.now_s + 3600)
    assert mesh.swap(read, first.record)
    assert not mesh.swap(read, second.record)
    assert mesh.record == first.record


def test_clock_of_another_mover_ends_no_hold() -> None:
    """It is an hour ahead: the wave is watched from the beginning, not passed."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(10)
    mesh.mover, mesh.now_s = "ahead", mesh.now_s + 3600
    mesh.look()
    assert mesh.service("shop").wave == 0
    mesh.mover, mesh.now_s = "behind", mesh.now_s - 7200
    mesh.pass_time(29)
    assert mesh.service("shop").wave == 0
    mesh.pass_time(6)
    assert mesh.service("shop").wave == 1


def test_gates_wait_for_replicas_that_are_not_seen() -> None:
    """Not for the first wave to begin, nor for one to end; what is seen to be refused halts all the same."""
    mesh = settled(CALM, shop=20)
    mesh.unseen = ("replica-2",)
    mesh.push(shop=NEW)
    mesh.pass_time(60)
    assert mesh.status("shop")["state"] == "waiting"
    assert mesh.status("shop")["why"] == "not seen: replica-2"
    assert mesh.running("shop", NEW) == []
    mesh.unseen = ()
    mesh.look(2)
    mesh.unseen = ("replica-2",)
    mesh.pass_time(600)
    assert len(mesh.running("shop", NEW)) == 1
    assert mesh.status("shop")["state"] == "waiting"
    mesh.unseen = ()
    mesh.pass_time(5)
    assert len(mesh.running("shop", NEW)) == 2


def test_who_hangs_behind_an_unseen_replica_has_its_time_when_that_returns() -> None:
    """It may not even have been told."""
    mesh = settled(CALM, shop=2)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "hang"
    mesh.push(shop=NEW)
    mesh.look()
    mesh.unseen = ("replica-2",)
    mesh.pass_time(600)
    assert mesh.service("shop").state == "rolling"
    mesh.unseen = ()
    mesh.pass_time(29)
    assert mesh.service("shop").state == "rolling"
    mesh.pass_time(10)
    assert mesh.service("shop").state == "halted"


def test_refusal_halts_while_somebody_is_unseen() -> None:
    """What is known to be bad gets no further."""
    mesh = settled(CALM, shop=2)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse"
    mesh.push(shop=NEW)
    mesh.look()
    mesh.unseen = ("replica-2",)
    mesh.look()
    assert mesh.service("shop").state == "halted"


def test_restart_in_the_middle_of_a_wave_gives_nobody_the_rest() -> None:
    """All streams are gone for a moment; who is registered is stale, and nothing passes until they are back."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    mesh.look(2)
    for one in mesh.sidecars.values():
        one.is_connected = False
    mesh.pass_time(120)
    assert mesh.status("shop")["state"] == "waiting"
    assert mesh.status("shop")["why"] == "only 0 of 20 instances are connected"
    for one in mesh.sidecars.values():
        one.is_connected, one.connected_s = True, mesh.now_s
    mesh.look()
    assert len(mesh.running("shop", NEW)) == 2


def test_widening_does_not_wait_for_who_is_unseen() -> None:
    """A new service gets its file."""
    mesh = Mesh(CALM)
    mesh.unseen = ("a restart",)
    mesh.fleet("shop", 2)
    mesh.push(shop=NEW)
    mesh.look()
    assert mesh.running("shop", NEW) == ["shop-0", "shop-1"]


def test_any_replica_answers_by_the_record_alone() -> None:
    """What those who are seen get in a wave is what one with the same name gets who has just come."""
    mesh = settled(CALM, shop=10)
    mesh.push(shop=NEW)
    mesh.look()
    new = mesh.running("shop", NEW)
    assert 0 < len(new) < 10
    read = Record.from_json(json.loads(json.dumps(mesh.record.to_json())))
    assert [name for name in mesh.sidecars if target_of(read, "shop", name).hash == render(NEW).hash] == new
    assert target_of(mesh.record, "nothing", "x").hash == ""


def test_places_are_below_everyone_and_spread() -> None:
    """A tenth of many ids is below a tenth of the places."""
    places = [place_of(f"pod-{number}") for number in range(2000)]
    assert all(0 <= place < EVERYONE for place in places)
    assert sum(place < EVERYONE / 10 for place in places) == pytest.approx(200, abs=50)
