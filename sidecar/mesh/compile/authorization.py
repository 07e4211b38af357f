"""Who may come in: the platform's rules, the service's, that from `callers`, and the default. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sidecar.config.authorization_rules import CALLERS
from sidecar.config.model.authorization import RuleMatch
from sidecar.config.yaml.document import Mapping as MappingNode
from sidecar.config.yaml.document import Node
from sidecar.config.yaml.document import Sequence as SequenceNode
from sidecar.mesh.access.admission import callers_of
from sidecar.mesh.compile.tree import Items, Table, Text, Value, copied
from sidecar.mesh.mesh import Mark, Mesh, Placed
from sidecar.mesh.model.words import ANYONE, MESH

_AUTHENTICATED: Final = "authenticated"


def authorization_of(mesh: Mesh, placed: Placed) -> Table | None:
    """
    The rules of a service's sidecars, in the order in which they are asked; None where nothing restricts.

    A mesh without identities knows nobody, so nobody is refused for not being among `callers`: only what people wrote
    is in force there.
    """
    own = placed.service.authorization
    rules = [
        *_listed(mesh, mesh.document.root, mesh.document.name, ("authorization", "first")),
        *_listed(mesh, placed.node, placed.document.name, ("authorization", "rules")),
    ]
    last = _listed(mesh, mesh.document.root, mesh.document.name, ("authorization", "last"))
    callers = callers_of(placed.service, mesh.access, mesh.tls_of(placed.name)) if mesh.has_identity else [ANYONE]
    is_open = ANYONE in callers
    if is_open and not rules and not last:
        return None
    mark = placed.mark("callers", at_key=True) if placed.service.callers is not None else mesh.mark("access")
    authorization = Table(placed.mark("authorization", at_key=True) if own is not None else mark)
    around = mesh.root.authorization
    if mesh.has_identity:
        unidentified = own.unidentified if own is not None and own.unidentified is not None else around.unidentified
        if unidentified == "deny":
            authorization.say("unidentified", "deny", authorization.mark)
        mode = own.mode if own is not None and own.mode is not None else around.mode
        rules.append(_callers(mesh, placed, callers, mark, "" if is_open or mode == "enforce" else mode))
    authorization.say("default", "deny" if mesh.has_identity else "allow", mark)
    authorization.put("rules", Items(authorization.mark, [*rules, *last]))
    return authorization


def spelled(mesh: Mesh, table: Table) -> None:
    """Write services that a table's `from` names as their SPIFFE IDs, of which each is enough."""
    if "from" in table.entries:
        mark, value = table.entries["from"]
        found = [one for source in _items(value) for one in _spelled(mesh, source)]
        table.put("from", found[0] if len(found) == 1 else Items(value.mark, found), mark)


def one_spelled(mesh: Mesh, table: Table) -> None:
    """The same where one identity is wanted: the first that the service may have."""
    spelled(mesh, table)
    if "from" in table.entries:
        mark, value = table.entries["from"]
        table.put("from", _items(value)[0], mark)


def _listed(mesh: Mesh, root: Node, file: str, at: tuple[str, str]) -> list[Value]:
    """The rules at a place of a file."""
    node: Node | None = root
    for key in at:
        node = node.entries[key][1] if isinstance(node, MappingNode) and key in node.entries else None
    made: list[Value] = []
    for item in node.items if isinstance(node, SequenceNode) else ():
        rule = copied(item, file)
        assert isinstance(rule, Table)
        rule.note = f"from {rule.mark}"
        for key in ("allow", "deny"):
            if key in rule.entries:
                for match in _items(rule.entries[key][1]):
                    assert isinstance(match, Table)
                    spelled(mesh, match)
        made.append(rule)
    return made


def _callers(mesh: Mesh, placed: Placed, callers: Sequence[str | RuleMatch], mark: Mark, mode: str) -> Table:
    clauses = list(_clauses(mesh, placed, callers, mark))
    rule = Table(mark)
    rule.note = f"from {mark}"
    rule.say("name", CALLERS, mark)
    if mode:
        rule.say("mode", mode, mark)
    rule.put("allow", clauses[0] if len(clauses) == 1 else Items(mark, clauses))
    return rule


def _clauses(mesh: Mesh, placed: Placed, callers: Sequence[str | RuleMatch], mark: Mark) -> Iterator[Value]:
    """One for all whom `callers` names by a word, and one for each mapping in it."""
    words = [one for one in callers if isinstance(one, str)]
    if words:
        everyone = {ANYONE: ANYONE, MESH: _AUTHENTICATED}
        wide = next((everyone[word] for word in (ANYONE, MESH) if word in words), "")
        names = dict.fromkeys(one for word in words if word not in everyone for one in mesh.identities(word))
        clause = Table(mark)
        clause.put("from", Text(wide, mark) if wide else Items(mark, [Text(one, mark) for one in sorted(names)]))
        yield clause
    for index, one in enumerate(callers):
        if isinstance(one, RuleMatch):
            match = copied(placed.place("callers", index).node, placed.document.name)
            assert isinstance(match, Table)
            spelled(mesh, match)
            yield match


def _spelled(mesh: Mesh, source: Value) -> list[Value]:
    word = source
    if isinstance(source, Table) and "service" in source.entries:
        word = source.entries["service"][1]
    if isinstance(word, Text) and word.text in mesh.placed:
        return [Text(one, word.mark) for one in mesh.identities(word.text)]
    return [source]


def _items(value: Value) -> list[Value]:
    return value.items if isinstance(value, Items) else [value]
