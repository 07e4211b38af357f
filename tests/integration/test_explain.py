"""`sidecar explain` beside a running sidecar, and what that tells in its responses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.insight.question import Question
from tests.support.certificates import Authority, identity_of
from tests.support.commands import sidecar_command
from tests.support.explaining import account_by, scene_of
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import free_port

FILE = """
service: storefront
inbound:
  listen: "127.0.0.1:${{INBOUND_PORT}}"
  app: "127.0.0.1:{app}"
outbound:
  listen: "127.0.0.1:${{OUTBOUND_PORT}}"
  routes:
    - {{name: canary, match: {{host: shop, path: {{prefix: /v1}}}}, to: {{shop: 95, beta: 5}}, sticky: {{cookie: uid}},
       rewrite: {{prefix: /echo}}}}
    - {{name: teapot, match: {{host: shop, path: /teapot}}, respond: {{status: 418}}}}
    - {{name: down, match: {{host: shop, path: /down}}, to: down}}
upstreams:
  shop: {{endpoints: ["127.0.0.1:{app}"]}}
  beta: {{endpoints: ["127.0.0.1:{app}"]}}
  down: {{endpoints: ["127.0.0.1:{closed}"]}}
explain: {{sources: 127.0.0.0/8}}
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """The app and every server."""
    with Origin("v1") as one:
        yield one


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[SidecarProcess]:
    """In front of it."""
    text = FILE.format(app=origin.port, closed=free_port())
    with running_sidecar(tmp_path_factory.mktemp("explain"), text) as one:
        yield one


def test_a_running_sidecar_explains_with_its_endpoints(sidecar: SidecarProcess, origin: Origin) -> None:
    """By the command, as a person reads it and as JSON; nothing is sent anywhere."""
    words = ["explain", "--live", "--admin", f"127.0.0.1:{sidecar.admin_port}"]
    before = len(origin.requests)

    told = sidecar_command(*words, "http://shop/v1/x", "--cookie", "uid=u1")
    as_json = sidecar_command(*words, "--json", "curl", "-b", "uid=u1", "http://shop/v1/x")

    assert told.returncode == 0
    assert f"in   127.0.0.1:{origin.port}  100%, 0 under way" in told.stdout
    said = json.loads(as_json.stdout)
    assert said["outcome"]["route"] == "canary"
    assert said["split"]["key"] == "u1"
    assert len(origin.requests) == before
    assert sidecar_command(*words, "http://shop/teapot").returncode == 3
    assert sidecar_command(*words, "http://nobody/").returncode == 3


def test_the_program_itself_explains_by_a_file_and_by_standard_input(sidecar: SidecarProcess, tmp_path: Path) -> None:
    """As a new user starts it, also without a terminal and on a broken file."""
    text = "service: s\noutbound: {routes: [{match: {path: /a}, respond: {status: 204}}]}\n"

    def run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sidecar", "explain", *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)

    good = run("--config", "-", "http://x/a", given=text)
    assert (good.returncode, good.stderr) == (3, "")
    assert "the sidecar answers with 204" in good.stdout
    bad = run("--config", "-", "http://x/a", given="service: s\noutbond: {}\n")
    assert bad.returncode == 1
    assert "<stdin>:2:1: outbond: unknown key `outbond`" in bad.stderr
    assert run("--config", str(tmp_path / "nowhere.yaml"), "http://x/").returncode == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["http://x/"], "expected --config FILE to explain by a file, or --live"),
        (["--live", "shop/v1"], "expected a URL such as http://orders/v1, found `shop/v1`"),
        (["--live", "GET", "http://x/", "more"], "expected [METHOD] URL"),
        (["--live", "http://x/", "-H", "no colon"], "-H: expected NAME: VALUE, found `no colon`"),
        (["--live", "curl", "--frobnicate", "http://x/"], "the option `--frobnicate` is not known here"),
        (["--request-id", "x", "http://x/"], "expected a request or --request-id, found both"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(words: list[str], message: str) -> None:
    """Told in a sentence, with exit code 2."""
    done = sidecar_command("explain", *words)

    assert done.returncode == 2
    assert message in done.stderr


def test_a_dead_sidecar_is_told_as_such() -> None:
    """With where it was looked for."""
    done = sidecar_command("explain", "--live", "--admin", f"127.0.0.1:{free_port()}", "http://x/")

    assert done.returncode == 1
    assert "is a sidecar running there" in done.stderr


def test_a_response_tells_how_it_was_decided(sidecar: SidecarProcess, origin: Origin) -> None:
    """To who may ask and does: route, line, upstream, endpoint; of answers of the sidecar's own, too."""
    asks = {"x-sidecar-explain": "1", "cookie": "uid=u1"}

    answer = sidecar.outbound("/v1", host="shop", headers=asks)
    teapot = sidecar.outbound("/teapot", host="shop", headers=asks)
    nobody = sidecar.outbound("/", host="nobody", headers=asks)
    down = sidecar.outbound("/down", host="shop", headers=asks)
    silent = sidecar.outbound("/v1", host="shop")

    assert answer.headers["x-sidecar-explain"] == (
        f'sidecar; direction=outbound; route="canary"; line=8; upstream="shop"; '
        f'endpoint="127.0.0.1:{origin.port}"; attempts=1'
    )
    assert teapot.headers["x-sidecar-explain"] == 'sidecar; direction=outbound; route="teapot"; line=10'
    assert nobody.headers["x-sidecar-explain"] == "sidecar; direction=outbound"
    assert down.headers["x-sidecar-explain"].startswith(
        'sidecar; direction=outbound; route="down"; line=11; upstream="down"; endpoint='
    )
    assert "x-sidecar-explain" not in silent.headers


def test_who_may_not_ask_is_told_nothing_and_the_wish_goes_no_further(tmp_path: Path, origin: Origin) -> None:
    """Else a sidecar behind this one would take it for this one's own."""
    text = FILE.format(app=origin.port, closed=free_port()).replace("sources: 127.0.0.0/8", "sources: 10.0.0.0/8")
    with running_sidecar(tmp_path, text) as sidecar:
        answer = sidecar.outbound("/v1", host="shop", headers={"x-sidecar-explain": "1"})

        assert "x-sidecar-explain" not in answer.headers
        assert "x-sidecar-explain" not in answer.text.lower()


def test_by_socket_and_by_account_a_request_goes_the_same_way(tmp_path: Path) -> None:
    """A sample of what the property tests hold for any: the route whose answer came is the one that is explained."""
    chance = random.Random(7)
    hosts, paths, values = ["a.com", "b.a.com", "shop"], ["/", "/v1", "/v1/x", "/v2"], ["1", "12", "a"]
    routes = []
    for index in range(40):
        match: dict[str, object] = {}
        if chance.random() < 0.7:
            match["host"] = chance.choice([*hosts, "*.a.com"])
        if chance.random() < 0.7:
            match["path"] = chance.choice([*paths, {"prefix": "/v1"}, {"regex": "/v[0-9]"}])
        if chance.random() < 0.5:
            match["headers"] = {"x-test": chance.choice([*values, {"prefix": "1"}])}
        if chance.random() < 0.3:
            match["cookies"] = {"c": chance.choice(values)}
        match = match or {"path": "/never"}
        routes.append({"name": f"r{index}", "match": match, "respond": {"status": 200, "body": f"r{index}"}})
    listen = json.dumps("127.0.0.1:${OUTBOUND_PORT}")
    text = f"service: s\noutbound:\n  listen: {listen}\n  routes: {json.dumps(routes)}\n"
    scene = scene_of(text.replace("${OUTBOUND_PORT}", "15001"))
    with running_sidecar(tmp_path, text) as sidecar:
        for _ in range(120):
            host, path = chance.choice([*hosts, "nobody"]), chance.choice(paths)
            headers = {"x-test": chance.choice(values)} if chance.random() < 0.6 else {}
            cookies = {"c": chance.choice(values)} if chance.random() < 0.4 else {}
            sent = {**headers, **({"cookie": f"c={cookies['c']}"} if cookies else {})}
            answer = sidecar.outbound(path, host=host, headers=sent)
            question = Question("GET", f"http://{host}{path}", tuple(headers.items()), tuple(cookies.items()))
            said = account_by(scene, question)
            assert said["outcome"]["route"] == (answer.text if answer.status == 200 else None)


def test_a_request_that_was_served_is_judged_as_by_the_listener_that_took_it(tmp_path: Path, origin: Origin) -> None:
    """While that is permissive who has no identity passes, and is said to have passed; strict, it would not have."""
    root = Authority("shop root")
    identity = identity_of(tmp_path / "identity", root.workload("spiffe://shop/catalog"), root)
    text = f"""
        service: catalog
        identity: {identity}
        inbound:
          listen: "127.0.0.1:${{INBOUND_PORT}}"
          app: "127.0.0.1:{origin.port}"
          tls: permissive
          authorization:
            default: deny
            rules: [{{name: callers, allow: {{from: spiffe://shop/front}}}}]
    """
    with running_sidecar(tmp_path / "s", text) as sidecar:
        assert sidecar.inbound("/v1", headers={"x-request-id": "open-1"}).status == 200
        served = sidecar.admin("/explain?request_id=open-1").json()
        assert (served["outcome"]["kind"], served["authorization"]["outcome"]) == ("forward", "allowed")
        sidecar.rewrite(text.replace("permissive", "strict"))
        sidecar.admin("/reload", method="POST")
        now = sidecar.admin("/explain?request_id=open-1").json()
        assert (now["outcome"]["flag"], now["authorization"]["outcome"]) == ("UAEX", "denied")
        assert now["happened"]["status"] == 200


def test_a_request_that_was_served_is_explained_by_its_id(sidecar: SidecarProcess, origin: Origin) -> None:
    """With what happened, by the plan in force; the key that it stuck by is known, a secret is not."""
    headers = {"x-request-id": "served-1", "cookie": "uid=u7; sid=topsecret", "authorization": "Bearer topsecret"}
    sidecar.outbound("/v1/x", host="shop", headers=headers)
    words = ["explain", "--admin", f"127.0.0.1:{sidecar.admin_port}", "--request-id"]

    told = sidecar_command(*words, "served-1")
    unknown = sidecar_command(*words, "served-2")

    assert told.returncode == 0, told.stderr
    assert "what happened\n" in told.stdout
    assert "status: 200" in told.stdout
    assert "route canary" in told.stdout
    assert "by cookie uid: `u7`" in told.stdout
    assert "topsecret" not in told.stdout
    assert unknown.returncode == 1
    assert "none has the id `served-2`" in unknown.stderr
