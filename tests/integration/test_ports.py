"""Several ports of an app, each with a listener: in one process and in two, through reloads and a takeover."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, request, running_sidecar
from tests.support.wait import eventually, free_port
from tests.support.wire import Client


@pytest.fixture
def apps() -> Iterator[tuple[Origin, Origin]]:
    """Two ports of an app that tell which they are."""
    with Origin("first") as first, Origin("second") as second:
        yield first, second


def config(first: Origin, second: Origin | None, port: int, more: str = "") -> str:
    """One listener for all, and one with an app of its own, if there is one."""
    own = f'{{address: "127.0.0.1:{port}", name: second, app: "127.0.0.1:{second.port}"}}' if second else ""
    return f"""
        service: x
        {more}
        inbound:
          app: "127.0.0.1:{first.port}"
          listen: [{{address: "127.0.0.1:${{INBOUND_PORT}}", name: first}}, {own}]
          routes: [{{name: own, match: {{path: /own}}, respond: {{status: 200, body: by itself}}}}]
    """


def answer(port: int, path: str = "/who") -> str:
    """What a request by this listener is answered."""
    return request(port, path).text


def clients(sidecar: SidecarProcess) -> int:
    """How many are connected to the app's ports."""
    count: int = sidecar.admin("/server_info").json()["connections"]["inbound"]
    return count


@pytest.mark.parametrize("workers", [1, 2])
def test_each_listener_leads_to_its_own_app(tmp_path: Path, apps: tuple[Origin, Origin], workers: int) -> None:
    """And is counted, logged and shown as such; inbound routes hold for all of them."""
    port = free_port()
    with running_sidecar(tmp_path, config(*apps, port, f"workers: {workers}")) as sidecar:
        assert [answer(one) for one in (sidecar.inbound_port, port, port)] == ["first", "second", "second"]
        assert answer(port, "/own") == answer(sidecar.inbound_port, "/own") == "by itself"
        counts = {"code": "200", "direction": "inbound", "flag": "-"}
        assert sidecar.metric("sidecar_requests_total", route="app", upstream="app", **counts) == 1
        assert sidecar.metric("sidecar_requests_total", route="app.second", upstream="app.second", **counts) == 2
        assert sidecar.metric("sidecar_upstream_requests_total", upstream="app.second") == 2
        lines = sidecar.wait_for_log_lines(5)
        assert sorted(line["upstream_cluster"] or "" for line in lines) == ["", "", "app", "app.second", "app.second"]
        listeners = {one["bound"]: one["name"] for one in sidecar.admin("/server_info").json()["listeners"]}
        assert (listeners[f"127.0.0.1:{sidecar.inbound_port}"], listeners[f"127.0.0.1:{port}"]) == ("first", "second")
        assert set(sidecar.admin("/upstreams").json()) == {"app", "app.second"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_gives_a_listener_another_app_and_keeps_who_is_connected(
    tmp_path: Path, apps: tuple[Origin, Origin], workers: int
) -> None:
    """The next request on the same connection goes to the new one."""
    port, more = free_port(), f"workers: {workers}"
    first, second = apps
    with Origin("third") as third, running_sidecar(tmp_path, config(first, second, port, more)) as sidecar:
        with Client(port) as client:
            client.get("/who", host="x")
            assert client.response().body == b"second"
            sidecar.rewrite(config(first, third, port, more))
            sidecar.wait_for_generation(2)
            client.get("/who", host="x")
            assert client.response().body == b"third"
        assert "listener_closed" not in sidecar.stderr()
        assert answer(sidecar.inbound_port) == "first"


def test_the_last_request_by_a_listener_that_was_removed_goes_to_no_other_app(
    tmp_path: Path, apps: tuple[Origin, Origin]
) -> None:
    """Where its app is gone, too, it is answered so; where another listener has it now, it goes there."""
    port, other = free_port(), free_port()
    first, second = apps
    with running_sidecar(tmp_path, config(first, second, port)) as sidecar:
        for number, (text, expected) in enumerate([(config(first, second, other), 200), (config(first, None, 0), 503)]):
            with Client((port, other)[number]) as client:
                client.send(b"GET /who HTTP/1.1\r\nHost: x\r\n")
                eventually(lambda: clients(sidecar) == 1, "the connection to be accepted")
                sidecar.rewrite(text)
                sidecar.wait_for_generation(number + 2)
                client.send(b"\r\n")
                response = client.response()
                assert response.status == expected
                assert response.get("connection") == "close"
                assert (b"second" if expected == 200 else b"draining") in response.body
        assert sidecar.wait_for_log_lines(2)[1]["response_flags"] == "DR"
        assert first.requests == []


def test_an_upstream_is_chosen_by_host_and_port(tmp_path: Path, apps: tuple[Origin, Origin]) -> None:
    """By `Host`, by an absolute target, and by a listener that is for a host with a port, which is what is sent."""
    first, second = apps
    port = free_port()
    text = f"""
        service: x
        outbound:
          listen: ["127.0.0.1:${{OUTBOUND_PORT}}", {{address: "127.0.0.1:{port}", host: "shop:9090"}}]
        upstreams:
          shop: {{endpoints: ["127.0.0.1:{first.port}"]}}
          grpc: {{hosts: ["shop:9090"], endpoints: ["127.0.0.1:{second.port}"]}}
    """
    with running_sidecar(tmp_path, text) as sidecar:
        answers = {host: sidecar.outbound("/who", host=host).text for host in ("shop", "shop:80", "shop:9090")}
        assert answers == {"shop": "first", "shop:80": "first", "shop:9090": "second"}
        with Client(sidecar.outbound_port) as client:
            client.get("http://shop:9090/who", host="shop")
            assert client.response().body == b"second"
        with Client(port) as client:
            client.get("/echo", host="shop")
            assert b'["host", "shop:9090"]' in client.response().body
        assert {line["authority"] for line in sidecar.wait_for_log_lines(5)} == {"shop", "shop:80", "shop:9090"}


def test_a_takeover_hands_each_listener_over(tmp_path: Path, apps: tuple[Origin, Origin]) -> None:
    """With the app that the successor's file gives it."""
    port = free_port()
    first, second = apps
    with running_sidecar(tmp_path / "a", config(first, second, port)) as before:
        after = SidecarProcess(tmp_path / "b")
        for name in ("inbound_port", "outbound_port", "admin_port", "metrics_port"):
            setattr(after, name, getattr(before, name))
        after.env = dict(before.env)
        after.rewrite(config(second, first, port))
        after.start("--takeover")
        try:
            assert before.wait() == 0
            eventually(after.is_ready, "the successor to be ready")
            assert (answer(after.inbound_port), answer(port)) == ("second", "first")
            assert after.stop() == 0
        finally:
            after.kill()
