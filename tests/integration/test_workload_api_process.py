"""Real sidecars whose identity comes from an agent: start, requests between them, rotations, successors, the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.fake_agent import PERMISSION_DENIED, FakeAgent, identity
from tests.support.origin import Origin
from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wait import eventually

CATALOG, STOREFRONT = "spiffe://shop/catalog", "spiffe://shop/storefront"
ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")


def fresh(name: str) -> Any:
    """An identity that nobody had before."""
    return identity(ISSUER.workload(name), ROOT)


@pytest.fixture(scope="module")
def app() -> Iterator[Origin]:
    """What is called."""
    with Origin("v1") as made:
        yield made


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    """Of the called service; not there yet."""
    made = FakeAgent(tmp_path / "catalog.sock")
    yield made
    made.stop()


def catalog(agent: FakeAgent, app: Origin, more: str = "") -> str:
    """The called service's file."""
    return f"""
        service: catalog
        identity: {{from: {{workload_api: "{agent.address}"}}}}
        inbound: {{listen: "127.0.0.1:${{INBOUND_PORT}}", app: "127.0.0.1:{app.port}", tls: strict}}
        {more}
    """


def storefront(agent: FakeAgent, port: int) -> str:
    """The caller's."""
    return f"""
        service: storefront
        identity: {{from: {{workload_api: "{agent.address}"}}}}
        outbound: {{listen: "127.0.0.1:${{OUTBOUND_PORT}}"}}
        upstreams: {{catalog: {{endpoints: ["127.0.0.1:{port}"], tls: {{identities: "{CATALOG}"}}}}}}
    """


def ready(sidecar: SidecarProcess) -> str:
    """What its readiness says; empty if it cannot be asked."""
    try:
        answer = sidecar.admin("/ready")
    except OSError:
        return ""
    return f"{answer.status} {answer.text}"


def certificate_of(sidecar: SidecarProcess) -> str:
    """Serial number of what it shows."""
    return str(sidecar.admin("/certs").json()["identity"]["certificate"]["serial"])


def held_by(sidecar: SidecarProcess, worker: int) -> str:
    """Who a worker is."""
    return str(sidecar.admin(f"/certs?worker={worker}").json()["identity"]["id"])


def test_two_sidecars_know_each_other_by_their_agents(tmp_path: Path, agent: FakeAgent, app: Origin) -> None:
    """By mutual TLS; a rotation on both sides while requests go on loses none of them; nothing shows a key."""
    agent.give(fresh(CATALOG))
    agent.start()
    with FakeAgent() as other, running_sidecar(tmp_path / "b", catalog(agent, app)) as inbound:
        other.give(fresh(STOREFRONT))
        with running_sidecar(tmp_path / "a", storefront(other, inbound.inbound_port)) as outbound:
            seen = outbound.outbound("/echo", host="catalog").json()
            fields = {name.lower(): value for name, value in seen["headers"]}
            assert f"URI={STOREFRONT}" in fields["x-forwarded-client-cert"]
            statuses: list[int] = []
            is_over = threading.Event()

            def ask() -> None:
                while not is_over.is_set():
                    statuses.append(outbound.outbound("/x", host="catalog").status)

            asking = threading.Thread(target=ask)
            asking.start()
            try:
                for _ in range(3):
                    before = certificate_of(inbound), certificate_of(outbound)
                    agent.give(fresh(CATALOG))
                    other.give(fresh(STOREFRONT))
                    eventually(
                        lambda before=before: (
                            certificate_of(inbound) != before[0] and certificate_of(outbound) != before[1]
                        ),
                        "the rotation",
                    )
                    count = len(statuses)
                    eventually(lambda count=count: len(statuses) > count + 3, "requests after it")
            finally:
                is_over.set()
                asking.join()
            assert set(statuses) == {200}
            page = inbound.admin("/certs").json()["identity"]
            assert (page["source"]["from"], page["agent"]["state"], page["replaced"]) == (
                "workload_api",
                "following",
                3,
            )
            said = inbound.stderr() + inbound.admin("/certs").text + inbound.admin("/config").text
            assert "PRIVATE KEY" not in said
            assert agent.accepted == 1
        eventually(lambda: not other.connections, "the caller's connection to end with it")
    eventually(lambda: not agent.connections, "the connection to end with the sidecar")


@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_without_an_agent_it_is_not_ready_and_says_why(
    tmp_path: Path, agent: FakeAgent, app: Origin, workers: int
) -> None:
    """Then without an entry; with one it is ready by itself. Each worker asks for itself."""
    sidecar = SidecarProcess(tmp_path / "b")
    sidecar.rewrite(catalog(agent, app, f"workers: {workers}"))
    sidecar.start()
    try:
        eventually(lambda: ready(sidecar).startswith("503"), "an answer")
        eventually(lambda: "no such file or directory; is the agent running" in ready(sidecar), "the reason")
        agent.refuse(PERMISSION_DENIED, "no identity issued")
        agent.start()
        eventually(lambda: "the agent has no identity for this process" in ready(sidecar), "the other reason")
        assert 'sidecar_certificate_troubles{purpose="identity"} 1' in sidecar.metrics("/metrics").text
        agent.give(fresh(CATALOG))
        sidecar.wait_ready()
        eventually(lambda: agent.listening == workers, "all of them to listen")
        for number in range(workers):
            eventually(lambda number=number: held_by(sidecar, number) == CATALOG, f"an identity of worker {number}")
        sidecar.signal(signal.SIGTERM)
        assert sidecar.wait() == 0
        eventually(lambda: not agent.connections, "all connections to end")
        assert "Traceback" not in sidecar.stderr()
    finally:
        sidecar.kill()


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2], ids=["one process", "two workers"])
def test_a_successor_without_an_identity_takes_over_nothing(
    tmp_path: Path, agent: FakeAgent, app: Origin, workers: int
) -> None:
    """Who serves goes on; once the agent answers, the next one takes over with an identity of its own."""
    agent.give(fresh(CATALOG))
    agent.start()
    first = SidecarProcess(tmp_path / "b")
    first.rewrite(catalog(agent, app, f"workers: {workers}"))
    first.start()
    with contextlib.ExitStack() as stack:
        stack.callback(first.kill)
        first.wait_ready()
        agent.stop()
        second = SidecarProcess(tmp_path / "b", env=first.env, config=first.config)
        second.stderr_path = tmp_path / "second.log"
        stack.callback(second.kill)
        second.start("--takeover")
        assert second.wait() == 1
        said = second.stderr()
        assert "the sidecar that serves is not taken over, and goes on: this one has no identity yet" in said
        assert "is the agent running" in said
        assert "Traceback" not in said
        assert ready(first).startswith("200")
        agent.start()
        third = SidecarProcess(tmp_path / "b", env=first.env, config=first.config)
        third.stderr_path = tmp_path / "third.log"
        stack.callback(third.kill)
        third.start("--takeover")
        assert first.wait() == 0
        eventually(lambda: "live version" in third.stderr(), "the successor")
        eventually(lambda: ready(first).startswith("200"), "the successor, at the same port, to be ready")
        third.signal(signal.SIGTERM)
        assert third.wait() == 0


def test_a_check_asks_no_agent(tmp_path: Path, agent: FakeAgent, app: Origin) -> None:
    """It says what the file says, wherever it is run."""
    agent.start()
    file = tmp_path / "sidecar.yaml"
    file.write_text(catalog(agent, app).replace("${INBOUND_PORT}", "15000"))
    done = subprocess.run([sys.executable, "-m", "sidecar", "check", str(file)], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert agent.accepted == 0


def test_nothing_of_it_is_loaded_where_no_agent_is_named(tmp_path: Path) -> None:
    """The library for HTTP/2 takes its room only where it is spoken."""
    program = (
        "import sys, sidecar.cli.main, sidecar.runtime.server, sidecar.workers.worker\n"
        "import sidecar.security.identity.holder\n"
        "import sidecar.security.identity.shown, sidecar.security.identity.numbers, sidecar.link.identity.joiner\n"
        "print(sorted({'h2', 'hpack', 'hyperframe'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env={**os.environ}
    )
    assert done.stdout.strip() == "[]", done.stderr
