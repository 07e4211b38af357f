"""`config/examples/grpc.yaml` does what it says to clients and servers of grpcio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from tests.support.process import running_sidecar

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "examples" / "grpc.yaml"
LIST, WATCH, BUY = "/shop.Recommendations/List", "/shop.Recommendations/Watch", "/shop.Orders/Buy"
PATIENCE_S = 15.0


class Shop:
    """
    A server of gRPC that answers with its name; whoever asks for `busy` is refused by it.

    Attributes:
        asked: How often which method was called.
        port: Where it listens.
    """

    def __init__(self, name: str) -> None:
        self.asked: Counter[str] = Counter()
        self._name = name.encode()
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """What grpcio asks of each call."""
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(lambda asked, context: b"\x08\x01")
        self.asked[details.method] += 1
        if details.method == WATCH:
            return grpc.stream_stream_rpc_method_handler(lambda words, context: (self._name + word for word in words))
        return grpc.unary_unary_rpc_method_handler(self._answer) if details.method in (LIST, BUY) else None

    def _answer(self, word: bytes, context: grpc.ServicerContext) -> bytes:
        if word == b"busy":
            context.abort(grpc.StatusCode.UNAVAILABLE, "too busy")
        return self._name

    def stop(self) -> None:
        self._server.stop(None).wait(PATIENCE_S)


@contextmanager
def shop(name: str) -> Iterator[Shop]:
    server = Shop(name)
    try:
        yield server
    finally:
        server.stop()


def test_calls_are_routed_split_retried_and_failed_as_the_file_says(tmp_path: Path) -> None:
    """A canary by metadata, a split, a stream, three attempts of what reads and one of what writes, a fault."""
    with ExitStack() as stack:
        stable, beta = stack.enter_context(shop("stable")), stack.enter_context(shop("beta"))
        text = EXAMPLE.read_text()
        for written, used in {
            "0.0.0.0:15000": "127.0.0.1:${INBOUND_PORT}",
            "0.0.0.0:15100": "127.0.0.1:0",
            "127.0.0.1:15001": "127.0.0.1:${OUTBOUND_PORT}",
            '"10.0.0.11:9090", "10.0.0.12:9090", "10.0.0.13:9090"': f'"127.0.0.1:{stable.port}"',
            "10.0.0.21:9090": f"127.0.0.1:{beta.port}",
        }.items():
            assert text.count(written) == 1
            text = text.replace(written, used)
        sidecar = stack.enter_context(running_sidecar(tmp_path, text))
        options = [("grpc.default_authority", "recommendations"), ("grpc.enable_http_proxy", 0)]
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{sidecar.outbound_port}", options))

        def call(path: str, word: bytes = b"word", **metadata: str) -> str:
            pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
            try:
                return str(channel.unary_unary(path)(word, timeout=PATIENCE_S, metadata=pairs).decode())
            except grpc.RpcError as error:
                return str(error.code().name)

        assert {call(LIST, x_canary="1") for _ in range(5)} == {"beta"}
        answers = Counter(call(LIST) for _ in range(200))
        # 200 draws at 95 %: fewer than 160 have a probability below 1e-12; none of the 5 % has 3e-5.
        assert set(answers) <= {"stable", "beta"}
        assert answers["stable"] >= 160
        assert len({call(LIST, x_user="ada") for _ in range(10)}) == 1
        words = channel.stream_stream(WATCH)(iter([b"1", b"2"]), timeout=PATIENCE_S)
        assert list(words) == [b"stable1", b"stable2"]
        assert call(BUY) == "stable"

        before = stable.asked[LIST] + beta.asked[LIST]
        assert call(LIST, b"busy") == "UNAVAILABLE"
        assert stable.asked[LIST] + beta.asked[LIST] - before == 3
        before = stable.asked[BUY]
        assert call(BUY, b"busy") == "UNAVAILABLE"
        assert stable.asked[BUY] - before == 1

        before = stable.asked[LIST] + beta.asked[LIST]
        assert call(LIST, x_fault_test="1") == "UNAVAILABLE"
        assert stable.asked[LIST] + beta.asked[LIST] == before
        assert call("/shop.Other/Do") == "UNIMPLEMENTED"
        assert sidecar.metric("sidecar_grpc_requests_total", route="buy", grpc_status="OK") == 1
        assert sidecar.metric("sidecar_grpc_requests_total", route="buy", grpc_status="UNAVAILABLE") == 1
