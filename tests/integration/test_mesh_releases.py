"""Control planes and sidecars of another release, and names of markup: what one side does not know is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.link.messages import Absent, EndpointEntry, endpoints_version
from sidecar.link.report import Report
from tests.support.control import ROOT, Control, Peer, encoded, running_control
from tests.support.fake_control import FakeControl
from tests.support.mesh import Member
from tests.support.origin import Origin
from tests.support.wait import eventually

LATER = {"later": {"deep": [1, {"a": None}]}, "much_later": "yes"}


class LaterControl(FakeControl):
    """A control plane that answers with more than this release knows."""

    def on_report(self, report: Report) -> dict[str, object]:
        """As it does, and more."""
        return {**super().on_report(report), **LATER}


def line(**fields: Any) -> bytes:
    """One of the stream, with fields that nobody knows."""
    return json.dumps({**fields, **LATER}).encode() + b"\n"


def test_sidecar_follows_a_control_plane_that_says_more(tmp_path: Path) -> None:
    """Lines of unknown types are passed over, unknown fields not read, and unknown questions answered as such."""
    with LaterControl() as control, Origin("app") as app:
        member = Member(tmp_path, control.url, "shop", "shop-1", "v1")
        member.write_local(app.port, "interval: 100ms")
        member.begin()
        try:
            eventually(lambda: control.live(), f"the stream: {member.stderr()}")
            entry = EndpointEntry(f"127.0.0.1:{app.port}")
            told = {"address": entry.address, "weight": 1.0, "zone": "", "tls": False, **LATER}
            file = "service: shop\noutbound: {}\nupstreams: {back: {discover: back}}\n"
            control.say(line(type="prophecy", revision="not even a number"))
            control.say(line(type="config", revision=3, hash="ab" * 16, file=file))
            version = endpoints_version([entry])
            control.say(
                line(type="endpoints", upstream="back", version=version, **{"from": None}, added=[told], removed=[])
            )
            control.say(line(type="ping", revision=3))
            control.say(line(type="ask", id="q1", kind="prophecy", about="tomorrow"))
            member.wait_ready()
            eventually(lambda: member.outbound("/", host="back").text == "app", "the endpoint")
            eventually(lambda: control.answers, "the answer")
            assert control.answers == [{"id": "q1", "error": "unsupported"}]
            eventually(lambda: any(one.running.revision == 3 for one in tuple(control.reports)), "the report")
            assert len(control.watches) == 1, "nothing of it ended the stream"
            control.answers_left = True
            assert member.stop() == 0
            assert "Traceback" not in member.stderr()
        finally:
            member.kill()


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """A real one."""
    with running_control(tmp_path_factory.mktemp("control")) as control:
        yield control


def report(**fields: object) -> bytes:
    """Written by hand."""
    return encoded({"service": "catalog", "instance": "by-hand", "seq": 1, **fields})


def test_control_plane_takes_reports_of_other_releases(control: Control) -> None:
    """A later one says more, also within what is known; an earlier one says less."""
    edge = {"direction": "outbound", "upstream": "x", "route": "r-later", "requests": 3, "latency": [1, 2, 3], **LATER}
    later = report(
        release="99.0.0", language=7, health="healthy", ports={"http": {"address": "127.0.0.1:4321", **LATER}},
        config={"hash": "", "revision": 0, "source": "by_prophecy", **LATER}, edges=[edge], **LATER,
    )  # fmt: skip
    with Peer(control, "recommendations", "watcher") as watcher:
        answer = control.post("/v1/report", later)
        assert (answer.status, answer.json()) == (200, {})
        eventually(lambda: watcher.knows("catalog") == {"127.0.0.1:4321"}, "the endpoint")
        seen = control.instance("by-hand")
        assert (seen["release"], seen["language"], seen["state"]) == ("99.0.0", 7, "healthy")
        assert [one["requests"] for one in control.shown()["edges"] if one["route"] == "r-later"] == [3]
        earlier = control.post("/v1/report", encoded({"service": "catalog", "instance": "early", "seq": 1}))
        assert earlier.status == 200
        assert control.instance("early")["service"] == "catalog"
    with Peer(control, "catalog", "later") as peer:
        assert peer.open(language="7", release="99.0.0", later="1") == 200
        eventually(lambda: peer.has, "its file")
    early = Peer(control, "catalog", "too-early")
    try:
        assert early.open(language="0") == 200
        assert "update it" in early.wait_for(Absent).why
        assert not early.has
    finally:
        early.close()


MARKUP = '<script>alert("1")</script>\x1b[31m&amp;'


def test_names_of_markup_and_of_escapes_stay_data(control: Control) -> None:
    """They come back as JSON, letter by letter, and no terminal is given one."""
    body = report(service=MARKUP, instance=MARKUP, version=MARKUP, health="healthy")
    assert control.post("/v1/report", body).status in (200, 400)
    answer = control.get("/v1/mesh")
    assert answer.headers["content-type"] == "application/json"
    named = [one for one in answer.json()["instances"] if one["id"] == MARKUP]
    assert [one["service"] for one in named] == [MARKUP]
    url = f"http://127.0.0.1:{control.port}"
    program = [sys.executable, "-m", "sidecar", "mesh", "status", "--control", url]
    said = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True).stdout
    assert "<script>" in said
    assert "\x1b" not in said
    page = control.get("/")
    assert MARKUP not in page.text
