"""
A server of gRPC by grpcio that the test plays with, in its own process, and channels of clients.

Messages are octets, without protobuf. What a handler has seen of its call is kept by the call's `x-call`, which each
test chooses.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from tests.support.certificates import Leaf
from tests.support.wait import eventually

SERVICE = "tests.Calls"
MOST_BYTES = 20 * 1024 * 1024
PATIENCE_S = 20.0
Metadata = Sequence[tuple[str, str | bytes]]
_SIZES = [("grpc.max_send_message_length", MOST_BYTES), ("grpc.max_receive_message_length", MOST_BYTES)]
_OWN = ("user-agent", "x-forwarded-", "traceparent", "via", "x-request-id")


class Call:
    """
    What a handler has seen of one.

    Attributes:
        metadata: As it came, without what is not the client's.
        left_s: How long it may take.
        is_over: Set when it has ended for the server, however.
        may_go_on: For a handler that waits to be told.
    """

    def __init__(self, context: grpc.ServicerContext) -> None:
        self.metadata = [(key, value) for key, value in context.invocation_metadata() if not key.startswith(_OWN)]
        self.left_s = context.time_remaining()
        self.is_over = threading.Event()
        self.may_go_on = threading.Event()
        self.context = context
        context.add_callback(self.is_over.set)


class Calls:
    """
    The service: `Echo`, `Join` (of a stream), `Count` (a stream of so many), `Talk` (both), and calls that do not end
    well.

    Attributes:
        port: In clear.
        secure_port: By TLS, if there is a certificate.
    """

    def __init__(self, leaf: Leaf | None = None, *, workers: int = 16) -> None:
        self._seen: dict[str, Call] = {}
        self._server = grpc.server(ThreadPoolExecutor(workers), options=_SIZES)
        handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "Join": grpc.stream_unary_rpc_method_handler(self._join),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "Talk": grpc.stream_stream_rpc_method_handler(self._talk),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self._fail_late),
            "Wait": grpc.unary_unary_rpc_method_handler(self._wait),
            "Drip": grpc.unary_stream_rpc_method_handler(self._drip),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.secure_port = 0
        if leaf is not None:
            credentials = grpc.ssl_server_credentials([(leaf.key_pem, leaf.chain_pem)])
            self.secure_port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait(PATIENCE_S)

    def kill(self) -> None:
        """Be gone at once, whatever is running."""
        self._server.stop(0)

    def seen(self, name: str) -> Call:
        """The call of this name, waiting for it."""
        return eventually(lambda: self._seen.get(name), f"the call {name}")  # type: ignore[return-value]

    def _note(self, context: grpc.ServicerContext) -> Call:
        call = Call(context)
        for key, value in call.metadata:
            if key == "x-call":
                self._seen[str(value)] = call
        return call

    def _echo(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        call = self._note(context)
        back = [pair for pair in call.metadata if pair[0].startswith("x-")]
        context.send_initial_metadata([(f"head-{key}", value) for key, value in back])
        context.set_trailing_metadata([(f"end-{key}", value) for key, value in back])
        return message

    def _join(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._note(context)
        return b"".join(messages)

    def _count(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._note(context)
        for number in range(int(message)):
            yield b"%d" % number

    def _talk(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._note(context)
        for message in messages:
            yield message.upper()

    def _fail(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        self._note(context)
        context.set_trailing_metadata([("x-why-bin", b"\x00\xff why")])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, message.decode())

    def _fail_late(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._note(context)
        yield message
        context.abort(grpc.StatusCode.DATA_LOSS, "behind the first")

    def _wait(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """Until it is over for the client, or may go on."""
        call = self._note(context)
        eventually(lambda: call.is_over.is_set() or call.may_go_on.is_set(), "its end")
        return message

    def _drip(self, message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """One now, and another when it may go on."""
        call = self._note(context)
        yield message
        eventually(lambda: call.is_over.is_set() or call.may_go_on.is_set(), "its end")
        yield message


class Channel:
    """A client's."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def method(self, kind: str, name: str) -> Any:
        """A callable of grpcio's: kind is `unary_unary` and the like."""
        return getattr(self.channel, kind)(f"/{SERVICE}/{name}")

    def unary(self, name: str, message: bytes, **options: Any) -> bytes:
        """One message, one answer."""
        answer: bytes = self.method("unary_unary", name)(message, **{"timeout": PATIENCE_S, **options})
        return answer


@contextlib.contextmanager
def channel(
    port: int, authority: str = "", root_pem: bytes | None = None, *options: tuple[str, Any]
) -> Iterator[Channel]:
    """To a port of this machine: in clear, or by TLS if there is a root. Its own connection, shared with no other."""
    given = [*_SIZES, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), *options]
    if authority:
        given.append(("grpc.default_authority", authority))
    if root_pem is None:
        made = grpc.insecure_channel(f"127.0.0.1:{port}", given)
    else:
        made = grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(root_pem), given)
    with made:
        yield Channel(made)
