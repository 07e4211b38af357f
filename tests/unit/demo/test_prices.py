"""The demonstration's service of gRPC, asked by itself and by grpcio."""

from __future__ import annotations

import asyncio
import socket

import grpc
import pytest

from sidecar.demo.apps import app
from sidecar.demo.http11 import HTTPError, Request
from sidecar.demo.prices import QUOTE, listen, price_of

PATIENCE_S = 15.0
BOOK = b"\x0a\x04book"
PRICE = "527"


def test_a_price_is_the_same_to_grpcio_and_on_an_app_s_page() -> None:
    """By HTTP/2 in clear, through what the app has for its proxy; grpcio asks for several on one connection."""

    async def main() -> tuple[str, list[bytes], bytes]:
        server, connections = await listen(0.0)
        port = server.sockets[0].getsockname()[1]

        def ask() -> list[bytes]:
            with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
                call = channel.unary_unary(QUOTE)
                return [one.result(PATIENCE_S) for one in [call.future(BOOK) for _ in range(5)]]

        price = await price_of("book", port, "prices", [("x-request-id", "1")], PATIENCE_S)
        catalog = app("catalog", "v1", 0.0, ["grpc:prices"], {"HTTP_PROXY": f"http://127.0.0.1:{port}"})
        page = await catalog(Request("GET", "/", {"cookie": "uid=1"}, b""))
        answers = await asyncio.to_thread(ask)
        server.close()
        for connection in tuple(connections):
            connection.close()
        assert page.status == 200
        return price, answers, page.body

    price, answers, page = asyncio.run(main())
    assert price == PRICE
    assert answers == [b"\x0a\x03" + PRICE.encode()] * 5
    assert b'"prices": {"price": "527"}' in page


def test_what_is_not_its_method_and_nobody_at_all_are_told() -> None:
    """A page without its price is none: the app answers 502."""

    async def main() -> None:
        server, connections = await listen(0.0)
        with pytest.raises(HTTPError, match="gRPC: Unimplemented"):
            await price_of("", server.sockets[0].getsockname()[1], "prices", [], PATIENCE_S)
        server.close()
        for connection in tuple(connections):
            connection.close()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and nobody listens
            port = taken.getsockname()[1]
            catalog = app("catalog", "v1", 0.0, ["grpc:prices"], {"HTTP_PROXY": f"http://127.0.0.1:{port}"})
            page = await catalog(Request("GET", "/", {}, b""))
        assert page.status == 502
        assert b"cannot connect" in page.body

    asyncio.run(main())
