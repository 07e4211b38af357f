"""
The door of this room: the file that the sidecars of one service get. *Cold, pure.*

The file is what a person would have written for one sidecar: its own inbound, routes to what it calls, upstreams. Its
order is fixed and its endpoints are not in it, so it changes only when somebody changed what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Final

from sidecar.config.problems import ConfigError, Problem
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Node, Sequence, join_path
from sidecar.config.yaml.places import locate
from sidecar.mesh.compile.calls import CallPart, call_part
from sidecar.mesh.compile.inbound import inbound_of
from sidecar.mesh.compile.language import needed
from sidecar.mesh.compile.origins import EndpointsOrigin
from sidecar.mesh.compile.tests import tests_of
from sidecar.mesh.compile.tree import Items, Table, Text, Value, canonical, copied
from sidecar.mesh.compile.upstreams import Upstream, upstream_of
from sidecar.mesh.compile.write import Written, write
from sidecar.mesh.hosts import has_port, hosts_by_port, in_order, port_names
from sidecar.mesh.mesh import Document, Mark, Mesh, digest_of_octets, octets_of
from sidecar.mesh.told import LANGUAGE

OUTBOUND_LISTEN: Final = "127.0.0.1:15001"
_TITLE: Final = "The mesh `{}` compiled this for `{}`{}: edit its files, not this one."


@dataclass(frozen=True, slots=True)
class Compiled:
    """
    What the sidecars of a service get.

    Attributes:
        service: Whose.
        text: YAML, with comments that say where each part comes from.
        hash: Of the values, without comments: what is pushed is equal if this is.
        values: In canonical form, as JSON: who wants them need not read the text again.
        discovers: Where the endpoints of each `discover: NAME` come from, by that name.
        callees: Services that it can call, by name.
        language: That a sidecar has to know to read it.
        root: The values, each with its place in the mesh's files.
        promises: Of each test of the file: whose it is, and what it is called there.
        calls: By callee, what the file has for calling it.
    """

    service: str
    text: str
    hash: str
    discovers: Mapping[str, EndpointsOrigin]
    callees: tuple[str, ...]
    language: int
    values: bytes = field(repr=False, compare=False)
    root: Table = field(repr=False, compare=False)
    promises: tuple[tuple[str, str], ...]
    calls: Mapping[str, CallPart] = field(repr=False, compare=False)
    _title: str = field(repr=False, compare=False)
    _documents: Mapping[str, Document] = field(repr=False, compare=False)

    def translate(self, problem: Problem) -> Problem:
        """A problem of the compiled file at its place in the mesh's files; the nearest that it comes from."""
        written = Written()
        write(self.root, self._title, written)
        mark = _origin(written, problem)
        if mark is None:
            return problem
        path = _path_at(self._documents[mark.file].root, mark)
        return replace(problem, file=mark.file, line=mark.line, column=mark.column, path=path)

    def origin_of_route(self, name: str) -> Mark | None:
        """Where a route to a callee comes from; of the implicit one of an upstream, where that comes from."""
        for route in routes_of(self.root):
            told = route.entries.get("name")
            if told is not None and isinstance(told[1], Text) and told[1].text == name:
                return route.mark
        upstreams = self.root.entries.get("upstreams")
        if upstreams is not None and isinstance(upstreams[1], Table) and name in upstreams[1].entries:
            return upstreams[1].entries[name][1].mark
        return None

    def origin_of_rule(self, name: str) -> Mark | None:
        """Where a rule of who may come in comes from; None if it is none of these."""
        found: Value | None = self.root
        for key in ("inbound", "authorization", "rules"):
            found = found.entries[key][1] if isinstance(found, Table) and key in found.entries else None
        for rule in found.items if isinstance(found, Items) else ():
            told = rule.entries.get("name") if isinstance(rule, Table) else None
            if told is not None and isinstance(told[1], Text) and told[1].text == name:
                return rule.mark
        return None


def routes_of(root: Table) -> list[Table]:
    """The routes to callees, in the order in which they are tried."""
    _, outbound = root.entries["outbound"]
    routes = outbound.entries.get("routes") if isinstance(outbound, Table) else None
    items = routes[1].items if routes is not None and isinstance(routes[1], Items) else []
    return [item for item in items if isinstance(item, Table)]


def compile_service(
    mesh: Mesh, service: str, version: str = "", language: int = LANGUAGE, previous: Compiled | None = None
) -> Compiled:
    """
    Compile the file of a service's sidecars.

    Args:
        mesh: That `read_mesh` accepted.
        service: A service of the mesh with sidecars.
        version: The app's, which telemetry tells; empty: none.
        language: What the sidecars know.
        previous: The same service's of an earlier mesh; what it has for calls of which nobody says anything else now is
            taken from it, with the same result.

    Raises:
        ConfigError: There is no such service, it stands outside of the mesh, or its file needs a newer language.
    """
    placed = mesh.placed.get(service)
    if placed is None:
        message = f"the mesh has no service `{service}`"
        raise ConfigError([Problem(mesh.document.name, 1, 1, "", message)])
    if placed.service.is_outside:
        mark = placed.mark()
        message = f"`{service}` is outside of the mesh: it has no sidecars"
        raise ConfigError([Problem(mark.file, mark.line, mark.column, "", message)])
    known = previous.calls if previous is not None else {}
    compiled = _compiled(mesh, service, version, mesh.callees(service), known)
    if language < compiled.language:
        message = f"the sidecars of `{service}` know language {language}, and this mesh needs {compiled.language}"
        raise ConfigError([Problem(mesh.document.name, 1, 1, "", message, "update them, or wait with this change")])
    return compiled


def compile_stranger(mesh: Mesh, callee: str) -> Compiled:
    """The file of who calls one service and says nothing of its own: what a producer's tests hold for."""
    return _compiled(mesh, "", "", (callee,), {})


def _compiled(
    mesh: Mesh, service: str, version: str, callees: tuple[str, ...], known: Mapping[str, CallPart]
) -> Compiled:
    top = Mark(mesh.document.name, 1, 1)
    placed = mesh.placed.get(service)
    named = placed.mark() if placed is not None else top
    root = Table(named)
    root.put("service", _service(service or "stranger", version, named))
    if mesh.root.telemetry is not None:
        place = locate(mesh.document.root, ("telemetry",))
        root.put("telemetry", copied(place.node, mesh.document.name))
    inbound = inbound_of(mesh, placed) if placed is not None else None
    if inbound is not None:
        root.put("inbound", inbound)
    outbound, upstreams = Table(named), Table(named)
    discovers: dict[str, EndpointsOrigin] = {}
    groups: list[tuple[list[str], list[Value]]] = []
    made: dict[str, Upstream] = {}
    used: dict[str, tuple[str, str, str]] = {}
    calls = {callee: call_part(mesh, service, callee, callees, known.get(callee)) for callee in callees}
    for call in calls.values():
        groups += call.groups
        made |= call.upstreams
    tests, promises = tests_of(mesh, placed, callees, used)
    made |= {name: upstream_of(mesh, service, name, *whose) for name, whose in used.items() if name not in made}
    for name, upstream in sorted(made.items(), key=itemgetter(0)):
        upstreams.put(name, upstream.table)
        if upstream.origin is not None:
            discovers[name] = upstream.origin
    _put_listen(outbound, mesh, service, callees, named)
    outbound.say("unmatched", mesh.unmatched, mesh.mark("unmatched"))
    order, _ = in_order([hosts for hosts, _ in groups])
    routes = [route for index in order for route in groups[index][1]]
    if routes:
        outbound.put("routes", Items(named, routes))
    root.put("outbound", outbound)
    if upstreams.entries:
        root.put("upstreams", upstreams)
    if tests.items:
        root.put("tests", tests)
    title = _TITLE.format(mesh.name, service, f" {version}" if version and version.isprintable() else "")
    text, values = write(root, title), octets_of(canonical(root))
    hash_, language = digest_of_octets(values), needed(root)
    return Compiled(
        service, text, hash_, discovers, callees, language, values, root, promises, calls, title, mesh.documents
    )


def _service(name: str, version: str, mark: Mark) -> Value:
    if not version:
        return Text(name, mark)
    table = Table(mark)
    table.say("name", name, mark)
    table.say("version", version, mark)
    return table


def _put_listen(outbound: Table, mesh: Mesh, service: str, callees: tuple[str, ...], mark: Mark) -> None:
    """`calls.X.listen`: a port on which every request is for X, beside the one for all."""
    placed = mesh.placed.get(service)
    listens = Items(mark, [Text(OUTBOUND_LISTEN, mark)])
    for callee in callees if placed is not None else ():
        call = (placed.service.calls or {}).get(callee) if placed is not None else None
        if placed is None or call is None or call.listen is None:
            continue
        here = placed.mark("calls", callee, "listen")
        entry = Table(here)
        entry.say("address", call.listen, here)
        entry.say("host", _first_host(mesh, callee), here)
        service_called = mesh.placed[callee].service
        if service_called.speaks_tcp(port_names(service_called)[0]):
            entry.say("protocol", "tcp", here)
        listens.items.append(entry)
    if len(listens.items) > 1:
        outbound.put("listen", listens)


def _first_host(mesh: Mesh, callee: str) -> str:
    service = mesh.placed[callee].service
    hosts = hosts_by_port(callee, service)[port_names(service)[0]]
    return next((host for host in hosts if not has_port(host)), hosts[0])


def _origin(written: Written, problem: Problem) -> Mark | None:
    """By the problem's path, and of key and value that which it points at; else the last before it in the text."""
    here = (problem.line, problem.column)
    places = written.places.get(problem.path, [])
    exact = [mark for line, column, mark in places if (line, column) == here]
    if exact:
        return exact[0]
    if places:
        return places[-1][2]
    before = [(line, column, mark) for found in written.places.values() for line, column, mark in found]
    before = [one for one in before if one[:2] <= here]
    return max(before, key=lambda one: one[:2])[2] if before else None


def _path_at(root: Node, mark: Mark) -> str:
    """The path of the key or value that begins at a place; the deepest, for a block begins where its first key does."""
    found = ""
    waiting: list[tuple[Node, str]] = [(root, "")]
    while waiting:
        node, path = waiting.pop()
        if (node.line, node.column) == (mark.line, mark.column) and not found:
            found = path
        if isinstance(node, MappingNode):
            for key, (key_node, value) in node.entries.items():
                here = join_path(path, key)
                if (key_node.line, key_node.column) == (mark.line, mark.column) and not found:
                    found = here
                waiting.append((value, here))
        elif isinstance(node, Sequence):
            waiting += ((item, f"{path}[{index}]") for index, item in enumerate(node.items))
    return found
