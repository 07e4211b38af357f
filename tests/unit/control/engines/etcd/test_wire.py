"""etcd's JSON: what we write and what we read of it."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.wire import EtcdError, KeyValue
from sidecar.control.engines.exchange import Lines, LongLine


def messages_of(pieces: list[bytes], limit: int = wire.MAX_LINE_BYTES) -> list[bytes]:
    lines = Lines(limit)
    return [line for piece in pieces for line in lines.feed(piece)]


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.integers(), max_size=4), max_size=8),
    st.lists(st.integers(0, 400), max_size=30),
)
def test_stream_is_the_same_wherever_it_is_cut(messages: list[dict[str, Any]], cuts: list[int]) -> None:
    """Chunks know nothing of lines, and may end within a character."""
    whole = b"".join(json.dumps({"result": one}, ensure_ascii=False).encode() + b"\n" for one in messages)
    at = sorted({cut for cut in cuts if cut < len(whole)} | {0, len(whole)})
    pieces = [whole[begin:end] for begin, end in pairwise(at)]
    assert [wire.read_message(line) for line in messages_of(pieces)] == messages
    assert messages_of([whole[index : index + 1] for index in range(len(whole))]) == messages_of([whole])


def test_line_without_an_end_is_no_message_and_has_a_bound() -> None:
    """What a stream ends in the middle of is nothing; what never ends is refused."""
    assert messages_of([b'{"result":{}}', b"\n\n\n", b"x" * 100], 100) == [b'{"result":{}}']
    with pytest.raises(LongLine, match="more than 100 octets"):
        messages_of([b"x" * 60, b"x" * 41], 100)
    # The bound is of one line, not of the stream.
    assert len(messages_of([b"x" * 90 + b"\n"] * 5, 100)) == 5


@settings(deadline=None)
@given(st.binary(max_size=12), st.binary(max_size=12))
def test_end_of_a_prefix_is_behind_all_keys_that_begin_so(prefix: bytes, more: bytes) -> None:
    """And before every other that is greater; 0 means to the end of all keys."""
    end = wire.prefix_end(prefix)
    if end == b"\0":
        assert not prefix.strip(b"\xff")
        return
    assert prefix <= prefix + more < end
    assert not end.startswith(prefix)
    if more > prefix and not more.startswith(prefix):
        assert more >= end


@settings(deadline=None)
@given(st.binary(), st.binary(), st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_key_comes_back_as_it_was_written(key: bytes, value: bytes, created: int, changed: int, lease: int) -> None:
    """Integers as strings, as the gateway writes them; of a lease that is 0 nothing."""
    written = {"create_revision": str(created), "mod_revision": str(changed)} | ({"lease": str(lease)} if lease else {})
    found = wire.read_key_value(wire.put(key, value) | written)
    assert found == KeyValue(key, value, created, changed, str(lease) if lease else "")


def test_transaction_is_written_as_etcd_takes_it() -> None:
    """Conditions, then what is done if all hold."""
    body = wire.transaction(
        [wire.is_at(b"a", 0), wire.is_before(b"b", b"c", 7)],
        puts=[wire.put(b"a", b"1", "99")],
        deletes=[wire.range_of(b"b", b"c")],
        ranges=[wire.range_of(b"d", limit="1")],
    )
    assert json.loads(json.dumps(body)) == {
        "compare": [
            {"key": "YQ==", "target": "MOD", "result": "EQUAL", "mod_revision": "0"},
            {"key": "Yg==", "range_end": "Yw==", "target": "MOD", "result": "LESS", "mod_revision": "7"},
        ],
        "success": [
            {"request_put": {"key": "YQ==", "value": "MQ==", "lease": "99"}},
            {"request_delete_range": {"key": "Yg==", "range_end": "Yw=="}},
            {"request_range": {"key": "ZA==", "limit": "1"}},
        ],
    }
    assert wire.has_succeeded({"succeeded": True})
    # proto3 leaves out what is false.
    assert not wire.has_succeeded({"header": {}})


@pytest.mark.parametrize(
    ("status", "raw", "text", "code", "is_of_member", "is_token"),
    [
        (503, b'{"error":"etcdserver: no leader","code":14}', "etcdserver: no leader", 14, True, False),
        (
            503,
            b'{"error":"e","message":"etcdserver: request timed out","code":14}',
            "request timed out",
            14,
            True,
            False,
        ),
        (401, b'{"error":"etcdserver: invalid auth token","code":16}', "invalid auth token", 16, False, True),
        (400, b'{"error":"etcdserver: user name is empty","code":3}', "user name is empty", 3, False, True),
        (403, b'{"error":"etcdserver: permission denied","code":7}', "permission denied", 7, False, False),
        (400, b'{"error":"etcdserver: request is too large","code":3}', "too large", 3, False, False),
        (404, b"Not Found\n", "expected etcd 3.4 or later", 5, False, False),
        (502, b"<html>bad gateway</html>", "status 502 and no JSON", 2, True, False),
        (200, b"[]", "no object", 2, True, False),
        (200, b"[" * 100_000, "no JSON", 2, True, False),
        (200, b'{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}', "no leader", 14, True, False),
        (500, b"{}", "status 500", 2, True, False),
        (500, b'{"error":7,"code":"x"}', "status 500", 2, True, False),
    ],
)
def test_refusals_are_told_apart(
    status: int, raw: bytes, text: str, code: int, is_of_member: bool, is_token: bool
) -> None:
    """By whether another member may do it, and whether another token may."""
    with pytest.raises(EtcdError) as raised:
        wire.read_answer(status, raw)
    error = raised.value
    assert text in error.text
    assert (error.code, error.is_of_member, error.is_token) == (code, is_of_member, is_token)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_octets_of_any_kind_are_an_answer_or_an_error(raw: bytes) -> None:
    """Nothing else is raised for what a server sends."""
    for read in (lambda: wire.read_answer(200, raw), lambda: wire.read_message(raw)):
        with suppress(EtcdError):
            assert isinstance(read(), dict)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["key", "value", "lease", "kvs", "header", "mod_revision"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_values_of_any_shape_are_read_or_refused(value: Any) -> None:
    """A field of another type is no exception of Python's."""
    if isinstance(value, dict):
        for read in (wire.read_key_value, wire.key_values, wire.revision):
            with suppress(EtcdError):
                read(value)
