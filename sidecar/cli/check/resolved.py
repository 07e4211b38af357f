"""The names in a file, looked up: `--resolve`. *Cold.*"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecar.config.load import Loaded
from sidecar.config.model.root import Config
from sidecar.config.problems import At, Problem
from sidecar.config.values.addresses import split_address
from sidecar.config.warnings.ignored import not_ignored
from sidecar.net.resolve import Lookup, ResolveError, Resolver

_RULE = "dns-unresolved"


def unresolved(loaded: Loaded, lookup: Lookup | None = None) -> list[Problem]:
    """
    A warning for each name that has no address, asked from here; takes no longer than the resolver's limit.

    Args:
        lookup: As `net.resolve.Resolver` has it; default: the system's.
    """
    places = [(at, written, host) for at, written, host in _hosts(loaded.config) if not _is_address(host)]
    names = list(dict.fromkeys(host for _, _, host in places))
    answers = dict(zip(names, asyncio.run(_asked(names, lookup)), strict=True))
    warnings = []
    for at, written, name in places:
        why = answers[name]
        if why is not None:
            message = f"`{written}` has no address here: {why}"
            hint = "correct it, or check from a machine that can resolve it"
            warnings.append(loaded.warning_at(at, message, hint, rule=_RULE))
    return not_ignored(warnings, loaded.ignored)


async def _asked(names: list[str], lookup: Lookup | None) -> list[str | None]:
    """Why each has no address, or None; all at once."""
    resolver = Resolver(lookup)

    async def one(name: str) -> str | None:
        try:
            await resolver.resolve(name)
        except ResolveError as error:
            return str(error)
        return None

    try:
        return await asyncio.gather(*(one(name) for name in names))
    finally:
        resolver.close()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _hosts(config: Config) -> Iterator[tuple[At, str, str]]:
    """What is to be connected to: where it stands, as it is written, and its host."""
    for name, upstream in config.upstreams.items():
        if upstream.dns is not None:
            yield from _host(("upstreams", name, "dns"), upstream.dns)
        for index, endpoint in enumerate(upstream.endpoints or ()):
            yield from _host(("upstreams", name, "endpoints", index, "address"), endpoint.address)
    if config.inbound is not None:
        if config.inbound.app is not None:
            yield from _host(("inbound", "app", "address"), config.inbound.app.address)
        for index, spec in enumerate(config.inbound.listen):
            if spec.app is not None:
                yield from _host(("inbound", "listen", index, "app", "address"), spec.app.address)
    traces = config.telemetry.traces
    if traces.otlp_endpoint is not None:
        yield from _host_of_url(("telemetry", "traces", "otlp_endpoint"), traces.otlp_endpoint)
    if config.control is not None:
        for index, url in enumerate(config.control.addresses):
            yield from _host_of_url(("control", "addresses", index), url)


def _host(at: At, address: str) -> Iterator[tuple[At, str, str]]:
    if not address.startswith("unix:"):
        yield at, address, split_address(address)[0]


def _host_of_url(at: At, url: str) -> Iterator[tuple[At, str, str]]:
    host = urlsplit(url).hostname
    if host:
        yield at, url, host
