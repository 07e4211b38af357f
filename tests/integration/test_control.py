"""The control plane as sidecars and people meet it: a real process, real sockets, the real protocol."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from sidecar.link.messages import Absent, Config, Current, Endpoints, Left, Move, Ping
from sidecar.link.report import LATENCY_BOUNDS_S, Edge, Port, Refused, RefusedProblem, Running
from tests.support.commands import sidecar_command
from tests.support.control import SHOP, Control, Peer, encoded, running_control
from tests.support.wait import eventually

EMPTY = "e3b0c44298fc1c14"


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """One for those tests that leave it as it was: each with services or instances of its own."""
    with running_control(tmp_path_factory.mktemp("control")) as control:
        yield control


def http_port(number: int) -> dict[str, Port]:
    return {"http": Port(f"127.0.0.1:{number}")}


def test_stream_begins_with_file_endpoints_and_ping(control: Control) -> None:
    """Who has nothing is told all; who says that it has it, that it is current, and no endpoints twice."""
    with Peer(control, "storefront", "begin") as peer:
        config = peer.wait_for(Config)
        assert "recommendations" in config.file
        assert config.revision == 1
        peer.wait_for(Ping)
        names = {"catalog", "recommendations", "recommendations.beta", "recommendations.stable"}
        eventually(lambda: peer.endpoints.keys() == names, "all endpoints")
        peer.close()
        seen = len(peer.lines)
        peer.open()
        assert peer.wait_for(Current, after=seen) == Current(config.revision, config.hash)
        peer.wait_for(Ping, after=seen)
        assert not [line for line in peer.lines[seen:] if isinstance(line, Config | Endpoints)]


def test_service_that_is_not_in_the_mesh_gets_none(control: Control) -> None:
    """And why; the stream stays open."""
    for service, why in (("unknown", "no service"), ("payments", "outside"), ("<script>", "no service")):
        with Peer(control, service, f"none-{service}") as peer:
            assert why in peer.wait_for(Absent).why
            peer.wait_for(Ping)
            assert not peer.is_over


def test_registered_instance_reaches_its_callers_and_its_goodbye_is_answered(control: Control) -> None:
    """As a delta, to those who have the upstream; `left` comes when all of them have applied the goodbye."""
    with Peer(control, "storefront", "caller") as caller, Peer(control, "catalog", "callee") as callee:
        eventually(lambda: caller.knows("catalog") == set(), "no endpoint")
        assert caller.report().json() == {}
        callee.report(health="starting", ports=http_port(4001))
        callee.report(ports=http_port(4001))
        eventually(lambda: caller.knows("catalog") == {"127.0.0.1:4001"}, "the endpoint")
        change = next(line for line in reversed(caller.lines) if isinstance(line, Endpoints))
        assert (change.upstream, change.base, len(change.added)) == ("catalog", EMPTY, 1)
        caller.report()
        assert callee.report(is_goodbye=True).json() == {}
        eventually(lambda: caller.knows("catalog") == set(), "the goodbye")
        assert not [line for line in callee.lines if isinstance(line, Left)]
        caller.report()
        callee.wait_for(Left)
        assert control.instance("callee")["state"] == "draining"
        # Nobody misses it: a service whose instances are replaced is not ill meanwhile.
        catalog = next(one for one in control.shown()["services"] if one["name"] == "catalog")
        assert (catalog["instances"], catalog["healthy"]) == (0, 0)


def test_goodbye_that_concerns_nobody_is_answered_at_once(control: Control) -> None:
    """In the answer to the report."""
    with Peer(control, "storefront", "alone") as peer:
        peer.report(ports=http_port(4002))
        assert peer.report(is_goodbye=True).json() == {"left": True}


def test_labels_decide_the_subset(control: Control) -> None:
    """An instance of version beta is in `recommendations` and `recommendations.beta`, and not in `stable`."""
    with Peer(control, "storefront", "labels") as caller, Peer(control, "recommendations", "r-beta", "beta") as beta:
        beta.report(ports=http_port(4003))
        eventually(lambda: caller.knows("recommendations.beta") == {"127.0.0.1:4003"}, "the beta")
        assert caller.knows("recommendations") == {"127.0.0.1:4003"}
        assert caller.knows("recommendations.stable") == set()
        beta.report(is_goodbye=True)
        eventually(lambda: caller.knows("recommendations.beta") == set(), "the goodbye")


def test_newer_stream_of_an_instance_counts(control: Control) -> None:
    """The older one ends; it is no loss."""
    with Peer(control, "catalog", "twice") as older, Peer(control, "catalog", "twice") as newer:
        eventually(lambda: older.is_over, "the end of the older stream")
        newer.wait_for(Ping)
        assert not newer.is_over
        assert control.instance("twice")["connected"]


def test_report_for_another_service_is_refused(control: Control) -> None:
    """An instance is of the service of its stream, whatever somebody says in its name."""
    with Peer(control, "catalog", "mine"):
        answer = Peer(control, "storefront", "mine").report()
        assert answer.status == 403
        assert "another service" in answer.json()["error"]
        assert Peer(control, "storefront", "mine").open() == 403
        assert control.instance("mine")["service"] == "catalog"


def test_nonsense_is_refused_with_its_place(control: Control) -> None:
    """And nothing of it is kept."""
    for body, place in (
        (b"[", "JSON"), (b"[]", "object"), (b"{}", "service"), (encoded({"service": "a", "instance": ""}), "instance"),
        (encoded({"service": "a", "instance": "b", "health": "odd"}), "health"),
        (encoded({"service": "a", "instance": "b", "seq": -1}), "seq"), (b"\xff" * 1000, "JSON"),
        (b"[" * 100_000, "JSON"),
    ):  # fmt: skip
        answer = control.post("/v1/report", body)
        assert answer.status == 400, body[:50]
        assert place in answer.json()["error"]
    assert control.get("/v1/watch").status == 400
    assert control.get("/v1/watch?service=a").status == 400
    assert control.get("/v1/watch?service=a&instance=b&language=x").status == 400
    assert control.post("/v1/report", b"x" * (5 * 1024 * 1024)).status == 413
    assert control.post("/v1/answer", encoded({"id": "unknown"})).status == 404
    assert control.get("/v1/nothing").status == 404
    assert control.post("/v1/watch", b"").status == 405


def test_markup_is_data(control: Control) -> None:
    """A name of markup comes back as the very text, in JSON that is said to be JSON."""
    name = '<img src=x onerror="alert(1)">\u2028\u0000'
    with Peer(control, "catalog", "markup") as peer:
        peer.report(zone=name, version=name, edges=(Edge("outbound", name, name, 1, {name: 1}),))
        answer = control.get("/v1/mesh")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert control.instance("markup")["zone"] == name
        assert any(edge["route"] == name and edge["failures"] == {name: 1} for edge in answer.json()["edges"])


def test_page_and_its_files_are_served(control: Control) -> None:
    """With a policy that lets it run nothing but its own."""
    page = control.get("/")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert control.get("/page/app.js").headers["content-type"].startswith("text/javascript")
    assert control.get("/page/app.js", if_none_match=control.get("/page/app.js").headers["etag"]).status == 304
    assert control.get("/page/..%2f..%2fplane.py").status == 404


def test_pages_of_others_are_turned_away(control: Control) -> None:
    """By the name that they rebound to loopback, and by what the browser says of them."""
    assert control.get("/v1/mesh", host="evil.example").status == 403
    assert control.get("/v1/mesh", host="localhost").status == 200
    assert control.post("/v1/report", b"{}", sec_fetch_site="cross-site").status == 403


def test_edges_are_counted_once(control: Control) -> None:
    """A report that comes a second time, because its answer was lost, is not added again."""
    latency = (5, *(0,) * (len(LATENCY_BOUNDS_S) - 1), 5)
    edge = Edge("outbound", "catalog", "catalog.default", 10, {"UH": 2}, {"2xx": 8, "5xx": 2}, latency)
    with Peer(control, "recommendations", "edges") as peer:
        peer.report(edges=(edge,))
        peer.seq -= 1
        peer.report(edges=(edge,))
        peer.report(edges=(edge,))
        found = [one for one in control.shown()["edges"] if one["route"] == "catalog.default"]
        assert [(one["from"], one["to"], one["requests"], one["success"]) for one in found] == [
            ("recommendations", "catalog", 20, 0.8)
        ]
        assert found[0]["p50_s"] <= LATENCY_BOUNDS_S[0]
        assert found[0]["failures"] == {"UH": 4}
        history = control.get("/v1/history?minutes=5").json()
        assert len(history["minutes"]) == 5
        row = next(one for one in history["edges"] if one["from"] == "recommendations")
        assert sum(row["requests"]) == 20
        assert control.get("/v1/history?minutes=x").status == 400


def test_routes_say_where_they_are_written_and_how_they_fall(control: Control) -> None:
    """The split as written, and as the last minute had it."""
    with Peer(control, "storefront", "routes") as peer, Peer(control, "recommendations", "slow", "v1") as slow:
        latency = (*(0,) * len(LATENCY_BOUNDS_S), 6)
        slow.report(health="starting", edges=(Edge("inbound", "app", "app", 6, {}, {"2xx": 6}, latency),))
        peer.report(
            edges=(
                Edge("outbound", "recommendations.stable", "recommendations.split", 3),
                Edge("outbound", "recommendations.beta", "recommendations.split", 1),
            )
        )
        answer = control.get("/v1/routes?from=storefront&to=recommendations").json()
        assert [(one["id"], one["rate"], one["p99_s"]) for one in answer["instances"]] == [
            ("slow", 0.1, LATENCY_BOUNDS_S[-1])
        ]
        routes = answer["routes"]
        split = next(one for one in routes if one["name"] == "recommendations.split")
        assert split["origin"].startswith("recommendations.yaml:")
        assert [(one["upstream"], one["weight"], one["share"]) for one in split["to"]] == [
            ("recommendations.stable", 95, 0.75),
            ("recommendations.beta", 5, 0.25),
        ]
        assert control.get("/v1/routes?from=storefront").status == 400
        (answered,) = control.get("/v1/instances?service=recommendations").json()["instances"]
        assert (answered["id"], answered["requests"], answered["success"], answered["failures"]) == ("slow", 6, 1, {})
        assert control.get("/v1/instances").status == 400


def test_flood_of_reports_is_bounded_by_instance(control: Control) -> None:
    """Too many are turned away with when to come again; another instance is heard meanwhile."""
    with Peer(control, "catalog", "flood") as flood, Peer(control, "catalog", "calm") as calm:
        answers = [flood.report() for _ in range(60)]
        turned = [answer for answer in answers if answer.status == 429]
        assert turned
        assert turned[0].headers["retry-after"] == "1"
        assert answers[0].status == 200
        assert calm.report().status == 200
        assert control.metric("sidecar_control_reports_limited_total") >= len(turned)


def test_long_poll_answers_when_something_changes(control: Control) -> None:
    """The same lines, and nothing twice."""
    path = "/v1/watch?service=storefront&instance=poll"
    first = control.get(path + "&wait=5s")
    lines = first.json()["lines"]
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "config"
    versions = {line["upstream"]: line["version"] for line in lines if line["type"] == "endpoints"}
    said = ",".join(f"{name}:{version}" for name, version in versions.items())
    path += f"&config={lines[0]['hash']}&endpoints={said}"
    second = control.get(path + "&wait=5s")
    # Instances of other tests may go stale just now: what it has is never told again, what changed may be.
    assert second.json()["lines"][0]["type"] == "current"
    assert not [line for line in second.json()["lines"] if line["type"] == "config"]
    assert control.get(path + "&wait=x").status == 400


def test_long_poll_of_who_has_everything_waits(tmp_path: Path) -> None:
    """That it is current is no news to who has just this: 304 after the wait."""
    with running_control(tmp_path) as control:
        path = "/v1/watch?service=catalog&instance=poll&wait=1s"
        path += f"&config={control.get(path).json()['lines'][0]['hash']}"
        tag = control.get(path).headers["etag"]
        assert control.get(path, **{"if-none-match": tag}).status == 304


def test_questions_reach_a_sidecar_and_its_answer_comes_back(control: Control) -> None:
    """By its stream and a POST; what it cannot answer is told."""
    from sidecar.link.messages import Ask

    async def test() -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{control.port}") as session:
            body = {"instance": "asked", "kind": "explain", "url": "http://x/"}
            asking = asyncio.create_task(session.post("/v1/ask", json=body))
            ask = await asyncio.to_thread(peer.wait_for, Ask)
            assert (ask.kind, ask.body["url"]) == ("explain", "http://x/")
            await session.post("/v1/answer", json={"id": ask.id, "answer": {"route": "r"}})
            async with await asking as answer:
                assert await answer.json() == {"answer": {"route": "r"}}
            async with session.post("/v1/ask", json={**body, "instance": "nobody"}) as answer:
                assert answer.status == 502

    with Peer(control, "catalog", "asked") as peer:
        asyncio.run(test())


def test_two_hundred_streams_at_once_are_all_told(control: Control) -> None:
    """Each gets its file; a change of endpoints reaches each as one line, written once."""

    async def stream(session: aiohttp.ClientSession, number: int, told: list[int]) -> None:
        query = {"service": "storefront", "instance": f"many-{number}"}
        async with session.get("/v1/watch", params=query) as answer:
            assert answer.status == 200
            async for raw in answer.content:
                line = json.loads(raw)
                if line["type"] == "config":
                    told.append(number)
                if line["type"] == "endpoints" and any(one["address"] == "127.0.0.1:4100" for one in line["added"]):
                    return

    async def test() -> None:
        told: list[int] = []
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{control.port}", connector=connector, timeout=timeout, read_bufsize=1 << 20
        ) as session:
            streams = [asyncio.create_task(stream(session, number, told)) for number in range(200)]
            while len(told) < 200:
                await asyncio.sleep(0.01)
                assert not any(one.done() for one in streams)
            await asyncio.to_thread(callee.report, ports=http_port(4100))
            await asyncio.gather(*streams)
        assert sorted(told) == list(range(200))

    with Peer(control, "recommendations", "many-callee", "v1") as callee:
        asyncio.run(test())
        callee.report(is_goodbye=True)


def test_refusal_is_told_at_the_place_in_the_meshs_files(control: Control) -> None:
    """A problem of the compiled file is translated, and shown with the instance that has it."""
    with Peer(control, "storefront", "refuser") as peer:
        config = peer.wait_for(Config)
        lines = config.file.splitlines()
        number = next(index for index, line in enumerate(lines, 1) if line.startswith("inbound:"))
        problem = RefusedProblem(number, 1, "inbound", "the port is taken", "free it")
        peer.refuses(config.hash, Refused(config.hash, config.revision, (problem,)))

        def translated() -> bool:
            refused = control.instance("refuser")["refused"]
            return bool(refused and refused["problems"][0]["file"] == "storefront.yaml")

        eventually(translated, "the translated problem")
        found = control.instance("refuser")["refused"]["problems"][0]
        assert (found["message"], found["line"] > 0) == ("the port is taken", True)


def test_loopback_is_refused_from_elsewhere_only() -> None:
    """From loopback it is how everything on one machine meets."""
    from sidecar.control.addresses import complaint

    assert complaint("127.0.0.1:80", peer_is_local=True) == ""
    assert "loopback" in complaint("127.0.0.1:80", peer_is_local=False)


def test_bad_edit_is_refused_as_a_whole_and_the_good_ones_before_it_stay(tmp_path: Path) -> None:
    """Its problems are shown with their places, the revision and what sidecars have stay, and a good one ends it."""
    with running_control(tmp_path) as control, Peer(control, "catalog") as peer:
        before = peer.wait_for(Config)
        peer.report()
        control.write({"catalog.yaml": SHOP["catalog.yaml"] + "timeout: soon\n", "storefront.yaml": "service: [\n"})
        eventually(lambda: control.shown()["source"]["problems"], "the problems")
        shown = control.shown()
        assert {one["file"] for one in shown["source"]["problems"]} >= {"storefront.yaml"}
        assert shown["revision"] == 1
        assert shown["source"]["since"]
        assert control.metric("sidecar_control_source_ok") == 0
        assert control.is_ready()
        eventually(lambda: "mesh_refused" in control.log(), "a line of it")
        # A comment more is no revision; nothing is pushed.
        control.write({"catalog.yaml": "# a note\n" + SHOP["catalog.yaml"], "storefront.yaml": SHOP["storefront.yaml"]})
        eventually(lambda: not control.shown()["source"]["problems"], "the end of the problems")
        assert control.shown()["revision"] == 1
        assert control.metric("sidecar_control_source_ok") == 1
        # A new value is a revision, for those whose file it changes.
        control.write({"catalog.yaml": SHOP["catalog.yaml"] + "inbound: {rate_limit: {requests: 50}}\n"})
        after = eventually(
            lambda: next((one for one in peer.lines if isinstance(one, Config) and one.hash != before.hash), None),
            "the new file",
        )
        assert after.revision == 2
        peer.report()
        eventually(lambda: control.instance(peer.instance)["config"]["revision"] == 2, "the report of it")


def test_a_control_plane_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """SIGKILL of it alone ends what it started, the process that compiles among them."""
    with running_control(tmp_path) as control:
        assert control.process is not None
        pid = control.process.pid
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        assert children
        control.stop(signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in children), "the end of what it started")


def test_restart_sends_nothing_to_who_is_current(tmp_path: Path) -> None:
    """Killed and started again: 0 octets of configuration and endpoints, registrations known, nothing removed."""
    with running_control(tmp_path) as control:
        callers = [Peer(control, "storefront", f"s-{number}") for number in range(5)]
        callee = Peer(control, "catalog", "c-1")
        for peer in (*callers, callee):
            peer.open()
        callee.report(ports=http_port(4200))
        for peer in callers:
            eventually(lambda peer=peer: peer.knows("catalog") == {"127.0.0.1:4200"}, "the endpoint")  # type: ignore[misc]
            peer.report()
        eventually(lambda: (control.state / "registrations.json").exists(), "the copy on disk")
        eventually(lambda: "c-1" in (control.state / "registrations.json").read_text(), "the registration in it")
        assert control.process is not None
        os.killpg(control.process.pid, signal.SIGKILL)
        control.process.wait()
        for peer in (*callers, callee):
            eventually(lambda peer=peer: peer.is_over, "the lost stream")  # type: ignore[misc]
        control.start()
        seen = {peer.instance: len(peer.lines) for peer in callers}
        for peer in callers:
            peer.open()
            peer.wait_for(Current, after=seen[peer.instance])
            peer.wait_for(Ping, after=seen[peer.instance])
            peer.report()
        assert control.metric('sidecar_control_stream_bytes_total{type="other"}') > 0
        text = control.get("/v1/mesh").json()
        assert text["revision"] == 1
        ops = eventually(lambda: metrics_text(control), "metrics")
        assert 'sidecar_control_stream_bytes_total{type="config"}' not in ops
        assert 'sidecar_control_stream_bytes_total{type="endpoints"}' not in ops
        assert control.instance("c-1")["state"] == "healthy"
        assert not control.instance("c-1")["connected"]
        assert all(peer.knows("catalog") == {"127.0.0.1:4200"} for peer in callers)
        for peer in (*callers, callee):
            peer.close()


def metrics_text(control: Control) -> str:
    from tests.support.process import request

    return request(control.ops_port, "/metrics").text


def test_restart_in_front_of_a_bad_edit_goes_on_with_what_was_wanted(tmp_path: Path) -> None:
    """The record has the revision, and the files that it names."""
    with running_control(tmp_path) as control:
        with Peer(control, "catalog") as peer:
            config = peer.wait_for(Config)
        assert control.stop() == 0
        control.write({"mesh.yaml": "mesh: [\n"})
        control.start()
        eventually(lambda: control.shown()["source"]["problems"], "the problems")
        with Peer(control, "catalog", "new") as peer:
            assert peer.wait_for(Config) == config


def test_end_is_graceful(tmp_path: Path) -> None:
    """SIGTERM: streams are told to move and end, new ones are not taken, and the exit code is 0."""
    with running_control(tmp_path) as control, Peer(control, "catalog") as peer:
        peer.wait_for(Config)
        assert control.stop() == 0
        peer.wait_for(Move)
        eventually(lambda: peer.is_over, "the end of the stream")


def test_tokens_let_in_and_are_followed(tmp_path: Path) -> None:
    """Without one, or with a wrong one, 401; the page's own files need none; a new file holds within seconds."""
    token = tmp_path / "token"
    token.write_text("first-token-0123456789\n")
    with running_control(tmp_path, SHOP, "--token-file", str(token)) as control:
        for given in ("", "Bearer wrong-token-0123456789", "Basic Zmlyc3Q6", "Bearer ", "Bearer \xff"):
            headers = {"authorization": given} if given else {}
            answer = control.get("/v1/mesh", **headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert control.get("/v1/watch?service=catalog&instance=x").status == 401
        assert control.post("/v1/report", b"{}").status == 401
        assert control.get("/").status == 200
        control.token = "first-token-0123456789"
        with Peer(control, "catalog") as peer:
            peer.wait_for(Config)
            token.write_text("second-token-0123456789\n# a note\nthird-token-0123456789\n")
            eventually(lambda: control.get("/v1/mesh").status == 401, "the end of the old token")
            control.token = "third-token-0123456789"
            assert control.get("/v1/mesh").status == 200
            token.write_text("")
            eventually(lambda: "token_file_not_used" in control.log(), "the complaint")
            assert control.get("/v1/mesh").status == 200
        assert "third-token" not in control.log()


def test_address_that_is_not_loopback_needs_a_token(tmp_path: Path) -> None:
    """Refused without; with one it says what that does not protect."""
    control = Control(tmp_path, SHOP)
    control.start("--listen", f"0.0.0.0:{control.port}", is_ready=False)
    assert control.process is not None
    assert control.process.wait(60) == 1
    assert "give --token-file" in control.log()
    (tmp_path / "token").write_text("some-token-0123456789")
    arguments = ("--listen", f"0.0.0.0:{control.port}", "--token-file", str(tmp_path / "token"))
    with running_control(tmp_path, SHOP, *arguments) as control:
        eventually(lambda: "unprotected=" in control.log(), "a line of it")


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    """Without starting anything: 0, 1 with every problem at its place, 2 for what cannot be read."""
    control = Control(tmp_path, SHOP)
    for files, code, said in (({}, 0, ""), ({"catalog.yaml": "service: catalog\nodd: 1\n"}, 1, "catalog.yaml:2:1")):
        control.write(files)
        told = sidecar_command("control", *control.keeps, "--check")
        assert told.returncode == code, told.stderr
        assert said in told.stderr
    assert sidecar_command("control", "--check", "--mesh", tmp_path / "nowhere").returncode == 2


def run_mesh(control: Control, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{control.port}"
    return sidecar_command("mesh", *arguments, "--control", url)


def test_commands_ask_the_control_plane(control: Control) -> None:
    """`status`, `top` and `wait`, for people and for programs."""
    with Peer(control, "catalog", "asked-by-commands") as peer:
        config = peer.wait_for(Config)
        waiting = run_mesh(control, "wait", "1", "--timeout", "0s")
        assert waiting.returncode == 1
        assert "asked-by-commands: it runs no file of the mesh yet" in waiting.stderr
        peer.report(edges=(Edge("outbound", "catalog", "r-top", 60),))
        assert config.hash == peer.has
        said = run_mesh(control, "status").stdout
        assert "asked-by-commands" in said
        assert "revision 1" in said
        assert json.loads(run_mesh(control, "status", "--json").stdout)["mesh"] == "shop"
        assert "r-top" in run_mesh(control, "top", "--once").stdout
        edges = json.loads(run_mesh(control, "top", "--once", "--json").stdout)["edges"]
        assert any(one["route"] == "r-top" and one["rate"] == 1.0 for one in edges)
    done = run_mesh(control, "wait", "1", "--timeout", "0s", "--json")
    assert json.loads(done.stdout) == {"ok": True, "revision": 1, "missing": []}
    assert done.returncode == 0


WAVES = "mesh: shop\nrollout: {waves: [one, 100%], hold: 0s, accept_timeout: 20s, thin: {after: 1s}}\n"


def test_wave_that_refuses_halts_its_service_and_gets_its_old_file_back(tmp_path: Path) -> None:
    """One of three is told first; when it refuses, no other is told, has its old file back, and everyone sees why."""
    with running_control(tmp_path, {**SHOP, "mesh.yaml": WAVES}) as control, ExitStack() as closing:
        peers = [closing.enter_context(Peer(control, "storefront", f"w-{number}")) for number in range(3)]
        for peer in peers:
            peer.wait_for(Config)
            peer.report()
        eventually(lambda: all(one["state"] == "done" for one in control.shown()["rollouts"]), "the first revision")
        old = peers[0].has
        control.write({"storefront.yaml": SHOP["storefront.yaml"].replace("catalog: {}", "catalog: {timeout: 3s}")})
        first = eventually(lambda: next((peer for peer in peers if peer.has != old), None), "the first of the wave")
        others = [peer for peer in peers if peer is not first]
        new, seen = first.has, len(first.lines)
        for peer in others:
            peer.report()
        problem = RefusedProblem(1, 1, "", "it does not suit me")
        refused = Refused(new, 2, (problem,))
        first.report(running=Running(old, 1, 1.0, "pushed"), refused=refused)

        def halted() -> bool:
            return any(one["state"] == "halted" and one["revision"] == 2 for one in control.shown()["rollouts"])

        eventually(halted, "the halt")
        back = first.wait_for(Current, after=seen)
        assert back.hash == old
        assert [peer.has for peer in others] == [old, old]
        done = run_mesh(control, "wait", "2", "--timeout", "30s")
        assert done.returncode == 1
        assert "halted" in done.stderr
        assert "REFUSED 2" in run_mesh(control, "status").stdout
        # Who joins in the middle has what its place has, and a better edit goes on to everyone.
        with Peer(control, "storefront", "w-new") as joined:
            assert joined.wait_for(Config).hash == old
            joined.report()
            control.write({"storefront.yaml": SHOP["storefront.yaml"].replace("catalog: {}", "catalog: {timeout: 4s}")})

            def all_run_it() -> bool:
                for peer in (*peers, joined):
                    peer.report()
                found = {peer.has for peer in (*peers, joined)}
                return len(found) == 1 and found.isdisjoint({old, new})

            eventually(all_run_it, "everyone on the next revision", 60)

            def is_done() -> bool:
                for peer in (*peers, joined):
                    peer.report()
                return run_mesh(control, "wait", "3", "--timeout", "0s").returncode == 0

            eventually(is_done, "wait to say so")


def test_lines_of_the_access_log_say_who_asked(tmp_path: Path) -> None:
    """One JSON object each; reports that went well have none; what a peer wrote breaks no line."""
    with running_control(tmp_path) as control:
        with Peer(control, "catalog", 'odd\n"name') as peer:
            peer.wait_for(Ping)
            peer.report()
        control.get("/v1/nothing")
        eventually(lambda: "/v1/nothing" in control.stdout_path.read_text(), "the line")
        lines = [json.loads(line) for line in control.stdout_path.read_text().splitlines()]
        assert {line["path"] for line in lines} == {"/v1/watch", "/v1/nothing"}
        watch = next(line for line in lines if line["path"] == "/v1/watch")
        assert (watch["status"], watch["instance"], watch["peer"]) == (200, 'odd\n"name', "127.0.0.1")
        assert next(line for line in lines if line["path"] == "/v1/nothing")["status"] == 404
