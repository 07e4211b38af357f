"""
A route and what it does with a request: forward it to a target, redirect the client, or respond. *Hot path; pure.*

All of it is compiled and immutable; the proxy asks which class an action is and follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.exchange import ScopeLike
from sidecar.http1 import upgrade
from sidecar.message import Field, RequestHead
from sidecar.routing.edits import HeaderEdits, can_edit, editable_field, header_edits, merge_edits, without_via
from sidecar.routing.match import Match
from sidecar.routing.rewrite import Redirect, Rewrite, make_redirect, make_rewrite
from sidecar.routing.split import Split, make_split

__all__ = [
    "REDIRECT",
    "Forward",
    "HeaderEdits",
    "Redirect",
    "Respond",
    "Rewrite",
    "Route",
    "Split",
    "Target",
    "can_edit",
    "header_edits",
    "make_redirect",
    "make_respond",
    "make_rewrite",
    "make_split",
    "merge_edits",
    "without_via",
]

REDIRECT: Final = "<redirect>"
"""Name of a target that redirects; no upstream can be called so."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """
    One of the sides of a route that forwards: an upstream, or a redirect that answers in the place of one.

    Attributes:
        name: Of the upstream, as in the file; of a redirect `REDIRECT`.
        upstream: The `Cluster`; of a redirect None. Typed by its reader: `upstream` is a room of the same rank, unknown
            here.
        weight: Relative to the route's other targets.
        request_edits: The route's and then this target's, merged; or None.
        response_edits: Likewise.
        scope: Telemetry of this route and upstream.
        rewrite: Host and path to send, or None to send what came: the target's own, or else the route's.
        redirect: Answers requests of this side; None: they go to the upstream.
    """

    name: str
    upstream: Any
    weight: float
    request_edits: HeaderEdits | None
    response_edits: HeaderEdits | None
    scope: ScopeLike
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """
    Sends the request on.

    Attributes:
        targets: At least one, in file order.
        split: Chooses among them; None when there is one.
        timeout_s: Seconds for the whole exchange, or None for no limit.
        retry: The `upstream.retry.RetryPolicy`, or None for the safe retry that every route has. This and the next
            three are typed by their reader, as `Target.upstream` is.
        fault: The `proxy.exchange.policies.Fault`, or None.
        mirrors: Each a `proxy.exchange.policies.Mirror`; none for most.
        rate_limit: A `RateLimiter` or `BothLimits` of `proxy.exchange.policies`, or None.
        upgrades: Protocols that a request may switch to, lower case, without versions.
    """

    targets: tuple[Target, ...]
    split: Split | None = None
    timeout_s: float | None = None
    retry: Any = None
    fault: Any = None
    mirrors: tuple[Any, ...] = ()
    rate_limit: Any = None
    upgrades: frozenset[bytes] = upgrade.DEFAULT

    def choose(self, head: RequestHead, peer_ip: str) -> Target:
        """The target for this request: by its key if the split is sticky and the request has one, else by chance."""
        split = self.split
        return self.targets[0 if split is None else split.choose(head, peer_ip)]


@dataclass(frozen=True, slots=True)
class Respond:
    """
    Answers without an upstream. Built by `make_respond`.

    Attributes:
        status: 200 to 599.
        fields: Of the response, without those that frame it.
        body: Sent unless the method is HEAD.
    """

    status: int
    fields: tuple[Field, ...] = ()
    body: bytes = b""


Action = Forward | Redirect | Respond


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """
    What matches and what then happens.

    Attributes:
        name: As in the file, or made from the position; what telemetry shows.
        matches: Any of them is enough; empty matches everything.
        action: What happens.
        scope: Telemetry of this route while no upstream is chosen.
        response_edits: For redirects and responses of our own; a forwarded one has its target's.
        line: Of the file, for people; 0 for a route that stands nowhere.
    """

    name: str
    matches: tuple[Match, ...]
    action: Action
    scope: ScopeLike
    response_edits: HeaderEdits | None = None
    line: int = 0

    def is_match(self, head: RequestHead) -> bool:
        """Whether the head matches this route, asked question by question; `Table.find` asks fewer."""
        return not self.matches or any(match.matches(head) for match in self.matches)


def make_respond(status: int, headers: Mapping[str, str] | None = None, body: str | bytes = b"") -> Respond:
    """
    Compile a response; a body without a content type is declared as plain text in UTF-8.

    Raises:
        ValueError: The status is not a final one, it permits no body, or a header may not be set.
    """
    if not 200 <= status <= 599:
        raise ValueError(f"status: expected 200 to 599, found {status}")
    content = body.encode() if isinstance(body, str) else body
    if content and status in (204, 205, 304):
        raise ValueError(f"body: expected none with status {status}, found {len(content)} bytes")
    fields = [editable_field(name, value) for name, value in (headers or {}).items()]
    if content and all(field.name != b"content-type" for field in fields):
        fields.append(editable_field("content-type", "text/plain; charset=utf-8"))
    return Respond(status, tuple(fields), content)
