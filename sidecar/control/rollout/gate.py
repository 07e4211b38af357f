"""
Whether a wave may be followed by the next one. *Pure.*

A look at a wave ends in a `Verdict`. In the order in which they are asked, so that what halts is never hidden by what
waits:

    halted     `refused` of those that count refused the file
    halted     one that counts has not accepted within `accept_timeout`
    rolling    some have not accepted yet
    halted     the share of failures is worse than that of the rest
    holding    all accepted less than `hold` ago
    thin       there are too few requests, and `thin.after` is not over, or `thin.then` is `hold`
    waiting    not everyone is seen, or more of the wave have vanished than are here
    passed     none of these

Widening is watched for acceptance only: no request takes another way by it. So is everything under `--now`. Narrowing
is held and compared, but not kept waiting for traffic: nothing comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.control.rollout.record import PARTS, Counts, Record, Service, place_of
from sidecar.control.rollout.statistics import counted, is_worse, minimum
from sidecar.control.rollout.view import Instance, View

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What a look at a wave says.

    Attributes:
        state: See above.
        why: For people: what it waits for, or why it ends.
        has_accepted: Whether all that count have answered.
        refused: Who refused.
    """

    state: str
    why: str = ""
    has_accepted: bool = False
    refused: tuple[str, ...] = ()


def counting(service: Service, instances: Sequence[Instance]) -> list[Instance]:
    """
    Those by which waves are measured and judged: who is here and did not refuse the revision before.

    Where all have refused the revision before, all count: someone must.
    """
    here = [one for one in instances if one.is_here]
    return [one for one in here if not is_odd(service, one)] or here


def is_odd(service: Service, instance: Instance) -> bool:
    """Whether it refused the revision before, too, or can be given none: a rollout says nothing about it."""
    return instance.refused_before or instance.is_outdated or instance.id in (service.odd or ())


def blindness(view: View, instances: Sequence[Instance]) -> str:
    """
    Why what is seen of a service may not be all of it, or an empty text.

    Fewer than half of those that are registered and said no goodbye: then the fault is more likely between them and
    us, and they run on unseen. A wave that is measured on the rest would be everyone when they return.
    """
    if view.unseen:
        return f"not seen: {', '.join(view.unseen)}"
    known = [one for one in instances if not one.is_draining]
    here = sum(one.is_here for one in known)
    return f"only {here} of {len(known)} instances are connected" if here * 2 < len(known) else ""


def judge(service: Service, instances: Sequence[Instance], record: Record, view: View, now_s: float) -> Verdict:
    """
    Look at the wave that a service is in.

    Args:
        service: It is rolling and its part has begun.
        instances: All of it.
        record: Its rules, and since when everyone was seen.
        view: Now; who is unseen.
        now_s: On the clock of the record's mover.
    """
    rules = record.rules
    judged = counting(service, instances)
    wave = [one for one in judged if has_file(service, one)]
    refused = tuple(one.id for one in wave if refuses(service, one))
    if rules.refused and len(refused) >= rules.refused:
        return Verdict("halted", f"refused by {_named(refused)}", refused=refused)
    missing = [one for one in wave if not accepts(service, one) and one.id not in refused]
    if missing:
        begun_s = max(service.since_s, record.clear_s)
        late = [one.id for one in missing if now_s >= max(begun_s, one.connected_s) + rules.accept_timeout_s]
        if late and not view.unseen:
            return Verdict("halted", f"not accepted within {rules.accept_timeout_s:g} s by {_named(late)}")
        return Verdict("rolling", f"waits for {_named([one.id for one in missing])} to accept")
    watched = _watch(service, judged, record, now_s) if wave else None
    if watched is not None and watched.state == "halted":
        return watched
    blind = blindness(view, instances) or _loss(service, instances, len(wave))
    if blind and (watched is None or watched.state == "passed"):
        return Verdict("waiting", blind, has_accepted=True)
    return watched or Verdict("passed", has_accepted=True)


def has_file(service: Service, instance: Instance) -> bool:
    """Whether the instance is in the wave: this part gives it another file, and has done so."""
    place = place_of(instance.id)
    return place <= service.limit and service.does_move(place)


def accepts(service: Service, instance: Instance) -> bool:
    """Whether it runs what it should; who should have no file has nothing to accept."""
    wanted = service.assigned(place_of(instance.id))
    return not wanted or instance.hash == wanted


def refuses(service: Service, instance: Instance) -> bool:
    """Whether it has refused what it should run, and does not run it."""
    wanted = service.assigned(place_of(instance.id))
    return bool(wanted) and instance.refused_hash == wanted and instance.hash != wanted


def _loss(service: Service, instances: Sequence[Instance], here: int) -> str:
    """Why what is left of a wave proves nothing, or an empty text."""
    gone = [one for one in instances if not one.is_here and not one.is_draining and has_file(service, one)]
    lost = [one.id for one in gone if not is_odd(service, one)]
    return f"waits for {_named(lost)} to return" if len(lost) > here else ""


def _watch(service: Service, judged: Sequence[Instance], record: Record, now_s: float) -> Verdict:
    """Look at a wave that has accepted: at its failures and at the time."""
    rules = record.rules
    passed = Verdict("passed", has_accepted=True)
    if service.is_now or PARTS[service.part] == "widen":
        return passed
    accepted_s = now_s if service.accepted_s is None else service.accepted_s
    doubt = ""
    if rules.worse_by is not None:
        wave = counted((one for one in judged if has_file(service, one)), accepted_s, now_s)
        rest = counted((one for one in judged if place_of(one.id) > service.limit), accepted_s, now_s)
        worse, doubt = _compare(wave, rest, service.before, rules.worse_by)
        if worse:
            return Verdict("halted", worse, has_accepted=True)
    if now_s < accepted_s + rules.hold_s:
        return Verdict("holding", f"holds for {rules.hold_s:g} s after all have accepted", has_accepted=True)
    if doubt and PARTS[service.part] == "routes":
        if rules.thin_then == "hold":
            return Verdict("thin", f"{doubt}; holds until there are more, or --now", has_accepted=True)
        if now_s < accepted_s + rules.thin_after_s:
            return Verdict(
                "thin", f"{doubt}; goes on {rules.thin_after_s:g} s after all have accepted", has_accepted=True
            )
    return passed


def _compare(wave: Counts, rest: Counts, before: Counts, worse_by: float) -> tuple[str, str]:
    """
    Compare a wave with the rest of its service in the same window, or else with the service before.

    Returns:
        Why it is worse, or an empty text; and why that cannot be told, or an empty text.
    """
    enough = minimum(worse_by)
    if wave.requests < enough:
        return "", f"too few requests: {wave.requests}, at least {enough} are needed"
    than, whose = (rest, "the rest") if rest.requests >= enough else (before, "before")
    if than.requests >= enough:
        if is_worse(wave, than, worse_by):
            return f"{wave.share:.1%} of {wave.requests} requests fail, {than.share:.1%} of {than.requests} {whose}", ""
        return "", ""
    if is_worse(wave, Counts(), worse_by):
        return "", f"nothing to compare with: {wave.share:.1%} of {wave.requests} requests fail"
    return "", ""  # not worse than if nothing had ever failed


def _named(instances: Sequence[str]) -> str:
    more = len(instances) - _SHOWN
    return ", ".join(instances[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
