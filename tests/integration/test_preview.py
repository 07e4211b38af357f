"""`sidecar preview`, `routes`, `GET /requests` and `reload.guard`, against a running sidecar, as users do it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually

VARIABLES = {"API_TOKEN": "s3cr3t-of-a-partner", "PLAIN": "s3cr3t-of-no-name"}
SHOWN = "s3cr3t"

LIVE = """
service: storefront
workers: {workers}
outbound:
  listen: "127.0.0.1:${{OUTBOUND_PORT}}"
  routes:
    - name: partner
      match: {{headers: {{authorization: "Bearer ${{API_TOKEN}}", x-plain: "${{PLAIN}}"}}}}
      to: two
    - name: canary
      match: {{host: shop}}
      to: [{{upstream: one, weight: 95}}, {{upstream: two, weight: 5}}]
      sticky: {{cookie: uid}}
upstreams:
  one: {{endpoints: ["127.0.0.1:{port}"]}}
  two: {{endpoints: ["127.0.0.1:{port}"]}}
"""
GUARD = "reload: {guard: {max_moved: 20%, min_requests: 20}}\n"


def text_of(origin: Origin, workers: int = 1) -> str:
    return LIVE.format(workers=workers, port=origin.port)


def turned(text: str) -> str:
    """All of the canary's requests go to the other upstream."""
    return text.replace("weight: 95", "weight: 0").replace("weight: 5}", "weight: 1}")


def asked(sidecar: SidecarProcess, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, without a terminal."""
    command = [sys.executable, "-m", "sidecar", name, "--admin", f"127.0.0.1:{sidecar.admin_port}", *arguments]
    environment = {**sidecar.environment(), **VARIABLES}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def pass_through(sidecar: SidecarProcess, count: int = 40) -> None:
    """Users of the canary, and a request of a partner with secrets."""
    for number in range(count):
        cookies = f"uid=u{number}; session=s3cr3t-session"
        answer = sidecar.outbound(f"/v1/{number}?token=s3cr3t-query", host="shop", headers={"cookie": cookies})
        assert answer.status == 200
    headers = {"authorization": f"Bearer {VARIABLES['API_TOKEN']}", "x-plain": VARIABLES["PLAIN"]}
    assert sidecar.outbound("/p", host="elsewhere", headers=headers).status == 200
    assert sidecar.outbound("/none", host="elsewhere").status == 404


@pytest.mark.parametrize("workers", [1, 2])
def test_a_preview_asks_what_all_have_seen_and_shows_no_secret(tmp_path: Path, workers: int) -> None:
    """The requests of all workers; and of their secrets nothing on any page, in any report, in the log."""
    with Origin("v1") as origin, running_sidecar(tmp_path, text_of(origin, workers), env=VARIABLES) as sidecar:
        pass_through(sidecar)
        page = sidecar.admin("/requests?limit=1000")
        assert (page.json()["kept"], len(page.json()["requests"])) == (42, 42)
        times = [one["time"] for one in page.json()["requests"]]
        assert times == sorted(times, reverse=True)
        (partner,) = [one for one in page.json()["requests"] if one["route"] == "partner"]
        (found,) = sidecar.admin(f"/requests?request_id={partner['request_id']}").json()["requests"]
        assert found == partner
        new = tmp_path / "new.yaml"
        new.write_text(sidecar.complete(turned(text_of(origin, workers)).replace("Bearer ${API_TOKEN}", "Bearer none")))
        shown = asked(sidecar, "preview", str(new), "--fail-if", "moved > 50%")
        assert (shown.returncode, shown.stderr) == (1, "failed: moved > 50%\n"), shown
        report: dict[str, Any] = json.loads(asked(sidecar, "preview", str(new), "--json").stdout)
        assert (report["requests"], report["refused"], report["not_found"]) == (42, 1, 1)
        assert report["splits"][0]["sticky_of"] == 40
        assert report["splits"][0]["sticky_moved"] == report["moved"] - 1 >= 30
        routes = asked(sidecar, "routes", "--json")
        hits = {one["name"]: one["hits"] for one in json.loads(routes.stdout)["routes"]}
        assert (hits["partner"], hits["canary"]) == (1, 40)
        text = asked(sidecar, "routes", "--unused").stdout
        assert "canary" not in text
        told = asked(sidecar, "explain", "--request-id", partner["request_id"])
        assert "route partner" in told.stdout, told
        for exit_ in (page.text, shown.stdout, json.dumps(report), routes.stdout, text, told.stdout, sidecar.stderr()):
            assert SHOWN not in exit_.lower()
        for path in ("/routes", "/config", "/upstreams", "/server_info", "/certs"):
            # What a variable holds whose name speaks of no secret is shown as any other setting is.
            assert SHOWN not in sidecar.admin(path).text.replace(VARIABLES["PLAIN"], "").lower()


def test_a_guard_refuses_a_changed_file_until_it_is_forced(tmp_path: Path) -> None:
    """Told in the log, in the reply and by /config; the file in force goes on, and what is forced is in force."""
    with Origin("v1") as origin:
        text = text_of(origin) + GUARD
        with running_sidecar(tmp_path, text, env=VARIABLES) as sidecar:
            pass_through(sidecar)
            sidecar.rewrite(turned(text))
            eventually(lambda: "config_refused" in sidecar.stderr(), "the refusal in the log")
            reply = sidecar.admin("/reload", method="POST")
            assert reply.status == 400
            assert "`reload.guard` allows 20%" in reply.json()["error"]
            assert reply.json()["preview"]["moved"] >= 30
            assert sidecar.admin("/config").json()["last_load"]["preview"]["moved"] >= 30
            assert sidecar.generation() == 1
            assert sidecar.metric("sidecar_config_last_reload_successful") == 0
            assert sidecar.admin("/reload?force", method="POST").status == 200
            assert sidecar.generation() == 2
            assert sidecar.metric("sidecar_config_last_reload_successful") == 1


@pytest.mark.long
def test_traffic_goes_on_while_two_thousand_heads_are_previewed(tmp_path: Path) -> None:
    """A large file, and a ring that is full: requests pass meanwhile, and the report is of all of them."""
    with Origin("v1") as origin:
        many = "".join(
            f'    - {{name: r{number}, match: {{host: h{number}, headers: {{x-a: "{number}"}}}}, to: one}}\n'
            for number in range(1000)
        )
        text = text_of(origin).replace("  routes:\n", f"  routes:\n{many}")
        with running_sidecar(tmp_path, text, env=VARIABLES) as sidecar:
            for number in range(2000):
                sidecar.outbound(f"/{number}", host="shop", headers={"cookie": f"uid=u{number}"})
            new = sidecar.complete(turned(text)).encode()
            reports: list[dict[str, Any]] = []
            thread = threading.Thread(
                target=lambda: reports.append(
                    sidecar.admin("/preview?name=new.yaml", method="POST", body=new, timeout_s=100).json()
                )
            )
            thread.start()
            passed = 0
            while thread.is_alive():
                assert sidecar.outbound("/meanwhile", host="shop").status == 200
                passed += 1
            thread.join()
            assert passed > 10
            assert reports[0]["requests"] == 2000
            assert reports[0]["moved"] > 1500


def test_bodies_are_taken_for_previews_only_and_as_large_as_a_file(tmp_path: Path) -> None:
    """413 beyond; an empty one, one that is no file and one by GET are told in a line."""
    with Origin("v1") as origin, running_sidecar(tmp_path, text_of(origin), env=VARIABLES) as sidecar:
        large = b"#" * (10 * 1024 * 1024)
        assert sidecar.admin("/preview", method="POST", body=large + b"#").status == 413
        assert sidecar.admin("/reload", method="POST", body=b"#" * 70_000).status == 413
        reply = sidecar.admin("/preview", method="POST", body=large)
        assert "found an empty file" in reply.json()["problems"][0]["text"]
        assert sidecar.admin("/preview", method="POST", body=b"").status == 400
        assert sidecar.admin("/preview").status == 405
        assert sidecar.admin("/preview", method="POST", body=b"a: b", headers={"Origin": "http://x"}).status == 403
        broken = sidecar.admin("/preview?name=n.yaml", method="POST", body=b"service: [\xff").json()
        assert broken["problems"][0]["text"].startswith("n.yaml:1:")
