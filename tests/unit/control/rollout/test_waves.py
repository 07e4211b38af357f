"""Waves: who is in which, what opens a gate, and what happens to those who join, leave, hang or refuse everything."""

from __future__ import annotations

import pytest

from sidecar.control.rollout.record import place_of
from sidecar.control.rollout.rules import Rules, wave_size
from tests.support.rollouts import Mesh, settled, tree

OLD, NEW, NEWER = tree("old"), tree("new"), tree("newer")
CALM = Rules(worse_by=None)


@pytest.mark.parametrize(
    ("wave", "instances", "size"),
    [("one", 0, 0), ("one", 7, 1), ("10%", 0, 0), ("10%", 5, 1), ("10%", 29, 2), ("50%", 3, 1), ("29%", 100, 29),
     ("100%", 7, 7), ("2.5%", 200, 5)],
)  # fmt: skip
def test_wave_is_its_share_rounded_down_but_at_least_one(wave: str, instances: int, size: int) -> None:
    """Never more than it says, but for the one without which nothing would be learned."""
    assert wave_size(wave, instances) == size


@pytest.mark.parametrize("wave", ["two", "0%", "101%", "10", "-1%", ""])
def test_waves_that_are_none_are_refused(wave: str) -> None:
    """With what was expected."""
    with pytest.raises(ValueError, match=r"(expected `one`|could not convert)"):
        Rules(waves=(wave,))


def test_revision_goes_in_waves_with_a_hold_between() -> None:
    """One, a tenth, half, all; each is held from when all of it accepted."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    sizes = []
    for _ in range(4):
        mesh.look(2)
        sizes.append(len(mesh.running("shop", NEW)))
        mesh.pass_time(29)
        assert len(mesh.running("shop", NEW)) == sizes[-1]
        mesh.pass_time(1)
    assert sizes == [1, 2, 10, 20]
    assert mesh.service("shop").state == "done"
    assert [event.details["wave"] for event in mesh.told("wave")] == ["one", "10%", "50%", "100%"]
    assert len(mesh.told("done")) == 1


def test_waves_go_by_place() -> None:
    """Who is first is a matter of the id, and the same in every revision."""
    mesh = Mesh(CALM)
    mesh.push(shop=OLD)
    first = mesh.fleet("shop", 20)[0]
    mesh.until_done()
    for content in (NEW, NEWER):
        mesh.push(shop=content)
        mesh.look(2)
        assert mesh.running("shop", content) == [first.id]
        mesh.until_done()


def test_wave_that_adds_nobody_is_passed_over() -> None:
    """Of three instances a tenth and a half are the one that has it already: two waves, not four."""
    mesh = settled(CALM, shop=3)
    mesh.push(shop=NEW)
    mesh.until_done()
    assert [event.details["wave"] for event in mesh.told("wave")] == ["one", "100%"]


def test_last_wave_is_everyone_said_or_not() -> None:
    """`waves: [one]` does not leave the others behind."""
    mesh = settled(Rules(waves=("one",), worse_by=None), shop=5)
    mesh.push(shop=NEW)
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 5


def test_new_service_gets_its_file_at_once() -> None:
    """There is nothing that a wave would protect, and it cannot serve without."""
    mesh = Mesh(CALM)
    mesh.fleet("shop", 10)
    mesh.push(shop=NEW)
    mesh.look(2)
    assert len(mesh.running("shop", NEW)) == 10
    mesh.look()
    assert mesh.service("shop").state == "done"


def test_service_without_instances_is_done_at_once() -> None:
    """It blocks nobody, and whoever starts gets the wanted file."""
    mesh = Mesh(CALM)
    mesh.push(shop=OLD)
    mesh.look()
    mesh.push(shop=NEW)
    mesh.look()
    assert mesh.service("shop").state == "done"
    mesh.join("shop", "shop-1")
    assert mesh.running("shop", NEW) == ["shop-1"]


def test_who_joins_in_the_middle_gets_what_its_place_has() -> None:
    """Below the limit the new file, above it the old one; and the wave does not grow by more than its share of them."""
    mesh = settled(CALM, shop=10)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(35)
    assert len(mesh.running("shop", NEW)) == 5
    joined = [mesh.join("shop", f"late-{number}") for number in range(200)]
    new = sum(one.hash == mesh.service("shop").wanted for one in joined)
    assert 0 < new < 200
    limit = mesh.service("shop").limit
    assert limit / 2**52 * 200 == pytest.approx(new, abs=40)


def test_who_joins_in_the_middle_is_waited_for() -> None:
    """It has `accept_timeout` from when it connected, not from when the wave began."""
    mesh = settled(CALM, shop=2)
    mesh.push(shop=NEW)
    while mesh.service("shop").state != "done" and len(mesh.running("shop", NEW)) < 2:
        mesh.pass_time(5)
    mesh.pass_time(20)
    late = mesh.join("shop", "late", lambda wanted: "hang")
    mesh.pass_time(20)
    assert mesh.status("shop")["state"] == "rolling"
    assert "late" in mesh.status("shop")["why"]
    late.judges = lambda wanted: "accept"
    mesh.pass_time(5)
    mesh.look()
    assert mesh.service("shop").state == "done"


def test_refusal_halts_and_takes_back() -> None:
    """Who had accepted gets its old file again; who has not been reached never sees the new one."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(30)  # two of twenty have it now
    accepted = mesh.running("shop", NEW)
    assert len(accepted) == 2
    for one in mesh.sidecars.values():
        if one.id not in accepted:
            one.judges = lambda wanted: "refuse" if wanted == mesh.service("shop").wanted else "accept"
    mesh.pass_time(60)
    assert mesh.service("shop").state == "halted"
    assert "refused by" in mesh.service("shop").why
    assert len(mesh.running("shop", OLD)) == 20
    assert len(mesh.status("shop")["refused"]) == 8, "the rest of the half"
    mesh.pass_time(3600)
    assert mesh.service("shop").state == "halted"


def test_refusals_below_the_threshold_do_not_halt() -> None:
    """`halt: {refused: 2}`; one refusal is listed, and the others go on."""
    mesh = settled(Rules(worse_by=None, refused=2), shop=10)
    odd = next(iter(mesh.sidecars.values()))
    odd.judges = lambda wanted: "refuse"
    mesh.push(shop=NEW)
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 9
    assert mesh.status("shop")["refused"] == [odd.id]


def test_zero_refusals_means_that_none_halts() -> None:
    """`halt: {refused: 0}`."""
    mesh = settled(Rules(worse_by=None, refused=0), shop=4)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse"
    mesh.push(shop=NEW)
    mesh.until_done()
    assert mesh.running("shop", NEW) == []


def test_hanging_instance_halts_after_the_timeout() -> None:
    """It is here, it has the file, and says neither yes nor no."""
    mesh = settled(CALM, shop=5)
    first = min(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    first.judges = lambda wanted: "hang"
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(29)
    assert mesh.status("shop")["state"] == "rolling"
    mesh.pass_time(1)
    assert mesh.service("shop").state == "halted"
    assert mesh.service("shop").why == f"not accepted within 30 s by {first.id}"


def test_gone_instance_does_not_count() -> None:
    """One that said goodbye in the middle of its wave is neither waited for nor held against it."""
    mesh = settled(CALM, shop=10)
    ordered = sorted(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    ordered[3].judges = lambda wanted: "hang"
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(30)  # half have it
    assert mesh.service("shop").wave == 2
    mesh.pass_time(10)
    ordered[3].is_draining = True
    mesh.pass_time(35)
    assert mesh.service("shop").wave == 3
    assert ordered[3].id in mesh.status("shop")["ignored"]


def test_wave_that_has_left_is_replaced() -> None:
    """The only one of the first wave ends: the next in place is tried, so that something is learned."""
    mesh = settled(CALM, shop=10)
    ordered = sorted(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    mesh.push(shop=NEW)
    mesh.look(2)
    assert mesh.running("shop", NEW) == [ordered[0].id]
    del mesh.sidecars[ordered[0].id]
    mesh.pass_time(5)
    assert mesh.running("shop", NEW) == [ordered[1].id]
    assert mesh.service("shop").wave == 0


def test_wave_is_not_replaced_by_who_is_only_unseen() -> None:
    """Its one instance is at a replica that does not answer."""
    mesh = settled(CALM, shop=10)
    mesh.push(shop=NEW)
    mesh.look(2)
    first = mesh.sidecars.pop(mesh.running("shop", NEW)[0])
    mesh.unseen = ("replica-2",)
    mesh.pass_time(60)
    assert mesh.running("shop", NEW) == []
    mesh.sidecars[first.id], mesh.unseen = first, ()
    assert len(mesh.told("wave")) == 1
    mesh.pass_time(5)
    assert len(mesh.told("wave")) == 2, "it had accepted long ago, and the next wave begins"


def test_wave_never_shrinks() -> None:
    """Many join below the limit, so that the next share ends before it: who has the new file keeps it."""
    mesh = settled(CALM, shop=10)
    mesh.push(shop=NEW)
    mesh.look(2)
    limit = mesh.service("shop").limit
    names = [name for name in (f"late-{number}" for number in range(2000)) if place_of(name) < limit][:9]
    for name in names:
        mesh.join("shop", name)
    running = set(mesh.running("shop", NEW))
    assert len(running) == 10
    while mesh.service("shop").state != "done":
        mesh.pass_time(5)
        assert set(mesh.running("shop", NEW)) >= running


def test_file_that_ends_its_process_does_not_spread() -> None:
    """Who vanishes with the new file is waited for: the next one would vanish, too."""
    mesh = settled(CALM, shop=10)
    ordered = sorted(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    mesh.push(shop=NEW)
    mesh.look(2)
    ordered[0].is_connected, ordered[0].is_stale = False, True
    mesh.pass_time(300)
    assert [one.hash for one in ordered[1:]] == [ordered[1].hash] * 9
    assert mesh.running("shop", OLD) == sorted(one.id for one in ordered[1:])
    assert mesh.status("shop")["why"] == f"waits for {ordered[0].id} to return"
    # After three starts that ended it took the file before, and says so.
    ordered[0].is_connected, ordered[0].is_stale, ordered[0].connected_s = True, False, mesh.now_s
    ordered[0].hash, ordered[0].refused = ordered[1].hash, mesh.service("shop").wanted
    mesh.look()
    assert mesh.service("shop").state == "halted"


def test_odd_instance_never_blocks() -> None:
    """It refuses whatever comes: the first revision halts at it, every later one ignores it and says so."""
    mesh = settled(CALM, shop=10)
    odd = min(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    odd.judges = lambda wanted: "refuse"
    mesh.push(shop=NEW)
    mesh.look(3)
    assert mesh.service("shop").state == "halted"
    mesh.push(shop=NEWER)
    mesh.look(2)
    assert len(mesh.running("shop", NEWER)) == 1, "someone who counts is tried in the first wave"
    assert mesh.status("shop")["ignored"] == [odd.id]
    mesh.until_done()
    assert len(mesh.running("shop", NEWER)) == 9
    mesh.push(shop=NEW)
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 9
    assert mesh.status("shop")["ignored"] == [odd.id]


def test_instance_that_is_too_old_for_any_file_never_blocks() -> None:
    """It is given none: no wave waits for it, and it is listed."""
    mesh = settled(CALM, shop=10)
    old = min(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    old.is_outdated = True
    old.judges = lambda wanted: "hang"
    mesh.push(shop=NEW)
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 9
    assert mesh.status("shop")["ignored"] == [old.id]


def test_only_instance_counts_even_if_it_refused_before() -> None:
    """Else a second bad file would be called done."""
    mesh = settled(CALM, shop=1)
    only = mesh.sidecars["shop-0"]
    only.judges = lambda wanted: "refuse"
    for content in (NEW, NEWER):
        mesh.push(shop=content)
        mesh.look(3)
        assert mesh.service("shop").state == "halted"
    only.judges = lambda wanted: "accept"
    mesh.push(shop=tree("good"))
    mesh.until_done()
    assert mesh.running("shop", tree("good")) == ["shop-0"]


def test_one_service_halts_beside_anothers_success() -> None:
    """They are in one revision, and know nothing of each other."""
    mesh = settled(CALM, shop=4, search=4)
    for one in mesh.sidecars.values():
        if one.service == "shop":
            one.judges = lambda wanted: "refuse" if wanted == mesh.service("shop").wanted else "accept"
    mesh.push(shop=NEW, search=NEW)
    mesh.pass_time(120)
    assert (mesh.service("shop").state, mesh.service("search").state) == ("halted", "done")
    assert len(mesh.running("shop", OLD)) == 4
    assert len(mesh.running("search", NEW)) == 4


def test_now_skips_waves_and_holds() -> None:
    """All get it at once, and it is done when all have accepted."""
    mesh = settled(Rules(), shop=20)
    mesh.push(shop=NEW, is_now=True)
    mesh.look()
    assert len(mesh.running("shop", NEW)) == 20
    mesh.look()
    assert mesh.service("shop").state == "done"


def test_now_still_halts_at_a_refusal() -> None:
    """What nobody can run is taken back also in haste."""
    mesh = settled(CALM, shop=5)
    first = next(iter(mesh.sidecars.values()))
    first.judges = lambda wanted: "refuse" if wanted == mesh.service("shop").wanted else "accept"
    mesh.push(shop=NEW, is_now=True)
    mesh.look(3)
    assert mesh.service("shop").state == "halted"
    assert len(mesh.running("shop", OLD)) == 5


def test_hurry_in_the_middle_goes_to_everyone_by_a_last_wave() -> None:
    """The wave that is under way is followed by all, whose acceptance is waited for."""
    mesh = settled(CALM, shop=20)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.pass_time(40)
    assert len(mesh.running("shop", NEW)) == 2
    mesh.hurry()
    mesh.look()
    assert mesh.service("shop").state == "rolling"
    assert len(mesh.running("shop", NEW)) == 20
    mesh.look()
    assert mesh.service("shop").state == "done"


def test_revision_in_haste_hurries_what_is_under_way() -> None:
    """Also a service that it does not touch."""
    mesh = settled(CALM, shop=20, search=1)
    mesh.push(shop=NEW)
    mesh.look(2)
    mesh.push(search=NEW, is_now=True)
    mesh.look(3)
    assert {service.state for service in mesh.record.services.values()} == {"done"}
    assert len(mesh.running("shop", NEW)) == 20


def test_hurry_begins_again_what_was_halted() -> None:
    """The operator has seen why, and has done something about it."""
    mesh = settled(CALM, shop=3)
    first = min(mesh.sidecars.values(), key=lambda one: place_of(one.id))
    first.judges = lambda wanted: "hang"
    mesh.push(shop=NEW)
    mesh.pass_time(60)
    assert mesh.service("shop").state == "halted"
    first.judges = lambda wanted: "accept"
    mesh.push(shop=NEW, is_now=True)
    mesh.look(3)
    assert mesh.service("shop").state == "done"
    assert len(mesh.running("shop", NEW)) == 3


def test_halted_file_is_not_tried_again_by_another_services_change() -> None:
    """A revision that does not touch it finds it halted and leaves it so."""
    mesh = settled(CALM, shop=3, search=1)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse" if wanted == mesh.service("shop").wanted else "accept"
    mesh.push(shop=NEW)
    mesh.look(3)
    assert mesh.service("shop").state == "halted"
    mesh.push(search=NEWER)
    mesh.pass_time(120)
    assert (mesh.service("shop").state, mesh.service("search").state) == ("halted", "done")
    assert mesh.service("shop").revision == mesh.record.revision
