"""The chunked coding (RFC 9112, 7.1), read in any pieces."""

from __future__ import annotations

import pytest

from sidecar.http1.body import ChunkedReader, encode_chunk, encode_end
from sidecar.http1.grammar import TOKEN, VALUE, GrammarError, field_of

LIMIT = 1024


def lines_of(reader: ChunkedReader) -> list[bytes]:
    """Its trailers as they are written."""
    return [field.wire for field in reader.trailers]


def read(data: bytes, sizes: list[int] | None = None, limit: int = LIMIT) -> tuple[bytes, list[bytes], int, bool]:
    """Payload, trailers, octets taken, and whether the body is complete, of `data` fed in pieces of these sizes."""
    reader = ChunkedReader(limit)
    payload, taken = b"", 0
    pieces = [data]
    if sizes is not None:
        pieces, position = [], 0
        for size in [*sizes, len(data)]:
            pieces.append(data[position : position + size])
            position += size
    for piece in pieces:
        if reader.is_complete:
            break
        found, end = reader.feed(piece)
        payload += found
        taken += end
    return payload, lines_of(reader), taken, reader.is_complete


VALID = [
    (b"0\r\n\r\n", b"", []),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", []),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", []),
    (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", []),
    (b"a\r\n0123456789\r\n000\r\n\r\n", b"0123456789", []),
    (b"0000005\r\nhello\r\n0\r\n\r\n", b"hello", []),
    (b"5;a=b\r\nhello\r\n0;x\r\n\r\n", b"hello", []),
    (b'5 ;\ta\t= "b;c"\r\nhello\r\n0\r\n\r\n', b"hello", []),
    (b'5;a="\xff\\"\\\\";b\r\nhello\r\n0;c=d;e\r\n\r\n', b"hello", []),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", []),
    (b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n\r\n", []),
    (b"0\r\nX-Sum: 1\r\nx-b:2\r\n\r\n", b"", [b"X-Sum: 1", b"x-b:2"]),
]


@pytest.mark.parametrize(("data", "payload", "trailers"), VALID)
def test_valid_body_however_cut(data: bytes, payload: bytes, trailers: list[bytes]) -> None:
    """Whole, by octet, and at every single cut: the same payload, trailers and end."""
    expected = (payload, trailers, len(data), True)
    assert read(data) == expected
    assert read(data, [1] * len(data)) == expected
    for cut in range(len(data)):
        assert read(data, [cut]) == expected
        assert read(data + b"GET / HTTP/1.1", [cut]) == expected


@pytest.mark.parametrize(("data", "payload", "trailers"), VALID)
def test_incomplete_body_waits(data: bytes, payload: bytes, trailers: list[bytes]) -> None:
    """No prefix of a body is complete or refused."""
    for cut in range(len(data)):
        assert read(data[:cut])[3] is False


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"g\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5\t\r\n",
        b"5,\r\n",
        b"5 5\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a\x00\r\n",
        b"5;\x7f\r\n",
        b"5;\r\n",
        b"5; \r\n",
        b"5;a;\r\n",
        b"5;;a\r\n",
        b"5;a \r\n",
        b"5;a=\r\n",
        b"5;=b\r\n",
        b"5;a=b=c\r\n",
        b"5;a b\r\n",
        b"5;\xff\r\n",
        b'5;"a"\r\n',
        b'5;a="\r\n',
        b'5;a="b\r\n',
        b'5;a="b"c\r\n',
        b'5;a="b\\"\r\n',
        b"5;a='b;c d'\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\n X: 1\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nX: 1\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nContent-Length: x\r\n\r\n",
        b"1" + b"0" * 15 + b"\r\n",
        b"F" * 16 + b"\r\n",
        b"5;" + b"a" * 5000,
        b"0\r\nX: " + b"a" * 2000,
        b"0\r\n" + b"X: 1\r\n" * 300,
        b"\n",
        b"0\n\r\n",
    ],
)
def test_invalid_body_is_refused_however_cut(data: bytes) -> None:
    """Sizes that are not 1*HEXDIG, bare line ends, wrong lengths, bad trailers, and overflow end the body for good."""
    with pytest.raises(GrammarError):
        read(data)
    with pytest.raises(GrammarError):
        read(data, [1] * len(data))


def test_octets_of_a_chunk_size() -> None:
    """Over all 256 octets a size is one hexadecimal digit."""
    good = set()
    for octet in range(256):
        try:
            read(bytes([octet]) + b"\r\n")
        except GrammarError:
            continue
        good.add(octet)
    assert good == set(b"0123456789abcdefABCDEF")


def test_octets_of_an_extension() -> None:
    """Over all 256 octets: a name holds those of a token, a quoted value those of a field but for its own two."""

    def accepted(template: bytes) -> set[int]:
        good = set()
        for octet in range(256):
            try:
                read(template % bytes([octet]))
            except GrammarError:
                continue
            good.add(octet)
        return good

    assert accepted(b"5;%b\r\n") == set(TOKEN)
    assert accepted(b"5;a=%b\r\n") == set(TOKEN)
    assert accepted(b"5;a%bb\r\n") == set(TOKEN) | set(b";=")
    assert accepted(b'5;a="%b"\r\n') == set(VALUE) - set(b'"\\')
    assert accepted(b'5;a="\\%b"\r\n') == set(VALUE)


@pytest.mark.parametrize("part", [b"a", b"a ", b" ", b";a", b'"', b"\\", b"=a", b"a=b;"])
def test_no_extension_takes_long_to_refuse(part: bytes) -> None:
    """A line as long as may be, of any repetition, is looked at once: there is nothing to go back to."""
    for begin in (b"5;", b"5;a=", b'5;a="', b"5;a ="):
        with pytest.raises(GrammarError):
            read(begin + part * (4000 // len(part)) + b"\x00\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Host: evil",
        b"Connection: close",
        b"TE: trailers",
        b"Cookie: a=b",
        b"X-Forwarded-For: 1.2.3.4",
        b"X-Request-Id: 1",
        b"traceparent: x",
        b"Via: x",
        b"Expect: x",
        b"Authorization: x",
        b"Content-Type: x",
        b"Content-Encoding: x",
        b"Set-Cookie: x",
        b"If-Match: x",
        b"Cache-Control: x",
        b"Trailer: x",
        b"Location: x",
        b"content_length: 5",
        b"Transfer_Encoding: chunked",
    ],
)
def test_trailer_that_means_something_in_a_head_is_dropped(line: bytes) -> None:
    """RFC 9110, 6.5.1: framing, routing, credentials and modifiers cannot be sent behind the body."""
    assert read(b"0\r\nA: 1\r\n" + line + b"\r\nB: 2\r\n\r\n")[1] == [b"A: 1", b"B: 2"]


def test_a_trailer_is_a_field_as_a_head_has_it() -> None:
    """Name, value and kind are there for whoever writes it in another form."""
    reader = ChunkedReader(LIMIT)
    reader.feed(b"0\r\nX-Sum:  0\r\n\r\n")
    (field,) = reader.trailers
    assert (field.name, field.value, field.kind, field.wire) == (b"x-sum", b"0", 0, b"X-Sum:  0")


def test_what_connection_names_goes_from_the_trailers_too() -> None:
    """RFC 9110, 7.6.1: "any header or trailer field(s) ... with the same name as the connection-option"."""
    reader = ChunkedReader(LIMIT, frozenset((b"x-a",)))
    reader.feed(b"0\r\nX-A: 1\r\nx-b: 2\r\n\r\n")
    assert lines_of(reader) == [b"x-b: 2"]


@pytest.mark.parametrize("drops", [False, True])
def test_names_with_underscores_pass_unless_they_are_to_be_dropped(drops: bool) -> None:
    """As in heads; what `Connection` names goes in any case."""
    reader = ChunkedReader(LIMIT, frozenset((b"x_a",)), drops_underscored=drops)
    reader.feed(b"0\r\nX_A: 1\r\nx_b: 2\r\nx-c: 3\r\n\r\n")
    assert lines_of(reader) == ([b"x-c: 3"] if drops else [b"x_b: 2", b"x-c: 3"])


def test_large_chunk_is_passed_on_as_it_comes() -> None:
    """Nothing of a chunk is held until it is complete."""
    reader = ChunkedReader(LIMIT)
    assert reader.feed(b"fffffffffffffff\r\nabc") == (b"abc", 20)
    assert reader.feed(b"d" * 1000) == (b"d" * 1000, 1000)
    assert not reader.is_complete


def test_what_we_encode_we_read() -> None:
    """Our own chunks and ends are read back."""
    data = encode_chunk(b"a" * 4097) + encode_chunk(b"b") + encode_end([field_of(b"x: 1"), field_of(b"Y:2")])
    assert read(data) == (b"a" * 4097 + b"b", [b"x: 1", b"Y:2"], len(data), True)
    assert encode_end([]) == b"0\r\n\r\n"
