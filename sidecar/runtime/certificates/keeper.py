"""
What the plan in force needs of certificates, and nothing for a plan without TLS: not even the code. *Cold.*

A reload asks for what it needs before its swap (`prepare`): files that cannot be used refuse it. Whatever refuses it,
nothing has changed: what was prepared is in force from `commit` on, or forgotten (`abandon`). The workload's own
identity refuses nothing: it may come later, from whoever writes it, and until then the sidecar is not ready and says
why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.compile.listener_spec import ListenerSpec
from sidecar.compile.plan import Draft
from sidecar.config.problems import Problem
from sidecar.net.tls.settings import (
    ControlIdentity,
    IdentitySource,
    ListenerTls,
    MeshTls,
    OutsideTls,
    ServerTls,
    UpstreamTls,
)
from sidecar.net.tls.sides import ServerSide
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.spec import ClusterSpec

if TYPE_CHECKING:
    from sidecar.security.identity.holder import Identity

SETTLE_S: Final = 5.0
"""For reading what is new, a mount that hangs aside."""


class Certificates:
    """
    Attributes:
        identity: What is held; None as long as no configuration in force has asked for TLS.
        made: Told of what will be `identity`, before anything is in it.
    """

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.made: Callable[[Identity], None] = lambda identity: None
        self._next: Identity | None = None
        """What will be `identity` when a configuration that needs it is in force."""
        self._staged: Identity | None = None
        self._following: asyncio.Task[None] | None = None

    async def prepare(self, draft: Draft) -> list[Problem]:
        """
        Read what the configuration needs and the one in force does not.

        Returns:
            What of it cannot be used, at its place in the file.
        """
        listening, calling = _listening(draft.listeners), _calling(draft.clusters)
        source, trust_domain = _source(draft)
        if self.identity is None:
            if source is None and not listening and not calling:
                return []
            if self._next is None:
                self._next = self._make()
                await asyncio.sleep(0)  # what has been signed already is handed over in a moment
        holder = self.identity or self._next
        assert holder is not None
        self._staged = staged = holder.stage(source, trust_domain, listening, calling)
        await staged.settle(SETTLE_S)
        return [*self._of_listeners(draft), *self._of_upstreams(draft)]

    def side_of(self, spec: ListenerSpec) -> ServerSide | None:
        """How the clients of a listener are spoken to; None: in clear."""
        tls = spec.listener.tls if spec.listener is not None else None
        if tls is None:
            return None
        sides = [one.side_of(spec.address, tls) for one in (self._staged, self.identity) if one is not None]
        return next(side for side in sides if side is not None)

    def commit(self, draft: Draft, clusters: Mapping[str, Cluster]) -> None:
        """The configuration is in force: its upstreams are spoken to as it says, and what it does not need goes."""
        staged, self._staged = self._staged, None
        if staged is not None:
            self.identity = identity = self.identity or self._next
            assert identity is not None
            identity.adopt(staged, *_source(draft))
            identity.keep_only(_listening(draft.listeners), _calling(draft.clusters))
        for spec in draft.clusters:
            tls, found = spec.tls, self.identity
            clusters[spec.name].tls = found.client_side(spec.name, tls) if found is not None and tls else None

    def abandon(self) -> None:
        """What was prepared will not be in force."""
        if self._staged is not None:
            self._staged.close()
            self._staged = None

    def why_not_ready(self) -> str | None:
        """
        Why what is in force, or prepared to be, cannot serve, or None.

        What a control plane signs is not waited for: it comes from a predecessor or later, and who asks for it knows.
        """
        for one in (self._staged, self.identity):
            is_signed = one is not None and not isinstance(one.source, ControlIdentity)
            why = one.why_not_ready(is_signed=is_signed) if one is not None else None
            if why is not None:
                return why
        return None

    def start(self) -> None:
        """Follow what is there, or comes."""
        if self.identity is not None and self._following is None:
            self._following = asyncio.get_running_loop().create_task(self.identity.run())

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._following is not None:
            self._following.cancel()
        self.abandon()
        if self.identity is not None:
            self.identity.close()

    def _make(self) -> Identity:
        from sidecar.security.identity.holder import Identity

        made = Identity()
        self.made(made)
        return made

    def _of_listeners(self, draft: Draft) -> list[Problem]:
        found = []
        for spec in draft.listeners:
            tls = spec.listener.tls if spec.listener is not None else None
            if tls is None or isinstance(tls, MeshTls):
                continue
            text = self._trouble_of(tls)
            if text is not None:
                wanted = next(one for one in draft.header.listeners if one.location == spec.location)
                found.append(Problem(wanted.file, wanted.line, wanted.column, f"{wanted.path}.tls", text))
        return found

    def _of_upstreams(self, draft: Draft) -> list[Problem]:
        found = []
        for name, tls in _calling(draft.clusters):
            text = self._trouble_of(tls) if isinstance(tls, ServerTls) else None
            if text is not None:
                found.append(Problem(draft.header.pushed, 0, 0, f"upstreams.{name}.tls", text))
        return found

    def _trouble_of(self, settings: OutsideTls | ServerTls) -> str | None:
        """Why there is nothing by these settings."""
        for holder in (self._staged, self.identity):
            trouble = holder.trouble_of(settings) if holder is not None else None
            if trouble is not None:
                return trouble.text
        return None


def _source(draft: Draft) -> tuple[IdentitySource | None, str]:
    """Where the workload's identity comes from, and which trust domain it must be of."""
    source = draft.header.identity
    return source, "" if source is None or isinstance(source, ControlIdentity) else source.trust_domain


def _listening(specs: Iterable[ListenerSpec]) -> list[tuple[str, ListenerTls]]:
    return [
        (spec.address, spec.listener.tls)
        for spec in specs
        if spec.listener is not None and spec.listener.tls is not None
    ]


def _calling(specs: Sequence[ClusterSpec]) -> list[tuple[str, UpstreamTls]]:
    return [(spec.name, spec.tls) for spec in specs if spec.tls is not None]
