"""Services of Kubernetes as services of a mesh: hosts, ports, and where their instances are. *Cold, pure.*"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic_core import PydanticCustomError

from sidecar.config.values.addresses import is_host
from sidecar.importing.draft import InstanceDraft, Plain, ServiceDraft
from sidecar.importing.field import Field, WrongError
from sidecar.importing.kubernetes import Object, mark_metadata
from sidecar.importing.names import instance_name, word_of
from sidecar.mesh.model.instances import parse_kubernetes_name

_OF_THE_CLUSTER: Final = (
    "type", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "sessionAffinity", "sessionAffinityConfig",
    "externalTrafficPolicy", "internalTrafficPolicy", "loadBalancerIP", "loadBalancerClass", "externalIPs",
    "loadBalancerSourceRanges", "healthCheckNodePort", "allocateLoadBalancerNodePorts", "publishNotReadyAddresses",
    "trafficDistribution",
)  # fmt: skip
_HTTP: Final = ("http", "kubernetes.io/ws", "")
_HTTP2: Final = ("kubernetes.io/h2c", "grpc", "http2")


@dataclass(frozen=True, slots=True)
class ServicePort:
    """
    A port of a Service.

    Attributes:
        name: As our file calls it.
        number: Of the Service.
        target: On which the app listens.
        reference: By which a source names it: its own name, or its number where it has none.
        is_http2: The app speaks HTTP/2 there, and nothing else.
    """

    name: str
    number: int
    target: int
    reference: str | int
    is_http2: bool = False


@dataclass(slots=True)
class Kept:
    """
    A Service, as far as it can be imported.

    Attributes:
        key: Namespace and name.
        object: What it was; None: it was not given, and routes name it.
        ports: Those that are HTTP.
        external: Name of a host outside of the cluster that it stands for; empty: none.
        draft: What becomes of it.
        names: Of its instances, by Service and port.
    """

    key: tuple[str, str]
    object: Object | None
    ports: list[ServicePort] = field(default_factory=list)
    external: str = ""
    draft: ServiceDraft = field(default_factory=lambda: ServiceDraft("", ""))
    names: dict[tuple[str, str, str | int], str] = field(default_factory=dict)

    @property
    def hosts(self) -> list[str]:
        """By which apps of other namespaces call it, too."""
        namespace, name = self.key
        return [f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]

    def port(self, number: int | None) -> ServicePort | None:
        """The port of this number; the first without one."""
        if number is None:
            return self.ports[0] if self.ports else None
        return next((port for port in self.ports if port.number == number), None)

    def instance(self, other: Kept, number: int | None, origin: str) -> str:
        """The name of the instances that are the endpoints of a Service, at one of its ports."""
        port = other.port(number)
        reference: str | int = port.reference if port is not None else (number if number is not None else 80)
        namespace, name = other.key
        known = (namespace, name, reference)
        if known not in self.names:
            base = name if namespace == self.key[0] else f"{name}-{namespace}"
            if any(one[:2] == (namespace, name) for one in self.names):
                base = f"{base}-{reference}"
            self.names[known] = instance_name(base, self.draft.name, self.draft.instances)
            source: dict[str, Plain]
            if other.external:
                source = {"dns": f"{other.external}:{number if number is not None else 80}"}
            else:
                source = {"kubernetes": {"service": name, "namespace": namespace, "port": reference}}
            self.draft.instances[self.names[known]] = InstanceDraft(source, origin)
        return self.names[known]


def read_service(one: Object) -> Kept | None:
    """Read a Service; None, and told as lost, if it cannot be one of the mesh."""
    try:
        return _read(one)
    except WrongError as error:
        error.give_up()
        return None


def _read(one: Object) -> Kept:
    mark_metadata(one)
    kept = Kept(one.key, one)
    for name in one.key:
        try:
            parse_kubernetes_name(name)
        except PydanticCustomError:
            raise WrongError(one.root, f"expected a name of Kubernetes, found `{name}`") from None
    spec = one.root.need("spec")
    external = spec.get("externalName")
    if external is not None:
        word = external.text().lower().removesuffix(".")
        if not is_host(word):
            raise WrongError(external, f"expected a host, found `{external.text()}`")
        kept.external = word
        external.kept("dns")
    spec.drop("selector", "a sidecar says itself of which service it is; endpoints come from the Service")
    for key in _OF_THE_CLUSTER:
        spec.drop(key, "of the cluster's own load balancing, which sidecars do not use")
    for index, port in enumerate(spec.each("ports")):
        try:
            _take_port(port, index, kept)
        except WrongError as error:
            error.give_up(port)
    if not kept.ports and not kept.external:
        raise WrongError(spec, "no port of it can be imported")
    return kept


def _take_port(port: Field, index: int, kept: Kept) -> None:
    number, protocol, app = port.need("port"), port.get("protocol"), port.get("appProtocol")
    name, target = port.get("name"), port.get("targetPort")
    port.drop("nodePort", "sidecars call endpoints, not nodes")
    if protocol is not None and protocol.text() != "TCP":
        port.dropped(f"{protocol.text()} does not go through sidecars")
        return
    if not 1 <= number.integer() <= 65535:
        raise WrongError(number, f"expected a port from 1 to 65535, found {number.integer()}")
    spoken = "" if app is None else app.text().lower()
    if spoken not in (*_HTTP, *_HTTP2):
        hint = "say it of a port in the service's file: `ports: {NAME: {app: ADDRESS, protocol: tcp}}`"
        port.dropped(f"`{spoken}` is carried as TCP, which this import does not write", hint, is_lost=True)
        return
    if protocol is not None:
        protocol.kept("TCP")
    if app is not None and spoken in _HTTP2:
        app.kept("protocol: http2")
    elif app is not None:
        app.kept("protocol: http")
    listens = number.integer()
    if target is not None:
        word = target.text()
        if word.isdecimal() and 1 <= int(word) <= 65535:
            listens = int(word)
            target.kept(f"the app's address, 127.0.0.1:{listens}")
        else:
            hint = f"write in the service's file the port that containers call `{word}`"
            target.changed(f"the app's address, 127.0.0.1:{listens}: which port `{word}` is, only a pod says", hint)
    if kept.ports and listens != number.integer():
        hint = "let the Service and the app use one number for this port"
        raise WrongError(number, f"callers choose a further port by the app's number, {listens}", hint)
    if listens in [one.target for one in kept.ports] or number.integer() in [one.number for one in kept.ports]:
        raise WrongError(number, f"an earlier port is called {number.integer()}, too, or leads to the same", "keep one")
    own = "http" if index == 0 or name is None else word_of(name.text())
    if own in [one.name for one in kept.ports]:
        own = f"p{number.integer()}"
    if name is not None:
        name.kept("the port's name")
    number.kept("where the Service is called, for which its first port needs no number in a host")
    reference: str | int = number.integer() if name is None else name.text()
    kept.ports.append(ServicePort(own, number.integer(), listens, reference, spoken in _HTTP2))
