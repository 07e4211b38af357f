"""What is read of a ClientHello, what is refused, and when more is needed."""

from __future__ import annotations

import ssl

import pytest

from sidecar.net.tls.hello import MAX_BYTES, MAX_HELLO_BYTES, Hello, HelloError, begins_tls, read_hello
from tests.support.hellos import (
    client,
    extension,
    hello,
    in_records,
    names,
    protocols,
    record,
    sent_by,
    vector,
    versions,
)


def found(data: bytes) -> tuple[str, tuple[str, ...], tuple[int, ...]] | None:
    read = read_hello(data)
    return None if read is None else (read.server_name, read.protocols, read.versions)


def reason(data: bytes) -> str:
    with pytest.raises(HelloError) as refused:
        read_hello(data)
    return refused.value.reason


class TestWhatIsRead:
    """RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301, 3.1; RFC 8446, 4.2.1."""

    @pytest.mark.parametrize("name", [None, "recommendations", "a.b.example", "xn--bcher-kva.example"])
    @pytest.mark.parametrize("asked", [(), ("http/1.1",), ("sidecar-http/1.1", "h2")])
    def test_hello_of_openssl_is_read(self, name: str | None, asked: tuple[str, ...]) -> None:
        """Name, protocols and versions are those that the client was told to ask for."""
        assert found(sent_by(client(*asked), name)) == (name or "", asked, (0x0304, 0x0303))

    def test_hello_of_one_version_is_read(self) -> None:
        """A client of TLS 1.2 has no extension for its version; one of 1.3 names only that."""
        only_1_2 = client(newest=ssl.TLSVersion.TLSv1_2)
        only_1_3 = client(oldest=ssl.TLSVersion.TLSv1_3)
        assert found(sent_by(only_1_2, "a")) == ("a", (), (0x0303,))
        assert found(sent_by(only_1_3, "a")) == ("a", (), (0x0304,))

    def test_hello_without_extensions_is_read(self) -> None:
        """RFC 5246, 7.4.1.2: the field is missing; and it may be there and empty."""
        assert found(record(hello())) == ("", (), (0x0303,))
        assert found(record(hello(b""))) == ("", (), (0x0303,))

    def test_name_is_lower_case_and_without_the_dot_at_its_end(self) -> None:
        """So that it can be compared."""
        assert found(record(hello(names(b"WWW.Example.")))) == ("www.example", (), (0x0303,))

    def test_octets_of_protocols_are_kept_one_by_one(self) -> None:
        """RFC 7301, 3.1: names are opaque."""
        assert found(record(hello(protocols(b"\xffh2", b"x\n")))) == ("", ("\xffh2", "x\n"), (0x0303,))

    def test_values_that_mean_nothing_are_left_out(self) -> None:
        """RFC 8701: of versions, protocols and extensions."""
        message = hello(extension(0x1A1A, b""), versions(0xFAFA, 0x0304), protocols(b"\x4a\x4a", b"h2", b"\x4a\x5a"))
        assert found(record(message)) == ("", ("h2", "JZ"), (0x0304,))

    def test_outer_name_is_read_where_another_is_encrypted(self) -> None:
        """RFC 9849: the extension is one like others."""
        assert found(record(hello(extension(0xFE0D, b"\0" * 200), names(b"outer.example")))) == (
            "outer.example",
            (),
            (0x0303,),
        )

    def test_newer_version_of_the_message_counts_as_1_2(self) -> None:
        """RFC 8446, 4.2.1: without the extension a server negotiates 1.2 or earlier, whatever the message says."""
        assert found(record(hello(version=0x0399))) == ("", (), (0x0303,))

    def test_repr_shows_what_was_asked_for(self) -> None:
        """And escapes what a client could break a line with."""
        assert repr(Hello("a.example", ("h2", "x\n"), (0x0304,))) == r"<Hello 'a.example' 'h2', 'x\n' 0x0304>"


class TestRecords:
    """RFC 8446, 5.1."""

    MESSAGE = hello(names(b"split.example"), protocols(b"h2"), versions(0x0304))

    @pytest.mark.parametrize("sizes", [[1], [1, 1, 1, 1, 1], [4], [3, 60], [2] * 40, [1] * 63])
    def test_message_may_lie_in_several_records(self, sizes: list[int]) -> None:
        """Cut anywhere, also within its own header."""
        assert found(in_records(self.MESSAGE, sizes)) == ("split.example", ("h2",), (0x0304,))

    def test_more_is_needed_until_the_last_octet(self) -> None:
        """However little comes at a time."""
        data = in_records(self.MESSAGE, [2, 5, 40])
        assert [found(data[:size]) for size in range(len(data))] == [None] * len(data)
        assert found(data) is not None

    def test_what_follows_is_not_looked_at(self) -> None:
        """Early data, or anything else."""
        assert found(record(self.MESSAGE) + b"GET / HTTP/1.1") == ("split.example", ("h2",), (0x0304,))

    def test_message_ends_with_its_record(self) -> None:
        """It may be followed by a change of keys; known before all of the record has come."""
        assert reason(record(self.MESSAGE + b"\x14")[: 5 + 4]) == "a hello that does not end with its record"

    def test_records_are_counted(self) -> None:
        """One octet each would be sixteen thousand headers to look at for each octet that comes."""
        assert reason(in_records(self.MESSAGE, [1] * 64)) == "a hello in more than 64 records"

    def test_empty_record_is_refused(self) -> None:
        """Else a client could send headers for ever."""
        assert reason(record(self.MESSAGE[:5]) + record(b"")) == "an empty record"

    def test_another_record_in_between_is_refused(self) -> None:
        """Handshake messages must not be interleaved with other types."""
        data = record(self.MESSAGE[:9]) + record(b"\x01\x00", kind=21)
        assert reason(data) == "a record of type 21 in place of a handshake (22)"

    def test_longest_hello_is_read_and_a_longer_one_refused_at_its_fourth_octet(self) -> None:
        """The bound is the message's, whatever it is parted into."""
        rest = MAX_HELLO_BYTES - len(hello(extension(21, b"")))
        longest = hello(extension(21, b"\0" * rest))
        assert len(longest) == MAX_HELLO_BYTES
        assert found(in_records(longest, [9000])) == ("", (), (0x0303,))
        assert found(in_records(longest, [1] * 63)) == ("", (), (0x0303,))
        assert len(in_records(longest, [1] * 63)) == MAX_BYTES
        longer = in_records(hello(extension(21, b"\0" * (rest + 1))), [9000])
        assert reason(longer[:9]) == "a hello of 16385 octets, more than 16384"

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"GET / HTTP/1.1\r\n", "a record of type 71 in place of a handshake (22)"),
            (b"\x80\x2e\x01\x00\x02", "a hello of SSL 2"),
            (b"\x80\x2e", "a record of type 128 in place of a handshake (22)"),
            (b"\x15\x03\x01\x00\x02\x02\x28", "a record of type 21 in place of a handshake (22)"),
            (b"\x16\x02", "a record of version 2.x in place of 3.x"),
            (b"\x16\x03\x01\x40\x01", "a record of 16385 octets, more than 16384"),
            (b"\x16\x03\x01\x41", "a record of more than 16384 octets"),
            (b"\x16\x03\x01\x00\x00", "an empty record"),
            (b"\x16\x03\x01\x00\x04\x02", "handshake message 2 in place of a ClientHello (1)"),
            (record(b"\x01\x00\x00\x00"), "a hello cut short in its version"),
        ],
    )
    def test_what_is_no_hello_is_refused(self, data: bytes, expected: str) -> None:
        """As soon as it can be known."""
        assert reason(data) == expected
        assert found(b"") is None


class TestFields:
    """Lengths that do not fit, and what OpenSSL and others could read differently."""

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            (hello(version=0x0300), "a hello of version 0x0300, older than TLS 1.0"),
            (hello(session=b"s" * 33), "a session identifier of 33 octets, more than 32"),
            (hello(ciphers=b""), "0 octets of cipher suites of two octets"),
            (hello(ciphers=b"\x13\x01\x13"), "3 octets of cipher suites of two octets"),
            (hello(compression=b""), "no compression method"),
            (hello(rest=b"\0"), "a hello cut short in its extensions"),
            (hello(b"", rest=b"\0"), "octets after the last field of a hello"),
            (hello(b"\0"), "a hello cut short in an extension's type"),
            (hello(b"\0\x15\0"), "a hello cut short in its extension"),
            (hello(b"\0\x15\0\x01"), "a hello cut short in its extension"),
            (hello(names(b"a"), names(b"b")), "extension 0 twice"),
            (hello(extension(99, b""), extension(99, b"")), "extension 99 twice"),
            (hello(extension(0, b"")), "a hello cut short in its server names"),
            (hello(names()), "server names that do not fill their extension"),
            (hello(extension(0, vector(2, b"\0\0\x01a") + b"x")), "server names that do not fill their extension"),
            (hello(names(b"a", kind=1)), "a server name of type 1, which is none (0: a host's)"),
            (hello(names(b"a", b"b")), "more than one server name"),
            (hello(names(b"")), "a server name of 0 octets, expected 1 to 255"),
            (hello(names(b".")), "a server name of 0 octets, expected 1 to 255"),
            (hello(names(b"a" * 256)), "a server name of 256 octets, expected 1 to 255"),
            (hello(protocols()), "application protocols that do not fill their extension"),
            (hello(protocols(b"h2", b"")), "an empty application protocol"),
            (hello(extension(16, b"\0\x03\x05h2")), "a hello cut short in its application protocol"),
            (hello(versions()), "supported versions that do not fill their extension"),
            (hello(extension(43, b"\x03\x03\x04\x03")), "3 octets of supported versions of two octets"),
        ],
    )
    def test_field_that_does_not_fit_is_refused(self, message: bytes, expected: str) -> None:
        """With a reason that says which."""
        assert reason(record(message)) == expected

    def test_name_has_only_characters_of_hosts(self) -> None:
        """All 256 octets: what is in a log and compared with routes cannot break a line or be taken for another."""
        taken, refused = "", set()
        for octet in range(256):
            try:
                read_hello(record(hello(names(b"a%cb" % octet))))
                taken += chr(octet)
            except HelloError as problem:
                refused.add(problem.reason)
        assert refused == {"a server name with a character that no host's has"}
        assert taken == "-.0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

    def test_reason_is_the_text_of_the_error(self) -> None:
        """And nothing of the peer's is in it but numbers."""
        with pytest.raises(HelloError, match=r"^a server name with a character that no host's has$"):
            read_hello(record(hello(names(b"secret\n"))))


@pytest.mark.parametrize(
    ("data", "is_tls"),
    [
        (b"", False),
        (b"\x16", True),
        (b"\x16\x03", True),
        (b"\x16\x03\x01\x02", True),
        (b"\x16\x03\x01\x02\x00", True),
        (b"\x16\x03\x01\x02\x00\x02", True),  # a ServerHello: a client of TLS that is wrong, not clear text
        (b"\x16\x16", False),
        (b"\x16\x03\x01\x00\x00", False),
        (b"\x16\x03\x01\xff\x00", False),
        (b"\x80\x2e\x01", False),
        (b"GET / HTTP/1.1", False),
        (b"PRI * HTTP/2.0", False),
        (b"\r\nGET", False),
    ],
)
def test_tls_is_told_by_its_first_octets(data: bytes, is_tls: bool) -> None:
    """RFC 8446, 5.1: as far as they have come."""
    assert begins_tls(data) is is_tls


def test_only_one_first_octet_is_tls() -> None:
    """Of 256: none that a method, a chunk or a line can begin with."""
    assert [octet for octet in range(256) if begins_tls(bytes([octet]))] == [22]
