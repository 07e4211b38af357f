"""Trace context in four formats: read, continued, written; malformed never passed on as ours."""

from __future__ import annotations

import itertools
import time

import pytest

from sidecar.exchange import Exchange
from sidecar.http1.forward import request_bytes
from sidecar.telemetry.recorder import TelemetrySettings
from sidecar.telemetry.traces.propagation import (
    DEBUG,
    NAMES,
    Parent,
    new_timed_ids,
    parse_b3,
    parse_b3multi,
    parse_xray,
)
from tests.unit.telemetry.cases import COLLECTOR, Told, over, request

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
ROOT = b"Root=1-%b-%b" % (TRACE[:8], TRACE[8:])
W3C = b"traceparent: 00-%b-%b-01" % (TRACE, SPAN)


def told(*propagators: str, exports: bool = True) -> Told:
    """Telemetry with these formats."""
    return Told(
        TelemetrySettings(
            "s", otlp_endpoint=COLLECTOR if exports else None, access_log_path=None, propagators=propagators
        )
    )


def begun(telemetry: Told, *fields: bytes) -> tuple[Exchange, list[bytes]]:
    """An exchange that brought these fields, and the lines that go on, but for the request id."""
    exchange = over(request(*fields))
    lines = telemetry.begin(exchange)
    assert lines.endswith(b"\r\n")
    return exchange, [line for line in lines.split(b"\r\n")[:-1] if not line.startswith(b"x-request-id")]


class TestB3:
    """https://github.com/openzipkin/b3-propagation"""

    @pytest.mark.parametrize(
        ("value", "parent"),
        [
            (b"%b-%b-1" % (TRACE, SPAN), (TRACE, SPAN, 1)),
            (b"%b-%b-0" % (TRACE, SPAN), (TRACE, SPAN, 0)),
            (b"%b-%b-d" % (TRACE, SPAN), (TRACE, SPAN, DEBUG)),
            (b"%b-%b" % (TRACE, SPAN), (TRACE, SPAN, None)),
            (b"%b-%b-1-05e3ac9a4f6e3b90" % (TRACE, SPAN), (TRACE, SPAN, 1)),
            (b"%b-%b-1" % (SPAN, SPAN), (b"0" * 16 + SPAN, SPAN, 1)),
            (b"0", (b"", b"", 0)),
            (b"1", (b"", b"", 1)),
            (b"d", (b"", b"", DEBUG)),
            (b"", None),
            (b"2", None),
            (b"%b-%b-2" % (TRACE, SPAN), None),
            (b"%b-%b-" % (TRACE, SPAN), None),
            (b"%b-%b-1-" % (TRACE, SPAN), None),
            (b"%b-%b-1-05e3ac9a4f6e3b9" % (TRACE, SPAN), None),
            (b"%b-%b-1" % (TRACE.upper(), SPAN), None),
            (b"%b-%b-1" % (TRACE[1:], SPAN), None),
            (b"%b-%b-1" % (b"0" * 32, SPAN), None),
            (b"%b-%b-1" % (b"0" * 16, SPAN), None),
            (b"%b-%b-1" % (TRACE, b"0" * 16), None),
            (b" %b-%b-1" % (TRACE, SPAN), None),
            (b"%b-%b-1\n" % (TRACE, SPAN), None),
        ],
    )
    def test_single(self, value: bytes, parent: Parent | None) -> None:
        """Trace, span, decision, parent; the last two may be absent, and the decision may stand alone."""
        assert parse_b3(value) == parent

    @pytest.mark.parametrize(
        ("fields", "parent"),
        [
            ({b"traceid": TRACE, b"spanid": SPAN, b"sampled": b"1"}, (TRACE, SPAN, 1)),
            ({b"traceid": TRACE, b"spanid": SPAN, b"sampled": b"false"}, (TRACE, SPAN, 0)),
            ({b"traceid": TRACE, b"spanid": SPAN, b"sampled": b"True"}, (TRACE, SPAN, 1)),
            ({b"traceid": TRACE, b"spanid": SPAN}, (TRACE, SPAN, None)),
            ({b"traceid": SPAN, b"spanid": SPAN, b"parentspanid": SPAN}, (b"0" * 16 + SPAN, SPAN, None)),
            ({b"traceid": TRACE, b"spanid": SPAN, b"flags": b"1"}, (TRACE, SPAN, DEBUG)),
            ({b"traceid": TRACE, b"spanid": SPAN, b"flags": b"0", b"sampled": b"0"}, (TRACE, SPAN, 0)),
            ({b"sampled": b"0"}, (b"", b"", 0)),
            ({b"flags": b"1"}, (b"", b"", DEBUG)),
            ({b"traceid": TRACE}, None),
            ({b"spanid": SPAN, b"sampled": b"1"}, None),
            ({b"traceid": TRACE, b"spanid": SPAN, b"sampled": b"yes"}, None),
            ({b"traceid": TRACE, b"spanid": SPAN, b"flags": b"2"}, None),
            ({b"traceid": TRACE, b"spanid": SPAN.upper()}, None),
            ({b"parentspanid": SPAN}, None),
            ({b"flags": b"0"}, None),
            ({}, None),
        ],
    )
    def test_multi(self, fields: dict[bytes, bytes], parent: Parent | None) -> None:
        """A field for each; debug implies to sample; a decision may stand alone."""
        assert parse_b3multi({b"x-b3-" + name: [value] for name, value in fields.items()}) == parent

    def test_a_field_that_comes_twice_is_malformed(self) -> None:
        """Somebody on the way is confused."""
        both = {b"x-b3-traceid": [TRACE, TRACE], b"x-b3-spanid": [SPAN]}
        assert parse_b3multi(both) is None
        exchange, _ = begun(told("b3"), b"b3: %b-%b-1" % (TRACE, SPAN), b"b3: %b-%b-1" % (TRACE, SPAN))
        assert exchange.trace_id != TRACE


class TestXRay:
    """https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html"""

    @pytest.mark.parametrize(
        ("value", "parent"),
        [
            (ROOT + b";Parent=%b;Sampled=1" % SPAN, (TRACE, SPAN, 1)),
            (b"Sampled=0;Parent=%b;" % SPAN + ROOT, (TRACE, SPAN, 0)),
            (ROOT + b"; Parent=%b; Sampled=?" % SPAN, (TRACE, SPAN, None)),
            (ROOT, (TRACE, b"", None)),
            (b"Self=1-67891234-12456789abcdef012345678;" + ROOT, (TRACE, b"", None)),
            (ROOT + b";Lineage=a87bd80c:1|68fd508a:5|c512fbe3:2;Sampled=1", (TRACE, b"", 1)),
            (b"", None),
            (b"Parent=%b" % SPAN, None),
            (ROOT.replace(b"1-", b"2-"), None),
            (ROOT + b";Parent=abc", None),
            (ROOT + b";Sampled=2", None),
            (ROOT + b";" + ROOT.replace(b"4", b"5"), None),
            (ROOT + b";Sampled=1;Sampled=0", None),
            (ROOT + b";nonsense", None),
            (ROOT.upper(), None),
            (b"Root=1-00000000-" + b"0" * 24, None),
            (ROOT + b";Parent=" + b"0" * 16, None),
            (ROOT + b";x=" + b"y" * 600, None),
        ],
    )
    def test_header(self, value: bytes, parent: Parent | None) -> None:
        """Pairs in any order, unknown ones ignored; a load balancer sends the root alone."""
        assert parse_xray(value) == parent

    def test_a_root_alone_is_continued_without_a_parent(self) -> None:
        """Its trace, a first span of ours, also where spans go nowhere."""
        for exports in (True, False):
            exchange, lines = begun(told("xray", exports=exports), b"X-Amzn-Trace-Id: " + ROOT)
            assert exchange.trace_id == TRACE
            assert exchange.parent_id == b""
            assert lines == [b"x-amzn-trace-id: %b;Parent=%b;Sampled=1" % (ROOT, exchange.span_id)]

    def test_new_trace_ids_begin_with_the_time(self) -> None:
        """X-Ray refuses others, or those older than 30 days."""
        before = int(time.time())
        trace_id, span_id = new_timed_ids()
        assert before <= int(trace_id[:8], 16) <= int(time.time())
        assert (len(trace_id), len(span_id)) == (32, 16)
        assert span_id != b"0" * 16
        assert begun(told("tracecontext", "xray"))[0].trace_id[:7] == trace_id[:7]


class TestBegin:
    """What goes on to the upstream."""

    def test_all_formats_are_written(self) -> None:
        """From whichever the parent came."""
        exchange, lines = begun(told("xray", "b3", "b3multi", "tracecontext"), b"b3: %b-%b-1" % (TRACE, SPAN))
        span = exchange.span_id
        assert exchange.parent_id == SPAN
        assert lines == [
            b"x-amzn-trace-id: %b;Parent=%b;Sampled=1" % (ROOT, span),
            b"b3: %b-%b-1-%b" % (TRACE, span, SPAN),
            b"x-b3-traceid: " + TRACE,
            b"x-b3-spanid: " + span,
            b"x-b3-parentspanid: " + SPAN,
            b"x-b3-sampled: 1",
            b"traceparent: 00-%b-%b-01" % (TRACE, span),
        ]

    def test_what_is_written_is_understood(self) -> None:
        """By each format's own parser, for every decision."""
        for said, decision in ((b"0", 0), (b"1", 1), (b"d", DEBUG)):
            exchange, lines = begun(told(*NAMES), b"b3: %b-%b-%b" % (TRACE, SPAN, said))
            fields = dict(line.split(b": ") for line in lines)
            ours = exchange.trace_id, exchange.span_id
            assert parse_b3(fields[b"b3"]) == (*ours, decision)
            multi = {name: [value] for name, value in fields.items() if name.startswith(b"x-b3-")}
            assert parse_b3multi(multi) == (*ours, decision)
            assert parse_xray(fields[b"x-amzn-trace-id"]) == (*ours, min(decision, 1))
            assert fields[b"traceparent"].endswith(b"-01" if decision else b"-00")

    @pytest.mark.parametrize(
        ("order", "fields", "parent"),
        [
            (("tracecontext", "b3"), (W3C, b"b3: %b-%b-1" % (SPAN, SPAN)), TRACE),
            (("b3", "tracecontext"), (W3C, b"b3: %b-%b-1" % (SPAN, SPAN)), b"0" * 16 + SPAN),
            (("b3", "tracecontext"), (W3C, b"b3: nonsense"), TRACE),
            (("b3", "tracecontext"), (W3C, b"b3: 0"), TRACE),
            (("b3", "tracecontext"), (W3C,), TRACE),
        ],
    )
    def test_the_first_that_is_present_and_valid_is_the_parent(
        self, order: tuple[str, ...], fields: tuple[bytes, ...], parent: bytes
    ) -> None:
        """In the order of the configuration; a decision alone is no parent."""
        exchange, lines = begun(told(*order), *fields)
        assert exchange.trace_id == parent
        assert len(lines) == 2

    def test_tracestate_belongs_to_traceparent(self) -> None:
        """It goes on with it, and not with another format's parent."""
        state = b"tracestate: a=1"
        assert state in begun(told("tracecontext", "b3"), W3C, state)[1]
        exchange, lines = begun(told("b3", "tracecontext"), b"b3: %b-%b-1" % (TRACE, SPAN), W3C, state)
        assert state not in lines
        assert exchange.tracestate == b""

    def test_a_decision_alone_decides_about_the_trace_that_begins_here(self) -> None:
        """`b3: 0` at the edge means that nobody is to sample it."""
        for said in (b"b3: 0", b"x-b3-sampled: 0"):
            exchange, lines = begun(told("b3", "b3multi"), said)
            assert not exchange.sampled
            assert lines[0] == b"b3: %b-%b-0" % (exchange.trace_id, exchange.span_id)
            assert exchange.parent_id == b""

    def test_a_decision_that_is_left_to_us_is_made_by_ratio(self) -> None:
        """Absent in B3, `?` in X-Ray."""
        settings = TelemetrySettings("s", otlp_endpoint=COLLECTOR, sample=0.0, propagators=("b3", "xray"))
        for field in (b"b3: %b-%b" % (TRACE, SPAN), b"x-amzn-trace-id: %b;Parent=%b;Sampled=?" % (ROOT, SPAN)):
            exchange, lines = begun(Told(settings), field)
            assert exchange.trace_id == TRACE
            assert not exchange.sampled
            assert lines[1].endswith(b"Sampled=0")

    def test_without_a_collector_the_callers_span_stays_the_parent(self) -> None:
        """In every format."""
        exchange, lines = begun(told("b3", "b3multi", exports=False), b"b3: %b-%b-1" % (TRACE, SPAN))
        assert exchange.span_id == SPAN
        assert lines == [
            b"b3: %b-%b-1" % (TRACE, SPAN), b"x-b3-traceid: " + TRACE, b"x-b3-spanid: " + SPAN, b"x-b3-sampled: 1"
        ]  # fmt: skip

    @pytest.mark.parametrize("names", list(itertools.combinations(NAMES, 2)))
    def test_malformed_context_is_never_passed_on(self, names: tuple[str, str]) -> None:
        """Of a configured format; a new trace begins, and only ours is sent."""
        bad = [b"traceparent: x", b"tracestate: =", b"b3: x", b"x-b3-traceid: x", b"x-amzn-trace-id: x"]
        exchange, lines = begun(told(*names), *bad)
        kept = {line.partition(b": ")[0] for line in lines if line.endswith(b": x")}
        fields = {"tracecontext": b"traceparent", "b3": b"b3", "b3multi": b"x-b3-traceid", "xray": b"x-amzn-trace-id"}
        assert kept == {name for format_name, name in fields.items() if format_name not in names}
        assert exchange.parent_id == b""

    @pytest.mark.parametrize("configured", [("tracecontext",), ("b3",), ("xray", "b3multi"), ()])
    def test_fields_of_other_formats_go_on_as_they_came(self, configured: tuple[str, ...]) -> None:
        """Byte for byte, whatever they hold; each field reaches the upstream once."""
        fields = {
            "tracecontext": [b"TraceParent: 00-ab", b"tracestate:  x"],
            "b3": [b"B3: something", b"b3: else"],
            "b3multi": [b"X-B3-TraceId: 1", b"x-b3-flags: ?"],
            "xray": [b"X-Amzn-Trace-Id:Root=x"],
        }
        head = request(*(line for lines in fields.values() for line in lines))
        telemetry = told(*configured)
        sent = request_bytes(head, head.fields, b"/", None, telemetry.begin(over(head))).split(b"\r\n")
        for name, lines in fields.items():
            for line in lines:
                assert sent.count(line) == (name not in configured)
        names = [line.partition(b":")[0].lower() for line in sent[1:] if line]
        for name in configured:
            assert names.count({"tracecontext": b"traceparent", "b3": b"b3", "b3multi": b"x-b3-traceid",
                                "xray": b"x-amzn-trace-id"}[name]) == 1  # fmt: skip
        assert names.count(b"x-request-id") == 1

    def test_no_octet_but_those_of_the_grammar_is_read(self) -> None:
        """Each octet that a field may hold, in each place of an id."""
        for octet in set(range(256)) - set(b"0123456789abcdef"):
            for at in (0, 31, 33, 48):
                value = bytearray(b"%b-%b-1" % (TRACE, SPAN))
                value[at] = octet
                assert parse_b3(bytes(value)) is None
            value = bytearray(ROOT + b";Parent=%b" % SPAN)
            value[8] = octet
            assert parse_xray(bytes(value)) is None
