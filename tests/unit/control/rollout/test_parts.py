"""The order of the parts: what waits for what between services, and what a halt leaves in each part."""

from __future__ import annotations

from typing import Any

from sidecar.control.rollout.rules import Rules
from tests.support.rollouts import Mesh, render

Values = dict[str, Any]
CALM = Rules(worse_by=None)


def callee(*ports: int) -> Values:
    """A service that listens on these."""
    return {"service": "recs", "inbound": {"app": "127.0.0.1:8080", "listen": [f"0.0.0.0:{port}" for port in ports]}}


def caller(route: str, *upstreams: str) -> Values:
    """A service that knows these, and whose route goes to one of them."""
    outbound = {"unmatched": "deny", "routes": [{"match": {"path": "/"}, "to": route}]}
    return {"service": "shop", "outbound": outbound, "upstreams": {name: {"discover": name} for name in upstreams}}


def running(rules: Rules = CALM, *, is_mutual: bool = False, shop: Values, recs: Values) -> Mesh:
    """Four callers and three callees that run these."""
    mesh = Mesh(rules)
    mesh.callees = {"shop": ("recs",), "recs": ("shop",) if is_mutual else ()}
    mesh.push(shop=shop, recs=recs)
    mesh.fleet("shop", 4)
    mesh.fleet("recs", 3)
    mesh.until_done()
    return mesh


def refusing(mesh: Mesh, service: str, *, all_but: Values) -> None:
    """From now on its sidecars refuse every file but one."""
    for one in mesh.sidecars.values():
        if one.service == service:
            one.judges = lambda wanted: "accept" if wanted == render(all_but).hash else "refuse"


OLD, NEW = caller("recs", "recs"), caller("grpc", "recs", "grpc")
NARROW, WIDE = callee(15000), callee(15000, 15100)


def test_routes_wait_until_the_callee_has_widened() -> None:
    """No caller's route leads to a port before the last callee listens on it."""
    mesh = running(shop=OLD, recs=NARROW)
    slow = mesh.sidecars["recs-1"]
    slow.judges = lambda wanted: "hang"
    mesh.push(shop=NEW, recs=WIDE)
    mesh.pass_time(25)
    assert mesh.status("shop")["why"] == "recs, which it calls, has not widened yet"
    assert mesh.status("shop")["state"] == "waiting"
    assert mesh.running("shop", NEW) == []
    slow.judges = lambda wanted: "accept"
    mesh.look(3)
    assert len(mesh.running("shop", NEW)) == 1


def test_caller_waits_for_a_callee_that_could_not_widen() -> None:
    """A halt is told where it is felt; the callee's next revision ends both."""
    mesh = running(shop=OLD, recs=NARROW)
    refusing(mesh, "recs", all_but=NARROW)
    mesh.push(shop=NEW, recs=WIDE)
    mesh.pass_time(120)
    assert mesh.service("recs").state == "halted"
    assert mesh.status("shop")["why"] == "recs, which it calls, is halted"
    assert mesh.running("recs", NARROW) == ["recs-0", "recs-1", "recs-2"]
    good = callee(15000, 15100, 15200)
    refusing(mesh, "recs", all_but=good)
    mesh.push(recs=good)
    mesh.until_done()
    assert len(mesh.running("shop", NEW)) == 4


def test_callee_narrows_after_the_last_caller_has_changed_its_routes() -> None:
    """Its port stays open until then, whichever wave the callers are in."""
    mesh = running(shop=NEW, recs=WIDE)
    mesh.push(shop=OLD, recs=NARROW)
    for _ in range(12):
        mesh.pass_time(5)
        if mesh.service("shop").part < 2:
            assert len(mesh.running("recs", WIDE)) == 3
            assert mesh.status("recs")["why"] == "shop, which called it, has not changed its routes yet"
    mesh.until_done()
    assert len(mesh.running("recs", NARROW)) == 3
    assert {event.service for event in mesh.told("part") if event.details["part"] == "narrow"} == {"recs", "shop"}


def test_callee_does_not_narrow_while_a_caller_is_halted() -> None:
    """It still calls by what would go."""
    mesh = running(shop=NEW, recs=WIDE)
    refusing(mesh, "shop", all_but=NEW)
    mesh.push(shop=OLD, recs=NARROW)
    mesh.pass_time(600)
    assert mesh.service("shop").state == "halted"
    assert mesh.status("recs")["why"] == "shop, which called it, is halted"
    assert len(mesh.running("recs", WIDE)) == 3


def test_services_that_call_each_other_wait_in_no_circle() -> None:
    """Both widen, then both change, then both narrow."""
    for old, new in (((OLD, NARROW), (NEW, WIDE)), ((NEW, WIDE), (OLD, NARROW))):
        mesh = running(is_mutual=True, shop=old[0], recs=old[1])
        mesh.push(shop=new[0], recs=new[1])
        mesh.until_done()
        assert len(mesh.running("shop", new[0])) == 4


def test_what_only_adds_or_takes_away_has_one_part() -> None:
    """The widened file is the wanted one, whichever form its listeners are in; or the old one stays to the end."""
    mesh = running(shop=OLD, recs=NARROW)
    for content, part in ((WIDE, "widen"), (NARROW, "narrow")):
        mesh.events.clear()
        mesh.push(recs=content)
        mesh.until_done()
        assert [event.details["part"] for event in mesh.told("part")] == [part]


def test_halt_in_the_waves_leaves_what_has_widened() -> None:
    """Others may use it already; routes are the old ones."""
    mesh = running(shop=OLD, recs=NARROW)
    new = {**WIDE, "inbound": {**WIDE["inbound"], "app": "127.0.0.1:9999"}}
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse" if wanted == render(new).hash else "accept"
    mesh.push(recs=new)
    mesh.pass_time(60)
    assert (mesh.service("recs").state, mesh.service("recs").part) == ("halted", 1)
    runs = {one.hash for one in mesh.sidecars.values() if one.service == "recs"}
    assert runs == {mesh.service("recs").bands[0].widened}
    listens = mesh.trees[runs.pop()]["inbound"]
    assert listens["app"] == "127.0.0.1:8080"
    assert [one["address"] for one in listens["listen"]] == ["0.0.0.0:15000", "0.0.0.0:15100"]


def test_halt_in_the_narrowing_gives_back_what_was_taken() -> None:
    """The new routes stay, and so does the host that was to go."""
    mesh = running(shop=NEW, recs=WIDE)
    for one in mesh.sidecars.values():
        one.judges = lambda wanted: "refuse" if wanted == render(OLD).hash else "accept"
    mesh.push(shop=OLD)
    mesh.pass_time(300)
    assert (mesh.service("shop").state, mesh.service("shop").part) == ("halted", 2)
    runs = {one.hash for one in mesh.sidecars.values() if one.service == "shop"}
    assert runs == {mesh.service("shop").routed}
    routed = mesh.trees[runs.pop()]
    assert routed["outbound"] == OLD["outbound"]
    assert sorted(routed["upstreams"]) == ["grpc", "recs"]


def test_narrowing_that_fails_requests_is_taken_back() -> None:
    """Somebody still called the host: its 404s are the difference to the time before."""
    mesh = running(Rules(), shop=caller("recs", "recs", "grpc"), recs=NARROW)
    mesh.pass_time(60, {"shop": (100, 0)})
    mesh.push(shop=OLD)
    mesh.look(2)
    assert len(mesh.running("shop", OLD)) == 4, "all at once"
    mesh.pass_time(20, {"shop": (100, 30)})
    assert mesh.service("shop").state == "halted"
    assert mesh.running("shop", OLD) == []


def test_narrowing_is_held_but_not_kept_waiting_for_traffic() -> None:
    """Nothing comes after it that would have to be held back."""
    mesh = running(Rules(thin_then="hold"), shop=caller("recs", "recs", "grpc"), recs=NARROW)
    mesh.push(shop=OLD)
    mesh.look(2)
    mesh.pass_time(25)
    assert mesh.service("shop").state == "rolling"
    mesh.pass_time(5)
    assert mesh.service("shop").state == "done"


def test_now_keeps_the_order_of_the_parts() -> None:
    """Haste loses no request: callers still wait for callees, and callees for callers."""
    mesh = running(shop=NEW, recs=WIDE)
    mesh.push(shop=OLD, recs=NARROW, is_now=True)
    mesh.look()
    assert len(mesh.running("recs", WIDE)) == 3
    mesh.look(4)
    assert {service.state for service in mesh.record.services.values()} == {"done"}
    assert len(mesh.running("recs", NARROW)) == 3
