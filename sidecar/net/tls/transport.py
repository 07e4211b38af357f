"""
TLS in the place of a transport: between a socket's transport and the protocol of a connection. *Hot path.*

To the socket it is an `asyncio.Protocol`, to the connection an `asyncio.Transport`, both by its methods. One
`ssl.SSLObject` works on two memory BIOs: what the socket has received goes into one, what is to be sent comes out of
the other. This is what costs least in Python, and no copy is kept of anything.

    HANDSHAKE   octets are the handshake's; `owner` hears of its end
    OPEN        octets are the protocol's
    ENDED       we have said that no more will come (close_notify), and still read
    CLOSED      nothing matters any more

The end of what the peer sends is its close_notify (RFC 8446, 6.1). A socket that ends without one was cut, and so is
whatever ends by its end.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from sidecar.net.tls.certificates import peer_of
from sidecar.net.tls.failures import TruncatedError, expired
from sidecar.net.tls.handshakes import Handshakes
from sidecar.net.tls.shown import shown_by
from sidecar.net.tls.tickets import LOOKS, looks
from sidecar.peer import Peer

HANDSHAKE: Final = 0
OPEN: Final = 1
ENDED: Final = 2
CLOSED: Final = 3
_NAMES: Final = ("HANDSHAKE", "OPEN", "ENDED", "CLOSED")

_RECORD_BYTES: Final = 16 * 1024
"""Of plain text, at most (RFC 8446, 5.1)."""
_PIECE_BYTES: Final = 32 * 1024
"""A memory BIO never shrinks, so no more goes into one at a time, and out of one each whole record at once."""
_READ_BYTES: Final = 256 * 1024
_MAX_HANDSHAKE_BYTES: Final = 256 * 1024
"""Received and not yet looked at."""
_MAX_UNSENT_BYTES: Final = 1024 * 1024
"""More than ever waits of a response: answers that a peer makes us give (key updates) and does not read."""
_RESET: Final = "the connection was reset in the handshake"

_memory: Final = memoryview(bytearray(_READ_BYTES + _PIECE_BYTES))
"""Of the loop: plain text of one read, copied out of it in the same callback."""


class HandshakeOwner(Protocol):
    """Who wants a handshake."""

    def on_secured(self, transport: TlsTransport) -> None:
        """It is over, and `transport.peer` is there. `set_protocol` must be called before this returns, or `abort`."""

    def on_handshake_failed(self, error: Exception) -> None:
        """It is over, and so is the connection: an `ssl.SSLError`, or the socket's error or end."""


class TlsTransport:
    """
    Args:
        context: Whose certificate is shown and who is believed.
        owner: Told of the handshake's end.
        gate: Lets it do its steps.
        is_server: Our part.
        server_name: Of a client: asked for, and what the certificate must be for if the context checks names.
        session: Of a client: taken up again if the server still knows it.
        keep: Of a client: given what a later connection may take up again, if the server gives anything, and when the
            certificate of the server ends, in seconds since the Unix epoch.

    Attributes:
        is_server: As given.
        peer: Who is at the other end; None before the end of the handshake.

    Raises:
        ValueError: A server name that cannot be one.
        ssl.SSLError: Of a session that is another context's.
    """

    __slots__ = (
        "_cut",
        "_error",
        "_gate",
        "_has_peer_ended",
        "_held",
        "_incoming",
        "_keep",
        "_object",
        "_outgoing",
        "_owner",
        "_protocol",
        "_raw",
        "_server_name",
        "_state",
        "_ticket_looks",
        "is_server",
        "peer",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        owner: HandshakeOwner,
        gate: Handshakes,
        is_server: bool,
        server_name: str = "",
        session: ssl.SSLSession | None = None,
        keep: Callable[[ssl.SSLSession, float], None] | None = None,
    ) -> None:
        self.is_server = is_server
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, is_server, server_name or None, session)
        self._server_name = server_name
        self._owner: HandshakeOwner | None = owner
        self._gate = gate
        self._raw: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._protocol: asyncio.Protocol | None = None
        self._state = HANDSHAKE
        self._held = b""
        self._error: Exception | None = None
        self._cut: Exception | None = None  # how the socket has ended while octets of a handshake wait for a step
        self._has_peer_ended = False
        self._keep = keep
        self._ticket_looks = 0 if keep is None else LOOKS
        self.peer: Peer | None = None

    def __repr__(self) -> str:
        return f"<TlsTransport {_NAMES[self._state]} {self.peer!r}>"

    @property
    def shown(self) -> str:
        """What this side has to show, in words."""
        return shown_by(self._object.context)

    # --- the handshake ---------------------------------------------------------------------------------------

    def start(self, raw: asyncio.BaseTransport, received: bytes = b"") -> None:
        """Begin, on a connected socket's transport that is told to whom from now on, with what has come already."""
        self._raw = cast("asyncio.Transport", raw)
        if received:
            self._incoming.write(received)
        self._gate.ask(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        self.start(transport)

    def step(self) -> None:
        """Go on with the handshake; `Handshakes` says when."""
        if self._state != HANDSHAKE:
            return
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            if self._cut is not None:
                self._fail(self._cut)
            return
        except (ssl.SSLError, ValueError) as error:
            self._send()  # the alert, which says why
            self._fail(error)
            return
        if self._raw.is_closing():  # there is nobody any more
            self._fail(self._cut or TruncatedError(_RESET))
            return
        self._send()
        try:
            self.peer = peer_of(self._object, self._server_name)
        except ValueError as error:  # a certificate with names that are no text, or times that are none
            self._fail(error)
            return
        if self.peer.is_resumed and self.peer.not_after_s <= time.time():
            # It was verified when the session began; a ticket would let it live for ever.
            self._fail(expired())
            return
        self._state = OPEN
        owner, self._owner = self._owner, None
        assert owner is not None
        owner.on_secured(self)
        if self._state == OPEN and self._protocol is not None and (self._incoming.pending or self._object.pending()):
            self.data_received(b"")
        if self._cut is not None:
            self.eof_received()

    def give_up(self) -> None:
        """Whoever wanted the handshake waits no more, and has the socket: a step that is still to come does nothing."""
        self._state = CLOSED
        self._owner = None

    def _fail(self, error: Exception) -> None:
        """The handshake has failed."""
        owner, self._owner = self._owner, None
        self._keep = None
        self._state = CLOSED
        self._raw.close()
        if owner is not None:
            owner.on_handshake_failed(error)

    def _look_for_ticket(self) -> None:
        """Tickets come behind the handshake, with what comes first or before it; a look costs a microsecond."""
        assert self.peer is not None
        if not looks.may_look(self.peer.is_resumed):
            self._ticket_looks = 0
            return
        self._ticket_looks -= 1
        session = self._object.session
        if session is not None and session.has_ticket and self._keep is not None:
            self._ticket_looks = 0
            self._keep(session, self.peer.not_after_s)

    # --- the socket's side -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Octets of the socket."""
        if self._state == HANDSHAKE:
            self._incoming.write(data)
            if self._incoming.pending > _MAX_HANDSHAKE_BYTES:
                self._fail(ssl.SSLError("more octets than a handshake has"))
            else:
                self._gate.ask(self)
            return
        if self._state == CLOSED or self._has_peer_ended:
            return
        plain = self._decrypt(data)
        if self._outgoing.pending:
            self._answer()
        if self._ticket_looks:
            self._look_for_ticket()
        protocol = self._protocol
        if protocol is None:
            return
        if plain:
            protocol.data_received(plain)
        if self._error is not None and self._state != CLOSED:
            self.abort()  # the protocol is told of the error, behind what was whole
        elif self._has_peer_ended:
            self._tell_end()

    def _decrypt(self, data: bytes) -> bytes:
        """What has become readable, with what was held; notes an end and an error."""
        incoming, held = self._incoming, self._held
        if held:
            self._held = b""
        plain = b""
        try:
            if len(data) <= _PIECE_BYTES:
                if data:
                    incoming.write(data)
                size = incoming.pending + self._object.pending()
                if not size:
                    return held
                plain = self._object.read(size if size < _RECORD_BYTES else _RECORD_BYTES)
                if not plain:
                    self._has_peer_ended = True
                elif incoming.pending or self._object.pending():
                    plain = self._decrypt_more(plain, b"")
            else:
                plain = self._decrypt_more(b"", data)
        except ssl.SSLWantReadError:
            pass  # a part of a record, or one that is not for the protocol
        except ssl.SSLError as error:
            self._note(error)
        return held + plain if held else plain

    def _decrypt_more(self, first: bytes, data: bytes) -> bytes:
        """What has become readable behind `first`, and then of what `data` adds, in pieces."""
        incoming = self._incoming
        # With a buffer `read` gives a number, of which its stub does not know, and compiled code believes stubs.
        connection: Any = self._object
        size = len(first)
        _memory[:size] = first
        read = 0
        try:
            while True:
                waiting: int = incoming.pending + connection.pending()
                if not waiting or (waiting < _PIECE_BYTES and read < len(data)):
                    if read >= len(data):
                        break
                    incoming.write(memoryview(data)[read : read + _PIECE_BYTES])
                    read += _PIECE_BYTES
                try:
                    count: int = connection.read(_RECORD_BYTES, _memory[size : size + _RECORD_BYTES])
                except ssl.SSLWantReadError:
                    if read >= len(data):
                        break
                    incoming.write(memoryview(data)[read : read + _PIECE_BYTES])
                    read += _PIECE_BYTES
                    continue
                if not count:
                    self._has_peer_ended = True
                    break
                size += count
        except ssl.SSLError as error:
            self._note(error)
        return bytes(_memory[:size])

    def _note(self, error: ssl.SSLError) -> None:
        """A record that is none, or an alert: nothing behind it can be read."""
        if isinstance(error, ssl.SSLZeroReturnError):
            self._has_peer_ended = True
        else:
            # Without the frames that it went through: they know this transport, which would be a cycle.
            self._error = error.with_traceback(None)

    def _tell_end(self) -> None:
        """The peer's close_notify, once."""
        protocol = self._protocol
        if self._state == CLOSED or protocol is None:
            return
        self._has_peer_ended = True
        if not protocol.eof_received():
            self.close()

    def _answer(self) -> None:
        """Send what reading has made necessary, within bounds."""
        self._send()
        if self._raw.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._error = ssl.SSLError("it asks for keys and reads nothing")

    def _send(self) -> None:
        """Send what waits in the BIO."""
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def eof_received(self) -> bool:
        """The socket sends no more; without a close_notify before, it was cut."""
        if self._state == HANDSHAKE:
            self._cut = TruncatedError("the connection ended in the handshake")
            if self._incoming.pending:
                return True  # what waits for its step may be an alert, which says why, or all of a request
            self._fail(self._cut)
        elif self._state != CLOSED and not self._has_peer_ended:
            self._error = self._error or TruncatedError("ended without close_notify")
            self.abort()
        return self._has_peer_ended and self._state != CLOSED

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._keep = None  # whoever has us, and would make a cycle of it
        if self._state == HANDSHAKE:
            # Now, and not when its step has its turn: in the next moment nothing can be done with the socket any more.
            self._fail(self._last_word() or exc or TruncatedError(_RESET))
            return
        was_open = self._state != CLOSED
        self._state = CLOSED
        if exc is not None and was_open and self._error is None:
            # A write has met the end before what was received ahead of it was read; perhaps an alert, which says why.
            self._held = self.read_unread()
        self._owner = None
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            error = self._error or exc
            if error is None and was_open and not self._has_peer_ended:
                error = TruncatedError("ended without close_notify")
            protocol.connection_lost(error)

    def _last_word(self) -> Exception | None:
        """Why a peer that is gone has left, if it has said so and nobody has looked yet: an alert."""
        if self._incoming.pending:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLError, ValueError) as error:
                return error
        return None

    def pause_writing(self) -> None:
        """The peer reads slower than is written."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    # --- the connection's side -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """As `asyncio.Transport`."""
        if self._state != OPEN:
            return
        if len(data) <= _RECORD_BYTES:
            if data:
                self._object.write(data)
                self._raw.write(self._outgoing.read())
        else:
            self._raw.writelines(self._encrypt(data, []))

    def writelines(self, parts: list[bytes]) -> None:
        """As `asyncio.Transport`."""
        if self._state != OPEN:
            return
        sealed: list[bytes] = []
        for part in parts:
            self._encrypt(part, sealed)
        self._raw.writelines(sealed)

    def _encrypt(self, data: bytes, sealed: list[bytes]) -> list[bytes]:
        """Append records of these octets."""
        connection, outgoing = self._object, self._outgoing
        rest = memoryview(data)
        while rest:
            written = connection.write(rest[:_RECORD_BYTES])
            rest = rest[written:]
            if outgoing.pending >= _RECORD_BYTES:  # or its BIO would grow for ever to what two records need
                sealed.append(outgoing.read())
        if outgoing.pending:
            sealed.append(outgoing.read())
        return sealed

    def _say_end(self) -> None:
        """Send a close_notify."""
        with suppress(ssl.SSLError, ValueError):  # it wants the peer's, for which nobody waits
            self._object.unwrap()
        self._send()

    def write_eof(self) -> None:
        """No more will be written; what comes is still read (RFC 8446, 6.1)."""
        if self._state == OPEN:
            self._state = ENDED
            self._say_end()
            self._raw.write_eof()

    def can_write_eof(self) -> bool:
        """As `asyncio.Transport`."""
        return self._state == OPEN

    def close(self) -> None:
        """Say that no more will come, and close when all is sent."""
        if self._state == OPEN:
            self._say_end()
        if self._state != CLOSED:
            self._state = CLOSED
            self._raw.close()

    def abort(self) -> None:
        """Close at once; the peer can tell that it is cut, for no close_notify has come."""
        self._state = CLOSED
        self._keep = self._owner = None
        if self._raw is not None:  # else it was never connected
            self._raw.abort()

    def is_closing(self) -> bool:
        """As `asyncio.Transport`."""
        return self._state == CLOSED or self._raw.is_closing()

    def pause_reading(self) -> None:
        """As `asyncio.Transport`."""
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """As `asyncio.Transport`."""
        self._raw.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whom to tell what comes."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_write_buffer_size(self) -> int:
        """As `asyncio.Transport`: sealed octets that wait in the process."""
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As `asyncio.Transport`."""
        self._raw.set_write_buffer_limits(high=high, low=low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As `asyncio.Transport`: of the socket."""
        return self._raw.get_extra_info(name, default)

    # --- ahead of the loop -----------------------------------------------------------------------------------

    def read_unread(self) -> bytes:
        """
        What the kernel holds, as far as it is the protocol's, ahead of the socket's transport; nothing if there is
        nothing. An end is told in the next turn of the loop.
        """
        held, self._held = self._held, b""
        try:
            data = os.read(self._raw.get_extra_info("socket").fileno(), _READ_BYTES)
        except OSError:
            return held  # the transport will meet it, too
        had_ended = self._has_peer_ended
        plain = self._decrypt(data) if data else b""
        if self._outgoing.pending:
            self._answer()
        if self._has_peer_ended and not had_ended:
            asyncio.get_running_loop().call_soon(self._tell_end)
        return held + plain

    def is_quiet(self, is_socket_quiet: bool) -> bool:
        """
        Whether there is nothing for the protocol, and no end. What the kernel holds is read for that: a ticket is
        nothing.
        """
        if self._held or is_socket_quiet:
            return not self._held
        try:
            data = os.read(self._raw.get_extra_info("socket").fileno(), _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        had_ended = self._has_peer_ended
        self._held = self._decrypt(data)
        if self._outgoing.pending:
            self._answer()
        if self._has_peer_ended and not had_ended:
            asyncio.get_running_loop().call_soon(self._tell_end)
        return not self._held and not self._has_peer_ended and self._error is None
