"""Endpoints from a file that is followed: they come, go and change their weight while requests pass."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from sidecar.routing.split import make_split
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually


def config(path: Path, more: str = "") -> str:
    """One upstream whose endpoints are in a file."""
    return f"""
        service: x
        zone: a
        {more}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{web: {{discover: {{file: "{path}"}}, load_balancing: round_robin}}}}
    """


def write(path: Path, *groups: object) -> None:
    """Put another file in its place."""
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(groups))
    os.replace(aside, path)


def endpoints(sidecar: SidecarProcess) -> dict[str, float]:
    """Weights by address, as `/upstreams` tells them."""
    said = sidecar.admin("/upstreams").json()["web"]
    return {endpoint["address"]: endpoint["weight"] for endpoint in said["endpoints"]}


@pytest.mark.parametrize("workers", [1, 2])
def test_endpoints_come_and_go_without_a_reload(tmp_path: Path, workers: int) -> None:
    """With their weights; a bad file changes nothing and is told; an empty one is meant."""
    path = tmp_path / "endpoints.json"
    with Origin("one") as one, Origin("two") as two:
        first, second = f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"
        write(path, {"targets": [first]})
        with running_sidecar(tmp_path, config(path, f"workers: {workers}" if workers > 1 else "")) as sidecar:

            def served() -> Counter[str]:
                return Counter(sidecar.outbound("/", host="web").text for _ in range(40))

            assert served() == {"one": 40}
            write(path, {"targets": [first]}, {"targets": [second], "labels": {"weight": "3", "zone": "a"}})
            eventually(lambda: endpoints(sidecar) == {first: 1, second: 3}, "the second endpoint, in every worker")
            eventually(lambda: served()["two"] > 0, "a request there")
            path.write_text('[{"targets": ["nonsense"]}]')
            eventually(lambda: "discovery_failed" in sidecar.stderr(), "the mistake to be told")
            assert "[0].targets[0]" in sidecar.stderr()
            assert sum(served().values()) == 40
            assert endpoints(sidecar) == {first: 1, second: 3}
            assert sidecar.metric("sidecar_upstream_discoveries_total", result="failure") >= 1
            write(path)
            eventually(lambda: endpoints(sidecar) == {}, "no endpoint")
            eventually(lambda: sidecar.outbound("/", host="web").status == 503, "no endpoint in any worker")
            write(path, {"targets": [second]})
            eventually(lambda: endpoints(sidecar) == {second: 1}, "another endpoint")
            eventually(lambda: served() == {"two": 40}, "all requests there")
            assert sidecar.stderr().count("config_loaded") == 1
            assert sidecar.metric("sidecar_upstream_discoveries_total", result="success") >= 4


def test_a_file_that_is_not_there_yet_delays_the_start_for_two_seconds_at_most(tmp_path: Path) -> None:
    """The upstream answers 503 until it comes."""
    path = tmp_path / "endpoints.json"
    with Origin("late") as late, running_sidecar(tmp_path, config(path)) as sidecar:
        assert sidecar.outbound("/", host="web").status == 503
        eventually(lambda: "discovery_waits upstream=web" in sidecar.stderr(), "a line of it")
        write(path, {"targets": [f"127.0.0.1:{late.port}"]})
        eventually(lambda: sidecar.outbound("/", host="web").text == "late", "the file to be read")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_side_of_a_split_gets_its_share_when_it_first_has_an_endpoint(tmp_path: Path, workers: int) -> None:
    """And none before; users of the other side who are not its own stay there. Once it had one, it is missed."""
    path = tmp_path / "beta.json"
    write(path)
    with Origin("stable") as stable, Origin("beta") as beta:
        text = f"""
            service: x
            {"workers: 2" if workers == 2 else ""}
            outbound:
              listen: "127.0.0.1:${{OUTBOUND_PORT}}"
              routes: [{{name: canary, match: {{host: web}}, to: {{stable: 1, beta: 1}}, sticky: {{cookie: uid}}}}]
            upstreams:
              stable: {{endpoints: ["127.0.0.1:{stable.port}"]}}
              beta: {{discover: {{file: "{path}"}}}}
        """
        with running_sidecar(tmp_path, text) as sidecar:

            def side(user: int) -> str:
                response = sidecar.outbound("/", host="web", headers={"cookie": f"uid={user}"})
                return response.text if response.status == 200 else str(response.status)

            assert {side(user) for user in range(30)} == {"stable"}
            eventually(lambda: sidecar.stderr().count("split_side_without_endpoints") >= workers, "a line of each")
            assert sidecar.stderr().count("split_side_without_endpoints") == workers
            assert "split_side_without_endpoints route=canary upstream=beta" in sidecar.stderr()
            shown = sidecar.admin("/routes").json()["outbound"]["routes"][0]["to"]
            assert [one.get("left_out") for one in shown] == [None, "it has never had an endpoint"]
            write(path, {"targets": [f"127.0.0.1:{beta.port}"]})
            whole = make_split(["stable", "beta"], [1, 1], ("cookie", "uid"))
            assert whole is not None
            expected = [("stable", "beta")[whole.side(b"%d" % user)] for user in range(30)]
            eventually(lambda: [side(user) for user in range(30)] == expected, "the side to get its share")
            write(path)
            missed = ["503" if one == "beta" else one for one in expected]
            eventually(lambda: [side(user) for user in range(30)] == missed, "the side to be missed")
            assert sidecar.stderr().count("split_side_without_endpoints") == workers
