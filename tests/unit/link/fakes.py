"""A control plane without sockets, and a process that is nothing but what a report says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from sidecar.link.interfaces import LinkState
from sidecar.link.messages import Ask, Config, Current, Line, Watch, read_watch, write_line
from sidecar.link.report import (
    Asked,
    Counted,
    Edge,
    Health,
    IdentityReport,
    Port,
    Refused,
    Report,
    Running,
    read_report,
)
from sidecar.link.transport.http_client import TransportError
from sidecar.link.transport.server import Server
from sidecar.upstream.discovery.endpoint_set import EndpointSet

HASH = "ab" * 16
FILE = Config(7, HASH, "service: shop\n")


class FakeAnswer:
    """Lines at times, then an end: `None` for in order, an error for a cut, nothing for silence."""

    local_host, peer_host = "10.0.0.5", "10.0.0.1"

    def __init__(
        self,
        script: Sequence[tuple[float, Line | bytes | Exception | None]] = (),
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        head_after_s: float = 0.0,
    ) -> None:
        self.head_after_s = head_after_s
        self.status = status
        self.headers = headers or {}
        self.is_closed = False
        self._script = list(script)
        self._began = asyncio.get_running_loop().time()

    async def read(self) -> bytes:
        if not self._script:
            await asyncio.sleep(inf if self.status == 200 and not self.headers.get("etag") else 0)
            return b""
        at_s, what = self._script[0]
        await asyncio.sleep(max(0.0, self._began + at_s - asyncio.get_running_loop().time()))
        self._script.pop(0)
        if isinstance(what, Exception):
            raise what
        if what is None:
            self._script.insert(0, (0.0, None))
            return b""
        return what if isinstance(what, bytes) else write_line(what)

    def close(self) -> None:
        self.is_closed = True


Script = Callable[[Server, str], FakeAnswer]
"""What a server answers to a question, by its target; raises TransportError."""


@dataclass
class FakeTransport:
    """
    Attributes:
        script: Of `GET`.
        report_status: Of reports; 0 for a connection that is cut after the report has arrived.
        asked: Every question: when, of whom, target and fields.
        reports: Every report: when, and what it said.
    """

    script: Script
    report_status: int = 200
    report_body: bytes = b"{}"
    report_takes_s: float = 0.0
    asked: list[tuple[float, str, str, Mapping[str, str]]] = field(default_factory=list)
    reports: list[tuple[float, Report]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    handed_out: list[FakeAnswer] = field(default_factory=list)

    async def ask(
        self, server: Server, method: str, target: str, fields: Mapping[str, str], body: bytes, head_timeout_s: float
    ) -> FakeAnswer:
        now = asyncio.get_running_loop().time()
        if method == "GET":
            self.asked.append((now, str(server), target, dict(fields)))
            answer = self.script(server, target)
            await asyncio.sleep(answer.head_after_s)
            self.handed_out.append(answer)
            return answer
        if target == "/v1/answer":
            self.answers.append(body)
            return FakeAnswer([(0.0, b"{}"), (0.0, None)])
        self.reports.append((now, read_report(body)))
        await asyncio.sleep(self.report_takes_s)
        if not self.report_status:
            raise TransportError("cut")
        return FakeAnswer([(0.0, self.report_body), (0.0, None)], self.report_status)

    async def close(self) -> None:
        """Nothing is open."""

    def times(self) -> list[float]:
        return [when for when, *_ in self.asked]

    def watches(self) -> list[Watch]:
        from urllib.parse import parse_qsl, urlsplit

        return [read_watch(dict(parse_qsl(urlsplit(target).query))) for _, _, target, _ in self.asked]


@dataclass
class FakeProcess:
    """Subject and receiver."""

    config_hash: str = ""
    health_now: Health = "healthy"
    counted: list[Edge] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    configs: list[Config] = field(default_factory=list)
    currents: list[Current] = field(default_factory=list)
    absents: list[str] = field(default_factory=list)
    endpoints: list[tuple[str, str, EndpointSet]] = field(default_factory=list)
    states: list[LinkState] = field(default_factory=list)
    answer_of: Callable[[Ask], Mapping[str, object] | None] = lambda ask: None
    is_broken: bool = False
    renewals: list[float] = field(default_factory=list)
    identity_now: IdentityReport | None = None

    def on_config(self, config: Config) -> None:
        self.configs.append(config)
        if self.is_broken:
            raise RuntimeError("broken")

    def on_current(self, current: Current) -> None:
        self.currents.append(current)

    def on_absent(self, why: str) -> None:
        self.absents.append(why)

    def on_renew(self, within_s: float) -> None:
        self.renewals.append(within_s)

    def on_endpoints(self, upstream: str, version: str, found: EndpointSet) -> None:
        self.endpoints.append((upstream, version, found))

    async def answer(self, ask: Ask) -> Mapping[str, object] | None:
        return self.answer_of(ask)

    def on_state(self, state: LinkState) -> None:
        self.states.append(state)

    def watch(self) -> Watch:
        return Watch("shop", "shop-1", "v1", "a", 1, "0.9", self.config_hash)

    def health(self) -> Health:
        return self.health_now

    def running(self) -> Running:
        return Running(self.config_hash, 7, 1.0, "pushed" if self.config_hash else "")

    def identity_report(self) -> IdentityReport | None:
        return self.identity_now

    def refused(self) -> Refused | None:
        return None

    def ports(self, host: str) -> Mapping[str, Port]:
        return {"http": Port(f"{host}:15000")}

    def weight(self) -> float:
        return 1.0

    async def counts(self) -> Counted:
        counted, self.counted = tuple(self.counted), []
        asked, self.asked = tuple(self.asked), []
        return Counted(counted, asked)
