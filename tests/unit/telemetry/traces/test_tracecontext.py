"""W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import uuid

import pytest

from sidecar.telemetry.traces.tracecontext import (
    combine_tracestate,
    is_request_id,
    new_ids,
    new_request_id,
    new_span_id,
    parse_traceparent,
)

TRACE_ID = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = b"00f067aa0ba902b7"
GOOD = b"00-%b-%b-01" % (TRACE_ID, SPAN_ID)


class TestTraceparent:
    """Section 3.2 and 4.3."""

    @pytest.mark.parametrize(
        ("flags", "is_sampled"),
        [(b"00", False), (b"01", True), (b"02", False), (b"03", True), (b"ff", True), (b"fe", False)],
    )
    def test_the_sampled_flag_is_the_lowest_bit(self, flags: bytes, is_sampled: bool) -> None:
        """3.2.2.5.1: other bits are ignored."""
        assert parse_traceparent(GOOD[:-2] + flags) == (TRACE_ID, SPAN_ID, is_sampled)

    @pytest.mark.parametrize("value", [b"01" + GOOD[2:], b"cc" + GOOD[2:], b"cc" + GOOD[2:] + b"-what-comes-later"])
    def test_a_later_version_is_read_as_far_as_version_00_goes(self, value: bytes) -> None:
        """4.3: versions to come may only append, after a dash."""
        assert parse_traceparent(value) == (TRACE_ID, SPAN_ID, True)

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"00",
            GOOD[:-1],
            GOOD + b"0",
            GOOD + b"-",
            GOOD + b"-01",
            b"cc" + GOOD[2:] + b"x",
            b"cc" + GOOD[2:] + b"01",
            b"ff" + GOOD[2:],
            b"ff" + GOOD[2:] + b"-01",
            b"00-%b-%b-01" % (b"0" * 32, SPAN_ID),
            b"00-%b-%b-01" % (TRACE_ID, b"0" * 16),
            b"00-%b-%b-01" % (TRACE_ID.upper(), SPAN_ID),
            b"00-%b-%b-01" % (TRACE_ID, SPAN_ID.upper()),
            b"00-%b-%b-0A" % (TRACE_ID, SPAN_ID),
            b"00-%b-%b-0g" % (TRACE_ID, SPAN_ID),
            b"00_%b_%b_01" % (TRACE_ID, SPAN_ID),
            b"00-%b-%b-01" % (TRACE_ID[1:], SPAN_ID),
            b"00-%b-%b-01" % (TRACE_ID, SPAN_ID + b"0"),
            GOOD + b"\n",
            b" " + GOOD,
            GOOD + b"," + GOOD,
            b"\xb2" + GOOD[1:],
        ],
    )
    def test_what_is_malformed_is_ignored(self, value: bytes) -> None:
        """4.3: a new trace begins instead."""
        assert parse_traceparent(value) is None

    def test_only_lower_case_hexadecimal_digits_are_accepted_anywhere(self) -> None:
        """3.2.1: HEXDIGLC, at every place and for all 256 octets."""
        for place in range(len(GOOD)):
            for octet in range(256):
                value = GOOD[:place] + bytes((octet,)) + GOOD[place + 1 :]
                # Changing one octet makes neither "ff" of the version nor zeros of an id.
                is_good = octet in (b"-" if GOOD[place : place + 1] == b"-" else b"0123456789abcdef")
                assert (parse_traceparent(value) is not None) == is_good, value


class TestTracestate:
    """Section 3.3."""

    @pytest.mark.parametrize(
        ("values", "combined"),
        [
            ([b"a=1"], b"a=1"),
            ([b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"], b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
            ([b"a=1 ,\t b=2"], b"a=1,b=2"),
            ([b"a=1", b"b=2,c=3"], b"a=1,b=2,c=3"),
            ([b"", b"a=1,,b=2,"], b"a=1,b=2"),
            ([b"tenant@system=1"], b"tenant@system=1"),
            ([b"0ab=inner space"], b"0ab=inner space"),
            ([b""], b""),
            ([b"a"], b""),
            ([b"a="], b""),
            ([b"=1"], b""),
            ([b"a=1=2"], b""),
            ([b"A=1"], b""),
            ([b"a b=1"], b""),
            ([b"a=1,b"], b""),
            ([b"a=1,a=2"], b""),
            ([b"a=1", b"a=2"], b""),
            ([b"a=\xc3\xa9"], b""),
        ],
    )
    def test_fields_become_one_list_or_are_discarded_whole(self, values: list[bytes], combined: bytes) -> None:
        """3.3.1: several fields are one list; one bad member spoils it."""
        assert combine_tracestate(values) == combined

    def test_keys_and_values_are_checked_octet_by_octet(self) -> None:
        """3.3.1.3.1 and 3.3.1.3.2, for all 256 octets."""
        for octet in range(256):
            one = bytes((octet,))
            first = one in b"abcdefghijklmnopqrstuvwxyz0123456789"
            later = first or one in b"_-*/@"
            assert (combine_tracestate([one + b"=v"]) != b"") == first, one
            assert (combine_tracestate([b"k" + one + b"=v"]) != b"") == later, one
            in_value = 0x20 <= octet <= 0x7E and one not in b",="
            assert (combine_tracestate([b"k=v" + one + b"v"]) == b"k=v" + one + b"v") == in_value, one

    @pytest.mark.parametrize(("length", "is_good"), [(256, True), (257, False)])
    def test_keys_and_values_have_at_most_256_octets(self, length: int, is_good: bool) -> None:
        """3.3.1.3: 1 + 255 for both."""
        assert bool(combine_tracestate([b"k" * length + b"=v"])) == is_good
        assert bool(combine_tracestate([b"k=" + b"v" * length])) == is_good

    @pytest.mark.parametrize(("count", "is_good"), [(32, True), (33, False)])
    def test_there_are_at_most_32_members(self, count: int, is_good: bool) -> None:
        """3.3.1.1."""
        assert bool(combine_tracestate([b",".join(b"k%d=v" % number for number in range(count))])) == is_good

    def test_of_a_long_list_large_members_go_first_and_then_the_last(self) -> None:
        """3.3.1.5: 512 octets are passed on."""
        large = b"large=" + b"v" * 200
        small = [b"k%02d=" % number + b"v" * 40 for number in range(12)]
        assert combine_tracestate([b",".join([small[0], large, *small[1:]])]) == b",".join(small[:11])
        fitting = [b"k%02d=" % number + b"v" * 59 for number in range(8)]
        assert len(b",".join(fitting)) == 8 * 63 + 7
        assert combine_tracestate([b",".join(fitting)]) == b",".join(fitting)


class TestIds:
    """What is made here."""

    def test_new_ids_are_valid_and_differ(self) -> None:
        """A traceparent made of them parses, and no two are the same."""
        made = [new_ids() for _ in range(200)]
        for trace_id, span_id in made:
            assert parse_traceparent(b"00-%b-%b-01" % (trace_id, span_id)) == (trace_id, span_id, True)
        assert len({trace_id for trace_id, _ in made}) == len({span_id for _, span_id in made}) == 200
        assert parse_traceparent(b"00-%b-%b-01" % (TRACE_ID, new_span_id())) is not None

    def test_a_new_request_id_is_a_random_uuid(self) -> None:
        """RFC 9562, 5.4: version 4, variant 10."""
        made = uuid.UUID(new_request_id().decode())
        assert made.version == 4
        assert made.variant == uuid.RFC_4122
        assert len({new_request_id() for _ in range(200)}) == 200

    def test_a_request_id_holds_visible_ascii_without_quotes(self) -> None:
        """For all 256 octets: what is kept needs no escaping anywhere."""
        for octet in range(256):
            value = b"a" + bytes((octet,))
            assert is_request_id(value) == (0x21 <= octet <= 0x7E and octet not in b'"\\'), value

    @pytest.mark.parametrize(("length", "is_good"), [(0, False), (1, True), (128, True), (129, False)])
    def test_a_request_id_has_at_most_128_octets(self, length: int, is_good: bool) -> None:
        """It goes into every log line of every hop."""
        assert is_request_id(b"a" * length) == is_good
