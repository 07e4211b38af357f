"""Rules between services: who claims which host, who calls and admits whom. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.config.problems import At, Reporter, did_you_mean
from sidecar.mesh.access.admission import admits
from sidecar.mesh.hosts import has_port, hosts_by_port, hosts_of, in_order
from sidecar.mesh.mesh import callees, can_be_called
from sidecar.mesh.model.words import ANYONE, MESH
from sidecar.mesh.rules.scope import Others, Scope

MAX_IMPLICIT_CALLS: Final = 50
"""More in a file than a team would have written: every one of them is compiled, pushed and discovered."""

_SHOWN_CALLS: Final = 3


def check_hosts(scopes: Sequence[Scope]) -> dict[str, str]:
    """
    A host leads to one service; two that claim it are told of each other.

    Returns:
        The service of each host.
    """
    owners: dict[str, Scope] = {}
    for scope in scopes:
        for host in hosts_of(scope.name, scope.service):
            owner = owners.setdefault(host, scope)
            if owner is not scope:
                for one, other in ((scope, owner), (owner, scope)):
                    _report_host(one, other, host)
    _check_order(scopes)
    return {host: scope.name for host, scope in owners.items()}


def _check_order(scopes: Sequence[Scope]) -> None:
    """Routes for `x:80` come before those for `x`, whoever's they are: two services may not each need to be first."""
    groups = [(scope, hosts) for scope in scopes for hosts in hosts_by_port(scope.name, scope.service).values()]
    for index in sorted(in_order([hosts for _, hosts in groups])[1]):
        scope, hosts = groups[index]
        for position, host in enumerate(scope.service.hosts or []):
            if has_port(host) and host in hosts:
                message = f"`{host}` must come before its host without a port, and that before this service"
                scope(("hosts", position), message, "make a service of its own of that port")


def _report_host(scope: Scope, other: Scope, host: str) -> None:
    declared = scope.service.hosts
    message = f"the host `{host}` is also claimed by `{other.name}` ({_host_place(other, host)})"
    if declared is None:
        hint = "a service without `hosts` is called by its own name; give one of the two `hosts`"
        scope((), message, hint)
    elif host in declared:
        scope(("hosts", declared.index(host)), message, "a host leads to one service: remove it from one of them")
    else:
        scope(("hosts",), message, "the port of the app is called by every host and its number", at_key=True)


def _host_place(scope: Scope, host: str) -> str:
    declared = scope.service.hosts
    if declared is None:
        return scope.where()
    if host in declared:
        return scope.where("hosts", declared.index(host), at_key=False)
    return scope.where("hosts")


def check_calls(scope: Scope, others: Others, scopes: dict[str, Scope]) -> None:
    """Check what a service calls and who it says may call it."""
    _check_callers(scope, others)
    if scope.service.calls is None:
        if not scope.service.is_outside:
            _check_implicit(scope, others)
        return
    for name in scope.service.calls:
        callee = others.services.get(name)
        at = ("calls", name)
        if name == scope.name:
            scope(at, "a service does not call itself by its sidecars", "remove it", at_key=True)
        elif callee is None:
            if name not in others.unread:
                scope(at, f"there is no service `{name}`", did_you_mean(name, others.services), at_key=True)
        elif not can_be_called(callee):
            where = scopes[name].where()
            message = f"nothing can discover `{name}`: it has no `app`, no `instances` and no `dns` ({where})"
            scope(at, message, "say there where it is found", at_key=True)
        elif not admits(callee, scope.name, scope.service, others.access):
            _warn_of_both(scope, scopes[name], name)


def _warn_of_both(caller: Scope, callee: Scope, name: str) -> None:
    said = ("callers",) if callee.service.callers is not None else ()
    why = "" if said else ": the mesh's `access` is `closed`"
    message = f"`{name}` does not admit `{caller.name}` ({callee.where(*said)}){why}"
    caller(
        ("calls", name),
        message,
        "remove the call, or ask to be named in `callers`",
        at_key=True,
        rule="call-not-admitted",
    )
    here = caller.where("calls", name)
    message = f"`{caller.name}` calls `{name}` ({here}) and is not admitted"
    callee(said, message, "add it to `callers`, if it may", at_key=True, rule="call-not-admitted")


def _check_callers(scope: Scope, others: Others) -> None:
    for index, name in enumerate(scope.service.callers or []):
        if isinstance(name, str) and name not in (MESH, ANYONE):
            check_named(name, ("callers", index), scope, others, [MESH, ANYONE])


def check_named(name: str, at: At, report: Reporter, others: Others, words: Sequence[str] = ()) -> None:
    """
    Check a service that is named as who asks.

    Args:
        words: What may stand there as well.
    """
    if name not in others.services:
        if name not in others.unread:
            report(at, f"there is no service `{name}`", did_you_mean(name, [*others.services, *words]))
    elif others.services[name].is_outside:
        hint = "remove it: from there comes nobody who has an identity"
        report(at, f"`{name}` is outside of the mesh and calls nobody", hint, rule="caller-outside")


def _check_implicit(scope: Scope, others: Others) -> None:
    called = callees(scope.name, others.services, others.access)
    if len(called) > MAX_IMPLICIT_CALLS:
        shown = ", ".join(f"{name}: {{}}" for name in called[:_SHOWN_CALLS])
        message = f"without `calls` its sidecars are told of all {len(called)} services that admit it"
        scope((), message, f"name those that it calls: `calls: {{{shown}, ...}}`", rule="calls-not-named")
