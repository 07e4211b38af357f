"""What a test expects, held against what became of its request: a sentence on what differs first. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING

from sidecar import errors
from sidecar.compile.matches import value
from sidecar.errors import ProtocolError, Reason
from sidecar.exchange import Decision
from sidecar.http1.forward import request_bytes
from sidecar.http1.head import parse_request_head
from sidecar.insight.question import MAX_HEADERS
from sidecar.insight.walk import Walk, sent_to, shares_of
from sidecar.message import RequestHead
from sidecar.proxy.plan import Listener
from sidecar.routing.actions import Forward, Route, Target
from sidecar.upstream.retry import NO_POLICY, RetryPolicy

if TYPE_CHECKING:
    from sidecar.config.model.routing_tests import Case, Expectation, Sent

_CLOSE = 0.0005
"""By so much shares may differ: a twentieth of a per cent, which nobody writes."""


def difference(case: Case, walked: Walk, listener: Listener | None) -> str | None:
    """
    What is not as expected; None if all is.

    Args:
        case: The request and what is expected.
        walked: What became of it.
        listener: As which the request is sent on; needed where something is expected of what is sent.
    """
    expect = case.expect
    why = _misjudged(expect, walked.decision) or _misrouted(case, walked)
    if why is not None:
        return why
    if expect.split is None and expect.sent is None and expect.timeout is None and expect.retry is None:
        return None
    found = walked.found
    if isinstance(found, Reason) or not isinstance(found.action, Forward):
        what = "no route" if isinstance(found, Reason) else f"the route `{found.name}`, which answers itself"
        return f"expected {_forwarded(expect)}, found {what}"
    return next(_differences(expect, walked, found, found.action, listener), None)


def _differences(
    expect: Expectation, walked: Walk, route: Route, action: Forward, listener: Listener | None
) -> Iterator[str]:
    by = f"by the route `{route.name}`"
    if expect.split is not None:
        yield from _missplit(expect.split, walked, action, by)
    if expect.timeout is not None and expect.timeout != (action.timeout_s or 0.0):
        yield f"expected the timeout {_seconds(expect.timeout)}, found {_seconds(action.timeout_s or 0.0)} {by}"
    if expect.retry is not None:
        yield from _misretried(expect, action.retry if action.retry is not None else NO_POLICY, by)
    if expect.sent is not None and listener is not None:
        shares = shares_of(action, walked.head, walked.client_ip)
        taken = [one for one in shares if one.is_taken] or [one for one in shares if one.weight > 0]
        for share in taken:
            if share.target.redirect is None and expect.to in (None, share.target.name):
                yield from _missent(expect.sent, walked, share.target, listener)


def _forwarded(expect: Expectation) -> str:
    names = [f"`{name}`" for name in ("split", "sent", "timeout", "retry") if getattr(expect, name) is not None]
    return f"a request that is forwarded, for {' and '.join(names)}"


# --- authorization and the route ---------------------------------------------------------------------------------


def _misjudged(expect: Expectation, decision: Decision | None) -> str | None:
    """What the rules say otherwise than expected; what is in audit counts as if it were enforced."""
    if expect.authorization is None and expect.rule is None:
        return None
    wanted = [f"`{expect.authorization}`"] if expect.authorization is not None else []
    wanted += [f"by `{expect.rule}`"] if expect.rule is not None else []
    if decision is None:
        if expect.authorization == "allowed" and expect.rule is None:
            return (
                None  # without rules all may pass: so what a mesh compiled of a service that is open keeps its promise
            )
        return f"expected {' '.join(wanted)}, found no `inbound.authorization`"
    outcome = "allowed" if decision.outcome == "allowed" else "denied"
    if expect.authorization in (None, outcome) and expect.rule in (None, decision.rule):
        return None
    return f"expected {' '.join(wanted)}, found `{outcome}` by `{decision.rule}`"


def _misrouted(case: Case, walked: Walk) -> str | None:
    expect, found, decision = case.expect, walked.found, walked.decision
    if expect.route is None and expect.to is None and expect.status is None:
        return None
    if isinstance(found, Reason):
        is_met = expect.route is None and expect.to is None and expect.status == found.status
        why = "no route, so"
        if found is errors.AUTHORIZATION_DENIED and decision is not None:
            who = case.request.requester or "nobody known"
            why = f"that `{decision.rule}` refuses it to {who}, so"
        return None if is_met else f"expected {_expected(expect)}, found {why} {found.status}"
    action = found.action
    if isinstance(action, Forward):
        names = [target.name for target in action.targets if target.weight > 0]
        met_to = expect.to is None or expect.to in names
        sides = [target.redirect.status for target in action.targets if target.redirect is not None and target.weight]
        met_status = expect.status is None or (expect.status in sides and expect.to is None)
        happens = f"the route `{found.name}` to {' or '.join(f'`{name}`' for name in names)}"
    else:
        met_to = expect.to is None
        met_status = expect.status in (None, action.status)
        happens = f"the route `{found.name}`, which answers {action.status}"
    if met_to and met_status and expect.route in (None, found.name):
        return None
    return f"expected {_expected(expect)}, found {happens}"


def _expected(expect: Expectation) -> str:
    parts = [f"the route `{expect.route}`"] if expect.route is not None else []
    parts += [f"to `{expect.to}`"] if expect.to is not None else []
    parts += [f"status {expect.status}"] if expect.status is not None else []
    return " ".join(parts)


# --- what a route does -------------------------------------------------------------------------------------------


def _missplit(wanted: dict[str, float], walked: Walk, action: Forward, by: str) -> Iterator[str]:
    shares = shares_of(action, walked.head, walked.client_ip)
    sticks = any(one.is_taken for one in shares)
    found: dict[str, float] = {}
    for one in shares:
        share = float(one.is_taken) if sticks else one.share
        found[one.target.name] = found.get(one.target.name, 0.0) + share
    total = sum(wanted.values()) or 1.0
    expected = {name: weight / total for name, weight in wanted.items()}
    if any(abs(found.get(name, 0.0) - expected.get(name, 0.0)) > _CLOSE for name in {*found, *expected}):
        yield f"expected the split {_split(expected)}, found {_split(found)} {by}"


def _split(shares: dict[str, float]) -> str:
    return ", ".join(f"{share:.4g} to `{name}`" for name, share in shares.items() if share) or "to nobody"


def _misretried(expect: Expectation, policy: RetryPolicy, by: str) -> Iterator[str]:
    wanted = expect.retry
    assert wanted is not None
    if wanted.attempts is not None and wanted.attempts != policy.attempts:
        yield f"expected {wanted.attempts} retries, found {policy.attempts} {by}"
    if wanted.on is not None:
        on = {*policy.on, *map(str, policy.on_statuses)}
        if {str(one) for one in wanted.on} != on:
            yield f"expected retries on {_listed(wanted.on)}, found {_listed(sorted(on))} {by}"
    if wanted.per_try_timeout is not None and wanted.per_try_timeout != policy.per_try_timeout_s:
        found = 0.0 if policy.per_try_timeout_s == inf else policy.per_try_timeout_s
        yield f"expected {_seconds(wanted.per_try_timeout)} for an attempt, found {_seconds(found)} {by}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "nothing"


def _seconds(seconds: float) -> str:
    return f"{seconds:g}s" if seconds else "none"


# --- what is sent ------------------------------------------------------------------------------------------------


def sent_head(walked: Walk, target: Target, listener: Listener) -> RequestHead:
    """
    The request as the target's server reads it, but for what telemetry adds.

    Raises:
        ProtocolError: It cannot be sent so.
    """
    sent = sent_to(walked, target, listener)
    written = request_bytes(sent.head, sent.fields, sent.path, sent.host, sent.added)
    return parse_request_head(written.removesuffix(b"\r\n\r\n"), MAX_HEADERS)


def _missent(wanted: Sent, walked: Walk, target: Target, listener: Listener) -> Iterator[str]:
    try:
        head = sent_head(walked, target, listener)
    except ProtocolError as error:
        yield f"expected a request that can be sent to `{target.name}`, found {error.detail or error.reason.text}"
        return
    asked = [("host", wanted.host, head.first(b"host")), ("path", wanted.path, head.path)]
    asked += [(f"header `{name}`", one, head.joined(name.lower().encode())) for name, one in wanted.headers.items()]
    for what, settings, found in asked:
        if settings is None:
            continue
        matcher = value(settings)
        if not matcher.test(found):
            seen = "none" if found is None else f"`{found.decode('utf-8', 'backslashreplace')}`"
            yield f"expected the {what} that `{target.name}` gets to be {matcher.text}, found {seen}"
