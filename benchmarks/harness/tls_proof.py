"""Proof that TLS is what was asked for: who is shown, who is let in, and to whom the subject speaks."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import subprocess
import time
from dataclasses import replace

from .evidence import WrongWorkError
from .processes import connection_to, get
from .site import HOST, Running, Work
from .tls_certificates import CLIENT, SUBJECT, Pair, spiffe
from .tls_client import TlsClient

GET = "/v1/items/1"
LOGGED_WITHIN_S = 5.0


def verify_tls(subject: str, running: Running, work: Work) -> None:
    """
    Speak to the subject as those may who are to be let in, and as those who are not.

    Raises:
        WrongWorkError: The first answer that is not as it should be.
    """

    def expect(what: str, is_so: bool, found: object) -> None:
        if not is_so:
            raise WrongWorkError(f"{subject}: expected {what}, got {found}")

    client, tls = running.client, work.tls
    assert tls is not None
    status, headers, _ = get(running.port, GET, {"Host": HOST}, client=client)
    expect("an answer to who may ask", status == 200, status)
    if client is not None:
        shown = shown_by(running.port, client)
        expect(f"a certificate of {SUBJECT}", _is_for(shown, spiffe(SUBJECT)), shown)
        expect("none who speaks in clear to be served", _outcome(running, None) != 200, 200)
    if client is not None and tls.is_mutual:
        for who, pair in (("nobody", None), ("a stranger", tls.files.stranger)):
            expect(f"{who} to be refused", _outcome(running, replace(client, pair=pair)) != 200, 200)
    if tls.is_outward:
        seen = headers.get("x-tls")
        wanted = f"TLSv1.3 SUCCESS CN={SUBJECT}"
        expect(f"the upstream to see {wanted!r}", seen == wanted, repr(seen))
        for path in ("/wrong", "/stranger"):
            status = get(running.port, path, {"Host": HOST}, client=client)[0]
            expect(f"the upstream of {path} not to be spoken to", status in (502, 503), status)
    if tls.is_mutual and tls.is_outward:
        told = headers.get("x-forwarded-client", "")
        expect("the upstream to be told who asked", spiffe(CLIENT) in told or f"CN={CLIENT}" in told, repr(told))
    if running.log is not None and tls.is_mutual:
        line = _logged(running)
        expect("the log to say who asked", spiffe(CLIENT) in line or f"CN={CLIENT}" in line, line)
    if work.rules and client is not None:
        _verify_rules(subject, running, replace(client, pair=tls.files.other))


def _verify_rules(subject: str, running: Running, other: TlsClient) -> None:
    """Another than the load is refused, as is the load where no rule lets it in."""
    found = get(running.port, GET, {"Host": HOST}, client=other)[0], _post(running)
    if found != (403, 403):
        raise WrongWorkError(f"{subject}: expected another's request and another method to be refused, got {found}")


def _post(running: Running) -> int:
    connection = connection_to(running.port, running.client)
    with contextlib.closing(connection):
        connection.request("POST", GET, b"", {"Host": HOST})
        return connection.getresponse().status


def _outcome(running: Running, client: TlsClient | None) -> int:
    """The status of one request; 0 if the connection failed, as it does for who is refused."""
    try:
        return get(running.port, GET, {"Host": HOST}, client=client)[0]
    except (OSError, http.client.HTTPException):
        return 0


def shown_by(port: int, client: TlsClient) -> dict[str, object]:
    """
    The certificate that a new connection is shown, in the form of `ssl.SSLSocket.getpeercert`.

    Raises:
        OSError: It was not let in, or the request that it makes was not answered.
        http.client.HTTPException: Likewise.
    """
    connection = connection_to(port, client)
    with contextlib.closing(connection):
        connection.request("GET", GET, headers={"Host": HOST})
        assert isinstance(connection.sock, ssl.SSLSocket)
        shown = connection.sock.getpeercert() or {}
        status = connection.getresponse().status
        if status != 200:
            raise OSError(f"answered with {status}")
        return {**shown}


def serial_of(pair: Pair) -> str:
    """Of a certificate, in the form of `getpeercert`."""
    argv = ["openssl", "x509", "-noout", "-serial", "-in", str(pair.certificate)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip().removeprefix("serial=")


def _is_for(shown: dict[str, object], identity: str) -> bool:
    names = shown.get("subjectAltName")
    return isinstance(names, tuple) and ("URI", identity) in names


def _logged(running: Running) -> str:
    """The newest line of the log that is of a request of ours; empty if none came in time: writers wait for more."""
    deadline = time.monotonic() + LOGGED_WITHIN_S
    while running.log is not None and time.monotonic() < deadline:
        lines = running.log.read_text(errors="replace").splitlines() if running.log.exists() else []
        if found := next((line for line in reversed(lines) if GET in line), None):
            return found
        time.sleep(0.1)
    return ""
