"""
HTTP/1.1 to a control plane: a connection for each stream, and one that is kept for what is short. *Cold: streams.*

A proxy between may cut, stall or buffer. So every wait is bounded, by who waits, and what failed is one sentence.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from random import randrange
from typing import Any, Final, Protocol

import h11

from sidecar.link.transport.reading import JOIN_TOKEN, Read, read_token
from sidecar.link.transport.server import Server
from sidecar.link.transport.tls import ByFile, NoTlsError, Tls
from sidecar.net import dial
from sidecar.net.address import is_ip_address
from sidecar.net.resolve import ResolveError, Resolver, SystemLookup

_READ_BYTES: Final = 64 * 1024
_MAX_IDLE: Final = 2
"""Connections without a request: one for reports, one for an answer that was given meanwhile."""
_OF_OUR_CERTIFICATE: Final = (
    "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REQUIRED", "CERTIFICATE_REVOKED", "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA", "UNSUPPORTED_CERTIFICATE",
)  # fmt: skip
"""Alerts that say so (RFC 8446, 6.2), as OpenSSL calls them, after `ALERT_`."""


class TransportError(Exception):
    """Nothing came, or something that is no HTTP/1.1; the text says what, for people."""


class UntrustedError(TransportError):
    """Whoever is there is not the control plane that is wanted; nothing was said to it."""


class CertificateRefusedError(TransportError):
    """It does not take the certificate that it was shown; nothing of the request was heard."""


class Answer(Protocol):
    """
    What a server answered.

    Attributes:
        headers: By name in lower case; of several of a name the last.
        local_host: Our end of the connection, an IP address.
        peer_host: The other end.
    """

    status: int
    headers: Mapping[str, str]
    local_host: str
    peer_host: str

    async def read(self) -> bytes:
        """
        What came next of the body; empty at its end. The caller sets the deadline.

        Raises:
            TransportError: It was cut.
        """
        ...

    def close(self) -> None:
        """Read no more of it."""


class Transport(Protocol):
    """Asks; `HttpClient` does."""

    async def ask(
        self, server: Server, method: str, target: str, fields: Mapping[str, str], body: bytes, head_timeout_s: float
    ) -> Answer:
        """
        Send a request and wait for the head of its answer.

        Args:
            target: Path and query, after the server's prefix.
            fields: Beyond `host`, `authorization`, `user-agent` and what frames the body.

        Raises:
            TransportError: There is none.
        """
        ...

    async def close(self) -> None:
        """Keep no connection."""


class _Connection:
    """One connection, with one request at a time."""

    __slots__ = ("has_answered", "protocol", "reader", "server", "tls_version", "writer")

    def __init__(
        self, server: Server, tls_version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.tls_version = tls_version
        self.reader = reader
        self.writer = writer
        self.protocol = h11.Connection(h11.CLIENT)
        self.has_answered = False

    def host(self, end: str) -> str:
        name = self.writer.get_extra_info(end)
        return str(name[0]) if isinstance(name, tuple) and name else ""

    async def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self.protocol.next_event()) is h11.NEED_DATA:
            data = await self.reader.read(_READ_BYTES)
            self.has_answered = self.has_answered or bool(data)
            if not self.has_answered:
                raise OSError("the connection was closed before an answer")
            self.protocol.receive_data(data)
        return event

    def is_usable(self) -> bool:
        return not self.reader.at_eof() and not self.writer.transport.is_closing()

    def abort(self) -> None:
        # Not close(): nothing that is still unsent is worth waiting for.
        self.writer.transport.abort()


class HttpAnswer:
    """An `Answer`; when it was read to its end its connection may serve again."""

    def __init__(self, client: HttpClient, connection: _Connection, head: h11.Response) -> None:
        self._client = client
        self._connection: _Connection | None = connection
        self.status = head.status_code
        self.headers: Mapping[str, str] = {
            bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in head.headers
        }
        self.local_host = connection.host("sockname")
        self.peer_host = connection.host("peername")

    async def read(self) -> bytes:
        """As in `Answer`."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            while True:
                event = await connection.next_event()
                if isinstance(event, h11.Data):
                    if event.data:
                        return bytes(event.data)
                else:
                    break
        except (OSError, h11.RemoteProtocolError) as error:
            self.close()
            raise TransportError(f"the answer was cut: {_said(error)}") from error
        self._connection = None
        self._client.give_back(connection)
        return b""

    def close(self) -> None:
        """As in `Answer`."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


class HttpClient:
    """
    The `Transport` of a process.

    Args:
        user_agent: Who asks.
        token_file, trust_file, connect_timeout_s: As in `LinkSettings`.
        tls: How servers are verified; default: by name and `trust_file`.
        resolver: Default: the system's, on threads of its own.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        token_file: str = "",
        trust_file: str = "",
        connect_timeout_s: float = 5.0,
        tls: Tls | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._token_file = token_file
        self._connect_timeout_s = connect_timeout_s
        self._resolver = resolver or Resolver(SystemLookup(2, flags=0), connect_timeout_s, keeps_order=True)
        self._idle: list[_Connection] = []
        self._token = ""
        self._token_read = Read(lambda: read_token(self._token_file))
        self._tls = tls or ByFile(trust_file, connect_timeout_s)
        # Behind a name there may be several servers: sidecars begin at different ones.
        self._turn = randrange(1 << 16)

    def __repr__(self) -> str:
        return f"<HttpClient [Idle: {len(self._idle)}]>"

    async def ask(
        self, server: Server, method: str, target: str, fields: Mapping[str, str], body: bytes, head_timeout_s: float
    ) -> HttpAnswer:
        """As in `Transport`; a kept connection that turns out to be gone is replaced by a new one, once."""
        request = await self._request(server, method, target, fields, body)
        while True:
            connection = self._take(server)
            is_new = connection is None
            if connection is None:
                connection = await self._connect(server)
            try:
                async with asyncio.timeout(head_timeout_s):
                    return await self._converse(connection, request, body)
            except TimeoutError:
                connection.abort()
                raise TransportError(f"no answer within {head_timeout_s:g} s") from None
            except (OSError, h11.RemoteProtocolError) as error:
                connection.abort()
                if not is_new and not connection.has_answered:
                    continue  # The server had closed it, as servers may: at most once for each that was kept.
                raise _failure(error) from error
            except BaseException:
                connection.abort()
                raise

    async def close(self) -> None:
        """As in `Transport`."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        self._resolver.close()

    def give_back(self, connection: _Connection) -> None:
        """An answer was read to its end."""
        protocol = connection.protocol
        is_over = protocol.our_state is h11.DONE and protocol.their_state is h11.DONE
        if not is_over or not connection.is_usable() or len(self._idle) >= _MAX_IDLE:
            connection.abort()
            return
        protocol.start_next_cycle()
        connection.has_answered = False
        self._idle.append(connection)

    def _take(self, server: Server) -> _Connection | None:
        found = None
        for connection in self._idle[:]:
            if not self._is_fit(connection, server):
                self._idle.remove(connection)
                connection.abort()
            elif found is None:
                self._idle.remove(connection)
                found = connection
        return found

    def _is_fit(self, connection: _Connection, server: Server) -> bool:
        is_current = not server.is_tls or connection.tls_version == self._tls.version
        return connection.server == server and is_current and connection.is_usable()

    async def _request(
        self, server: Server, method: str, target: str, fields: Mapping[str, str], body: bytes
    ) -> h11.Request:
        headers = [("host", server.authority), ("user-agent", self._user_agent), *fields.items()]
        if method != "GET":
            headers += [("content-length", str(len(body))), ("content-type", "application/json")]
        if self._token_file and (not server.is_tls or await self._takes_token()):
            token = await self._current_token()
            if not token.startswith(JOIN_TOKEN):
                headers.append(("authorization", f"Bearer {token}"))
        try:
            return h11.Request(method=method, target=server.prefix + target, headers=headers)
        except h11.LocalProtocolError as error:
            raise TransportError(f"a request that HTTP/1.1 cannot carry: {error}") from None

    async def _takes_token(self) -> bool:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self._tls.takes_token()
        except (NoTlsError, TimeoutError) as error:
            raise TransportError(str(error) or f"no connection within {self._connect_timeout_s:g} s") from None

    async def _current_token(self) -> str:
        """What the file says now; what it said last if it cannot be read, for it may be replaced at this moment."""
        try:
            token = await self._token_read.result(self._connect_timeout_s)
        except (OSError, ValueError) as error:
            if not self._token:
                raise TransportError(f"token_file {self._token_file}: {_said(error)}") from None
            return self._token
        self._token = token
        return token

    async def _connect(self, server: Server) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                terms = await self._tls.terms() if server.is_tls else None
                if is_ip_address(server.host):
                    hosts: tuple[str, ...] = (server.host,)
                else:
                    hosts = await self._resolver.resolve(server.host)
                self._turn += 1
                sock = await dial.connect(dial.in_turn(hosts, self._turn), server.port)
                reader, writer = await asyncio.open_connection(
                    sock=sock,
                    ssl=terms.context if terms is not None else None,
                    server_hostname=server.host if terms is not None else None,
                )
        except TimeoutError:
            raise TransportError(f"no connection within {self._connect_timeout_s:g} s") from None
        except ResolveError as error:
            raise TransportError(f"the name {server.host} has no address: {error}") from None
        except NoTlsError as error:
            raise TransportError(str(error)) from None
        except ssl.SSLCertVerificationError as error:
            raise UntrustedError(f"its certificate is not trusted: {error.verify_message}") from None
        except OSError as error:
            raise TransportError(f"no connection: {_said(error)}") from None
        if terms is None:
            return _Connection(server, 0, reader, writer)
        shown: Mapping[str, Any] = writer.get_extra_info("peercert") or {}
        why = terms.refuses(shown)
        if why:
            writer.transport.abort()
            raise UntrustedError(why)
        return _Connection(server, terms.version, reader, writer)

    async def _converse(self, connection: _Connection, request: h11.Request, body: bytes) -> HttpAnswer:
        protocol, writer = connection.protocol, connection.writer
        pieces = [protocol.send(request), protocol.send(h11.Data(data=body)) if body else b""]
        writer.write(b"".join(piece for piece in (*pieces, protocol.send(h11.EndOfMessage())) if piece))
        while True:
            event = await connection.next_event()
            if isinstance(event, h11.Response):
                return HttpAnswer(self, connection, event)
            if not isinstance(event, h11.InformationalResponse):
                raise OSError("the connection was closed before an answer")


def _failure(error: Exception) -> TransportError:
    """In TLS 1.3 a client has finished its handshake before the server looks at what the client has shown."""
    alert = (error.reason or "").partition("ALERT_")[2] if isinstance(error, ssl.SSLError) else ""
    if alert in _OF_OUR_CERTIFICATE:
        return CertificateRefusedError(f"it refuses our certificate: {alert.lower().replace('_', ' ')}")
    return TransportError(_said(error))


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}".lower()
    if isinstance(error, OSError):
        # asyncio puts the address into the text, which is told beside it.
        text = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
        return (text or type(error).__name__).lower()
    return str(error)
