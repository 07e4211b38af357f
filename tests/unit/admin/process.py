"""A process that remembers what the admin endpoints asked of it."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.admin.endpoints import ReloadReport


class FakeProcess:
    """Implements `sidecar.admin.endpoints.Process`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.why_not_ready: str | None = None
        self.reload_is_ok = True
        self.level = "info"
        self.metrics = b"# TYPE up gauge\nup 1\n"

    def not_ready(self) -> str | None:
        return self.why_not_ready

    def exposition(self) -> bytes:
        return self.metrics

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
