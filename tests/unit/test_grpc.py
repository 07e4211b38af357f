"""What gRPC says in fields, against the documents in grpc/doc, and which status each reason of ours is."""

from __future__ import annotations

import pytest

from sidecar import errors, grpc
from sidecar.http1.grammar import field_of, make_field
from sidecar.message import Kind, noted


class TestContentType:
    """ "Content-Type → "content-type" "application/grpc" [("+proto" / "+json" / {custom})]"."""

    @pytest.mark.parametrize(
        "value",
        [b"application/grpc", b"application/grpc+proto", b"APPLICATION/gRPC+json", b"application/grpc;charset=utf-8"],
    )
    def test_is_grpc(self, value: bytes) -> None:
        """In any case, with a format or parameters."""
        assert grpc.is_grpc(value)
        assert field_of(b"Content-Type: " + value).kind == Kind.GRPC

    @pytest.mark.parametrize(
        "value", [b"", b"application/grp", b"application/grpc-web", b"application/grpc-web+proto", b"application/grpcx",
                  b"xapplication/grpc", b"application/json", b"text/html; application/grpc"],
    )  # fmt: skip
    def test_is_not(self, value: bytes) -> None:
        """Not gRPC-Web either, whose status is in the body; of no kind then."""
        assert not grpc.is_grpc(value)
        assert make_field(b"content-type", value).kind == 0


class TestStatus:
    """ "Status → "grpc-status" 1*DIGIT ; 0-9"."""

    @pytest.mark.parametrize("number", range(17))
    def test_numbers_have_the_names_of_the_document(self, number: int) -> None:
        """grpc/doc/statuscodes.md."""
        assert grpc.status_of(b"%d" % number) == number
        assert getattr(grpc, grpc.NAMES[number]) == number

    @pytest.mark.parametrize("value", [b"", b"17", b"99", b"100", b"-1", b"+1", b"1 ", b"0x0", b"OK", b"\xb2"])
    def test_anything_else_is_unknown(self, value: bytes) -> None:
        """As clients take it."""
        assert grpc.status_of(value) == grpc.UNKNOWN

    def test_the_first_field_is_what_is_said(self) -> None:
        """Its number is read once, with the line."""
        fields = [field_of(line) for line in (b"x: 1", b"grpc-status: 14", b"grpc-status: 0")]
        assert noted(fields, Kind.GRPC_STATUS) == 14
        assert noted(fields[:1], Kind.GRPC_STATUS) is None

    @pytest.mark.parametrize(
        ("status", "name"),
        [(400, "INTERNAL"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "UNIMPLEMENTED"),
         (429, "UNAVAILABLE"), (502, "UNAVAILABLE"), (503, "UNAVAILABLE"), (504, "UNAVAILABLE"), (200, "UNKNOWN"),
         (302, "UNKNOWN"), (500, "UNKNOWN"), (999, "UNKNOWN")],
    )  # fmt: skip
    def test_of_http(self, status: int, name: str) -> None:
        """grpc/doc/http-grpc-status-mapping.md."""
        assert grpc.NAMES[grpc.status_for_http(status)] == name

    def test_to_http(self) -> None:
        """google/rpc/code.proto; those of 500 and above are the errors of a server by OpenTelemetry's conventions."""
        assert [grpc.http_status(status) for status in range(17)] == [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
        ]  # fmt: skip
        bad = {name for status, name in enumerate(grpc.NAMES) if grpc.http_status(status) >= 500}
        assert bad == {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

    @pytest.mark.parametrize(
        ("status", "grpc_status", "counted"),
        [(200, 14, 503), (200, 5, 404), (200, 0, 200), (204, 0, 204), (302, 2, 500), (200, -1, 200), (503, -1, 503),
         (499, 1, 499), (429, 14, 429), (503, 14, 503)],
    )  # fmt: skip
    def test_an_exchange_counts_as_the_call_unless_http_has_an_error(
        self, status: int, grpc_status: int, counted: int
    ) -> None:
        """Of a response of 400 and above the status of HTTP says more than what is made of it."""
        assert grpc.counts_as(status, grpc_status) == counted


class TestReasons:
    """One closed table: every reason has a status, and it is a failure."""

    @pytest.mark.parametrize("reason", errors.REASONS, ids=lambda reason: str(reason.name))
    def test_every_reason_has_one(self, reason: errors.Reason) -> None:
        """By name, and not for want of anything better."""
        status = grpc.status_for(reason, reason.status)
        assert status not in (grpc.OK, grpc.UNKNOWN)

    @pytest.mark.parametrize(
        ("reason", "name"),
        [
            (errors.NO_ROUTE, "UNIMPLEMENTED"), (errors.NO_APP, "UNIMPLEMENTED"),
            (errors.CONNECT_FAILED, "UNAVAILABLE"), (errors.CONNECT_TIMEOUT, "UNAVAILABLE"),
            (errors.NO_ENDPOINT, "UNAVAILABLE"), (errors.OVERLOADED, "UNAVAILABLE"),
            (errors.UPSTREAM_OVERLOADED, "UNAVAILABLE"), (errors.DRAINING, "UNAVAILABLE"),
            (errors.UPSTREAM_RESET, "UNAVAILABLE"), (errors.UPSTREAM_CLOSED, "UNAVAILABLE"),
            (errors.RESPONSE_CUT, "UNAVAILABLE"), (errors.RESPONSE_TIMEOUT, "DEADLINE_EXCEEDED"),
            (errors.TRY_TIMEOUT, "DEADLINE_EXCEEDED"), (errors.BODY_TIMEOUT, "DEADLINE_EXCEEDED"),
            (errors.AUTHORIZATION_DENIED, "PERMISSION_DENIED"), (errors.RATE_LIMITED, "RESOURCE_EXHAUSTED"),
            (errors.HEAD_TOO_LARGE, "RESOURCE_EXHAUSTED"), (errors.RESPONSE_HEAD_TOO_LARGE, "RESOURCE_EXHAUSTED"),
            (errors.BAD_RESPONSE, "INTERNAL"), (errors.INTERNAL, "INTERNAL"), (errors.BAD_REQUEST, "INTERNAL"),
            (errors.CLIENT_LEFT, "CANCELLED"),
        ],
    )  # fmt: skip
    def test_which(self, reason: errors.Reason, name: str) -> None:
        """docs/grpc.md."""
        assert grpc.NAMES[grpc.status_for(reason, 200)] == name

    def test_a_fault_s_status_is_the_file_s(self) -> None:
        """By the mapping for clients."""
        assert grpc.status_for(errors.FAULT_INJECTED, 404) == grpc.UNIMPLEMENTED
        assert grpc.status_for(errors.FAULT_INJECTED, 418) == grpc.UNKNOWN


class TestTimeout:
    """ "TimeoutValue → {positive integer as ASCII string of at most 8 digits}; TimeoutUnit"."""

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"250m", 0.25), (b"4u", 4e-6), (b"5n", 5e-9), (b"0S", 0.0),
         (b"99999999H", 99_999_999 * 3600.0), (b"00000001m", 0.001)],
    )  # fmt: skip
    def test_units(self, value: bytes, seconds: float) -> None:
        """Hours to nanoseconds."""
        assert grpc.parse_timeout(value) == seconds
        assert field_of(b"grpc-timeout: " + value).note == seconds

    @pytest.mark.parametrize(
        "value", [b"", b"S", b"1", b"1s", b"1h", b"-1S", b"+1S", b"1.5S", b"1 S", b"100000000n", b"\xb2S"]
    )
    def test_what_is_malformed_is_none(self, value: bytes) -> None:
        """Nothing is guessed."""
        assert grpc.parse_timeout(value) is None
        assert make_field(b"grpc-timeout", value).note is None

    @pytest.mark.parametrize(
        ("seconds", "value"),
        [(0.0, b"1n"), (1e-12, b"1n"), (0.05, b"50000000n"), (1.0, b"1000000u"), (99.9999999, b"99999999u"),
         (100.0, b"100000m"), (100_000.0, b"100000S"), (1e8, b"1666666M"), (1e10, b"2777777H"), (1e12, b"99999999H"),
         (float("inf"), b"99999999H")],
    )  # fmt: skip
    def test_the_finest_unit_that_eight_digits_allow(self, seconds: float, value: bytes) -> None:
        """Rounded down, and never 0."""
        assert grpc.format_timeout(seconds) == value


class TestMessage:
    """ "Status-Message → "grpc-message" Percent-Encoded"."""

    def test_every_octet(self) -> None:
        """ "Percent-Byte-Unencoded → 1*( %x20-%x24 / %x26-%x7E )"; each other one is two digits of its UTF-8."""
        for octet in range(128):
            encoded = grpc.encode_message(chr(octet))
            assert encoded == (b"%c" % octet if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet)
        assert grpc.encode_message("fünf €") == b"f%C3%BCnf %E2%82%AC"
