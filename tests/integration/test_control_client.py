"""Sidecars that follow a control plane: how they start, what they run, and what they tell, as real processes."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.link.messages import Config, EndpointEntry, Left
from sidecar.link.report import Report
from sidecar.runtime.mesh.state_directory import StateDirectory
from tests.support.fake_control import FakeControl
from tests.support.origin import Origin
from tests.support.process import SidecarProcess
from tests.support.process import request as ask
from tests.support.wait import eventually, refusing_port


def hash_of(revision: int) -> str:
    """A file's hash; any will do."""
    return f"{revision:x}".ljust(32, "0")


class Member:
    """
    A sidecar in a mesh of one control plane.

    Attributes:
        sidecar: The process.
        control: The control plane.
    """

    def __init__(self, directory: Path, control: FakeControl, app: Origin, workers: int) -> None:
        self.sidecar = SidecarProcess(directory)
        self.control = control
        self.app = app
        self.workers = workers
        self.state = directory / "state"
        self.write_local()

    def write_local(self, more: str = "") -> None:
        """The file of this machine."""
        self.sidecar.config.write_text(
            f"service: {{name: shop, version: v1}}\nworkers: {self.workers}\n"
            'admin: {listen: "127.0.0.1:${ADMIN_PORT}"}\n'
            f'telemetry: {{metrics: {{listen: "127.0.0.1:${{METRICS_PORT}}"}}}}\n{more}'
        )

    def file(self, revision: int, more: str = "", inbound: str = "") -> Config:
        """A file that a control plane might push: what comes in is marked with the revision."""
        listen = inbound or f"127.0.0.1:{self.sidecar.inbound_port}"
        text = (
            "service: shop\n"
            f'inbound:\n  listen: "{listen}"\n  app: "127.0.0.1:{self.app.port}"\n'
            f"  routes: [{{name: all, response_headers: {{set: {{x-revision: '{revision}'}}}}}}]\n"
            f'outbound: {{listen: "127.0.0.1:{self.sidecar.outbound_port}"}}\n{more}'
        )
        return Config(revision, hash_of(revision), text)

    def push(self, revision: int, more: str = "", inbound: str = "") -> None:
        """Make it what is wanted."""
        self.control.push("shop", self.file(revision, more, inbound))

    def start(self, *arguments: str) -> None:
        """Start it; does not wait."""
        self.sidecar.start("--control", self.control.url, "--state-dir", str(self.state), *arguments)

    def control_page(self) -> dict[str, Any]:
        """`control` of `/server_info`."""
        page: dict[str, Any] = self.sidecar.admin("/server_info").json()["control"]
        return page

    def wait_admin(self) -> None:
        """Until the admin listener answers."""

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return self.sidecar.admin("/live").status == 200
            return False

        eventually(answers, f"the admin listener; the log:\n{self.sidecar.stderr()}")

    def wait_revision(self, revision: int, port: int = 0) -> None:
        """Until requests are served by this file."""

        def served() -> bool:
            with contextlib.suppress(OSError):
                return self.revision(port) == str(revision)
            return False

        eventually(served, f"revision {revision}; the log:\n{self.sidecar.stderr()}")

    def revision(self, port: int = 0) -> str | None:
        """Of the file that serves a request."""
        return ask(port or self.sidecar.inbound_port).headers.get("x-revision")

    def reported(self, what: str, condition: Any) -> Report:
        """The first report of which this is true."""
        found: list[Report] = eventually(
            lambda: [one for one in tuple(self.control.reports) if condition(one)],
            f"a report: {what}; the log:\n{self.sidecar.stderr()}",
        )
        return found[0]


# By workers each takes twice as long, and all of them together a minute and a half.
@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.long)], ids=["one process", "two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    """How many."""
    return int(request.param)


@pytest.fixture
def member(tmp_path: Path, workers: int) -> Iterator[Member]:
    """One that is not started yet, and is ended and looked at afterwards."""
    with FakeControl() as control, Origin("app") as app:
        control.ping_period_s = 0.5  # at which the fake notices that a stream's other end has gone
        member = Member(tmp_path, control, app, workers)
        yield member
        if member.sidecar.process is not None and member.sidecar.process.poll() is None:
            control.answers_left = True  # nobody calls it: its end need not take its drain's delay
            try:
                member.sidecar.stop()
            finally:
                member.sidecar.kill()
        log = member.sidecar.stderr()
        assert "Traceback" not in log, log
        assert "unhandled_exception" not in log, log


def test_without_a_file_it_stays_and_says_why_and_serves_as_soon_as_there_is_one(member: Member) -> None:
    """Admin and metrics answer, inbound is closed; a push makes it ready."""
    member.start()
    member.wait_admin()
    eventually(lambda: "no service `shop`" in member.sidecar.admin("/ready").text, "the reason")
    assert member.sidecar.admin("/ready").status == member.sidecar.metrics("/ready").status == 503
    assert member.sidecar.admin("/server_info").json()["state"] == "INITIALIZING"
    with pytest.raises(OSError):
        member.sidecar.inbound("/")
    assert member.sidecar.metric("sidecar_control_connected") == 1.0
    member.push(1)
    member.sidecar.wait_ready()
    assert member.revision() == "1"
    assert member.control_page()["config"] == {
        "source": "pushed", "hash": hash_of(1), "revision": 1, "since": member.control_page()["config"]["since"],
    }  # fmt: skip
    report = member.reported("healthy", lambda one: one.health == "healthy" and one.ports)
    assert (report.service, report.version, report.running.hash) == ("shop", "v1", hash_of(1))
    assert report.ports["http"].address == f"127.0.0.1:{member.sidecar.inbound_port}"
    assert member.sidecar.metrics("/app-health").status == 200
    assert member.sidecar.metric("sidecar_control_config_revision") == 1.0
    assert member.sidecar.metric("sidecar_control_config_source", source="pushed") == 1.0


def test_a_newer_file_takes_the_place_of_the_one_in_force(member: Member) -> None:
    """The newest wins, and what runs is reported."""
    member.push(1)
    member.start()
    member.sidecar.wait_ready()
    for revision in range(2, 6):
        member.push(revision)
    member.wait_revision(5)
    member.reported("revision 5", lambda one: one.running.revision == 5)


def test_a_file_that_is_no_good_is_refused_and_reported_and_what_runs_goes_on(member: Member) -> None:
    """With its problems at their places in what was pushed."""
    member.push(1)
    member.start()
    member.sidecar.wait_ready()
    member.push(2, "upstreams: {a: {endpoints: [nowhere]}}\n")
    report = member.reported("refused", lambda one: one.refused is not None)
    assert report.refused is not None
    (problem,) = report.refused.problems
    assert (report.refused.hash, problem.line, problem.path) == (hash_of(2), 7, "upstreams.a.endpoints[0]")
    assert report.running.hash == hash_of(1)
    assert member.revision() == "1"
    assert member.sidecar.is_ready()
    assert member.sidecar.metric("sidecar_control_config_refused_total") == 1.0
    assert member.control_page()["refused"]["hash"] == hash_of(2)
    member.push(3)
    member.wait_revision(3)
    member.reported("no longer refused", lambda one: one.running.revision == 3 and one.refused is None)


def test_the_machines_own_file_goes_before_what_is_pushed(member: Member) -> None:
    """At the start and when it changes; `/config` says where each was written."""
    sidecar = member.sidecar
    member.write_local('inbound: {listen: "127.0.0.1:${INBOUND_PORT}"}\n')
    member.push(1, inbound="127.0.0.1:1")
    member.start()
    sidecar.wait_ready()
    assert member.revision() == "1"
    assert sidecar.admin("/config").json()["elsewhere"]["inbound.listen"] == f"{sidecar.config}:5"
    assert sidecar.admin("/routes").json()["inbound"]["routes"][0]["from"] == "pushed:5"
    generation = sidecar.generation()
    member.write_local('inbound: {listen: "127.0.0.1:${INBOUND_PORT}"}\nlimits: {max_headers: 77}\n')
    sidecar.wait_for_generation(generation + 1)
    assert sidecar.admin("/config").json()["effective"]["limits"]["max_headers"] == 77
    assert member.revision() == "1"


def test_what_a_local_file_makes_impossible_is_tried_again_when_it_has_changed(member: Member) -> None:
    """Both are judged together."""
    member.write_local('outbound: {listen: "127.0.0.1:${INBOUND_PORT}"}\n')
    member.push(1)
    member.start()
    member.wait_admin()
    report = member.reported("refused", lambda one: one.refused is not None)
    assert report.refused is not None
    assert str(member.sidecar.config) in report.refused.problems[0].message
    member.write_local()
    member.wait_revision(1)


def test_a_local_file_that_says_what_is_the_meshs_ends_the_start(member: Member) -> None:
    """As any file with problems does."""
    member.write_local("upstreams: {}\n")
    member.start()
    assert member.sidecar.wait() == 1
    assert "it belongs in the mesh's file of this service" in member.sidecar.stderr()


def kept(member: Member, revision: int) -> None:
    """As if this had been good before."""
    directory = StateDirectory(str(member.state))
    file = member.file(revision, UPSTREAM)
    directory.write("good", {"service": "shop", "hash": file.hash, "revision": revision, "text": file.file})
    directory.write("endpoints", {"back": [[f"127.0.0.1:{member.app.port}", 1.0, "", False]]})
    directory.close()


UPSTREAM = "upstreams: {back: {discover: back}}\n"


def test_what_was_good_is_run_while_the_control_plane_is_away(member: Member) -> None:
    """With the endpoints that were known; and it is followed again when it comes back."""
    kept(member, 4)
    member.control.stop()
    member.start()
    member.sidecar.wait_ready()
    assert member.revision() == "4"
    assert member.sidecar.outbound("/", host="back").status == 200
    assert member.control_page()["config"]["source"] == "last_good"
    member.control.files["shop"] = member.file(5)
    member.control.start()
    member.wait_revision(5)
    assert member.control.watches[0].config == hash_of(4)
    assert set(member.control.watches[0].endpoints) == {"back"}


def test_a_file_that_is_good_outlives_the_process_however_it_ends(member: Member) -> None:
    """SIGKILL included: name and endpoints, too."""
    kept(member, 4)
    member.push(4, UPSTREAM)
    member.start()
    member.sidecar.wait_ready()
    name = member.control_page()["instance"]
    member.sidecar.kill()
    member.control.stop()
    member.start()
    eventually(member.sidecar.is_ready, "the second start")
    assert member.control_page()["instance"] == name
    assert member.revision() == "4"


@pytest.mark.long
def test_a_file_that_ends_the_process_again_and_again_is_not_taken_again(member: Member) -> None:
    """After three starts; it is reported, even where it is wanted."""
    kept(member, 4)
    member.push(4, UPSTREAM)
    for _ in range(3):
        member.start()
        member.sidecar.wait_ready()
        eventually(lambda: b'"is_open":true' in (member.state / "run").read_bytes(), "the record")
        member.sidecar.kill()
    member.start()
    member.wait_admin()
    report = member.reported("crashed", lambda one: one.refused is not None)
    assert report.refused is not None
    assert (report.refused.hash, report.refused.has_crashed, report.running.source) == (hash_of(4), True, "")
    eventually(lambda: "last_good_crashed" in member.sidecar.stderr(), "a line of it")
    member.push(5)
    member.wait_revision(5)


def test_a_bootstrap_file_serves_until_a_control_plane_says_otherwise(member: Member, tmp_path: Path) -> None:
    """It is used only where nothing else is known."""
    bootstrap = tmp_path / "bootstrap.yaml"
    bootstrap.write_text(member.file(0).file)
    member.write_local(f"bootstrap: {bootstrap}\n")
    member.control.stop()
    member.start()
    member.sidecar.wait_ready()
    assert member.revision() == "0"
    assert member.control_page()["config"]["source"] == "bootstrap"
    member.control.files["shop"] = member.file(1)
    member.control.start()
    member.wait_revision(1)


def test_a_control_plane_that_is_killed_changes_nothing(member: Member) -> None:
    """Not even readiness; and nothing is sent again to who has it."""
    member.push(1)
    member.start()
    member.sidecar.wait_ready()
    member.control.stop()
    eventually(lambda: member.sidecar.metric("sidecar_control_connected") == 0.0, "the loss to be seen")
    assert member.sidecar.is_ready()
    assert member.revision() == "1"
    member.control.start()
    eventually(lambda: member.sidecar.metric("sidecar_control_connected") == 1.0, "the link")
    assert member.control.watches[-1].config == hash_of(1)
    assert member.sidecar.generation() == 2
    assert member.sidecar.metric("sidecar_control_connects_total") == 2.0


def test_endpoints_come_and_go_without_a_load(member: Member) -> None:
    """By the seam that other sources use."""
    member.push(1, UPSTREAM)
    member.control.discover("back", EndpointEntry(f"127.0.0.1:{refusing_port()}"))
    member.start()
    member.sidecar.wait_ready()
    assert member.sidecar.outbound("/", host="back").status == 503
    member.control.discover("back", EndpointEntry(f"127.0.0.1:{member.app.port}"))
    eventually(lambda: member.sidecar.outbound("/", host="back").status == 200, "the endpoint")
    assert member.sidecar.generation() == 2
    report = member.reported("edges", lambda one: any(edge.upstream == "back" for edge in one.edges))
    assert report.endpoints["back"]


def test_a_drain_says_goodbye_first_and_does_not_wait_longer_than_others_need(member: Member) -> None:
    """Inbound accepts until all concerned have heard of it."""
    member.write_local("drain: {timeout: 60s, delay: 50s}\n")
    member.push(1)
    member.start()
    member.sidecar.wait_ready()
    member.sidecar.signal(signal.SIGTERM)
    member.reported("goodbye", lambda one: one.is_goodbye)
    assert member.revision() == "1"
    assert member.sidecar.metrics("/ready").status == 503
    member.control.say(Left())
    assert member.sidecar.wait() == 0
    assert "drain_left" in member.sidecar.stderr()


def test_a_takeover_is_the_same_instance(member: Member, tmp_path: Path) -> None:
    """What was in force is handed over, and the old process says no goodbye; nothing on disk is needed."""
    member.push(1, UPSTREAM)
    member.control.discover("back", EndpointEntry(f"127.0.0.1:{member.app.port}"))
    member.start("--state-dir", "off")
    member.sidecar.wait_ready()
    name = member.control_page()["instance"]
    second = SidecarProcess(tmp_path, env=member.sidecar.env, config=member.sidecar.config)
    second.stderr_path = tmp_path / "second.log"
    try:
        second.start("--control", member.control.url, "--takeover", "--state-dir", "off")
        assert member.sidecar.wait() == 0
        eventually(lambda: "live" in second.stderr(), "the successor")
        assert member.revision() == "1"
        assert second.process is not None
        page = json.loads(member.sidecar.admin("/server_info").body)
        assert page["pid"] == second.process.pid
        assert page["control"]["instance"] == name
        assert page["control"]["config"]["hash"] == hash_of(1)
        assert member.sidecar.outbound("/", host="back").status == 200
        eventually(lambda: len(member.control.live()) == 1, "one stream")
        assert not any(one.is_goodbye for one in member.control.reports)
        member.push(2)
        member.wait_revision(2)
        member.control.answers_left = True
        assert second.stop() == 0
    finally:
        second.kill()
    assert "Traceback" not in second.stderr()


def test_a_takeover_without_anything_to_run_leaves_the_other_one_alone(tmp_path: Path) -> None:
    """It ends, and says why."""
    with FakeControl() as control, Origin("app") as app:
        first = Member(tmp_path / "first", control, app, 1)
        first.sidecar.config.write_text(
            "service: s\n"
            f'inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"}}\n'
            'admin: {listen: "127.0.0.1:${ADMIN_PORT}"}\ntelemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}"}}\n'
        )
        first.sidecar.start()
        first.sidecar.wait_ready()
        second = Member(tmp_path / "second", control, app, 1)
        second.sidecar.env = first.sidecar.env
        second.start("--takeover")
        try:
            assert second.sidecar.wait() == 1
            assert "the other sidecar goes on" in second.sidecar.stderr()
            assert first.sidecar.is_ready()
            assert first.sidecar.inbound("/").status == 200
        finally:
            second.sidecar.kill()
            first.sidecar.stop()
            first.sidecar.kill()


def test_everything_can_be_said_by_the_environment(tmp_path: Path) -> None:
    """As containers have it."""
    with FakeControl() as control, Origin("app") as app:
        member = Member(tmp_path, control, app, 1)
        member.sidecar.config.write_text(
            'admin: {listen: "127.0.0.1:${ADMIN_PORT}"}\ntelemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}"}}\n'
        )
        member.sidecar.env |= {
            "SIDECAR_CONTROL": f"http://127.0.0.1:{refusing_port()} {control.url}", "SIDECAR_SERVICE": "shop",
            "SIDECAR_VERSION": "v2", "SIDECAR_ZONE": "b", "SIDECAR_INSTANCE": "shop-1", "SIDECAR_ADDRESS": "127.0.0.9",
            "SIDECAR_STATE_DIR": "off",
        }  # fmt: skip
        member.push(1)
        member.sidecar.start()
        try:
            member.sidecar.wait_ready()
            report = member.reported("its ports", lambda one: one.ports)
            assert (report.service, report.version, report.zone, report.instance) == ("shop", "v2", "b", "shop-1")
            assert report.ports["http"].address == f"127.0.0.9:{member.sidecar.inbound_port}"
            assert member.control_page()["state_off"] == "it is switched off"
            control.answers_left = True
            assert member.sidecar.stop() == 0
        finally:
            member.sidecar.kill()


def test_an_app_that_is_a_child_begins_when_there_is_a_file(member: Member, tmp_path: Path) -> None:
    """Not while nothing reaches it; and a sidecar that waits can be ended without it."""
    begun = tmp_path / "begun"
    arguments = ("--control", member.control.url, "--state-dir", "off")
    member.sidecar.start(*arguments, command="exec", trailing=("--", "sh", "-c", f"echo > {begun}; exec sleep 600"))
    member.wait_admin()
    assert member.sidecar.stop() == 0
    assert not begun.exists()
    member.push(1)
    member.sidecar.start(*arguments, command="exec", trailing=("--", "sh", "-c", f"echo > {begun}; exec sleep 600"))
    eventually(begun.exists, "the app")
    member.control.answers_left = True
    assert member.sidecar.stop() == 128 + signal.SIGTERM


def test_how_the_app_is_can_be_asked_without_a_control_plane(member: Member) -> None:
    """Where the file says how; the sidecar is ready whatever it says."""
    sidecar = member.sidecar
    with Origin("app") as app:
        text = (
            f"service: shop\nworkers: {member.workers}\n"
            f'inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}"HEALTH}}\n'
            'admin: {listen: "127.0.0.1:${ADMIN_PORT}"}\n'
            'telemetry: {metrics: {listen: "127.0.0.1:${METRICS_PORT}"}}\n'
        )
        sidecar.config.write_text(text.replace("HEALTH", ""))
        sidecar.start()
        sidecar.wait_ready()
        assert sidecar.metrics("/app-health").status == 503
        sidecar.config.write_text(text.replace("HEALTH", ", health_check: {path: /up, interval: 100ms}"))
        eventually(lambda: sidecar.metrics("/app-health").status == 200, "the app's health")
        assert sidecar.metrics("/app-health").text == f"healthy\nhttp 127.0.0.1:{app.port} healthy\n"
    eventually(lambda: sidecar.metrics("/app-health").status == 503, "the app's end to be seen")
    assert sidecar.is_ready()
