"""
Answers that the proxy makes itself: what failed, where, and what to look at. *Pure.*

Every such answer carries a `Proxy-Status` field (RFC 9209) and one line of JSON, both from the table of reasons. A peer
never sees the text of an exception or what another client sent.
"""

from __future__ import annotations

import json

from sidecar import errors
from sidecar.errors import Reason
from sidecar.exchange import Exchange
from sidecar.http1.date import DATE
from sidecar.http1.grammar import make_field
from sidecar.http1.max_forwards import ALLOWED
from sidecar.message import Field
from sidecar.proxy.exchange.policies import retry_after


def explain(reason: Reason, exchange: Exchange) -> tuple[list[Field], bytes]:
    """
    Fields and body of the answer to an exchange that ended for this reason.

    The body is one line of JSON; names of routes and upstreams come from the configuration, and the request id, which
    the client may have chosen, is escaped.
    """
    scope, endpoint = exchange.scope, exchange.endpoint
    said: dict[str, object] = {
        "error": reason.name,
        "status": exchange.status or reason.status,
        "flag": reason.flag,
        "message": reason.text,
        "source": reason.source.value,
        "phase": reason.phase.value,
    }
    if scope is not None and scope.route:
        said["route"] = scope.route
    if scope is not None and scope.upstream:
        said["upstream"] = scope.upstream
    if endpoint is not None:
        said["endpoint"] = endpoint.label
    if reason is errors.AUTHORIZATION_DENIED and exchange.client is not None and exchange.client.identity:
        said["rule"] = exchange.rule  # names of rules are told to who is known only
    if exchange.attempts:
        said["attempt"] = exchange.attempts
    said["look_at"] = reason.hint
    if exchange.request_id:
        said["request_id"] = exchange.request_id.decode("latin-1")
    fields = [
        make_field(b"content-type", b"application/json"),
        make_field(
            b"proxy-status", b'sidecar; error=%b; details="%b"' % (reason.proxy_error.encode(), reason.name.encode())
        ),
    ]
    fields.append(DATE.now())
    if exchange.retry_after_s:
        fields.append(make_field(b"retry-after", retry_after(exchange.retry_after_s)))
    if reason.status == 405:
        fields.append(make_field(b"allow", ALLOWED))
    return fields, json.dumps(said, ensure_ascii=True).encode() + b"\n"
