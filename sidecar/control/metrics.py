"""
The control plane's metrics, read from its state when somebody scrapes. *Cold.*

prometheus-client writes them: they are few, and no request of an app waits for a scrape (a sidecar's own are written by
`telemetry.metrics`, for there are thousands). What grows is counted where it happens, in plain integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sidecar import __version__
from sidecar.control.authority.service import AuthorityService
from sidecar.control.plane import Plane
from sidecar.control.server.acceptor import Acceptor
from sidecar.control.storing import EVERY
from sidecar.process_log import losses


@dataclass(slots=True)
class Counts:
    """
    What the server counts.

    Attributes:
        requests: By route of the server and class of status.
        written: Octets of streams by what they are: `config`, `endpoints`, `other`.
        lines: The same in lines.
        refused: Streams and reports that were turned away, by why.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Metrics:
    """
    Args:
        plane: What is told of.
        counts: What its server counts.
        service: The authority, where there can be one.

    Attributes:
        acceptor: Takes the connections, where some are by TLS.
    """

    def __init__(self, plane: Plane, counts: Counts, service: AuthorityService | None = None) -> None:
        self.acceptor: Acceptor | None = None
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_State(plane, counts))
        if service is not None:
            self._registry.register(_Identity(service, lambda: self.acceptor))

    def written(self, accept: str) -> tuple[bytes, str]:
        """The exposition, in a form that the scraper takes, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _State(Collector):
    def __init__(self, plane: Plane, counts: Counts) -> None:
        self._plane = plane
        self._counts = counts

    def describe(self) -> list[Metric]:
        """Nothing: what there is, is found by collecting."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What there is now."""
        yield from self._mesh()
        yield from self._sidecars()
        yield from self._server()

    def _mesh(self) -> Iterator[Metric]:
        plane = self._plane
        name = plane.rollouts.judged.name if plane.rollouts.judged is not None else ""
        yield InfoMetricFamily(
            "sidecar_control", "The control plane.",
            value={
                "release": __version__, "engine": plane.engine.name, "mesh": name, "replica": plane.settings.replica,
            },
        )  # fmt: skip
        yield _gauge("mesh_revision", "Number of the wanted revision; 0 before there is one.",
                     plane.rollouts.revision)  # fmt: skip
        follower = plane.follower
        is_good = not follower.problems and not follower.trouble
        yield _gauge("source_ok", "1 if the mesh's files can be read and are good, 0 if not.", float(is_good))
        yield _counter("source_refusals", "Contents of the mesh that had problems.", follower.refusals)
        halted = sum(service.state == "halted" for service in plane.rollouts.record.services.values())
        rolling = sum(service.state == "rolling" for service in plane.rollouts.record.services.values())
        yield _labelled("rollouts", "Services by the state of their rollout.", "state",
                        {"halted": halted, "rolling": rolling})  # fmt: skip
        yield _gauge("replicas", "Control planes that announced themselves lately.", len(plane.replicas))

    def _sidecars(self) -> Iterator[Metric]:
        plane = self._plane
        yield _gauge("streams", "Open streams.", len(plane.hub))
        yield _gauge("instances", "Sidecars that are remembered.", len(plane.fleet))
        refused = sum(one.report is not None and one.report.refused is not None for one in plane.fleet)
        yield _gauge("instances_refused", "Sidecars that refused the last file they were told.", refused)
        outdated = sum(plane.rollouts.is_outdated(one.service, one.language) for one in plane.fleet)
        yield _gauge("instances_outdated", "Sidecars whose language is older than the mesh needs: they get no file.",
                     outdated)  # fmt: skip
        yield _labelled("endpoints_doubt", "Registrations and discovered endpoints by whether they are doubted.",
                        "state", {"fresh": plane.doubt.fresh, "stale": plane.doubt.stale})  # fmt: skip
        yield _gauge("removing", "1 while those who are long gone are removed, 0 while too many are doubted.",
                     float(plane.doubt.is_removing))  # fmt: skip
        yield _counter("removals", "Endpoints that were removed because doubt ended.", plane.removed)
        origins = [status for _, status in plane.discovery.status()]
        failing = sum(bool(status.error) for status in origins)
        yield _gauge("discovery_failing", "Origins of endpoints with a source that fails.", failing)
        yield _gauge("endpoints_plain", "Endpoints of Kubernetes without a registered sidecar, dialled in clear.",
                     sum(status.plain for status in origins))  # fmt: skip
        yield _gauge("registrations", "Instances that are registered.", len(plane.registry))
        yield _gauge("registrations_waiting", "Instances of which the engine has not written the newest yet.",
                     plane.registering.waiting)  # fmt: skip
        owed = {one.what for one in plane.not_stored()}
        yield _labelled("store_failing", "1 for what the engine did not take when it was tried last.", "what",
                        {what: int(what in owed) for what in EVERY})  # fmt: skip
        yield _gauge("goodbyes_waiting", "Goodbyes that not everybody has applied yet.", len(plane.leaving))
        yield _counter("pushes", "Files that sidecars were to be told.", plane.hub.pushes)
        yield _counter("reports_limited", "Reports turned away for being too many.", plane.fleet.limited)
        yield _counter("edges_left_out", "Edges of reports for which there was no room.", plane.edges.left_out)

    def _server(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "sidecar_control_requests", "Requests by route and class of status.", labels=("route", "status")
        )
        for (route, status), number in sorted(self._counts.requests.items()):
            requests.add_metric((route, status), number)
        yield requests
        for name, text, counter, label in (
            ("stream_bytes", "Octets written to streams.", self._counts.written, "type"),
            ("stream_lines", "Lines written to streams.", self._counts.lines, "type"),
            ("refused", "Requests of sidecars that were turned away.", self._counts.refused, "why"),
            ("log_lines_dropped", "Lines of logs that were not written.", losses(), "reason"),
        ):
            family = CounterMetricFamily(f"sidecar_control_{name}", text, labels=(label,))
            for value, number in sorted(counter.items()):
                family.add_metric((value,), number)
            yield family


class _Identity(Collector):
    def __init__(self, service: AuthorityService, acceptor: Callable[[], Acceptor | None]) -> None:
        self._service = service
        self._acceptor = acceptor

    def describe(self) -> list[Metric]:
        """As of `_State`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Nothing but zeros, where there is no authority."""
        service = self._service
        authority, joining = service.authority, service.joining
        yield _gauge("authority_ok", "1 if certificates can be given out, 0 if there is no authority or it cannot be.",
                     float(not authority.why_not()))  # fmt: skip
        ends = GaugeMetricFamily(
            "sidecar_control_certificate_expiry_timestamp_seconds", "When a certificate ends.",
            labels=("which", "subject"),
        )  # fmt: skip
        for one in service.endings():
            ends.add_metric((one.which, one.name), one.not_after_s)
        yield ends
        acceptor = self._acceptor()
        for name, text, counter, label in (
            ("certificates_issued", "Certificates given out, by what proved who asked.", joining.given, "proof"),
            ("joins_refused", "Joins that were refused, by code.", joining.refused, "code"),
            ("connections", "Connections by what became of them.",
             acceptor.connections if acceptor is not None else {}, "kind"),
        ):  # fmt: skip
            family = CounterMetricFamily(f"sidecar_control_{name}", text, labels=(label,))
            for value, number in sorted(counter.items()):
                family.add_metric((value,), number)
            yield family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sidecar_control_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"sidecar_control_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"sidecar_control_{name}", text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
