"""
What the admin and metrics listeners show of a group of workers, and the switches that they turn. *Cold.*

What is the same in all is asked of one; what each has its own of is added up or, where that means nothing, shown by
worker. `?worker=N` asks one of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from sidecar import __version__, build, process_log
from sidecar.admin import live
from sidecar.admin.app_ports import AppPorts
from sidecar.admin.coverage import merge_coverage
from sidecar.admin.endpoints import Params, PreviewError, ReloadReport, Reply, Request, text
from sidecar.admin.recent import RequestsWish, merge_requests
from sidecar.compile.listener_spec import Role
from sidecar.loader.config_loader import FORCE
from sidecar.loader.load_outcome import LoadOutcome, shown_live
from sidecar.loader.plan_source import PlanSourceError
from sidecar.runtime.listeners import Listeners
from sidecar.runtime.mesh.app_watch import AppWatch
from sidecar.telemetry.metrics import exposition, self_metrics
from sidecar.telemetry.metrics.exposition import Format, Section
from sidecar.telemetry.metrics.merge_processes import Processes
from sidecar.telemetry.metrics.report import Reporter
from sidecar.telemetry.resource import INSTANCE_ID
from sidecar.workers.group import Group
from sidecar.workers.member import Member, MemberGoneError
from sidecar.workers.reload import GroupReloader
from sidecar.workers.sockets import Sockets
from sidecar.workers.tap import GroupTap

if TYPE_CHECKING:
    from sidecar.runtime.mesh.following import Following

ASK_LIMIT_S = 10.0
"""What a worker's answer to an operator may take."""


class Running(Protocol):
    """What this needs of the process; `supervisor.Supervisor` is it."""

    state: str
    started_s: float
    path: str
    count: int
    group: Group
    sockets: Sockets
    listeners: Listeners
    reloader: GroupReloader
    app_watch: AppWatch
    following: Following | None

    def why_nobody(self) -> str | None:
        """Why no worker has the identity that it should have, or None."""

    async def load(self, trigger: str) -> LoadOutcome:
        """Put the file in force if it is good."""
        ...

    def drain(self) -> None:
        """Let inbound end."""
        ...

    def quit(self) -> None:
        """Drain, then exit."""
        ...


class GroupViews:
    """The group as operators see it; see `sidecar.admin.endpoints.Process` for the methods."""

    def __init__(self, supervisor: Running, env: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._reloads: set[asyncio.Task[LoadOutcome]] = set()
        self._app_ports = AppPorts(env)
        # What the supervisor has of its own joins what the workers tell.
        self._share = supervisor.group.merged.join()
        self._reporter = Reporter(self_metrics.process_log_losses)
        self._processes = Processes(lambda: [member.pid for member in supervisor.group.live])

    # --- health and metrics ------------------------------------------------------------------------------------

    def not_ready(self) -> str | None:
        """Why no traffic should come, or None: one worker that serves is enough."""
        supervisor = self._supervisor
        if supervisor.state == "LIVE":
            if not supervisor.group.live:
                return "no worker is live; they are being replaced"
            return supervisor.why_nobody()
        if supervisor.state == "DRAINING":
            return "draining"
        if supervisor.following is not None:
            return supervisor.following.follower.why_waiting()
        return "starting: no configuration is live and no listener is bound"

    def app_health(self) -> tuple[bool, str]:
        """Whether the app is well, and how it is."""
        return self._supervisor.app_watch.shown()

    async def app_port(self, port: str) -> tuple[bool, str] | None:
        """Whether a port of the app accepts connections."""
        return await self._app_ports.ask(port)

    async def metrics(self, form: Format, *, is_compressed: bool) -> bytes:
        """All metrics, of all workers together."""
        await self._supervisor.group.report()
        for piece in self._reporter.pieces():
            if piece is not None:
                self._share.take(piece)
        return await exposition.sliced(self._sections(), form, self._processes.exposition, is_compressed=is_compressed)

    def _sections(self) -> Iterator[Section]:
        supervisor = self._supervisor
        group = supervisor.group
        yield from group.merged.sections()
        yield from supervisor.reloader.configuration.sections()
        if supervisor.following is not None:
            yield from supervisor.following.follower.numbers.sections()
        yield from self_metrics.workers(supervisor.count, len(group.live), group.restarts)
        yield from self_metrics.identity(self._resource())

    def _resource(self) -> dict[str, str]:
        """Who the workers say they are, as one."""
        for member in self._supervisor.group.live:
            return {**member.facts.get("resource", {}), "service.instance.id": INSTANCE_ID}
        return {"service.instance.id": INSTANCE_ID}

    # --- asking workers ----------------------------------------------------------------------------------------

    async def of_worker(self, number: str, request: Request) -> Reply | None:
        """One worker's own answer."""
        supervisor = self._supervisor
        members = {str(member.index): member for member in supervisor.group.live}
        if number not in members:
            there = ", ".join(members) or "none"
            raise LookupError(f"no live worker {number!r}: of {supervisor.count} there are {there}")
        query = urlencode([(name, value) for name, value in request.params if name != "worker"])
        target = f"{request.path}?{query}" if query else request.path
        try:
            answer = await self._ask(members[number], request.method, target, request.accept)
        except (MemberGoneError, TimeoutError):
            return text(HTTPStatus.SERVICE_UNAVAILABLE, f"worker {number} does not answer; ask again")
        return Reply(answer.status, answer.body, answer.content_type, answer.headers, answer.stream)

    async def _ask(self, member: Member, method: str, target: str, accept: str = "") -> Any:
        async with asyncio.timeout(ASK_LIMIT_S):
            return await member.ask(method, target, accept)

    async def _page(self, target: str) -> Mapping[str, Any]:
        """A page that is the same in all, from the first that has it."""
        for _, page in await self._pages(target, at_most=1):
            return page
        return {}

    async def _pages(self, target: str, at_most: int = 1 << 30) -> list[tuple[Member, Mapping[str, Any]]]:
        """A page of each worker that answers."""
        found: list[tuple[Member, Mapping[str, Any]]] = []
        for member in self._supervisor.group.live:
            if len(found) >= at_most:
                break
            try:
                answer = await self._ask(member, "GET", target)
            except (MemberGoneError, TimeoutError):
                continue
            found.append((member, json.loads(answer.body)))
        return found

    async def tap(self, params: Params) -> GroupTap | None:
        """One tap for all workers."""
        _, rate, limit = live.wish_of(params)
        tap = GroupTap(params, rate, limit)
        return tap if await tap.open(self._supervisor.group.live) else None

    # --- pages -------------------------------------------------------------------------------------------------

    async def server_info(self) -> Mapping[str, object]:
        """Who this is and how it is; connections of all workers together, and by worker."""
        supervisor = self._supervisor
        pages = await self._pages("/server_info")
        connections: dict[str, int] = {"inbound": 0, "outbound": 0}
        for _, page in pages:
            for direction, count in page["connections"].items():
                connections[direction] += count
        return {
            "version": __version__,
            "build": build.KIND,
            "state": supervisor.state,
            "uptime_seconds": round(time.time() - supervisor.started_s, 3),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "service": pages[0][1]["service"] if pages else None,
            "config": supervisor.reloader.shown(),
            "control": supervisor.following.follower.shown() if supervisor.following is not None else None,
            "listeners": list(self._listeners()),
            "connections": connections,
            "workers": [
                {
                    "worker": member.index,
                    "pid": member.pid,
                    "state": page["state"],
                    "uptime_seconds": page["uptime_seconds"],
                    "connections": page["connections"],
                }
                for member, page in pages
            ],
            "restarts": dict(supervisor.group.restarts),
        }

    def _listeners(self) -> Iterator[dict[str, object]]:
        supervisor = self._supervisor
        for wanted in supervisor.reloader.wanted:
            key = (Role(wanted.role), wanted.address)
            opened = supervisor.sockets.current.get(key) or supervisor.listeners.current.get(key)
            if opened is not None:
                yield {
                    "role": wanted.role,
                    "address": wanted.address,
                    "bound": opened.bound,
                    "host": wanted.host,
                    "name": wanted.name or None,
                }

    async def config_dump(self) -> Mapping[str, object]:
        """The file, what became of it last, and what is in force in all workers."""
        supervisor = self._supervisor
        page = await self._page("/config")
        return {
            **page,
            "file": supervisor.path,
            "live": shown_live(supervisor.reloader.last_good),
            "last_load": supervisor.reloader.last.shown() if supervisor.reloader.last is not None else None,
        }

    async def routes_dump(self) -> Mapping[str, object]:
        """The same in all workers but for how often they were hit, which adds up."""
        return merge_coverage([page for _, page in await self._pages("/routes") if page])

    async def requests_dump(self, wish: RequestsWish) -> Mapping[str, object]:
        """Those of all workers, by time."""
        asked = {"limit": str(wish.limit), **({"request_id": wish.request_id} if wish.request_id else {})}
        pages = await self._pages(f"/requests?{urlencode(asked)}")
        return merge_requests([page for _, page in pages], wish.limit)

    async def upstreams_dump(self) -> Mapping[str, object]:
        """Counts of all workers together, and the health of endpoints as each worker sees it."""
        return merge_upstreams([(member.index, page) for member, page in await self._pages("/upstreams")])

    async def explain(self, params: Params) -> Mapping[str, object]:
        """By the first worker that can; a request that was served is known to one of them."""
        target = f"/explain?{urlencode(params)}"
        why = "no worker is live"
        for member in self._supervisor.group.live:
            try:
                answer = await self._ask(member, "GET", target)
            except (MemberGoneError, TimeoutError):
                continue
            if answer.status == HTTPStatus.OK:
                account: Mapping[str, object] = json.loads(answer.body)
                return account
            why = answer.body.decode().strip()
            if answer.status != HTTPStatus.NOT_FOUND:
                raise ValueError(why)
        raise LookupError(why)

    async def certs_dump(self) -> Mapping[str, object]:
        """Of one worker: each follows the same files."""
        return await self._page("/certs")

    # --- switches ----------------------------------------------------------------------------------------------

    async def preview(self, name: str, text: bytes) -> Mapping[str, Any]:
        """What another file would do with the requests of all workers."""
        try:
            return await self._supervisor.reloader.preview(name, text)
        except PlanSourceError as error:
            raise PreviewError(str(error)) from None

    async def reload(self, *, is_forced: bool = False) -> ReloadReport:
        """Load the file now. Goes on when whoever asked is gone, so that no reload is ever left half done."""
        task = asyncio.get_running_loop().create_task(self._supervisor.load(FORCE if is_forced else "admin"))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        outcome = await asyncio.shield(task)
        return ReloadReport(outcome.is_ok, outcome.shown())

    def drain(self) -> None:
        """Fail readiness and let inbound end, in all workers."""
        self._supervisor.drain()

    def quit(self) -> None:
        """Drain, then exit."""
        self._supervisor.quit()

    def log_level(self) -> str:
        """Level of the process log, the same in all."""
        return process_log.get_level()

    def set_log_level(self, level: str) -> None:
        """Change it, in all; ValueError for a level that there is not."""
        process_log.set_level(level)
        self._supervisor.group.tell("level", level)


_PICKED: Mapping[str, Callable[[Any, Any], Any]] = {
    "ejected": max, "unhealthy": max, "panic": max, "dns_last_success": min,
    "discovery_last_success": min,
}  # fmt: skip
"""Of an upstream's numbers those that mean nothing added up, as in the metrics' catalogue."""
_ADDED = ("active", "idle_connections", "shared_connections", "streams", "connecting")
_SEEN = ("health", "ejected", "probation", "share")


def merge_upstreams(pages: list[tuple[int, Mapping[str, Any]]]) -> dict[str, object]:
    """
    Several workers' `/upstreams` as one: counts add up; what workers may see differently stands under `by_worker`.

    Args:
        pages: With the number of each worker.
    """
    merged: dict[str, Any] = {}
    for index, page in pages:
        for name, cluster in page.items():
            whole = merged.setdefault(name, {**cluster, "endpoints": {}, "stats": {}, "panic": False})
            whole["panic"] = whole["panic"] or cluster["panic"]
            for key, value in cluster["stats"].items():
                have = whole["stats"].get(key)
                rule = _PICKED.get(key, _added) if have is not None else _added
                whole["stats"][key] = rule(have, value)
            for endpoint in cluster["endpoints"]:
                seen = {key: endpoint[key] for key in _SEEN}
                same = {key: value for key, value in endpoint.items() if key not in _SEEN and key not in _ADDED}
                one = whole["endpoints"].setdefault(endpoint["address"], {**same, "by_worker": {}})
                one["by_worker"][str(index)] = seen
                for key in _ADDED:
                    one[key] = one.get(key, 0) + endpoint[key]
    for whole in merged.values():
        whole["endpoints"] = list(whole["endpoints"].values())
    return merged


def _added(total: Any, value: Any) -> Any:
    """Numbers and tables of numbers; of anything else the last."""
    if isinstance(value, Mapping):
        have: Mapping[str, Any] = total or {}
        return {key: _added(have.get(key), value.get(key, 0)) for key in {**have, **value}}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (total or 0) + value
    return value
