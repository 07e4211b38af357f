"""A process that remembers what the admin endpoints asked of it."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.admin.endpoints import Params, ReloadReport, Reply, Request
from sidecar.admin.live import Observer, Tap, tap_of
from sidecar.admin.recent import RequestsWish
from sidecar.telemetry.metrics.exposition import Format


class FakeProcess:
    """Implements `sidecar.admin.endpoints.Process`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.why_not_ready: str | None = None
        self.reload_is_ok = True
        self.is_app_well = True
        self.level = "info"
        self.observers: list[Observer] = []
        self.max_observers = 2
        self.body = b"# TYPE up gauge\nup 1\n"
        self.asked: list[tuple[Format, bool]] = []

    def not_ready(self) -> str | None:
        return self.why_not_ready

    def app_health(self) -> tuple[bool, str]:
        return self.is_app_well, "how it is"

    async def app_port(self, port: str) -> tuple[bool, str] | None:
        return {"8080": (True, "accepts connections"), "8081": (False, "refused")}.get(port)

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

    async def tap(self, params: Params) -> Tap | None:
        tap = tap_of(self, params)
        return tap if tap.open() else None

    async def of_worker(self, number: str, request: Request) -> Reply | None:
        if number == "0":
            return None
        if number == "1":
            return Reply(200, f"{request.path} of worker 1".encode())
        raise LookupError("no such worker: there are 0 and 1")

    async def server_info(self) -> Mapping[str, object]:
        return {"version": "1", "state": "LIVE"}

    async def config_dump(self) -> Mapping[str, object]:
        return {"file": "f"}

    async def routes_dump(self) -> Mapping[str, object]:
        return {"inbound": []}

    async def requests_dump(self, wish: RequestsWish) -> Mapping[str, object]:
        return {"asked": [wish.limit, wish.request_id]}

    async def upstreams_dump(self) -> Mapping[str, object]:
        return {}

    async def certs_dump(self) -> Mapping[str, object]:
        return {"identity": None}

    async def preview(self, name: str, text: bytes) -> Mapping[str, object]:
        self.calls.append(f"preview {name}")
        return {"octets": len(text)}

    async def reload(self, *, is_forced: bool = False) -> ReloadReport:
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
