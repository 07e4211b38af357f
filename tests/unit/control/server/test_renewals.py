"""Telling sidecars that the authority changed."""

from __future__ import annotations

import calendar
import time
from typing import Any

from sidecar.control.server.renewals import Renewals
from sidecar.link.messages import Renew

CHANGED_S = 1_800_000_000


class Stream:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def say(self, line: Any) -> bool:
        self.said.append(line)
        return True


class Request:
    """Of a client of TLS whose certificate was issued then; None: in clear, -1: by TLS without a certificate."""

    def __init__(self, issued_s: int | None) -> None:
        self._issued_s = issued_s

    @property
    def transport(self) -> Request:
        return self

    def get_extra_info(self, name: str) -> Any:
        return self if self._issued_s is not None else None

    def getpeercert(self) -> Any:
        if self._issued_s in (None, -1):
            return None
        begins = time.gmtime(self._issued_s - 600)  # type: ignore[operator]
        assert calendar.timegm(begins) == self._issued_s - 600  # type: ignore[operator]
        return {"notBefore": time.strftime("%b %d %H:%M:%S %Y GMT", begins)}


def opened(issued_s: int | None, changed_s: float = CHANGED_S) -> list[Any]:
    stream = Stream()
    Renewals([stream], lambda: changed_s).opened(stream, Request(issued_s))  # type: ignore[arg-type]
    return stream.said


def test_who_comes_with_a_certificate_from_before_is_told() -> None:
    """And nobody else."""
    assert opened(CHANGED_S - 1) == [Renew(2.0)]
    assert opened(CHANGED_S) == []
    assert opened(CHANGED_S + 1) == []
    assert opened(-1) == []
    assert opened(None) == []
    assert opened(CHANGED_S - 1, 0.0) == []


def test_all_are_told_of_a_change_once_and_of_none_at_the_start() -> None:
    """In a time in which a replica can sign for all of them."""
    streams = [Stream() for _ in range(100)]
    changed_s = 5.0
    renewals = Renewals(streams, lambda: changed_s)  # type: ignore[arg-type]
    renewals.look()
    assert not any(one.said for one in streams)
    changed_s = 6.0
    renewals.look()
    renewals.look()
    assert all(one.said == [Renew(10.0)] for one in streams)
