"""
Where lines and spans go, and how that changes: the access log's file and the exporter, kept or replaced. *Cold.*
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from sidecar.telemetry.access_log.writer import LogFile, LogLosses
from sidecar.telemetry.refusals import Refusals
from sidecar.telemetry.resource import encoded_resource, service_attributes
from sidecar.telemetry.settings import Resolved, TelemetrySettings
from sidecar.telemetry.traces.export import Exporter, SpanLosses

# What an old file or collector is given to take its last lines or spans after a reload named another.
_LET_GO_S = 5.0


class Sinks:
    """
    The access log's file and the exporter of a process, as the settings of the moment want them.

    Attributes:
        log_file: None when there is no access log.
        exporter: None when no spans are exported.
        resource: Attributes of what telemetry is about.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._is_running = False
        self.log_losses = LogLosses()
        self.span_losses = SpanLosses()
        self.log_file: LogFile | None = None
        self.exporter: Exporter | None = None
        self.resource: dict[str, str] = {}
        self.refusals = Refusals()
        self.lines_filtered = 0
        """Lines that the settings' filter left out."""

    def __repr__(self) -> str:
        return f"<Sinks {self.log_file!r} {self.exporter!r}>"

    def apply(self, settings: TelemetrySettings, resolved: Resolved) -> None:
        """Follow the settings. What did not change is kept; what did is flushed in the background and let go."""
        resource = service_attributes(
            settings.service_name, settings.service_version, settings.service_namespace, self._environment
        )
        path = settings.access_log_path
        if (self.log_file.path if self.log_file else None) != path:
            self._replace_log_file(path)
        target = resolved.target
        if (self.exporter.target if self.exporter else None) != target or resource != self.resource:
            exporter = Exporter(target, _encoder(resource), self.span_losses) if target else None
            self._replace_exporter(exporter)
        self.resource = resource

    def _replace_log_file(self, path: str | None) -> None:
        old, self.log_file = self.log_file, None
        if old is not None:
            old.stop(_LET_GO_S)
            self.log_losses.buffer_full += old.refused
        if path is not None:
            self.log_file = LogFile(path, self.log_losses)
            if self._is_running:
                self.log_file.start()

    def _replace_exporter(self, exporter: Exporter | None) -> None:
        old, self.exporter = self.exporter, exporter
        if old is not None:
            old.stop(_LET_GO_S)
            self.span_losses.queue_full += old.refused
        if exporter is not None and self._is_running:
            exporter.start()

    def start(self) -> None:
        """Begin to write and to export; what was handed over before waits until then."""
        self._is_running = True
        if self.log_file is not None:
            self.log_file.start()
        if self.exporter is not None:
            self.exporter.start()

    async def stop(self, timeout_s: float) -> None:
        """Flush both, for at most so long together; what is left is counted as lost by `shutdown`."""
        self._is_running = False
        self.refusals.tell()
        sinks = [sink for sink in (self.exporter, self.log_file) if sink is not None]
        for sink in sinks:
            sink.stop(timeout_s)
        await asyncio.gather(*(asyncio.to_thread(sink.join, timeout_s) for sink in sinks))

    def spans_dropped(self) -> Iterator[tuple[str, int]]:
        """Lost spans by reason, over all exporters that there were."""
        losses = self.span_losses
        yield "queue_full", losses.queue_full + (self.exporter.refused if self.exporter else 0)
        yield "unavailable", losses.unavailable
        yield "rejected", losses.rejected
        yield "shutdown", losses.shutdown

    def lines_dropped(self) -> Iterator[tuple[str, int]]:
        """Lost lines by reason, over all files that there were."""
        losses = self.log_losses
        yield "buffer_full", losses.buffer_full + (self.log_file.refused if self.log_file else 0)
        yield "write_failed", losses.write_failed
        yield "shutdown", losses.shutdown
        yield "refused", self.refusals.left_out

    def waiting_bytes(self) -> Iterator[tuple[str, int]]:
        """What has been handed over and is not yet taken, by queue."""
        yield "spans", self.exporter.waiting_bytes if self.exporter else 0
        yield "access_log", self.log_file.waiting_bytes if self.log_file else 0


def _encoder(resource: Mapping[str, str]) -> Callable[[], bytes]:
    return lambda: encoded_resource(resource)
