"""
Routes of the configuration become routes of the data path. *Cold.*

Everything that a request could ask is answered here once: names become clusters, text becomes matchers, edits of a
route and of its destination become one, and telemetry's scopes are bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Protocol

from sidecar.compile import policies
from sidecar.compile.matches import key_of, match
from sidecar.compile.policies import RateLimiters
from sidecar.exchange import Direction
from sidecar.proxy.exchange.policies import BothLimits, RateLimiter
from sidecar.routing.actions import (
    REDIRECT,
    Action,
    Forward,
    HeaderEdits,
    Redirect,
    Rewrite,
    Route,
    Target,
    header_edits,
    make_redirect,
    make_respond,
    make_rewrite,
    make_split,
    merge_edits,
    without_via,
)
from sidecar.routing.match import Match, make_match
from sidecar.upstream.cluster import Cluster

if TYPE_CHECKING:
    from sidecar.config.model import root as model
    from sidecar.telemetry.recorder import Scope

Location = tuple[int | str, ...]
"""Where the models have a value."""

APP = "app"
"""
Name of the implicit upstream behind `inbound.app`, and of the route of what matches no inbound route. Those of a
listener with an app of its own are called `app.NAME` (`app_of`).
"""


class ScopeFactory(Protocol):
    """Binds telemetry; `Telemetry.scope` does."""

    def __call__(
        self, direction: Direction, route: str, upstream: str, server_address: str, http_route: str = ""
    ) -> Scope:
        """The scope of these names; without a template `http_route` is empty."""


def app_of(port: str) -> str:
    """Name of the implicit upstream behind a listener of this name that has an app of its own."""
    return f"{APP}.{port}"


class CompileError(ValueError):
    """
    A value that its own checks accepted cannot be compiled.

    Attributes:
        location: Where it stands.
    """

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(message)
        self.location = location


class RouteCompiler:
    """
    Compiles the routes of one direction.

    Args:
        direction: Which.
        clusters: By name, those of the apps included.
        server_addresses: By cluster, for telemetry; from the new specs, because clusters still have old ones.
        scope: Binds telemetry.
        limiters: Of the process.
        common_limit: What limits all routes of the direction together.
        has_via: Whether `Via` is added to what is forwarded.
        upgrades: Protocols that a request may switch to where its route does not say.
        app: The upstream of routes that say nothing of where a request goes.
        discovering: Upstreams that may have no endpoint yet, and get one later.
        awaiting: Gets the routes with a split among upstreams of which some have had no endpoint yet.
    """

    def __init__(
        self,
        direction: Direction,
        clusters: Mapping[str, Cluster],
        server_addresses: Mapping[str, str],
        scope: ScopeFactory,
        limiters: RateLimiters,
        common_limit: model.RateLimit | None = None,
        *,
        has_via: bool = True,
        upgrades: Sequence[str] = ("websocket",),
        app: str = APP,
        discovering: Set[str] = frozenset(),
        awaiting: list[Route] | None = None,
    ) -> None:
        self._awaiting = awaiting if awaiting is not None else []
        self._discovering = discovering
        self._app = app
        self._upgrades = _names(upgrades)
        self._has_via = has_via
        self._direction = direction
        self._clusters = clusters
        self._server_addresses = server_addresses
        self._scope = scope
        self._limiters = limiters
        whose = "" if app == APP else f"<{app}>"  # no route is called so
        self._common = limiters.limiter(direction, whose, common_limit) if common_limit is not None else None

    def explicit(self, route: model.Route, index: int, line: int = 0) -> Route:
        """
        A route of the file, where it stands in this line.

        Raises:
            CompileError: With the route's location.
        """
        name = route.name if route.name is not None else f"routes[{index}]"
        try:
            matches = tuple(match(one) for one in route.match)
            response_edits = _edits(route.response_headers)
            http_route = template_of(matches)
            action = self._action(name, route, matches, response_edits, http_route)
        except ValueError as error:
            raise CompileError((self._direction.label, "routes", index), str(error)) from None
        if isinstance(action, Forward) and len(action.targets) == 1:
            scope = action.targets[0].scope
        else:
            scope = self._scope(self._direction, name, "", "", http_route)
        compiled = Route(name, matches, action, scope, response_edits, line)
        if isinstance(action, Forward) and action.split is not None and action.split.missing():
            self._awaiting.append(compiled)
        return compiled

    def to_upstream(self, name: str, hosts: Sequence[str]) -> Route:
        """The implicit route to an upstream by the hosts that the app uses; without hosts it takes everything."""
        matches = (make_match(hosts=hosts),) if hosts else ()
        target = self._target(name, self._clusters[name], name, 1.0, None, None)
        action = Forward((target,), rate_limit=self._common, upgrades=self._upgrades)
        return Route(name, matches, action, target.scope)

    @property
    def app(self) -> Cluster | None:
        """Where requests go of which no route says anything, if there is an app."""
        return self._clusters.get(self._app)

    def to_app(self) -> Route | None:
        """The implicit route of what no route takes, if there is an app."""
        return self.to_upstream(self._app, ()) if self._app in self._clusters else None

    def to_cluster(self, name: str, cluster: Cluster) -> Route:
        """A route that takes everything to a cluster that is in no list, such as the one of passthrough."""
        target = self._target(name, cluster, name, 1.0, None, None)
        return Route(name, (), Forward((target,)), target.scope)

    def _action(
        self,
        name: str,
        route: model.Route,
        matches: tuple[Match, ...],
        response_edits: HeaderEdits | None,
        http_route: str,
    ) -> Action:
        redirect, respond = route.redirect, route.respond
        if redirect is not None:
            return _redirect(redirect, matches)
        if respond is not None:
            return make_respond(respond.status, respond.headers, respond.body)
        targets = self._targets(name, route, matches, response_edits, http_route)
        names, weights = [target.name for target in targets], [target.weight for target in targets]
        awaited = [self._clusters[one] if one in self._discovering else None for one in names]
        sticky = key_of(route.sticky) if route.sticky is not None else None
        split = make_split(names, weights, sticky, awaited=awaited)
        return Forward(
            targets,
            split,
            route.timeout,
            retry=policies.retry_policy(route.retry) if route.retry is not None else None,
            fault=policies.fault(route.fault) if route.fault is not None else None,
            mirrors=tuple(policies.mirror(one, self._clusters) for one in route.mirror or ()),
            rate_limit=self._limit(name, route.rate_limit),
            upgrades=self._upgrades if route.upgrades is None else _names(route.upgrades),
        )

    def _targets(
        self,
        name: str,
        route: model.Route,
        matches: tuple[Match, ...],
        response_edits: HeaderEdits | None,
        http_route: str,
    ) -> tuple[Target, ...]:
        request_edits, rewrite = _edits(route.request_headers), _rewrite(route.rewrite, matches)
        if route.to is None:
            app = self._clusters[self._app]
            return (self._target(name, app, self._app, 1.0, request_edits, response_edits, http_route, rewrite),)
        targets: list[Target] = []
        for destination in route.to:
            # Responses pass the destination first and the route last, so the route has the last word.
            own_response_edits = merge_edits(_edits(destination.response_headers), response_edits)
            upstream = destination.upstream
            if upstream is None:
                assert destination.redirect is not None
                redirect = _redirect(destination.redirect, matches)
                scope = self._scope(self._direction, name, "", "", http_route)
                targets.append(
                    Target(REDIRECT, None, destination.weight, None, own_response_edits, scope, redirect=redirect)
                )
                continue
            own_request_edits = merge_edits(request_edits, _edits(destination.request_headers))
            own_rewrite = rewrite if destination.rewrite is None else _rewrite(destination.rewrite, matches)
            cluster, weight = self._clusters[upstream], destination.weight
            targets.append(
                self._target(
                    name, cluster, upstream, weight, own_request_edits, own_response_edits, http_route, own_rewrite
                )
            )
        return tuple(targets)

    def _limit(self, name: str, settings: model.RateLimit | None) -> RateLimiter | BothLimits | None:
        """A route's own limit and that of its direction."""
        if settings is None:
            return self._common
        own = self._limiters.limiter(self._direction, name, settings)
        return own if self._common is None else BothLimits(own, self._common)

    def _target(
        self,
        route: str,
        cluster: Cluster,
        name: str,
        weight: float,
        request_edits: HeaderEdits | None,
        response_edits: HeaderEdits | None,
        http_route: str = "",
        rewrite: Rewrite | None = None,
    ) -> Target:
        if not self._has_via:
            request_edits, response_edits = without_via(request_edits), without_via(response_edits)
        scope = self._scope(self._direction, route, name, self._server_addresses.get(name, name), http_route)
        return Target(name, cluster, weight, request_edits, response_edits, scope, rewrite)


def _redirect(redirect: model.Redirect, matches: tuple[Match, ...]) -> Redirect:
    return make_redirect(
        matches,
        status=redirect.status,
        scheme=redirect.scheme,
        host=redirect.host,
        port=redirect.port,
        path=redirect.path,
        prefix=redirect.prefix,
    )


def template_of(matches: Sequence[Match]) -> str:
    """
    What `http.route` says of all requests of a route: the template of all its matches.

    Empty where a match has none or another one: which of several a request took is nowhere kept, and what telemetry
    binds in advance it binds for a route.
    """
    templates = {match.path.http_route if match.path is not None else "" for match in matches}
    return templates.pop() if len(templates) == 1 else ""


def _names(words: Sequence[str]) -> frozenset[bytes]:
    return frozenset(word.encode() for word in words)


def _edits(edits: model.HeaderEdits | None) -> HeaderEdits | None:
    return header_edits(edits.set, edits.add, edits.remove) if edits is not None else None


def _rewrite(rewrite: model.Rewrite | None, matches: tuple[Match, ...]) -> Rewrite | None:
    if rewrite is None:
        return None
    regex = (rewrite.regex.pattern, rewrite.regex.substitution) if rewrite.regex is not None else None
    return make_rewrite(matches, host=rewrite.host, path=rewrite.path, prefix=rewrite.prefix, regex=regex)
