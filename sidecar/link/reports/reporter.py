"""
Reports: every ten seconds, and soon after something has changed; one at a time, at most one a second. *Cold.*

They go where the stream is, over a connection that is kept. Nothing is counted for them: the telemetry's numbers are
read when a report is made, and what they grew by is kept until it is delivered (`pending_edges`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import random as system_random
from typing import Final

from sidecar.link.complaints import Complaints
from sidecar.link.fields import MessageError, decode
from sidecar.link.interfaces import Subject
from sidecar.link.report import MAX_EDGES, MAX_REPORT_BYTES, REPORT_PERIOD_S, Report, write_report
from sidecar.link.reports.pending_edges import PendingEdges
from sidecar.link.transport.http_client import Transport, TransportError
from sidecar.link.transport.refusal import Refusal
from sidecar.link.transport.server import Server
from sidecar.link.transport.short import post
from sidecar.process_log import event

logger = logging.getLogger("sidecar.link")

COALESCE_S: Final = 0.05
"""Changes of one moment are one report: a file in force changes its hash, its ports and its endpoints."""
GAP_S: Final = 1.0
JITTER: Final = 0.1
"""Part of the period by which it is shortened at random, so that those that began together do not stay so."""
MANY_EDGES: Final = 50
"""From which on a report is written in a thread."""


class Reporter:
    """
    Args:
        endpoints: Versions in force.
        own_address: By which others reach this instance; empty if it is not known.
        first_seq: Greater than any number of an earlier process of the same instance.
        timeout_s: For the head of an answer.

    Attributes:
        is_leaving: Reports say goodbye.
        on_left: Called when the control plane says at once that all concerned have applied it.
    """

    def __init__(
        self,
        subject: Subject,
        transport: Transport,
        complaints: Complaints,
        endpoints: Callable[[], Mapping[str, str]],
        own_address: Callable[[], str],
        on_left: Callable[[], None],
        *,
        first_seq: int,
        timeout_s: float,
        chance: Callable[[], float] = system_random,
    ) -> None:
        self.is_leaving = False
        self.on_left = on_left
        self._subject = subject
        self._transport = transport
        self._complaints = complaints
        self._endpoints = endpoints
        self._own_address = own_address
        self._timeout_s = timeout_s
        self._chance = chance
        self._edges = PendingEdges(first_seq, asyncio.get_running_loop().time())
        self._server: Server | None = None
        self._changed = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._failures = 0

    def changed(self) -> None:
        """Report soon."""
        self._changed.set()

    def on_connected(self, server: Server) -> None:
        """Reports go there from now on."""
        self._server = server
        self._failures = 0
        self.changed()

    def on_disconnected(self) -> None:
        """There is nobody to report to; what is counted is kept."""
        self._server = None

    async def run(self) -> None:
        """Report until cancelled."""
        now = asyncio.get_running_loop().time
        may_at = now()
        while True:
            # What is changed while nobody listens is told to whoever listens next.
            while self._server is None:
                self._changed.clear()
                await self._changed.wait()
            await asyncio.sleep(max(COALESCE_S, may_at - now()))
            server = self._server
            if server is None:
                continue
            self._changed.clear()
            began = now()
            may_at = began + GAP_S
            try:
                is_sent = await self.send(server)
            except Exception:  # a fault of ours must not end the reports for good
                logger.exception(event("report_broken"))
                is_sent = False
            self._failures = 0 if is_sent else self._failures + 1
            # What failed is sent again sooner than the next is due, but to a server that fails again and again.
            period_s = REPORT_PERIOD_S if is_sent else min(REPORT_PERIOD_S, GAP_S * 2 ** min(self._failures, 5))
            due_s = began + period_s * (1 - JITTER * self._chance()) - now()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due_s)):
                    await self._changed.wait()

    async def send(self, server: Server) -> bool:
        """Make a report of now and send it; whether it has arrived."""
        async with self._one_at_a_time:
            try:
                self._edges.add(*await self._subject.counts())
            except Exception:  # without them the rest matters all the same
                logger.exception(event("edges_not_read"))
            body = await self._written()
            self._edges.sent()
            try:
                answered = await post(self._transport, server, "/v1/report", body, self._timeout_s)
            except TransportError as error:
                self._complaints.tell("report_not_sent", str(error), address=str(server))
                return False
            if isinstance(answered, Refusal):
                lost = self._edges.refused() if answered.is_final else None
                self._complaints.tell("report_refused", answered.why, address=str(server), edges_lost=lost or None)
                return False
            self._complaints.settle("report_not_sent")
            self._complaints.settle("report_refused")
            if self._edges.delivered():
                self.changed()
            if self.is_leaving and _has_left(answered):
                self.on_left()
            return True

    async def _written(self) -> bytes:
        limit = MAX_EDGES
        while True:
            report = self._report(limit)
            many = len(report.edges) > MANY_EDGES
            body = await asyncio.to_thread(write_report, report) if many else write_report(report)
            if len(body) <= MAX_REPORT_BYTES or not report.edges:
                return body
            limit = max(1, len(report.edges) // 2)
            if not self._edges.split():
                lost = self._edges.refused()
                logger.warning(
                    event("edges_lost", count=lost, reason=f"a report of more than {MAX_REPORT_BYTES} octets")
                )

    def _report(self, limit: int) -> Report:
        subject = self._subject
        who, host = subject.watch(), self._own_address()
        seq, edges, span_s = self._edges.next(asyncio.get_running_loop().time(), limit)
        return Report(
            service=who.service, instance=who.instance, seq=seq, version=who.version, zone=who.zone,
            release=who.release, language=who.language, address=host, weight=subject.weight(),
            ports=subject.ports(host) if host else {}, health=subject.health(), is_goodbye=self.is_leaving,
            running=subject.running(), refused=subject.refused(), endpoints=dict(self._endpoints()), edges=edges,
            span_s=span_s, identity=subject.identity_report(), asked=self._edges.asked,
        )  # fmt: skip


def _has_left(body: bytes) -> bool:
    try:
        return decode(body).flag("left", False)
    except MessageError:
        return False
