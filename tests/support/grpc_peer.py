"""
A server and a client of gRPC, by grpcio, as programs:
`python -m tests.support.grpc_peer serve PORT`, and `ask TARGET WORD`.

The server answers a word with itself in capitals, and a stream of words likewise; both without protobuf's messages. It
also says how it is (grpc.health.v1): the whole of it serves, the service `stopped` does not, others it does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "tests.Shout"
PATIENCE_S = 15.0


def say(text: str) -> None:
    """A line for who started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def serve(port: str) -> None:
    """Until it is killed; says `listening` when it does."""
    handlers = {
        "Word": grpc.unary_unary_rpc_method_handler(lambda word, context: word.upper()),
        "Words": grpc.stream_stream_rpc_method_handler(lambda words, context: (word.upper() for word in words)),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    health = {"Check": grpc.unary_unary_rpc_method_handler(_check)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    bound = server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    say(f"listening {bound}")
    server.wait_for_termination()


def _check(asked: bytes, context: grpc.ServicerContext) -> bytes:
    """Of a message of one text: `HealthCheckRequest.service`."""
    if asked not in (b"", b"\x0a\x07stopped"):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return b"\x08\x02" if asked else b"\x08\x01"


def ask(target: str, word: str) -> None:
    """One word, then a stream of three; prints the answers, or the status's name."""

    def words() -> Iterator[bytes]:
        for number in range(3):
            yield f"{word}{number}".encode()

    with grpc.insecure_channel(target) as channel:
        try:
            say(channel.unary_unary(f"/{SERVICE}/Word")(word.encode(), timeout=PATIENCE_S).decode())
            streamed = channel.stream_stream(f"/{SERVICE}/Words")(words(), timeout=PATIENCE_S)
            say(" ".join(answer.decode() for answer in streamed))
        except grpc.RpcError as error:
            say(error.code().name)


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
