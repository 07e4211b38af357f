"""
`process_*` of several processes as one: what a supervisor and its workers use together. *Cold; in a thread.*

The system is asked, not the workers: the numbers of one that hangs are the interesting ones. What a worker that is
gone has used of the CPU, as far as it was seen, stays in the sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.telemetry.metrics.exposition import Format, of_registry

_CPU = "process_cpu_seconds"
_RULES: dict[str, Callable[[Sequence[float]], float]] = {
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_open_fds": max,  # each has a limit of its own: the worst of them is what an alert is about
    "process_max_fds": min,
}


class Processes(Collector):
    """
    This process and some others.

    Args:
        others: Their process ids now.
    """

    def __init__(self, others: Callable[[], Sequence[int]]) -> None:
        self._others = others
        self._cpu_s: dict[int, float] = {}
        self._gone_cpu_s = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._one_at_a_time = threading.Lock()

    def exposition(self, form: Format) -> bytes:
        """As `exposition.process`."""
        with self._one_at_a_time:
            return of_registry(self._registry, form)

    def collect(self) -> Iterable[Metric]:
        """For prometheus-client."""
        own = list(_families_of("self"))
        others = {pid: {family.name: _value(family) for family in _families_of(pid)} for pid in self._others()}
        for family in own:
            values = [_value(family), *(found[family.name] for found in others.values() if family.name in found)]
            rule = _RULES.get(family.name)
            if family.name == _CPU:
                self._see({pid: found[_CPU] for pid, found in others.items() if _CPU in found})
                total = _value(family) + sum(self._cpu_s.values()) + self._gone_cpu_s
                yield CounterMetricFamily(family.name, family.documentation, value=total)
            elif rule is not None:
                yield GaugeMetricFamily(family.name, family.documentation, value=rule(values))
            else:
                yield family

    def _see(self, cpu_s: dict[int, float]) -> None:
        for pid in self._cpu_s.keys() - cpu_s.keys():
            self._gone_cpu_s += self._cpu_s.pop(pid)
        for pid, used_s in cpu_s.items():
            self._cpu_s[pid] = max(used_s, self._cpu_s.get(pid, 0.0))


def _families_of(pid: int | str) -> Iterable[Metric]:
    """Nothing of a process that is gone."""
    return ProcessCollector(pid=lambda: pid, registry=CollectorRegistry(auto_describe=False)).collect()


def _value(family: Metric) -> float:
    return family.samples[0].value
