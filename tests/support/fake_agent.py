"""
An agent of the SPIFFE Workload API: gRPC over a real socket, by `h2`, with messages by Google's own library.

    with FakeAgent(tmp_path / "agent.sock") as agent:
        agent.give(identity(root.workload("spiffe://shop/a"), root))        # to who listens, and to who comes
        agent.refuse(PERMISSION_DENIED, "no identity issued")

It does what the specifications say that a server does: who does not show the header of security gets InvalidArgument
(SPIFFE Workload Endpoint, 3), each call is answered at once and then again and again (SPIFFE Workload API, 4.3).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.support.certificates import Authority, Leaf

PATH = "/SpiffeWorkloadAPI/FetchX509SVID"
INVALID_ARGUMENT, PERMISSION_DENIED, UNIMPLEMENTED, UNAVAILABLE = 3, 7, 12, 14


def _messages() -> tuple[type[Any], type[Any]]:
    """`X509SVIDResponse` and `X509SVID` as workloadapi.proto has them."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="workload.proto", syntax="proto3")

    def add(message: Any, name: str, number: int, kind: Any, label: Any = kinds.LABEL_OPTIONAL, of: str = "") -> None:
        message.field.add(name=name, number=number, type=kind, label=label, type_name=of or None)

    svid = file.message_type.add(name="X509SVID")
    add(svid, "spiffe_id", 1, kinds.TYPE_STRING)
    for number, name in enumerate(("x509_svid", "x509_svid_key", "bundle"), 2):
        add(svid, name, number, kinds.TYPE_BYTES)
    add(svid, "hint", 5, kinds.TYPE_STRING)
    response = file.message_type.add(name="X509SVIDResponse")
    add(response, "svids", 1, kinds.TYPE_MESSAGE, kinds.LABEL_REPEATED, ".X509SVID")
    add(response, "crl", 2, kinds.TYPE_BYTES, kinds.LABEL_REPEATED)
    entry = response.nested_type.add(name="FederatedBundlesEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, kinds.TYPE_STRING)
    add(entry, "value", 2, kinds.TYPE_BYTES)
    of = ".X509SVIDResponse.FederatedBundlesEntry"
    add(response, "federated_bundles", 3, kinds.TYPE_MESSAGE, kinds.LABEL_REPEATED, of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    made = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in ("X509SVIDResponse", "X509SVID")
    ]
    return made[0], made[1]


Response, X509Svid = _messages()


def der(*certificates: x509.Certificate) -> bytes:
    """One after the other."""
    return b"".join(one.public_bytes(Encoding.DER) for one in certificates)


def identity(leaf: Leaf, *roots: Authority, spiffe_id: str = "", hint: str = "") -> Any:
    """An `X509SVID`."""
    names = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return X509Svid(
        spiffe_id=spiffe_id or names.get_values_for_type(x509.UniformResourceIdentifier)[0],
        x509_svid=der(leaf.certificate, *leaf.above),
        x509_svid_key=leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        bundle=der(*(one.certificate for one in roots)),
        hint=hint,
    )


def response(*identities: Any, crl: Sequence[bytes] = (), federated: Mapping[str, bytes] | None = None) -> bytes:
    """An `X509SVIDResponse`."""
    octets: bytes = Response(svids=identities, crl=crl, federated_bundles=federated or {}).SerializeToString()
    return octets


def framed(message: bytes) -> bytes:
    """As gRPC has it in a stream: Length-Prefixed-Message."""
    return b"\0" + len(message).to_bytes(4) + message


class _Stream:
    """A call that is being answered."""

    def __init__(self, connection: _Connection, stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.waiting = bytearray()
        self.has_begun = False

    def begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            fields = [(":status", "200"), ("content-type", "application/grpc")]
            self.connection.h2.send_headers(self.stream_id, fields)

    def send(self, octets: bytes) -> None:
        self.begin()
        self.waiting += octets
        self.pump()

    def pump(self) -> None:
        """What the window of the other side has room for."""
        connection = self.connection.h2
        while self.waiting:
            room = min(connection.local_flow_control_window(self.stream_id), connection.max_outbound_frame_size)
            if room <= 0:
                break
            connection.send_data(self.stream_id, bytes(self.waiting[:room]))
            del self.waiting[:room]
        self.connection.flush()

    def end(self, code: int, why: str) -> None:
        fields = [("grpc-status", str(code)), ("grpc-message", quote(why, safe=" "))]
        if not self.has_begun:  # Trailers-Only
            fields = [(":status", "200"), ("content-type", "application/grpc"), *fields]
        self.connection.h2.send_headers(self.stream_id, fields, end_stream=True)
        self.connection.flush()
        self.connection.streams.pop(self.stream_id, None)


class _Connection(asyncio.Protocol):
    """Somebody who asks."""

    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self.streams: dict[int, _Stream] = {}
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._agent.connections.append(self)
        self._agent.accepted += 1
        if self._agent.raw is not None:
            transport.write(self._agent.raw)
            return
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self._agent.connections.remove(self)

    def data_received(self, octets: bytes) -> None:
        if self._agent.is_silent or self._agent.raw is not None:
            return
        for event in self.h2.receive_data(octets):
            if isinstance(event, h2.events.RequestReceived):
                self._asked(event.stream_id, {str(name): str(value) for name, value in event.headers})
            elif isinstance(event, h2.events.WindowUpdated):
                for stream in tuple(self.streams.values()):
                    stream.pump()
            elif isinstance(event, h2.events.PingReceived):
                self._agent.pings += 1
        self.flush()

    def flush(self) -> None:
        if octets := self.h2.data_to_send():
            self.transport.write(octets)

    def _asked(self, stream_id: int, fields: dict[str, str]) -> None:
        self._agent.asked.append(fields)
        stream = self.streams[stream_id] = _Stream(self, stream_id)
        if fields.get("workload.spiffe.io") != "true":
            stream.end(INVALID_ARGUMENT, "security header missing from request")
        elif fields[":path"] != PATH:
            stream.end(UNIMPLEMENTED, f"unknown method {fields[':path']}")
        elif self._agent.refusal is not None:
            stream.end(*self._agent.refusal)
        elif self._agent.message is not None:
            stream.send(framed(self._agent.message))


class FakeAgent:
    """
    Args:
        path: Of the Unix socket; None: a port of TCP on this machine.

    Attributes:
        asked: Header fields of every call.
        accepted: Connections that there were.
        message: What everybody is told; None: nothing yet.
        refusal: Instead of that: code and words.
        raw: Octets that a connection begins with, and that is all.
        is_silent: Nothing that comes is answered.
        pings: Signs of life that were asked for.
        connections: That are open.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.asked: list[dict[str, str]] = []
        self.accepted = 0
        self.message: bytes | None = None
        self.refusal: tuple[int, str] | None = None
        self.raw: bytes | None = None
        self.is_silent = False
        self.pings = 0
        self.connections: list[_Connection] = []
        self._path = path
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """As the file says it."""
        return f"unix://{self._path}" if self._path is not None else f"tcp://127.0.0.1:{self._port}"

    # --- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; again, after `stop`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    def stop(self) -> None:
        """Be gone, as if killed: whoever listens finds its connection at an end."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
        self._loop = None

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            return await loop.create_unix_server(lambda: _Connection(self), str(self._path))
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port)
        self._port = server.sockets[0].getsockname()[1]
        return server

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self.connections):
            connection.transport.abort()
        while self.connections:
            await asyncio.sleep(0)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> FakeAgent:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what it says ------------------------------------------------------------------------------------------

    def give(self, *identities: Any, **more: Any) -> None:
        """To everybody: these identities; none at all is a message that there must not be."""
        self.say(response(*identities, **more))

    def say(self, message: bytes) -> None:
        """To everybody: this message."""
        self.message, self.refusal = message, None
        self.each(lambda stream: stream.send(framed(message)))

    def refuse(self, code: int, why: str = "") -> None:
        """To everybody."""
        self.refusal = code, why
        self.each(lambda stream: stream.end(code, why))

    def each(self, act: Callable[[_Stream], None]) -> None:
        """Do it with every call that is open."""
        if self._loop is None:
            return

        def do() -> None:
            for connection in self.connections:
                for stream in tuple(connection.streams.values()):
                    act(stream)

        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (do(), done.set()))
        assert done.wait(30)

    @property
    def listening(self) -> int:
        """Calls that are open."""
        return sum(len(one.streams) for one in tuple(self.connections))
