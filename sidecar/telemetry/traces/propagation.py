"""
Trace context in the formats that are in use: read from a request's fields, written to its upstream. *Hot path.*

The first of the configured formats that is present and valid names the parent; all of them are written, so that
callees of every kind find what they know. What is malformed is ignored and never passed on as ours. Fields of formats
that are not configured are none of our business: they go on as they came.

| name | fields | source |
|---|---|---|
| `tracecontext` | `traceparent`, `tracestate` | https://www.w3.org/TR/trace-context/ |
| `b3` | `b3` | https://github.com/openzipkin/b3-propagation, "Single Header" |
| `b3multi` | `x-b3-traceid` and the like | there, "Multiple Headers" |
| `xray` | `x-amzn-trace-id` | https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html, "Tracing header" |
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from random import getrandbits
from typing import Final

from sidecar.message import Field, Kind
from sidecar.telemetry.traces import tracecontext

NAMES: Final = ("tracecontext", "b3", "b3multi", "xray")
"""Formats that there are, by the names of `OTEL_PROPAGATORS`."""

DEBUG: Final = 2
"""A decision to sample that stands above all others, in B3."""

Parent = tuple[bytes, bytes, int | None]
"""
Trace id (32 hexadecimal digits, or empty), span id (16, or empty), and the decision: 0, 1, `DEBUG`, or None if it is
left to us. Without a trace id only the decision was sent; without a span id the trace begins with us.
"""
Received = tuple[Parent | None, bytes, bytes, bytes]
"""The parent, its `tracestate`, the request id, and lines that go on as they came; each may be empty."""

_TRACE: Final = Kind.TRACE
_TRACE_OR_ID: Final = Kind.TRACE | Kind.REQUEST_ID
_DECISIONS: Final = {b"0": 0, b"1": 1, b"d": DEBUG}
# "b3: {TraceId}-{SpanId}-{SamplingState}-{ParentSpanId}, where the last two fields are optional"
_B3: Final = re.compile(rb"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?")
_TRACE_ID: Final = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{16}")
_SPAN_ID: Final = re.compile(rb"[0-9a-f]{16}")
# "0" and "1"; "true" and "false" came from early implementations and are still to be understood.
_MULTI_DECISIONS: Final = {b"0": 0, b"1": 1, b"false": 0, b"true": 1}
_ROOT: Final = re.compile(rb"1-([0-9a-f]{8})-([0-9a-f]{24})")
_MAX_XRAY_BYTES: Final = 512
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16


def parse_b3(value: bytes) -> Parent | None:
    """One `b3` field; a trace id of 64 bits is padded on the left, as OpenTelemetry does."""
    if value in _DECISIONS:
        return b"", b"", _DECISIONS[value]
    match = _B3.fullmatch(value)
    if match is None:
        return None
    trace_id, span_id, decision = match.groups()
    return _parent(trace_id, span_id, _DECISIONS.get(decision))


def parse_b3multi(values: Mapping[bytes, list[bytes]]) -> Parent | None:
    """The `x-b3-` fields by name; a field that comes twice is as good as malformed."""
    if any(len(some) > 1 for some in values.values()):
        return None
    one = {name: some[0] for name, some in values.items()}
    # "Debug is encoded as X-B3-Flags: 1", and implies to sample.
    flags, sampled = one.get(b"x-b3-flags", b"0"), one.get(b"x-b3-sampled", b"")
    if flags not in (b"0", b"1") or (sampled and sampled.lower() not in _MULTI_DECISIONS):
        return None
    decision = DEBUG if flags == b"1" else _MULTI_DECISIONS.get(sampled.lower())
    trace_id, span_id = one.get(b"x-b3-traceid", b""), one.get(b"x-b3-spanid", b"")
    if not trace_id and not span_id:
        return None if decision is None else (b"", b"", decision)
    if _TRACE_ID.fullmatch(trace_id) is None or _SPAN_ID.fullmatch(span_id) is None:
        return None
    return _parent(trace_id, span_id, decision)


def parse_xray(value: bytes) -> Parent | None:
    """
    One `x-amzn-trace-id` field: `Root=1-{8}-{24};Parent={16};Sampled={0|1|?}` in any order, others ignored.

    A load balancer sends `Root` alone: then the trace begins with us, under its id.
    """
    if len(value) > _MAX_XRAY_BYTES:
        return None
    parts: dict[bytes, bytes] = {}
    for pair in value.split(b";"):
        key, equals, content = pair.strip(b" \t").partition(b"=")
        if not equals:
            if key:
                return None
            continue
        if parts.setdefault(key, content) is not content and key in (b"Root", b"Parent", b"Sampled"):
            return None
    root, span_id, sampled = _ROOT.fullmatch(parts.get(b"Root", b"")), parts.get(b"Parent", b""), parts.get(b"Sampled")
    if root is None or (span_id and _SPAN_ID.fullmatch(span_id) is None) or sampled not in (None, b"0", b"1", b"?"):
        return None
    return _parent(root[1] + root[2], span_id, {b"0": 0, b"1": 1}.get(sampled or b""))


def _parent(trace_id: bytes, span_id: bytes, decision: int | None) -> Parent | None:
    trace_id = trace_id.rjust(32, b"0")
    return None if trace_id == _NO_TRACE or span_id == _NO_SPAN else (trace_id, span_id, decision)


def new_timed_ids() -> tuple[bytes, bytes]:
    """As `tracecontext.new_ids`; the trace id begins with the time in seconds, which X-Ray wants of its ids."""
    digits = b"%08x%040x" % (int(time.time()) & 0xFFFFFFFF, getrandbits(160) | 1 << 63)
    return digits[:32], digits[32:]


def read_tracecontext(fields: list[Field]) -> Received:
    """What a request brings, if W3C's is the only format that is configured."""
    parents: list[bytes] = []
    states: list[bytes] = []
    request_id = passed = b""
    for field in fields:
        kind = field.kind
        if kind & _TRACE_OR_ID:
            if not kind & _TRACE:
                if not request_id and tracecontext.is_request_id(field.value):
                    request_id = field.value
            elif field.name == b"traceparent":
                parents.append(field.value)
            elif field.name == b"tracestate":
                states.append(field.value)
            else:
                passed += field.wire + b"\r\n"
    # Several traceparent fields say that somebody is confused; a new trace begins.
    parent = tracecontext.parse_traceparent(parents[0]) if len(parents) == 1 else None
    if parent is None or not states:
        return parent, b"", request_id, passed
    return parent, tracecontext.combine_tracestate(states), request_id, passed


def _w3c_lines(trace_id: bytes, span_id: bytes, parent_id: bytes, decision: int, tracestate: bytes) -> bytes:
    line = b"traceparent: 00-%b-%b-%b\r\n" % (trace_id, span_id, b"01" if decision else b"00")
    return b"%btracestate: %b\r\n" % (line, tracestate) if tracestate else line


def _b3_line(trace_id: bytes, span_id: bytes, parent_id: bytes, decision: int, tracestate: bytes) -> bytes:
    said = b"d" if decision == DEBUG else b"1" if decision else b"0"
    parent = b"-" + parent_id if parent_id and parent_id != span_id else b""
    return b"b3: %b-%b-%b%b\r\n" % (trace_id, span_id, said, parent)


def _b3multi_lines(trace_id: bytes, span_id: bytes, parent_id: bytes, decision: int, tracestate: bytes) -> bytes:
    lines = b"x-b3-traceid: %b\r\nx-b3-spanid: %b\r\n" % (trace_id, span_id)
    if parent_id and parent_id != span_id:
        lines += b"x-b3-parentspanid: %b\r\n" % parent_id
    # "Since Debug implies an accept decision, don't also send the X-B3-Sampled header."
    return lines + (b"x-b3-flags: 1\r\n" if decision == DEBUG else b"x-b3-sampled: %d\r\n" % decision)


def _xray_line(trace_id: bytes, span_id: bytes, parent_id: bytes, decision: int, tracestate: bytes) -> bytes:
    sampled = 1 if decision else 0
    return b"x-amzn-trace-id: Root=1-%b-%b;Parent=%b;Sampled=%d\r\n" % (trace_id[:8], trace_id[8:], span_id, sampled)


Writer = Callable[[bytes, bytes, bytes, int, bytes], bytes]
_WRITERS: Final[Mapping[str, Writer]] = {
    "tracecontext": _w3c_lines, "b3": _b3_line, "b3multi": _b3multi_lines, "xray": _xray_line
}  # fmt: skip
_FIELDS: Final[Mapping[bytes, str]] = {
    b"traceparent": "tracecontext",
    b"tracestate": "tracecontext",
    b"b3": "b3",
    b"x-b3-traceid": "b3multi",
    b"x-b3-spanid": "b3multi",
    b"x-b3-parentspanid": "b3multi",
    b"x-b3-sampled": "b3multi",
    b"x-b3-flags": "b3multi",
    b"x-amzn-trace-id": "xray",
}
"""Which format a field belongs to; all of them have the kind `TRACE`."""


class Propagation:
    """
    The configured formats.

    Args:
        names: Of `NAMES`, in order of preference; none at all is allowed: then nothing is read or written.

    Attributes:
        is_tracecontext_only: Whether the short way (`read_tracecontext`) is enough, as it usually is.
        new_ids: Makes a trace id and a span id.
    """

    __slots__ = ("_writers", "is_tracecontext_only", "names", "new_ids")

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.is_tracecontext_only = self.names == ("tracecontext",)
        self._writers = tuple(_WRITERS[name] for name in self.names)
        self.new_ids = new_timed_ids if "xray" in self.names else tracecontext.new_ids

    def __repr__(self) -> str:
        return f"<Propagation {' '.join(self.names)}>"

    def read(self, fields: list[Field]) -> Received:
        """What a request brings."""
        found: dict[str, dict[bytes, list[bytes]]] = {}
        request_id = passed = b""
        for field in fields:
            if field.kind & _TRACE:
                name = _FIELDS.get(field.name, "")
                if name in self.names:
                    found.setdefault(name, {}).setdefault(field.name, []).append(field.value)
                else:
                    passed += field.wire + b"\r\n"
            elif field.kind & _TRACE_OR_ID and not request_id and tracecontext.is_request_id(field.value):
                request_id = field.value
        parent: Parent | None = None
        decision: Parent | None = None
        for name in self.names:
            if name in found and (read := _read(name, found[name])) is not None:
                if read[0]:
                    parent = read
                    break
                decision = decision or read
        state = b""
        if parent is not None and name == "tracecontext":
            state = tracecontext.combine_tracestate(found[name].get(b"tracestate", []))
        return parent or decision, state, request_id, passed

    def lines(self, trace_id: bytes, span_id: bytes, parent_id: bytes, decision: int, tracestate: bytes) -> bytes:
        """The fields that tell the upstream, each with its CRLF."""
        return b"".join([write(trace_id, span_id, parent_id, decision, tracestate) for write in self._writers])


def _read(name: str, values: Mapping[bytes, list[bytes]]) -> Parent | None:
    if name == "b3multi":
        return parse_b3multi(values)
    key = {"tracecontext": b"traceparent", "b3": b"b3", "xray": b"x-amzn-trace-id"}[name]
    some = values.get(key, ())
    if len(some) != 1:
        return None
    if name == "tracecontext":
        return tracecontext.parse_traceparent(some[0])
    return parse_b3(some[0]) if name == "b3" else parse_xray(some[0])
