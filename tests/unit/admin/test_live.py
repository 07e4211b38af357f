"""Taps: what they show, what they leave out, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import h11
import pytest

from sidecar import errors
from sidecar.admin import live, server
from sidecar.admin.endpoints import Endpoints
from sidecar.admin.live import Tap, event_of, tap_of
from sidecar.admin.server import AdminServer
from sidecar.admin.tap_filter import Filter
from sidecar.cli.tap import describe
from sidecar.errors import Reason
from sidecar.exchange import Direction, Exchange
from sidecar.message import Field, RequestHead, Version
from sidecar.redact import Secrets
from tests.unit.admin.process import FakeProcess

SECOND_NS = 1_000_000_000


class Scope:
    def __init__(self, route: str, upstream: str) -> None:
        self.route = route
        self.upstream = upstream


class Endpoint:
    label = "10.0.0.1:80"


def exchange(
    path: bytes = b"/v1/items",
    *,
    method: bytes = b"GET",
    status: int = 200,
    grpc_status: int = -1,
    query: bytes | None = None,
    fields: Sequence[tuple[bytes, bytes]] = (),
    route: str = "canary",
    upstream: str = "beta",
    direction: Direction = Direction.OUTBOUND,
    reason: Reason | None = None,
    end_ns: int = 0,
) -> Exchange:
    """One that is over; it took 12.5 ms, 10 of them upstream."""
    head = RequestHead(method, path, query, 1)
    head.host = b"shop"
    head.fields = [Field(name, value, 0, name + b": " + value) for name, value in fields]
    one = Exchange(direction, end_ns - 12_500_000, head, ("192.0.2.7", 4711))
    one.sent_ns, one.first_byte_ns, one.end_ns = one.start_ns + 1_000_000, one.start_ns + 11_000_000, end_ns
    one.scope, one.endpoint, one.attempts = Scope(route, upstream), Endpoint(), 1
    one.status, one.reason, one.request_id, one.trace_id = status, reason, b"id-1", b"t" * 32
    one.grpc_status = grpc_status
    return one


def unread() -> Exchange:
    """One whose request could not be read."""
    one = Exchange(Direction.INBOUND, 0, None, ("::1", 9))
    one.raw_line, one.status, one.reason, one.detail = b"\x1b[2J\xff" + b"a" * 500, 400, errors.BAD_REQUEST, "no\x7fway"
    return one


class TestFilter:
    """`Filter`: criteria of the address."""

    @pytest.mark.parametrize(
        ("name", "yes", "no"),
        [
            ("direction", ["outbound"], ["inbound"]),
            ("route", ["canary", "can*", "c?nary", "[cd]anary"], ["can", "-", "*x"]),
            ("upstream", ["beta", "*"], ["recommendations", "-"]),
            ("path", ["/", "/v1", "/v1/it", "*/items", "/v?/*", "*"], ["/v2", "/v1/items/", "*/item", "/V1"]),
            ("method", ["GET"], ["get", "POST"]),
            (
                "status",
                [">=400", ">402", "403", "=403", "4xx", "400-403", "<=403", "<404", "!=200"],
                [">403", "<403", "5xx", "404-499", "!=403", "200"],
            ),
            ("header", ["x-tag", "X-Tag=a, b", "x-tag=a*", "cookie"], ["x-other", "x-tag=a", "x-other=*"]),
            ("flag", ["NR"], ["-", "UF"]),
        ],
    )
    def test_each_criterion_accepts_what_it_says_and_nothing_else(
        self, name: str, yes: list[str], no: list[str]
    ) -> None:
        """One exchange against the values that must and must not accept it."""
        fields = [(b"x-tag", b"a"), (b"cookie", b"k=v"), (b"x-tag", b"b")]
        one = exchange(status=403, fields=fields, reason=errors.NO_ROUTE)
        for value in yes:
            assert Filter([(name, value)])(one), value
        for value in no:
            assert not Filter([(name, value)])(one), value

    @pytest.mark.parametrize(
        ("name", "yes", "no"),
        [
            ("status", ["503", "5xx", ">=500", "!=200"], ["200", "2xx", "<400", "!=503"]),
            ("grpc_status", ["UNAVAILABLE", "14", "!=OK", "!=0", "!=13"], ["OK", "0", "INTERNAL", "!=14", "-"]),
        ],
    )
    def test_a_call_that_failed_is_found_by_what_stands_for_how_and_by_its_status(
        self, name: str, yes: list[str], no: list[str]
    ) -> None:
        """Though 200 was sent, as in the access log's filter."""
        one = exchange(grpc_status=14)
        assert all(Filter([(name, value)])(one) for value in yes)
        assert not any(Filter([(name, value)])(one) for value in no)

    def test_what_is_no_call_has_no_status_of_one(self) -> None:
        """It is asked for by a dash."""
        assert Filter([("grpc_status", "-")])(exchange())
        assert not any(Filter([("grpc_status", value)])(exchange()) for value in ("OK", "2", "!=OK"))

    def test_values_of_one_criterion_are_alternatives_but_headers_must_all_hold(self) -> None:
        """`route=a&route=b` is either; `header=a&header=b` is both; different criteria are all."""
        one = exchange(fields=[(b"a", b"1")])
        assert Filter([("route", "x"), ("route", "canary")])(one)
        assert not Filter([("header", "a"), ("header", "b")])(one)
        assert not Filter([("route", "canary"), ("method", "POST")])(one)

    def test_what_reached_no_route_is_asked_for_by_a_dash(self) -> None:
        """Also requests that could not be read, which have no path, method or header."""
        bad = unread()
        assert Filter([("route", "-"), ("upstream", "-"), ("direction", "inbound"), ("flag", "DPE")])(bad)
        for name, value in [("path", "/"), ("path", "/*x"), ("method", "GET"), ("header", "a"), ("header", "a=*")]:
            assert not Filter([(name, value)])(bad), name

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("direction", "up"), ("path", "v1"), ("method", "GE T"), ("method", ""), ("status", "40"),
            ("status", ">=4xx"), ("status", "6xx"), ("status", "600x"), ("header", "a b=1"), ("header", ""),
            ("flag", "XX"), ("colour", "red"), ("grpc_status", "17"), ("grpc_status", "unavailable"),
            ("grpc_status", "!="), ("grpc_status", "5xx"), ("grpc_status", "!=-"), ("grpc_status", "0014"),
        ],
    )  # fmt: skip
    def test_what_is_no_criterion_is_refused_by_name(self, name: str, value: str) -> None:
        """The text says which parameter, and what was got."""
        with pytest.raises(ValueError, match=name):
            Filter([(name, value)])

    @pytest.mark.parametrize("name", ["authorization", "Cookie", "x-api-key", "proxy-authorization"])
    def test_the_value_of_a_secret_cannot_be_searched_for(self, name: str) -> None:
        """Whether it is there may be asked, its value not: a pattern would find it letter by letter."""
        with pytest.raises(ValueError, match="cannot be asked for"):
            Filter([("header", f"{name}=a*")])
        assert Filter([("header", name)])(exchange(fields=[(name.lower().encode(), b"x")]))


class TestEvent:
    """`event_of`: one exchange as it is shown."""

    def test_has_the_access_logs_keys_and_values(self) -> None:
        """Who knows the log knows the tap."""
        event = event_of(exchange(query=b"a=1&b", fields=[(b"host", b"shop"), (b"x-a", b"caf\xc3\xa9")]))
        del event["start_time"]
        assert event == {
            "direction": "outbound", "method": "GET", "path": "/v1/items?a=1&b", "protocol": "HTTP/1.1",
            "response_code": 200, "response_flags": "-", "response_code_details": "via_upstream",
            "route_name": "canary", "upstream_cluster": "beta", "upstream_host": "10.0.0.1:80",
            "bytes_received": 0, "bytes_sent": 0, "duration": 12.5, "upstream_service_time": 10.0,
            "request_id": "id-1", "trace_id": "t" * 32, "authority": "shop",
            "downstream_remote_address": "192.0.2.7:4711", "attempts": 1,
            "headers": [("host", "shop"), ("x-a", "café")],
        }  # fmt: skip

    def test_the_protocol_is_called_as_in_the_access_log(self) -> None:
        """Whatever version the request came in."""
        one = exchange()
        assert one.head is not None
        one.head.version = Version.HTTP2
        assert event_of(one)["protocol"] == "HTTP/2"

    @pytest.mark.parametrize("after_ns", [0, 1, 999_999, 173_999_999, 173_999_950, 174_000_000, 999_999_999])
    def test_the_start_is_cut_to_the_millisecond_as_in_the_access_log(
        self, after_ns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = exchange()
        monkeypatch.setattr(live.clock, "wall_ns", lambda _: 1_790_000_000 * SECOND_NS + after_ns)
        assert event_of(one)["start_time"] == f"2026-09-21T14:13:20.{after_ns // 1_000_000:03d}Z"

    def test_a_connection_that_is_no_https_has_its_protocol_and_where_it_goes(self) -> None:
        """And nothing that only a request has."""
        one = exchange(method=b"CONNECT", path=b"")
        one.protocol, one.head.port = "tls", 443  # type: ignore[union-attr]
        event = event_of(one)
        assert (event["protocol"], event["authority"], event["response_code"]) == ("tls", "shop:443", 0)
        assert event["method"] is event["path"] is event["headers"] is None
        assert "raw_line" not in event
        assert "tls 12.5ms shop:443" in click.unstyle(describe(event))

    def test_a_request_that_could_not_be_read_has_its_first_octets(self) -> None:
        """And nothing of what a head would have said."""
        event = event_of(unread())
        assert event["raw_line"] == "\x1b[2Jÿ" + "a" * 251
        assert (event["method"], event["path"], event["headers"], event["route_name"]) == (None, None, None, None)
        assert (event["response_flags"], event["response_code_details"]) == ("DPE", "bad_request")
        assert (event["downstream_remote_address"], event["detail"]) == ("[::1]:9", "no\x7fway")

    @pytest.mark.parametrize(
        "name", ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-amz-security-token", "x-auth-token"]
    )
    def test_secrets_in_fields_are_hidden(self, name: str) -> None:
        """The name is shown, the value is not."""
        event = event_of(exchange(fields=[(name.encode(), b"hunter2")]))
        assert event["headers"] == [(name, "[redacted]")]

    @pytest.mark.parametrize("name", ["token", "access_token", "X-Amz-Signature", "sig", "api%5Fkey", "password"])
    def test_secrets_in_the_query_are_hidden(self, name: str) -> None:
        """Also when the name is written with escapes."""
        event = event_of(exchange(query=f"a=1&{name}=hunter2&b=2".encode()))
        assert event["path"] == f"/v1/items?a=1&{name}=[redacted]&b=2"


async def lines_of(tap: Tap) -> list[dict[str, Any]]:
    """The next events of a tap."""
    return [json.loads(line) for line in (await tap.next()).splitlines()]


def opened(process: FakeProcess, *params: tuple[str, str]) -> Tap:
    tap = tap_of(process, params)
    assert tap.open()
    return tap


class TestTap:
    """`Tap`: the stream of one client."""

    def test_shows_what_it_accepts_in_order(self) -> None:
        """Lines of JSON, one an exchange."""

        async def run() -> None:
            tap = opened(FakeProcess(), ("status", ">=400"))
            for status in (200, 404, 503):
                tap(exchange(status=status))
            assert [event["response_code"] for event in await lines_of(tap)] == [404, 503]

        asyncio.run(run())

    def test_no_event_shows_the_value_of_a_secret_variable(self) -> None:
        """Under whatever name, and what is left is JSON: `\\u00e9` holds no secret that begins with a 0."""

        async def run() -> None:
            process = FakeProcess()
            tap = tap_of(process, [("limit", "1")], Secrets(["hunter22", "00e9abcd"]))
            assert tap.open()
            fields = [(b"x-a", b"k=hunter22"), (b"x-b", b"\xc3\xa9abcd"), (b"referer", b'http://u:pw@h/?token=a"b')]
            tap(exchange(query=b"a=hunter22", fields=fields))
            (event,) = await lines_of(tap)
            assert event["path"].endswith("?a=[redacted]")
            assert event["headers"] == [
                ["x-a", "k=[redacted]"], ["x-b", "éabcd"], ["referer", 'http://[redacted]@h/?token=[redacted]"b'],
            ]  # fmt: skip

        asyncio.run(run())

    def test_waits_until_there_is_something(self) -> None:
        """`next` returns when an exchange comes."""

        async def run() -> None:
            tap = opened(FakeProcess())
            waiting = asyncio.ensure_future(lines_of(tap))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not waiting.done()
            tap(exchange())
            assert len(await waiting) == 1

        asyncio.run(run())

    def test_a_line_is_ascii_without_control_octets(self) -> None:
        """Whatever a peer says, a terminal that shows the stream as it is obeys nothing of it."""

        async def run() -> None:
            tap = opened(FakeProcess())
            everything = bytes(range(256))
            tap(exchange(b"/" + everything, query=everything, fields=[(b"x-a", everything)]))
            tap(unread())
            data = await tap.next()
            assert data.count(b"\n") == 2
            assert set(data) - {0x0A} <= set(range(0x20, 0x7F))
            assert json.loads(data.splitlines()[1])["detail"] == "no\x7fway"

        asyncio.run(run())

    def test_more_than_the_rate_is_left_out_and_counted(self) -> None:
        """As many at once as in a second; then as many as the time that passed allows."""

        async def run() -> None:
            tap = opened(FakeProcess(), ("rate", "10"))
            for _ in range(25):
                tap(exchange(end_ns=SECOND_NS))
            tap(exchange(end_ns=SECOND_NS + SECOND_NS // 5))
            events = await lines_of(tap)
            assert len(events) == 12
            assert events[-1] == {"dropped": {"rate": 15, "slow_reader": 0}}
            tap(exchange(end_ns=SECOND_NS + SECOND_NS // 5))
            tap(exchange(end_ns=SECOND_NS + SECOND_NS // 5))
            assert [event.get("dropped") for event in await lines_of(tap)] == [None, {"rate": 1, "slow_reader": 0}]

        asyncio.run(run())

    def test_what_a_slow_reader_cannot_take_is_left_out_and_counted(self) -> None:
        """Memory is bounded by MAX_BUFFER_BYTES and one event."""

        async def run() -> None:
            tap = opened(FakeProcess(), ("rate", "10000"))
            for _ in range(2000):
                tap(exchange())
            data = await tap.next()
            last = json.loads(data.splitlines()[-1])
            assert len(data) < live.MAX_BUFFER_BYTES + 2048
            assert last["dropped"]["slow_reader"] == 2000 - (data.count(b"\n") - 1) > 0
            tap(exchange())
            assert len(await lines_of(tap)) == 1

        asyncio.run(run())

    def test_ends_after_its_limit_and_looks_no_more(self) -> None:
        """The observer is gone at the moment of the last event."""

        async def run() -> None:
            process = FakeProcess()
            tap = opened(process, ("limit", "2"))
            tap(exchange())
            assert process.observers == [tap]
            tap(exchange())
            assert process.observers == []
            assert len(await lines_of(tap)) == 2
            assert await tap.next() == b""

        asyncio.run(run())

    def test_without_events_an_empty_line_shows_that_it_lives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that a client that vanished is noticed."""
        monkeypatch.setattr(live, "HEARTBEAT_S", 0.001)

        async def run() -> None:
            tap = opened(FakeProcess())
            assert await tap.next() == b"\n"

        asyncio.run(run())

    @pytest.mark.parametrize(
        ("name", "value"), [("rate", "0"), ("rate", "10001"), ("rate", "x"), ("limit", "-1"), ("limit", "²")]
    )
    def test_numbers_out_of_bounds_are_refused(self, name: str, value: str) -> None:
        """The text says the bounds."""
        with pytest.raises(ValueError, match=f"{name}: expected a whole number from 1 to"):
            tap_of(FakeProcess(), [(name, value)])


Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter, AdminServer, FakeProcess], Awaitable[None]]


def converse(conversation: Conversation) -> None:
    """Run a conversation with a server; afterwards no observer and no connection may be left."""

    async def run() -> None:
        process = FakeProcess()
        admin = AdminServer(Endpoints.everything(process))
        listener = await asyncio.get_running_loop().create_server(admin.protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname()[:2])
        async with asyncio.timeout(20):
            await conversation(reader, writer, admin, process)
            writer.close()
            while admin.connection_count or process.observers:
                await asyncio.sleep(0.001)
        listener.close()

    asyncio.run(run())


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def ask(writer: asyncio.StreamWriter, target: str = "/tap") -> None:
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()


class TestOverHttp:
    """`GET /tap` as the admin server streams it."""

    def test_streams_chunks_until_the_limit_and_ends_well(self) -> None:
        """Read with h11: the body has its end, and the connection closes."""

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer, process: FakeProcess
        ) -> None:
            await ask(writer, "/tap?limit=2&path=/v1")
            client = h11.Connection(h11.CLIENT)
            client.send(h11.Request(method="GET", target="/tap", headers=[("Host", "x")]))
            client.send(h11.EndOfMessage())
            head = await head_of(reader)
            assert b"transfer-encoding: chunked" in head.lower()
            assert b"content-type: application/x-ndjson" in head.lower()
            for path in (b"/v1/a", b"/v2", b"/v1/b"):
                for observer in list(process.observers):
                    observer(exchange(path))
            client.receive_data(head + await reader.read())
            assert [json.loads(line)["path"] for line in _body(client).splitlines()] == ["/v1/a", "/v1/b"]

        converse(conversation)

    def test_the_observer_is_there_when_the_head_is_and_gone_with_the_client(self) -> None:
        """Nobody looks before, and nobody after."""

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer, process: FakeProcess
        ) -> None:
            assert process.observers == []
            await ask(writer)
            await head_of(reader)
            assert len(process.observers) == 1

        converse(conversation)

    def test_a_client_that_resets_is_noticed_without_an_event(self) -> None:
        """The connection is read while it streams."""

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer, process: FakeProcess
        ) -> None:
            await ask(writer)
            await head_of(reader)
            writer.transport.abort()

        converse(conversation)

    def test_a_client_that_talks_meanwhile_is_cut(self) -> None:
        """What it sends is not kept."""

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer, process: FakeProcess
        ) -> None:
            await ask(writer)
            await head_of(reader)
            writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await head_of(reader)

        converse(conversation)

    def test_a_drain_ends_the_stream_in_order(self) -> None:
        """What was seen is sent, then the last chunk."""

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admin: AdminServer, process: FakeProcess
        ) -> None:
            await ask(writer)
            await head_of(reader)
            process.observers[0](exchange())
            admin.close_idle()
            body = await reader.read()
            assert b'"/v1/items"' in body
            assert body.endswith(b"0\r\n\r\n")

        converse(conversation)

    def test_a_client_that_reads_nothing_holds_bounded_memory_and_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Events beyond the buffers are counted, and after IDLE_TIMEOUT_S the connection is closed."""
        monkeypatch.setattr(server, "IDLE_TIMEOUT_S", 0.2)
        monkeypatch.setattr(live, "BATCH_S", 0.001)

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admin: AdminServer, process: FakeProcess
        ) -> None:
            await ask(writer, "/tap?rate=10000")
            await head_of(reader)
            writer.transport.pause_reading()
            one = exchange(b"/" + b"a" * 30_000)
            for turn in range(10_000):
                if not process.observers:
                    break
                one.end_ns = turn * SECOND_NS
                process.observers[0](one)
                await asyncio.sleep(0.001)
            assert process.observers == []

        converse(conversation)

    def test_too_many_taps_are_refused(self) -> None:
        """503 that says why; those that are there go on."""

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer, process: FakeProcess
        ) -> None:
            process.max_observers = 0
            await ask(writer)
            assert b" 503 " in await head_of(reader)

        converse(conversation)

    def test_several_clients_look_at_once_each_with_its_own_filter(self) -> None:
        """One's limit does not end the other."""

        async def run() -> None:
            process = FakeProcess()
            first, second = opened(process, ("limit", "1")), opened(process, ("status", "500"))
            for status in (200, 500):
                for observer in list(process.observers):
                    observer(exchange(status=status))
            assert [event["response_code"] for event in await lines_of(first)] == [200]
            assert [event["response_code"] for event in await lines_of(second)] == [500]
            assert process.observers == [second]

        asyncio.run(run())

    def test_bad_parameters_are_a_400_that_says_which(self) -> None:
        """And no observer is added."""

        async def conversation(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: AdminServer, process: FakeProcess
        ) -> None:
            await ask(writer, "/tap?status=many")
            assert b" 400 " in await head_of(reader)
            assert b"status: expected one of" in await reader.readline()

        converse(conversation)


def _body(client: h11.Connection) -> bytes:
    """The body, of which the end must be there."""
    body = b""
    while True:
        event = client.next_event()
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body
