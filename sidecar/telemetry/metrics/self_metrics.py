"""
What a scrape shows of the sidecar as a whole, whatever its requests: configuration, processes, who it is. *Cold.*

Of several workers the supervisor tells it, but for what each process has of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping

from sidecar import __version__, build, process_log
from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import Numbers, Section, histograms_of, labelled, numbers_of
from sidecar.telemetry.metrics.instruments import CounterFamily, HistogramFamily

RESTART_REASONS = ("died", "hung", "not_ready")
"""Why a worker was replaced."""

_BUILD = (__version__, ".".join(map(str, sys.version_info[:3])), build.KIND)


class Configuration:
    """What is told about the configuration: which is live, since when, and how loads went."""

    def __init__(self) -> None:
        self.hash = ""
        self.time_s = 0.0
        self.is_good = False
        self.reloads = CounterFamily(catalogue.RELOADS)
        self.durations = HistogramFamily(catalogue.RELOAD_DURATION)
        for result in ("success", "failure"):
            self.reloads.child(result)
            self.durations.child(result)

    def applied(self, config_hash: str, *, is_reload: bool) -> None:
        """A configuration is live."""
        self.hash = config_hash
        self.time_s = time.time()
        self.is_good = True
        if is_reload:
            self.reloads.child("success").value += 1

    def refused(self) -> None:
        """A changed one was refused."""
        self.is_good = False
        self.reloads.child("failure").value += 1

    def sections(self) -> Iterator[Section]:
        """All its series."""
        yield Numbers(catalogue.RELOAD_SUCCESSFUL, [(b"", int(self.is_good))])
        yield Numbers(catalogue.RELOAD_TIME, [(b"", self.time_s)])
        row = catalogue.CONFIG_INFO
        yield Numbers(row, labelled(row, [((self.hash,), 1)] if self.hash else []))
        yield numbers_of(self.reloads)
        yield histograms_of(self.durations)


def workers(wanted: int, live: int, restarts: Mapping[str, int]) -> Iterator[Section]:
    """How many processes carry the data path, and how often one had to be replaced, by reason."""
    yield Numbers(catalogue.WORKERS, [(b"", wanted)])
    yield Numbers(catalogue.WORKERS_LIVE, [(b"", live)])
    row = catalogue.WORKER_RESTARTS
    yield Numbers(row, labelled(row, [((reason,), restarts.get(reason, 0)) for reason in RESTART_REASONS]))


def process_log_losses() -> Iterator[Section]:
    """What this process's own log has lost; each worker and the supervisor have one."""
    row = catalogue.PROCESS_LOG_DROPPED
    yield Numbers(row, labelled(row, [((reason,), count) for reason, count in process_log.losses().items()]))


def identity(resource: Mapping[str, str]) -> Iterator[Section]:
    """What is running, and for whom by these attributes."""
    build, target = catalogue.BUILD_INFO, catalogue.TARGET_INFO
    yield Numbers(build, labelled(build, [(_BUILD, 1)]))
    names = ("service.name", "service.namespace", "service.version", "service.instance.id")
    yield Numbers(target, labelled(target, [(tuple(resource.get(name, "") for name in names), 1)]))
