"""The check by gRPC: against grpcio, and against servers that are none of gRPC."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from sidecar.net.address import parse_address
from sidecar.net.grpc.protobuf import octets_field
from sidecar.net.names import Names
from sidecar.upstream.cluster import Cluster, ClusterSpec
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.health.checks import HealthSpec, HttpProbe
from sidecar.upstream.health.grpc_check import _problem_of

ROOT = Path(__file__).parents[4]


def endpoint_at(port: int | str) -> Endpoint:
    return Endpoint(Cluster(ClusterSpec("web")), parse_address(f"127.0.0.1:{port}"))


def test_grpcio_is_asked_and_understood() -> None:
    """The whole server serves; of one service it says that it does not, and of another that there is none."""

    async def main() -> list[str]:
        words = ("-m", "tests.support.grpc_peer", "serve", "0")
        server = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        try:
            assert server.stdout is not None
            async with asyncio.timeout(20):
                port = (await server.stdout.readline()).split()[1].decode()
                probe, endpoint = HttpProbe(Names()), endpoint_at(port)
                return [
                    await probe(HealthSpec(grpc_service=name, host="shop", headers=(("X-Check", "yes"),)), endpoint)
                    for name in ("", "stopped", "unknown")
                ]
        finally:
            server.kill()
            await server.communicate()

    assert asyncio.run(main()) == ["", "it is NOT_SERVING", "NotFound: no such service"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak HTTP/2: it does not begin with SETTINGS"),
        (b"", "it closed the connection"),
    ],
)
def test_a_server_without_http2_is_not_healthy(answer: bytes, problem: str) -> None:
    """One that answers something else, and one that hangs up."""

    async def main() -> str:
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            endpoint = endpoint_at(server.sockets[0].getsockname()[1])
            return await HttpProbe(Names())(HealthSpec(grpc_service=""), endpoint)

    assert asyncio.run(main()).startswith(problem)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([b"\x08\x01"], ""),
        ([b""], "it is UNKNOWN"),
        ([b"\x08\x03"], "it is SERVICE_UNKNOWN"),
        ([b"\x08\x09"], "it is of an unknown status"),
        ([octets_field(1, b"\x01")], "it is of an unknown status"),
        ([octets_field(2, b"later") + b"\x08\x01"], ""),
        ([b"\x08"], "its answer is none of grpc.health.v1: the message ends within a number"),
        ([], "it answers with 0 messages, not with one"),
        ([b"\x08\x01", b"\x08\x01"], "it answers with 2 messages, not with one"),
    ],
)
def test_only_one_answer_that_says_serving_is_good(answers: list[bytes], problem: str) -> None:
    """health.proto, `HealthCheckResponse`; a field that is left out is 0, and others may come later."""
    assert _problem_of(answers) == problem
