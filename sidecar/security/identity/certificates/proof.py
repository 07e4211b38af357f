"""
A certificate proved by a handshake with oneself: what peers would find, found before any of them. *Cold; 2 ms each.*

OpenSSL judges the chain, the signatures, the purposes and the key just as a peer's would. Times are left out of it
(`NO_CHECK_TIME`): they are judged by our own clock, which can say more about them, and which tests can hold.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Final

from sidecar.security.identity.certificates.facts import Facts, facts_of
from sidecar.security.identity.certificates.pem import text_of

NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME (X509_VERIFY_PARAM_set_flags(3)), which `ssl` has no name for."""
WRONG_PURPOSE: Final = 26
"""X509_V_ERR_INVALID_PURPOSE (X509_STORE_CTX_get_error(3))."""

_MAX_STEPS: Final = 10
"""Of each side; a handshake of TLS 1.3 takes three."""


class RefusedError(Exception):
    """
    One side refused the other.

    Attributes:
        code: Of X509_STORE_CTX_get_error(3); 0 where no certificate was refused.
        why: OpenSSL's words.
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


def show(context: ssl.SSLContext, chain: Sequence[bytes], key_pem: bytes) -> None:
    """
    Have a context show this certificate, its chain in DER, with this key.

    `load_cert_chain` wants paths, and a key belongs on no disk: the path is that of a file in memory, which is gone
    when this returns.

    Raises:
        ssl.SSLError: They do not fit, or are too weak; `reason` says which.
        OSError: There is no descriptor left, or no /proc.
    """
    descriptor = os.memfd_create("pair")
    try:
        # The key comes first, for OpenSSL looks for each kind and passes the other over.
        with open(descriptor, "wb", closefd=False) as file:
            file.write(key_pem + text_of(chain))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    finally:
        os.close(descriptor)


def prove(
    chain: Sequence[bytes],
    key_pem: bytes,
    anchors: Sequence[bytes],
    *,
    is_server: bool = True,
    is_client: bool = True,
) -> Facts:
    """
    Show a certificate to a peer that believes these others (in DER) and no more.

    Args:
        is_server, is_client: In which part it is shown and looked at; one at least.

    Returns:
        What the peer learns of it.

    Raises:
        RefusedError: A peer would refuse it.
        ssl.SSLError, OSError: As `show`.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    server.num_tickets = 0
    show(server, chain, key_pem)  # a server must, also if nobody looks
    if is_server:
        _believe(client, anchors)
    if is_client:
        show(client, chain, key_pem)
        _believe(server, anchors)
    answering, asking = _shake(server, client)
    seen = (asking if is_server else answering).getpeercert()
    assert seen, "a certificate was required"
    return facts_of(seen, chain[0])


def _believe(context: ssl.SSLContext, anchors: Sequence[bytes]) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    context.load_verify_locations(cadata=b"".join(anchors))


def _shake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [asking, answering]
    for _ in range(_MAX_STEPS):
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise RefusedError(error.verify_code, error.verify_message.lower()) from None
            except ssl.SSLError as error:
                raise RefusedError(0, (error.reason or str(error)).replace("_", " ").lower()) from None
            waiting.remove(side)
        if not waiting:
            return answering, asking
    raise RefusedError(0, "a handshake with oneself did not end")


def _no_password() -> str:
    raise ValueError("the key has a password")
