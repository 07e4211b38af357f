"""
The process `sidecar inject serve`: options in, exit code out. *Cold.*

    SIGTERM   `/ready` is 503; it goes on serving for `LINGER_S`, in which Services hear of it; then what is open is
              finished, and it exits with 0
    SIGINT    the same, without going on to serve
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import uvloop
from aiohttp import web

from sidecar import build
from sidecar.control.ending import Ending
from sidecar.control.engines.interface import EngineError
from sidecar.control.engines.kubernetes.client import Client
from sidecar.control.engines.kubernetes.settings import KubernetesSettings
from sidecar.control.engines.secrets.kubernetes import KubernetesSecrets
from sidecar.control.server.acceptor import Acceptor
from sidecar.control.server.listening import ListenError, accept_on, listen, maker_of, names_of
from sidecar.control.server.unread import logger as of_servers
from sidecar.inject.kubernetes.refusals import NATIVE_SINCE
from sidecar.inject.wanted import Wanted
from sidecar.process_log import BoundedStream, event, finish
from sidecar.webhook.certificate import Certificate, GivenCertificate, MadeCertificate
from sidecar.webhook.counts import Counts
from sidecar.webhook.desk import Desk, ops_app, review_app
from sidecar.webhook.known import OPS_PORT, PORT
from sidecar.webhook.registration import Registration
from sidecar.webhook.review import Policy
from sidecar.webhook.upkeep import Upkeep

logger = logging.getLogger(__name__)

LINGER_S: Final = 3.0
FAREWELL_S: Final = 6.0
"""In which reviews that are open are finished: the API waits no longer."""

_NUMBER: Final = re.compile(r"([0-9]{1,3})\+?")


class StartError(Exception):
    """It cannot start; why, and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """
    What the command line says.

    Attributes:
        wanted: What is injected; its version of Kubernetes counts if `is_version_given`.
        settings: Where the API is; None: it is not asked for anything.
        listen: For the API; `ops_listen` for probes and scrapers.
        service: Name of the Service by which the API calls us.
        configuration: Name of our MutatingWebhookConfiguration; empty: somebody else tells the API whom to believe.
        certificate, key, ca: Paths; without the first two it makes its own.
        linger_s: How long it goes on after SIGTERM.
    """

    wanted: Wanted = field(default_factory=Wanted)
    is_version_given: bool = False
    settings: KubernetesSettings | None = None
    listen: str = f"0.0.0.0:{PORT}"
    ops_listen: str = f"127.0.0.1:{OPS_PORT}"
    service: str = "sidecar-webhook"
    configuration: str = ""
    certificate: str = ""
    key: str = ""
    ca: str = ""
    has_access_log: bool = True
    linger_s: float = LINGER_S


def run(options: Options) -> int:
    """Run until a signal; the exit code."""
    try:
        return uvloop.run(_run(options))
    except (StartError, ListenError, EngineError) as error:
        logger.error(event("not_started", error=error))
        return 1
    finally:
        finish()


async def _run(options: Options) -> int:
    ending = Ending()
    async with AsyncExitStack() as stack:
        client: Client | None = None
        if options.settings is not None:
            client = Client(options.settings)
            await client.open()
            stack.push_async_callback(client.close)
        wanted = await fitted(options, client)
        certificate = _certificate(options, client)
        registration = None
        if client is not None and options.configuration:
            registration = Registration(client, options.configuration, options.service)
        upkeep = Upkeep(certificate, registration)
        acceptor, names, ops_names, draining = await _serve(stack, options, wanted, client, certificate, upkeep)
        task = asyncio.create_task(upkeep.run())
        stack.callback(task.cancel)
        broken = asyncio.Event()
        task.add_done_callback(lambda _: broken.set())
        logger.info(
            event("started", release=build.DESCRIPTION, listen=names, ops=ops_names,
                  kubernetes=".".join(map(str, wanted.kubernetes)), configuration=options.configuration or None)
        )  # fmt: skip
        await ending.wait(broken)
        if broken.is_set() and not task.cancelled():
            logger.error(event("webhook_broken", error=task.exception()))
            return 1
        draining.set()
        logger.info(event("ending"))
        if not ending.is_hasty:
            await ending.linger(options.linger_s)
        await acceptor.close()
    logger.info(event("ended"))
    return 0


async def _serve(
    stack: AsyncExitStack,
    options: Options,
    wanted: Wanted,
    client: Client | None,
    certificate: Certificate,
    upkeep: Upkeep,
) -> tuple[Acceptor, str, str, asyncio.Event]:
    """Open both listeners, which `stack` closes; what takes connections, addresses, and what makes it not ready."""
    draining = asyncio.Event()

    def why_not_ready() -> str:
        return "it ends" if draining.is_set() else upkeep.why_not_ready()

    exempt = frozenset({client.namespace} if client is not None else ())
    quiet: dict[str, Any] = {"access_log": None, "logger": of_servers}
    counts = Counts(lambda: acceptor.connections, certificate.endings, lambda: upkeep.is_believed)
    lines = BoundedStream(1) if options.has_access_log else None
    if lines is not None:
        stack.callback(lines.finish)  # behind all else: the last reviews have their lines, too
    desk = Desk(Policy(wanted, exempt), counts, lines, draining.is_set)
    ops = web.AppRunner(ops_app(counts, why_not_ready), shutdown_timeout=0.5, **quiet)
    runner = web.AppRunner(review_app(desk), shutdown_timeout=FAREWELL_S, **quiet)
    stack.push_async_callback(ops.cleanup)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await ops.setup()
    acceptor = Acceptor(maker_of(runner), certificate.context, takes_clear=False)
    stack.push_async_callback(acceptor.close)
    await accept_on(acceptor, options.listen)
    await listen(ops, options.ops_listen)
    return acceptor, names_of(acceptor.addresses), names_of(ops.addresses), draining


def _certificate(options: Options, client: Client | None) -> Certificate:
    if options.certificate:
        return GivenCertificate(options.certificate, options.key, options.ca, time.time)
    if client is None:
        raise StartError("without the API of Kubernetes there is no certificate: give --tls-cert and --tls-key")
    return MadeCertificate(KubernetesSecrets(client), f"{options.service}.{client.namespace}.svc", time.time)


async def fitted(options: Options, client: Client | None) -> Wanted:
    """What is wanted, for the cluster that there is. Raises StartError, EngineError."""
    wanted = options.wanted
    if not options.is_version_given:
        if client is None:
            raise StartError("the version of Kubernetes is not known: give --kubernetes-version")
        wanted = replace(wanted, kubernetes=version_of(await client.call("GET", "/version")))
    if not wanted.is_plain and wanted.kubernetes < NATIVE_SINCE:
        found = ".".join(map(str, wanted.kubernetes))
        raise StartError(
            f"native sidecars need Kubernetes 1.29, found {found}: upgrade it, or say --plain; older ones take a native"
            " sidecar for an init container that never ends"
        )
    return wanted


def version_of(said: Any) -> tuple[int, int]:
    """
    What `/version` says: `{"major": "1", "minor": "30"}`, in some clouds `30+`.

    Raises:
        StartError: It says something else.
    """
    numbers = [_NUMBER.fullmatch(str(said.get(name))) for name in ("major", "minor")]
    if any(one is None for one in numbers):
        raise StartError(f"expected a version from the API, found {str(said)[:200]}; give --kubernetes-version")
    major, minor = (int(one[1]) for one in numbers if one is not None)
    return major, minor
