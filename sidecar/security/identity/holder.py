"""
Has a process's certificates: follows where they come from, and gives contexts to who needs them. *Cold.*

Whatever comes is verified before it takes the place of what is held; if it cannot be used the old one goes on, until it
expires, and that is told: in the log, by metrics, on `/certs` and to the control plane. Reading and verifying is done
on threads, one look after another, so that nothing of it holds the loop, and a mount that hangs holds nobody for long.

A reload comes in two steps. `stage` gives what it needs beyond what is held, in an `Identity` of its own, which is read
(`settle`) and of which nothing is in force; with its swap that is taken over (`adopt`) and what is left is said
(`keep_only`). A reload that is refused lets it go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from sidecar.net.tls.settings import (
    SYSTEM,
    ControlIdentity,
    FilesIdentity,
    IdentitySource,
    ListenerTls,
    MeshTls,
    OutsideTls,
    ServerTls,
    UpstreamTls,
    WorkloadApiIdentity,
    WorkloadTls,
)
from sidecar.net.tls.sides import ClientSide, ServerSide
from sidecar.process_log import event
from sidecar.security.clear import ClearRules
from sidecar.security.identity import making
from sidecar.security.identity.certificates.credentials import Credentials, Material
from sidecar.security.identity.certificates.roots import machine_roots
from sidecar.security.identity.certificates.trouble import Trouble
from sidecar.security.identity.followed_files import FollowedFiles
from sidecar.security.identity.kept import Counts, Kept, Outcome
from sidecar.security.identity.making import Contents, Made

if TYPE_CHECKING:
    from sidecar.security.identity.workload_api.agent import Agent

logger = logging.getLogger(__name__)

LOOK_PERIOD_S: Final = 2.0
"""Between looks; a change counts when two agree."""
SLOW_S: Final = 5.0
"""After which a look is left to itself, and told of."""
MAX_SLOW: Final = 4
"""Looks that are left to themselves at once; of the 16 threads that may block, others need some, too."""

Listening = tuple[str, ListenerTls]
"""A listener's name and its settings."""
Calling = tuple[str, UpstreamTls]
"""An upstream's name and its settings."""


class Identity:
    """
    Args:
        now_ns: Time since the Unix epoch, by which certificates and files are judged.
        machine_trust: Path of the roots that this machine trusts; None: where machines have them, which blocks.
        rotations: Counted up; default: its own.

    Attributes:
        workload: What is kept for the mesh's listeners and upstreams; without a source there is nothing.
        source: Where it comes from; None while no plan says it.
        agent: Who says it, where an agent does.
        rotations: How often something took the place of another, and how often it was not let.
    """

    def __init__(
        self,
        now_ns: Callable[[], int] = time.time_ns,
        machine_trust: str | None = None,
        rotations: Counts | None = None,
    ) -> None:
        self.rotations: Counts = {} if rotations is None else rotations
        self.workload = Kept("identity", _nothing, None, self.rotations)
        self.source: IdentitySource | None = None
        self.agent: Agent | None = None
        self._now_ns = now_ns
        self._machine_trust = machine_roots() if machine_trust is None else machine_trust
        self._trust_domain = ""
        self._offered: Material | None = None
        """By whoever hands over; for when it is wanted, or wanted again."""
        self._agent_said = b""
        self._outside: dict[OutsideTls | ServerTls, Kept] = {}
        self._servers: dict[Listening, ServerSide] = {}
        self._clients: dict[Calling, ClientSide] = {}
        self._slow: dict[Kept, asyncio.Future[Outcome | None]] = {}
        self._one_at_a_time = asyncio.Lock()

    @property
    def credentials(self) -> Credentials | None:
        """What the workload has; None while it has nothing."""
        return self.workload.made.credentials if self.workload.made is not None else None

    @property
    def kept(self) -> tuple[Kept, ...]:
        """All that is kept, the workload's own first."""
        return (*((self.workload,) if self.source is not None else ()), *self._outside.values())

    @property
    def unverified(self) -> tuple[str, ...]:
        """Names of the upstreams whose servers nobody verifies, because a file says so."""
        return tuple(sorted({name for name, settings in self._clients if _is_unverified(settings)}))

    # --- what a plan says --------------------------------------------------------------------------------------

    def configure(self, source: IdentitySource | None, trust_domain: str = "", agent: Agent | None = None) -> None:
        """
        Where the workload's identity comes from, from now on. What is held stays until something better has come.

        Args:
            source: None: from nowhere; what is held is given up.
            trust_domain: Which it must be of; empty: any.
            agent: Asked already, where one is to be; default: another one.
        """
        if source == self.source and trust_domain == self._trust_domain:
            return
        self.source, self._trust_domain = source, trust_domain
        self._leave_agent()
        if isinstance(source, FilesIdentity):
            maker = partial(_of_files, source, trust_domain)
            self.workload.follow(maker, FollowedFiles(making.identity_paths(source)))
        elif isinstance(source, ControlIdentity) and self._offered is not None:
            # What a plan left out for a while is not forgotten until the next renewal.
            self.workload.follow(partial(_of_material, self._offered, trust_domain), None)
        else:
            # What there is, is handed over (`offer`).
            self.workload.wait()
        if isinstance(source, WorkloadApiIdentity):
            self._ask_agent(source, agent)
        if source is None:
            self.workload.made = None

    def close(self) -> None:
        """Ask nobody any more; what is held stays."""
        if self.agent is not None:
            self.agent.close()

    def server_side(self, name: str, settings: ListenerTls) -> ServerSide:
        """
        What the listener of this name reads at each handshake. The same for the same name and settings, so that a
        reload changes nothing for who is not concerned.
        """
        key = (name, settings)
        side = self._servers.get(key)
        if side is None:
            side = self._servers[key] = _server_side(settings)
            self._kept_for(settings).add_server(key, side)
        return side

    def client_side(self, name: str, settings: UpstreamTls) -> ClientSide:
        """What the upstream of this name reads for each connection; as `server_side`."""
        key = (name, settings)
        side = self._clients.get(key)
        if side is None:
            side = self._clients[key] = _client_side(settings)
            self._kept_for(settings).add_client(key, side)
        return side

    def keep_only(self, listeners: Iterable[Listening], upstreams: Iterable[Calling]) -> None:
        """What no plan needs any more is forgotten, and its files are not looked at again."""
        listening, calling = set(listeners), set(upstreams)
        self._servers = {key: side for key, side in self._servers.items() if key in listening}
        self._clients = {key: side for key, side in self._clients.items() if key in calling}
        for kept in (self.workload, *self._outside.values()):
            kept.servers = {key: side for key, side in kept.servers.items() if key in listening}
            kept.clients = {key: side for key, side in kept.clients.items() if key in calling}
        self._outside = {key: kept for key, kept in self._outside.items() if kept.servers or kept.clients}
        self._slow = {kept: running for kept, running in self._slow.items() if kept in self.kept}

    def stage(
        self,
        source: IdentitySource | None,
        trust_domain: str,
        listeners: Iterable[Listening],
        upstreams: Iterable[Calling],
    ) -> Identity:
        """
        What a plan needs that this does not have: to be read, judged, and taken over (`adopt`) or forgotten. Here it
        changes nothing.

        Args:
            source: As `configure`.
            trust_domain: As `configure`.
            listeners: All of the plan.
            upstreams: All of the plan.
        """
        staged = Identity(self._now_ns, self._machine_trust, self.rotations)
        staged.workload.is_staged = True
        staged._offered = self._offered
        is_other = source != self.source or trust_domain != self._trust_domain
        if is_other or (self.workload.made is None and self.agent is None):
            staged.configure(source, trust_domain)
        for name, listening in listeners:
            if (name, listening) in self._servers:
                continue
            if self._has(listening):
                staged._servers[(name, listening)] = _server_side(listening)
            else:
                staged.server_side(name, listening)
        for name, calling in upstreams:
            if (name, calling) in self._clients:
                continue
            if self._has(calling):
                staged._clients[(name, calling)] = _client_side(calling)
            else:
                staged.client_side(name, calling)
        for kept in staged._outside.values():
            kept.is_staged = True
        return staged

    def adopt(self, staged: Identity, source: IdentitySource | None, trust_domain: str) -> None:
        """
        Take over what was staged for a plan that is in force now.

        Args:
            staged: By `stage`, with the same source and trust domain.
            source: As `configure`.
            trust_domain: As `configure`.
        """
        is_heard = staged.workload.made is not None and not staged._one_at_a_time.locked()
        agent = staged.agent if is_heard else None
        self.configure(source, trust_domain, agent)
        if agent is not None and self.agent is agent:
            self._agent_said, staged.agent = staged._agent_said, None
        staged.close()
        # Not what is still being read, by a thread that would be in the way of the next look.
        is_read = staged.workload not in staged._slow
        if staged.source is not None and staged._offered is self._offered and is_read:
            self.workload.adopt(staged.workload, self._now_s())
        for settings, kept in staged._outside.items():
            self._outside[settings] = kept
            kept.enter_force(self._now_s())
            if kept in staged._slow:
                self._slow[kept] = staged._slow[kept]
        for listening, server in staged._servers.items():
            self._servers[listening] = server
            self._kept_for(listening[1]).add_server(listening, server)
        for calling, client in staged._clients.items():
            self._clients[calling] = client
            self._kept_for(calling[1]).add_client(calling, client)
            self._warn_of(calling)

    def side_of(self, name: str, settings: ListenerTls) -> ServerSide | None:
        """What the listener of this name reads, if there is something for it."""
        return self._servers.get((name, settings))

    def trouble_of(self, settings: OutsideTls | ServerTls) -> Trouble | None:
        """Why there is nothing by these settings, or None."""
        kept = self._outside.get(_shared(settings))
        return kept.trouble if kept is not None and kept.made is None else None

    def _warn_of(self, calling: Calling) -> None:
        if _is_unverified(calling[1]):
            logger.warning(event("upstream_not_verified", upstream=calling[0], hint="name its roots by `trust`"))

    def _has(self, settings: ListenerTls | UpstreamTls) -> bool:
        """Whether what these settings ask for is kept, apart from the workload's own, which has one place."""
        return not isinstance(settings, MeshTls | WorkloadTls) and _shared(settings) in self._outside

    def _kept_for(self, settings: ListenerTls | UpstreamTls) -> Kept:
        if isinstance(settings, MeshTls | WorkloadTls):
            return self.workload
        settings = _shared(settings)
        kept = self._outside.get(settings)
        if kept is None:
            if isinstance(settings, OutsideTls):
                maker = partial(making.make_listener, settings)
                paths, is_old = making.listener_paths(settings), settings.min_version == "1.2"
                kept = Kept("listener", maker, FollowedFiles(paths), self.rotations, is_renewed_daily=is_old)
            else:
                here = self._with_machine_trust(settings)
                files = FollowedFiles(making.upstream_paths(here))
                kept = Kept("upstream", partial(making.make_upstream, here), files, self.rotations)
            self._outside[settings] = kept
        return kept

    def _with_machine_trust(self, settings: ServerTls) -> ServerTls:
        is_wanted = settings.trust == SYSTEM and self._machine_trust
        return replace(settings, trust=self._machine_trust) if is_wanted else settings

    # --- what comes --------------------------------------------------------------------------------------------

    async def offer(self, material: Material) -> Trouble | None:
        """
        Another source than files has this now: the control plane, an agent.

        Returns:
            Why it is not used, or None. If it is that it begins later, it is used when it does.
        """
        self._offered = material
        if self.source is None:
            return None  # until a plan wants it
        self.workload.follow(partial(_of_material, material, self._trust_domain), None)
        async with self._one_at_a_time:
            await self._look_at(self.workload)
        return self.workload.trouble

    def source_failed(self, text: str) -> None:
        """Another source than files has nothing, for this reason, which is told as a file's would be."""
        self.workload.fail("source_failed", text, self._now_s())
        self.workload.tell(self._now_s())

    def _ask_agent(self, source: WorkloadApiIdentity, agent: Agent | None) -> None:
        # Brings a library for HTTP/2, which nobody else needs.
        from sidecar.security.identity.workload_api.agent import Agent

        took, failed = partial(self._agent_says, source), self.source_failed
        if agent is None:
            self.agent = Agent(source.address, took, failed)
            self.agent.start()
        else:
            self.agent = agent
            agent.answer_to(took, failed)

    def _leave_agent(self) -> None:
        if self.agent is not None:
            self.agent.close()
            # What it said last may be looked at still, and concerns nobody now.
            self._slow.pop(self.workload, None)
        self.agent, self._agent_said = None, b""

    async def _agent_says(self, source: WorkloadApiIdentity, message: bytes) -> None:
        said = sha256(message).digest()
        if said == self._agent_said:
            # Another connection begins with what is known already: no context is made anew for that.
            self.workload.recover(self._now_s())
            self.workload.tell(self._now_s())
            return
        self._agent_said = said
        self.workload.follow(partial(_of_agent, message, source), None)
        async with self._one_at_a_time:
            await self._look_at(self.workload)

    async def settle(self, limit_s: float) -> list[Trouble]:
        """
        Look at what has never been read, and hear whom nobody has heard yet, but no longer than this.

        Returns:
            What is wrong with it.
        """
        new = [kept for kept in self.kept if kept.made is None]
        try:
            async with asyncio.timeout(limit_s):
                async with self._one_at_a_time:
                    for kept in new:
                        if kept.made is None:
                            await self._look_at(kept)
                if self.agent is not None and self.workload.made is None:
                    await self.agent.answered.wait()
        except TimeoutError:
            # What else is slow is told of by `run`.
            if self.agent is not None and self.workload in new and not self.agent.answered.is_set():
                why = f"{self.agent.address}: the agent has not answered yet"
                self.workload.fail("source_failed", why, self._now_s())
        return [kept.trouble for kept in new if kept.trouble is not None]

    async def look(self) -> None:
        """Look at everything once, and tell what there is to be told."""
        async with self._one_at_a_time:
            for kept in self.kept:
                await self._look_at(kept)

    async def run(self) -> None:
        """Follow, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_PERIOD_S)

    def why_not_ready(self, *, is_signed: bool = True) -> str | None:
        """
        Why no traffic should come, in one line, or None when it should.

        Args:
            is_signed: There is somebody who gives the workload its identity: where nobody does, it is not waited for.
        """
        now_s = self._now_s()
        waited_for = self.kept if is_signed else tuple(kept for kept in self.kept if kept is not self.workload)
        return next((why for kept in waited_for if (why := kept.why_not_ready(now_s)) is not None), None)

    async def _look_at(self, kept: Kept) -> None:
        running = self._slow.pop(kept, None)
        if running is not None and running.done():
            self._take(kept, running)
            running = None
        if running is None:
            if len(self._slow) >= MAX_SLOW:
                return
            kept.begin(self._now_s())
            now_ns = self._now_ns()
            running = asyncio.get_running_loop().run_in_executor(None, kept.look, now_ns / 1e9, now_ns)
            try:
                await asyncio.wait({running}, timeout=SLOW_S)
            except asyncio.CancelledError:
                self._slow[kept] = running  # what it comes to is not lost
                raise
        if running.done():
            self._take(kept, running)
        else:
            self._slow[kept] = running
            where = ", ".join(kept.files.paths) if kept.files is not None else "what was handed over"
            why = f"{where}: not read within {SLOW_S:g} s; the file system or the machine is slow"
            kept.fail("hangs", why, self._now_s())
        kept.tell(self._now_s())

    def _take(self, kept: Kept, over: asyncio.Future[Outcome | None]) -> None:
        try:
            kept.take(over.result(), self._now_s())
        except Exception:  # a fault of ours, which must not keep others from being looked at
            logger.exception(event("certificates_look_failed", purpose=kept.purpose))
            kept.fail("source_failed", "a fault of the sidecar: see the process log", self._now_s())

    def _now_s(self) -> float:
        return self._now_ns() / 1e9


def _server_side(settings: ListenerTls) -> ServerSide:
    if not isinstance(settings, MeshTls):
        return ServerSide(is_mesh=False, takes_streams=settings.takes_streams)
    is_strict = settings.mode == "strict"
    takes_clear = not is_strict or bool(settings.clear)
    clear = ClearRules(settings.clear) if settings.clear else None
    return ServerSide(
        is_mesh=True,
        takes_clear=takes_clear,
        is_strict=is_strict,
        clear=clear,
        takes_streams=settings.takes_streams,
    )


def _client_side(settings: UpstreamTls) -> ClientSide:
    if isinstance(settings, WorkloadTls):
        return ClientSide(identities=frozenset(settings.identities), is_stream=settings.is_stream)
    return ClientSide(server_name=settings.server_name, is_stream=settings.is_stream)


def _shared(settings: OutsideTls | ServerTls) -> OutsideTls | ServerTls:
    """Of what a context is made: whom an upstream calls makes no other."""
    return replace(settings, server_name="") if isinstance(settings, ServerTls) else settings


def _is_unverified(settings: UpstreamTls) -> bool:
    return isinstance(settings, ServerTls) and not settings.is_verified


def _of_files(source: FilesIdentity, trust_domain: str, contents: Contents, now_s: float, _: bool) -> Made:
    return making.make_identity(making.material_of(source, contents), now_s, trust_domain)


def _of_material(material: Material, trust_domain: str, _: Contents, now_s: float, __: bool) -> Made:
    return making.make_identity(material, now_s, trust_domain)


def _of_agent(message: bytes, source: WorkloadApiIdentity, _: Contents, now_s: float, __: bool) -> Made:
    from sidecar.security.identity.workload_api import svids

    found = svids.read_response(message, source.address)
    chosen = svids.choose(found, source.trust_domain)
    made = making.make_identity(svids.material_of(chosen, source.address), now_s, source.trust_domain)
    return replace(made, others=tuple(one.spiffe_id for one in found if one is not chosen))


def _nothing(_: Contents, __: float, ___: bool) -> Made:
    raise AssertionError("there is nothing to make anything of")
