"""
Reading a ClientHello held against OpenSSL's: what both take, both read the same; and whatever is sent, in whatever
pieces, it is a hello, more is needed, or it is refused.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.net.tls.hello import MAX_BYTES, Hello, HelloError, begins_tls, read_hello
from tests.support.hellos import client, extension, hello, in_records, names, pair, protocols, record, sent_by, versions
from tests.support.thoroughness import examples

QUICK = settings(deadline=None, max_examples=examples(400))
Known = tuple[str, tuple[str, ...], tuple[int, ...]]

SHORT = st.binary(max_size=6)
EXTENSIONS = st.one_of(
    st.lists(st.sampled_from([b"a.example", b"B.example.", b"a_b", b"1.2.3.4", b"a b", b"\0", b""]), max_size=2).map(
        lambda found: names(*found)
    ),
    st.lists(st.sampled_from([b"h2", b"http/1.1", b"sidecar-http/1.1", b"", b"\x0a\x0a", b"\xff"]), max_size=3).map(
        lambda found: protocols(*found)
    ),
    st.lists(st.sampled_from([0x0304, 0x0303, 0x0302, 0x0A0A, 0x7F17]), max_size=3).map(lambda found: versions(*found)),
    st.builds(extension, st.sampled_from([0, 16, 43, 21, 0xFE0D, 0x0A0A]), SHORT),
    SHORT,
)
MESSAGES = st.builds(
    lambda extensions, version, session, rest: hello(*extensions, version=version, session=session, rest=rest),
    st.lists(EXTENSIONS, max_size=5),
    st.sampled_from([0x0303, 0x0301, 0x0300, 0x0304, 0x03FF]),
    st.sampled_from([b"", b"s" * 32, b"s" * 33]),
    st.sampled_from([b"", b"\0"]),
)
SIZES = st.lists(st.integers(1, 40), max_size=70)
REAL = [
    sent_by(client(*asked, newest=newest), name)
    for name in (None, "a.example")
    for asked in ((), ("sidecar-http/1.1", "http/1.1"))
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A hello that OpenSSL sent, some octets of which are others, with something put in or cut out."""
    data = bytearray(draw(st.sampled_from(REAL)))
    for at, octet in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=3)):
        data[at] = octet
    at = draw(st.integers(0, len(data)))
    data[at : at + draw(st.integers(0, 3))] = draw(SHORT)
    return bytes(data)


STREAMS = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=100).map(lambda rest: b"\x16\x03\x01" + rest),
    st.builds(in_records, MESSAGES, SIZES),
    st.builds(in_records, st.binary(max_size=200).map(lambda rest: b"\x01\x00\x00" + rest), SIZES),
    changed(),
)


def known(data: bytes) -> Known | None:
    """What is read of a hello; None: more is needed. Raises HelloError only, or the test fails."""
    read = read_hello(data)
    assert read is None or isinstance(read, Hello)
    return None if read is None else (read.server_name, read.protocols, read.versions)


@QUICK
@given(STREAMS, st.binary(max_size=20))
@example(record(hello(names(b"a"))), b"\x16\x03\x01")
def test_answer_stands_whatever_follows(data: bytes, rest: bytes) -> None:
    """
    Of all beginnings of a stream the first few need more, and all others have one answer: read or refused, which
    nothing that comes later changes, and which does not depend on how it was split.
    """
    answers: list[Known | None] = []
    is_refused = False
    reasons: list[str] = []
    for size in range(len(data) + 1):
        try:
            answer = known(data[:size])
            assert not is_refused
            assert answer is not None or not any(answers)
            answers.append(answer)
        except HelloError as problem:
            is_refused = True
            reasons.append(problem.reason)
    assert all(reason.isprintable() for reason in reasons)
    if is_refused:
        assert not any(answers)
        with pytest.raises(HelloError):
            read_hello(data + rest)
    elif answers[-1] is not None:
        assert known(data + rest) == answers[-1]
        assert {answer for answer in answers if answer is not None} == {answers[-1]}


@QUICK
@given(MESSAGES, SIZES, st.binary(max_size=20))
def test_parting_into_records_changes_nothing(message: bytes, sizes: Sequence[int], rest: bytes) -> None:
    """Up to the bound of their number, the same message is read or refused in the same words."""

    def outcome(data: bytes) -> Known | str | None:
        try:
            return known(data)
        except HelloError as problem:
            return problem.reason

    whole, parted = outcome(record(message)), outcome(in_records(message, sizes) + rest)
    assert whole == parted or (len(sizes) > 63 and parted == "a hello in more than 64 records")


@QUICK
@given(st.integers(4, 1 << 14), st.integers(1, 1 << 14), st.sampled_from([0, 1, 63]))
def test_so_many_octets_are_enough(length: int, size: int, ones: int) -> None:
    """A reader of at most `MAX_BYTES` never waits for more."""
    message = b"\x01" + (length - 4).to_bytes(3, "big") + b"\0" * (length - 4)
    data = in_records(message, [1] * ones + [size] * 64)
    with pytest.raises(HelloError):
        read_hello((data + record(b"\0" * 16_384) * 2)[:MAX_BYTES])


@QUICK
@given(STREAMS)
def test_what_is_read_began_as_tls(data: bytes) -> None:
    """No stream is taken for clear text of which a hello can be read."""
    with contextlib.suppress(HelloError):
        if read_hello(data) is not None:
            assert all(begins_tls(data[:size]) for size in range(1, len(data) + 1))


class Server:
    """A server of OpenSSL, and what it makes of a hello."""

    def __init__(self, folder: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*pair(folder))
        self.context.set_alpn_protocols(["sidecar-http/1.1", "h2"])
        self.context.sni_callback = self._on_name  # type: ignore[assignment]
        self.names: list[str | None] = []

    def _on_name(self, _object: object, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)

    def read(self, data: bytes) -> tuple[list[str | None], bool, str | None]:
        """The names that it was asked for, whether it answered with a ServerHello, and the protocol that it chose."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(data)
        self.names = []
        server = self.context.wrap_bio(incoming, outgoing, server_side=True)
        with contextlib.suppress(ssl.SSLError):
            server.do_handshake()
        answer = outgoing.read()
        return self.names, answer[:1] == b"\x16", server.selected_alpn_protocol()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("server"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a name that is not ASCII: ssl's own
@QUICK
@given(data=st.one_of(changed(), st.builds(in_records, MESSAGES, st.lists(st.integers(1, 40), max_size=5))))
@example(data=REAL[0])
@example(data=REAL[-1])
@example(data=record(hello(names(b"a.example"), names(b"b.example"))))
def test_openssl_reads_the_same(server: Server, data: bytes) -> None:
    """
    Where both take a hello, they find the same name and protocols: nobody chooses by one name what is then shown for
    another. Where ours needs more, OpenSSL has asked for no name.
    """
    try:
        read = read_hello(data)
    except HelloError:
        return
    asked, is_answered, chosen = server.read(data)
    if read is None:
        assert not asked
        assert not is_answered
        return
    if asked:
        assert [(asked[0] or "").lower().removesuffix(".")] == [read.server_name]
    if is_answered:
        assert asked
        assert (chosen or "") == next((each for each in ("sidecar-http/1.1", "h2") if each in read.protocols), "")


@pytest.mark.parametrize("data", REAL)
def test_openssl_answers_its_own_hellos(server: Server, data: bytes) -> None:
    """What the test above compares does happen."""
    asked, is_answered, _ = server.read(data)
    assert asked
    assert is_answered
