"""
Who is at the other end of a connection by TLS, as its certificate and the handshake tell it; and what a request's token
says of who it is for. *Hot path: reads.*
"""

from __future__ import annotations

from math import inf


class Peer:
    """
    One for a connection, made when its handshake is over and never changed.

    Attributes:
        identity: The SPIFFE ID in its certificate (SPIFFE X.509-SVID, 2), such as `spiffe://shop/storefront`; empty if
            it showed no certificate, or one without exactly one such name.
        subject: Distinguished name of its certificate in the form of RFC 4514, such as `CN=client,O=Example`.
        issuer: Of who signed it, in the same form.
        names: DNS names in its certificate.
        uris: URIs in its certificate, the identity among them.
        not_after_s: When its certificate ends, in seconds since the Unix epoch; inf if it showed none.
        fingerprint: SHA-256 of its certificate in 64 lower-case hexadecimal digits, or empty.
        version: Of the protocol, `1.3` or `1.2`.
        cipher: Name of the cipher suite as registered (RFC 8446, B.4), such as `TLS_AES_128_GCM_SHA256`.
        protocol: What was agreed on by ALPN (RFC 7301), or empty.
        server_name: What the client asked for (RFC 6066, 3), or empty.
        is_resumed: Whether an earlier session was taken up again.
        members, attributes: What log lines and spans of its connection say of it; made at first use by `telemetry`.
    """

    __slots__ = (
        "attributes",
        "cipher",
        "fingerprint",
        "identity",
        "is_resumed",
        "issuer",
        "members",
        "names",
        "not_after_s",
        "protocol",
        "server_name",
        "subject",
        "uris",
        "version",
    )

    def __init__(
        self,
        version: str,
        cipher: str,
        protocol: str = "",
        server_name: str = "",
        is_resumed: bool = False,
        identity: str = "",
        subject: str = "",
        issuer: str = "",
        names: tuple[str, ...] = (),
        uris: tuple[str, ...] = (),
        not_after_s: float = inf,
        fingerprint: str = "",
    ) -> None:
        self.version = version
        self.cipher = cipher
        self.protocol = protocol
        self.server_name = server_name
        self.is_resumed = is_resumed
        self.identity = identity
        self.subject = subject
        self.issuer = issuer
        self.names = names
        self.uris = uris
        self.not_after_s = not_after_s
        self.fingerprint = fingerprint
        self.members = self.attributes = b""

    def __repr__(self) -> str:
        return f"<Peer {self.identity or self.subject or 'without a certificate'} TLS {self.version}>"


class Token:
    """
    What the bearer token of a request came to. One for a token as long as it is remembered; never changed.

    Attributes:
        outcome: `accepted`, or why it proves nothing; one of a closed set, `security.tokens.remembered.OUTCOMES`.
        issuer: Who made it, if it is accepted; else empty, for anybody can write anything there.
        words: What of the rules' `from` it is.
        why: Of one that proves nothing, in words, and nothing of what is in it.
        members: What log lines say of it; made at first use by `telemetry`.
    """

    __slots__ = ("issuer", "members", "outcome", "why", "words")

    def __init__(self, outcome: str, issuer: str = "", words: tuple[str, ...] = (), why: str = "") -> None:
        self.outcome = outcome
        self.issuer = issuer
        self.words = words
        self.why = why
        self.members = b""

    def __repr__(self) -> str:
        return f"<Token {self.outcome} of {self.issuer or 'whoever'}>"
