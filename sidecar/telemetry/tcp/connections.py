"""
What is counted of connections that are no HTTP's. *Once a connection, and at a scrape.*

A connection may last for days, so its octets are counted whenever somebody looks, and not only when it is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sidecar.exchange import Direction, Exchange
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import Numbers, Section, histograms_of, labelled, numbers_of
from sidecar.telemetry.metrics.instruments import CounterFamily, HistogramFamily
from sidecar.telemetry.scope import Scope


class TcpConnections:
    """
    Args:
        unrouted: Scopes of those that went nowhere, by direction.
    """

    __slots__ = ("_active", "_closed", "_detected", "_duration", "_opened", "_received", "_sent", "_told", "_unrouted")

    def __init__(self, unrouted: tuple[Scope, Scope]) -> None:
        self._unrouted = unrouted
        self._active = [0, 0]
        self._detected: Counter[tuple[str, ...]] = Counter()
        self._opened: Counter[tuple[str, ...]] = Counter()
        self._closed = CounterFamily(catalogue.TCP_CLOSED)
        self._received = CounterFamily(catalogue.TCP_RECEIVED)
        self._sent = CounterFamily(catalogue.TCP_SENT)
        self._duration = HistogramFamily(catalogue.TCP_DURATION)
        # Octets of those under way that are counted already: from clients, to clients.
        self._told: dict[Exchange, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<TcpConnections {self._active} under way>"

    def detected(self, direction: Direction, protocol: str, *, has_waited: bool) -> None:
        """It is known what a connection carries."""
        self._detected[direction.label, protocol, "true" if has_waited else "false"] += 1

    def begin(self, exchange: Exchange) -> None:
        """One has begun."""
        self._active[exchange.direction] += 1
        self._opened[exchange.direction.label, exchange.protocol] += 1
        self._told[exchange] = (0, 0)

    def end(self, exchange: Exchange) -> Scope:
        """It is over; returns the scope of where it went."""
        scope = self._count(exchange)
        self._active[exchange.direction] -= 1
        del self._told[exchange]
        direction, reason = exchange.direction.label, exchange.reason
        flag = reason.flag if reason is not None else "-"
        scope.own(self._closed, direction, scope.upstream, exchange.protocol, flag).value += 1
        scope.own(self._duration, direction, scope.upstream).observe(exchange.end_ns - exchange.start_ns)
        return scope

    def _count(self, exchange: Exchange) -> Scope:
        scope: Scope = exchange.scope or self._unrouted[exchange.direction]  # type: ignore[assignment]
        scope.revive()
        received, sent = self._told[exchange]
        names = exchange.direction.label, scope.upstream, exchange.protocol
        scope.own(self._received, *names).value += exchange.bytes_received - received
        scope.own(self._sent, *names).value += exchange.bytes_sent - sent
        self._told[exchange] = exchange.bytes_received, exchange.bytes_sent
        return scope

    def sections(self) -> Iterator[Section]:
        """As counted; octets of those under way, too."""
        for index, exchange in enumerate(list(self._told)):
            if exchange in self._told:
                self._count(exchange)
            if index % 64 == 63:
                yield None
        directions = [((direction.label,), self._active[direction]) for direction in Direction]
        yield Numbers(catalogue.DETECTED, labelled(catalogue.DETECTED, sorted(self._detected.items())))
        yield Numbers(catalogue.TCP_OPENED, labelled(catalogue.TCP_OPENED, sorted(self._opened.items())))
        yield Numbers(catalogue.TCP_ACTIVE, labelled(catalogue.TCP_ACTIVE, directions))
        yield numbers_of(self._closed)
        yield numbers_of(self._received)
        yield numbers_of(self._sent)
        yield histograms_of(self._duration)
