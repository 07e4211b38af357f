"""What the link promises of any octets, any luck and any losses."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.link.edges import read_labels, status_class
from sidecar.link.fields import MessageError, encode
from sidecar.link.messages import (
    MAX_TARGET_BYTES,
    Ping,
    Watch,
    read_line,
    read_poll,
    read_watch,
    write_line,
    write_poll,
)
from sidecar.link.report import MAX_ASKED, OTHERS, Asked, Edge, Report, read_report, write_report
from sidecar.link.reports.pending_edges import PendingEdges
from sidecar.link.transport.lines import LineBuffer
from sidecar.link.transport.refusal import refusal_of
from sidecar.link.transport.rota import BASE_S, CAP_S, MAX_RETRY_AFTER_S, RETRY_AFTER_JITTER, Rota
from sidecar.link.transport.server import parse_server
from sidecar.telemetry.metrics.instruments import label_text

LINES = st.lists(st.binary(max_size=30).map(lambda octets: octets.replace(b"\n", b"")), max_size=20)


@given(LINES, st.lists(st.integers(1, 9), min_size=1))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    """Whole, octet by octet, or in any pieces."""
    octets = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer(30)
    found: list[bytes] = []
    at = turn = 0
    while at < len(octets):
        size = cuts[turn % len(cuts)]
        found += buffer.feed(octets[at : at + size])
        at, turn = at + size, turn + 1
    assert found == [line.strip() for line in lines if line.strip()]


@given(st.integers(1, 50), st.integers(1, 20), st.booleans())
def test_a_line_that_is_too_long_is_refused_before_its_end(limit: int, size: int, has_end: bool) -> None:
    """What is kept of it is no more than the limit and one piece."""
    buffer = LineBuffer(limit)
    with pytest.raises(MessageError, match="expected a line of at most"):  # noqa: PT012
        for _ in range(limit // size + 2):
            assert list(buffer.feed(b"x" * size)) == []
        list(buffer.feed(b"\n" if has_end else b"x"))


@given(
    st.integers(1, 4), st.lists(st.tuples(st.sampled_from("fre"), st.floats(0, 1000)), max_size=60),
    st.lists(st.floats(0, 0.999), min_size=1),
)  # fmt: skip
def test_waits_are_bounded_whatever_happens(servers: int, steps: list[tuple[str, float]], luck: list[float]) -> None:
    """Never negative, and never longer than the cap and what a server may ask for."""
    turns = iter(range(1 << 20))
    rota = Rota([parse_server(f"http://s{n}:1") for n in range(servers)], lambda: luck[next(turns) % len(luck)])
    now = 0.0
    for what, value in steps:
        before, failures = rota.current, rota.failures
        if what == "f":
            wait_s = rota.on_failure(now)
        elif what == "r":
            wait_s = rota.on_failure(now, value)
        else:
            rota.on_lived()
            wait_s = rota.on_end(now)
        assert 0 <= wait_s <= CAP_S + MAX_RETRY_AFTER_S * (1 + RETRY_AFTER_JITTER)
        assert rota.failures == (0 if what == "e" else failures + 1)
        if servers > 1 and not any(kind == "r" for kind, _ in steps):
            assert rota.current != before
            assert wait_s <= min(CAP_S, BASE_S * 2 ** max(0, rota.failures - 1))
        now += wait_s


EDGES = st.builds(
    Edge, st.just("outbound"), st.sampled_from(["a", "b"]), st.sampled_from(["r", "s"]), st.integers(1, 9),
    st.dictionaries(st.sampled_from(["UH", "UF"]), st.integers(1, 9)),
)  # fmt: skip


@pytest.mark.long
@given(
    st.lists(st.tuples(st.lists(EDGES, max_size=4), st.sampled_from(["arrives", "answer lost", "lost"])), max_size=30)
)
def test_every_count_is_added_once(rounds: list[tuple[list[Edge], str]]) -> None:
    """By a receiver that adds no number twice, whatever becomes of reports and answers, once one arrives in the end."""
    pending = PendingEdges(100, 0.0)
    added: dict[int, tuple[Edge, ...]] = {}
    asked: dict[int, tuple[Asked, ...]] = {}
    spans: dict[int, float] = {}
    for now, (edges, fate) in enumerate([*rounds, ([], "arrives"), ([], "arrives")]):
        # As many ask as there are requests; half of them are nobody that there is room for.
        pending.add(edges, [Asked(f"{edge.upstream}{now}" if now % 2 else "a", edge.requests) for edge in edges])
        seq, sent, span_s = pending.next(float(now))
        pending.sent()
        if fate != "lost":
            assert seq not in added or added[seq] == sent or not added[seq]
            added.setdefault(seq, sent)
            assert asked.setdefault(seq, pending.asked) == pending.asked
            spans.setdefault(seq, span_s)
        if fate == "arrives":
            pending.delivered()
    counted = sum(edge.requests for edges, _ in rounds for edge in edges)
    assert sum(edge.requests for edges in added.values() for edge in edges) == counted
    assert sum(one.requests for many in asked.values() for one in many) == counted
    failures = sum(sum(edge.failures.values()) for edges, _ in rounds for edge in edges)
    assert sum(sum(edge.failures.values()) for edges in added.values() for edge in edges) == failures
    assert list(added) == sorted(added)


def test_callers_beyond_a_bound_are_one_row_of_each_outcome() -> None:
    """However many ask: nothing is lost of the sums, and what rules are against stays apart from the rest."""
    pending = PendingEdges(1, 0.0)
    pending.add((), [Asked(f"spiffe://shop/s{n}", 1) for n in range(MAX_ASKED + 5)])
    pending.add((), [Asked(f"spiffe://shop/s{n}", 1, "callers", "denied") for n in range(3)])
    pending.next(1.0)
    assert len(pending.asked) == MAX_ASKED + 2
    assert pending.asked[-2:] == (Asked(OTHERS, 5), Asked(OTHERS, 3, OTHERS, "denied"))
    said = read_report(write_report(Report("s", "i", 1, asked=pending.asked)))
    assert said.asked == pending.asked


@given(st.lists(EDGES, min_size=2, max_size=4, unique_by=lambda edge: (edge.upstream, edge.route)))
def test_half_of_a_report_that_is_too_large_waits(edges: list[Edge]) -> None:
    """Nothing is lost by it; once sent it stays as it is."""
    pending = PendingEdges(1, 0.0)
    pending.add(edges)
    pending.next(1.0)
    assert pending.split()
    _, first, _ = pending.next(1.0)
    pending.sent()
    assert not pending.split()
    assert pending.delivered()
    _, second, _ = pending.next(2.0)
    assert {(edge.upstream, edge.route) for edge in (*first, *second)} == {(e.upstream, e.route) for e in edges}
    assert len(first) + len(second) == len(edges)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(), min_size=1, max_size=5))
def test_labels_are_read_as_they_were_written(labels: dict[str, str]) -> None:
    """Whatever is in their values; what is no text at all is replaced in both."""
    written = label_text(tuple(labels), tuple(labels.values()))
    assert read_labels(written) == {name: value.encode("utf-8", "replace").decode() for name, value in labels.items()}


@given(st.text(max_size=5))
def test_a_status_has_a_class(code: str) -> None:
    """Or is `other`; the number of names is bounded."""
    assert status_class(code) in {"other", *(f"{digit}xx" for digit in range(10))}


@given(st.dictionaries(st.text(min_size=1, max_size=200), st.from_regex(r"[0-9a-f]{16}", fullmatch=True), max_size=80))
def test_a_question_fits_into_a_line(endpoints: dict[str, str]) -> None:
    """What is left out is left out whole, at the end; what is said is read as it was meant."""
    watch = Watch("shop", "shop-1", endpoints=endpoints)
    target = watch.to_target({"wait": "55s"})
    assert len(target) <= MAX_TARGET_BYTES
    assert target.isascii()
    query = dict(parse_qsl(urlsplit(target).query))
    assert query["wait"] == "55s"
    if not any(set(name) & {","} for name in endpoints):
        read = read_watch(query).endpoints
        assert read == dict(list(endpoints.items())[: len(read)])


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["lines", "type", "error", "revision", "hash"]), inner, max_size=4), max_leaves=8,
)  # fmt: skip


@given(st.integers(0, 999), st.dictionaries(st.just("retry-after"), st.text(max_size=8)), st.binary(max_size=80))
def test_any_refusal_is_one_line(status: int, headers: dict[str, str], body: bytes) -> None:
    """Whatever a proxy between says."""
    refusal = refusal_of(status, headers, body)
    assert "\n" not in refusal.why
    assert 0 <= refusal.retry_after_s < 1e6


@given(JSON)
def test_an_answer_of_a_poll_is_read_or_refused(value: Any) -> None:
    """Nothing else is raised."""
    with suppress(MessageError):
        read_poll(encode(value) if isinstance(value, dict) else b"[]")


def test_an_answer_of_a_poll_is_read_as_it_was_written() -> None:
    """Every line of it, in order."""
    assert read_poll(write_poll([write_line(Ping(1)), write_line(Ping(2))])) == [Ping(1), Ping(2)]


VALUES: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([10**400, -1, 1e308, float("nan"), float("inf")]),
    st.text(max_size=4), st.lists(st.dictionaries(st.sampled_from(["address", "weight", "zone", "tls"]),
    st.one_of(st.just(10**400), st.text(max_size=3), st.none(), st.booleans(), st.floats())), max_size=2),
)  # fmt: skip
FIELDS = ["revision", "hash", "file", "why", "upstream", "version", "from", "added", "removed", "id", "kind"]
TYPES = ["config", "current", "none", "endpoints", "ping", "left", "move", "ask", "new"]


@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_a_line_is_read_or_refused(kind: str, values: dict[str, Any]) -> None:
    """Whatever its fields are, nothing else is raised, and the refusal is for people."""
    with suppress(MessageError):
        read_line(encode({**values, "type": kind}))


REPORT = ["service", "instance", "seq", "weight", "ports", "health", "config", "refused", "endpoints", "edges", "span"]


@given(st.dictionaries(st.sampled_from(REPORT), VALUES | st.dictionaries(st.sampled_from(["a", "hash"]), VALUES)))
def test_a_report_is_read_or_refused(values: dict[str, Any]) -> None:
    """As a control plane must, whoever sends it."""
    with suppress(MessageError):
        read_report(encode({"service": "s", "instance": "i", **values}))
