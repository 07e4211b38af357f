"""
Rules between values: what each of them may be by itself, but not together. *Cold, pure.*

Each rule reports at a location of the models; `Report` finds the place in the file and drops what is only a
consequence of a value that is wrong by itself.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence

from sidecar.config.authorization_rules import DEFAULT, check_authorization, check_requester, trust_domain_of
from sidecar.config.concealed import concealed
from sidecar.config.inbound_rules import APP, all_have_apps, app_names, check_inbound
from sidecar.config.listen_rules import check_listened_protocols
from sidecar.config.model.resilience import HealthCheck
from sidecar.config.model.root import Config, EndpointSpec, Hash, RoutingTest, Upstream, UpstreamPolicy
from sidecar.config.model.routes import Route
from sidecar.config.model.routing_tests import Case, Expectation
from sidecar.config.problems import At, Problem, Reporter, did_you_mean
from sidecar.config.route_rules import check_key_source, check_rate_limit, check_route
from sidecar.config.tls_rules import check_tls
from sidecar.config.values.addresses import split_address
from sidecar.config.warnings.addresses import warn_of_addresses
from sidecar.config.warnings.limits import warn_of_limits, warn_of_policy
from sidecar.config.warnings.upstreams import warn_of_upstreams
from sidecar.config.yaml.document import Node
from sidecar.config.yaml.places import Location, locate, place_of_key

RESERVED_UPSTREAM = "passthrough"
"""What telemetry calls the destination of requests that are sent as addressed."""


class Report:
    """
    Collects the problems of the rules.

    Args:
        root: The tree, whose nodes know their files.
        blamed: Places at which values are wrong by themselves.

    Attributes:
        problems: For which the file is refused.
        warnings: For which it is not.
    """

    def __init__(self, root: Node, blamed: Iterable[tuple[int | str, ...]]) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._root = root
        self._blamed = set(blamed)
        self._around_blamed = {keys[:length] for keys in self._blamed for length in range(len(keys) + 1)}

    def __call__(
        self, location: Location, message: str, hint: str = "", *, at_key: bool = False, rule: str = ""
    ) -> None:
        """Report at a value, or at its key; silent where a part of the value, or what holds it, is wrong by itself."""
        place = (place_of_key if at_key else locate)(self._root, location)
        keys = place.keys
        if keys in self._around_blamed or any(keys[:length] in self._blamed for length in range(len(keys))):
            return
        mark = place.mark
        severity, found = ("warning", self.warnings) if rule else ("error", self.problems)
        said, advice = concealed(place, message, hint)
        found.append(Problem(mark.file, mark.line, mark.column, place.path, said, advice, severity, rule))


def check(config: Config, report: Report, *, is_whole: bool = True, is_to_run: bool = False) -> None:
    """
    Apply every rule to what could be understood of a file.

    Args:
        is_whole: It is no local file, which says only what concerns the machine.
        is_to_run: It is about to be put in force here, and nothing will be added to it.
    """
    _check_sides(config, report, is_whole)
    _check_listeners(config, report)
    check_listened_protocols(config, report)
    for name, upstream in config.upstreams.items():
        _check_upstream(name, upstream, config, report)
    check_tls(config, report, is_to_run=is_to_run)
    _check_hosts(config, report)
    upstreams = frozenset(config.upstreams)
    for side, routes in _routes(config):
        names: dict[str, int] = {}
        for index, route in enumerate(routes):
            at = (side, "routes", index)
            needs_action = side == "outbound" or config.inbound is None or not all_have_apps(config.inbound)
            if config.limits.headers_with_underscores == "drop":
                _check_underscores(route, at, report)
            check_route(route, at, upstreams, report, needs_action=needs_action, earlier=routes[:index])
            if route.name is not None:
                first = names.setdefault(route.name, index)
                if first != index:
                    message = f"the name `{route.name}` is already that of {side}.routes[{first}]"
                    report((*at, "name"), message, "names tell routes apart in metrics, logs and tests")
    _check_tests(config, report)
    warn_of_limits(config, report)
    warn_of_addresses(config, report)
    if is_whole:
        warn_of_upstreams(config, report)


def _check_underscores(route: Route, at: tuple[str, str, int], report: Report) -> None:
    """No route can see what is dropped before it is chosen."""
    for index, match in enumerate(route.match):
        for name in match.headers:
            if "_" in name:
                message = f"requests come here without `{name}`: `limits.headers_with_underscores` is `drop`"
                hint = "spell it with `-`, or let such fields pass"
                report((*at, "match", index, "headers", name), message, hint, at_key=True, rule="header-dropped")


def _routes(config: Config) -> list[tuple[str, list]]:  # type: ignore[type-arg]
    sides = (("inbound", config.inbound), ("outbound", config.outbound))
    return [(name, side.routes) for name, side in sides if side is not None]


def _check_sides(config: Config, report: Report, is_whole: bool) -> None:
    if is_whole and config.inbound is None and config.outbound is None and config.capture is None:
        report((), "expected `inbound`, `outbound` or both, found neither", "there is nothing to listen for")
    check_inbound(config, report, is_whole=is_whole)
    if config.inbound is not None and config.inbound.rate_limit is not None:
        check_rate_limit(config.inbound.rate_limit, ("inbound", "rate_limit"), report)
    if config.inbound is not None and config.inbound.health_check is not None:
        check_health(config.inbound.health_check, ("inbound", "health_check"), report)
    if config.inbound is not None and config.inbound.forwarded is not None:
        forwarded = config.inbound.forwarded
        if (forwarded.trusted_hops is None) == (forwarded.trusted_networks is None):
            found = "neither" if forwarded.trusted_hops is None else "both"
            message = f"expected one of `trusted_hops` and `trusted_networks`, found {found}"
            report(("inbound", "forwarded"), message, "such as `trusted_hops: 1` behind one load balancer", at_key=True)
    if config.inbound is not None and config.inbound.authorization is not None:
        at = ("inbound", "authorization")
        check_authorization(config.inbound.authorization, at, report, trust_domain_of(config))
    for key in ("bootstrap", "state"):
        if config.control is None and getattr(config, key) is not None:
            report(
                (key,), f"`{key}` has no effect without `control`", "remove it, or name a control plane", at_key=True
            )
    if config.drain.delay and config.drain.delay >= config.drain.timeout:
        hint = "the delay is part of the timeout, and what is in flight needs the rest"
        report(("drain", "delay"), "not shorter than `drain.timeout`", hint, at_key=True)


def _check_listeners(config: Config, report: Report) -> None:
    """No two listeners may want the same address: the second could not be bound."""
    wanted: list[tuple[tuple[int | str, ...], str, str]] = []
    for name, side in (("inbound", config.inbound), ("outbound", config.outbound)):
        if side is not None:
            wanted += [((name, "listen", i, "address"), spec.address, name) for i, spec in enumerate(side.listen)]
    if config.capture is not None:
        # The same address for who is captured and who comes by address is one listener.
        own = {spec.address for spec in config.outbound.listen} if config.outbound is not None else set()
        captured = [("outbound", i, one) for i, one in enumerate(config.capture.outbound) if one not in own]
        captured += [("inbound", i, one) for i, one in enumerate(config.capture.inbound)]
        wanted += [(("capture", key, i), one, f"capture.{key}") for key, i, one in captured]
    wanted += [(("admin", "listen", i), address, "admin") for i, address in enumerate(config.admin.listen)]
    metrics = config.telemetry.metrics.listen
    wanted += [(("telemetry", "metrics", "listen", i), one, "telemetry.metrics") for i, one in enumerate(metrics)]
    by_port: dict[int, list[tuple[str, str, str]]] = {}
    for location, address, owner in wanted:
        host, port = split_address(address)
        for other_host, other_address, other_owner in by_port.setdefault(port, []):
            if port == 0 and (owner != other_owner or host != other_host):
                continue  # the system chooses two different ports
            if _overlap(host, other_host):
                message = f"`{address}` is already listened on as `{other_address}` by `{other_owner}`"
                report(location, message, "give each listener an address of its own")
                break
        by_port[port].append((host, address, owner))


def _overlap(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        first, second = (ipaddress.ip_address(host.strip("[]")) for host in (one, other))
    except ValueError:
        return False
    same_family = first.version == second.version
    return first == second or (same_family and (first.is_unspecified or second.is_unspecified))


def _check_upstream(name: str, upstream: Upstream, config: Config, report: Report) -> None:
    at = ("upstreams", name)
    if name == RESERVED_UPSTREAM:
        hint = "rename it, and keep `hosts: [passthrough]`"
        report(at, "the name `passthrough` means requests that are sent as addressed", hint, at_key=True)
    owner = app_names(config.inbound).get(name)
    if owner is not None:
        hint = f"rename it, and keep `hosts: [{name}]`"
        report(at, f"the name `{name}` means the app behind `{owner}`", hint, at_key=True)
    given = [key for key in ("endpoints", "dns", "discover") if getattr(upstream, key) is not None]
    if len(given) != 1:
        found = " and ".join(f"`{key}`" for key in given) or "none"
        hint = "" if given else 'such as `endpoints: ["10.0.0.11:8080"]` or `dns: name:8080`'
        report(at, f"expected one of `endpoints`, `dns` and `discover`, found {found}", hint, at_key=True)
    discover = upstream.discover
    if discover is not None and (discover.name is None) == (discover.file is None):
        found = "neither" if discover.name is None else "both"
        report((*at, "discover"), f"expected one of `name` and `file`, found {found}", at_key=True)
    check_policy(upstream, at, report)
    check_endpoints(upstream.endpoints or [], (*at, "endpoints"), report)


def check_endpoints(endpoints: Sequence[EndpointSpec], at: At, report: Reporter) -> None:
    """Check the addresses of one upstream."""
    if endpoints and not any(endpoint.weight for endpoint in endpoints):
        report(at, "the weights sum to 0", "give at least one endpoint a positive weight")
    for address, count in Counter(endpoint.address for endpoint in endpoints).items():
        if count > 1:
            index = [endpoint.address for endpoint in endpoints].index(address)
            report((*at, index), f"`{address}` comes {count} times", "use `weight` to give it more")


def check_policy(upstream: UpstreamPolicy, at: At, report: Reporter) -> None:
    """Check how the servers of one upstream are used."""
    if isinstance(upstream.load_balancing, Hash):
        check_key_source(upstream.load_balancing.hash, (*at, "load_balancing", "<mapping>", "hash"), report)
    outlier, health = upstream.outlier_detection, upstream.health_check
    if (
        outlier is not None
        and "max_ejection_time" in outlier.model_fields_set
        and outlier.max_ejection_time < outlier.base_ejection_time
    ):
        here = (*at, "outlier_detection", "max_ejection_time")
        report(here, "shorter than `base_ejection_time`", "no ejection is shorter than the first", at_key=True)
    if health is not None:
        check_health(health, (*at, "health_check"), report)
    warn_of_policy(upstream, at, report)


def check_health(health: HealthCheck, at: At, report: Reporter) -> None:
    """Check how somebody is asked how he is."""
    if health.jitter >= 100:
        report((*at, "jitter"), "expected less than 100%", "checks would follow without a pause")
    if health.grpc is not None:
        for key in ("path", "expected_statuses", "expected_body"):
            if key in health.model_fields_set:
                hint = "a call of gRPC has a path of its own, and says how it is: remove one of them"
                report((*at, key), f"`{key}` has no effect beside `grpc`", hint, at_key=True)


def _check_hosts(config: Config, report: Report) -> None:
    """A host leads to one upstream."""
    owners: dict[str, str] = {}
    for name, upstream in config.upstreams.items():
        hosts = [name.lower().removesuffix(".")] if upstream.hosts is None else upstream.hosts
        for index, host in enumerate(hosts):
            owner = owners.setdefault(host, name)
            if owner != name:
                own = upstream.hosts is None
                hint = "an upstream without `hosts` is called by its own name; `hosts: []` gives it none" if own else ""
                location = ("upstreams", name) if own else ("upstreams", name, "hosts", index)
                message = f"the host `{host}` already belongs to the upstream `{owner}`"
                report(location, message, hint, at_key=own)


def _check_tests(config: Config, report: Report) -> None:
    routes = {route.name for _, side in _routes(config) for route in side if route.name is not None}
    check_tests(config.tests, report)
    for index, test in enumerate(config.tests):
        for case in test.cases():
            _check_expectation(case, ("tests", index), routes, config, report)


def check_tests(tests: Sequence[RoutingTest], report: Reporter) -> None:
    """Check that every test has a name of its own, and expects something."""
    names: dict[str, int] = {}
    for index, test in enumerate(tests):
        at = ("tests", index)
        first = names.setdefault(test.name, index)
        if first != index:
            report((*at, "name"), f"the name `{test.name}` is already that of tests[{first}]")
        for case in test.cases():
            if all(getattr(case.expect, key) is None for key in Expectation.model_fields):
                place = (*at, *case.at) if case.at else (*at, "expect")
                words = [f"`{key}`" for key in Expectation.model_fields]
                report(place, f"expected {', '.join(words[:-1])} or {words[-1]}, found none", at_key=True)


def _check_expectation(case: Case, at: At, routes: set[str], config: Config, report: Report) -> None:
    """Every name that is expected must be one of the file's; `at` leads to what says it."""
    expect = case.expect
    at_request, at_expect = ((*at, *case.at), (*at, *case.at)) if case.at else ((*at, "request"), (*at, "expect"))
    implied = {APP, RESERVED_UPSTREAM, *app_names(config.inbound)}
    if expect.to is not None and expect.to not in config.upstreams and expect.to not in implied:
        hint = did_you_mean(expect.to, config.upstreams)
        report((*at_expect, "to"), f"there is no upstream `{expect.to}`", hint)
    for upstream in expect.split or ():
        if upstream not in config.upstreams and upstream not in implied:
            hint = did_you_mean(upstream, config.upstreams)
            report((*at_expect, "split", upstream), f"there is no upstream `{upstream}`", hint, at_key=True)
    known = {*routes, *config.upstreams, *implied}
    if expect.route is not None and expect.route not in known:
        hint = did_you_mean(expect.route, sorted(routes))
        report((*at_expect, "route"), f"there is no route `{expect.route}`", hint)
    if case.request.requester is not None:
        check_requester(case.request.requester, (*at_request, "from"), report, trust_domain_of(config))
    authorization = config.inbound.authorization if config.inbound is not None else None
    rules = [rule.name for rule in authorization.rules] if authorization is not None else []
    if expect.rule is not None and expect.rule not in (*rules, DEFAULT):
        report((*at_expect, "rule"), f"there is no rule `{expect.rule}`", did_you_mean(expect.rule, rules))
