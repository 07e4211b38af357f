"""
A worker: the sidecar of `runtime.server`, told by a supervisor what a single process is told by signals and a file.

    supervisor says                      worker does
    load, frame*                         prepares the configuration, with the sockets that were lent; says prepared
    commit | abandon                     puts it in force, or forgets it; says loaded
    refused                              counts a file that no worker was given
    endpoints                            takes them for those of a discovered name
    identity, identity_failed            holds what the control plane has signed, or knows why it has not
    ping                                 says pong, from its event loop; before it certificate, if that is another one
                                         and a control plane is to be told of it
    recent                               says what heads of requests it has kept
    report                               says what its numbers are now (piece*, reported); so it does every second
    ask                                  answers an admin request (answer, and pieces of a stream)
    taken                                stops accepting at once, drains and ends: a successor serves
    left                                 need not wait for `drain.delay`: nobody sends requests any more
    drain, quit, interrupt, reopen, level  as POST /drain, SIGTERM, SIGINT, SIGUSR1 and POST /logging
    release                              outbound may end, too: no worker has inbound work any more, nor is there an app

A worker whose supervisor is gone drains and ends. Signals do nothing here: a terminal and some service managers send
them to every process at once, and it is the supervisor who knows in which order things end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from sidecar.admin.endpoints import Endpoints, Stream, request_of
from sidecar.compile.frames import Header, Kind, kind_of
from sidecar.compile.listener_spec import ListenerSpec, Role
from sidecar.insight.preview.wire import pack
from sidecar.loader import config_loader
from sidecar.loader.load_outcome import LoadOutcome
from sidecar.loader.plan_source import PlanSourceError, PreviewQuestion
from sidecar.process_log import bounded_stderr, configure, event, set_level
from sidecar.redact import Secrets
from sidecar.runtime.inherited import obey_signals
from sidecar.runtime.listeners import InheritedSockets
from sidecar.runtime.loop import run_and_leave
from sidecar.runtime.server import Sidecar
from sidecar.telemetry.access_log.writer import take_turns
from sidecar.telemetry.metrics.exposition import SLICE_S
from sidecar.telemetry.metrics.report import Reporter
from sidecar.upstream.discovery.endpoint_set import EndpointSet, Listed
from sidecar.workers.channel import Channel, Key, Message, receive_sockets

logger = logging.getLogger(__name__)

REPORT_PERIOD_S = 1.0
"""What a worker that is killed has counted since its last report is lost."""
MAX_REPORT_SHARE = 0.02
"""Of the loop's time; with many thousand routes reports are rarer than once a period."""

LAST_WORDS_S = 2.0
"""For the last report; a supervisor that does not take it has worse problems."""

IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


class Lent:
    """Sockets of the supervisor: `InheritedSockets`."""

    is_lent = True

    def __init__(self) -> None:
        self.sockets: dict[Key, socket.socket] = {}

    def take(self, spec: ListenerSpec) -> socket.socket | None:
        """The one for this listener."""
        return self.sockets.pop(spec.key, None)

    def close(self) -> None:
        """Give back what was not taken."""
        for sock in self.sockets.values():
            sock.close()
        self.sockets.clear()


class Gate:
    """
    What stands between the end of inbound and that of outbound, as the app does in `sidecar exec`: the other workers.

    Attributes:
        ended: Nobody needs outbound any more.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.ended = asyncio.Event()
        self.code = 0

    def send(self, number: signal.Signals) -> None:
        """Inbound has come to rest here."""
        self._channel.send("inbound_empty")

    def kill(self) -> None:
        """Nothing to end."""


class Worker(Sidecar):
    """
    One worker.

    Args:
        path: Of the file, for messages; it is never read here.
        sock: To the supervisor.
        lender: Where sockets come from.
    """

    def __init__(
        self,
        path: str,
        env: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
        *,
        sock: socket.socket,
        lender: socket.socket,
    ) -> None:
        self._channel = Channel(self._on_message, self._on_lost)
        self._gate = Gate(self._channel)
        super().__init__(path, env, self, loop, dependent=self._gate)
        self._sock = sock
        self._lender = lender
        self._lent = Lent()
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._verdict: asyncio.Future[str] | None = None
        self._is_first = True
        self._answers: dict[int, Stream] = {}
        self._wants_more: dict[int, asyncio.Event] = {}
        self._reporter = Reporter(self.telemetry.numbers.sections)
        self._one_report = asyncio.Lock()
        self._last_report_s = 0.0
        self._endpoints = Endpoints.everything(self.views)
        self._is_following = False
        self._told_certificate: tuple[object, ...] = ()
        self.reloader.on_installed = self._note_header
        self.reloader.is_guarded = False
        listeners = self.reloader.listeners
        listeners.meet = self._borrow
        listeners.wants = self._is_mine
        listeners.consent = self._wait_for_verdict

    async def live(self) -> int:
        """The whole life; returns the exit code."""
        await self._channel.open(self._sock)
        self._channel.send("hello")
        code = await self.run()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._report()
                self._channel.send("bye", code)
                await self._channel.flushed()
        self._channel.close()
        return code

    # --- `PlanSource` ------------------------------------------------------------------------------------------

    async def frames(self, trigger: str) -> AsyncGenerator[bytes, None]:
        """What the supervisor forwards, verbatim."""
        while True:
            frame = await self._frames.get()
            yield frame
            if kind_of(frame) is Kind.END:
                return

    async def report(self, question: PreviewQuestion) -> dict[str, Any]:
        """Nobody asks a worker: its supervisor has what all have seen."""
        raise PlanSourceError("a worker previews nothing")

    # --- what `Sidecar` asks -----------------------------------------------------------------------------------

    def install_signals(self) -> None:
        """All of them are the supervisor's business."""
        for number in IGNORED:
            self._loop.add_signal_handler(number, lambda: None)
        obey_signals()

    async def on_live(self) -> None:
        """The first configuration is in force."""
        logger.info(event("worker_live", pid=os.getpid()))
        self.spawn(self._report_for_ever(), "report")

    async def load(self, trigger: str) -> LoadOutcome:
        """What the supervisor has sent, or is about to send."""
        outcome = await self.reloader.load(trigger)
        self._tell_certificate()
        self._channel.send("loaded", outcome.is_ok, outcome.lines, self._facts() if outcome.is_ok else {})
        return outcome

    def on_refused_start(self, outcome: LoadOutcome) -> None:
        """The supervisor says why, once for all."""

    def _why_not_ready(self) -> str:
        """What keeps this one from being of use though it has a configuration; empty if nothing does."""
        return self.reloader.certificates.why_not_ready() or ""

    def _note_header(self, header: Header, frames: Sequence[bytes]) -> None:
        """How the app is, is asked once for all, by the supervisor, and so is the control plane."""
        self._is_following = header.control is not None
        self.capture.look()

    def _tell_certificate(self) -> None:
        """What the supervisor reports to a control plane of a certificate that this worker has by itself."""
        report = self.identity_report() if self._is_following else None
        told = tuple(getattr(report, name) for name in report.__slots__) if report is not None else ()
        if told != self._told_certificate:
            self._told_certificate = told
            self._channel.send("certificate", *told)

    def _facts(self) -> dict[str, object]:
        live = self.reloader.live
        assert live is not None
        return {
            "resource": dict(self.telemetry.numbers.resource),
            "drain_timeout_s": live.plan.drain_timeout_s,
            "drain_delay_s": live.plan.drain_delay_s,
        }

    # --- loading -----------------------------------------------------------------------------------------------

    async def _borrow(self, specs: Sequence[ListenerSpec]) -> InheritedSockets:
        return self._lent

    def _is_mine(self, spec: ListenerSpec) -> bool:
        """Metrics and admin are the supervisor's, and what it did not lend is closed already."""
        if spec.role in (Role.METRICS, Role.ADMIN):
            return False
        listeners = self.reloader.listeners.current
        has_address = any(key[1] == spec.address for key in listeners)
        return spec.key in self._lent.sockets or spec.key in listeners or has_address

    async def _wait_for_verdict(self) -> None:
        self._verdict = self._loop.create_future()
        self._channel.send("prepared", self._why_not_ready())
        try:
            refusal = await self._verdict
        finally:
            self._verdict = None
        if refusal:
            raise PlanSourceError(refusal)

    # --- messages ----------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        name, *values = message
        getattr(self, f"_on_{name}")(*values)

    def _on_lost(self) -> None:
        logger.error(event("supervisor_lost", state=self.state))
        self._refuse_pending("the supervisor is gone")
        self._gate.ended.set()
        self.quit()
        if self.state == "INITIALIZING":
            self.interrupt()

    def _on_load(self, trigger: str, times: int) -> None:
        self._lent.close()
        self._lent.sockets = receive_sockets(self._lender, times)
        self.reloader.listeners.meet = self._borrow
        if not self._is_first:
            self.spawn(self.load(trigger), "load")
        self._is_first = False

    def _on_frame(self, frame: bytes) -> None:
        self._frames.put_nowait(frame)

    def _on_commit(self) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result("")

    def _on_abandon(self, why: str) -> None:
        self._refuse_pending(why)

    def _refuse_pending(self, why: str) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(why)

    def _on_refused(self) -> None:
        """A file was refused before any worker had it; other meshes' names for that are each worker's own."""
        self.telemetry.config_refused()

    def _on_endpoints(self, name: str, listed: Listed) -> None:
        self.endpoint_sink.tell(name, EndpointSet.of(listed))

    def _on_identity(self, *material: Any) -> None:
        from sidecar.security.identity.certificates.credentials import Material

        self.spawn(self.offered.offer(Material(*material)), "identity")

    def _on_identity_failed(self, why: str) -> None:
        self.offered.source_failed(why)

    def _on_ping(self) -> None:
        self._tell_certificate()
        self._channel.send("pong", self._why_not_ready())

    def _on_taken(self) -> None:
        """A successor has the sockets, with all that waits in their backlogs."""
        for opened in self.reloader.listeners.current.values():
            opened.disown()
        super()._on_taken()

    def _on_report(self, number: int) -> None:
        self.spawn(self._report(number), "report")

    def _on_recent(self, number: int) -> None:
        """Some hundred KB by default, which `marshal` copies in less than a millisecond."""
        self._channel.send("recent", number, pack(self.reloader.recent))

    def _on_drain(self) -> None:
        self.drain()

    def _on_left(self) -> None:
        """Nobody sends requests to this sidecar any more."""
        self.end_delay()

    def _on_quit(self) -> None:
        self.quit()

    def _on_interrupt(self) -> None:
        self._gate.ended.set()
        self.interrupt()

    def _on_release(self) -> None:
        self._gate.ended.set()

    def _on_reopen(self) -> None:
        self.telemetry.reopen()

    def _on_level(self, level: str) -> None:
        set_level(level)

    # --- numbers -----------------------------------------------------------------------------------------------

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(max(REPORT_PERIOD_S, self._last_report_s / MAX_REPORT_SHARE))
            await self._report()

    async def _report(self, number: int = 0) -> None:
        """Tell what changed, in slices, and whom it is for; one report at a time."""
        async with self._one_report:
            took_s = 0.0
            began = time.perf_counter()
            for piece in self._reporter.pieces():
                if piece is not None:
                    self._channel.send("piece", piece)
                now = time.perf_counter()
                if now - began >= SLICE_S:
                    took_s += now - began
                    await asyncio.sleep(0)
                    await self._channel.writable()
                    began = time.perf_counter()
            self._last_report_s = took_s + time.perf_counter() - began
            self._channel.send("reported", number)

    # --- admin -------------------------------------------------------------------------------------------------

    def _on_ask(self, number: int, method: str, target: str, accept: str) -> None:
        self.spawn(self._answer(number, method, target, accept), "answer")

    async def _answer(self, number: int, method: str, target: str, accept: str) -> None:
        reply = await self._endpoints.answer(request_of(method, target, False, accept))
        headers = [list(pair) for pair in reply.headers]
        is_stream = reply.stream is not None
        self._channel.send("answer", number, int(reply.status), reply.content_type, headers, reply.body, is_stream)
        if reply.stream is None:
            return
        stream = self._answers[number] = reply.stream
        wants_more = self._wants_more[number] = asyncio.Event()
        try:
            # One piece ahead: the tap itself leaves out, and counts, what its reader cannot take.
            while data := await stream.next():
                self._channel.send("stream", number, data)
                await wants_more.wait()
                wants_more.clear()
            self._channel.send("stream", number, b"")
        finally:
            self._forget(number)

    def _on_more(self, number: int) -> None:
        if number in self._wants_more:
            self._wants_more[number].set()

    def _on_finish(self, number: int) -> None:
        if number in self._answers:
            self._answers[number].finish()
            self._wants_more[number].set()

    def _on_close(self, number: int) -> None:
        stream = self._answers.get(number)
        if stream is not None:
            stream.finish()
            self._wants_more[number].set()
            stream.close()

    def _forget(self, number: int) -> None:
        self._wants_more.pop(number, None)
        stream = self._answers.pop(number, None)
        if stream is not None:
            stream.close()


def instance_of(env: Mapping[str, str], index: int) -> dict[str, str]:
    """
    The worker's environment: an instance id that names the whole sidecar is made this worker's own.

    "It is recommended each division (e.g. a worker thread in unicorn) to have its own instance.id" (OpenTelemetry's
    conventions on `service.instance.id`).
    """
    attributes = env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not attributes:
        return dict(env)
    pairs = attributes.split(",")
    is_instance = [pair.partition("=")[0].strip() == "service.instance.id" for pair in pairs]
    named = [f"{pair.rstrip()}-{index}" if is_it else pair for pair, is_it in zip(pairs, is_instance, strict=True)]
    return {**env, "OTEL_RESOURCE_ATTRIBUTES": ",".join(named)}


def main(arguments: Sequence[str]) -> NoReturn:
    """
    Be a worker; only a supervisor calls this. Never returns.

    Args:
        arguments: Index, descriptors of the channel, the sockets' way and the access log's lock, log level, file.
    """
    index, channel, lender, turns = map(int, arguments[:4])
    level, path = arguments[4:]
    take_turns(turns)
    bounded_stderr()
    configure(level, f"worker={index}", Secrets.of(os.environ))
    sock, lending = socket.socket(fileno=channel), socket.socket(fileno=lender)
    lending.setblocking(False)

    config_loader.logger.addFilter(_is_our_own)

    async def live() -> int:
        loop = asyncio.get_running_loop()
        return await Worker(path, instance_of(os.environ, index), loop, sock=sock, lender=lending).live()

    run_and_leave(live)


def _is_our_own(record: logging.LogRecord) -> bool:
    """What became of a configuration is told by the supervisor, once for all workers."""
    return not record.getMessage().startswith(("config_load", "config_refused "))
