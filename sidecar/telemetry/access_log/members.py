"""
Members that a log line has only for some exchanges: with whom they were by TLS, and what rules said. *Hot path.*
"""

from __future__ import annotations

from sidecar.exchange import Decision, Exchange
from sidecar.peer import Peer, Token
from sidecar.telemetry.access_log import json_line


def members_of(exchange: Exchange) -> bytes:
    """Of a log line: with whom it was by TLS, and what rules said."""
    members = b""
    if exchange.client is not None:
        members = _of_peer(exchange.client, True)
    if exchange.server is not None:
        members += _of_peer(exchange.server, False)
    if exchange.decision is not None:
        members += _of_decision(exchange.decision)
        if exchange.token is not None:
            members += _of_token(exchange.token)
    return members


def _of_peer(peer: Peer, is_client: bool) -> bytes:
    """Of a log line; made once for a connection."""
    if not peer.members:
        peer.members = json_line.peer_members(peer, is_client=is_client)
    return peer.members


def _of_token(token: Token) -> bytes:
    """Of a log line; made once for a token that is remembered."""
    if not token.members:
        token.members = json_line.token_members(token)
    return token.members


def _of_decision(decision: Decision) -> bytes:
    """Of a log line; made once for a decision."""
    if not decision.members:
        decision.members = json_line.decision_members(decision.outcome, decision.rule, decision.position)
    return decision.members
