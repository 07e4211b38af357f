"""
Every setting in force and where it comes from, for the pages `/routes` and `/upstreams`. *Cold.*

Whoever asks why a request took 15 seconds must not have to know a default by heart: each value stands there with the
line of the file that set it, or with `default`. Durations are seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from sidecar.compile.deserialize import Lines, Section, Written, given, plain
from sidecar.compile.matches import shown
from sidecar.compile.routes import APP, app_of, template_of
from sidecar.compile.time_slices import Steps
from sidecar.exchange import Direction
from sidecar.net.tls.settings import ServerTls, UpstreamTls
from sidecar.proxy.plan import Plan, Side
from sidecar.redact import NO_SECRETS, Secrets
from sidecar.routing.actions import Forward, Redirect, Route, Target
from sidecar.routing.match import Match
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.retry import NO_POLICY
from sidecar.upstream.stats import COUNTS

if TYPE_CHECKING:
    from sidecar.config.model import root as model

Location = tuple[int | str, ...]
Settings = dict[str, dict[str, object]]

_OF_ROUTES = ("timeout", "retry", "rate_limit", "fault", "mirror", "upgrades")
_OF_UPSTREAMS = (
    "load_balancing", "connect_timeout", "idle_timeout", "max_age", "protocol", "http2", "retry_budget",
    "circuit_breaker", "outlier_detection", "health_check", "slow_start", "panic_threshold",
)  # fmt: skip
_OF_SERVER_TLS = ("server_name", "trust", "certificate", "key", "min_version", "verify")
_OF_IDENTITY = {"control": ("from", "keep", "lifetime")}
_OF_ANY_IDENTITY = ("from", "trust_domain")


_HOLDERS = frozenset({"inbound", "outbound", "inbound.authorization"})
_OF_MANY = frozenset({"inbound.routes", "outbound.routes", "inbound.authorization.rules", "upstreams", "tests"})
"""Of what there may be ten thousand; and what holds it."""
_LINES_A_STEP = 64

_IDLE_TIMEOUTS = tuple(f"limits.{name}_idle_timeout" for name in ("client", "stream", "tunnel"))


class Effective:
    """
    The configuration in force, explained; it is decoded anew at each question, which few ask. All of it takes a second
    of ten thousand routes, and therefore steps: the loop is the data path's.

    Attributes:
        file: Name of the file.
        written: What it says, and where.
        secrets: What no page may show.
    """

    __slots__ = ("file", "secrets", "written")

    def __init__(self, file: str, written: Written, secrets: Secrets = NO_SECRETS) -> None:
        self.file = file
        self.written = written
        self.secrets = secrets

    def everything(self) -> Steps[dict[str, object]]:
        """Every setting of the file with its default, ready for JSON."""
        config = yield from self.written.config()
        return (yield from self._section("", config))

    def _section(self, path: str, section: Any) -> Steps[dict[str, object]]:
        shown: dict[str, object] = {}
        for name in section.fields_:
            at, value = f"{path}.{name}".lstrip("."), getattr(section, name)
            if at in _OF_MANY and isinstance(value, list):
                items: list[object] = []
                for one in value:
                    items += self.secrets.under(name, [plain(one)])
                    yield
                shown[name] = items
            elif at in _OF_MANY and isinstance(value, Mapping):
                named: dict[str, object] = {}
                for key, one in value.items():
                    named |= self.secrets.under(name, {key: plain(one)})
                    yield
                shown[name] = named
            elif at in _HOLDERS and value is not None:
                shown[name] = yield from self._section(at, value)
            else:
                shown[name] = self.secrets.under(name, plain(value))
        return shown

    def local(self) -> Steps[dict[str, str]]:
        """Where those settings are written that another file gives than the one that has the rest, by path."""
        lines = yield from self.written.lines()
        found: dict[str, str] = {}
        for number, (at, line) in enumerate(lines.items()):
            if isinstance(line, str):
                found[".".join(map(str, at))] = line
            if not number % _LINES_A_STEP:
                yield
        return {path: line for path, line in found.items() if not any(other.startswith(f"{path}.") for other in found)}

    def routes(self, plan: Plan) -> Steps[dict[str, object]]:
        """Routes of both directions in the order in which they are tried, and the settings of all connections."""
        explained = yield from self._explained()
        return (yield from explained.routes(plan))

    def upstreams(self, plan: Plan) -> Steps[dict[str, object]]:
        """Clusters, their endpoints and what happened there."""
        explained = yield from self._explained()
        return (yield from explained.upstreams(plan))

    def _explained(self) -> Steps[_Explained]:
        config = yield from self.written.config()
        return _Explained(self, config, (yield from self.written.lines()))

    def position(self, route: Route) -> str:
        """`file:line` of a route; empty for one that stands nowhere."""
        return f"{self.file}:{route.line}" if route.line else ""

    def settings_of(self, side: str, route: Route, index: int) -> Steps[Settings]:
        """
        Settings in force for what takes a route, and for the upstreams that it leads to: those as `upstreams.NAME.KEY`.

        Args:
            side: `inbound` or `outbound`.
            index: Of the route among those of its side that stand in the file; else any.
        """
        sides = route.action.targets if isinstance(route.action, Forward) else ()
        targets = {one.name: one.upstream for one in sides if one.redirect is None}
        config, section, lines = yield from self.written.part(side, index if route.line else -1, targets)
        explained = _Explained(self, config, lines)
        found = explained.of_route(route, side, index, section)
        for name, cluster in targets.items():
            settings = explained.of_upstream(cluster)
            found |= {f"upstreams.{name}.{key}": value for key, value in settings.items()}
            yield
        limits = explained.common()
        return found | {name: one for name, one in limits.items() if not name.startswith("drain.")}


class _Explained:
    """The pages of one moment."""

    __slots__ = ("_config", "_file", "_lines", "_secrets", "_shapes")

    def __init__(self, effective: Effective, config: model.Config, lines: Lines) -> None:
        self._file = effective.file
        self._secrets = effective.secrets
        self._config = config
        self._lines = lines
        self._shapes = effective.written.shapes

    def routes(self, plan: Plan) -> Steps[dict[str, object]]:
        """As `Effective.routes`."""
        sides: dict[str, object] = {}
        for side in plan.sides:
            sides[side.direction.label] = yield from self._side(side, plan)
        return sides | {"settings": self.common() | self._identity()}

    def common(self) -> Settings:
        """What holds for all requests."""
        common: Settings = {}
        for name in ("limits", "drain"):
            section = getattr(self._config, name)
            common |= self._settings(section, (name,), section.fields_)
        for name in _IDLE_TIMEOUTS:
            if common[name]["value"] is None:
                common[name] = common["limits.idle_timeout"]
        line = self._lines.get(("via",))
        common["via"] = {"value": self._config.via, "from": self._origin(line)}
        return common

    def upstreams(self, plan: Plan) -> Steps[dict[str, object]]:
        """As `Effective.upstreams`."""
        shown: dict[str, object] = {}
        for name, cluster in plan.clusters.items():
            shown[name] = self._cluster(cluster)
            yield
        return shown

    # --- routes ------------------------------------------------------------------------------------------------

    def _side(self, side: Side, plan: Plan) -> Steps[dict[str, object]]:
        config = self._config.inbound if side.direction is Direction.INBOUND else self._config.outbound
        explicit = config.routes if config is not None else []
        routes: list[dict[str, object]] = []
        for index, route in enumerate(side.table.routes):
            written = explicit[index] if index < len(explicit) else None
            routes.append(self._route(route, side.direction.label, index, written))
            yield
        unmatched: object = "passthrough" if side.passthrough_route is not None else "404"
        if side.fallback is not None:
            unmatched = self._route(side.fallback, side.direction.label, 0, None)
        page: dict[str, object] = {"routes": routes, "unmatched": unmatched}
        if config is not None and side.direction is Direction.INBOUND:
            inbound = cast("model.Inbound", config)
            settings = self._settings(inbound, ("inbound",), ("rate_limit", "forwarded", "upgrades"))
            page["settings"] = settings | self._inbound_tls(inbound)
            listeners = self._outside_tls(inbound)
            if listeners:
                page["listeners"] = listeners
            ports = self._ports(plan)
            if ports:
                page["ports"] = ports
        return page

    def _ports(self, plan: Plan) -> dict[str, object]:
        """By their names, the app's ports that have an app of their own, which routes without `to` lead to, too."""
        assert self._config.inbound is not None
        ports: dict[str, object] = {}
        for index, spec in enumerate(self._config.inbound.listen):
            if spec.app is not None and spec.name is not None:
                fallback = plan.side_of[app_of(spec.name)].fallback
                assert fallback is not None
                at: Location = ("inbound", "listen")  # the one that there is, or the list of them
                line = self._lines.get((*at, index), self._lines.get(at, 1))
                entry = self._route(fallback, Direction.INBOUND.label, 0, None)
                ports[spec.name] = {"from": f"{self._file}:{line}", "unmatched": entry}
        return ports

    def _route(self, route: Route, side: str, index: int, config: model.Route | None) -> dict[str, object]:
        action = route.action
        entry: dict[str, object] = {"name": route.name, "match": [self._match(match) for match in route.matches]}
        template = template_of(route.matches)
        if template:
            entry["http_route"] = self._secrets.hide(template)
        if isinstance(action, Forward):
            missing = action.split.missing() if action.split is not None else ()
            entry["to"] = [
                self._target(target, position, config)
                | ({"left_out": "it has never had an endpoint"} if position in missing else {})
                for position, target in enumerate(action.targets)
            ]
            entry["timeout_s"] = action.timeout_s
            entry["settings"] = self.of_route(route, side, index, config)
        elif isinstance(action, Redirect):
            entry["redirect"] = action.status
        else:
            entry["respond"] = action.status
        if config is not None:
            entry["from"] = self._origin(self._lines.get((side, "routes", index), 1))
        return entry

    def _target(self, target: Target, position: int, config: model.Route | None) -> dict[str, object]:
        """A side of a route, with what is changed of requests that go there: what it says itself, or else the route."""
        if target.redirect is not None:
            return {"redirect": target.redirect.status, "weight": target.weight}
        entry: dict[str, object] = {"upstream": target.name, "weight": target.weight}
        if config is not None and target.rewrite is not None:
            own = config.to[position].rewrite if config.to is not None else None
            entry["rewrite"] = self._secrets.shown(plain(own if own is not None else config.rewrite, has_nones=False))
        return entry

    def of_route(self, route: Route, side: str, index: int, config: model.Route | None) -> Settings:
        """Settings of a route that forwards, which stands there or nowhere; of another there are none."""
        if not isinstance(route.action, Forward):
            return {}
        at: Location = (side, "routes", index) if config is not None else ()
        section = config if config is not None else self._shapes.default("sidecar.config.model.routes.Route")
        settings = self._settings(section, at, _OF_ROUTES)
        if config is None or config.retry is None:
            del settings["retry"]
            settings |= _safe_retries()
        if config is None or config.upgrades is None:
            inbound = self._config.inbound if side == Direction.INBOUND.label else None
            whose = inbound if inbound is not None else self._shapes.default("sidecar.config.model.root.Inbound")
            settings |= self._settings(whose, ("inbound",) if inbound is not None else (), ("upgrades",))
        return settings

    # --- upstreams ---------------------------------------------------------------------------------------------

    def of_upstream(self, cluster: Cluster) -> Settings:
        """Settings of an upstream."""
        spec = cluster.spec
        config = self._config.upstreams.get(cluster.name)
        if config is not None:
            settings = self._settings(config, ("upstreams", cluster.name), _OF_UPSTREAMS)
            settings |= self._upstream_tls(config, ("upstreams", cluster.name), spec.tls)
        else:
            settings = self._settings(self._shapes.default("sidecar.config.model.root.Upstream"), (), _OF_UPSTREAMS)
            if self._config.inbound is not None:
                settings |= self._settings(self._config.inbound, ("inbound",), ("circuit_breaker",))
                settings |= self._app(cluster.name, self._config.inbound)
        if settings["idle_timeout"]["value"] is None:
            settings["idle_timeout"]["value"] = cluster.idle_timeout_s
        return settings

    def _app(self, name: str, inbound: model.Inbound) -> Settings:
        """What is said of an app itself, which may be that of a listener; nothing of what has no address."""
        found: list[tuple[Location, model.App | None]] = [(("inbound", "app"), inbound.app if name == APP else None)]
        for index, spec in enumerate(inbound.listen):
            if spec.name is not None and app_of(spec.name) == name:
                at: Location = ("inbound", "listen")
                at = (*at, index, "app") if (*at, index) in self._lines else (*at, "app")
                found.append((at, spec.app))
        return next((self._settings(app, at, ("protocol",)) for at, app in found if app is not None), {})

    def _cluster(self, cluster: Cluster) -> dict[str, object]:
        spec, stats = cluster.spec, cluster.stats
        settings = self.of_upstream(cluster)
        return {
            "load_balancing": spec.policy,
            "dns": self._secrets.hide(f"{spec.dns[0]}:{spec.dns[1]}") if spec.dns else None,
            "discover": self._secrets.hide(str(spec.discover)) if spec.discover else None,
            "connect_timeout_s": cluster.connect_timeout_s,
            "idle_timeout_s": cluster.idle_timeout_s,
            "mesh_idle_timeout_s": cluster.mesh_idle_timeout_s,
            "settings": settings,
            "panic": cluster.is_panicking,
            "endpoints": [self._endpoint(endpoint) for endpoint in cluster.endpoints],
            "stats": {name: getattr(stats, name) for name in COUNTS},
        }

    def _endpoint(self, endpoint: Endpoint) -> dict[str, object]:
        shared, streams, connecting = endpoint.shared.counts() if endpoint.shared is not None else (0, 0, 0)
        return {
            "address": self._secrets.hide(endpoint.label),
            "weight": endpoint.weight,
            "share": round(endpoint.share, 6),
            "zone": endpoint.zone or None,
            "tls": endpoint.is_tls,
            "health": endpoint.health.name.lower(),
            "ejected": endpoint.ejected_until != 0,
            "probation": endpoint.is_on_probation,
            "active": endpoint.active,
            "idle_connections": len(endpoint.idle),
            "shared_connections": shared,
            "streams": streams,
            "connecting": endpoint.connecting + connecting,
        }

    def _match(self, match: Match) -> dict[str, str]:
        return {condition.part: shown(condition, self._secrets) for condition in match.parts()}

    # --- identity and TLS: paths and names; nothing here has read a key -----------------------------------------

    def _identity(self) -> Settings:
        identity: Any = self._config.identity
        if identity is None:
            return {"identity": {"value": None, "from": "default"}}
        source = getattr(identity, "from")
        names = _OF_IDENTITY.get(source, _OF_ANY_IDENTITY) if isinstance(source, str) else _OF_ANY_IDENTITY
        return self._within("identity", identity, ("identity",), names)

    def _inbound_tls(self, inbound: model.Inbound) -> Settings:
        if inbound.tls is None:
            mode = "off" if self._config.identity is None else "permissive"
            return {"tls.mode": {"value": mode, "from": "default"}}
        names = ("mode", "clear") if inbound.tls.mode == "strict" else ("mode",)
        return self._within("tls", inbound.tls, ("inbound", "tls"), names)

    def _outside_tls(self, inbound: model.Inbound) -> dict[str, Settings]:
        """By their addresses, the listeners for clients outside."""
        found: dict[str, Settings] = {}
        for index, spec in enumerate(inbound.listen):
            if spec.tls is not None:
                names = ("certificates",) if spec.tls.certificates is not None else ("certificate", "key")
                at: Location = ("inbound", "listen")
                at = (*at, index, "tls") if (*at, index) in self._lines else (*at, "tls")
                address = self._secrets.hide(spec.address)
                found[address] = self._within("tls", spec.tls, at, (*names, "client_trust", "min_version"))
        return found

    def _upstream_tls(self, upstream: model.Upstream, at: Location, tls: UpstreamTls | None) -> Settings:
        if upstream.tls is None:
            return {"tls": {"value": None, "from": "default"}}
        if upstream.tls.identities is not None:
            return self._within("tls", upstream.tls, (*at, "tls"), ("identities",))
        found = self._within("tls", upstream.tls, (*at, "tls"), _OF_SERVER_TLS)
        if isinstance(tls, ServerTls) and upstream.tls.server_name is None:
            found["tls.server_name"]["value"] = self._secrets.hide(tls.server_name) or None
        return found

    def _within(self, prefix: str, section: Any, at: Location, names: tuple[str, ...]) -> Settings:
        return {f"{prefix}.{name}": value for name, value in self._settings(section, at, names).items()}

    # --- settings ----------------------------------------------------------------------------------------------

    def _settings(self, section: Any, at: Location, names: tuple[str, ...]) -> Settings:
        prefix = f"{at[0]}." if at in (("limits",), ("drain",)) else ""
        line = self._lines.get(at)
        return {
            prefix + name: {"value": value, "from": origin}
            for name, value, origin in self._flat(section, at, names, line)
        }

    def _flat(
        self, section: Section, at: Location, names: tuple[str, ...], line: int | str | None
    ) -> Iterator[tuple[str, object, str]]:
        """Name, value and origin of each setting; those of a section within it as `section.key`."""
        for name in names:
            value = getattr(section, name)
            is_set = bool(at) and name in given(section)
            here = self._lines.get((*at, name), line) if is_set else None
            if name == "mirror" and value is not None:
                yield from self._each(name, value, (*at, name) if is_set else (), here)
                continue
            if not isinstance(value, Section) or value.is_one_value_:
                yield name, self._secrets.under(name, plain(value, has_nones=False)), self._origin(here)
                continue
            for key, inner, origin in self._flat(value, (*at, name) if is_set else (), value.fields_, here):
                yield f"{name}.{key}", inner, origin

    def _each(
        self, name: str, sections: list[Section], at: Location, line: int | str | None
    ) -> Iterator[tuple[str, object, str]]:
        """As `_flat`, of a list of sections: `name[1].key`, or `name.key` of one that is alone."""
        for index, section in enumerate(sections):
            shown = name if len(sections) == 1 else f"{name}[{index}]"
            # One that is alone may be written without a list.
            place = next((one for one in ((*at, index), at) if one in self._lines), at) if at else ()
            here = self._lines.get(place, line) if at else None
            for key, inner, origin in self._flat(section, place, section.fields_, here):
                yield f"{shown}.{key}", inner, origin

    def _origin(self, line: int | str | None) -> str:
        """As pages show it; a line that is text says its file itself."""
        if line is None:
            return "default"
        return line if isinstance(line, str) else f"{self._file}:{line}"


def _safe_retries() -> Settings:
    """What a route without `retry` does all the same."""
    return {
        "retry.attempts": {"value": NO_POLICY.attempts, "from": "default"},
        "retry.on": {"value": "what cannot have been processed", "from": "default"},
        "retry.per_try_timeout": {"value": None, "from": "default"},
    }
