"""
The beginning of a connection that may be TLS: whether it is, and what its ClientHello asks for (RFC 8446, 4.1.2; RFC
5246, 7.4.1.2). *Hot path: once a connection; pure.*

Nothing is answered or decrypted here, and nothing is consumed: a listener looks before it lets OpenSSL see the same
octets, so as to tell TLS of the mesh from TLS of the app and from clear text, and to choose by the name. What OpenSSL
would refuse may pass here; what passes here and there is read the same by both: nothing that could be read in two ways
(the same extension twice, octets after the last field) passes.

A hello whose server name is encrypted (`encrypted_client_hello`) shows an outer name, and that is what is read; also
clients that only pretend send this extension (RFC 9849, 6.2), so that nobody can tell which it was.
"""

from __future__ import annotations

from typing import Final

HANDSHAKE: Final = 22  # content type of a record (RFC 8446, B.1)
CLIENT_HELLO: Final = 1  # of a handshake message (RFC 8446, B.3)
TLS_1_0: Final = 0x0301
TLS_1_2: Final = 0x0303
RECORD_HEADER: Final = 5
MESSAGE_HEADER: Final = 4
MAX_FRAGMENT: Final = 1 << 14  # octets in a record of clear text (RFC 8446, 5.1)
RANDOM_BYTES: Final = 32
MAX_SESSION_ID: Final = 32

MAX_HELLO_BYTES: Final = 16_384
"""Of the message; Envoy's `tls_inspector` and nginx's `ssl_preread` read as much. Browsers send 2 KiB."""

MAX_RECORDS: Final = 64
"""That the message may be parted into: one is usual, and clients that hide from a censor send a dozen."""

MAX_BYTES: Final = MAX_HELLO_BYTES + MAX_RECORDS * RECORD_HEADER
"""More than these are never needed: with so many, `read_hello` gives a hello or raises."""

SERVER_NAME: Final = 0  # extensions (RFC 8446, 4.2)
PROTOCOLS: Final = 16
SUPPORTED_VERSIONS: Final = 43
HOST_NAME: Final = 0  # type of a server name (RFC 6066, 3)

_NAME: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.:")


class HelloError(ValueError):
    """
    What was sent is no ClientHello that we take. The text is ours: at most numbers of it are the peer's.

    Attributes:
        reason: What was wrong, as a clause that follows "the client sent".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Hello:
    """
    What a client asks for before anything is agreed on.

    Attributes:
        server_name: Lower case, without the dot at its end; empty if it named none. Of letters, digits, `-_.:` only.
        protocols: Of ALPN (RFC 7301), in its order, each octet a character (Latin-1), without those of RFC 8701.
        versions: Such as 0x0304, in its order, without those of RFC 8701: of the extension, or the one version of the
            message where there is none (RFC 8446, 4.2.1).
    """

    __slots__ = ("protocols", "server_name", "versions")

    def __init__(self, server_name: str, protocols: tuple[str, ...], versions: tuple[int, ...]) -> None:
        self.server_name = server_name
        self.protocols = protocols
        self.versions = versions

    def __repr__(self) -> str:
        versions = ", ".join(f"{version:#06x}" for version in self.versions)
        return f"<Hello {self.server_name!r} {', '.join(map(repr, self.protocols))} {versions}>"


def begins_tls(data: bytes) -> bool:
    """
    Whether a connection that begins so can be TLS: a handshake record, as far as its header has come.

    The first octet is enough to tell HTTP (a method's letter), and SSH, and all that begins with text from it.

    Args:
        data: What came first, at least one octet.
    """
    if not data or data[0] != HANDSHAKE:
        return False
    return _header_fault(data, 0) == ""


def read_hello(data: bytes) -> Hello | None:
    """
    Read the ClientHello that a connection begins with, which may lie in several records (RFC 8446, 5.1).

    While it is not whole, only the headers of its records are looked at, at most `MAX_RECORDS` of them: however it is
    split, reading it costs what its octets cost once. What follows it is not looked at.

    Args:
        data: All that came so far, from the first octet on. After `MAX_BYTES` the answer stays the same.

    Returns:
        None: more is needed.

    Raises:
        HelloError: However it goes on, it will be none that we take.
    """
    available = len(data)
    at = 0  # of a record
    wanted = -1  # octets of the message with its header, once that is known
    found = 0  # of them that are here
    head = 0  # type and length of the message, as far as they are here
    records = 0
    while at < available:
        fault = _header_fault(data, at)
        if fault:
            raise HelloError(fault)
        records += 1
        if records > MAX_RECORDS:
            raise HelloError(f"a hello in more than {MAX_RECORDS} records")
        if available - at < RECORD_HEADER:
            return None
        begin = at + RECORD_HEADER
        length = data[at + 3] << 8 | data[at + 4]
        at = begin + length
        here = min(available, at) - begin
        for place in range(begin, begin + min(here, MESSAGE_HEADER - min(found, MESSAGE_HEADER))):
            if place == RECORD_HEADER and data[place] != CLIENT_HELLO:
                raise HelloError(f"handshake message {data[place]} in place of a ClientHello (1)")
            head = head << 8 | data[place]
        found += here
        if wanted < 0 and found >= MESSAGE_HEADER:
            wanted = (head & 0xFFFFFF) + MESSAGE_HEADER
            if wanted > MAX_HELLO_BYTES:
                raise HelloError(f"a hello of {wanted} octets, more than {MAX_HELLO_BYTES}")
        if wanted >= 0:
            # RFC 8446, 5.1: "Because the ClientHello [...] can immediately precede a key change, implementations
            # MUST send these messages in alignment with a record boundary."
            if found - here + length > wanted:
                raise HelloError("a hello that does not end with its record")
            if found == wanted:
                return _parse(_joined(data, at, records))
    return None


def _header_fault(data: bytes, at: int) -> str:
    """What is wrong with a record's header, of which at least the first octet is there; empty: nothing so far."""
    here = len(data) - at
    if data[at] != HANDSHAKE:
        if at == 0 and here >= 3 and data[0] >= 0x80 and data[2] == CLIENT_HELLO:
            return "a hello of SSL 2"
        return f"a record of type {data[at]} in place of a handshake (22)"
    # RFC 8446, 5.1: legacy_record_version "MUST be ignored for all purposes"; its first octet is 3 in all versions.
    if here >= 2 and data[at + 1] != 3:
        return f"a record of version {data[at + 1]}.x in place of 3.x"
    if here >= RECORD_HEADER:
        length = data[at + 3] << 8 | data[at + 4]
        if length == 0:  # RFC 8446, 5.1: "Implementations MUST NOT send zero-length fragments of Handshake types"
            return "an empty record"
        if length > MAX_FRAGMENT:
            return f"a record of {length} octets, more than {MAX_FRAGMENT}"
    elif here == RECORD_HEADER - 1 and data[at + 3] > MAX_FRAGMENT >> 8:
        return f"a record of more than {MAX_FRAGMENT} octets"
    return ""


def _joined(data: bytes, end: int, records: int) -> bytes:
    """The message in the records up to `end`."""
    if records == 1:
        return data[RECORD_HEADER:end]
    fragments = []
    at = 0
    while at < end:
        begin = at + RECORD_HEADER
        at = begin + (data[at + 3] << 8 | data[at + 4])
        fragments.append(data[begin:at])
    return b"".join(fragments)


def _parse(message: bytes) -> Hello:
    """
    Read a whole message, whose header says its length.

        uint16 ProtocolVersion;  opaque Random[32];  uint8 CipherSuite[2];

        struct {
            ProtocolVersion legacy_version = 0x0303;
            Random random;
            opaque legacy_session_id<0..32>;
            CipherSuite cipher_suites<2..2^16-2>;
            opaque legacy_compression_methods<1..2^8-1>;
            Extension extensions<8..2^16-1>;
        } ClientHello;

    Before TLS 1.3 the extensions may be missing altogether (RFC 5246, 7.4.1.2).

    Raises:
        HelloError: A field is not as said, or the version is older than 1.0.
    """
    version, at = _before_extensions(message)
    versions = (min(version, TLS_1_2),)
    if at == len(message):
        return Hello("", (), versions)
    return _extensions(message, at, versions)


def _before_extensions(message: bytes) -> tuple[int, int]:
    """
    The version of the message, and where the fields end that each hello has.

    Raises:
        HelloError: As `_parse` says.
    """
    end = len(message)
    at = MESSAGE_HEADER
    if end < at + 2:
        raise HelloError("a hello cut short in its version")
    version = message[at] << 8 | message[at + 1]
    if version < TLS_1_0:
        raise HelloError(f"a hello of version {version:#06x}, older than TLS 1.0")
    at += 2 + RANDOM_BYTES
    begin, at = _vector(message, at, end, 1, "session identifier")
    if at - begin > MAX_SESSION_ID:
        raise HelloError(f"a session identifier of {at - begin} octets, more than {MAX_SESSION_ID}")
    begin, at = _vector(message, at, end, 2, "cipher suites")
    if at == begin or (at - begin) % 2:
        raise HelloError(f"{at - begin} octets of cipher suites of two octets")
    begin, at = _vector(message, at, end, 1, "compression methods")
    if at == begin:
        raise HelloError("no compression method")
    return version, at


def _extensions(message: bytes, at: int, versions: tuple[int, ...]) -> Hello:
    """
    What the extensions ask for, which begin there and are the last field.

    Args:
        versions: Those of who sends no `supported_versions`.

    Raises:
        HelloError: As `_parse` says.
    """
    end = len(message)
    server_name = ""
    protocols: tuple[str, ...] = ()
    at, stop = _vector(message, at, end, 2, "extensions")
    if stop != end:
        raise HelloError("octets after the last field of a hello")
    seen: set[int] = set()
    while at < end:
        if end - at < 2:
            raise HelloError("a hello cut short in an extension's type")
        kind = message[at] << 8 | message[at + 1]
        # RFC 8446, 4.2: "There MUST NOT be more than one extension of the same type in a given extension block."
        if kind in seen:
            raise HelloError(f"extension {kind} twice")
        seen.add(kind)
        begin, at = _vector(message, at + 2, end, 2, "extension")
        if kind == SERVER_NAME:
            server_name = _server_name(message, begin, at)
        elif kind == PROTOCOLS:
            protocols = _protocols(message, begin, at)
        elif kind == SUPPORTED_VERSIONS:
            versions = _versions(message, begin, at)
    return Hello(server_name, protocols, versions)


def _vector(message: bytes, at: int, end: int, width: int, what: str) -> tuple[int, int]:
    """
    Where a vector begins and ends whose length is `width` octets, 1 or 2 (RFC 8446, 3.4).

    Raises:
        HelloError: It passes the end of what it lies in.
    """
    begin = at + width
    if begin <= end:
        stop = begin + (message[at] if width == 1 else message[at] << 8 | message[at + 1])
        if stop <= end:
            return begin, stop
    raise HelloError(f"a hello cut short in its {what}")


def _whole(message: bytes, at: int, end: int, width: int, what: str) -> int:
    """Where the content of a vector begins that must fill an extension, and must not be empty."""
    begin, stop = _vector(message, at, end, width, what)
    if stop != end or begin == stop:
        raise HelloError(f"{what} that do not fill their extension")
    return begin


def _server_name(message: bytes, at: int, end: int) -> str:
    """
    RFC 6066, 3: "The ServerNameList MUST NOT contain more than one name of the same name_type", and there is but one
    type. Names of it are ASCII; only what can be in a host's is taken, so that it may be logged and compared.
    """
    at = _whole(message, at, end, 2, "server names")
    if message[at] != HOST_NAME:
        raise HelloError(f"a server name of type {message[at]}, which is none (0: a host's)")
    begin, stop = _vector(message, at + 1, end, 2, "server name")
    if stop != end:
        raise HelloError("more than one server name")
    name = message[begin:stop].lower()
    if name.endswith(b"."):  # RFC 6066, 3: "a byte string using ASCII encoding without a trailing dot"; some have it
        name = name[:-1]
    if not 1 <= len(name) <= 255:
        raise HelloError(f"a server name of {len(name)} octets, expected 1 to 255")
    for octet in name:
        if octet not in _NAME:
            raise HelloError("a server name with a character that no host's has")
    return name.decode("ascii")


def _protocols(message: bytes, at: int, end: int) -> tuple[str, ...]:
    """RFC 7301, 3.1: `ProtocolName protocol_name_list<2..2^16-1>`, each `opaque ProtocolName<1..2^8-1>`."""
    at = _whole(message, at, end, 2, "application protocols")
    found = []
    while at < end:
        begin, at = _vector(message, at, end, 1, "application protocol")
        if begin == at:
            raise HelloError("an empty application protocol")
        name = message[begin:at]
        if len(name) != 2 or not _is_grease(name[0] << 8 | name[1]):
            found.append(name.decode("latin-1"))
    return tuple(found)


def _versions(message: bytes, at: int, end: int) -> tuple[int, ...]:
    """RFC 8446, 4.2.1: `ProtocolVersion versions<2..254>`."""
    at = _whole(message, at, end, 1, "supported versions")
    if (end - at) % 2:
        raise HelloError(f"{end - at} octets of supported versions of two octets")
    found = [message[place] << 8 | message[place + 1] for place in range(at, end, 2)]
    return tuple([version for version in found if not _is_grease(version)])


def _is_grease(value: int) -> bool:
    """Whether a value of two octets means nothing, so that nobody gets used to only known ones (RFC 8701, 2)."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF
