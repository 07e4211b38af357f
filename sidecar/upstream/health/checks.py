"""
Active health checks: a request of our own to every endpoint, every few seconds. *Cold: tasks and streams.*

One task an endpoint. The first result decides at once; after that an endpoint changes sides only after
`unhealthy_threshold` failures or `healthy_threshold` successes in a row. What is known is kept on the endpoint, so it
outlives reloads for as long as the address stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from random import random as system_random
from typing import Protocol, cast

import h11

from sidecar import errors
from sidecar.net import dial
from sidecar.net.descriptors import are_gone, is_local
from sidecar.net.names import Names
from sidecar.net.resolve import ResolveError
from sidecar.net.tls.failures import explain, is_tls
from sidecar.net.tls.handshakes import Handshakes
from sidecar.net.tls.securing import Securing, SecuringError, usable
from sidecar.net.tls.shown import shown_by
from sidecar.upstream.endpoint import Endpoint, Health
from sidecar.upstream.stats import ClusterStats

logger = logging.getLogger("sidecar.upstream")

MAX_BODY_BYTES = 64 * 1024
"""Bytes of a response's body that are searched for `body`; the rest is not read."""

_READ_BYTES = 16 * 1024

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """
    How endpoints are checked.

    Attributes:
        path: Path and query of the request, which is a GET.
        interval_s: Seconds from the begin of a check to the begin of the next.
        timeout_s: Seconds that a check may take, connecting included.
        healthy_threshold: Successes in a row after which an unhealthy endpoint is healthy.
        unhealthy_threshold: Failures in a row after which a healthy endpoint is unhealthy.
        jitter: Part of the interval by which it is shortened at random, so that sidecars do not check in step.
        statuses: Ranges of statuses that are good, `(first, last)` inclusive.
        body: Bytes that the response's body must contain, or None.
        port: Another port than the endpoint's, or None. Not for Unix sockets. By TLS where the endpoint is.
        host: Of the request; None for the endpoint's address.
        headers: Further fields, `(name, value)`.
        grpc_service: Of what grpc.health.v1 is asked, by HTTP/2, in the place of the GET: a service's name, or the
            empty one of the whole server. None: it is not; else `path`, `statuses` and `body` are of no account.
    """

    path: str = "/"
    interval_s: float = 5.0
    timeout_s: float = 2.0
    healthy_threshold: int = 2
    unhealthy_threshold: int = 3
    jitter: float = 0.1
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    body: bytes | None = None
    port: int | None = None
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    grpc_service: str | None = None

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"expected a path that begins with /, found {self.path!r}")
        if not all(isfinite(seconds) and seconds > 0 for seconds in (self.interval_s, self.timeout_s)):
            raise ValueError("expected an interval and a timeout above 0")
        if self.healthy_threshold < 1 or self.unhealthy_threshold < 1:
            raise ValueError("expected thresholds of at least 1")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"expected a jitter from 0 to below 1, found {self.jitter}")
        if self.port is not None and not 0 < self.port < 65536:
            raise ValueError(f"expected a port from 1 to 65535, found {self.port}")
        if not self.statuses or any(not 100 <= low <= high <= 599 for low, high in self.statuses):
            raise ValueError("expected statuses from 100 to 599")
        try:
            self.request("host:1")
        except h11.LocalProtocolError as error:
            raise ValueError(f"expected a request that HTTP/1.1 can carry: {error}") from error

    def request(self, label: str) -> h11.Request:
        """The request for the endpoint with this label."""
        return h11.Request(
            method="GET",
            target=self.path,
            headers=[
                ("Host", self.authority(label)),
                ("User-Agent", "sidecar-health-check"),
                ("Accept", "*/*"),
                ("Connection", "close"),
                *self.headers,
            ],
        )

    def authority(self, label: str) -> str:
        """Whom the endpoint with this label is asked as."""
        return self.host or ("localhost" if label.startswith("unix:") else label)

    def is_expected(self, status: int) -> bool:
        """Whether a status is good."""
        return any(low <= status <= high for low, high in self.statuses)


Probe = Callable[[HealthSpec, Endpoint], Awaitable[str]]
"""Check once: an empty text if all is well, else what is wrong. The caller sets the deadline."""


class Owner(Protocol):
    """What the checks need of their cluster."""

    name: str
    stats: ClusterStats

    def set_health(self, endpoint: Endpoint, health: Health, now: float) -> None:
        """Use the endpoint, or do not."""


class _Opening:
    """
    Opens connections for checks, as requests would have them: by TLS where the endpoint is spoken to so, and then with
    a server that has proved who it is. *Never in clear instead.*

    Args:
        names: Resolves endpoints that are names, as for requests: a name server that hangs holds up no other check.
        handshakes: Lets those by TLS do their steps; default: one of its own.
    """

    __slots__ = ("_handshakes", "_names")

    def __init__(self, names: Names, handshakes: Handshakes | None = None) -> None:
        self._names = names
        self._handshakes = handshakes

    async def _open(self, spec: HealthSpec, endpoint: Endpoint) -> _Streams:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        if not endpoint.is_tls:
            transport: asyncio.BaseTransport = await self._connect(spec, endpoint, lambda: protocol)
        else:
            transport = await self._secure(spec, endpoint, protocol)
        return reader, asyncio.StreamWriter(cast("asyncio.Transport", transport), protocol, reader, loop)

    async def _secure(self, spec: HealthSpec, endpoint: Endpoint, protocol: asyncio.Protocol) -> asyncio.BaseTransport:
        side = usable(endpoint.cluster.tls, endpoint.label)
        if self._handshakes is None:
            self._handshakes = Handshakes(asyncio.get_running_loop())
        gate = self._handshakes
        # Who listens at another port is another server, whose sessions are others.
        label = endpoint.label if spec.port is None else f"{endpoint.label} port {spec.port}"
        begun: Securing | None = None

        def begin() -> asyncio.Protocol:
            nonlocal begun
            begun = Securing(side, label, endpoint.host, gate, lambda: protocol, spec.grpc_service is not None)
            return cast("asyncio.Protocol", begun.transport)

        await self._connect(spec, endpoint, begin)
        assert begun is not None
        try:
            await begun.done
        except asyncio.CancelledError as error:
            begun.transport.abort()
            error.add_note(errors.UPSTREAM_TLS_TIMEOUT.name)
            raise
        except SecuringError:
            begun = None  # it keeps the error, which keeps this frame
            raise
        return cast("asyncio.BaseTransport", begun.transport)

    async def _connect(
        self, spec: HealthSpec, endpoint: Endpoint, factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.BaseTransport:
        loop = asyncio.get_running_loop()
        port = spec.port or endpoint.port
        if endpoint.unix_path is not None:
            return (await loop.create_unix_connection(factory, endpoint.unix_path))[0]
        if endpoint.is_named:
            hosts = await self._names.addresses(endpoint.host, spec.timeout_s / 4)
            connected = await dial.connect(dial.in_turn(hosts, 0), port)
            return (await loop.create_connection(factory, sock=connected))[0]
        return (await loop.create_connection(factory, endpoint.host, port))[0]


class HttpProbe(_Opening):
    """The probe."""

    __slots__ = ()

    async def __call__(self, spec: HealthSpec, endpoint: Endpoint) -> str:
        """
        Send one request on a connection of its own and read the answer as far as it matters.

        The connection is closed however it ends, by cancellation too.

        Raises:
            OSError: Connecting, sending or reading failed.
            ResolveError: The endpoint is a name without an address.
            SecuringError: The server is not whom we want, or there is nothing to speak with it by TLS.
            h11.RemoteProtocolError: The answer is not HTTP/1.1.
        """
        reader, writer = await self._open(spec, endpoint)
        try:
            if spec.grpc_service is not None:
                # Only here: the library that speaks HTTP/2 takes 1.5 MiB, which most sidecars need not have.
                from sidecar.upstream.health.grpc_check import ask

                authority, scheme = spec.authority(endpoint.label), "https" if endpoint.is_tls else "http"
                return await ask(spec.grpc_service, authority, scheme, spec.headers, reader, writer)
            return await _converse(spec, endpoint.label, reader, writer)
        finally:
            # Not close(): nothing that is still unsent is worth waiting for.
            writer.transport.abort()


class ConnectProbe(_Opening):
    """
    The probe of what only has to accept connections, and by TLS to prove who it is; of its spec the request and what is
    expected do not count.

    What the server thinks of our certificate is not seen: in TLS 1.3 it says so after our part of the handshake.
    """

    __slots__ = ()

    async def __call__(self, spec: HealthSpec, endpoint: Endpoint) -> str:
        """
        Connect, and close.

        Raises:
            OSError: It was not possible.
            ResolveError: The endpoint is a name without an address.
            SecuringError: As with `HttpProbe`.
        """
        _, writer = await self._open(spec, endpoint)
        writer.transport.abort()
        return ""


async def _converse(spec: HealthSpec, label: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    connection = h11.Connection(h11.CLIENT)
    writer.write(connection.send(spec.request(label)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            if not spec.is_expected(event.status_code):
                return f"status {event.status_code}"
            if spec.body is None:
                return ""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            if spec.body is not None and spec.body in body:
                return ""
            if len(body) > MAX_BODY_BYTES:
                return f"the expected body is not in the first {MAX_BODY_BYTES} bytes"
        elif not isinstance(event, h11.InformationalResponse):
            return "the body is not the expected one"


class Checks:
    """
    All checks of the process; owned by the registry, which calls `update` when endpoints or settings change.

    Args:
        random: Source of chance for the jitter.
        probe: Checks once.
    """

    __slots__ = ("_ending", "_probe", "_random", "_tasks")

    def __init__(self, random: Callable[[], float] = system_random, probe: Probe | None = None) -> None:
        self._random = random
        self._probe = probe if probe is not None else HttpProbe(Names())
        self._tasks: dict[str, dict[Endpoint, tuple[HealthSpec, asyncio.Task[None]]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Checks [Endpoints: {sum(map(len, self._tasks.values()))}]>"

    def update(self, owner: Owner, spec: HealthSpec | None, endpoints: Iterable[Endpoint]) -> None:
        """
        Check exactly these endpoints of a cluster by this spec; None for no checks. A check that stays goes on.
        """
        before = self._tasks.pop(owner.name, {})
        after: dict[Endpoint, tuple[HealthSpec, asyncio.Task[None]]] = {}
        for endpoint in endpoints if spec is not None else ():
            assert spec is not None
            if endpoint in before and before[endpoint][0] == spec:
                after[endpoint] = before.pop(endpoint)
            else:
                check = self._check_forever(owner, spec, endpoint)
                task = asyncio.create_task(check, name=f"health {owner.name} {endpoint.label}")
                after[endpoint] = (spec, task)
        if after:
            self._tasks[owner.name] = after
        for _, task in before.values():
            self._end(task)

    async def stop(self) -> None:
        """End every check and wait until its socket is closed."""
        for checks in self._tasks.values():
            for _, task in checks.values():
                self._end(task)
        self._tasks.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _check_forever(self, owner: Owner, spec: HealthSpec, endpoint: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        if endpoint.health is not Health.UNKNOWN:  # Known from before a reload: it may wait its turn.
            await asyncio.sleep(spec.interval_s * self._random())
        while True:
            began = loop.time()
            problem = await self._check(owner, spec, endpoint)
            if problem is not None:
                _on_result(owner, spec, endpoint, problem, loop.time())
            period_s = spec.interval_s * (1 - spec.jitter * self._random())
            await asyncio.sleep(max(0.0, began + period_s - loop.time()))

    async def _check(self, owner: Owner, spec: HealthSpec, endpoint: Endpoint) -> str | None:
        """What is wrong with the endpoint, or an empty text; None if it could not be asked, for want of ours."""
        try:
            async with asyncio.timeout(spec.timeout_s):
                return await self._probe(spec, endpoint)
        except TimeoutError as error:
            where = "".join(f"{note}: " for note in getattr(error.__cause__, "__notes__", ()))
            return f"{where}no answer within {spec.timeout_s:g} s"
        except SecuringError as error:
            if error.reason is errors.IDENTITY_MISSING:
                return None  # ours; told where identities are
            return str(error)
        except (OSError, ResolveError) as error:
            if is_tls(error):
                side = endpoint.cluster.tls
                shown = shown_by(side.context) if side is not None else ""
                reason, detail = explain(error, is_client=False, shown=shown)
                return f"{reason.name}: {endpoint.label}: {detail}"
            if is_local(error) or are_gone():
                logger.warning(
                    "health_check_not_made upstream=%s endpoint=%s error=%r", owner.name, endpoint.label, str(error)
                )
                return None
            return str(error) or type(error).__name__
        except h11.RemoteProtocolError as error:
            return f"not HTTP/1.1: {error}"
        except Exception as error:  # A fault of ours must not end the checking for good.
            logger.exception("health_check_broken upstream=%s endpoint=%s", owner.name, endpoint.label)
            return repr(error)


def _on_result(owner: Owner, spec: HealthSpec, endpoint: Endpoint, problem: str, now: float) -> None:
    stats = owner.stats
    stats.health_checks += 1
    stats.health_check_failures += bool(problem)
    health = next_health(spec, endpoint, not problem)
    if health is endpoint.health:
        return
    if problem:
        message = "endpoint_unhealthy upstream=%s endpoint=%s problem=%r"
        logger.warning(message, owner.name, endpoint.label, problem)
    else:
        logger.info("endpoint_healthy upstream=%s endpoint=%s", owner.name, endpoint.label)
    owner.set_health(endpoint, health, now)


def next_health(spec: HealthSpec, endpoint: Endpoint, is_good: bool) -> Health:
    """What an endpoint is after one more result; keeps `endpoint.health_streak`."""
    result = Health.HEALTHY if is_good else Health.UNHEALTHY
    if endpoint.health is Health.UNKNOWN:
        endpoint.health_streak = 0
        return result
    if endpoint.health is result:
        endpoint.health_streak = 0
        return result
    endpoint.health_streak += 1
    if endpoint.health_streak < (spec.healthy_threshold if is_good else spec.unhealthy_threshold):
        return endpoint.health
    endpoint.health_streak = 0
    return result
