"""What the admin listener shows of the process, and the switches that it turns: `admin.endpoints.Process`. *Cold.*"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from sidecar import __version__, build, process_log
from sidecar.admin.app_ports import AppPorts
from sidecar.admin.coverage import coverage_of
from sidecar.admin.endpoints import Params, PreviewError, ReloadReport, Request
from sidecar.admin.live import Tap, tap_of
from sidecar.admin.recent import RequestsWish, shown_requests
from sidecar.compile.deserialize import plain
from sidecar.compile.time_slices import in_slices
from sidecar.exchange import Direction
from sidecar.loader.config_loader import FORCE
from sidecar.loader.load_outcome import LoadOutcome, shown_live
from sidecar.loader.plan_source import PlanSourceError
from sidecar.runtime.capture.watch import CaptureWatch
from sidecar.runtime.mesh.app_watch import AppWatch
from sidecar.runtime.reload import Reloader
from sidecar.telemetry.recorder import Format, Observer, Telemetry

if TYPE_CHECKING:
    from sidecar.runtime.mesh.following import Following
    from sidecar.security.identity.holder import Identity
    from sidecar.security.tokens.holder import TokenKeys

MAX_OBSERVERS = 8
"""Who may look on at once; each takes some microseconds of every request."""


class Running(Protocol):
    """What this needs of the process; `server.Sidecar` is it."""

    state: str
    started_s: float
    reloader: Reloader
    telemetry: Telemetry
    app_watch: AppWatch
    capture: CaptureWatch
    following: Following | None

    @property
    def identity(self) -> Identity | None:
        """Certificates, if any configuration has asked for TLS."""

    @property
    def token_keys(self) -> TokenKeys | None:
        """Keys for tokens, if any configuration has asked for them."""

    def drain(self) -> None:
        """Fail readiness and let inbound end."""
        ...

    def quit(self) -> None:
        """Drain, then exit."""
        ...


class Views:
    """The process as operators see it; see `sidecar.admin.endpoints.Process` for the methods."""

    __slots__ = ("_app_ports", "_reloads", "_sidecar")

    def __init__(self, sidecar: Running, env: Mapping[str, str]) -> None:
        self._sidecar = sidecar
        self._reloads: set[asyncio.Task[LoadOutcome]] = set()
        self._app_ports = AppPorts(env)

    # --- health and metrics ------------------------------------------------------------------------------------

    def not_ready(self) -> str | None:
        """Why no traffic should come, or None."""
        state, following = self._sidecar.state, self._sidecar.following
        if state == "LIVE":
            identity, capture = self._sidecar.identity, self._sidecar.capture
            if identity is not None:
                why = identity.why_not_ready(is_signed=following is None or not following.follower.is_unsigned)
                if why is not None:
                    return why
            return capture.why_not_ready()
        if state == "DRAINING":
            return "draining"
        if following is not None:
            return following.follower.why_waiting()
        return "starting: no configuration is live and no listener is bound"

    def app_health(self) -> tuple[bool, str]:
        """Whether the app is well, and how it is."""
        return self._sidecar.app_watch.shown()

    async def app_port(self, port: str) -> tuple[bool, str] | None:
        """Whether a port of the app accepts connections."""
        return await self._app_ports.ask(port)

    async def metrics(self, form: Format, *, is_compressed: bool) -> bytes:
        """All metrics."""
        return await self._sidecar.telemetry.scrape(form, is_compressed=is_compressed)

    # --- looking on --------------------------------------------------------------------------------------------

    def add_observer(self, observer: Observer) -> bool:
        """Let somebody look at every exchange that is over; False if MAX_OBSERVERS do already."""
        telemetry = self._sidecar.telemetry
        if len(telemetry.observers) >= MAX_OBSERVERS:
            return False
        telemetry.add_observer(observer)
        return True

    def remove_observer(self, observer: Observer) -> None:
        """Let it look no more."""
        self._sidecar.telemetry.remove_observer(observer)

    async def tap(self, params: Params) -> Tap | None:
        """An open tap; None if too many look on."""
        tap = tap_of(self, params, self._sidecar.reloader.secrets)
        return tap if tap.open() else None

    async def of_worker(self, number: str, request: Request) -> None:
        """This process is the only worker there is."""
        if number != "0":
            raise LookupError(f"no worker {number!r}: there is one process, 0")

    # --- pages -------------------------------------------------------------------------------------------------

    async def server_info(self) -> Mapping[str, object]:
        """Who this is and how it is."""
        sidecar = self._sidecar
        reloader = sidecar.reloader
        live, config = reloader.live, reloader.config
        counts = live.connection_counts() if live is not None else {}
        return {
            "version": __version__,
            "build": build.KIND,
            "state": sidecar.state,
            "uptime_seconds": round(time.time() - sidecar.started_s, 3),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "service": plain(config.service) if config is not None else None,
            "config": reloader.shown(),
            "control": sidecar.following.follower.shown() if sidecar.following is not None else None,
            "listeners": [
                {
                    "role": opened.spec.role.value,
                    "address": opened.spec.address,
                    "bound": opened.bound,
                    "host": _host_of(opened.spec.listener.authority if opened.spec.listener else None),
                    "name": opened.spec.name or None,
                }
                for opened in reloader.listeners.current.values()
            ],
            "capture": sidecar.capture.shown(),
            "connections": {direction.label: counts.get(direction, 0) for direction in Direction},
        }

    async def config_dump(self) -> Mapping[str, object]:
        """The file, what became of it last, and every setting in force with its default, without secrets."""
        reloader = self._sidecar.reloader
        effective = reloader.effective
        # All of one moment: a reload may come between two slices.
        page: dict[str, object] = {
            "file": reloader.path,
            "live": shown_live(reloader.last_good),
            "last_load": reloader.last.shown() if reloader.last is not None else None,
            "effective": None,
            "elsewhere": {},
            "telemetry": reloader.secrets.shown(self._sidecar.telemetry.effective()),
        }
        if effective is not None:
            page["effective"] = await in_slices(effective.everything())
            page["elsewhere"] = await in_slices(effective.local())
        return page

    async def routes_dump(self) -> Mapping[str, object]:
        """Routes of both directions in the order in which they are tried, with every setting and its origin."""
        live, effective = self._sidecar.reloader.live, self._sidecar.reloader.effective
        if live is None or effective is None:
            return {}
        page = await in_slices(effective.routes(live.plan))
        coverage = await in_slices(coverage_of(self._sidecar.telemetry.numbers.scopes))
        return await in_slices(coverage.annotate(page))

    async def requests_dump(self, wish: RequestsWish) -> Mapping[str, object]:
        """The last requests, newest first."""
        reloader = self._sidecar.reloader
        return await in_slices(shown_requests(reloader.recent, wish, reloader.secrets))

    async def upstreams_dump(self) -> Mapping[str, object]:
        """Clusters, their endpoints and what happened there."""
        live, effective = self._sidecar.reloader.live, self._sidecar.reloader.effective
        return {} if live is None or effective is None else await in_slices(effective.upstreams(live.plan))

    async def explain(self, params: Params) -> Mapping[str, object]:
        """Why a request goes where it goes."""
        # What nobody asks is not loaded.
        from sidecar.runtime.insight.explaining import explained

        return await explained(self._sidecar.reloader, params)

    async def certs_dump(self) -> Mapping[str, object]:
        """What is held of certificates, and what is wrong with what came last."""
        identity, keys = self._sidecar.identity, self._sidecar.token_keys
        shown: dict[str, object] = {
            "identity": None, "listeners": [], "upstreams": [], "unverified_upstreams": [],
        }  # fmt: skip
        if identity is not None:
            # Where there is no TLS nothing of it is loaded.
            from sidecar.security.identity.shown import certs

            shown = certs(identity, time.time())
        if keys is not None:
            from sidecar.security.tokens.shown import token_keys

            shown["token_keys"] = token_keys(keys)
        return shown

    # --- switches ----------------------------------------------------------------------------------------------

    async def preview(self, name: str, text: bytes) -> Mapping[str, Any]:
        """What another file would do."""
        try:
            return await self._sidecar.reloader.preview(name, text)
        except PlanSourceError as error:
            raise PreviewError(str(error)) from None

    async def reload(self, *, is_forced: bool = False) -> ReloadReport:
        """Load the file now. Goes on when whoever asked is gone, so that no reload is ever left half done."""
        task = asyncio.get_running_loop().create_task(self._sidecar.reloader.load(FORCE if is_forced else "admin"))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        outcome = await asyncio.shield(task)
        return ReloadReport(outcome.is_ok, outcome.shown())

    def drain(self) -> None:
        """Fail readiness and let inbound end."""
        self._sidecar.drain()

    def quit(self) -> None:
        """Drain, then exit."""
        self._sidecar.quit()

    def log_level(self) -> str:
        """Level of the process log."""
        return process_log.get_level()

    def set_log_level(self, level: str) -> None:
        """Change it; ValueError for a level that there is not."""
        process_log.set_level(level)


def _host_of(host: bytes | None) -> str | None:
    return host.decode("latin-1") if host is not None else None
