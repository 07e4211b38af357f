"""An identity from an agent of the SPIFFE Workload API, over real sockets: agents come, go, and say what they like."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.net.grpc.call import MAX_MESSAGE_BYTES
from sidecar.net.tls.settings import FilesIdentity, MeshTls, Pair, WorkloadApiIdentity
from sidecar.security.identity.holder import Identity
from sidecar.security.identity.numbers import rotations, troubles
from sidecar.security.identity.shown import certs, status
from sidecar.security.identity.workload_api import agent as agent_module
from tests.support.certificates import DAY, HOUR, NOW, Authority
from tests.support.fake_agent import (
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    UNAVAILABLE,
    FakeAgent,
    framed,
    identity,
    response,
)

ROOT = Authority("shop root")
ISSUER = ROOT.authority("shop issuer")
A = "spiffe://shop/a"
LONG_S = 120.0


def fresh(name: str = A, **times: float) -> Any:
    """An identity that nobody had before."""
    return identity(ISSUER.workload(name, **times), ROOT)


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for between two tries."""
    monkeypatch.setattr(agent_module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(agent_module, "MAX_PAUSE_S", 0.05)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    """That is not there yet."""
    made = FakeAgent(tmp_path / "agent.sock")
    yield made
    made.stop()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Ask until it is true."""
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


@asynccontextmanager
async def listening(agent: FakeAgent, trust_domain: str = "", settle_s: float = LONG_S) -> AsyncIterator[Identity]:
    """Who listens to it; afterwards nothing of it is left."""
    before = asyncio.all_tasks()
    held = Identity()
    held.configure(WorkloadApiIdentity(agent.address, trust_domain), trust_domain)
    await held.settle(settle_s)
    try:
        yield held
    finally:
        held.close()
        await until(lambda: asyncio.all_tasks() <= before, "no task to be left")
        gc.collect()  # a socket that nobody closed warns, which is an error here
        await until(lambda: not agent.connections, "the agent to see the end")


def run(test: Coroutine[Any, Any, None]) -> None:
    """On a loop of its own."""
    with asyncio.Runner() as runner:
        runner.run(test)


def why(held: Identity) -> str:
    """What is wrong."""
    return held.workload.trouble.text if held.workload.trouble is not None else ""


@pytest.mark.parametrize("is_unix", [True, False], ids=["unix", "tcp"])
def test_the_first_identity_is_held_and_each_that_follows(tmp_path: Path, is_unix: bool) -> None:
    """By push; sides get contexts, and the page says from where and what else there was."""

    async def test(agent: FakeAgent) -> None:
        agent.give(fresh(), fresh("spiffe://shop/b"))
        async with listening(agent) as held:
            server = held.server_side("in", MeshTls("permissive"))
            assert held.credentials is not None
            assert (held.credentials.identity, server.version, held.why_not_ready()) == (A, 1, None)
            shown: Any = certs(held, NOW)["identity"]
            assert shown["source"] == {"from": "workload_api", "address": agent.address}
            assert (shown["agent"], shown["others"]) == ({"state": "following", "connections": 1}, ["spiffe://shop/b"])
            agent.give(fresh("spiffe://shop/c"))
            await until(lambda: server.version == 2, "another")
            assert held.credentials.identity == "spiffe://shop/c"
            assert rotations(held)["identity", "replaced"] == 1
            assert agent.accepted == 1
            assert agent.asked[0]["workload.spiffe.io"] == "true"

    with FakeAgent(tmp_path / "agent.sock" if is_unix else None) as agent:
        run(test(agent))


def test_of_several_the_wanted_trust_domain_is_taken(agent: FakeAgent) -> None:
    """And one that is of none of it is refused, whatever the agent calls it."""

    async def test() -> None:
        agent.give(fresh(), fresh("spiffe://other/b"))
        async with listening(agent, "other") as held:
            assert held.credentials is not None
            assert held.credentials.identity == "spiffe://other/b"
            agent.give(fresh())
            await until(lambda: "expected an identity of the trust domain other" in why(held), "a refusal")
            agent.give(identity(ISSUER.workload(A), ROOT, spiffe_id="spiffe://other/lie"))
            await until(lambda: held.workload.refused >= 1, "a refusal")
            assert held.credentials.identity == "spiffe://other/b"

    agent.start()
    run(test())


def test_the_log_names_who_we_are(agent: FakeAgent, caplog: pytest.LogCaptureFixture) -> None:
    """Also of a certificate whose subject says nothing, as SPIRE's."""
    caplog.set_level(logging.INFO)

    async def test() -> None:
        agent.give(identity(ISSUER.leaf(uris=[A], common_name="O=SPIRE"), ROOT))
        async with listening(agent) as held:
            agent.give(fresh())
            await until(lambda: held.workload.replaced, "another")

    agent.start()
    run(test())
    loaded, replaced = (one.getMessage() for one in caplog.records if one.getMessage().startswith("certificate_"))
    assert f" identity={A} " in loaded
    assert f" certificate={A} " in replaced
    assert "identity=spiffe" not in replaced


def test_what_cannot_be_used_changes_nothing_and_is_told(agent: FakeAgent, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, by metrics, on the page and to the control plane; the connection stays, and what follows is taken."""
    wrong = {
        "malformed": b"\xff" * 20,
        "expired": response(fresh(begins=NOW - 2 * DAY, ends=NOW - HOUR)),
        "untrusted": response(identity(ISSUER.workload(A), Authority("other"))),
        "several_identities": response(identity(ISSUER.workload(A, "spiffe://shop/b"), ROOT)),
    }
    keyless = fresh()
    keyless.x509_svid_key = fresh().x509_svid_key
    wrong["key_mismatch"] = response(keyless)

    async def test() -> None:
        agent.give(fresh())
        async with listening(agent) as held:
            first = held.credentials
            for code, message in wrong.items():
                caplog.clear()
                agent.say(message)
                await until(lambda code=code: held.workload.trouble and held.workload.trouble.code == code, code)
                assert held.credentials is first
                assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["certificate_refused"]
                assert troubles(held) == {("identity",): 1}
                assert status(held, NOW)["trouble"]["code"] == code  # type: ignore[index]
                assert certs(held, NOW)["identity"]["last_error"]["code"] == code  # type: ignore[index]
            assert rotations(held)["identity", "refused"] == len(wrong)
            assert held.why_not_ready() is None
            agent.give(fresh())
            await until(lambda: held.credentials is not first, "one that is right")
            assert (why(held), agent.accepted) == ("", 1)

    agent.start()
    run(test())


def test_an_agent_that_is_not_there_yet_is_waited_for(agent: FakeAgent, tmp_path: Path) -> None:
    """With the reason, which changes with what there is at its path."""

    async def test() -> None:
        async with listening(agent) as held:
            assert why(held) == (
                f"{agent.address}: the agent gives no identity: no such file or directory; is the agent running, and "
                "is its socket mounted here?"
            )
            assert held.why_not_ready() == f"no identity yet: {why(held)}"
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.bind(str(tmp_path / "agent.sock"))
                await until(lambda: "connection refused" in why(held), "the reason")
            agent.give(fresh())
            agent.start()
            await until(lambda: held.why_not_ready() is None, "an identity")
            assert why(held) == ""

    run(test())


def test_an_agent_that_goes_and_comes_back_is_taken_up_again(
    agent: FakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """What is held goes on; with the same identity no context is made anew, with another one is."""

    async def test() -> None:
        agent.give(fresh())
        async with listening(agent) as held:
            server = held.server_side("in", MeshTls("permissive"))
            first = held.credentials
            agent.stop()
            await until(lambda: "no such file" in why(held), "the loss to be told")
            assert (held.credentials, held.why_not_ready()) == (first, None)
            agent.start()
            await until(lambda: not why(held), "the end of the trouble")
            assert (held.credentials, server.version, held.workload.replaced) == (first, 1, 0)
            agent.stop()
            agent.give(fresh())
            agent.start()
            await until(lambda: server.version == 2, "another identity")
            assert agent.listening == 1

    agent.start()
    run(test())


def test_a_change_of_agents_is_no_trouble(agent: FakeAgent, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that ended after it had served is made anew before anything is told."""

    async def test() -> None:
        agent.give(fresh())
        async with listening(agent) as held:
            caplog.set_level(logging.INFO)
            caplog.clear()
            agent.each(lambda stream: stream.connection.transport.abort())
            await until(lambda: agent.accepted == 2 and held.agent and held.agent.state == "following", "another")
            agent.refusal = UNAVAILABLE, "going down"
            agent.each(lambda stream: stream.end(UNAVAILABLE, "going down"))
            agent.refusal = None
            await until(lambda: agent.accepted >= 3 and held.agent and held.agent.state == "following", "another")
            said = {record.getMessage().split(" ")[0] for record in caplog.records}
            assert said <= {"workload_api_lost", "certificate_refused", "certificate_trouble_over"}
            assert "workload_api_lost" in said
            assert (why(held), held.workload.replaced) == ("", 0)

    agent.start()
    run(test())


def test_who_has_no_entry_asks_until_there_is_one(agent: FakeAgent) -> None:
    """And keeps what he has when his entry is gone: it ends by itself."""

    async def test() -> None:
        agent.refuse(PERMISSION_DENIED, "no identity issued")
        async with listening(agent) as held:
            assert "the agent has no identity for this process (PermissionDenied: no identity issued)" in why(held)
            assert f"it runs as user {os.geteuid()}" in (held.why_not_ready() or "")
            await until(lambda: len(agent.asked) > 3, "it to ask again")
            agent.give(fresh())
            await until(lambda: held.credentials, "an identity")
            assert why(held) == ""
            first = held.credentials
            agent.refuse(PERMISSION_DENIED, "no identity issued")
            await until(lambda: "no identity for this process" in why(held), "the reason")
            assert (held.credentials, held.why_not_ready()) == (first, None)
            agent.give(fresh())
            await until(lambda: held.credentials is not first, "another")

    agent.start()
    run(test())


@pytest.mark.parametrize("code", [INVALID_ARGUMENT, 12])
def test_a_refusal_for_good_is_not_asked_again_soon(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """SPIFFE Workload Endpoint, 6: another agent may have come to that address by then, but no hurry makes it."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float, *more: Any) -> None:
        if seconds > 100:
            slept.append(seconds)
            seconds = 0.01
        await sleep(seconds, *more)

    async def test() -> None:
        agent.refuse(code, "so it is")
        async with listening(agent) as held:
            assert "is no agent that serves the SPIFFE Workload API" in why(held)
            await until(lambda: slept, "it to wait")
            agent.give(fresh())
            await until(lambda: held.credentials, "an identity after all")
            assert set(slept) == {agent_module.FINAL_PAUSE_S}

    monkeypatch.setattr(agent_module.asyncio, "sleep", noted)
    agent.start()
    run(test())


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "it does not speak HTTP/2"),
        (b"\0" * 100, "it does not speak HTTP/2"),
    ],
    ids=["http1", "noise"],
)
def test_what_is_no_agent_is_told(agent: FakeAgent, raw: bytes, reason: str) -> None:
    """And asked again: an agent may come."""

    async def test() -> None:
        agent.raw = raw
        async with listening(agent) as held:
            assert reason in why(held)
            agent.raw = None
            agent.give(fresh())
            await until(lambda: held.credentials, "an identity")

    agent.start()
    run(test())


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\0" + (MAX_MESSAGE_BYTES + 1).to_bytes(4), "more than 4194304"),
        (b"\1" + bytes(4), "compressed"),
    ],
    ids=["oversize", "compressed"],
)
def test_a_message_that_is_not_taken_ends_its_connection(agent: FakeAgent, octets: bytes, reason: str) -> None:
    """Nothing is kept of it, and what is held goes on."""

    async def test() -> None:
        agent.give(fresh())
        async with listening(agent) as held:
            first = held.credentials
            agent.message = None
            agent.each(lambda stream: stream.send(octets))
            await until(lambda: reason in why(held), "the reason")
            assert held.credentials is first
            agent.give(fresh())
            await until(lambda: held.credentials is not first, "another")

    agent.start()
    run(test())


def test_a_large_message_comes_in_slow_pieces(agent: FakeAgent) -> None:
    """With as much as is allowed besides what is looked at."""

    async def test() -> None:
        async with listening(agent, settle_s=0.05) as held:
            assert why(held).endswith("the agent has not answered yet")
            await until(lambda: agent.listening == 1, "the call")
            whole = framed(response(fresh(), crl=[bytes(4_000_000)]))
            for start in (0, 1, 3, 7, 2000, 2001, 1_000_000):
                end = {0: 1, 1: 3, 3: 7, 7: 2000, 2000: 2001, 2001: 1_000_000}.get(start, len(whole))
                agent.each(lambda stream, part=whole[start:end]: stream.send(part))
                await asyncio.sleep(0)
            await until(lambda: held.credentials, "an identity")
            assert why(held) == ""

    agent.start()
    run(test())


def test_an_agent_that_stops_within_a_message_is_left(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that never begins; each for its time."""
    monkeypatch.setattr(agent_module, "ANSWER_S", 0.3)

    async def test() -> None:
        agent.is_silent = True
        async with listening(agent) as held:
            assert "it does not answer within 0.3 s" in why(held)
            agent.is_silent = False
            agent.give(fresh())
            await until(lambda: held.credentials, "an identity")
            accepted = agent.accepted
            agent.each(lambda stream: stream.send(b"\0\0\0\1\0half"))
            await until(lambda: agent.accepted > accepted, "another connection")
            assert held.credentials is not None

    agent.start()
    run(test())


def test_a_silent_connection_is_asked_for_a_sign_of_life(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that gives none is left."""
    monkeypatch.setattr(agent_module, "PING_S", 0.05)

    async def test() -> None:
        agent.give(fresh())
        async with listening(agent) as held:
            await until(lambda: agent.pings >= 3, "signs of life")
            assert agent.accepted == 1
            monkeypatch.setattr(agent_module, "PONG_S", 0.2)
            agent.is_silent = True
            await until(lambda: agent.accepted >= 2, "another connection")
            agent.is_silent = False
            assert held.credentials is not None

    agent.start()
    run(test())


def test_another_source_leaves_the_agent(agent: FakeAgent, tmp_path: Path) -> None:
    """A reload may take identities from elsewhere: what is held goes on until then, and nobody listens any more."""
    leaf = ISSUER.workload("spiffe://shop/files")
    leaf.write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(ROOT.pem)
    files = FilesIdentity(Pair(f"{tmp_path}/tls.crt", f"{tmp_path}/tls.key"), f"{tmp_path}/ca.crt")

    async def test() -> None:
        agent.give(fresh())
        async with listening(agent) as held:
            first = held.credentials
            held.configure(files)
            assert (held.agent, held.credentials) == (None, first)
            await until(lambda: not agent.connections, "the end of its connection")
            await held.look()
            assert held.credentials is not None
            assert held.credentials.identity == "spiffe://shop/files"
            held.configure(WorkloadApiIdentity(agent.address))
            await until(lambda: held.credentials and held.credentials.identity == A, "the agent's again")
            held.configure(None)
            assert held.credentials is None

    agent.start()
    run(test())


def test_the_end_while_it_streams_leaves_nothing(agent: FakeAgent) -> None:
    """In every state: connecting, waiting, within a message, following."""

    async def test() -> None:
        async with listening(agent):
            pass
        agent.start()
        async with listening(agent, settle_s=0.01):
            pass
        async with listening(agent, settle_s=0.01):
            await until(lambda: agent.listening == 1, "the call")
            agent.each(lambda stream: stream.send(b"\0\0\0"))
        agent.give(fresh())
        async with listening(agent):
            pass
        held = Identity()
        held.configure(WorkloadApiIdentity(agent.address))
        held.close()
        await until(lambda: len(asyncio.all_tasks()) == 1, "no task")

    run(test())
