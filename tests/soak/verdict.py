"""
What a storm must not have done, judged from both ends: what clients got and what servers saw. *Pure.*

A failure is *explained* when no policy could have saved the request; every explanation names what happened to this very
request, or a property of HTTP:

    response_started   some of the answer was handed on when its server was killed, reset it or broke its framing
    not_idempotent     a POST without a key reached, or may have reached, a server that then failed
    body_not_kept      a POST with a larger body than is kept, to a server that refused the sidecar's certificate, or
                       by HTTP/2 the stream
    keep_alive_race    a POST was written to a connection that its server closed at that moment; no server saw it

Anything else is unexplained, and fails the storm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.soak.faults import Fault
from tests.soak.outcome import Outcome
from tests.soak.servers import Journals, Seen

_HURT_WITHIN = frozenset(("reset_within", "cut_within", "bad_chunk", "cut", "garbage", "too_little"))
_KEPT_BYTES = 64 * 1024
_SURE_OF_NOTHING_SENT = ("UH", "UO", "UF", "NR", "RL", "DR")


@dataclass
class Verdict:
    """
    Attributes:
        answered: Requests with their own, whole answer.
        left: Requests whose client did not wait.
        explained: Failures, by `kind explanation`.
        unexplained: Failures that there must not be.
        wrong: Answers that were somebody else's or nobody's, and requests that arrived changed, or as somebody
            else's.
        repeated: Requests that may not be sent twice and arrived twice.
    """

    answered: int = 0
    left: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.unexplained or self.wrong or self.repeated)

    def __str__(self) -> str:
        lists = {"unexplained": self.unexplained, "wrong": self.wrong, "sent twice": self.repeated}
        lines = [f"{name}: {len(found)}\n  " + "\n  ".join(found[:20]) for name, found in lists.items() if found]
        return "\n".join(lines) or "good"


def judge(outcomes: Sequence[Outcome], journals: Journals, faults: Sequence[Fault]) -> Verdict:
    """
    Compare what clients got with what servers saw.

    Args:
        faults: Of the shaky servers; what befell nobody explains nothing.
    """
    verdict = Verdict()
    verdict.wrong.extend(journals.wrong)
    for outcome in outcomes:
        seen = journals.seen.get(outcome.id) or Seen()
        # A call that its server says UNAVAILABLE to may be sent again: the file vouches for that.
        again = seen.hurt.count("error") if outcome.kind.is_call else 0
        if len(seen.methods) > 1 + again and not outcome.kind.can_be_repeated:
            verdict.repeated.append(f"{_what(outcome)} seen {seen}")
        if seen.callers - {outcome.kind.caller}:
            verdict.wrong.append(f"{_what(outcome)} came from {seen.callers}, not from {outcome.kind.caller!r}")
        if outcome.failure == "left":
            verdict.left += 1
        elif not outcome.failure:
            verdict.answered += 1
            if not seen.ended:
                verdict.wrong.append(f"{_what(outcome)} was answered by nobody, {seen}")
        elif outcome.failure == "wrong":
            verdict.wrong.append(_what(outcome))
        else:
            why = _explanation(outcome, seen, faults)
            if why:
                verdict.explained[f"{outcome.kind.name} {why}"] += 1
            else:
                verdict.unexplained.append(f"{_what(outcome)} seen {seen}")
    return verdict


def _explanation(outcome: Outcome, seen: Seen, faults: Sequence[Fault]) -> str:
    is_in_fault = any(fault.touches(outcome.kind.host, outcome.began_s, outcome.ended_s) for fault in faults)
    if outcome.failure in ("cut", "unanswered"):
        # A server that began and did not end, or that broke the framing of what it had begun. The client may have got
        # nothing of it: what the sidecar had written for it is dropped when the connection must be cut.
        is_hurt = not _HURT_WITHIN.isdisjoint(seen.hurt)
        return "response_started" if is_hurt or (seen.began > seen.ended and is_in_fault) else ""
    is_post = outcome.failure == "status" and not outcome.kind.can_be_repeated
    if is_post and "upstream_refused_certificate" in outcome.detail and not seen.methods:
        return "body_not_kept"
    if is_post and "stream_refused" in outcome.detail:
        return "body_not_kept" if outcome.sent > _KEPT_BYTES and not seen.methods else ""
    if outcome.failure != "status" or outcome.kind.can_be_repeated or outcome.flag in _SURE_OF_NOTHING_SENT:
        return ""
    if seen.hurt:
        return "not_idempotent"
    if outcome.flag in ("UC", "UR", "408") and not seen.methods:
        return "keep_alive_race"
    # Killed or stopped with the request in its socket, or in its hands.
    return "not_idempotent" if is_in_fault else ""


def _what(outcome: Outcome) -> str:
    took_s = outcome.ended_s - outcome.began_s
    return (
        f"{outcome.id} {outcome.kind.name} {outcome.failure} status={outcome.status} flag={outcome.flag} "
        f"at={outcome.began_s:.2f} took={took_s:.2f} {outcome.detail[:300]}"
    )
