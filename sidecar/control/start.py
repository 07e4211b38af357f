"""
The process `sidecar control`: options in, exit code out. *Cold.*

    SIGTERM   `/ready` is 503, streams are told to move and end, then it exits with 0, within `FAREWELL_S`
    SIGINT    exits with 0 at once
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop
from aiohttp import web

from sidecar import build
from sidecar.admin.hosts import AllowedHosts
from sidecar.config.source import SourceError
from sidecar.control.addresses import is_loopback
from sidecar.control.authority.published import PublishedRoots
from sidecar.control.authority.service import AuthorityService
from sidecar.control.collector import keep_aside
from sidecar.control.ending import Ending
from sidecar.control.engines.etcd.engine import EtcdEngine
from sidecar.control.engines.etcd.settings import is_etcd_url, read_settings
from sidecar.control.engines.files import FilesEngine
from sidecar.control.engines.interface import Engine, EngineError, Trouble
from sidecar.control.engines.kubernetes.engine import KubernetesEngine
from sidecar.control.engines.kubernetes.settings import read_settings as read_kubernetes_settings
from sidecar.control.metrics import Counts, Metrics
from sidecar.control.plane import Plane, Settings
from sidecar.control.push.hub import SPREAD_S
from sidecar.control.revision.compiler import Compiler
from sidecar.control.revision.judged import ProblemTold, Rejected
from sidecar.control.server.acceptor import Acceptor
from sidecar.control.server.access import Access, AccessLog
from sidecar.control.server.app import control_app, ops_app
from sidecar.control.server.callers import Callers, Operator
from sidecar.control.server.listening import ListenError, accept_on, listen, maker_of, names_of
from sidecar.control.server.renewals import Renewals
from sidecar.control.server.token import TokenError, Tokens
from sidecar.control.server.unread import logger as of_servers
from sidecar.control.server.watch import MAX_STREAMS, Watching
from sidecar.mesh.source import read_directory
from sidecar.net.address import TcpAddress, parse_address
from sidecar.net.reserve import Reserve
from sidecar.process_log import BoundedStream, event, finish

logger = logging.getLogger(__name__)

FAREWELL_S: Final = 3.0
MAX_TARGET_BYTES: Final = 1024 * 1024
"""Of a request's line: a sidecar says the versions of all endpoints that it has in it."""

ACCEPTED: Final = ("clear", "tls")
IN_CLEAR: Final = ("clear",)
"""Accepted of a mesh whose sidecars have no identity, which is said by just that: `--accept clear`."""

_UNPROTECTED: Final = (
    "whoever sees the traffic reads it and the token; whoever has the token may say that it is any sidecar of the mesh;"
    " put it on a network that you trust"
)


_ETCD_OPTIONS: Final = ("etcd_ca", "etcd_cert", "etcd_key", "etcd_user", "etcd_password_file")
_KUBERNETES_OPTIONS: Final = (
    "publish_roots", "kubernetes", "kubernetes_token_file", "kubernetes_ca", "kubernetes_namespace", "kubernetes_mesh",
)  # fmt: skip


class StartError(Exception):
    """It cannot start; why, and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """
    What the command line says.

    Attributes:
        mesh: Directory or file; empty where the engine has it.
        engine: `files`, `kubernetes`, or the address of etcd.
        state: Folder for what outlives the process; empty: none.
        listen: For sidecars and people; `ops_listen` for probes and scrapers.
        advertise: URL at which other replicas reach this one; empty: made of `listen` where that says it.
        token_file: Empty: none, which only loopback may do.
        operators: `NAME:read|write:FILE` of each that has a token of its own.
        accept: `clear`, `tls` or both, what `listen` takes; empty: both on loopback, else TLS alone. `clear` alone is a
            mesh without identities, which needs no authority.
        creates_ca: Whether the mesh's own authority is made if there is none.
        publish_roots: Name of a ConfigMap with the mesh's roots in each namespace of injected pods; empty: none.
        allowed_hosts: Names by which a listener on loopback may be called besides.
    """

    mesh: str = ""
    engine: str = "files"
    state: str = ""
    listen: str = "127.0.0.1:15010"
    ops_listen: str = "127.0.0.1:15014"
    advertise: str = ""
    token_file: str = ""
    operators: tuple[str, ...] = ()
    accept: str = ""
    creates_ca: bool = False
    publish_roots: str = ""
    spread_s: float = SPREAD_S
    max_streams: int = MAX_STREAMS
    is_now: bool = False
    has_access_log: bool = True
    allowed_hosts: tuple[str, ...] = ()
    replica: str = ""
    etcd_ca: str = ""
    etcd_cert: str = ""
    etcd_key: str = ""
    etcd_user: str = ""
    etcd_password_file: str = ""
    kubernetes: str = ""
    kubernetes_token_file: str = ""
    kubernetes_ca: str = ""
    kubernetes_namespace: str = ""
    kubernetes_mesh: str = ""


def run(options: Options) -> int:
    """Run until a signal; the exit code."""
    try:
        return uvloop.run(_run_with_reserve(options))
    except (StartError, ListenError) as error:
        logger.error(event("not_started", error=error))
        return 1
    finally:
        finish()


async def _run_with_reserve(options: Options) -> int:
    reserve = Reserve(asyncio.get_running_loop())
    reserve.start()
    try:
        return await _run(options)
    finally:
        reserve.stop()


async def check(options: Options) -> tuple[ProblemTold, ...]:
    """
    What is wrong with the mesh's files, warnings aside; nothing is started.

    Raises:
        StartError: The options, or what they name, cannot be used.
    """
    _check_addresses(options)
    compiler = Compiler(has_identity=_accept_of(options) != IN_CLEAR)
    try:
        judged = await compiler.judge(await wanted(options))
    except SourceError as error:
        raise StartError(str(error)) from None
    finally:
        await compiler.close()
    return judged.problems if isinstance(judged, Rejected) else ()


async def wanted(options: Options) -> Mapping[str, bytes]:
    """The mesh's files. Raises StartError, SourceError."""
    engine = engine_of(options)
    if engine.name == "files":
        return read_directory(options.mesh)
    try:
        await engine.open()
        async with aclosing(engine.mesh.follow()) as changes:  # type: ignore[type-var]
            async for change in changes:
                if isinstance(change, Trouble):
                    raise StartError(change.error)
                return change.files
        raise AssertionError("a stream of changes has ended")
    except EngineError as error:
        raise StartError(str(error)) from None
    finally:
        await engine.close()


async def _run(options: Options) -> int:
    tokens = _check_addresses(options)
    operators = _operators(options)
    engine = engine_of(options)
    replica, address = _replica(options), _advertised(options)
    _warn(options, engine.name, address)
    token = (lambda: tokens.first) if tokens is not None else str
    has_identity = _accept_of(options) != IN_CLEAR
    plane = Plane(engine, Settings(replica, address, options.spread_s, options.is_now, token, has_identity))
    service = AuthorityService(
        engine, replica, plane.rollouts.mesh_name, plane.rollouts.services_of, plane.clock, plane.now_s,
        plane.rollouts.lifetime_s, creates=options.creates_ca,
    )  # fmt: skip
    plane.peers.context = service.own.client_context
    plane.authority = service.shown
    ending = Ending()
    async with AsyncExitStack() as stack:
        stack.callback(lambda: logger.info(event("ended")))
        stack.push_async_callback(plane.close)
        stack.push_async_callback(service.close)
        for one in (tokens, *(operator.tokens for operator in operators)):
            if one is not None:
                _beside(stack, one.follow())
        _beside(stack, keep_aside())
        try:
            await plane.open()
            accept = _accepted(options, await service.open())
            service.start()
            if options.publish_roots and isinstance(engine, KubernetesEngine):
                roots = PublishedRoots(engine.client, options.publish_roots, service.trust)
                _beside(stack, roots.run())
            callers = None
            if accept is not None:
                callers = Callers(
                    tokens, operators, service.trust_domain, plane.rollouts.services_of, takes_clear="clear" in accept
                )
            stop, names, ops_names = await _listen_all(stack, options, plane, service, accept, tokens, callers)
            logger.info(
                event("started", release=build.DESCRIPTION, engine=plane.engine.name, replica=replica, listen=names,
                      ops=ops_names, accept=",".join(accept or ("clear",)))
            )  # fmt: skip
            await ending.wait(plane.broken)
            await _say_farewell(plane, stop, ending)
            return 1 if plane.broken.is_set() else 0
        except EngineError as error:
            raise StartError(str(error)) from None


def _warn(options: Options, engine: str, address: str) -> None:
    """Of what works, and not as somebody may think."""
    if engine == "files" and not options.state:
        logger.warning(
            event("state_not_kept", why="without --state a restart forgets revisions and registrations",
                  then="revisions count from 1 again, and endpoints are told when their sidecars returned")
        )  # fmt: skip
        if options.creates_ca:
            logger.warning(event("authority_not_kept", why="without --state it ends with this process",
                                 then="nobody trusts the next one: every sidecar joins anew"))  # fmt: skip
    if engine != "files" and not address:
        logger.warning(event("not_advertised", listen=options.listen, then="rollouts wait while there are others",
                             hint="give --advertise, the URL at which they reach it"))  # fmt: skip


async def _listen_all(
    stack: AsyncExitStack,
    options: Options,
    plane: Plane,
    service: AuthorityService,
    accept: tuple[str, ...] | None,
    tokens: Tokens | None,
    callers: Callers | None,
) -> tuple[Callable[[], Awaitable[None]], str, str]:
    """
    Open both listeners, for sidecars and people and for probes and scrapers; `stack` closes them.

    Returns:
        What stops accepting on the first, and the addresses of both.

    Raises:
        StartError: An address cannot be listened on.
    """
    counts = Counts()
    log = AccessLog(BoundedStream(1) if options.has_access_log else None)
    access = Access(tokens, AllowedHosts(options.listen, options.allowed_hosts), log, counts, callers)
    renewals = Renewals(plane.hub, service.changed_s)
    _beside(stack, renewals.run())
    watching = Watching(plane, counts, max_streams=options.max_streams, renewals=renewals)
    metrics = Metrics(plane, counts, service)
    takes_tls = accept is not None and "tls" in accept

    def why_not_secured() -> str:
        is_lacking = takes_tls and service.own.context() is None
        return "no certificate of its own to show by TLS" if is_lacking else ""

    limits: dict[str, Any] = {"max_line_size": MAX_TARGET_BYTES, "handler_cancellation": True}
    quiet: dict[str, Any] = {"access_log": None, "shutdown_timeout": 0.5, "logger": of_servers}
    ops = web.AppRunner(ops_app(plane, metrics, why_not_secured), **quiet)
    runner = web.AppRunner(control_app(plane, watching, access, service), **quiet, **limits)
    stack.push_async_callback(ops.cleanup)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await ops.setup()
    stop: Callable[[], Awaitable[None]]
    if accept is None:
        stop = (await listen(runner, options.listen)).stop
        names = names_of(runner.addresses)
    else:
        context = service.own.context if takes_tls else lambda: None
        acceptor = Acceptor(maker_of(runner), context, takes_clear="clear" in accept)
        metrics.acceptor = acceptor
        stack.push_async_callback(acceptor.close)
        await accept_on(acceptor, options.listen)
        stop, names = acceptor.close, names_of(acceptor.addresses)
    await listen(ops, options.ops_listen)
    return stop, names, names_of(ops.addresses)


async def _say_farewell(plane: Plane, stop: Callable[[], Awaitable[None]], ending: Ending) -> None:
    """Accept nobody any more, and let who is here go elsewhere."""
    plane.is_draining = True
    logger.info(event("ending", streams=len(plane.hub)))
    await stop()
    for stream in plane.hub:
        stream.end(moves=True)
    loop = asyncio.get_running_loop()
    until_s = loop.time() + FAREWELL_S
    while len(plane.hub) and not ending.is_hasty and loop.time() < until_s:
        await asyncio.sleep(0.02)


def _beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Do this until the process ends."""
    stack.callback(asyncio.create_task(work).cancel)


def engine_of(options: Options) -> Engine:
    """The engine that the options name. Raises StartError."""
    is_kubernetes, is_etcd = options.engine == "kubernetes", is_etcd_url(options.engine)
    if not (options.engine == "files" or is_kubernetes or is_etcd):
        raise StartError(f"expected files, kubernetes or etcd://HOST:PORT,..., found {options.engine!r}")
    if not is_etcd:
        _refuse(options, _ETCD_OPTIONS, "without --engine etcd://...")
    if not is_kubernetes:
        _refuse(options, _KUBERNETES_OPTIONS, "without --engine kubernetes")
    if options.engine == "files":
        if not options.mesh:
            raise StartError("give --mesh: the mesh's directory, or its one file")
        return FilesEngine(options.mesh, read_directory, options.state or None)
    name = "kubernetes" if is_kubernetes else "etcd"
    _refuse(options, ("mesh", "state"), f"with --engine {name}, which keeps that itself; leave it out")
    try:
        return _kubernetes(options) if is_kubernetes else _etcd(options)
    except ValueError as error:
        raise StartError(str(error)) from None


def _refuse(options: Options, names: Iterable[str], why: str) -> None:
    for name in names:
        if getattr(options, name):
            raise StartError(f"--{name.replace('_', '-')} is given {why}")


def _etcd(options: Options) -> Engine:
    settings = read_settings(
        options.engine,
        ca=options.etcd_ca,
        certificate=options.etcd_cert,
        key=options.etcd_key,
        user=options.etcd_user,
        password_file=options.etcd_password_file,
    )
    return EtcdEngine(settings, _replica(options))


def _kubernetes(options: Options) -> Engine:
    settings = read_kubernetes_settings(
        os.environ,
        url=options.kubernetes,
        token_file=options.kubernetes_token_file,
        ca=options.kubernetes_ca,
        namespace=options.kubernetes_namespace,
        mesh=options.kubernetes_mesh,
    )
    return KubernetesEngine(settings, _replica(options))


def _advertised(options: Options) -> str:
    """The URL at which other replicas reach this one: as it is given, else by `--listen` where that says it."""
    if options.advertise:
        parts = urlsplit(options.advertise)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise StartError(f"--advertise: expected a URL such as http://10.0.0.5:15010, found {options.advertise!r}")
        return options.advertise
    listen = parse_address(options.listen)
    assert isinstance(listen, TcpAddress)
    try:
        is_any = ip_address(listen.host).is_unspecified
    except ValueError:
        is_any = not listen.host
    if is_any or is_loopback(listen.host):
        return ""
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{'http' if 'clear' in _accept_of(options) else 'https'}://{host}:{listen.port}"


def _replica(options: Options) -> str:
    return options.replica or socket.gethostname()


def _accepted(options: Options, has_authority: bool) -> tuple[str, ...] | None:
    """What the listener takes; None: in clear, and nobody is known by a certificate. Raises StartError."""
    accept = _accept_of(options)
    if has_authority:
        return accept
    if accept != IN_CLEAR:
        raise StartError(
            "there is no authority that could give certificates: `sidecar mesh ca init` makes it, or --create-ca;"
            " `sidecar mesh ca init --backup FILE` puts back the one that was; --accept clear is a mesh whose sidecars"
            " have no identity"
        )
    return None


def _accept_of(options: Options) -> tuple[str, ...]:
    """What is taken of `clear` and `tls`, in this order. Raises StartError."""
    asked = {part.strip() for part in options.accept.split(",") if part.strip()}
    if asked - set(ACCEPTED):
        raise StartError(f"--accept: expected clear, tls or both with a comma, found {options.accept!r}")
    if not asked:
        asked = set(ACCEPTED if _is_on_loopback(options.listen) else ("tls",))
    return tuple(one for one in ACCEPTED if one in asked)


def _is_on_loopback(address: str) -> bool:
    try:
        parsed = parse_address(address)
    except ValueError:
        return False  # told when it is listened on
    return isinstance(parsed, TcpAddress) and is_loopback(parsed.host)


def _operators(options: Options) -> list[Operator]:
    try:
        return [Operator(one) for one in options.operators]
    except TokenError as error:
        raise StartError(str(error)) from None


def _check_addresses(options: Options) -> Tokens | None:
    is_tls_only = "clear" not in _accept_of(options)
    try:
        tokens = Tokens(options.token_file) if options.token_file else None
    except TokenError as error:
        raise StartError(str(error)) from None
    for address in (options.listen, options.ops_listen):
        try:
            parsed = parse_address(address)
        except ValueError as error:
            raise StartError(str(error)) from None
        if not isinstance(parsed, TcpAddress):
            raise StartError(f"expected host:port, found {address!r}")
        if address == options.listen and not is_loopback(parsed.host) and not is_tls_only:
            if tokens is None:
                raise StartError(
                    f"{address} is not loopback: give --token-file, or everyone who reaches it reads and fakes the mesh"
                )
            logger.warning(event("control_in_clear", listen=address, unprotected=_UNPROTECTED))
    return tokens
