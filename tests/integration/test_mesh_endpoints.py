"""Instances of a mesh of processes that come, go, hang and are cut off, under load: every answer is counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime

import pytest

from tests.support.mesh import CHECK, Load, Member, MeshOfProcesses, running_mesh
from tests.support.origin import Origin
from tests.support.relay import Relay
from tests.support.wait import eventually, free_port

SERVICES = ("many", "rolling", "ill", "late", "steady")
FILES = {
    "front.yaml": f"service: front\ncalls: {{{', '.join(f'{name}: {{}}' for name in SERVICES)}}}\n",
    **{f"{name}.yaml": f"service: {name}\napp: 127.0.0.1:8080\ncalls: {{}}\n" for name in SERVICES},
}


class Shop:
    """
    One mesh for all tests of the file, each with a service of its own.

    Attributes:
        front: Calls them all.
        relay: Before the control plane, for `front` and whoever is told so.
    """

    def __init__(self, mesh: MeshOfProcesses, relay: Relay) -> None:
        self.mesh = mesh
        self.relay = relay
        self.front = mesh.join("front", url=relay.url)

    def join(self, service: str, *apps: Origin, check: str = CHECK) -> list[Member]:
        """Sidecars beside these apps, known to the front."""
        members = [self.mesh.join(service, app.port, check=check, url=self.relay.url) for app in apps]
        self.mesh.wait_settled()
        self.front.wait_knows(service, *members)
        return members


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Ready, with nobody to call yet."""
    with running_mesh(tmp_path_factory.mktemp("mesh"), FILES) as mesh, Relay(mesh.control.port) as relay:
        shop = Shop(mesh, relay)
        mesh.wait_settled(1)
        yield shop
        mesh.end()


@pytest.fixture
def apps(shop: Shop) -> Iterator[list[Origin]]:
    """Three, which end after whatever joined beside them."""
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin(name)) for name in ("one", "two", "three")]
        try:
            yield origins
            shop.mesh.end(shop.front)
        finally:
            shop.mesh.kill(shop.front)


@pytest.mark.long
def test_scale_down_loses_nothing_and_is_applied_within_a_second(shop: Shop) -> None:
    """10 to 1 at once, then to 0: the caller lets go before a connection is refused, and only then there is nobody."""
    with ExitStack() as stack:
        apps = [stack.enter_context(Origin(f"app-{number}")) for number in range(10)]
        try:
            one, *others = shop.join("many", *apps, check="interval: 5s, timeout: 5s, healthy_threshold: 1")
            with Load(shop.front, "many") as load:
                load.wait_until(lambda seen: len(seen) >= 8, "answers of nearly all")
                shop.mesh.scale_down(*others)
                shop.front.wait_knows("many", one)
                assert load.wait_for().keys() == {"200 app-0"}
                shop.mesh.scale_down(one)
                load.wait_until(lambda seen: seen.keys() == {"503 UH"}, "nobody")
        finally:
            shop.mesh.kill(shop.front)
    assert load.phases == [["200", "503 UH"]] * 2, load.answers
    arrived = [asked for app in apps for asked in app.requests if asked[1] != "/"]
    assert len(arrived) == len(set(arrived)) == sum(count for said, count in load.answers.items() if said != "503 UH")
    took_s = [_applied_after_s(shop.front, "many", member) for member in (one, *others)]
    assert max(took_s) < 1.0, took_s


@pytest.mark.long
def test_instances_are_replaced_one_after_the_other_under_posts(shop: Shop, apps: list[Origin]) -> None:
    """Each POST is answered once, and reached one app once."""
    members = shop.join("rolling", *apps[:2])
    with Load(shop.front, "rolling", method="POST", clients=4) as load:
        shop.mesh.join("rolling", apps[2].port, url=shop.relay.url)
        shop.mesh.join("rolling", apps[0].port, url=shop.relay.url)
        shop.mesh.wait_settled()
        for old in members:
            shop.mesh.scale_down(old)
            load.wait_for()
    assert load.phases == [["200"]] * 4, load.answers
    arrived = [one for app in apps for one in app.requests if one[0] == "POST"]
    assert sorted(arrived) == sorted(load.sent)


@pytest.mark.usefixtures("apps")
def test_app_that_starts_late_is_not_called_before(shop: Shop) -> None:
    """Its sidecar is ready, and not registered; with the app it is."""
    port = free_port()
    member = shop.mesh.join("late", port, url=shop.relay.url)
    member.wait_ready()
    control = shop.mesh.control
    eventually(lambda: (control.instance(member.id) or {}).get("state") == "starting", "its first report")
    assert member.metrics("/app-health").status == 503
    assert shop.front.knows("late") == set()
    with Load(shop.front, "late", clients=1) as load:
        assert load.wait_for(20).keys() == {"503 UH"}
        with Origin("late", port=port):
            load.wait_until(lambda seen: seen.keys() == {"200 late"}, "the app")
            shop.mesh.scale_down(member)
    assert load.phases == [["503 UH", "200", "503 UH"]] or load.phases == [["503 UH", "200"]], load.answers


@pytest.mark.long
def test_app_that_hangs_is_avoided_and_all_are_used_if_all_do(shop: Shop, apps: list[Origin]) -> None:
    """By what its own sidecar says of it; where most are ill, nobody is believed. Then 3 to 0: nothing is lost."""
    check = "path: /up, interval: 100ms, timeout: 500ms, healthy_threshold: 1, unhealthy_threshold: 2"
    one, two, three = shop.join("ill", *apps, check=check)

    def states() -> list[str]:
        return [shop.mesh.control.instance(member.id)["state"] for member in (one, two, three)]

    apps[0].hang()
    eventually(lambda: states() == ["unhealthy", "healthy", "healthy"], "the one that hangs")
    shop.front.wait_knows("ill", two, three)
    with Load(shop.front, "ill") as load:
        assert load.wait_for().keys() == {"200 two", "200 three"}
    apps[1].hang()
    apps[2].hang()
    eventually(lambda: states() == ["unhealthy"] * 3, "all ill")
    shop.front.wait_knows("ill", one, two, three)
    for app in apps:
        app.release()
    eventually(lambda: states() == ["healthy"] * 3, "all well")
    with Load(shop.front, "ill") as load:
        load.wait_until(lambda seen: len(seen) == 3, "answers of all")
        shop.mesh.scale_down(one, two, three)
        load.wait_until(lambda seen: seen.keys() == {"503 UH"}, "nobody")
    assert load.phases == [["200", "503 UH"]] * 2, load.answers


@pytest.mark.long
def test_cut_from_the_control_plane_changes_nothing(shop: Shop, apps: list[Origin]) -> None:
    """Nobody is taken away, no request is lost, and who comes back is sent no configuration and no endpoints again."""
    members = shop.join("steady", *apps[:2])
    control = shop.mesh.control
    everyone = [shop.front, *members]
    generations = [member.generation() for member in everyone]
    revision = control.shown()["revision"]
    sent = _sent(shop)
    with Load(shop.front, "steady") as load:
        load.wait_for()
        shop.relay.mode = "refuse"
        shop.relay.cut()
        eventually(
            lambda: not any(control.instance(member.id)["connected"] for member in everyone), "the loss to be seen"
        )
        assert all(member.metric("sidecar_control_connected") == 0.0 for member in everyone)
        load.wait_for(300)
        assert all(member.is_ready() for member in everyone)
        assert shop.front.knows("steady") == {member.address for member in members}
        assert {one["id"] for one in control.shown()["instances"]} >= {member.id for member in everyone}
        shop.relay.mode = "pass"
        shop.mesh.wait_settled()
        load.wait_for()
    assert load.phases == [["200"]] * 2, load.answers
    assert _sent(shop) == sent
    assert [member.generation() for member in everyone] == generations
    assert control.shown()["revision"] == revision


def _applied_after_s(caller: Member, upstream: str, member: Member) -> float:
    """Seconds from the beginning of a drain to the caller's letting go of it, by the logs of the two."""
    change = rf"^(\S+) .*endpoints_changed upstream={upstream} .*removed=\S*{re.escape(member.address)}\b"
    began = re.search(r"^(\S+) .*drain_started", member.stderr(), re.MULTILINE)
    applied = re.findall(change, caller.stderr(), re.MULTILINE)
    assert began is not None, member.stderr()
    assert applied, caller.stderr()
    return (datetime.fromisoformat(applied[-1]) - datetime.fromisoformat(began[1])).total_seconds()


def _sent(shop: Shop) -> tuple[float, float]:
    """Octets of configurations and of endpoints that sidecars were sent."""
    found = [f'sidecar_control_stream_bytes_total{{type="{kind}"}}' for kind in ("config", "endpoints")]
    return shop.mesh.control.metric(found[0]), shop.mesh.control.metric(found[1])
