"""
What the file says about telemetry becomes telemetry's settings. *Cold.*

Apart from `compile`, because a compiler process tries a plan without telemetry, which takes long to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.telemetry.settings import LogFilter, TelemetrySettings

if TYPE_CHECKING:
    from sidecar.config.model import root as model


def telemetry_settings(config: model.Config) -> TelemetrySettings:
    """What the file says about telemetry; what it does not say, the environment decides."""
    service, telemetry = config.service, config.telemetry
    log = telemetry.access_log
    return TelemetrySettings(
        service_name=service.name,
        service_version=service.version or "",
        service_namespace=service.namespace or "",
        otlp_endpoint=telemetry.traces.otlp_endpoint,
        sample=telemetry.traces.sample,
        access_log_path=log.path if log.format != "off" else None,
        access_log_template=log.format if log.format not in ("json", "off") else None,
        access_log_when=_log_filter(log.when) if log.when is not None else None,
        propagators=tuple(telemetry.traces.propagators) if telemetry.traces.propagators is not None else None,
        compat=tuple(telemetry.metrics.compat),
    )


def _log_filter(when: model.LogWhen) -> LogFilter:
    slower_than_ns = round(when.slower_than * 1e9) if when.slower_than is not None else None
    return LogFilter(tuple(when.status), slower_than_ns, when.sample)
