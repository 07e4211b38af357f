"""The link over real sockets: a control plane that comes and goes, relays that do what networks do, and TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvloop

from sidecar.link import session
from sidecar.link.client import Link
from sidecar.link.interfaces import LinkSettings
from sidecar.link.messages import MAX_LINE_BYTES, Ask, Config, EndpointEntry, Endpoints, Move, Ping, endpoints_version
from sidecar.link.own_address import fetch_metadata
from sidecar.link.report import Edge
from sidecar.link.reports import reporter
from sidecar.link.transport import rota
from tests.support.fake_control import FakeControl, Refusal
from tests.support.peers import require
from tests.support.relay import Relay
from tests.support.wait import refusing_port
from tests.unit.link.fakes import FakeProcess

FILE = Config(7, "ab" * 16, "service: shop\n" + "# ü\n" * 20_000)
NEXT = Config(8, "cd" * 16, "service: shop\n")
ONE, TWO = EndpointEntry("10.0.0.1:15000"), EndpointEntry("10.0.0.2:15000", 2.0, "a")


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried soon: these tests are about what happens, `tests/unit/link` about when."""
    monkeypatch.setattr(rota, "BASE_S", 0.02)
    monkeypatch.setattr(rota, "CAP_S", 0.2)
    monkeypatch.setattr(session, "MOVE_JITTER_S", 0.05)


class Linked:
    """A link, and the process that it is of."""

    def __init__(self, link: Link, process: FakeProcess) -> None:
        self.link = link
        self.process = process

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it; the limit is for what never comes."""
        for _ in range(3000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"waited in vain for {what}; {self.link.state}")

    async def connected(self) -> None:
        """Wait for lines."""
        await self.until(lambda: self.link.state.is_connected, "lines")


@asynccontextmanager
async def linked(*addresses: str, process: FakeProcess | None = None, **settings: Any) -> AsyncIterator[Linked]:
    """A link that runs."""
    process = process or FakeProcess()
    known = settings.pop("known", None)
    link = Link(LinkSettings(addresses, **settings), process, process, known=known, environment={})
    task = asyncio.create_task(link.run())
    try:
        yield Linked(link, process)
        assert not task.done()
    finally:
        await link.close()
        await task


def run(main: Any) -> None:
    # The loop of the process: `runtime.loop`.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, 60))


def test_a_file_and_endpoints_come_and_changes_follow() -> None:
    """The first stream tells all, then only what changes; reports say who this is."""

    async def main(control: FakeControl) -> None:
        control.files["shop"] = FILE
        control.discover("b", ONE)
        async with linked(control.url) as it:
            process = it.process
            await it.until(lambda: process.configs and process.endpoints, "the first lines")
            control.push("shop", NEXT)
            control.discover("b", ONE, TWO)
            control.discover("b", TWO)
            await it.until(lambda: len(process.configs) == 2 and len(process.endpoints) == 3, "the changes")
            assert process.configs == [FILE, NEXT]
            assert [str(address) for address in process.endpoints[-1][2].weights] == ["10.0.0.2:15000"]
            await it.until(
                lambda: control.reports and control.reports[-1].endpoints == {"b": endpoints_version([TWO])}, "a report"
            )
            report = control.reports[-1]
            assert (report.service, report.instance, report.address) == ("shop", "shop-1", "127.0.0.1")
            assert it.link.state.own_address_why == "the route to the control plane"
            assert len(control.watches) == 1

    with FakeControl() as control:
        run(main(control))


def test_who_is_current_is_sent_nothing_after_a_restart() -> None:
    """Not one octet of the file or the endpoints: a line that says so."""

    async def main(control: FakeControl) -> None:
        control.files["shop"] = FILE
        control.discover("b", ONE, TWO)
        async with linked(control.url) as it:
            await it.until(lambda: it.process.configs and it.process.endpoints, "the first lines")
            control.stop()
            await it.until(lambda: not it.link.state.is_connected and it.link.state.failures > 2, "failures")
            assert it.link.state.why == "no connection: connection refused"
            control.start()
            await it.until(lambda: it.process.currents, "the second stream")
            assert it.process.configs == [FILE]
            assert len(it.process.endpoints) == 1
            assert control.streams[-1].octets < 120
            await it.until(lambda: control.reports and control.reports[-1].endpoints, "a report")

    with FakeControl() as control:
        run(main(control))


def test_endpoints_that_do_not_fit_are_told_whole() -> None:
    """Of that upstream only; the stream is begun anew."""

    async def main(control: FakeControl) -> None:
        control.files["shop"] = FILE
        control.discover("b", ONE)
        control.discover("c", TWO)
        async with linked(control.url) as it:
            await it.until(lambda: len(it.process.endpoints) == 2, "the first lines")
            control.say(Endpoints("b", "0" * 16, "f" * 16, (), ("10.0.0.1:15000",)))
            await it.until(lambda: len(control.watches) == 2 and len(it.process.endpoints) == 3, "the second stream")
            assert set(control.watches[1].endpoints) == {"c"}
            assert it.process.endpoints[2][0] == "b"
            assert it.process.configs == [FILE]

    with FakeControl() as control:
        run(main(control))


@pytest.mark.parametrize("nonsense", [b"<html>busy</html>\n", b'{"type":"config","revision":-1}\n', b"\xff\xfe\x00\n"])
def test_nonsense_ends_the_stream_and_nothing_else(nonsense: bytes) -> None:
    """What was said before holds; the next stream is as good as any."""

    async def main(control: FakeControl) -> None:
        control.files["shop"] = FILE
        async with linked(control.url) as it:
            await it.until(lambda: it.process.configs, "the file")
            control.say(nonsense)
            await it.until(lambda: len(control.watches) == 2 and it.link.state.is_connected, "the second stream")
            assert it.process.configs == [FILE]
            assert it.process.absents == []

    with FakeControl() as control:
        run(main(control))


def test_an_enormous_line_is_not_kept() -> None:
    """It is refused as soon as it is too long, not when it ends."""

    async def main(control: FakeControl) -> None:
        control.files["shop"] = NEXT
        async with linked(control.url) as it:
            await it.until(lambda: it.process.configs, "the file")
            stream = control.live()[0]
            for _ in range(MAX_LINE_BYTES // (1 << 20) + 2):
                stream.say(b"x" * (1 << 20))
            await it.until(lambda: len(control.watches) == 2 and it.link.state.is_connected, "the second stream")
            assert any("expected a line of at most" in state.why for state in it.process.states)

    with FakeControl() as control:
        run(main(control))


def test_a_wrong_token_is_told_and_a_new_one_followed(tmp_path: Path) -> None:
    """Without a restart; a file that is away for a moment does no harm."""
    file = tmp_path / "token"

    async def main(control: FakeControl) -> None:
        control.files["shop"] = NEXT
        async with linked(control.url, token_file=str(file)) as it:
            await it.until(lambda: it.link.state.failures, "a failure")
            assert it.link.state.why == f"token_file {file}: no such file or directory"
            file.write_text("wrong\n")
            await it.until(lambda: it.link.state.why.startswith("status"), "a refusal")
            assert it.link.state.why == (
                "status 401 Unauthorized: the token is missing or wrong: expected another token"
            )
            file.write_text("  right\n")
            await it.connected()
            assert control.authorizations[-1] == "Bearer right"
            file.unlink()
            control.live()[0].cut()
            await it.until(lambda: len(control.watches) == 2, "the second stream")

    with FakeControl(token="right") as control:
        run(main(control))


def test_another_address_is_taken_when_one_is_gone() -> None:
    """And reports go there, too."""

    async def main(one: FakeControl, two: FakeControl) -> None:
        for control in (one, two):
            control.files["shop"] = NEXT
        async with linked(one.url, f"http://127.0.0.1:{refusing_port()}", two.url) as it:
            await it.until(lambda: one.reports or two.reports, "a report")
            first, second = (one, two) if one.live() else (two, one)
            assert it.link.state.address == first.url
            first.stop()
            await it.until(lambda: second.reports, "a report elsewhere")
            assert it.link.state.address == second.url
            assert it.process.configs == [NEXT]

    with FakeControl() as one, FakeControl() as two:
        run(main(one, two))


def test_a_server_that_goes_is_left_for_another() -> None:
    """It says so, and is left before it closes."""

    async def main(one: FakeControl, two: FakeControl) -> None:
        async with linked(one.url, two.url) as it:
            await it.connected()
            first, second = (one, two) if one.live() else (two, one)
            first.say(Move())
            await it.until(lambda: second.live() and it.link.state.address == second.url, "a stream elsewhere")
            await it.until(lambda: it.link.state.is_connected, "lines")

    with FakeControl() as one, FakeControl() as two:
        run(main(one, two))


def test_a_relay_that_closes_is_passed_again() -> None:
    """However often."""

    async def main(control: FakeControl, relay: Relay) -> None:
        control.files["shop"] = FILE
        async with linked(relay.url) as it:
            for streams in range(1, 5):
                await it.until(lambda n=streams: len(control.watches) == n and it.link.state.is_connected, "lines")
                relay.cut()
            await it.until(lambda: len(control.watches) == 5, "lines")
            assert it.process.configs == [FILE]

    with FakeControl() as control, Relay(control.port) as relay:
        run(main(control, relay))


def test_a_stream_that_was_cut_without_a_word_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half open: our side believes in it until nothing has come for too long; then there is a new one."""
    monkeypatch.setattr(session, "SILENT_S", 0.6)

    async def main(control: FakeControl, relay: Relay) -> None:
        control.files["shop"] = FILE
        control.ping_period_s = 0.1
        async with linked(relay.url, head_timeout_s=0.5) as it:
            await it.until(lambda: it.link.state.revision == 7, "a ping")
            await asyncio.sleep(0.3)
            assert len(control.watches) == 1
            relay.mode = "stall"
            control.push("shop", NEXT)
            await it.until(lambda: not it.link.state.is_connected, "the end")
            await it.until(lambda: it.link.state.why == "no answer within 0.5 s", "what a stalled request says")
            relay.mode = "pass"
            await it.until(lambda: it.process.configs == [FILE, NEXT], "what was missed")
            assert any(state.why == "nothing came for 0.6 s" for state in it.process.states)

    with FakeControl() as control, Relay(control.port) as relay:
        run(main(control, relay))


def test_polls_pass_a_relay_that_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """By themselves; changes, questions and reports go on as with a stream."""
    monkeypatch.setattr(session, "FIRST_LINE_S", 0.3)
    monkeypatch.setattr(session, "POLL_GAP_S", 0.05)

    async def main(control: FakeControl, relay: Relay) -> None:
        control.files["shop"] = FILE
        async with linked(relay.url) as it:
            await it.until(lambda: it.link.state.is_polling and it.process.configs, "the file")
            control.push("shop", NEXT)
            await it.until(lambda: it.process.configs == [FILE, NEXT], "a change")
            control.discover("b", ONE)
            await it.until(lambda: it.process.endpoints, "endpoints")
            await it.until(lambda: control.reports, "a report")
            assert it.link.state.is_connected
            assert control.polls[0] == ("", 200)
            assert control.watches[-1].config == NEXT.hash
            assert all(seen for seen, _ in control.polls[1:])

    with FakeControl() as control, Relay(control.port) as relay:
        relay.mode = "buffer"
        run(main(control, relay))


def test_polls_pass_a_real_proxy_that_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nginx as it is configured by default, which passes a stream on only when a buffer is full."""
    monkeypatch.setattr(session, "FIRST_LINE_S", 0.5)
    monkeypatch.setattr(session, "SILENT_S", 0.5)
    monkeypatch.setattr(session, "POLL_GAP_S", 0.05)
    program = require("nginx")

    async def main(control: FakeControl, port: int) -> None:
        control.files["shop"] = NEXT
        async with linked(f"http://127.0.0.1:{port}/control") as it:
            await it.until(lambda: it.process.configs and it.link.state.is_connected, "the file")
            control.push("shop", FILE)
            await it.until(lambda: it.process.configs[-1] == FILE, "a change")
            await it.until(lambda: control.reports, "a report")

    from tests.support.wait import eventually, free_port

    port = free_port()
    with FakeControl() as control:
        (tmp_path / "nginx.conf").write_text(
            textwrap.dedent(f"""
                worker_processes 1; daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
                events {{ worker_connections 64; }}
                http {{
                    access_log off; client_body_temp_path {tmp_path}/1; proxy_temp_path {tmp_path}/2;
                    fastcgi_temp_path {tmp_path}/3; uwsgi_temp_path {tmp_path}/4; scgi_temp_path {tmp_path}/5;
                    server {{
                        listen 127.0.0.1:{port};
                        location /control/ {{ proxy_pass http://127.0.0.1:{control.port}/; }}
                    }}
                }}
            """)
        )
        process = subprocess.Popen([program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
        try:
            eventually(lambda: is_open(port), "nginx")
            run(main(control, port))
        finally:
            process.terminate()
            process.wait(15)


def is_open(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_reports_go_over_one_connection_that_is_kept() -> None:
    """And over a new one when the server has closed it, without a failure."""

    async def main(control: FakeControl, relay: Relay) -> None:
        async with linked(relay.url) as it:
            await it.until(lambda: len(control.reports) == 1, "a report")
            for count in (2, 3):
                it.link.changed()
                await it.until(lambda n=count: len(control.reports) >= n, "another")
            assert relay.accepted == 2

    with FakeControl() as control, Relay(control.port) as relay:
        run(main(control, relay))


def test_counts_arrive_once_whatever_becomes_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that will pass keeps them; they come with the first report that is taken."""
    monkeypatch.setattr(reporter, "GAP_S", 0.05)

    async def main(control: FakeControl) -> None:
        process = FakeProcess(counted=[Edge("outbound", "b", "r", 3, {"UH": 3})])
        control.refusals["/v1/report"] = Refusal(503, times=2)
        async with linked(control.url, process=process) as it:
            await it.until(lambda: any(report.edges for report in control.reports), "the counts")
            it.link.changed()
            await it.until(lambda: len(control.reports) > 1, "another report")
        assert [edge.requests for report in control.reports for edge in report.edges] == [3]
        numbers = [report.seq for report in control.reports]
        assert numbers == sorted(set(numbers))

    with FakeControl() as control:
        run(main(control))


def test_questions_are_answered_beside_the_stream() -> None:
    """One that takes long holds up neither lines nor other answers."""

    async def main(control: FakeControl) -> None:
        slow = asyncio.Event()

        class Process(FakeProcess):
            async def answer(self, ask: Ask) -> dict[str, object] | None:
                if ask.kind == "slow":
                    await slow.wait()
                return None if ask.kind == "new" else {"kind": ask.kind}

        async with linked(control.url, process=Process()) as it:
            await it.connected()
            for number, kind in enumerate(("slow", "explain", "new")):
                control.say(Ask(str(number), kind))
            control.say(Ping(12))
            await it.until(lambda: len(control.answers) == 2 and it.link.state.revision == 12, "two answers")
            slow.set()
            await it.until(lambda: len(control.answers) == 3, "the slow one")
            assert sorted(control.answers, key=lambda answer: answer["id"]) == [
                {"id": "0", "answer": {"kind": "slow"}},
                {"id": "1", "answer": {"kind": "explain"}},
                {"id": "2", "error": "unsupported"},
            ]

    with FakeControl() as control:
        run(main(control))


def test_goodbye_is_answered_by_the_stream_or_at_once() -> None:
    """Or not at all, and then given up."""

    async def main(control: FakeControl) -> None:
        async with linked(control.url) as it:
            await it.connected()
            assert not await it.link.goodbye(0.2)
            control.says_left = True
            assert await it.link.goodbye(30)
            assert control.reports[-1].is_goodbye
        control.says_left, control.answers_left = False, True
        async with linked(control.url) as it:
            await it.connected()
            assert await it.link.goodbye(30)

    with FakeControl() as control:
        run(main(control))


def certificate(directory: Path, name: str) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    require_openssl()
    paths = str(directory / f"{name}.pem"), str(directory / f"{name}.key")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-keyout", paths[1], "-out", paths[0], "-subj", f"/CN={name}",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


def require_openssl() -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")


def test_https_is_trusted_by_a_file_that_is_followed(tmp_path: Path) -> None:
    """A certificate that is not trusted is told as such; when the file is replaced, the next attempt trusts it."""
    right, other = certificate(tmp_path, "right"), certificate(tmp_path, "other")
    trust = tmp_path / "trust.pem"

    async def main(control: FakeControl) -> None:
        control.files["shop"] = FILE
        async with linked(control.url, trust_file=str(trust)) as it:
            await it.until(lambda: it.link.state.failures, "a failure")
            assert it.link.state.why == f"trust_file {trust}: no such file or directory"
            shutil.copy(other[0], trust)
            await it.until(lambda: "not trusted" in it.link.state.why, "a refusal")
            assert it.link.state.why.startswith("its certificate is not trusted: self")
            shutil.copy(right[0], trust)
            await it.until(lambda: it.process.configs == [FILE], "the file")
            await it.until(lambda: control.reports, "a report")
        async with linked(control.url) as it:
            await it.until(lambda: "not trusted" in it.link.state.why, "a refusal by the system's roots")

    with FakeControl(certificate=right) as control:
        run(main(control))


def test_what_is_no_http_is_told() -> None:
    """An address that leads to something else."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)  # or closing would reset the connection, and what was written be lost
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with linked(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as it:
            await it.until(lambda: it.link.state.failures > 1, "failures")
            assert "illegal status line" in it.link.state.why
        async with linked(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as it:
            await it.until(lambda: it.link.state.failures > 1, "failures")
            assert "tls" in it.link.state.why.lower()
        async with linked("http://no.such.name.invalid:1") as it:
            # The name server is the machine's own, and may take longer than a connection may at first.
            why = "the name no.such.name.invalid has no address"
            await it.until(lambda: it.link.state.why.startswith(why), why)
        server.close()
        await server.wait_closed()

    run(main())


def test_metadata_of_ecs_are_asked_for() -> None:
    """By their address, without a token."""

    async def main() -> None:
        seen: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            body = json.dumps({"Networks": []}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        assert await fetch_metadata(f"http://127.0.0.1:{port}/v4/abc") == b'{"Networks": []}'
        assert seen[0].startswith(b"GET /v4/abc HTTP/1.1\r\n")
        assert b"authorization" not in seen[0].lower()
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.long
@pytest.mark.parametrize("form", ["stream", "poll"])
def test_whatever_happens_all_is_known_in_the_end(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Cuts, stalls, restarts and nonsense in any order, with changes and requests meanwhile: in the end the file and the
    endpoints are the last ones, every count has arrived once, and nothing was ever taken back.
    """
    monkeypatch.setattr(session, "SILENT_S", 0.4)
    monkeypatch.setattr(session, "POLL_GAP_S", 0.02)
    monkeypatch.setattr(session, "POLL_WAIT_S", 0.3)
    monkeypatch.setattr(reporter, "GAP_S", 0.05)
    monkeypatch.setattr(rota, "MAX_RETRY_AFTER_S", 0.1)
    chance = Random(7)

    async def main(control: FakeControl, relay: Relay) -> None:
        process = FakeProcess()
        counted = 0
        control.ping_period_s = 0.1
        acts = ["cut", "stall", "pass", "pass", "restart", "push", "discover", "discover", "nonsense", "busy"]
        async with linked(relay.url, process=process, form=form, head_timeout_s=0.4) as it:
            for number in range(150):
                match chance.choice(acts):
                    case "cut":
                        relay.cut()
                    case "restart":
                        control.stop()
                        await asyncio.sleep(0.02)
                        control.start()
                    case "push":
                        control.push("shop", Config(number, f"{number:032x}", f"# {number}"))
                    case "discover":
                        entries = [
                            EndpointEntry(f"10.0.0.{chance.randrange(9)}:80") for _ in range(chance.randrange(4))
                        ]
                        control.discover(chance.choice("ab"), *entries)
                    case "nonsense":
                        control.say(b"?\n")
                    case "busy":
                        control.refusals["/v1/report"] = Refusal(503, headers={"retry-after": "1"}, times=1)
                        control.refusals["/v1/watch"] = Refusal(429, headers={"retry-after": "1"}, times=1)
                    case mode:
                        relay.mode = "stall" if mode == "stall" else "pass"
                process.counted.append(Edge("outbound", "b", chance.choice("rs"), number))
                counted += number
                it.link.changed()
                await asyncio.sleep(chance.random() * 0.06)
            relay.mode = "pass"
            control.push("shop", NEXT)
            control.discover("a", ONE)
            control.discover("b", ONE, TWO)

            def is_known() -> bool:
                it.link.changed()
                versions = {name: endpoints_version(known.values()) for name, known in control.endpoints.items()}
                latest = {upstream: version for upstream, version, _ in process.endpoints}
                once = {report.seq: report.edges for report in reversed(control.reports)}
                total = sum(edge.requests for edges in once.values() for edge in edges)
                return process.configs[-1:] == [NEXT] and latest == versions and total == counted

            await it.until(is_known, "everything")

    with FakeControl() as control, Relay(control.port) as relay:
        run(main(control, relay))


def test_a_link_that_is_cancelled_leaves_nothing_behind() -> None:
    """No task, no connection."""

    async def main(control: FakeControl) -> None:
        before = asyncio.all_tasks()
        process = FakeProcess()
        link = Link(LinkSettings((control.url,)), process, process, environment={})
        task = asyncio.create_task(link.run())
        it = Linked(link, process)
        await it.until(lambda: control.reports, "a report")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before
        await it.until(lambda: not control._connections, "the end of all connections")

    with FakeControl() as control:
        control.ping_period_s = 0.05  # its writing is how it notices
        run(main(control))
