"""Revisions: their numbers, what makes one, what one does to another that is under way, and the way back."""

from __future__ import annotations

import json

import pytest

from sidecar.control.rollout.proposal import RolloutError, Wanted, propose
from sidecar.control.rollout.record import KEPT_REVISIONS, File, place_of
from sidecar.control.rollout.rules import Rules
from sidecar.control.rollout.status import rollouts
from tests.support.rollouts import Mesh, render, settled, tree

OLD, NEW, NEWER = tree("old"), tree("new"), tree("newer")
CALM = Rules(worse_by=None)


def halfway(count: int = 20) -> Mesh:
    """A mesh of which a tenth runs the new file."""
    mesh = settled(CALM, shop=count)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(30)
    assert len(mesh.running("shop", NEW)) == count // 10
    return mesh


def test_numbers_grow_by_one_and_never_fall_for_any_sidecar() -> None:
    """Not at a halt, a rollback, or a revision that takes over."""
    mesh = halfway()
    mesh.push(shop=NEWER)
    mesh.pass_time(20)
    mesh.back(1)
    mesh.pass_time(20)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse" if wanted == render(tree("bad")).hash else "accept"
    mesh.push("edited", shop=tree("bad"))
    mesh.pass_time(100)
    assert mesh.service("shop").state == "halted"
    assert [revision.number for revision in mesh.record.revisions] == [2, 3, 4, 5]
    for one in mesh.sidecars.values():
        assert one.revisions == sorted(one.revisions)


def test_no_number_falls_where_two_ways_led_to_one_file() -> None:
    """Some were taken forth and back, others never moved: they run the same, told with different numbers until then."""
    mesh = halfway()
    mesh.push(shop=OLD)
    mesh.look(2)
    mesh.pass_time(30)
    assert mesh.service("shop").state == "rolling"
    assert len(mesh.running("shop", OLD)) == 20
    mesh.push(shop=NEWER)
    assert [band.revision for band in mesh.service("shop").bands] == [3]
    mesh.pass_time(60)
    for one in mesh.sidecars.values():
        assert one.revisions == sorted(one.revisions)


def test_people_are_shown_where_each_service_is() -> None:
    """The rows of `GET /v1/mesh`: every service that moves or has just arrived, and nothing that JSON cannot say."""
    mesh = settled(CALM, shop=20, search=1)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(30)
    limit = mesh.service("shop").limit
    name = next(name for name in (f"late-{number}" for number in range(1000)) if place_of(name) <= limit)
    mesh.join("shop", name, lambda wanted: "hang").is_connected = False
    rows = json.loads(json.dumps(rollouts(mesh.record, mesh.view(), mesh.now_s)))
    assert rows == [
        {
            "service": "shop",
            "revision": 2,
            "hash": render(NEW).hash,
            "previous": render(OLD).hash,
            "part": "routes",
            "wave": 2,
            "waves": ["one", "10%", "50%", "100%"],
            "state": "holding",
            "why": "holds for 30 s after all have accepted",
            "since": mesh.now_s,
            "accepted": 2,
            "of": 2,
            "refused": [],
            "ignored": [name],
        }
    ]


def test_same_files_make_no_revision() -> None:
    """A comment changes the source and nothing else: nothing is written but the source's hash, nothing is sent."""
    mesh = settled(CALM, shop=2)
    before = mesh.record
    mesh.push("a comment", shop=OLD)
    assert mesh.record.revision == before.revision
    assert mesh.record.source == "a comment"
    assert mesh.record.services == before.services
    version = mesh.record.version
    mesh.push("a comment", shop=OLD)
    assert mesh.record.version == version


def test_rules_that_change_hold_from_now_on() -> None:
    """Without a revision, also for what is under way."""
    mesh = halfway()
    mesh.rules = Rules(hold_s=1, worse_by=None)
    mesh.push("rules")
    assert mesh.record.revision == 2
    mesh.pass_time(3, step_s=1)
    assert len(mesh.running("shop", NEW)) == 10


def test_revision_takes_over_from_one_under_way() -> None:
    """What has moved goes on from what it runs; nobody is sent back in between."""
    mesh = halfway()
    moved = mesh.running("shop", NEW)
    mesh.push(shop=NEWER)
    assert mesh.told("superseded")[0].details == {"by": 3, "part": 1, "wave": 1}
    assert [row["state"] for row in rollouts(mesh.record, mesh.view(), mesh.now_s)] == ["superseded", "waiting"]
    mesh.look()
    assert [row["state"] for row in rollouts(mesh.record, mesh.view(), mesh.now_s)] == ["superseded", "holding"]
    seen = set()
    while mesh.service("shop").state != "done":
        seen |= {one.hash for one in mesh.sidecars.values() if one.id in moved}
        mesh.pass_time(5)
    assert render(OLD).hash not in seen
    assert len(mesh.running("shop", NEWER)) == 20
    assert [row["state"] for row in rollouts(mesh.record, mesh.view(), mesh.now_s)] == ["done"]


def test_halt_of_what_took_over_gives_each_what_it_ran() -> None:
    """Those that had the revision between get that, the others the first."""
    mesh = halfway()
    moved = mesh.running("shop", NEW)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse" if wanted == render(NEWER).hash else "accept"
    mesh.push(shop=NEWER)
    mesh.look(3)
    assert mesh.service("shop").state == "halted"
    assert mesh.running("shop", NEW) == moved
    assert len(mesh.running("shop", OLD)) == 18


def test_change_that_is_taken_back_in_its_middle_moves_only_who_moved() -> None:
    """The file of before is wanted again: who never left it is not sent anything."""
    mesh = halfway()
    mesh.push(shop=OLD)
    moved = mesh.told("wave")
    mesh.until_done()
    assert len(mesh.running("shop", OLD)) == 20
    assert sum(event.details["added"] for event in mesh.told("wave")[len(moved) :]) == 2


def test_change_that_comes_again_goes_on_where_it_was() -> None:
    """Wanted, then not, then wanted again before anything moved: who runs it has been tried already."""
    mesh = halfway()
    mesh.push(shop=NEWER)
    mesh.push(shop=NEW)
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 20


def test_service_that_is_untouched_goes_on_by_itself() -> None:
    """Another service's revision neither ends nor restarts its rollout."""
    mesh = settled(CALM, shop=20, search=1)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(30)
    before = mesh.service("shop")
    mesh.push(search=NEW)
    after = mesh.service("shop")
    assert (after.wave, after.limit, after.accepted_s) == (before.wave, before.limit, before.accepted_s)
    assert after.revision == 3
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 20


def test_service_that_goes_keeps_its_file_until_nobody_calls_it() -> None:
    """Its instances are told that there is no file for them, after the last caller has changed its routes."""
    mesh = Mesh(CALM)
    mesh.callees["shop"] = ("search",)
    mesh.push(shop=OLD, search=OLD)
    mesh.fleet("shop", 4)
    mesh.fleet("search", 2)
    mesh.until_done()
    mesh.callees["shop"] = ()
    mesh.push(shop=NEW, search=None)
    mesh.look(2)
    assert mesh.status("search")["why"] == "shop, which called it, has not changed its routes yet"
    assert {mesh.target(f"search-{number}").hash for number in (0, 1)} == {render(OLD).hash}
    mesh.until_done()
    assert "search" not in mesh.record.services
    mesh.look()
    assert mesh.target("search-0").hash == ""
    assert mesh.target("search-0").revision == mesh.record.revision


def test_three_revisions_before_are_kept_with_their_files() -> None:
    """Every hash that is needed to go back is among those to be kept; others may be thrown away."""
    mesh = settled(CALM, shop=1)
    for number in range(6):
        mesh.push(shop=tree(str(number)))
        mesh.until_done()
    assert [revision.number for revision in mesh.record.revisions] == [4, 5, 6, 7]
    assert len(mesh.record.revisions) == KEPT_REVISIONS
    assert mesh.record.hashes() == {render(tree(str(number))).hash for number in (2, 3, 4, 5)}
    mesh.back(4)
    mesh.until_done()
    assert mesh.running("shop", tree("2")) == ["shop-0"]
    with pytest.raises(RolloutError, match="revision 4 is not kept; kept are: 5, 6, 7, 8"):
        mesh.back(4)


def test_rollback_is_a_revision_of_its_own_that_goes_in_waves() -> None:
    """With a number above all; the log says which it repeats."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    mesh.until_done()
    mesh.back(1)
    mesh.look(2)
    assert mesh.record.revision == 3
    assert mesh.record.revisions[-1].again == 1
    assert len(mesh.running("shop", OLD)) == 1
    mesh.until_done()
    assert len(mesh.running("shop", OLD)) == 20


def test_rollback_pins_until_the_source_differs() -> None:
    """A directory that is followed says the same again and again; only an edit ends the pin."""
    mesh = settled(CALM, shop=2)
    mesh.push("edit 1", shop=NEW)
    mesh.until_done()
    mesh.back(1)
    mesh.until_done()
    mesh.push("edit 1", shop=NEW)
    assert mesh.record.revision == 3
    assert mesh.running("shop", OLD) == ["shop-0", "shop-1"]
    mesh.push("edit 2", shop=NEW)
    assert mesh.record.revision == 4
    assert mesh.record.pin is None
    assert len(mesh.told("unpinned")) == 1
    mesh.until_done()
    assert mesh.running("shop", NEW) == ["shop-0", "shop-1"]


def test_file_that_was_refused_is_not_tried_by_the_next() -> None:
    """It is wanted again after a change back: who refused it has said so already."""
    mesh = settled(CALM, shop=10)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse" if wanted == render(NEW).hash else "accept"
    mesh.push(shop=NEW)
    mesh.look(3)
    mesh.push(shop=OLD)
    mesh.until_done()
    mesh.push(shop=NEW)
    mesh.look(3)
    assert mesh.service("shop").state == "halted"
    assert len([one for one in mesh.sidecars.values() if one.refused]) == 1


def test_rollback_to_what_is_wanted_pins_only() -> None:
    """It makes no revision, but a source that is read again changes nothing."""
    mesh = settled(CALM, shop=2)
    mesh.push("edit", shop=NEW)
    mesh.until_done()
    mesh.back(2)
    assert mesh.record.revision == 2
    assert mesh.record.pin is not None


def test_file_that_is_not_kept_any_more_is_replaced_in_one_part() -> None:
    """Somebody emptied the store: nothing can be cut, the waves stay, and the log says so."""
    mesh = settled(CALM, shop=20)
    mesh.trees.pop(render(OLD).hash)
    mesh.trees[render(NEW).hash] = NEW
    wanted = Wanted("source", {"shop": File(render(NEW).hash)}, mesh.rules)
    proposal = propose(mesh.record, wanted, mesh.trees.get, render, mesh.now_s)
    assert [event.name for event in proposal.events] == ["revision", "unsplit"]
    assert mesh.swap(mesh.record, proposal.record)
    mesh.look(2)
    assert len(mesh.running("shop", NEW)) == 1
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 20
