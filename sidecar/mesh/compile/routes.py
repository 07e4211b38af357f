"""Routes of a caller's file: its own, those of the service that it calls, and the default. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sidecar.config.model.routes import Route
from sidecar.mesh.compile.origins import upstream_name
from sidecar.mesh.compile.tree import Items, Table, Text, Value, copied
from sidecar.mesh.compile.values import OF_ROUTES, first_said, sources
from sidecar.mesh.hosts import find_host, has_port, hosts_by_port, hosts_of, port_names
from sidecar.mesh.mesh import Mark, Mesh, Placed
from sidecar.mesh.model.words import PORT_MARK

_ORDER = (
    "name", "match", "to", "sticky", "redirect", "respond", "rewrite", "request_headers", "response_headers", "timeout",
    "retry", "mirror", "fault", "rate_limit", "upgrades",
)  # fmt: skip
Naming = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Port:
    """
    One port of the called service.

    Attributes:
        name: Of the port.
        suffix: What names of routes have for it; empty for the first.
        hosts: That lead there.
    """

    name: str
    suffix: str
    hosts: list[str]


class CallRoutes:
    """
    Routes by which one service calls another.

    Args:
        mesh: The whole.
        caller: Who calls; one that is not in the mesh has no routes of its own and no values.
        callee: Who is called.
        callees: All whom the caller calls.
    """

    def __init__(self, mesh: Mesh, caller: str, callee: str, callees: Sequence[str]) -> None:
        self._mesh = mesh
        self._caller = mesh.placed.get(caller)
        self._callee = mesh.placed[callee]
        self._sources = sources(mesh, caller, callee)
        self._first = port_names(self._callee.service)[0]
        self._callees = callees
        self.used: dict[str, tuple[str, str, str]] = {}
        """Upstreams that the routes name: service, instance and port of each."""

    def routes(self) -> list[tuple[list[str], list[Value]]]:
        """Of each port its hosts, and its routes in the order in which they are tried."""
        groups = []
        for name, hosts in hosts_by_port(self._callee.name, self._callee.service).items():
            port = _Port(name, "" if name == self._first else f".{PORT_MARK}{name}", hosts)
            self.target("", name)
            groups.append((hosts, self._of_port(port) if hosts else []))
        return groups

    def _of_port(self, port: _Port) -> list[Value]:
        name, service = self._callee.name, self._callee.service
        made: list[Value] = []
        own: Sequence[Route] = ()
        if self._caller is not None and name in (self._caller.service.calls or {}):
            own = (self._caller.service.calls or {})[name].routes
            made += self._listed(self._caller, own, ("calls", name, "routes"), self._caller.name, port)
        made += self._listed(self._callee, service.routes, ("routes",), name, port)
        if all(route.match for route in (*own, *service.routes)):
            default = self._default(port)
            made += [default] if default is not None else []
        return made

    def target(self, instance: str, port: str, service: str = "") -> str:
        """The upstream of an instance, noted as used; of another service its first port."""
        whose = service or self._callee.name
        first = port_names(self._mesh.placed[whose].service)[0]
        port = first if service else port
        name = upstream_name(whose, instance, port, first)
        self.used[name] = (whose, instance, port)
        return name

    def _listed(
        self, placed: Placed, routes: Sequence[Route], at: tuple[str, ...], prefix: str, port: _Port
    ) -> list[Value]:
        made: list[Value] = []
        names = {route.name for route in routes}
        for index, route in enumerate(routes):
            name = route.name
            if name is None:
                name = unnamed(index, self._callee.name if placed is self._caller else "")
                name = name if name not in names else None
            table = self._route(placed, route, (*at, index), f"{prefix}.{name}{port.suffix}" if name else "", port)
            if table is not None:
                made.append(table)
        return made

    def _route(self, placed: Placed, route: Route, at: tuple[int | str, ...], name: str, port: _Port) -> Table | None:
        place = placed.place(*at)
        mark = Mark(placed.document.name, place.node.line, place.node.column)
        written = copied(place.node, placed.document.name)
        assert isinstance(written, Table)
        table = Table(mark)
        table.note = f"from {mark}"
        if name:
            table.put("name", Text(name, written.entries["name"][1].mark if "name" in written.entries else mark))
        match = self._match(written, port)
        if match is None:
            return None
        table.put("match", match, written.entries["match"][0] if "match" in written.entries else None)
        naming = self._naming(placed, port)
        if route.action == "to":
            to_key, to = written.entries["to"]
            table.put("to", _renamed_to(to, naming), to_key)
        elif route.action is None:
            table.say("to", naming(self._callee.name), mark)
        for key, (key_mark, value) in written.entries.items():
            if key == "mirror":
                mirrors = value.items if isinstance(value, Items) else [value]
                renamed = [_renamed_at("to", one, naming) for one in mirrors]
                value = Items(value.mark, renamed) if isinstance(value, Items) else renamed[0]
            if key not in table.entries and key != "overrides":
                table.put(key, value, key_mark)
        if route.action in ("to", None):
            self._fill(table)
        return _ordered(table)

    def _match(self, written: Table, port: _Port) -> Value | None:
        """The matches with the hosts of this port; None if all of them are for another."""
        _, match = written.entries.get("match", (written.mark, Table(written.mark)))
        matches = match.items if isinstance(match, Items) else [match]
        ports = hosts_of(self._callee.name, self._callee.service)
        found: list[Value] = []
        for one in matches or [Table(match.mark)]:
            assert isinstance(one, Table)
            told = one.entries.get("host")
            if told is None:
                table = Table(one.mark)
                table.put("host", _one_or_many(port.hosts, one.mark))
                for key, (key_mark, value) in one.entries.items():
                    table.put(key, value, key_mark)
                found.append(table)
            elif port.name in [find_host(host, ports) for host in _words(told[1])]:
                found.append(one)
        if not found:
            return None
        return found[0] if len(found) == 1 else Items(match.mark, found)

    def _naming(self, placed: Placed, port: _Port) -> Naming:
        """From what a route calls its destinations to the names of upstreams."""
        callee = self._callee

        def name(word: str) -> str:
            if word == callee.name:
                return self.target("", port.name)
            if word in callee.service.instances:
                return self.target(word, port.name)
            service, _, instance = word.partition(".")
            if placed is callee or service not in self._callees:
                return word
            return self.target(instance, "", service)

        return name

    def _fill(self, table: Table) -> None:
        """What a route does not say is taken from who says it next."""
        for key, key_mark, value in first_said(self._sources, OF_ROUTES):
            if key not in table.entries:
                table.put(key, value, key_mark)
        to = table.entries["to"][1]
        host = self._sent_host(_targets(to))
        if host is not None:
            if "rewrite" not in table.entries:
                table.put("rewrite", Table(host[0]))
            _put_host(table, host)
        for side in to.items if isinstance(to, Items) else ():
            # What a side says of its own takes the place of the route's, the host included.
            if isinstance(side, Table) and "rewrite" in side.entries:
                host = self._sent_host(_targets(Items(side.mark, [side])))
                if host is not None:
                    _put_host(side, host)

    def _sent_host(self, upstreams: Sequence[str]) -> tuple[Mark, Text] | None:
        """
        What `Host` is for these destinations, if it is not the request's.

        A service outside of the mesh is called by the name that its certificate is for, or else by its name there,
        unless it says `host: keep`. Where a route leads to several that want different ones, it stays.
        """
        found = [self._host_there(*self.used[name][:2]) for name in upstreams if name in self.used]
        if not found or any(one is None or found[0] is None or one[1].text != found[0][1].text for one in found):
            return None
        return found[0]

    def _host_there(self, service: str, instance: str) -> tuple[Mark, Text] | None:
        placed = self._mesh.placed[service]
        said = placed.service
        if not said.is_outside or said.host == "keep":
            return None
        dns = said.instances[instance].dns if instance else said.dns
        server_name = said.tls.server_name if said.tls is not None else None
        if dns is None and server_name is None:
            return None
        mark = placed.mark("instances", instance, "dns") if instance and dns is not None else placed.mark("dns")
        if server_name is not None:
            mark = placed.mark("tls", "server_name")
        host, _, number = (dns or "").rpartition(":")
        host = server_name or host
        return mark, Text(host if number in ("", "80", "443") else f"{host}:{number}", mark)

    def _default(self, port: _Port) -> Table | None:
        """The route to all instances, if there is more to say of it than the upstream's hosts do."""
        mark = self._callee.mark()
        table = Table(mark)
        name = self.target("", port.name)
        table.say("to", name, mark)
        self._fill(table)
        if len(table.entries) == 1 and not any(map(has_port, port.hosts)):
            return None  # the upstream's own hosts lead there, after all routes
        table.note = f"from {mark}"
        match = Table(mark)
        match.put("host", _one_or_many(port.hosts, mark))
        table.put("match", match)
        table.say("name", name, mark)
        return _ordered(table)


def unnamed(index: int, callee: str = "") -> str:
    """What a route without a name is called, after its service; of a caller's the service that it calls, too."""
    return f"{callee}.route-{index + 1}" if callee else f"route-{index + 1}"


def _put_host(table: Table, host: tuple[Mark, Text]) -> None:
    """What is sent as `Host`, into a `rewrite` that says nothing of it."""
    mark, value = host
    rewrite = table.entries["rewrite"][1]
    assert isinstance(rewrite, Table)
    if "host" not in rewrite.entries:
        rewrite.put("host", value, mark)


def _ordered(table: Table) -> Table:
    table.entries = {key: table.entries[key] for key in _ORDER if key in table.entries}
    return table


def _one_or_many(words: Sequence[str], mark: Mark) -> Value:
    return Text(words[0], mark) if len(words) == 1 else Items(mark, [Text(word, mark) for word in words])


def _words(value: Value) -> list[str]:
    """One word or several, in lower case."""
    items = value.items if isinstance(value, Items) else [value]
    return [item.text.lower() for item in items if isinstance(item, Text)]


def _targets(to: Value) -> list[str]:
    """Upstreams that `to` names."""
    if isinstance(to, Text):
        return [to.text]
    if isinstance(to, Table):
        return list(to.entries)
    assert isinstance(to, Items)
    sides = [item for item in to.items if not isinstance(item, Table) or "upstream" in item.entries]
    names = (side.entries["upstream"][1] if isinstance(side, Table) else side for side in sides)
    return [name.text for name in names if isinstance(name, Text)]


def _renamed_to(to: Value, naming: Naming) -> Value:
    """A name, a mapping of names to weights, or a list of names and mappings with `upstream`."""
    if isinstance(to, Text):
        return _renamed(to, naming)
    if isinstance(to, Items):
        return Items(to.mark, [_renamed_at("upstream", item, naming) for item in to.items])
    assert isinstance(to, Table)
    table = Table(to.mark)
    for key, (key_mark, value) in to.entries.items():
        table.put(naming(key), value, key_mark)
    return table


def _renamed_at(key: str, value: Value, naming: Naming) -> Value:
    """A name, or a mapping that may have it at this key."""
    if isinstance(value, Text):
        return _renamed(value, naming)
    assert isinstance(value, Table)
    if key not in value.entries:
        return value
    mark, name = value.entries[key]
    assert isinstance(name, Text)
    value.put(key, _renamed(name, naming), mark)
    return value


def _renamed(text: Text, naming: Naming) -> Text:
    name = naming(text.text)
    return Text(name, text.mark)
