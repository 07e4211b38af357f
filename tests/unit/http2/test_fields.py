"""Fields by RFC 9113, 8.2 and 8.3, each validator over all 256 octets."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest

from sidecar.http1.grammar import TARGET, TOKEN, VALUE, field_of, make_field
from sidecar.http2.fields import STATIC_FIELDS, field_from, never_indexed
from sidecar.http2.hpack.static_table import STATIC_TABLE
from sidecar.message import Field, Kind

OCTETS = [bytes([octet]) for octet in range(256)]


def fault(name: bytes, value: bytes) -> str | None:
    """What is wrong with a field, or None."""
    field = field_from(name, value)
    assert (field.name, field.value) == (name, value)
    if not field.kind & Kind.MALFORMED:
        return None
    assert field.wire == b""
    assert isinstance(field.note, str)
    return field.note


def accepted(spell: Callable[[bytes], tuple[bytes, bytes]]) -> set[int]:
    """The octets of which no malformed field comes."""
    return {octet[0] for octet in OCTETS if fault(*spell(octet)) is None}


class TestRegular:
    """RFC 9113, 8.2.1."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            (b"connection", b"close"),
            (b"content-length", b"7"),
            (b"content-type", b"application/grpc+proto"),
            (b"content-type", b"text/html"),
            (b"grpc-status", b"14"),
            (b"grpc-timeout", b"3S"),
            (b"host", b"shop.example:8080"),
            (b"keep-alive", b"timeout=5"),
            (b"transfer-encoding", b"chunked"),
        ],
    )
    def test_field_that_is_read_means_what_one_of_our_making_means(self, name: bytes, value: bytes) -> None:
        """By a line and by HPACK: its kind, and what is noted of its value."""
        made = make_field(name, value)
        line = field_of(name + b": " + value)
        assert (line.kind, line.note) == (made.kind, made.note)
        if name not in (b"connection", b"keep-alive", b"transfer-encoding"):
            field = field_from(name, value)
            assert (field.kind, field.note) == (made.kind, made.note)

    def test_field_is_the_one_of_http1(self) -> None:
        """The very object that the line has, whichever came first, note included."""
        assert field_from(b"x-shared", b"one") is field_of(b"x-shared: one")
        assert field_of(b"content-length: 12") is field_from(b"content-length", b"12")
        assert field_from(b"content-length", b"12").note == 12
        assert field_from(b"x-empty", b"").wire == b"x-empty: "

    def test_kinds_are_those_of_http1(self) -> None:
        """What is new each time is not remembered, and the same all the same."""
        field = field_from(b"traceparent", b"00-1-2-01")
        assert (field.kind, field.wire, field.note) == (Kind.TRACE, b"traceparent: 00-1-2-01", None)
        assert field_from(b"x_y", b"1").kind == Kind.UNDERSCORE
        assert field_from(b"host", b"Shop:80").note == (b"shop", 80)

    def test_name_holds_exactly_the_token_octets_without_upper_case(self) -> None:
        """Alone, at the front, in the middle, at the end: nothing that a line of HTTP/1.1 would end the name at."""
        lower = set(TOKEN) - set(string.ascii_uppercase.encode())
        assert accepted(lambda octet: (octet, b"v")) == lower
        for template in (b"%ba", b"a%bb", b"ab%b"):
            assert accepted(lambda octet, template=template: (template % octet, b"v")) == lower

    def test_value_holds_exactly_the_value_octets(self) -> None:
        """Neither NUL, CR, LF nor another control octet, wherever."""
        for name in (b"x-a", b"traceparent", b"cookie"):
            assert accepted(lambda octet, name=name: (name, b"a%bb" % octet)) == set(VALUE)

    def test_value_has_no_white_space_around_it(self) -> None:
        """ "MUST NOT start or end with an ASCII whitespace character"; also where HTTP/1.1 knows the line."""
        field_of(b"x-a:  b")
        field_of(b"x-a: b ")
        edge = set(VALUE) - set(b" \t")
        for template in (b"%b", b"%bb", b"b%b"):
            assert accepted(lambda octet, template=template: (b"x-a", template % octet)) == edge

    def test_two_spellings_of_one_line_stay_apart(self) -> None:
        """`a: b` as a name and `c` as its value is no field, though there is a field with that line."""
        assert fault(b"a", b"b: c") is None
        assert fault(b"a: b", b"c") == "an invalid field name"

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [(b"", b"v", "a field without a name"), (b"X-Up", b"v", "an upper-case letter in a field name"),
         (b"na me", b"v", "an invalid field name"), (b"a", b"\r", "a control octet in a header value"),
         (b"content-length", b"1,1", "a content-length that is not a number"),
         (b"content-length", b"", "a content-length that is not a number"), (b"host", b"a b", "an invalid host")],
    )  # fmt: skip
    def test_fault_is_said(self, name: bytes, value: bytes, said: str) -> None:
        """In the words of HTTP/1.1, where the rule is one of both."""
        assert fault(name, value) == said


class TestConnectionSpecific:
    """RFC 9113, 8.2.2."""

    @pytest.mark.parametrize(
        "name", [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"]
    )
    def test_field_about_the_connection_is_malformed(self, name: bytes) -> None:
        """ "Any message containing connection-specific header fields MUST be treated as malformed"."""
        assert fault(name, b"close") == "a field that is about the connection"

    def test_te_may_say_trailers_only(self) -> None:
        """In any case, and alone."""
        assert field_from(b"te", b"trailers") is field_of(b"te: trailers")
        assert fault(b"te", b"Trailers") is None
        for value in (b"", b"gzip", b"trailers, deflate", b"trailers;q=1", b" trailers"):
            assert fault(b"te", value) == "a te other than trailers"


class TestPseudo:
    """RFC 9113, 8.3."""

    def test_field_is_shared_and_has_no_line(self) -> None:
        """Twice the same object; HTTP/1.1 cannot write it."""
        field = field_from(b":method", b"GET")
        assert field_from(b":method", b"GET") is field
        assert (field.kind, field.wire, field.note) == (Kind.PSEUDO, b"", None)

    def test_name_is_a_known_one(self) -> None:
        """8.3: "Endpoints MUST treat a request or response that contains undefined or invalid pseudo-header fields as
        malformed"."""
        for name in (b":", b":path ", b":Path", b":foo", b":path:"):
            assert fault(name, b"/") == "an unknown pseudo-header field"

    def test_bad_value_is_pseudo_and_malformed(self) -> None:
        """So that who counts pseudo-header fields counts it."""
        assert field_from(b":status", b"20").kind == Kind.PSEUDO | Kind.MALFORMED

    @pytest.mark.parametrize(
        ("value", "note"),
        [(b"/a/b?c=d", (b"/a/b", b"c=d", True)), (b"/", (b"/", None, True)), (b"/a?", (b"/a", b"", True)),
         (b"/%7ea/../b", (b"/b", None, False)), (b"/a.b", (b"/a.b", None, False)), (b"*", (b"*", None, False)),
         (b'/a?"', (b"/a", b'"', False))],
    )  # fmt: skip
    def test_path_is_noted_as_a_target_of_http1_is_read(
        self, value: bytes, note: tuple[bytes, bytes | None, bool]
    ) -> None:
        """Normalised, with its query, and whether it is plain."""
        assert field_from(b":path", value).note == note

    @pytest.mark.parametrize(
        "value", [b"", b"a", b"http://a/", b"**", b"*/", b"/%0", b"/%00", b"/a\\b", b"/a#b", b" /"]
    )
    def test_path_of_no_form_is_malformed(self, value: bytes) -> None:
        """Not empty, origin form or an asterisk."""
        assert fault(b":path", value)

    def test_path_holds_exactly_the_target_octets(self) -> None:
        """No space, CR, LF or NUL, which would be a line of HTTP/1.1 of its own making."""
        bare = set(TARGET) - set(b"%\\")
        assert accepted(lambda octet: (b":path", b"/a%bb" % octet)) == bare
        assert accepted(lambda octet: (b":path", b"/?a%bb" % octet)) == set(TARGET)

    def test_authority_notes_host_and_port_and_the_field_of_http1(self) -> None:
        """The shared `host` that says the same."""
        host, port, field = field_from(b":authority", b"Shop.:8080").note
        assert (host, port) == (b"shop", 8080)
        assert field is field_of(b"host: Shop.:8080")

    @pytest.mark.parametrize(
        "value", [b"", b"u@a", b"u:p@a:80", b" a", b"a ", b"a b", b"a/b", b"a:0", b":80", b"a\r\nb: c"]
    )
    def test_authority_that_is_none_is_malformed(self, value: bytes) -> None:
        """8.3.1: no user information, and what no `host` may be."""
        assert fault(b":authority", value)

    def test_status_is_three_digits(self) -> None:
        """100 to 999."""
        assert [field_from(b":status", value).note for value in (b"100", b"200", b"999")] == [100, 200, 999]
        for value in (b"", b"99", b"099", b"1000", b"20x", b"+20", b" 20", b"2\xb2"):
            assert fault(b":status", value) == "an invalid status code"

    def test_method_and_protocol_are_tokens(self) -> None:
        """RFC 9110, 9.1; RFC 8441, 4."""
        for name in (b":method", b":protocol"):
            assert accepted(lambda octet, name=name: (name, octet)) == set(TOKEN)
            assert accepted(lambda octet, name=name: (name, b"a%bb" % octet)) == set(TOKEN)
            assert fault(name, b"")

    def test_scheme_is_one_of_rfc_3986(self) -> None:
        """3.1: a letter, then letters, digits, `+`, `-` and `.`."""
        letters = string.ascii_letters.encode()
        assert accepted(lambda octet: (b":scheme", octet)) == set(letters)
        assert accepted(lambda octet: (b":scheme", b"a" + octet)) == set(letters + string.digits.encode() + b"+-.")
        assert fault(b":scheme", b"")


def test_static_table_holds_shared_fields() -> None:
    """RFC 7541, appendix A: 61 entries, and an encoder finds them by identity."""
    assert len(STATIC_FIELDS) == len(STATIC_TABLE) == 61
    assert [(field.name, field.value) for field in STATIC_FIELDS] == list(STATIC_TABLE)
    assert field_from(b":method", b"POST") is STATIC_FIELDS[2]


def test_static_pseudo_fields_are_never_forgotten() -> None:
    """However many others come."""
    for number in range(5000):
        field_from(b":path", b"/%d" % number)
    assert field_from(b":status", b"200") is STATIC_FIELDS[7]


def test_names_of_its_own_are_never_forgotten() -> None:
    """However many names come."""
    for number in range(3000):
        assert fault(b"x-%d" % number, b"v") is None
    assert fault(b"upgrade", b"h2c")
    assert fault(b":path", b"/") is None


def test_never_indexed_is_a_copy() -> None:
    """RFC 7541, 6.2.3; the shared field stays as it is."""
    shared = field_from(b"x-key", b"secret")
    field: Field = never_indexed(shared)
    assert (field.name, field.value, field.wire) == (b"x-key", b"secret", b"x-key: secret")
    assert (field.kind, shared.kind) == (Kind.NEVER_INDEXED, 0)
