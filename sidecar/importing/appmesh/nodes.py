"""Virtual nodes: where their apps listen, where they are found, how they want to be called. *Cold, pure.*"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic_core import PydanticCustomError

from sidecar.config.values.addresses import is_host
from sidecar.config.values.words import parse_free_name
from sidecar.importing.account import Mark
from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.appmesh.values import PROTOCOLS, listener_settings
from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError
from sidecar.importing.said import Said

_CONTROL: Final = "the mesh's own authority signs certificates"
_TLS_MODES: Final = {"STRICT": "strict", "PERMISSIVE": "permissive", "DISABLED": "off"}
_SPOKEN: Final = {"grpc": "http2"}
"""What our file calls otherwise: gRPC is spoken over HTTP/2."""


@dataclass(slots=True)
class Port:
    """
    Where a node's app listens.

    Attributes:
        number: Its port.
        protocol: As our file says it.
    """

    number: int
    protocol: str

    @property
    def is_stream(self) -> bool:
        """Whether it speaks something else than HTTP."""
        return self.protocol == "tcp"


@dataclass(slots=True, eq=False)
class Node:
    """
    A virtual node as far as it can be imported.

    Attributes:
        resource: What it was.
        ports: In the order of its listeners, those of HTTP before others: the first is what hosts without a port mean.
        dns: The host by which it is found; empty: by registration, or not at all.
        dns_field: Where that is said.
        is_found: Whether callers can find it.
        said: Settings of its listeners, to be merged with those of the other nodes of its service.
        backends: Fields that name the virtual services that it calls.
        groups: Fields that name groups of them.
        lost: Why it cannot be imported; None if it can.
    """

    resource: Resource
    ports: list[Port] = field(default_factory=list)
    dns: str = ""
    dns_field: Field | None = None
    is_found: bool = False
    said: list[Said] = field(default_factory=list)
    backends: list[Field] = field(default_factory=list)
    groups: list[Field] = field(default_factory=list)
    lost: str = ""

    @property
    def label(self) -> str:
        """Kind, name and place."""
        return f"{self.resource.label} ({self.resource.where})"


def read_node(resource: Resource) -> Node:
    """Read a virtual node; what cannot be read is marked as lost."""
    node = Node(resource)
    try:
        if resource.spec is not None:
            _read(resource.spec, node)
    except WrongError as error:
        error.give_up()
        node.lost = error.message
    return node


def _read(spec: Field, node: Node) -> None:
    listeners = spec.each("listeners")
    for listener in sorted(listeners, key=_is_stream):
        _take_listener(listener, node)
    if listeners and not node.ports:
        node.lost = "no listener of it can be imported"
        spec.account.mark(spec.account.at, Mark("dropped", node.lost))
        return
    _read_discovery(spec, node)
    defaults = spec.get("backendDefaults")
    if defaults is not None:
        drop_client_policy(defaults)
    for backend in spec.each("backends"):
        one = backend.need("virtualService")
        drop_client_policy(one)
        node.backends.append(one)
    node.groups = spec.each("backendGroups")


def _is_stream(listener: Field) -> bool:
    return listener.need("portMapping").need("protocol").text().lower() == "tcp"


def _take_listener(listener: Field, node: Node) -> None:
    mapping = listener.need("portMapping")
    number, protocol = mapping.need("port"), mapping.need("protocol")
    word = protocol.text().lower()
    if word not in PROTOCOLS:
        raise WrongError(protocol, f"expected http, http2, grpc or tcp, found `{protocol.text()}`")
    if not 1 <= number.integer() <= 65535:
        raise WrongError(number, f"expected a port from 1 to 65535, found {number.integer()}")
    if number.integer() in [port.number for port in node.ports]:
        listener.dropped(f"a second listener at {number.integer()}", "remove one of the two", is_lost=True)
        return
    spoken = _SPOKEN.get(word, word)
    protocol.kept(f"protocol: {spoken}")
    number.kept(f"the app's address, 127.0.0.1:{number.integer()}")
    node.ports.append(Port(number.integer(), spoken))
    if len(node.ports) > 1:
        reason = f"a service has one setting for all of its ports: that of the listener at {node.ports[0].number}"
        for said in [*listener_settings(listener, node.label), *_tls(listener, node.label)]:
            said.leave(reason)
        return
    node.said += listener_settings(listener, node.label)
    node.said += _tls(listener, node.label)


def _tls(listener: Field, origin: str) -> list[Said]:
    block = listener.get("tls")
    if block is None:
        return []
    certificate, validation = block.get("certificate"), block.get("validation")
    if certificate is not None:
        certificate.dropped(_CONTROL, "join the mesh: `sidecar mesh token`, docs/mesh-identity.md")
    if validation is not None:
        hint = "name the callers in `callers`, and set `tls: strict`"
        validation.dropped("whom it trusts is the mesh's own authority; whom it admits is `callers`", hint)
    mode = block.need("mode")
    word = _TLS_MODES.get(mode.text().upper())
    if word is None:
        raise WrongError(mode, f"expected STRICT, PERMISSIVE or DISABLED, found `{mode.text()}`")
    return [Said(("inbound", "tls"), mode, origin, word)]


def _read_discovery(spec: Field, node: Node) -> None:
    discovery = spec.get("serviceDiscovery")
    if discovery is None:
        return
    dns, cloud_map = discovery.get("dns"), discovery.get("awsCloudMap")
    if dns is not None:
        host = dns.get("hostname") or dns.need("serviceName")
        word = host.text().lower().removesuffix(".")
        if not is_host(word):
            raise WrongError(host, f"expected a host name, found `{host.text()}`", "give its DNS name")
        node.dns, node.is_found = word, True
        node.dns_field = host
        kind = dns.get("responseType")
        if kind is not None and kind.text().upper() == "ENDPOINTS":
            kind.kept("every address is an endpoint")
        elif kind is not None:
            kind.changed("every address that DNS answers is an endpoint")
        dns.drop("ipPreference", "addresses of both families are used")
    elif cloud_map is not None:
        node.is_found = True
        cloud_map.changed(
            "registered: its sidecars tell the control plane where they are",
            "start them with `--control`, and `--version` as the instances' `version` says",
        )
    else:
        raise WrongError(discovery, "expected `dns` or `awsCloudMap`, found none")


def drop_client_policy(holder: Field) -> None:
    """Calls between sidecars are secured by the mesh's own identities; what a policy says besides has no place."""
    policy = holder.get("clientPolicy")
    if policy is None:
        return
    hint = "for a service outside of the mesh say `tls: {}` in its file"
    policy.dropped("between sidecars TLS goes by the mesh's own identities: `inbound.tls` of who is called", hint)


def version_word(name: str) -> str:
    """A node's name as the version that its sidecars say."""
    try:
        return parse_free_name(name)
    except PydanticCustomError:
        return "unnamed"


def source_of(node: Node, port: int) -> dict[str, Plain]:
    """Where the instances of a node are found, by DNS at this port."""
    if node.dns and node.ports:
        return {"dns": f"{node.dns}:{port}"}
    return {"registered": {"version": version_word(node.resource.short_name or node.resource.name)}}
