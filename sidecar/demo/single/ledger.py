"""
What was sent against what the access log says of it, line by line. *Pure.*

Requests are known by their `x-request-id`, which the sidecar keeps and the app hands on, so each must be found once
inbound and once outbound. What is settled is forgotten: the ledger holds only what is open.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from sidecar.demo.single.configuration import BETA_ROUTE

WINDOW_LINES = 8192
"""Lines that are kept for latencies."""
MAX_OPEN = 100_000
"""Requests whose lines have not come; there are so many only if the log was turned off in the file."""


class Ledger:
    """
    The books.

    Attributes:
        sent: Requests that were sent.
        inbound, outbound: Lines of the log, by direction.
        strays: Lines for requests that nobody here sent, or second lines for one.
        beta_routed: Requests with the cookie that the route `beta-users` took.
        beta_wrong: Requests that `beta-users` took without the cookie, or with it another route.
        unreadable: Lines that are not JSON.
        recent: `(start_time, direction, route, upstream, duration_ms)` of the last lines.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.inbound = 0
        self.outbound = 0
        self.strays = 0
        self.beta_routed = 0
        self.beta_wrong = 0
        self.unreadable = 0
        self.recent: deque[tuple[str, str, str, str, float]] = deque(maxlen=WINDOW_LINES)
        self.split: Counter[tuple[str, str]] = Counter()
        self.split_since = ""
        self._open_inbound: dict[str, None] = {}
        self._open_outbound: dict[str, None] = {}
        self._with_cookie: dict[str, None] = {}
        self._given_up = 0

    @property
    def missing(self) -> int:
        """Lines that have not come."""
        return len(self._open_inbound) + len(self._open_outbound) + self._given_up

    def send(self, request_id: str, has_cookie: bool) -> None:
        """A request is about to be sent."""
        self.sent += 1
        self._open(self._open_inbound, request_id)
        self._open(self._open_outbound, request_id)
        if has_cookie:
            self._open(self._with_cookie, request_id)

    def forgive(self, request_id: str) -> None:
        """A request failed and was counted so; no line is expected of it."""
        for open_ids in (self._open_inbound, self._open_outbound, self._with_cookie):
            open_ids.pop(request_id, None)

    def read(self, line: bytes) -> None:
        """Enter one line of the access log."""
        try:
            entry: Mapping[str, Any] = json.loads(line)
            direction, request_id = entry["direction"], entry["request_id"]
            route, upstream = entry["route_name"] or "", entry["upstream_cluster"] or ""
            start, duration = entry["start_time"], float(entry["duration"])
        except (ValueError, KeyError, TypeError):
            self.unreadable += 1
            return
        self.recent.append((start, direction, route, upstream, duration))
        if direction == "inbound":
            self.inbound += 1
            self._settle(self._open_inbound, request_id)
            return
        self.outbound += 1
        self._settle(self._open_outbound, request_id)
        if start > self.split_since:
            self.split[route, upstream] += 1
        has_cookie = request_id in self._with_cookie
        self._with_cookie.pop(request_id, None)
        if has_cookie and route == BETA_ROUTE:
            self.beta_routed += 1
        elif has_cookie or route == BETA_ROUTE:
            self.beta_wrong += 1

    def split_from(self, moment: str) -> None:
        """Count the split of outbound requests anew from this time, written as the log writes it."""
        self.split_since = moment
        self.split.clear()
        for start, direction, route, upstream, _ in self.recent:
            if direction == "outbound" and start > moment:
                self.split[route, upstream] += 1

    def _open(self, open_ids: dict[str, None], request_id: str) -> None:
        open_ids[request_id] = None
        if len(open_ids) > MAX_OPEN:
            del open_ids[next(iter(open_ids))]
            self._given_up += 1

    def _settle(self, open_ids: dict[str, None], request_id: str) -> None:
        if request_id in open_ids:
            del open_ids[request_id]
        else:
            self.strays += 1
