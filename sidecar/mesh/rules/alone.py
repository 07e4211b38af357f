"""Rules of one service that need no other: ports, instances, what it may have at all. *Cold, pure.*"""

from __future__ import annotations

from sidecar.config.check import check_endpoints, check_policy
from sidecar.config.problems import At, Reporter
from sidecar.config.route_rules import check_retry
from sidecar.mesh.hosts import has_port, port_names, port_number
from sidecar.mesh.model.service import Values
from sidecar.mesh.rules.scope import Scope

_OF_SIDECARS = ("app", "ports", "calls", "inbound", "authorization", "identities")
"""What only a service with sidecars of its own can say."""

_HTTPS = ":443"


def check_alone(scope: Scope) -> None:
    """Apply these rules."""
    check_values(scope.service, (), scope)
    _check_outside(scope)
    _check_ports(scope)
    _check_instances(scope)
    _check_protocol(scope)
    for name, call in (scope.service.calls or {}).items():
        check_values(call, ("calls", name), scope)


def check_values(values: Values, at: At, report: Reporter) -> None:
    """Check what `defaults`, a service or `calls` say of the same things."""
    check_policy(values, at, report)
    if values.retry is not None:
        check_retry(values.retry, (*at, "retry"), values.timeout, report)


def _check_outside(scope: Scope) -> None:
    service = scope.service
    if service.dns is not None and service.endpoints is not None:
        scope(("endpoints",), "expected one of `dns` and `endpoints`, found both", at_key=True)
    check_endpoints(service.endpoints or [], ("endpoints",), scope)
    if service.is_outside:
        key = "dns" if service.dns is not None else "endpoints"
        hint = f"with `{key}` it is outside of the mesh; instances of the mesh go under `instances`"
        for name in _OF_SIDECARS:
            if name in service.model_fields_set:
                scope((name,), f"`{name}` has no effect: the service has no sidecars", hint, at_key=True)
    elif service.host is not None:
        scope(("host",), "`host` has no effect without `dns`", "remove it: `Host` is kept in the mesh", at_key=True)
    has_name = service.tls is not None and service.tls.server_name is not None
    if service.host is not None and service.endpoints is not None and not has_name:
        scope(("host",), "`host` has no effect beside `endpoints`", "remove it: `Host` is kept there", at_key=True)
    _check_tls(scope)


def _check_tls(scope: Scope) -> None:
    service = scope.service
    if service.tls is not None:
        if service.tls.identities is not None:
            hint = "remove it: of what is outside of the mesh nobody knows a SPIFFE ID"
            scope(("tls", "identities"), "`identities` has no effect in the mesh's files", hint, at_key=True)
        if not service.is_outside:
            hint = "between sidecars it is `inbound.tls` of the service that is called"
            scope(("tls",), "`tls` has no effect without `dns` or `endpoints`", hint, at_key=True)
    elif service.is_outside:
        places: list[tuple[At, str | None]] = [(("dns",), service.dns)]
        places += ((("instances", name, "dns"), one.dns) for name, one in service.instances.items())
        for at, dns in places:
            if dns is not None and dns.endswith(_HTTPS):
                message = "calls go to the port of HTTPS in clear: there is no `tls`"
                hint = "say `tls: {}` if callers are to speak TLS; an app that does so itself needs none"
                scope(at, message, hint, rule="https-port-in-clear")


def _check_ports(scope: Scope) -> None:
    service = scope.service
    if service.app is not None and service.ports:
        scope(
            ("app",), "expected one of `app` and `ports`, found both", "`app` is short for the port `http`", at_key=True
        )
    numbers: dict[int, str] = {}
    for index, name in enumerate(service.listens):
        number = port_number(service, name)
        if number < 0 and index:
            hint = "let the app listen on a port of its own; only the first may be a Unix socket"
            scope(("ports", name), "callers choose a further port by its number, which a Unix socket has not", hint)
        first = numbers.setdefault(number, name)
        if first != name and number > 0:
            scope(("ports", name), f"{number} is already the number of the port `{first}`", "callers tell them by it")
    for key in ("inbound", "authorization"):
        if getattr(service, key) is not None and not service.listens and not service.is_outside:
            scope((key,), f"`{key}` has no effect without `app`", "such as `app: 127.0.0.1:8080`", at_key=True)


def _check_protocol(scope: Scope) -> None:
    """What speaks no HTTP is called by address and port alone."""
    service = scope.service
    if service.protocol is not None and not service.is_outside:
        hint = 'say it of a port: `ports: {db: {app: "127.0.0.1:5432", protocol: tcp}}`'
        scope(("protocol",), "`protocol` has no effect without `dns` or `endpoints`", hint, at_key=True)
    first = port_names(service)[0]
    if not service.speaks_tcp(first):
        return
    if port_number(service, first) < 0 and not all(map(has_port, service.hosts or [scope.name])):
        hint = "give every one of `hosts` a port"
        scope(("hosts",) if service.hosts else (), "connections are known by their port, which these have not", hint)


def _check_instances(scope: Scope) -> None:
    service = scope.service
    for name, instance in service.instances.items():
        at = ("instances", name)
        if name == scope.name:
            scope(at, "an instance may not be called as its service", "that name means all of them", at_key=True)
        given = instance.given
        if not given:
            hint = "such as `registered: {version: v1}` or `kubernetes: {service: NAME, port: http}`"
            scope(at, "nothing can discover these instances: found none of " + _kinds(instance.kinds), hint)
        elif len(given) > 1:
            scope(at, f"expected one of {_kinds(instance.kinds)}, found " + " and ".join(f"`{one}`" for one in given))
        elif instance.registered is not None and not service.listens:
            hint = "say where the app listens (`app: 127.0.0.1:8080`), or where else they are found"
            if service.is_outside:
                hint = "what is outside of the mesh has no sidecars that could register"
            scope(
                (*at, "registered"), "nothing can discover these instances: the service has no `app`", hint, at_key=True
            )
        elif len(service.listens) > 1 and given[0] in ("etcd", "file"):
            further = list(service.listens)[1:]
            message = f"nothing can discover the port `{further[0]}` of these instances: `{given[0]}` tells one"
            scope((*at, given[0]), message, "make a service of its own of that port", at_key=True)
        check_endpoints(instance.endpoints or [], (*at, "endpoints"), scope)


def _kinds(kinds: tuple[str, ...]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds[:-1]) + f" and `{kinds[-1]}`"
