"""What goes upstream, as a difference to what came. *Cold, pure.*"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Final

from sidecar.admin.recent import text_of
from sidecar.errors import ProtocolError
from sidecar.http1.forward import request_bytes
from sidecar.insight.explain.veil import Veil
from sidecar.insight.walk import Walk, sent_to
from sidecar.message import Kind, RequestHead
from sidecar.proxy.plan import Listener
from sidecar.routing.actions import Target

_OF_TELEMETRY: Final = Kind.TRACE | Kind.REQUEST_ID

Line = tuple[str, str]
"""` `, `-` or `+`, and a line of a head."""


def difference(walked: Walk, target: Target, listener: Listener, veil: Veil) -> list[Line]:
    """
    Lines of the request's head, those that are left out or added marked as such.

    What telemetry would put in (`traceparent`, `x-request-id`) is shown as it came: it is another for each request.
    """
    head = walked.head
    before = [_request_line(head, head.path), *(text_of(field.wire) for field in head.fields)]
    try:
        sent = sent_to(walked, target, listener)
    except ProtocolError as error:
        return [("-", veil.line(line)) for line in before] + [("+", f"({error.detail or error.reason.text})")]
    kept = b"".join(field.wire + b"\r\n" for field in head.fields if field.kind & _OF_TELEMETRY)
    written = request_bytes(sent.head, sent.fields, sent.path, sent.host, kept + sent.added)
    after = [text_of(line) for line in written.split(b"\r\n") if line]
    # The host is compared under the name that it has here.
    before = [line if not line.lower().startswith("host:") else f"host:{line[5:]}" for line in before]
    after = [line if not line.lower().startswith("host:") else f"host:{line[5:]}" for line in after]
    lines: list[Line] = []
    for kind, i, j, k, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            lines += [(" ", line) for line in before[i:j]]
        else:
            lines += [("-", line) for line in before[i:j]] + [("+", line) for line in after[k:end]]
    return [(mark, veil.line(line)) for mark, line in _unmoved(lines)]


def _unmoved(lines: list[Line]) -> list[Line]:
    """A line that only stands elsewhere now has not changed."""
    gone = [line for mark, line in lines if mark == "-"]
    new = [line for mark, line in lines if mark == "+"]
    moved = {line for line in gone if line in new}
    return [(" " if line in moved else mark, line) for mark, line in lines if not (mark == "+" and line in moved)]


def _request_line(head: RequestHead, path: bytes) -> str:
    target = path if head.query is None else b"%b?%b" % (path, head.query)
    return text_of(b"%b %b HTTP/1.1" % (head.method, target))
