"""Admin endpoints: their spelling, their methods, and what each listener shows."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.admin.endpoints import Endpoints, Reply, Request, as_json, as_large_json, request_of
from sidecar.telemetry.metrics.exposition import Format
from tests.unit.admin.process import FakeProcess

READ_ONLY = ["/metrics", "/stats/prometheus", "/ready", "/healthz/ready", "/live"]
ADMIN_READS = [
    *READ_ONLY,
    "/server_info",
    "/config",
    "/routes",
    "/requests",
    "/upstreams",
    "/certs",
    "/tap",
    "/logging",
]
MUTATIONS = ["/reload", "/drain", "/quitquitquit"]


def ask(endpoints: Endpoints, method: str, target: str, is_from_page: bool = False) -> Reply:
    return asyncio.run(endpoints.answer(request_of(method, target, is_from_page)))


@pytest.mark.parametrize("path", ADMIN_READS)
def test_reads_answer_get_and_head_on_the_admin_listener(path: str) -> None:
    """Every read is 200 by GET and by HEAD."""
    endpoints = Endpoints.everything(FakeProcess())
    assert ask(endpoints, "GET", path).status == 200
    assert ask(endpoints, "HEAD", path).status == 200


@pytest.mark.parametrize("path", ADMIN_READS)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused_with_what_is_allowed(path: str, method: str) -> None:
    """405 with an Allow field (RFC 9110, 15.5.6)."""
    reply = ask(Endpoints.everything(FakeProcess()), method, path)
    assert reply.status == 405
    assert b"GET" in dict(reply.headers)[b"allow"]


@pytest.mark.parametrize("path", MUTATIONS)
def test_whatever_changes_something_must_be_post(path: str) -> None:
    """A GET changes nothing and says so."""
    process = FakeProcess()
    reply = ask(Endpoints.everything(process), "GET", path)
    assert reply.status == 405
    assert dict(reply.headers)[b"allow"] == b"POST"
    assert process.calls == []
    assert ask(Endpoints.everything(process), "POST", path).status == 200
    assert process.calls == [path[1:4]]


@pytest.mark.parametrize("path", [*MUTATIONS, "/logging?level=debug"])
def test_a_web_page_cannot_change_anything(path: str) -> None:
    """A POST with an Origin field, which only browsers send, is refused."""
    process = FakeProcess()
    assert ask(Endpoints.everything(process), "POST", path, is_from_page=True).status == 403
    assert process.calls == []


@pytest.mark.parametrize("path", [*MUTATIONS, *ADMIN_READS[len(READ_ONLY) :]])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_metrics_listener_serves_nothing_but_metrics_and_health(path: str, method: str) -> None:
    """What the network reaches neither shows the configuration nor switches anything."""
    process = FakeProcess()
    assert ask(Endpoints.read_only(process), method, path).status == 404
    assert process.calls == []


@pytest.mark.parametrize("path", READ_ONLY)
def test_the_metrics_listener_serves_metrics_and_health(path: str) -> None:
    """All spellings that probes and scrape configurations use."""
    assert ask(Endpoints.read_only(FakeProcess()), "GET", path).status == 200


def test_ready_is_503_with_the_reason_in_one_line() -> None:
    """A probe's log shows why."""
    process = FakeProcess()
    process.why_not_ready = "draining"
    reply = ask(Endpoints.read_only(process), "GET", "/ready")
    assert (reply.status, reply.body) == (503, b"draining\n")
    assert ask(Endpoints.read_only(process), "GET", "/live").status == 200


def test_server_info_has_the_state_as_app_mesh_health_checks_grep_it() -> None:
    """The line holds `"state": "LIVE"`."""
    reply = ask(Endpoints.everything(FakeProcess()), "GET", "/server_info")
    assert any('"state": "LIVE"' in line for line in reply.body.decode().splitlines())


def test_large_json_is_the_same_and_lets_others_have_their_turn() -> None:
    """A thousand routes take long to write: the loop goes on meanwhile, and what comes out is as ever."""
    value = {"routes": [{"name": f"r{n}", "match": [{"host": "ä"}], "share": 0.5, "none": None} for n in range(2000)]}

    async def write() -> tuple[Reply, int]:
        turns, is_over = 0, False

        async def count() -> None:
            nonlocal turns
            while not is_over:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count())
        reply = await as_large_json(200, value)
        is_over = True
        await other
        return reply, turns

    reply, turns = asyncio.run(write())
    assert reply == as_json(200, value)
    assert turns > 5


def test_a_refused_reload_is_400_with_its_problems() -> None:
    """A pipeline that POSTs a reload fails when the file is bad."""
    process = FakeProcess()
    process.reload_is_ok = False
    reply = ask(Endpoints.everything(process), "POST", "/reload")
    assert reply.status == 400
    assert json.loads(reply.body)["problems"] == ["file:1:1: broken"]


def test_logging_level_is_shown_and_set() -> None:
    """POST ?level= changes it, an unknown level is refused with the known ones."""
    process = FakeProcess()
    endpoints = Endpoints.everything(process)
    assert json.loads(ask(endpoints, "POST", "/logging?level=debug").body) == {"level": "debug"}
    assert json.loads(ask(endpoints, "GET", "/logging").body) == {"level": "debug"}
    refused = ask(endpoints, "POST", "/logging?level=loud")
    assert refused.status == 400
    assert b"loud" in refused.body


def test_unknown_endpoints_are_404_and_list_the_known_ones() -> None:
    """An operator who guesses wrong learns the right name."""
    reply = ask(Endpoints.everything(FakeProcess()), "GET", "/explained")
    assert reply.status == 404
    assert b"/server_info" in reply.body
    assert b"/routes" in ask(Endpoints.everything(FakeProcess()), "GET", "/").body


def test_request_of_reads_origin_and_absolute_targets() -> None:
    """The query is split off; of a repeated parameter the first counts."""
    params = (("x", "1"), ("x", "2"), ("y", ""))
    assert request_of("GET", "/a?x=1&x=2&y=", False) == Request("GET", "/a", {"x": "1", "y": ""}, params=params)
    assert request_of("GET", "http://h:1/a", False) == Request("GET", "/a")
    assert request_of("GET", "http://h", False) == Request("GET", "/")


@pytest.mark.parametrize(
    ("accept", "accept_encoding", "form", "is_compressed"),
    [
        ("", "", Format.TEXT, False),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.2",
            "gzip",
            Format.OPENMETRICS,
            True,
        ),
        ("text/plain", "gzip;q=0", Format.TEXT, False),
    ],
)
def test_metrics_come_in_the_form_that_is_asked_for(
    accept: str, accept_encoding: str, form: Format, is_compressed: bool
) -> None:
    """The type says which; caches are told on what it depends."""
    process = FakeProcess()
    asked = request_of("GET", "/metrics", False, accept, accept_encoding)
    reply = asyncio.run(Endpoints.read_only(process).answer(asked))
    assert process.asked == [(form, is_compressed)]
    assert reply.content_type == form.value
    headers = dict(reply.headers)
    assert headers[b"vary"] == b"accept, accept-encoding"
    assert headers.get(b"content-encoding") == (b"gzip" if is_compressed else None)


def test_one_worker_can_be_asked_for_its_own_answer() -> None:
    """What several answer together, each can be asked alone; a number that there is not is told."""
    endpoints = Endpoints.everything(FakeProcess())
    assert ask(endpoints, "GET", "/upstreams?worker=1").body == b"/upstreams of worker 1"
    assert ask(endpoints, "GET", "/metrics?worker=1").body == b"/metrics of worker 1"
    assert ask(endpoints, "GET", "/upstreams?worker=0").body == b"{}\n"
    reply = ask(endpoints, "GET", "/upstreams?worker=2")
    assert (reply.status, reply.body) == (404, b"no such worker: there are 0 and 1\n")


def test_what_changes_something_changes_all_workers() -> None:
    """No worker is drained or reloaded alone."""
    process = FakeProcess()
    assert ask(Endpoints.everything(process), "POST", "/drain?worker=1").body.startswith(b"draining")
    assert process.calls == ["dra"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("8080", 200), ("8081", 503), ("22", 404), ("", 404), ("8080/", 404), ("-1", 404), ("%38080", 404)],
)
def test_only_ports_that_are_told_can_be_asked_about(path: str, status: int) -> None:
    """`/app-health/PORT` answers for ports of the app that the process knows, and for no other."""
    assert ask(Endpoints.read_only(FakeProcess()), "GET", f"/app-health/{path}").status == status
