"""
A summary from one replica to another as the difference from what was told last. *Pure.*

    asker    `since` = ""            all of it, told as EPOCH.1
    asker    `since` = EPOCH.N       what has changed since EPOCH.N; if nothing did, next to nothing
    teller   started again, or N is not one of its numbers: all of it

One number for all askers: each sidecar has the number at which it changed last, so who was told an older one gets what
is missing, and nothing is kept for an asker. Of what a sidecar counted only the new periods are told, which the asker
notes as the teller did; all of them where it may have missed some.

Clocks of machines are not compared: times are told as the teller has them, with its time of now, and the asker takes
the difference of both clocks from them. Where that moves, a clock was set, and all is asked for anew.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.control.fleet import MAX_INSTANCES, MAX_RECENT
from sidecar.control.replicas.summary import Summary
from sidecar.control.rollout.statistics import MAX_PERIODS, noted
from sidecar.control.rollout.view import Instance, Period
from sidecar.link.fields import Fields, MessageError, decode

MAX_GONE: Final = 1000
"""Of those that are not known any more: who was not told for longer is told all."""
CLOCK_STEP_S: Final = 1.0
"""By which the difference of two clocks may move: the way takes time."""


@dataclass(slots=True)
class _Told:
    instance: dict[str, Any] | None
    row: Mapping[str, Any] | None
    periods: Sequence[Period]
    number: int
    base: int
    recent: deque[tuple[int, Period]] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))

    def periods_since(self, number: int) -> tuple[bool, Sequence[Period]]:
        """Whether these are all, and those that were noted since."""
        if self.instance is None:
            return True, ()
        is_whole = number < self.base or (len(self.recent) == MAX_RECENT and self.recent[0][0] > number)
        return is_whole, self.periods if is_whole else [one for at, one in self.recent if at > number]


class Teller:
    """What was told of each sidecar, and when it changed."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(8)
        self._number = 0
        self._told: dict[str, _Told] = {}
        self._gone: deque[tuple[int, str]] = deque()
        self._first = 0

    def tell(
        self, summary: Summary, recent: Mapping[str, Sequence[Period]], since: str, now_s: float
    ) -> dict[str, Any]:
        """
        For JSON.

        Args:
            recent: The last periods of each sidecar, as they came.
            since: `at` of the answer that the asker had last; empty: none.
            now_s: On the clock of the times in the summary.
        """
        self._take(summary, recent)
        epoch, _, said = since.partition(".")
        number = int(said) if epoch == self._epoch and said.isascii() and said.isdigit() and len(said) < 16 else 0
        is_whole = not self._first <= number <= self._number or not number
        number = 0 if is_whole else number
        changed: list[dict[str, Any]] = []
        for id_, told in self._told.items():
            if told.number > number:
                has_all, periods = told.periods_since(number)
                numbers = [_numbers(one) for one in periods]
                changed.append(
                    {"id": id_, "instance": told.instance, "row": told.row, "whole": has_all, "periods": numbers}
                )
        return {
            "at": f"{self._epoch}.{self._number}",
            "since": None if is_whole else since,
            "now": now_s,
            "unseen": list(summary.unseen),
            "changed": changed,
            "gone": [] if is_whole else [id_ for at, id_ in self._gone if at > number and id_ not in self._told],
        }

    def _take(self, summary: Summary, recent: Mapping[str, Sequence[Period]]) -> None:
        number = self._number + 1
        rows = {row["id"]: row for row in summary.rows}
        instances = {one.id: one for one in summary.instances}
        for id_ in rows.keys() | instances.keys():
            row, one = rows.get(id_), instances.get(id_)
            values = _values(one) if one is not None else None
            told = self._told.get(id_)
            if told is None:
                told = self._told[id_] = _Told(values, row, (), number, number)
            elif told.instance != values or told.row != row:
                if told.instance is None:
                    told.base = number
                told.instance, told.row, told.number = values, row, number
            if one is None:
                told.recent.clear()
                continue
            told.periods = one.periods
            last = told.recent[-1][1] if told.recent else None
            added = _after(recent.get(id_, ()), last)
            if last is not None and len(added) == len(recent.get(id_, ())):
                told.base = number
            for period in added:
                told.recent.append((number, period))
                told.number = number
        for id_ in self._told.keys() - rows.keys() - instances.keys():
            del self._told[id_]
            self._gone.append((number, id_))
        while len(self._gone) > MAX_GONE:
            self._first = self._gone.popleft()[0]
        self._number = number


def _after(periods: Sequence[Period], last: Period | None) -> list[Period]:
    """Those that were added after `last`."""
    found: list[Period] = []
    for period in reversed(periods):
        if period is last:
            break
        found.append(period)
    return found[::-1]


def _values(one: Instance) -> dict[str, Any]:
    return {
        "service": one.service,
        "hash": one.hash,
        "refused": one.refused_hash,
        "outdated": one.is_outdated,
        "connected": one.is_connected,
        "stale": one.is_stale,
        "draining": one.is_draining,
        "connected_s": one.connected_s,
    }


def _numbers(period: Period) -> list[float]:
    return [round(period.start_s, 3), round(period.end_s, 3), period.requests, period.failures]


@dataclass(frozen=True, slots=True)
class Heard:
    """
    All that a replica has told.

    Attributes:
        at: To be named when it is asked again; empty: for all of it.
        summary: On the clock of who asked.
        ahead_s: By how much its clock is ahead of that one.
    """

    at: str = ""
    summary: Summary = field(default_factory=Summary)
    ahead_s: float = 0.0


def hear(before: Heard, raw: bytes, now_s: float) -> Heard:
    """
    What is known once `tell` has answered.

    Raises:
        MessageError: It is not of this form, or no difference from what was known: ask for all of it.
    """
    fields = decode(raw)
    since, ahead_s = fields.text("since", ""), fields.number("now") - now_s
    if since and (since != before.at or abs(ahead_s - before.ahead_s) > CLOCK_STEP_S):
        raise MessageError("since: expected a difference from what is known, or the clocks did not stay as they were")
    # One offset for as long as differences follow each other: a period told twice would be another one.
    ahead_s = before.ahead_s if since else ahead_s
    instances = {one.id: one for one in before.summary.instances} if since else {}
    rows = {row["id"]: row for row in before.summary.rows} if since else {}
    for id_ in fields.texts("gone", MAX_GONE):
        instances.pop(id_, None)
        rows.pop(id_, None)
    for one in fields.objects("changed", MAX_INSTANCES):
        id_ = one.text("id")
        row = one.part("row")
        if row is None:
            rows.pop(id_, None)
        elif row.text("id") != id_ or not row.text("service"):
            raise MessageError("row: expected the id and a service")
        else:
            rows[id_] = row.all()
        values = one.part("instance")
        if values is None:
            instances.pop(id_, None)
        else:
            periods = _periods(one, ahead_s)
            if not one.flag("whole", True) and id_ in instances:
                added, periods = periods, list(instances[id_].periods)
                for period in added:
                    periods = noted(periods, period)
            instances[id_] = _instance(id_, values, ahead_s, tuple(periods))
    unseen = tuple(fields.texts("unseen", 64))
    return Heard(fields.text("at"), Summary(tuple(instances.values()), tuple(rows.values()), unseen), ahead_s)


def _instance(id_: str, fields: Fields, ahead_s: float, periods: tuple[Period, ...]) -> Instance:
    is_connected = fields.flag("connected", False)
    return Instance(
        id=id_,
        service=fields.text("service"),
        hash=fields.text("hash"),
        refused_hash=fields.text("refused"),
        is_outdated=fields.flag("outdated", False),
        is_connected=is_connected,
        is_stale=fields.flag("stale", False),
        is_draining=fields.flag("draining", False),
        connected_s=fields.number("connected_s") - ahead_s if is_connected else 0.0,
        periods=periods,
    )


def _periods(fields: Fields, ahead_s: float) -> list[Period]:
    found: list[Period] = []
    said = fields.all().get("periods")
    if not isinstance(said, list) or len(said) > MAX_PERIODS:
        raise MessageError(f"periods: expected a list of at most {MAX_PERIODS}")
    for one in said:
        if not isinstance(one, list) or len(one) != 4 or not all(_is_number(number) for number in one):
            raise MessageError("periods: expected four numbers each")
        found.append(Period(one[0] - ahead_s, one[1] - ahead_s, int(one[2]), int(one[3])))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1 << 53
