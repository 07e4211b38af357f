"""
Access-log lines as the file's own text: `{start_time} {method} {path} {response_code}`. *Hot path: `line`.*

Names are the keys of the JSON line and a few more. What is the same for all requests of an outcome is put in once,
when the outcome is bound. Values are escaped as in JSON, quotes included, so that a value between quotes cannot end
them, and no value holds a control octet: nothing can forge a line. An absent value is `-`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sidecar.exchange import Exchange
from sidecar.peer import Peer
from sidecar.telemetry.access_log.json_line import FIXED, LineValues, milliseconds
from sidecar.telemetry.json_text import escape, escape_text

_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_ABSENT = b"-"


class TemplateError(ValueError):
    """A template that cannot be read."""


def _plain(value: bytes) -> bytes:
    """A JSON value without its quotes; `-` for `null` and for what is empty."""
    if value[:1] == b'"':
        value = value[1:-1]
    return _ABSENT if not value or value == b"null" else value


def _forwarded_for(values: LineValues, exchange: Exchange) -> bytes:
    head = exchange.head
    joined = head.joined(b"x-forwarded-for") if head is not None else None
    return _plain(escape(joined)) if joined else _ABSENT


def _of(peer: Peer | None, name: str) -> bytes:
    return escape_text(getattr(peer, name)) if peer is not None else _ABSENT


def _shown(peer: Peer | None) -> bytes:
    return (escape_text(peer.identity or peer.subject) if peer is not None else b"") or _ABSENT


_CHANGING: Mapping[str, Callable[[LineValues, Exchange], bytes]] = {
    "start_time": lambda values, _: b"%b.%03dZ" % values[:2],
    "path": lambda values, _: _plain(values[2]),
    "upstream_host": lambda values, _: _plain(values[3]),
    "bytes_received": lambda values, _: b"%d" % values[4],
    "bytes_sent": lambda values, _: b"%d" % values[5],
    "duration": lambda values, _: milliseconds(values[6]),
    "upstream_service_time": lambda values, _: _plain(values[7]),
    "request_id": lambda values, _: values[8],
    "trace_id": lambda values, _: values[9],
    "authority": lambda values, _: _plain(values[10]),
    "user_agent": lambda values, _: _plain(values[11]),
    "downstream_remote_address": lambda values, _: b"%b:%b" % values[12:14],
    "attempts": lambda values, _: b"%d" % values[14],
    "span_id": lambda _, exchange: exchange.span_id or _ABSENT,
    "detail": lambda _, exchange: escape_text(exchange.detail) or _ABSENT,
    "raw_line": lambda _, exchange: escape(exchange.raw_line[:256]) or _ABSENT,
    "retry_skipped": lambda _, exchange: escape_text(exchange.retry_skipped) or _ABSENT,
    "x_forwarded_for": _forwarded_for,
    "tls_version": lambda _, exchange: _of(exchange.client, "version"),
    "peer_identity": lambda _, exchange: _shown(exchange.client),
    "upstream_tls_version": lambda _, exchange: _of(exchange.server, "version"),
    "upstream_peer_identity": lambda _, exchange: _shown(exchange.server),
    "authorization": lambda _, exchange: escape_text(exchange.authorization) or _ABSENT,
    "rule": lambda _, exchange: escape_text(exchange.rule) or _ABSENT,
    "jwt": lambda _, exchange: escape_text(exchange.token.outcome) if exchange.token else _ABSENT,
    "jwt_issuer": lambda _, exchange: escape_text(exchange.token.issuer if exchange.token else "") or _ABSENT,
    "rule_at": lambda _, exchange: escape_text(exchange.decision.position if exchange.decision else "") or _ABSENT,
}

NAMES: frozenset[str] = frozenset(_CHANGING) | frozenset(FIXED)
"""Everything that a template may name."""


class LineTemplate:
    """
    One template.

    Args:
        text: Text with `{names}`; a brace itself is `{{` or `}}`.

    Raises:
        TemplateError: A name that there is not, or a brace that stands alone.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[tuple[str, str]] = []
        """Text and the name that follows it, empty at the end."""
        at = 0
        between = ""
        for match in _PLACE.finditer(text):
            between += text[at : match.start()]
            at = match.end()
            name = match[1]
            if name is None:
                if len(match[0]) == 1:
                    raise TemplateError(f"a {match[0]!r} that stands alone")
                between += match[0][0]
                continue
            if name not in NAMES:
                raise TemplateError(f"there is no {name!r}")
            self._parts.append((between, name))
            between = ""
        self._parts.append((between + text[at:], ""))

    def __repr__(self) -> str:
        return f"<LineTemplate {self.text!r}>"

    def bind(self, fixed: Mapping[str, bytes]) -> BoundTemplate:
        """The template of one outcome; `fixed` are its values by name, in JSON."""
        pattern = b""
        changing = []
        for text, name in self._parts:
            pattern += escape_text(text).replace(b'\\"', b'"').replace(b"%", b"%%")
            if name in fixed:
                pattern += _plain(fixed[name]).replace(b"%", b"%%")
            elif name:
                pattern += b"%b"
                changing.append(_CHANGING[name])
        return BoundTemplate(pattern + b"\n", tuple(changing))


class BoundTemplate:
    """A template in which only what changes from request to request is left open."""

    __slots__ = ("_changing", "_pattern")

    def __init__(self, pattern: bytes, changing: tuple[Callable[[LineValues, Exchange], bytes], ...]) -> None:
        self._pattern = pattern
        self._changing = changing

    def line(self, values: LineValues, exchange: Exchange) -> bytes:
        """One line with its line feed."""
        return self._pattern % tuple([read(values, exchange) for read in self._changing])
