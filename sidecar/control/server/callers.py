"""
Who asks on 15010, and what that one may: by a certificate of the mesh, by a token, or by being on this machine. *On the
loop.*

    sidecar   /v1/watch, /v1/report, /v1/answer      a certificate of the service that it speaks for
    replica   /v1/here/...                           a certificate of the control plane
    read      the rest that only shows               an operator's token
    write     what changes something                 an operator's token that may

A token of `--token-file` may everything, as before there were certificates. Without any token reading is open on
loopback; while requests in clear are taken (`--accept clear,tls`), everything is, as it always was there.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal, TypeAlias

from aiohttp import web

from sidecar.control.addresses import is_loopback
from sidecar.control.authority.names import of_control, of_service, parts_of
from sidecar.control.fleet import FleetError
from sidecar.control.server.token import TokenError, Tokens

Scope: TypeAlias = Literal["sidecar", "replica", "read", "write"]
EVERYTHING: Final[frozenset[Scope]] = frozenset({"sidecar", "replica", "read", "write"})
READING: Final[frozenset[Scope]] = frozenset({"read"})
_SIDECARS: Final = frozenset({"/v1/watch", "/v1/report", "/v1/answer"})
_WRITES: Final = frozenset({"/v1/push", "/v1/rollback", "/v1/hurry", "/v1/ask", "/v1/revoke"})
_MAY: Final[dict[str, frozenset[Scope]]] = {"read": READING, "write": frozenset({"read", "write"})}


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Whoever asks.

    Attributes:
        name: For the access log: an operator's, or a SPIFFE ID; empty for nobody that is known.
        scopes: What it may.
        services: For which it may speak as a sidecar; None: for all.
    """

    name: str
    scopes: frozenset[Scope]
    services: frozenset[str] | None = None


NOBODY: Final = Caller("", frozenset())
CALLER: Final = web.RequestKey("caller", Caller)


class Operator:
    """
    Somebody with a token: a person, or a pipeline.

    Raises:
        TokenError: Its file cannot be used, or it is written otherwise than `NAME:read|write:FILE`.
    """

    def __init__(self, written: str) -> None:
        name, _, rest = written.partition(":")
        may, _, path = rest.partition(":")
        if not name or not name.isprintable() or len(name) > 100 or may not in _MAY or not path:
            raise TokenError(f"--operator: expected NAME:read:FILE or NAME:write:FILE, found {written[:100]!r}")
        self.name = name
        self.scopes = _MAY[may]
        self.tokens = Tokens(path)


class Callers:
    """
    Args:
        tokens: Of `--token-file`; None: there is none.
        operators: Further ones.
        trust_domain: Of the authority; empty while there is none.
        services_of: Services whose file names an identity.
        takes_clear: Whether requests in clear are taken.
        now_s: Since the Unix epoch.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        operators: Sequence[Operator],
        trust_domain: Callable[[], str],
        services_of: Callable[[str], Collection[str]],
        *,
        takes_clear: bool,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._now_s = now_s
        self._tokens = tokens
        self._operators = tuple(operators)
        self._trust_domain = trust_domain
        self._services_of = services_of
        self._takes_clear = takes_clear

    def of(self, authorization: str, secured: ssl.SSLObject | None, peer: str) -> Caller:
        """
        Who asks.

        Args:
            authorization: Value of the field; empty for none.
            secured: What TLS knows of the connection; None in clear.
            peer: IP address.
        """
        if authorization:
            return self._of_token(authorization)
        identity = _identity(secured, self._now_s())
        if identity:
            return self._of_identity(identity)
        if self._tokens is None and not self._operators and is_loopback(peer):
            return Caller("", EVERYTHING if self._takes_clear else READING)
        return NOBODY

    def _of_token(self, authorization: str) -> Caller:
        if self._tokens is not None and self._tokens.admits(authorization):
            return Caller("token-file", EVERYTHING)
        found = [one for one in self._operators if one.tokens.admits(authorization)]
        return Caller(found[0].name, found[0].scopes) if found else NOBODY

    def _of_identity(self, identity: str) -> Caller:
        parts, trust_domain = parts_of(identity), self._trust_domain()
        if parts is None or not trust_domain or parts[0] != trust_domain:
            return NOBODY
        if identity == of_control(trust_domain):
            return Caller(identity, frozenset({"replica"}))
        services = frozenset(self._services_of(identity)) if "/" in parts[1] else frozenset({parts[1]})
        assert "/" in parts[1] or identity == of_service(trust_domain, parts[1])
        return Caller(identity, frozenset({"sidecar"}), services)


def scope_of(method: str, path: str) -> Scope:
    """What somebody must be allowed who asks for this."""
    if path in _SIDECARS:
        return "sidecar"
    if path.startswith("/v1/here/"):
        return "replica"
    if path in _WRITES or (path.startswith("/v1/tokens") and method != "GET"):
        return "write"
    return "read"


def check_speaks_for(request: web.Request, service: str) -> None:
    """That whoever asks is a sidecar of this service. Raises FleetError."""
    caller = request.get(CALLER)
    if caller is not None and caller.services is not None and service not in caller.services:
        raise FleetError(403, f"{caller.name} does not speak for the service `{service[:100]}`")


def tls_of(request: web.Request) -> ssl.SSLObject | None:
    """What TLS knows of the connection; None in clear."""
    return request.transport.get_extra_info("ssl_object") if request.transport is not None else None


def ends_s(secured: ssl.SSLObject | None) -> float:
    """Since the Unix epoch, when the client's certificate ends that TLS has verified; infinity without one."""
    return _ends_s(_shown(secured))


def _shown(secured: ssl.SSLObject | None) -> dict[str, Any]:
    """What the client's certificate says; nothing without one."""
    return (secured.getpeercert() if secured is not None else None) or {}


def _ends_s(shown: dict[str, Any]) -> float:
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"]))) if shown else inf


def _identity(secured: ssl.SSLObject | None, now_s: float) -> str:
    """The SPIFFE ID in the certificate that TLS has verified; empty for none, or one that has ended since."""
    shown = _shown(secured)
    if _ends_s(shown) <= now_s:
        return ""
    names: Any = shown.get("subjectAltName", ())
    uris = [str(value) for kind, value in names if kind == "URI"]
    return uris[0] if len(uris) == 1 else ""
