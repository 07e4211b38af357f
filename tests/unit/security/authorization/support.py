"""Rules, requests and clients for the tests of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.compile.time_slices import at_once
from sidecar.exchange import Decision
from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead
from sidecar.peer import Peer
from sidecar.routing.match import make_match
from sidecar.routing.matchers import path_matcher, value_matcher
from sidecar.security.authorization.authorization import Authorization, RuleSpec, make_authorization
from sidecar.security.authorization.rules import Clause
from sidecar.security.authorization.sources import make_sources


def clause(
    *sources: str,
    hosts: Sequence[str] = (),
    path: str = "",
    prefix: str = "",
    methods: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    **of_path: bool,
) -> Clause:
    """Who (default: anyone) asks for what; values are exact."""
    operand = path or prefix
    tests = [
        {name: value_matcher("exact", value) for name, value in (some or {}).items()}
        for some in (headers, cookies, query)
    ]
    match = make_match(
        hosts=hosts,
        path=path_matcher("exact" if path else "prefix", operand, **of_path) if operand else None,
        methods=methods,
        headers=tests[0],
        cookies=tests[1],
        query=tests[2],
    )
    return Clause(make_sources(sources or ("anyone",)), match)


def allow(name: str, *clauses: Clause, is_audit: bool = False) -> RuleSpec:
    """A rule that allows."""
    return RuleSpec(name, True, is_audit, clauses, f"f:{name}")


def deny(name: str, *clauses: Clause, is_audit: bool = False) -> RuleSpec:
    """A rule that denies."""
    return RuleSpec(name, False, is_audit, clauses, f"f:{name}")


def rules(*specs: RuleSpec, default: str = "deny", **settings: Any) -> Authorization:
    """All of them, with this default."""
    return at_once(make_authorization(specs, is_default_allow=default == "allow", **settings))


def peer(identity: str) -> Peer:
    """Who showed a certificate with this ID; empty: one without."""
    return Peer("1.3", "TLS_AES_128_GCM_SHA256", identity=identity)


def head(target: str = "/", method: str = "GET", *lines: str, host: str = "shop") -> RequestHead:
    """As the data path's parser makes it of the octets."""
    octets = "\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {host}", *lines)).encode()
    return parse_request_head(octets, 100)


def decision(
    authorization: Authorization,
    asked: RequestHead,
    identity: str = "",
    ip: str = "192.0.2.1",
    *,
    is_permissive: bool = False,
) -> Decision:
    """What is decided of a request."""
    return authorization.decide(peer(identity) if identity else None, ip, asked, is_permissive)


def judged(authorization: Authorization, asked: RequestHead, identity: str = "", **settings: Any) -> tuple[str, str]:
    """Outcome and rule."""
    found = decision(authorization, asked, identity, **settings)
    return found.outcome, found.rule
