"""Octet tables and fields, each validator over all 256 octets."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest

from sidecar.http1 import grammar
from sidecar.http1.grammar import GrammarError, authority, content_length, field_of, learn, make_field, tokens
from sidecar.message import Kind

OCTETS = [bytes([octet]) for octet in range(256)]
ALPHA = string.ascii_letters.encode()
DIGIT = string.digits.encode()


def accepted(validate: Callable[[bytes], object]) -> bytes:
    """The octets for which the validator raises nothing."""
    good = bytearray()
    for octet in OCTETS:
        try:
            validate(octet)
        except GrammarError:
            continue
        good += octet
    return bytes(good)


class TestOctetSets:
    """The sets as their rules spell them, written a second time and differently."""

    def test_token_is_tchar(self) -> None:
        """RFC 9110, 5.6.2: tchar is letters, digits and fifteen marks."""
        assert sorted(grammar.TOKEN) == sorted(b"!#$%&'*+-.^_`|~" + DIGIT + ALPHA)

    def test_value_has_no_control_octet_but_tab(self) -> None:
        """RFC 9110, 5.5: field-vchar is VCHAR and obs-text; SP and HTAB come between."""
        refused = {octet for octet in range(256) if octet not in grammar.VALUE}
        assert refused == (set(range(0x20)) - {0x09}) | {0x7F}

    def test_target_is_visible_ascii_without_fragment(self) -> None:
        """RFC 9112, 3.2: no white space, no control octet, no octet above ASCII; a fragment is never sent."""
        assert set(grammar.TARGET) == set(range(0x21, 0x7F)) - {ord("#")}

    def test_reg_name_is_unreserved_and_sub_delims(self) -> None:
        """RFC 3986, 3.2.2: unreserved, sub-delims, and the percent sign of pct-encoded."""
        assert set(grammar.REG_NAME) == set(ALPHA + DIGIT + b"-._~" + b"!$&'()*+,;=" + b"%")


class TestFieldLines:
    """RFC 9112, 5: field-line = field-name ":" OWS field-value OWS."""

    def test_name_accepts_exactly_the_token_octets(self) -> None:
        """Each octet alone, at the front, in the middle and at the end of a name."""
        assert set(accepted(lambda octet: field_of(octet + b": v"))) == set(grammar.TOKEN)
        for template in (b"%ba: v", b"a%bb: v", b"ab%b: v"):
            good = set(accepted(lambda octet, template=template: field_of(template % octet)))
            # A colon inside only ends the name sooner, which is another valid line.
            assert good - {ord(":")} == set(grammar.TOKEN)

    def test_value_accepts_exactly_the_value_octets(self) -> None:
        """Each octet alone, at the front, in the middle and at the end of a value."""
        for template in (b"x-a:%b", b"x-a: %bb", b"x-a: a%bb", b"x-a: a%b"):
            assert set(accepted(lambda octet, template=template: field_of(template % octet))) == set(grammar.VALUE)

    @pytest.mark.parametrize(
        "line",
        [b"", b" ", b"name", b":value", b" : v", b"name : v", b"name\t: v", b" name: v", b"\tfolded", b"na me: v",
         b"a\rb: v", b"a: b\rc", b"a: b\nc", b"a: \x00", b"a\x00: b", b"\xef\xbb\xbfa: b"],
    )  # fmt: skip
    def test_line_outside_the_grammar_is_refused(self, line: bytes) -> None:
        """No colon, no name, white space before the colon, a folded line, and hidden line ends are refused."""
        with pytest.raises(GrammarError):
            field_of(line)

    def test_every_name_with_a_note_is_of_a_kind_that_is_noted(self) -> None:
        """And no other name is, but the content type, which is gRPC's by its value: it would be asked for in vain."""
        noted = {name for name, kind in grammar._KINDS.items() if kind & grammar._NOTED}
        assert noted == {*grammar._NOTES, b"content-type"}

    def test_field_keeps_the_line_and_lowers_the_name(self) -> None:
        """What is forwarded is the line as received; what is compared is lower case without outer white space."""
        field = field_of(b"X-Thing:\t a b \t")
        assert (field.name, field.value, field.wire, field.kind) == (b"x-thing", b"a b", b"X-Thing:\t a b \t", 0)

    def test_remembered_line_is_one_object(self) -> None:
        """The same line gives the same field, so that its note is computed once."""
        assert field_of(b"accept: text/html") is field_of(b"accept: text/html")

    @pytest.mark.parametrize(
        "line", [b"traceparent: 00-a", b"tracestate: a=b", b"x-request-id: 1", b"x-long: " + b"a" * 600]
    )
    def test_lines_that_would_flood_the_memory_are_not_remembered(self, line: bytes) -> None:
        """Values that are new with every request, and long ones, push nothing out."""
        assert field_of(line) is not field_of(line)

    def test_memory_is_bounded(self) -> None:
        """Any number of different lines keeps the memory at its limit."""
        for number in range(grammar._MAX_REMEMBERED + 10):
            learn(b"x-flood: %d" % number)
        assert len(grammar._remembered) <= grammar._MAX_REMEMBERED

    def test_field_that_is_refused_is_refused_again(self) -> None:
        """A bad line is not remembered as good."""
        for _ in range(2):
            with pytest.raises(GrammarError):
                field_of(b"content-length: 1,1")


class TestKinds:
    """RFC 9110, 7.6.1: what is for this hop only, and what the proxy acts on."""

    @pytest.mark.parametrize(
        "name",
        [b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Transfer-Encoding", b"Upgrade",
         b"Proxy-Authorization", b"Proxy-Authenticate", b"HTTP2-Settings"],
    )  # fmt: skip
    def test_hop_by_hop_names_are_known_in_any_case(self, name: bytes) -> None:
        """Each hop-by-hop name carries the bit, however it is spelled."""
        for spelled in (name, name.lower(), name.upper()):
            assert field_of(spelled + b": chunked").kind & Kind.HOP

    @pytest.mark.parametrize("name", [b"accept", b"content-type", b"dates", b"trailer", b"x-connection", b"hosts"])
    def test_other_names_have_no_kind(self, name: bytes) -> None:
        """A name that only looks like one of ours passes through."""
        assert field_of(name + b": a").kind == 0


class TestMakeField:
    """Fields of our own making never carry a line end."""

    def test_octets_of_names_and_values(self) -> None:
        """The same tables hold for what the configuration makes."""
        assert set(accepted(lambda octet: make_field(octet, b"v"))) == set(grammar.TOKEN)
        assert set(accepted(lambda octet: make_field(b"n", b"a" + octet + b"b"))) == set(grammar.VALUE)

    @pytest.mark.parametrize("value", [b" a", b"a ", b"\ta"])
    def test_outer_white_space_is_refused(self, value: bytes) -> None:
        """White space around a value would not survive the next hop."""
        with pytest.raises(GrammarError):
            make_field(b"a", value)


class TestContentLength:
    """RFC 9110, 8.6: Content-Length = 1*DIGIT."""

    def test_octets(self) -> None:
        """A single octet is a length exactly if it is a digit."""
        assert set(accepted(content_length)) == set(DIGIT)
        assert set(accepted(lambda octet: content_length(b"1" + octet + b"1"))) == set(DIGIT)

    @pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"70", 70), (b"9" * 18, 10**18 - 1)])
    def test_digits_are_read_as_decimal(self, value: bytes, length: int) -> None:
        """As many as a peer needs."""
        assert content_length(value) == length

    @pytest.mark.parametrize(
        "value",
        [b"", b"+1", b"-1", b"1,1", b"1, 1", b"0x1", b"1e3", b"1.0", b"1_0", b"9" * 19, "١".encode(), b" 1", b"00",
         b"007"],
    )  # fmt: skip
    def test_anything_else_is_refused(self, value: bytes) -> None:
        """Signs, lists, hexadecimal, exponents, separators, leading zeros, other scripts' digits and overflow."""
        with pytest.raises(GrammarError):
            content_length(value)


class TestTokens:
    """RFC 9110, 5.6.1: #token."""

    def test_octets(self) -> None:
        """A one-octet list is a token, a separator, or refused."""
        assert set(accepted(tokens)) == set(grammar.TOKEN) | set(b", \t")

    def test_members_are_lowered_and_empty_ones_ignored(self) -> None:
        """Case and empty members do not matter."""
        assert tokens(b" Close,, \tX-a ,") == {b"close", b"x-a"}


class TestAuthority:
    """RFC 9110, 7.2 and RFC 3986, 3.2.2."""

    def test_octets_of_a_host(self) -> None:
        """A host's octet is a reg-name octet; `%` needs its digits, `:` begins a port, `[` an address."""
        good = set(accepted(lambda octet: authority(b"a" + octet + b"b")))
        assert good == set(grammar.REG_NAME) - {ord("%")}

    def test_octets_of_a_port(self) -> None:
        """A port's octet is a digit, and nothing listens at port 0."""
        assert set(accepted(lambda octet: authority(b"a:1" + octet))) == set(DIGIT)
        assert set(accepted(lambda octet: authority(b"a:" + octet))) == set(DIGIT) - {ord("0")}

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"", (b"", None)),
            (b"Example.COM", (b"example.com", None)),
            (b"example.com.", (b"example.com", None)),
            (b"example.com.:8080", (b"example.com", 8080)),
            (b"example.com:", (b"example.com", None)),
            (b"a:65535", (b"a", 65535)),
            (b"a%20b", (b"a%20b", None)),
            (b"[::1]", (b"[::1]", None)),
            (b"[2001:DB8::1]:443", (b"[2001:db8::1]", 443)),
        ],
    )
    def test_valid(self, value: bytes, expected: tuple[bytes, int | None]) -> None:
        """Lower case, no trailing dot, brackets kept, an empty port is none."""
        assert authority(value) == expected

    @pytest.mark.parametrize(
        "value",
        [b"user@host", b"a:b", b"a:1:2", b"a:65536", b"a:-1", b"a:+1", b"a:000080", b":80", b".:80", b"a b", b"a/b",
         b"a%2", b"a%zz", b"[::1", b"[::1]x", b"[::1]80", b"[1.2.3.4]", b"[]", b"[fe80::1%25eth0]", b"::1", b"a\x00",
         b"a,b@c", b"\xc3\xa9"],
    )  # fmt: skip
    def test_invalid(self, value: bytes) -> None:
        """User information, ports out of range, half brackets and foreign octets are refused."""
        with pytest.raises(GrammarError):
            authority(value)
