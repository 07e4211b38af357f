"""
From a workload to the edits that give it a sidecar. *Pure: no text, no files; a webhook decides by the same.*

            initContainers                             containers
    native  sidecar-capture, sidecar, its own ...      its own ...
    plain   its own ..., sidecar-capture               sidecar, its own ...

Native, the sidecar is ready before the workload's own init containers run, which are captured like all that comes
after. Plain, it starts with the app; captured before, init containers would speak to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sidecar.inject.edits import Edit, Path, Value, at, entries_added, items_added
from sidecar.inject.kubernetes import containers as made
from sidecar.inject.kubernetes import probes, refusals
from sidecar.inject.kubernetes.pods import Container, containers_of, listed, mapping, ports_of
from sidecar.inject.kubernetes.services import Service, aimed_at
from sidecar.inject.kubernetes.workloads import Workload
from sidecar.inject.said import NO_PORT, Said, bad_service, read
from sidecar.inject.wanted import INBOUND, PREFIX, PROXY_ENV, WISH, Decision, Finding, Wanted

_SERVICE_LABELS: Final = ("app.kubernetes.io/name", "app")
_VERSION_LABELS: Final = ("app.kubernetes.io/version", "version")
_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"


def decide(document: Value, workload: Workload, wanted: Wanted, services: Sequence[Service] = ()) -> Decision:
    """
    What is to be done with one workload.

    Args:
        document: All of it, without what an earlier injection added.
        services: Of the same file.
    """
    name = f"{workload.kind} {workload.name}".rstrip()
    template, spec = workload.template, (*workload.template, "spec")
    annotations = (*template, "metadata", "annotations")
    problems = list(refusals.shape(document, template))
    if problems:
        return Decision(name, template, workload.path, problems=tuple(problems))
    if wanted.is_captured is None:
        wanted = replace(wanted, is_captured=True)
    said, problems = read(at(document, annotations), wanted, annotations)
    if said.is_wanted is False and not problems:
        return Decision(name, template, workload.path, told=(f'left as it is: {WISH} is "false"',))
    # The API's selectors go by labels, so there is one for the webhook; who says no by either means it.
    if not problems and _label(document, workload, (WISH,)) == "false":
        return Decision(name, template, workload.path, told=(f'left as it is: the label {WISH} is "false"',))
    problems += refusals.misplaced(document, workload, PREFIX)
    problems += refusals.how(said, workload, template)
    problems += refusals.place(document, spec)
    problems += refusals.names_and_ports(document, spec)
    if said.wanted.is_captured:
        problems += refusals.users(document, spec)
    service = _service(document, workload, said, problems)
    app_port = _app_port(document, workload, said, services, problems)
    if problems:
        return Decision(name, template, workload.path, problems=tuple(problems))
    return _decided(document, workload, said, service, app_port)


def _decided(document: Value, workload: Workload, said: Said, service: str, app_port: str) -> Decision:
    wanted = said.wanted
    spec = (*workload.template, "spec")
    found = list(containers_of(document, spec))
    asked = probes.judge(found, wanted.exclude_inbound) if wanted.is_captured else probes.Probes()
    names = frozenset(port.name for container in found for port in ports_of(container) if port.name)
    version = said.version or _label(document, workload, _VERSION_LABELS)
    pod = made.Pod(wanted, service, version, "" if app_port == NO_PORT else app_port, sorted(asked.ports), names)
    edits: list[Edit] = [*_containers(document, spec, pod), *asked.edits]
    edits += items_added(document, (*spec, "volumes"), made.volumes(wanted), before="containers")
    if "terminationGracePeriodSeconds" not in mapping(at(document, spec)):
        edits += entries_added(document, spec, {"terminationGracePeriodSeconds": made.GRACE_S})
    told = list(_told(document, workload, said, found, pod))
    if asked.requests:
        told.append(
            f"probes by HTTP come through the sidecar ({', '.join(asked.requests)}); where inbound.tls is strict they "
            "belong into inbound.tls.clear"
        )
    if wanted.has_proxy_env:
        edits += _proxy_env(document, found, told)
    annotations = (*workload.template, "metadata", "annotations")
    default = _default_container(document, workload.template, said)
    return Decision(
        name=f"{workload.kind} {workload.name}".rstrip(),
        path=workload.template,
        at=workload.path,
        added=_added(pod),
        edits=_marking(document, tuple(edits), annotations, default),
        told=tuple(told),
    )


def _marking(
    document: Value, edits: tuple[Edit, ...], annotations: Path, default: str
) -> Callable[[Mapping[str, str]], tuple[Edit, ...]]:
    """All edits, the annotations among them."""

    def marked(marks: Mapping[str, str]) -> tuple[Edit, ...]:
        added = {_DEFAULT_CONTAINER: default, **marks} if default else marks
        return (*edits, *entries_added(document, annotations, added, before="spec"))

    return marked


def _default_container(document: Value, template: Path, said: Said) -> str:
    """The app's first container, at which `kubectl logs` and `exec` are to stay; empty where they do of themselves."""
    first = mapping(next(iter(listed(at(document, (*template, "spec", "containers")))), None)).get("name")
    annotations = mapping(at(document, (*template, "metadata", "annotations")))
    is_needed = said.wanted.is_plain and _DEFAULT_CONTAINER not in annotations
    return first if is_needed and isinstance(first, str) else ""


def _containers(document: Value, spec: Path, pod: made.Pod) -> Iterator[Edit]:
    wanted = pod.wanted
    init, app = (*spec, "initContainers"), (*spec, "containers")
    capture = [made.capture(wanted)] if wanted.is_captured else []
    if wanted.is_plain:
        yield from items_added(document, init, capture, before="containers")
        yield from items_added(document, app, [made.sidecar(pod)], at_start=True)
    else:
        yield from items_added(document, init, [*capture, made.sidecar(pod)], at_start=True, before="containers")


def _proxy_env(document: Value, containers: list[Container], told: list[str]) -> Iterator[Edit]:
    for container in containers:
        if container.is_init and not container.is_native:
            continue
        names = {mapping(one).get("name") for one in listed(container.value.get("env"))}
        if names & set(PROXY_ENV):
            told.append(f"{container.name} has a proxy of its own in its environment, which stays")
            continue
        values = [{"name": name, "value": value} for name, value in PROXY_ENV.items()]
        yield from items_added(document, (*container.path, "env"), values)


def _label(document: Value, workload: Workload, names: tuple[str, ...]) -> str:
    labels = mapping(at(document, (*workload.template, "metadata", "labels")))
    return next((str(labels[name]) for name in names if labels.get(name) not in (None, "")), "")


def _service(document: Value, workload: Workload, said: Said, problems: list[Finding]) -> str:
    """By annotation, label, or the workload's own name, the first that there is."""
    found = said.service or _label(document, workload, _SERVICE_LABELS) or workload.own_name
    path = (*workload.template, "metadata", "annotations")
    problems += bad_service(found, path)
    return found


def _app_port(
    document: Value, workload: Workload, said: Said, services: Sequence[Service], problems: list[Finding]
) -> str:
    """
    By annotation, or the only port that its containers declare, or at which its Services aim.

    What is captured comes to its own port, and an app of a Job need not listen: there it may stay unknown.
    """
    if said.app_port:
        return said.app_port
    spec = (*workload.template, "spec")
    own = [container for container in containers_of(document, spec) if not container.is_init]
    numbers = sorted({port.number for container in own for port in ports_of(container)})
    labels = mapping(at(document, (*workload.template, "metadata", "labels")))
    aimed = aimed_at(services, workload.namespace, labels, own) if len(numbers) != 1 else []
    if len(numbers) == 1 or len(aimed) == 1:
        return str((aimed or numbers)[0])
    if said.wanted.is_captured or (workload.is_ending and not numbers):
        return NO_PORT
    what = f"expected one port of the app, found {', '.join(map(str, numbers)) or 'none'}"
    hint = f'say which: `{PREFIX}app-port: "8080"`, or "{NO_PORT}" for an app that nobody calls'
    problems.append(Finding(spec, what, hint))
    return ""


def _added(pod: made.Pod) -> str:
    wanted = pod.wanted
    words = ["a plain sidecar" if wanted.is_plain else "a native sidecar"]
    if wanted.is_captured:
        words.append("capture")
    if wanted.has_proxy_env:
        words.append("HTTP_PROXY")
    what = " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
    port = f", app port {pod.app_port}" if pod.app_port else ""
    return f"{what}; service {pod.service}{port}"


def _told(document: Value, workload: Workload, said: Said, found: list[Container], pod: made.Pod) -> Iterator[str]:
    wanted = said.wanted
    if not wanted.is_captured:
        if pod.app_port:
            yield f"nothing is captured: services must have port {INBOUND} as their target, not {pod.app_port}"
        if not wanted.has_proxy_env:
            yield "nothing is captured: the app's own requests pass the sidecar by, unless it is told: --proxy-env"
    grace = at(document, (*workload.template, "spec", "terminationGracePeriodSeconds"))
    if type(grace) is int and grace < made.GRACE_S - 15:
        yield f"terminationGracePeriodSeconds is {grace}: the app's end and the sidecar's (up to 30 s) must fit into it"
    annotations = mapping(at(document, (*workload.template, "metadata", "annotations")))
    if wanted.is_captured and str(annotations.get("prometheus.io/scrape", "")).lower() == "true":
        where = (
            f"{annotations.get('prometheus.io/path') or '/metrics'} on {annotations.get('prometheus.io/port') or '?'}"
        )
        yield (
            f"prometheus.io annotations stay: {where} is scraped through the sidecar, whose own metrics are on 15020; "
            "where inbound.tls is strict it belongs into inbound.tls.clear"
        )
    if wanted.control and not (wanted.mesh or wanted.token) and any(one.startswith("https:") for one in wanted.control):
        yield "it has no token to join by: give --mesh NAME (a service account's) or --token SECRET (a join token)"
    if wanted.control and wanted.mesh and not (wanted.roots or wanted.config):
        yield "it does not know whom to believe: give --roots CONFIGMAP, which has roots.pem"
