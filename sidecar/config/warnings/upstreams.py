"""Warnings of upstreams that nothing names. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidecar.config.model.root import Config, Upstream
from sidecar.config.model.routes import Route
from sidecar.config.problems import Reporter

_RULE: Final = "upstream-unused"


def warn_of_upstreams(config: Config, report: Reporter) -> None:
    """
    Warn of upstreams to which no request can come, because no route names them and no host leads there.

    Where connections are captured, an upstream takes those to its endpoints, too, so nothing is said; nor of one whose
    endpoints a control plane tells, for its file was made, and has a service whether or not a route leaves it calls.
    """
    if config.capture is not None:
        return
    named = set(named_by_routes(config))
    for name, upstream in config.upstreams.items():
        if name in named or is_told(upstream):
            continue
        if config.outbound is None:
            message = "no route of `inbound` leads here, and without `outbound` nobody calls it by its hosts"
        elif upstream.hosts is not None and not upstream.hosts:
            message = "no route leads here, and it has no `hosts` to be called by"
        else:
            continue
        report(("upstreams", name), message, "name it in a route, or remove it", at_key=True, rule=_RULE)


def is_told(upstream: Upstream) -> bool:
    """Whether a control plane tells its endpoints."""
    return upstream.discover is not None and upstream.discover.name is not None


def named_by_routes(config: Config) -> Iterator[str]:
    """Upstreams that a route of the file sends requests or copies to."""
    for side in (config.inbound, config.outbound):
        for route in side.routes if side is not None else ():
            yield from _named_by(route)


def _named_by(route: Route) -> Iterator[str]:
    yield from (one.upstream for one in route.to or () if one.upstream is not None)
    yield from (one.to for one in route.mirror or ())
