"""
What a sidecar runs that follows a control plane, from its start to its goodbye. *Cold.*

    start   last good, from disk  --refused, or none-->  what is pushed within FIRST_PUSH_S  --nothing-->  bootstrap
            --nothing-->  it waits: admin and metrics answer, inbound and outbound are closed
    then    what is pushed: the newest wins, one at a time; refused, what runs goes on, and why is reported

Silence changes nothing. A local file that changes is judged with the pushed one in force; one that was refused is tried
again when the local file has changed. Who this is and what is known goes from process to process in a takeover.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, cast

from sidecar import __version__
from sidecar.compile.frames import ControlSettings, Header
from sidecar.link.client import Link
from sidecar.link.interfaces import Form, LinkSettings, LinkState
from sidecar.link.known_endpoints import endpoint_set
from sidecar.link.messages import Ask, Config, Current, EndpointEntry, Watch
from sidecar.link.own_address import instance_name
from sidecar.link.report import Counted, Health, IdentityReport, Port, Refused, Running
from sidecar.loader.load_outcome import LoadOutcome, shown_time
from sidecar.loader.plan_source import MeshRequest, Pushed
from sidecar.net.tls.settings import ControlIdentity
from sidecar.process_log import event
from sidecar.runtime.insight.answering import Told, answered
from sidecar.runtime.mesh.app_watch import AppWatch
from sidecar.runtime.mesh.candidate import PUSHED, Candidate, read_hand_over, refused_by, write_hand_over
from sidecar.runtime.mesh.kept_identity import KeptIdentity
from sidecar.runtime.mesh.last_good import LastGood, Memory
from sidecar.runtime.mesh.state_directory import choose
from sidecar.telemetry.metrics.control import ControlNumbers
from sidecar.upstream.discovery.endpoint_set import EndpointSet
from sidecar.upstream.discovery.endpoint_sink import EndpointSink

if TYPE_CHECKING:
    from sidecar.runtime.mesh.identity import MeshIdentity

logger = logging.getLogger(__name__)

FIRST_PUSH_S: Final = 2.0
"""How long a control plane is waited for before a bootstrap file is taken."""
SETTLE_S: Final = 15.0
"""How long a successor waits for an identity if its predecessor had none, before it serves without."""
LANGUAGE: Final = 5
"""Newest form of the file that this release understands."""


class Host(Protocol):
    """What this needs of the process: `server.Sidecar`, or `workers.supervisor.Supervisor`."""

    app_watch: AppWatch
    endpoint_sink: EndpointSink

    @property
    def views(self) -> Told:
        """What the process says of itself."""
        ...

    async def load(self, trigger: str) -> LoadOutcome:
        """Put the configuration in force as `Follower.request` says it, if it is good."""
        ...

    def identity_report(self) -> IdentityReport | None:
        """What is held of an identity that is not from the control plane; None for none."""
        ...

    async def read_edges(self) -> Counted:
        """What was counted since the last call."""
        ...


class Follower:
    """
    One process's; `link.Subject` and `link.Receiver` of its link.

    Args:
        settings: Where the control plane is and who this is.
        request: What a configuration is made of, but for the pushed file.
        host: The process.
        environment: Of the process.
        wanted: Of the identity, if it is to be from the control plane; else None.
        has_own_identity: Whether it is had from elsewhere.

    Attributes:
        identity: The same while it runs; None, too, where no address is one of TLS, by which alone it is had.
        has_file: Set once a whole file is in force.
        numbers: What metrics say of it.
    """

    def __init__(
        self,
        settings: ControlSettings,
        request: MeshRequest,
        host: Host,
        environment: Mapping[str, str],
        wanted: ControlIdentity | None = None,
        has_own_identity: bool = False,
    ) -> None:
        self.settings = settings
        self.has_file = asyncio.Event()
        self.numbers = ControlNumbers()
        self._request = request
        self._host = host
        self._environment = environment
        kept = KeptIdentity(wanted.keep, settings.service) if wanted is not None else None
        self._last_good = LastGood(choose(settings.state, environment), settings.service, __version__, kept)
        self._instance = ""
        is_asked = any(address.startswith("https://") for address in settings.addresses)
        self.identity = self._identity_of(wanted) if wanted is not None and is_asked else None
        self._identity_wanted = wanted
        self._has_own_identity = has_own_identity
        self._calls_in_clear = False
        self._link: Link | None = None
        self._in_force: Candidate | None = None
        self._candidate: Candidate | None = None
        """What is being tried, or will be again; see `request`."""
        self._tried: Candidate | None = None
        self._wanted: Candidate | None = None
        """What the control plane said last."""
        self._refused: Refused | None = None
        self._refused_candidate: Candidate | None = None
        self._running = Running()
        self._absent = ""
        self._wake = asyncio.Event()
        self._heard = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_leaving = False
        self._is_trying = False
        self._known: Mapping[str, Sequence[EndpointEntry]] = {}
        host.app_watch.on_change = self._changed

    # --- life --------------------------------------------------------------------------------------------------

    async def recover(self, handed_over: bytes = b"") -> None:
        """
        Put in force what is known from before, if anything is.

        Args:
            handed_over: By a predecessor, who goes on until this process serves; empty for none.
        """
        memory = read_hand_over(handed_over)
        if memory is not None:
            self._last_good.inherit(memory)
        else:
            memory = await self._last_good.open()
        self._introduce(memory)
        if self.identity is not None:
            await self.identity.begin(memory.identity)
            if handed_over:
                # Of one that was nobody yet: it goes on serving until this is somebody, for calls by TLS fail before.
                await self.identity.settle(SETTLE_S)
        for upstream, entries in memory.endpoints.items():
            self._tell_endpoints(upstream, endpoint_set(upstream, entries))
        for kept in memory.files:
            pushed = Pushed(PUSHED, kept.hash, kept.text)
            if await self._try(Candidate(pushed, "last_good", kept.revision)):
                break
        self._known = memory.endpoints

    async def connect(self) -> None:
        """
        Ask the control plane, and follow it from then on. Returns when there is a file in force, or nothing more to be
        tried but to wait.
        """
        if self._link is not None or self._is_leaving:
            return
        self._connect()
        if not self.has_file.is_set():
            await self._wait_for_first_push()
        if not self.has_file.is_set() and self.settings.bootstrap:
            await self._try(Candidate(Pushed(self.settings.bootstrap), "bootstrap"))
        if not self.has_file.is_set():
            logger.warning(event("control_waits", reason=self.why_waiting()))

    async def goodbye(self, timeout_s: float) -> bool:
        """Say that this instance leaves; whether all concerned have applied it in time."""
        self._is_leaving = True
        return self._link is not None and await self._link.goodbye(timeout_s)

    def leave(self) -> None:
        """Nothing that is pushed from now on is put in force."""
        self._is_leaving = True

    async def hand_over(self) -> None:
        """A successor is this instance from now on: say nothing more, and let it have the directory."""
        self._is_leaving = True
        if self.identity is not None:
            await self.identity.stop()
        if self._link is not None:
            await self._link.close()
        await self._last_good.close(is_clean=False)

    async def stop(self) -> None:
        """The process ends, as it was asked to."""
        self._is_leaving = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.identity is not None:
            await self.identity.stop()
        if self._link is not None:
            await self._link.close()
        await self._last_good.close()

    def handed_over(self) -> bytes:
        """What a successor needs to be this instance."""
        endpoints = self._link.endpoints() if self._link is not None else {}
        identity = self.identity.handed_over() if self.identity is not None else None
        return write_hand_over(self._last_good.record(), self._in_force, endpoints, identity)

    # --- what others ask ---------------------------------------------------------------------------------------

    def request(self, trigger: str) -> MeshRequest:
        """What a load is made of now: the newest file that is to be tried, else the one in force."""
        self._tried = self._candidate or self._in_force
        return replace(self._request, pushed=self._tried.pushed if self._tried is not None else None)

    def why_waiting(self) -> str:
        """Why no file is in force, in one line."""
        if self._refused is not None and self._refused.problems:
            return f"waiting for a file that can be used: {self._refused.problems[0].message}"
        if self._refused is not None and self._refused.has_crashed:
            return "waiting for another file: with the wanted one the process ended again and again"
        if self._absent:
            return f"waiting for the control plane, which says: {self._absent}"
        state = self._link.state if self._link is not None else LinkState(address=self.settings.addresses[0])
        why = f" ({state.why})" if state.why else ""
        return f"waiting for a configuration from the control plane at {state.address}{why}"

    @property
    def is_unsigned(self) -> bool:
        """Whether an identity was to be had from a control plane that signs nothing, as far as can be told."""
        return self._identity_wanted is not None and (self.identity is None or self.identity.is_elsewhere)

    def not_ready(self) -> str | None:
        """Why no traffic should come although a file is in force, or None; for who holds no certificates himself."""
        return self.identity.not_ready() if self.identity is not None else None

    def shown(self) -> dict[str, object]:
        """As `/server_info` shows it."""
        state = self._link.state if self._link is not None else LinkState(address=self.settings.addresses[0])
        running, refused = self._running, self._refused
        return {
            "addresses": list(self.settings.addresses),
            "service": self.settings.service,
            "version": self.settings.version or None,
            "zone": self.settings.zone or None,
            "instance": self._instance,
            "address": state.own_address or None,
            "address_from": state.own_address_why or None,
            "connected": state.is_connected,
            "connected_to": state.address if state.is_connected else None,
            "since": shown_time(state.since_s) if state.since_s else None,
            "last_heard": shown_time(state.last_heard_s) if state.last_heard_s else None,
            "form": "poll" if state.is_polling else "stream",
            "why": state.why or None,
            "revision": state.revision,
            "app": self._host.app_watch.health(),
            "config": {
                "source": running.source or None,
                "hash": running.hash or None,
                "revision": running.revision,
                "since": shown_time(running.since_s) if running.since_s else None,
            },
            "refused": None if refused is None else {
                "hash": refused.hash, "revision": refused.revision, "crashed": refused.has_crashed,
                "problems": [one.message for one in refused.problems],
            },
            "identity": self.identity.shown() if self.identity is not None else None,
            "waits": None if self.has_file.is_set() else self.why_waiting(),
            "state": self._last_good.path if not self._last_good.why_off else None,
            "state_off": self._last_good.why_off or None,
        }  # fmt: skip

    # --- `ConfigLoader` tells ----------------------------------------------------------------------------------

    def on_installed(self, header: Header, frames: Sequence[bytes]) -> None:
        """A configuration is in force."""
        is_newest = self._wanted is None or self._tried is self._wanted
        # What a newer file discovers may be known already, before the file is in force.
        if self._tried is not None and self._link is not None and is_newest:
            self._link.keep_endpoints(header.discovers)

    def on_outcome(self, outcome: LoadOutcome) -> None:
        """What came of a load, whoever asked for it."""
        tried, is_news = self._tried, self._tried is not self._in_force
        if self._is_leaving:
            return
        if tried is None or not is_news:
            if outcome.is_ok and self._refused_candidate is not None:
                # What runs here has changed: what did not fit to it before may now.
                self._wanted, self._refused_candidate = self._refused_candidate, None
                self._refused = None
                self._wake.set()
            return
        if outcome.is_ok:
            self._put_in_force(tried)
        else:
            self._refuse(tried, outcome)
        self._changed()

    def _put_in_force(self, tried: Candidate) -> None:
        self._in_force, self._candidate = tried, None
        self._running = Running(tried.pushed.hash, tried.revision, time.time(), tried.source)
        self._tell_numbers()
        if self._refused is not None and not self._refused.has_crashed:
            self._refused, self._refused_candidate = None, None
        kept = tried.kept()
        if kept is not None:
            self._last_good.put_in_force(kept, is_news=tried.source == "pushed")
            if tried.source == "pushed":
                self._refused = None
        logger.info(
            event("control_config", source=tried.source, revision=tried.revision, hash=tried.pushed.hash or None)
        )
        self.has_file.set()

    def _refuse(self, tried: Candidate, outcome: LoadOutcome) -> None:
        self._refused = refused_by(tried, outcome)
        self.numbers.refused += 1
        logger.error(
            event(
                "control_config_refused", source=tried.source, revision=tried.revision, hash=tried.pushed.hash or None
            )
        )
        if not outcome.is_transient:
            self._candidate, self._refused_candidate = None, tried

    # --- `link.Receiver` ---------------------------------------------------------------------------------------

    def on_config(self, config: Config) -> None:
        """Run this, if nothing speaks against it."""
        self._absent = ""
        if self._is_leaving:
            return
        if self._last_good.is_condemned(config.hash):
            self._refused = Refused(config.hash, config.revision, has_crashed=True)
            self._wanted = None
        else:
            self._wanted = Candidate(Pushed(PUSHED, config.hash, config.file), "pushed", config.revision)
        self._wake.set()
        self._heard.set()
        self._changed()

    def on_current(self, current: Current) -> None:
        """What this has is what is wanted."""
        self._absent = ""
        if current.hash == self._running.hash:
            self._running = replace(self._running, revision=current.revision, source="pushed")
            self._tell_numbers()
        elif self._refused is not None and current.hash == self._refused.hash:
            self._refused = replace(self._refused, revision=current.revision)
        self._heard.set()
        self._changed()

    def on_absent(self, why: str) -> None:
        """What runs goes on."""
        if why != self._absent:
            logger.warning(event("control_has_no_file", service=self.settings.service, reason=why))
        self._absent = why
        self._heard.set()

    def on_renew(self, within_s: float) -> None:
        """The authority has changed: the next certificate is of the new one."""
        if self.identity is not None and not self._is_leaving:
            self.identity.renew_soon(within_s)

    def on_endpoints(self, upstream: str, version: str, found: EndpointSet) -> None:
        """Let the data path have them, and the disk in a moment."""
        self._tell_endpoints(upstream, found)
        if self._link is not None:
            self._last_good.keep_endpoints(self._link.endpoints)

    def _tell_endpoints(self, upstream: str, found: EndpointSet) -> None:
        """
        Let the data path have them. Who is nobody in this life, for want of an address of TLS to join by, calls in
        clear, as it did before others had identities; who takes TLS alone refuses that.
        """
        if self.identity is None and not self._has_own_identity:
            if not self._calls_in_clear and any(found.tls.values()):
                self._calls_in_clear = True
                why = "others take TLS, and there is no identity to show: no address of the control plane is https"
                logger.warning(event("calls_in_clear", upstream=upstream, why=why))
            found = found.in_clear()
        self._host.endpoint_sink.tell(upstream, found)

    async def answer(self, ask: Ask) -> Mapping[str, object] | None:
        """What the admin listener would say; None for a kind of question that this release does not know."""
        return await answered(self._host.views, ask.kind, ask.body)

    def on_state(self, state: LinkState) -> None:
        """For the metrics; the log has what the link says."""
        self.numbers.connected(state.is_connected, state.revision)

    # --- `link.Subject` ----------------------------------------------------------------------------------------

    def watch(self) -> Watch:
        """Who this is and what it had last."""
        had = self._wanted.pushed.hash if self._wanted is not None else self._running.hash
        if self._refused is not None and (self._refused.has_crashed or not had):
            had = self._refused.hash
        who = self.settings
        return Watch(who.service, self._instance, who.version, who.zone, LANGUAGE, __version__, had)

    def health(self) -> Health:
        """Of the app; as long as nothing is in force, or there is nothing to show yet, nobody reaches it."""
        if not self.has_file.is_set() or self.not_ready() is not None:
            return "starting"
        return self._host.app_watch.health()

    def running(self) -> Running:
        """What is in force."""
        return self._running

    def refused(self) -> Refused | None:
        """What is not, and why."""
        return self._refused

    def identity_report(self) -> IdentityReport | None:
        """What is held of who this is."""
        return self.identity.report() if self.identity is not None else self._host.identity_report()

    def ports(self, host: str) -> Mapping[str, Port]:
        """Where others reach the app."""
        if not self.has_file.is_set():
            return {}
        # Also when it has ended: who was told to come by TLS is never told to come in clear for that.
        has_identity = self.identity.has_held if self.identity is not None else self._has_own_identity
        return self._host.app_watch.ports(host, has_identity=has_identity)

    def weight(self) -> float:
        """As the machine's file has it."""
        return self.settings.weight

    async def counts(self) -> Counted:
        """What was counted since the last report."""
        return await self._host.read_edges()

    # --- parts -------------------------------------------------------------------------------------------------

    def _identity_of(self, wanted: ControlIdentity) -> MeshIdentity:
        # Only here: who has no identity from the control plane need not have what joining takes.
        from sidecar.runtime.mesh.identity import MeshIdentity

        return MeshIdentity(
            self.settings, wanted, keep=self._last_good.keep_identity, on_change=self._changed,
            instance=lambda: self._instance,
        )  # fmt: skip

    def _introduce(self, memory: Memory) -> None:
        self._instance = self.settings.instance or memory.record.instance or instance_name("", self._environment)
        if self._instance != memory.record.instance:
            self._last_good.name(self._instance)
        crashed = memory.crashed
        if crashed is not None:
            self._refused = Refused(crashed.hash, crashed.revision, has_crashed=True)
            logger.error(
                event("last_good_crashed", hash=crashed.hash, reason="starts with it ended early, three times")
            )

    def _connect(self) -> None:
        given = self.settings
        settings = LinkSettings(given.addresses, given.token_file, given.trust, cast("Form", given.form), given.address)
        tls = self.identity.tls if self.identity is not None else None
        if self.identity is not None:
            self.identity.start()
        self._link = Link(settings, self, self, known=self._known, tls=tls, environment=self._environment)
        link = self._link
        self.numbers.heard_s = lambda: link.state.last_heard_s
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._link.run(), name="link"),
            loop.create_task(self._apply_for_ever(), name="control"),
        ]

    async def _wait_for_first_push(self) -> None:
        """Until a file is in force, or the control plane has none, or is too slow and nothing is under way."""
        waits = [asyncio.ensure_future(one.wait()) for one in (self.has_file, self._heard)]
        try:
            await asyncio.wait(waits, timeout=FIRST_PUSH_S, return_when=asyncio.FIRST_COMPLETED)
            while not self.has_file.is_set() and (self._wake.is_set() or self._is_trying):
                await asyncio.sleep(0.01)
        finally:
            for wait in waits:
                wait.cancel()

    async def _apply_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            candidate = self._wanted
            if candidate is not None and not self._is_leaving and not self._is_known(candidate):
                self._is_trying = True
                self._wake.clear()
                await self._try(candidate)
            else:
                self._wake.clear()

    def _is_known(self, candidate: Candidate) -> bool:
        """It runs already, or was refused as it is."""
        file_hash = candidate.pushed.hash
        if self._refused is not None and self._refused.hash == file_hash:
            return True
        if self._in_force is None or self._in_force.pushed.hash != file_hash:
            return False
        self._candidate = None
        self._running = replace(self._running, revision=candidate.revision, source="pushed")
        self._tell_numbers()
        self._changed()
        return True

    async def _try(self, candidate: Candidate) -> bool:
        """Whether it is in force now."""
        self._candidate, self._is_trying = candidate, True
        try:
            outcome = await self._host.load("control" if candidate.source == "pushed" else candidate.source)
        finally:
            self._is_trying = False
        return outcome.is_ok

    def _tell_numbers(self) -> None:
        self.numbers.in_force(self._running.revision, self._running.source, self._running.since_s)

    def _changed(self) -> None:
        if self._link is not None:
            self._link.changed()
