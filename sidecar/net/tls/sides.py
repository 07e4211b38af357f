"""
How a listener and an upstream speak TLS now: what a handshake reads, and a rotation replaces. *Read once a connection.*

A rotation makes new contexts, since tickets of an old context outlive a change of whom it trusts; connections that
there are live on. `security.identity` writes here, `proxy` reads.
"""

from __future__ import annotations

import ssl
import time
from collections import OrderedDict
from math import inf
from typing import Final, Protocol

from sidecar.message import RequestHead

MAX_SESSIONS: Final = 256
"""Of one upstream: sessions that may be taken up again, one an endpoint, some 3 KiB each."""

MESH_HTTP: Final = "sidecar-http/1.1"
"""Between sidecars (ALPN); any other TLS on a permissive port is the app's own."""
MESH_HTTP2: Final = "sidecar-h2"
"""Between sidecars, for requests that share connections."""
MESH_TCP: Final = "sidecar-tcp"
"""Between sidecars: a connection of the client's, carried as it is."""
MESH_PROTOCOLS: Final = frozenset((MESH_HTTP, MESH_HTTP2, MESH_TCP))
"""All that sidecars offer, also those of other releases: a client that offers none of them is none."""
OUTSIDE_HTTP: Final = "http/1.1"
OUTSIDE_HTTP2: Final = "h2"


class InClear(Protocol):
    """What may come in clear where nothing else may; `security.clear.ClearRules` is one."""

    def admit(self, head: RequestHead, peer_ip: str) -> bool:
        """Whether this may, of who connects from there."""


class ServerSide:
    """
    One for a listener; `None` in its place is a listener in clear.

    Attributes:
        context: Shown to clients from now on; None while there is nothing to show, and who comes by TLS is refused.
        why_none: What is missing then, for the log.
        is_mesh: Clients are sidecars: ALPN must be ours, and a client has an identity of the trust domain.
        takes_streams: Who agrees on it, or on nothing, is carried as it is.
        takes_clear: What does not begin as TLS is taken as it is: `permissive`, or `strict` with exceptions.
        is_strict: A request in clear must be admitted by `clear`.
        clear: What may come in clear though it is strict, or None: nothing.
        trust_domain: Of identities that are accepted; empty where `is_mesh` is false.
        identity: Our own SPIFFE ID, or empty.
        version: Counts the contexts.
    """

    __slots__ = (
        "clear",
        "context",
        "identity",
        "is_mesh",
        "is_strict",
        "takes_clear",
        "takes_streams",
        "trust_domain",
        "version",
        "why_none",
    )

    def __init__(
        self,
        *,
        is_mesh: bool,
        takes_clear: bool = False,
        is_strict: bool = False,
        clear: InClear | None = None,
        takes_streams: bool = False,
    ) -> None:
        self.context: ssl.SSLContext | None = None
        self.why_none = "no certificate yet"
        self.is_mesh = is_mesh
        self.takes_clear = takes_clear
        self.is_strict = is_strict
        self.clear = clear
        self.takes_streams = takes_streams
        self.trust_domain = self.identity = ""
        self.version = 0

    def refuses(self, head: RequestHead, peer_ip: str) -> bool:
        """Whether a request that has come in clear is refused for that."""
        return self.is_strict and (self.clear is None or not self.clear.admit(head, peer_ip))

    def replace(self, context: ssl.SSLContext, trust_domain: str = "", identity: str = "") -> None:
        """Show this from the next handshake on."""
        self.context = context
        self.trust_domain, self.identity = trust_domain, identity
        self.version += 1


class ClientSide:
    """
    One for an upstream; `None` in its place is an upstream in clear.

    Attributes:
        context: Used from the next connection on; None while there is none, and no connection can be made.
        shared_context: The same, for connections that many requests share; None where there are none.
        why_none: What is missing then, for the log.
        server_name: Asked for, and what the certificate must be for; empty: the endpoint's host.
        identities: SPIFFE IDs of which the server must have one; empty for servers outside, which are known by name.
        is_stream: What is sent there is no HTTP of ours.
        version: Counts the contexts. A pooled connection keeps the one it was made with.
    """

    __slots__ = (
        "_ends_s",
        "_sessions",
        "context",
        "identities",
        "is_stream",
        "server_name",
        "shared_context",
        "version",
        "why_none",
    )

    def __init__(
        self, *, identities: frozenset[str] = frozenset(), server_name: str = "", is_stream: bool = False
    ) -> None:
        self.context: ssl.SSLContext | None = None
        self.shared_context: ssl.SSLContext | None = None
        self.why_none = "no certificate yet"
        self.identities = identities
        self.server_name = server_name
        self.is_stream = is_stream
        self.version = 0
        self._ends_s = inf
        self._sessions: OrderedDict[str, tuple[ssl.SSLSession, float]] = OrderedDict()
        """And until when each may be taken up: nobody shows or verifies a certificate then."""

    @property
    def is_mesh(self) -> bool:
        """Whether the server is a sidecar."""
        return bool(self.identities)

    @property
    def protocol(self) -> str:
        """What is to be agreed on by ALPN; empty: nothing, as the protocol is the app's."""
        if self.is_mesh:
            return MESH_TCP if self.is_stream else MESH_HTTP
        return "" if self.is_stream else OUTSIDE_HTTP

    def takes(self, protocol: str, is_shared: bool) -> bool:
        """Whether what was agreed on is spoken, on a connection that is to be shared or on another."""
        if protocol == self.protocol:
            return True
        if not self.is_mesh and not protocol:
            return True
        return is_shared and protocol == (MESH_HTTP2 if self.is_mesh else OUTSIDE_HTTP2)

    def replace(
        self, context: ssl.SSLContext, ends_s: float = inf, shared_context: ssl.SSLContext | None = None
    ) -> None:
        """
        Use this from the next connection on. Sessions do not cross.

        Args:
            shared_context: As the attribute.
            ends_s: When the certificate ends that it shows, since the Unix epoch.
        """
        self.context = context
        self.shared_context = shared_context
        self._ends_s = ends_s
        self.version += 1
        self._sessions.clear()

    def session_of(self, endpoint: str) -> ssl.SSLSession | None:
        """One that can be taken up again with the endpoint of this label, as long as both certificates hold."""
        found = self._sessions.get(endpoint)
        if found is None or time.time() < found[1]:
            return found[0] if found is not None else None
        self.forget_session(endpoint)
        return None

    def keep_session(self, endpoint: str, session: ssl.SSLSession, ends_s: float, version: int) -> None:
        """
        A session for the next connection; one that a context of before has made is of no use.

        Args:
            ends_s: When the server's certificate ends, since the Unix epoch.
            version: As it was when the connection was begun.
        """
        if version != self.version:
            return
        sessions = self._sessions
        sessions[endpoint] = session, min(ends_s, self._ends_s)
        sessions.move_to_end(endpoint)
        if len(sessions) > MAX_SESSIONS:
            sessions.popitem(last=False)

    def forget_session(self, endpoint: str) -> None:
        """A handshake that took it up has failed."""
        self._sessions.pop(endpoint, None)
