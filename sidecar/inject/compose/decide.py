"""
From a Compose file to the edits that give services of it a sidecar. *Pure.*

    storefront-sidecar   owns the network namespace: ports, networks, the name `storefront`; healthy when it is ready
    storefront           joins it, and starts when the sidecar is healthy

The other way round the app would be started first, and its first calls would fail. What the app's service said of its
network stays where it was under another name (`x-sidecar-ports`), which Compose does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from sidecar.inject.compose.ports import container_port
from sidecar.inject.compose.service import KEPT_AS, MOVED, capture, sidecar
from sidecar.inject.edits import AddKey, Edit, Exchange, Path, Rename, Value, at, entries_added, items_added
from sidecar.inject.said import NO_PORT, Said, bad_service, read
from sidecar.inject.wanted import INJECTED, OWN_PORTS, PREFIX, PROXY_ENV, UNDO, Decision, Finding, Mark, Wanted

_OUT: Final = f'say `{PREFIX}inject: "false"`, or name other services'


def is_compose(document: Value) -> bool:
    """Whether a document is a Compose file."""
    return isinstance(document, dict) and isinstance(document.get("services"), dict) and "kind" not in document


def decisions(document: Value, wanted: Wanted) -> Iterator[Decision]:
    """What is to be done with each service that is named, or says itself that it wants a sidecar."""
    services = _services(document)
    for name in wanted.services:
        if name not in services:
            hint = f"there are: {', '.join(services)}"
            yield _refused(name, [Finding(("services",), f"there is no service `{name}`", hint)])
    for name, service in services.items():
        path = ("services", name)
        if service is None or not isinstance(service, dict):
            continue
        labels = _labels(service)
        if labels.get(PREFIX + "inject") != "true" and name not in wanted.services:
            continue
        defaults = replace(wanted, is_captured=bool(wanted.is_captured))
        said, problems = read(labels, defaults, (*path, "labels"))
        if said.is_wanted:
            yield _decided(document, name, service, _with_proxy(said), problems)


def marks(document: Value) -> Iterator[Mark]:
    """What earlier injections left in a Compose file."""
    for name, service in _services(document).items():
        labels = _labels(service) if isinstance(service, dict) else {}
        if INJECTED in labels or UNDO in labels:
            undo = labels.get(UNDO)
            where = ("services", name, "labels")
            yield Mark(name.removesuffix("-sidecar"), (), where, undo if isinstance(undo, str) else None)


def _decided(document: Value, name: str, app: dict[str, Value], said: Said, problems: list[Finding]) -> Decision:
    path = ("services", name)
    service = said.service or name
    problems += bad_service(service, path)
    problems += _refusals(document, name, app, said)
    app_port = _app_port(name, app, said, problems)
    if problems:
        return _refused(name, problems)
    owner = f"{name}-sidecar"
    after = {owner: {"condition": "service_healthy", "restart": True}}
    if said.wanted.is_captured:
        after[f"{name}-sidecar-capture"] = {"condition": "service_completed_successfully"}
    told: list[str] = []
    edits: list[Edit] = [Rename((*path, key), KEPT_AS + key) for key in MOVED if key in app]
    edits += entries_added(document, path, {"network_mode": f"service:{owner}"})
    edits += _depends_on(document, path, after)
    if said.wanted.has_proxy_env:
        edits += _proxy_env(document, path, told)
    if said.wanted.is_captured:
        edits.append(AddKey(("services",), f"{name}-sidecar-capture", capture(owner, said, app), name))
    if "extends" in app:
        told.append("what it extends may say more of ports and networks, which Docker will refuse: write that out here")
    if said.wanted.control and not said.wanted.token:
        told.append("it has no token to join by: --token FILE")
    return Decision(
        name=f"service {name}",
        path=(),
        at=path,
        added=_added(said, service, app_port),
        edits=_marking(tuple(edits), name, app, said, service, app_port),
        told=tuple(told),
    )


def _marking(
    edits: tuple[Edit, ...], name: str, app: dict[str, Value], said: Said, service: str, app_port: str
) -> Callable[[Mapping[str, str]], tuple[Edit, ...]]:
    def marked(marks: Mapping[str, str]) -> tuple[Edit, ...]:
        made = sidecar(name, app, said, service, app_port, marks)
        return (AddKey(("services",), f"{name}-sidecar", made, name), *edits)

    return marked


def _refusals(document: Value, name: str, app: dict[str, Value], said: Said) -> Iterator[Finding]:
    path = ("services", name)
    if "network_mode" in app:
        found = f"expected a network of its own, found `network_mode: {app['network_mode']}`"
        yield Finding((*path, "network_mode"), found, f"take it out, or {_OUT}")
    for added in (f"{name}-sidecar", f"{name}-sidecar-capture"):
        if added in _services(document):
            yield Finding(("services", added), f"there is a service `{added}` already", "give it another name")
    for copies in (("scale",), ("deploy", "replicas")):
        number = at(app, copies)
        if number is not None and number != 1:
            hint = "write a service for each, or leave it out: all of them would share one sidecar"
            yield Finding((*path, *copies), f"expected one container, found {number}", hint)
    for key in ("ports", "expose"):
        ports = app.get(key)
        for index, one in enumerate(ports if isinstance(ports, list) else []):
            if container_port(one) in OWN_PORTS:
                message = f"port {container_port(one)} is one of the sidecar's own"
                yield Finding((*path, key, index), message, "let the app listen on another port")
    if said.wanted.is_captured and str(app.get("user", "")).partition(":")[0] in ("1337", "sidecar"):
        message = f"expected another user than the sidecar's, found {app['user']}"
        yield Finding((*path, "user"), message, "let it run as another user: who is 1337 is not captured")
    if not (said.wanted.control or said.wanted.config):
        yield Finding(path, "nothing says what the sidecar is to do", "say --control URL, or --config DIRECTORY")
    if said.wanted.mesh or said.wanted.roots:
        yield Finding(
            path, "there are no service accounts in Compose", "say --token FILE instead of --mesh and --roots"
        )


def _depends_on(document: Value, path: Path, after: dict[str, dict[str, Value]]) -> list[Edit]:
    """What lets a service start when others are ready; a list, which cannot say that, becomes a mapping."""
    given = at(document, (*path, "depends_on"))
    if isinstance(given, list):
        started = {str(one): {"condition": "service_started"} for one in given}
        return [Exchange((*path, "depends_on"), "depends_on", {**started, **after})]
    return entries_added(document, (*path, "depends_on"), after)


def _proxy_env(document: Value, path: Path, told: list[str]) -> list[Edit]:
    given = at(document, (*path, "environment"))
    names = {str(one).partition("=")[0] for one in given} if isinstance(given, list | dict) else set()
    if names & set(PROXY_ENV):
        told.append("it has a proxy of its own in its environment, which stays")
        return []
    if isinstance(given, list):
        values = [f"{name}={value}" for name, value in PROXY_ENV.items()]
        return items_added(document, (*path, "environment"), values)
    return entries_added(document, (*path, "environment"), PROXY_ENV)


def _app_port(name: str, app: dict[str, Value], said: Said, problems: list[Finding]) -> str:
    if said.app_port:
        return said.app_port
    ports = [one for key in ("ports", "expose") for one in _listed(app.get(key))]
    numbers = sorted({number for number in map(container_port, ports) if number is not None})
    if len(numbers) == 1:
        return str(numbers[0])
    if said.wanted.is_captured:
        return NO_PORT
    what = f"expected one port of the app, found {', '.join(map(str, numbers)) or 'none'}"
    hint = f'say which by the label `{PREFIX}app-port: "8080"`, or "{NO_PORT}" for an app that nobody calls'
    problems.append(Finding(("services", name), what, hint))
    return ""


def _with_proxy(said: Said) -> Said:
    """Nothing leads the app's own requests to the sidecar unless it is captured: then it is told."""
    if said.wanted.has_proxy_env is not None:
        return said
    return replace(said, wanted=replace(said.wanted, has_proxy_env=not said.wanted.is_captured))


def _added(said: Said, service: str, app_port: str) -> str:
    words = ["a sidecar", *(["capture"] if said.wanted.is_captured else [])]
    words += ["HTTP_PROXY"] if said.wanted.has_proxy_env else []
    port = f", app port {app_port}" if app_port not in ("", NO_PORT) else ""
    return f"{' and '.join(words)}; service {service}{port}"


def _refused(name: str, problems: list[Finding]) -> Decision:
    return Decision(f"service {name}", (), ("services", name), problems=tuple(problems))


def _services(document: Value) -> dict[str, Value]:
    services = at(document, ("services",))
    return services if isinstance(services, dict) else {}


def _labels(service: dict[str, Value]) -> dict[str, Value]:
    """Labels of either form; of a list, `key=value`."""
    labels = service.get("labels")
    if isinstance(labels, dict):
        return labels
    parts = (str(one).partition("=") for one in _listed(labels))
    return {key: value for key, _, value in parts}


def _listed(value: Value) -> list[Value]:
    return value if isinstance(value, list) else []
