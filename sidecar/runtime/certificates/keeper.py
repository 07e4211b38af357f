"""
What the plan in force needs of certificates, and nothing for a plan without TLS: not even the code. *Cold.*

A reload asks for what it needs before its swap: files that cannot be used refuse it, and nothing has changed. The
workload's own identity refuses nothing: it may come later, from whoever writes it, and until then the sidecar is not
ready and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.compile.listener_spec import ListenerSpec
from sidecar.compile.plan import Draft
from sidecar.config.problems import Problem
from sidecar.net.tls.settings import ControlIdentity, ListenerTls, MeshTls, ServerTls, UpstreamTls
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
        identity: What is held; None as long as no configuration has asked for TLS.
        made: Told of `identity` when there is one.
    """

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.made: Callable[[Identity], None] = lambda identity: None
        self._following: asyncio.Task[None] | None = None

    async def prepare(self, draft: Draft) -> list[Problem]:
        """
        Read what the configuration needs and the one in force does not.

        Returns:
            What of it cannot be used, at its place in the file.
        """
        listening, calling = _listening(draft.listeners), _calling(draft.clusters)
        source = draft.header.identity
        if self.identity is None:
            if source is None and not listening and not calling:
                return []
            self.identity = self._make()
        identity = self.identity
        if source is not None or identity.source is None:
            trust_domain = "" if source is None or isinstance(source, ControlIdentity) else source.trust_domain
            identity.configure(source, trust_domain)
        for name, listener in listening:
            identity.server_side(name, listener)
        for name, upstream in calling:
            identity.client_side(name, upstream)
        await identity.settle(SETTLE_S)
        return [*self._of_listeners(draft), *self._of_upstreams(draft)]

    def side_of(self, spec: ListenerSpec) -> ServerSide | None:
        """How the clients of a listener are spoken to; None: in clear."""
        tls = spec.listener.tls if spec.listener is not None else None
        if tls is None:
            return None
        assert self.identity is not None, "prepared"
        return self.identity.server_side(spec.address, tls)

    def commit(self, draft: Draft, clusters: Mapping[str, Cluster]) -> None:
        """The configuration is in force: its upstreams are spoken to as it says, and what it does not need goes."""
        identity = self.identity
        for spec in draft.clusters:
            tls = spec.tls
            clusters[spec.name].tls = identity.client_side(spec.name, tls) if identity is not None and tls else None
        if identity is None:
            return
        if draft.header.identity is None:
            identity.configure(None)
        identity.keep_only(_listening(draft.listeners), _calling(draft.clusters))

    def start(self) -> None:
        """Follow what is there, or comes."""
        if self.identity is not None and self._following is None:
            self._following = asyncio.get_running_loop().create_task(self.identity.run())

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._following is not None:
            self._following.cancel()
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
            if tls is None or isinstance(tls, MeshTls) or self.side_of(spec) is None:
                continue
            text = self._trouble_of((spec.address, tls))
            if text is not None:
                wanted = next(one for one in draft.header.listeners if one.location == spec.location)
                found.append(Problem(wanted.file, wanted.line, wanted.column, f"{wanted.path}.tls", text))
        return found

    def _of_upstreams(self, draft: Draft) -> list[Problem]:
        found = []
        for name, tls in _calling(draft.clusters):
            text = self._trouble_of((name, tls)) if isinstance(tls, ServerTls) else None
            if text is not None:
                found.append(Problem(draft.header.pushed, 0, 0, f"upstreams.{name}.tls", text))
        return found

    def _trouble_of(self, key: tuple[str, object]) -> str | None:
        """Why there is nothing for this listener or upstream."""
        assert self.identity is not None
        for kept in self.identity.kept:
            if kept.made is None and kept.trouble is not None and (key in kept.servers or key in kept.clients):
                return kept.trouble.text
        return None


def _listening(specs: Iterable[ListenerSpec]) -> list[tuple[str, ListenerTls]]:
    return [
        (spec.address, spec.listener.tls)
        for spec in specs
        if spec.listener is not None and spec.listener.tls is not None
    ]


def _calling(specs: Sequence[ClusterSpec]) -> list[tuple[str, UpstreamTls]]:
    return [(spec.name, spec.tls) for spec in specs if spec.tls is not None]
