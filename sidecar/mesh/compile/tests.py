"""Tests of a compiled file: the service's own, and those of every service that it calls. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.config.model.root import RoutingTest
from sidecar.mesh.compile.authorization import one_spelled
from sidecar.mesh.compile.origins import upstream_name
from sidecar.mesh.compile.tree import Items, Table, Text, Value, copied
from sidecar.mesh.hosts import authority_of, find_host, hosts_of, port_names
from sidecar.mesh.mesh import Mesh, Placed
from sidecar.mesh.model.words import PORT_MARK
from sidecar.mesh.rules.routes import is_about_inbound

_MAX_NAME_CHARS = 200


Promises = tuple[tuple[str, str], ...]
"""Of each test whose it is, and what it is called there."""


def tests_of(
    mesh: Mesh, placed: Placed | None, callees: Sequence[str], used: dict[str, tuple[str, str, str]]
) -> tuple[Items, Promises]:
    """
    All tests of a caller's file, and of each whose it is and what it is called there.

    Args:
        placed: The caller; None for who is not in the mesh.
        used: Takes the upstreams that tests name.
    """
    tests = Items(placed.mark() if placed is not None else mesh.placed[callees[0]].mark())
    promises: list[tuple[str, str]] = []
    if placed is not None:
        tests.items += _own(placed, callees, mesh, used)
        promises += ((placed.name, test.name) for test in placed.service.tests if not is_producers(placed, test))
    for name in callees:
        overridden = _overridden(placed, name)
        for index, test in enumerate(mesh.placed[name].service.tests):
            if is_producers(mesh.placed[name], test) and test.name not in overridden:
                tests.items.append(_produced(mesh.placed[name], index, test, used))
                promises.append((name, test.name))
    return tests, tuple(promises)


def is_producers(placed: Placed, test: RoutingTest) -> bool:
    """Whether a test is about calls to the service that has it, and so holds in every caller's file."""
    owner = find_host(authority_of(test), hosts_of(placed.name, placed.service))
    return owner is not None and not is_about_inbound(test, placed.service)


def _overridden(placed: Placed | None, callee: str) -> set[str]:
    call = (placed.service.calls or {}).get(callee) if placed is not None else None
    return {test for route in call.routes for test in route.overrides} if call is not None else set()


def _own(placed: Placed, callees: Sequence[str], mesh: Mesh, used: dict[str, tuple[str, str, str]]) -> list[Table]:
    """Those that are not for its callers, by the names of the compiled file."""
    made = []
    for index, test in enumerate(placed.service.tests):
        if is_producers(placed, test):
            continue
        table = copied(placed.place("tests", index).node, placed.document.name)
        assert isinstance(table, Table)
        table.note = f"from {table.mark}"
        request = table.entries["request"][1]
        for asked in (request, *_rows(table)):
            if isinstance(asked, Table):
                one_spelled(mesh, asked)
        for case in test.cases():
            for upstream in (case.expect.to or "", *(case.expect.split or ())):
                service, _, instance = upstream.partition(".")
                if service in callees and instance in mesh.placed[service].service.instances:
                    first = port_names(mesh.placed[service].service)[0]
                    used[upstream_name(service, instance, first, first)] = (service, instance, first)
        made.append(table)
    return made


def _produced(placed: Placed, index: int, test: RoutingTest, used: dict[str, tuple[str, str, str]]) -> Table:
    """A producer's test with the names that its routes and instances have in a caller's file."""
    table = copied(placed.place("tests", index).node, placed.document.name)
    assert isinstance(table, Table)
    table.note = f"from {table.mark}"
    name_key, name = table.entries["name"]
    table.put("name", Text(f"{placed.name}: {test.name}"[:_MAX_NAME_CHARS], name.mark), name_key)
    first = port_names(placed.service)[0]
    port = find_host(authority_of(test), hosts_of(placed.name, placed.service)) or first
    words = _Words(placed.name, port, first, used)
    if "expect" in table.entries:
        words.translate(table.entries["expect"][1])
    for row in _rows(table):
        words.translate(row)
    return table


def _rows(test: Table) -> Sequence[Value]:
    """Those of a test's table."""
    given = test.entries["given"][1] if "given" in test.entries else None
    return given.items if isinstance(given, Items) else ()


class _Words:
    """
    A producer's names of routes and instances as a caller's file has them.

    Args:
        service: Whose they are.
        port: Which of its ports the test's request is for; `first` is its first.
        used: Takes the upstreams that are named.
    """

    def __init__(self, service: str, port: str, first: str, used: dict[str, tuple[str, str, str]]) -> None:
        self._service = service
        self._port = port
        self._first = first
        self._used = used

    def translate(self, expect: Value) -> None:
        """Change what is expected, in place."""
        assert isinstance(expect, Table)
        key, to = expect.entries.get("to", (None, None))
        if isinstance(to, Text):
            expect.put("to", Text(self._upstream(to.text), to.mark), key)
        key, route = expect.entries.get("route", (None, None))
        if isinstance(route, Text):
            suffix = "" if self._port == self._first else f".{PORT_MARK}{self._port}"
            name = self._service if route.text == self._service else f"{self._service}.{route.text}"
            expect.put("route", Text(name + suffix, route.mark), key)
        key, split = expect.entries.get("split", (None, None))
        if isinstance(split, Table):
            shares = Table(split.mark)
            for name, (at, share) in split.entries.items():
                shares.put(self._upstream(name), share, at)
            expect.put("split", shares, key)

    def _upstream(self, target: str) -> str:
        instance = "" if target == self._service else target
        upstream = upstream_name(self._service, instance, self._port, self._first)
        self._used[upstream] = (self._service, instance, self._port)
        return upstream
