"""Whatever an exchange holds, it leaves one good line, one good span and one sample."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import REASONS
from sidecar.exchange import Direction, Exchange
from sidecar.message import Field, Kind, RequestHead
from sidecar.telemetry import json_text
from sidecar.telemetry.outbox import Outbox
from sidecar.telemetry.traces.tracecontext import combine_tracestate, parse_traceparent
from tests.unit.telemetry.cases import Endpoint, Told

ASCII = st.binary(max_size=300).map(lambda octets: bytes(octet & 0x7F for octet in octets))
TIMES = st.integers(0, 1 << 50)


@st.composite
def heads(draw: st.DrawFn) -> RequestHead:
    """Heads beyond what a parser lets through: any octets in values, any ASCII elsewhere."""
    head = RequestHead(draw(ASCII), draw(ASCII), draw(st.none() | ASCII), draw(st.integers(0, 2)))
    head.host = draw(ASCII)
    head.port = draw(st.none() | st.integers(0, 65535))
    names = {
        b"user-agent": Kind.USER_AGENT,
        b"x-request-id": Kind.REQUEST_ID,
        b"traceparent": Kind.TRACE,
        b"tracestate": Kind.TRACE,
        b"x-other": 0,
    }
    for name in draw(st.lists(st.sampled_from(sorted(names)), max_size=6)):
        value = draw(st.binary(max_size=80))
        head.fields.append(Field(name, value, names[name], name + b": " + value))
        head.kinds |= names[name]
    return head


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    """Exchanges in any state in which they could be over."""
    direction = draw(st.sampled_from(Direction))
    peer = (draw(st.text(max_size=40)), draw(st.integers(0, 65535)))
    exchange = Exchange(direction, draw(TIMES), draw(st.none() | heads()), peer)
    exchange.end_ns = exchange.start_ns + draw(TIMES)
    if draw(st.booleans()):
        exchange.endpoint = Endpoint(draw(st.text(max_size=60)))
        exchange.attempts = draw(st.integers(1, 5))
        exchange.sent_ns = draw(st.integers(exchange.start_ns, exchange.end_ns))
        exchange.first_byte_ns = draw(st.just(0) | st.integers(exchange.sent_ns, exchange.end_ns))
    exchange.status = draw(st.integers(0, 999))
    exchange.reason = draw(st.none() | st.sampled_from(REASONS))
    exchange.detail = draw(st.text(max_size=60))
    exchange.raw_line = draw(st.binary(max_size=400))
    exchange.bytes_received = draw(TIMES)
    exchange.bytes_sent = draw(TIMES)
    return exchange


@given(exchange=exchanges(), route=st.text(max_size=30), upstream=st.text(max_size=30))
def test_every_exchange_leaves_one_line_one_span_and_one_sample(exchange: Exchange, route: str, upstream: str) -> None:
    """The line is one line of JSON in ASCII, the span parses, and the counter says one."""
    telemetry = Told()
    exchange.scope = telemetry.scope(exchange.direction, route, upstream, "address")
    lines = telemetry.begin(exchange)
    assert all(line.isascii() for line in lines.split(b"\r\n"))
    telemetry.record(exchange)
    (raw,) = telemetry.raw_lines()
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    assert not any(control in raw[:-1] for control in (*range(0x20), 0x7F))
    line = json.loads(raw)
    assert line["route_name"] == (route or None)
    assert line["bytes_sent"] == exchange.bytes_sent
    spans = telemetry.spans()
    assert len(spans) == int(exchange.sampled)
    for span in spans:
        assert span.trace_id.hex() == line["trace_id"]
        assert span.end_time_unix_nano - span.start_time_unix_nano == exchange.end_ns - exchange.start_ns
    assert sum(child.value for child in telemetry._metrics.requests.children.values()) == 1


@given(st.binary(max_size=200))
def test_any_octets_are_a_json_string_of_the_same_characters(octets: bytes) -> None:
    """Reading the log gives back what came."""
    assert json.loads(json_text.quote(octets)) == json_text.text(octets)


@given(st.binary(max_size=80))
def test_a_traceparent_is_read_or_ignored(value: bytes) -> None:
    """No octets make it fail; what is read could be written again."""
    parsed = parse_traceparent(value)
    if parsed is not None:
        assert value[3:35] == parsed[0]
        assert value[36:52] == parsed[1]


_member = st.tuples(
    st.text("abcz019_-*/@", min_size=1, max_size=200), st.text("az09 !~+", max_size=250).map(lambda value: value + "v")
).map(lambda pair: f"{pair[0]}={pair[1]}".encode())


@given(st.lists(st.binary(max_size=60) | st.lists(_member, max_size=20).map(b",".join), max_size=4))
def test_a_tracestate_that_goes_on_is_bounded_and_would_go_on_again(values: list[bytes]) -> None:
    """What was combined once is left alone by the next sidecar."""
    combined = combine_tracestate(values)
    assert len(combined) <= 512
    assert combine_tracestate([combined]) == combined
    received = [member.strip(b" \t") for value in values for member in value.split(b",")]
    assert all(member in received for member in combined.split(b",") if member)


@given(
    st.lists(st.binary(min_size=1, max_size=40) | st.tuples(st.integers(1, 5), st.integers(1, 100)), max_size=60),
    st.integers(1, 200),
)
def test_an_outbox_loses_nothing_that_it_accepted(steps: list[bytes | tuple[int, int]], max_bytes: int) -> None:
    """Against a plain list: order, bound and count."""
    outbox = Outbox(max_bytes, 1 << 30, list)
    model: list[bytes] = []
    refused = 0
    for step in steps:
        if isinstance(step, bytes):
            outbox.put(step)
            if sum(map(len, model)) + len(step) <= max_bytes:
                model.append(step)
            else:
                refused += 1
        else:
            taken = outbox.take(*step)
            assert taken == model[: len(taken)]
            assert len(taken) <= step[0]
            assert taken or not model
            assert len(taken) <= 1 or sum(map(len, taken)) <= step[1]
            del model[: len(taken)]
        assert (len(outbox), outbox.waiting_bytes, outbox.refused) == (len(model), sum(map(len, model)), refused)
