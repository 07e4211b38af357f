"""What a service's own sidecars do with requests to its app. *Cold, pure.*"""

from __future__ import annotations

from typing import Final

from sidecar.config.model.root import InboundRules
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.places import locate, place_of_key
from sidecar.mesh.access.admission import DEFAULT_TLS
from sidecar.mesh.compile.authorization import authorization_of
from sidecar.mesh.compile.tree import Items, Table, Text, Value, copied
from sidecar.mesh.mesh import Mark, Mesh, Placed

FIRST_LISTEN: Final = "0.0.0.0:15000"
FURTHER_LISTEN: Final = "0.0.0.0:{}"
FURTHER_PORT: Final = 15100
"""Where the sidecar listens for the second port of its app; for the third it is one more, and so on."""

DEFAULT_PORT: Final = "http"
"""What a listener's port is called where it says nothing."""


_TLS_OF_ALL: Final = ("defaults", "inbound", "tls")
_MADE: Final = ("tls", "authorization")
"""What is not copied: the mesh has a say in it."""


def inbound_of(mesh: Mesh, placed: Placed) -> Table | None:
    """The section `inbound`, or None for a service without an app."""
    service = placed.service
    listens = service.listens
    if not listens:
        return None
    mark = placed.mark("app" if service.app is not None else "ports", at_key=True)
    inbound = Table(mark)
    inbound.note = f"from {mark}"
    if list(listens) != [DEFAULT_PORT] or service.speaks_tcp(DEFAULT_PORT):
        inbound.put("listen", _listeners(placed))
    inbound.put("app", _app(placed, next(iter(listens))))
    if mesh.has_identity:
        inbound.put("tls", *_tls(mesh, placed))
    authorization = authorization_of(mesh, placed)
    if authorization is not None:
        inbound.put("authorization", authorization)
    if "inbound" in service.model_fields_set:
        node = placed.place("inbound").node
        entries = node.entries if isinstance(node, MappingNode) else {}
        for key in InboundRules.model_fields:
            if key in entries and key not in _MADE:
                key_node, value = entries[key]
                here = Mark(placed.document.name, key_node.line, key_node.column)
                inbound.put(key, copied(value, placed.document.name), here)
    return inbound


def _tls(mesh: Mesh, placed: Placed) -> tuple[Value, Mark]:
    """Always said, so that a sidecar which cannot do it refuses the file instead of listening in clear alone."""
    service, defaults = placed.service, mesh.root.defaults.inbound
    if service.inbound is not None and service.inbound.tls is not None:
        node = placed.place("inbound", "tls").node
        return copied(node, placed.document.name), placed.mark("inbound", "tls", at_key=True)
    if defaults is not None and defaults.tls is not None:
        file, key = mesh.document.name, place_of_key(mesh.document.root, _TLS_OF_ALL).mark
        return copied(locate(mesh.document.root, _TLS_OF_ALL).node, file), Mark(file, key.line, key.column)
    return Text(DEFAULT_TLS, placed.mark()), placed.mark()


def _app(placed: Placed, port: str) -> Value:
    at = ("app",) if placed.service.app is not None else ("ports", port, "app")
    said, mark = placed.service.listens[port], placed.mark(*at)
    if said.protocol not in ("http1", "http2"):
        return Text(said.app, mark)
    app = Table(mark)
    app.say("address", said.app, mark)
    app.say("protocol", said.protocol, placed.mark("ports", port, "protocol"))
    return app


def _listeners(placed: Placed) -> Items:
    """One for each port; behind the first is `inbound.app`, behind each of the others an app of its own."""
    listeners: list[Value] = []
    for index, (name, port) in enumerate(placed.service.listens.items()):
        mark = placed.mark("ports", name, at_key=True)
        listener = Table(mark)
        address = FURTHER_LISTEN.format(FURTHER_PORT + index - 1) if index else FIRST_LISTEN
        listener.say("address", address, mark)
        listener.say("name", name, mark)
        if index:
            listener.put("app", _app(placed, name))
        # Which HTTP the app speaks is said of the app: a listener takes them all.
        listener.say("protocol", "tcp" if port.protocol == "tcp" else "http", mark)
        listeners.append(listener)
    return Items(placed.mark("ports"), listeners)
