"""A process that remembers what the admin endpoints asked of it."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.admin.endpoints import ReloadReport
from sidecar.admin.live import Observer
from sidecar.telemetry.exposition import Format


class FakeProcess:
    """Implements `sidecar.admin.endpoints.Process`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.why_not_ready: str | None = None
        self.reload_is_ok = True
        self.level = "info"
        self.observers: list[Observer] = []
        self.max_observers = 2
        self.body = b"# TYPE up gauge\nup 1\n"
        self.asked: list[tuple[Format, bool]] = []

    def not_ready(self) -> str | None:
        return self.why_not_ready

    async def metrics(self, form: Format, *, is_compressed: bool) -> bytes:
        self.asked.append((form, is_compressed))
        return self.body

    def add_observer(self, observer: Observer) -> bool:
        if len(self.observers) >= self.max_observers:
            return False
        self.observers.append(observer)
        return True

    def remove_observer(self, observer: Observer) -> None:
        if observer in self.observers:
            self.observers.remove(observer)

    def server_info(self) -> Mapping[str, object]:
        return {"version": "1", "state": "LIVE"}

    def config_dump(self) -> Mapping[str, object]:
        return {"file": "f"}

    def routes_dump(self) -> Mapping[str, object]:
        return {"inbound": []}

    def upstreams_dump(self) -> Mapping[str, object]:
        return {}

    async def reload(self) -> ReloadReport:
        self.calls.append("rel")
        return ReloadReport(self.reload_is_ok, {} if self.reload_is_ok else {"problems": ["file:1:1: broken"]})

    def drain(self) -> None:
        self.calls.append("dra")

    def quit(self) -> None:
        self.calls.append("qui")

    def log_level(self) -> str:
        return self.level

    def set_log_level(self, level: str) -> None:
        if level not in ("debug", "info"):
            raise ValueError(f"expected debug or info, got {level!r}")
        self.level = level
