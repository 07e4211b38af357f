"""Whatever the bytes, a mesh is understood or its problems are told; and what is compiled is what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.config.load import load_source
from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import make_source
from sidecar.config.yaml.document import Node, parse, plain
from sidecar.config.yaml.scalars import Spelled
from sidecar.control.revision import worker
from sidecar.control.revision.judged import Rejected
from sidecar.control.revision.trees import render, tree_of, tree_of_values
from sidecar.errors import Reason
from sidecar.exchange import Direction
from sidecar.insight.routing_tests import walked_by
from sidecar.mesh.compile.service import Compiled, compile_service
from sidecar.mesh.compile.tree import Items, Table, Text, Value, canonical
from sidecar.mesh.compile.write import Written, write
from sidecar.mesh.mesh import Mark, Mesh, octets_of
from sidecar.mesh.mesh import canonical as canonical_of_node
from sidecar.mesh.read import read_mesh
from sidecar.mesh.schema import mesh_schema
from sidecar.mesh.verify import tried, verify
from sidecar.routing.actions import Forward
from tests.support.thoroughness import examples

# --- any bytes -----------------------------------------------------------------------------------------------------

WORDS = sorted({key for definition in mesh_schema()["$defs"].values() for key in definition["properties"]})
NAMES = ["a", "b", "mesh", "v1", "http"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(WORDS), st.sampled_from(NAMES),
    st.sampled_from(["5s", "5%", "/a", "h:1", "*", "${A}", "$${", "\\1", "(", "http://a/", "one", "keep", "anyone"]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.sampled_from(NAMES)), inner, max_size=6),
    ),
    max_leaves=20,
)
FILES = st.dictionaries(
    st.sampled_from(["mesh.yaml", "a.yaml", "services/b.yml", "x"]),
    st.one_of(
        st.binary(max_size=60),
        TREES.map(lambda tree: json.dumps(tree).encode()),
        st.dictionaries(st.sampled_from(WORDS), TREES, max_size=6).map(
            lambda tree: json.dumps({"service": "a", **tree}).encode()
        ),
        st.dictionaries(st.sampled_from(WORDS), TREES, max_size=6).map(
            lambda tree: json.dumps({"mesh": "m", **tree}).encode()
        ),
    ),
    max_size=4,
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILES, st.booleans())
def test_any_bytes_are_a_mesh_or_are_refused_with_places(files: dict[str, bytes], has_identity: bool) -> None:
    """No other exception than `ConfigError` comes out, of reading as of what follows."""
    try:
        mesh = read_mesh(files, has_identity=has_identity)
        for name, service in mesh.services.items():
            if not service.is_outside:
                compile_service(mesh, name)
        problems = verify(mesh)
    except ConfigError as error:
        problems = error.problems
        assert problems
    for problem in problems:
        assert problem.file in files or (problem.file, problem.line) == ("mesh.yaml", 1)
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
        assert len(str(problem).splitlines()) == 1
        assert "pydantic" not in str(problem)


# --- what is written is read ---------------------------------------------------------------------------------------

MARK = Mark("f", 1, 1)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from(["true", "1", "${A}"])
)
KEYS = st.one_of(
    st.sampled_from(["a", "b", "x-y", "1", "~", "a b", "é", "<<", "a: b", ""]), st.text("ab\"'\\ :#", max_size=5)
)


def tables(entries: Mapping[str, Value]) -> Table:
    """A mapping of these."""
    table = Table(MARK)
    for key, value in entries.items():
        table.put(key, value)
    return table


VALUES = st.recursive(
    st.one_of(
        TEXTS.map(lambda text: Text(text, MARK)),
        st.sampled_from(["1", "1.10", "true", "-5"]).map(lambda text: Text(text, MARK, is_spelled=True)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: Items(MARK, items)),
        st.dictionaries(KEYS, inner, max_size=4).map(tables),
    ),
    max_leaves=12,
)


def nodes_of(root: Node) -> int:
    """How many values there are."""
    tree = plain(root)
    waiting, count = [tree], 0
    while waiting:
        one = waiting.pop()
        count += 1
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []
    return count


@settings(max_examples=examples(150), deadline=None)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4).map(tables), st.booleans())
def test_what_is_written_is_read_again(root: Table, has_note: bool) -> None:
    """The same values, words as words and numbers as numbers, and each where `Written` says."""
    if has_note:
        next(iter(root.entries.values()))[1].note = "from f:1"
    written = Written()
    text = write(root, "title", written)
    assert text == write(root, "title")
    read, problems = parse(text, "f", {})
    # An empty value is a word, not nothing; what problems there are is of keys that no mesh's file can have.
    assert read is not None
    assert not problems or "<<" in root.entries or any("<<" in str(problem) for problem in problems)
    assert canonical_of_node(read) == canonical(root)
    places = {(line, column) for found in written.places.values() for line, column, _ in found}
    assert nodes_of(read) - 1 <= sum(len(found) for found in written.places.values())
    assert all(len(text.split("\n")[line - 1]) >= column for line, column in places)


@settings(max_examples=examples(150), deadline=None)
@given(st.dictionaries(KEYS.filter(lambda key: key != "<<"), VALUES, min_size=1, max_size=4).map(tables))
def test_tree_of_values_is_tree_of_text(root: Table) -> None:
    """Those who cut and join compiled files need not read YAML for it; numbers are numbers in both."""
    tree = tree_of_values(octets_of(canonical(root)))
    assert tree == tree_of(write(root, "title"))
    assert render(tree) == render(tree_of(write(root, "title")))


# --- a naive reading -----------------------------------------------------------------------------------------------

PATHS = ["/", "/a", "/a/b", "/c"]
COOKIES = [None, "1", "2"]
PORTS = [None, 80, 7, 9090]


@dataclass(frozen=True)
class Request:
    """What a call asks for."""

    host: str
    port: int | None
    path: str
    cookie: str | None


@st.composite
def matches(draw: st.DrawFn) -> dict[str, object]:
    """A match without a host."""
    match: dict[str, object] = {}
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["exact", "prefix"]))
        match["path"] = {kind: draw(st.sampled_from(PATHS))}
    if draw(st.booleans()):
        match["cookies"] = {"c": {"exact": draw(st.sampled_from(["1", "2"]))}}
    return match


@st.composite
def route_lists(draw: st.DrawFn, instances: list[str], service: str, others: list[str]) -> list[dict[str, object]]:
    """Routes to the instances of a service, or without a destination."""
    routes: list[dict[str, object]] = []
    for number in range(draw(st.integers(0, 3))):
        route: dict[str, object] = {}
        if draw(st.booleans()):
            route["name"] = f"r{number}"
        found = draw(st.lists(matches(), max_size=2))
        if found:
            route["match"] = found[0] if len(found) == 1 else found
        targets = [*instances, service, *others]
        if draw(st.booleans()):
            some = draw(st.lists(st.sampled_from(targets), min_size=1, max_size=2, unique=True))
            route["to"] = some[0] if len(some) == 1 else dict.fromkeys(some, 1)
        if draw(st.booleans()):
            route["timeout"] = draw(st.sampled_from(["1s", "2s"]))
        routes.append(route)
    return routes


@st.composite
def meshes(draw: st.DrawFn) -> dict[str, dict[str, object]]:
    """Files as trees: a mesh, a caller, up to three services that it may call."""
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True))
    instances = {name: draw(st.lists(st.sampled_from(["v", "w"]), max_size=2, unique=True)) for name in names}
    root: dict[str, object] = {"mesh": "m", "access": draw(st.sampled_from(["open", "closed"]))}
    root["unmatched"] = draw(st.sampled_from(["passthrough", "deny"]))
    if draw(st.booleans()):
        root["defaults"] = {"timeout": "4s"}
    files = {"mesh.yaml": root}
    for name in names:
        service: dict[str, object] = {"service": name}
        if draw(st.booleans()):
            service["hosts"] = draw(
                st.lists(
                    st.sampled_from([name, f"{name}.x", f"{name}.x:7", "h:7", "i"]), min_size=1, max_size=3, unique=True
                )
            )
        service["ports"] = {"http": "127.0.0.1:80", **({"g": "127.0.0.1:9090"} if draw(st.booleans()) else {})}
        service["instances"] = {one: {"registered": {"version": one}} for one in instances[name]}
        service["routes"] = draw(route_lists(instances[name], name, []))
        if draw(st.booleans()):
            service["timeout"] = "3s"
        if draw(st.booleans()):
            service["callers"] = draw(st.sampled_from([[], ["caller"], "mesh", ["caller", *names]]))
        files[f"{name}.yaml"] = service
    caller: dict[str, object] = {"service": "caller"}
    if draw(st.booleans()):
        calls: dict[str, object] = {}
        for name in draw(st.lists(st.sampled_from(names), unique=True)):
            calls[name] = {"timeout": "5s"} if draw(st.booleans()) else {}
        for name, call in calls.items():
            assert isinstance(call, dict)
            others = [other for other in calls if other != name]
            call["routes"] = [
                {**route, **({"name": f"{name}-{route['name']}"} if "name" in route else {})}
                for route in draw(route_lists(instances[name], name, others))
            ]
        caller["calls"] = calls
    files["caller.yaml"] = caller
    return files


def naive_hosts(service: dict[str, object]) -> dict[str, str]:
    """Host, with a port or without, to the name of the port that it means, as the design says it."""
    ports = {name: int(str(address).rpartition(":")[2]) for name, address in service["ports"].items()}  # type: ignore[attr-defined]
    hosts: dict[str, str] = {}
    for host in service.get("hosts", [service["service"]]):  # type: ignore[attr-defined]
        number = int(host.partition(":")[2] or 0)
        hosts[host] = next((name for name, one in ports.items() if one == number and name != "http"), "http")
    for host in service.get("hosts", [service["service"]]):  # type: ignore[attr-defined]
        if ":" not in host and "g" in ports:
            hosts.setdefault(f"{host}:9090", "g")
    return hosts


def naive_matches(match: dict[str, dict[str, dict[str, str]]], request: Request) -> bool:
    """One match, by its words."""
    path = match.get("path", {})
    if "exact" in path and path["exact"] != request.path:
        return False
    if "prefix" in path:
        prefix = str(path["prefix"]).rstrip("/")
        if not (request.path == prefix or request.path.startswith(prefix + "/")):
            return False
    return "cookies" not in match or match["cookies"]["c"]["exact"] == request.cookie


Reached = tuple[frozenset[tuple[str, str, str]], str | None] | str
"""Service, instance and port of each destination, and the timeout; or `passthrough`, or `404`."""


def naive(files: dict[str, dict], request: Request) -> Reached:  # type: ignore[type-arg]
    """Where a call of `caller` goes, read from the mesh's files as the design says it."""
    root, caller = files["mesh.yaml"], files["caller.yaml"]
    services = {one["service"]: one for name, one in files.items() if name not in ("mesh.yaml", "caller.yaml")}
    open_to = "anyone" if root["access"] == "open" else []
    told = caller.get("calls", None)
    if told is None:
        admits = {name: one.get("callers", open_to) for name, one in services.items()}
        told = {name: {} for name in services if admits[name] in ("anyone", "mesh") or "caller" in admits[name]}
    owners = {host: (name, port) for name in told for host, port in naive_hosts(services[name]).items()}
    exact = f"{request.host}:{request.port or 80}"
    found = owners.get(exact, owners.get(request.host))
    if found is None:
        return "passthrough" if root["unmatched"] == "passthrough" else "404"
    name, port = found
    service, call = services[name], told[name]
    for route in [*call.get("routes", []), *service["routes"], {}]:
        match = route.get("match", {})
        if not any(naive_matches(one, request) for one in (match if isinstance(match, list) else [match])):
            continue
        to = route.get("to", name)
        destinations = set()
        for word in [to] if isinstance(to, str) else to:
            is_other = word in services and word != name
            destinations.add((word, "", "http") if is_other else (name, "" if word == name else word, port))
        said = (route, call, service, root.get("defaults", {}))
        timeout = next((one["timeout"] for one in said if "timeout" in one), None)
        return frozenset(destinations), timeout
    raise AssertionError("the default takes everything")


def compiled_reach(mesh: Mesh, request: Request) -> Reached:
    """The same by the code that routes live requests, on what is compiled."""
    authority = request.host if request.port is None else f"{request.host}:{request.port}"
    cookies = {} if request.cookie is None else {"c": request.cookie}
    test = RoutingTest.model_validate(
        {
            "name": "t",
            "request": {"url": f"http://{authority}{request.path}", "cookies": cookies},
            "expect": {"status": 200},
        }
    )
    compiled = compile_service(mesh, "caller")
    _, plan = tried(compiled)
    found = walked_by(test.request, plan.sides[Direction.OUTBOUND]).found
    if isinstance(found, Reason):
        return str(found.status)
    if found.name == "passthrough":
        return "passthrough"
    assert isinstance(found.action, Forward)
    timeout = found.action.timeout_s
    origins = [compiled.discovers[target.name] for target in found.action.targets]
    reached = frozenset((one.service, one.instance, one.port) for one in origins)
    return reached, None if timeout is None else f"{timeout:g}s"


REQUESTS = st.builds(
    Request, st.sampled_from(["a", "b", "c", "a.x", "h", "i", "z"]), st.sampled_from(PORTS), st.sampled_from(PATHS),
    st.sampled_from(COOKIES),
)  # fmt: skip


@settings(max_examples=examples(120), deadline=None)
@given(meshes(), st.lists(REQUESTS, min_size=1, max_size=6))
def test_a_call_reaches_what_a_naive_reading_of_the_files_says(
    files: dict[str, dict[str, object]], requests: list[Request]
) -> None:
    """Instance, port and timeout, or that nobody is called so."""
    try:
        mesh = read_mesh({name: json.dumps(tree).encode() for name, tree in files.items()})
    except ConfigError as error:
        wrong = [
            one for one in error.problems if "claimed" not in one.message and "must come before" not in one.message
        ]
        if not wrong:
            return  # two services with one host, or hosts that no order of routes serves
        raise
    for request in requests:
        assert compiled_reach(mesh, request) == naive(files, request), request


@settings(deadline=None)
@given(meshes(), st.lists(st.integers(0, 10_000), max_size=8))
def test_comments_push_nothing(files: dict[str, dict[str, object]], places: list[int]) -> None:
    """Lines that say nothing, anywhere in the files, change no hash."""
    texts = {name: json.dumps(tree, indent=1) for name, tree in files.items()}
    commented = {}
    for name, text in texts.items():
        lines = text.split("\n")
        for place in places:
            lines.insert(place % (len(lines) + 1), "# a comment")
        commented[name] = "\n".join(lines).encode()
    try:
        before = read_mesh({name: text.encode() for name, text in texts.items()})
    except ConfigError:
        return
    after = read_mesh(commented)
    assert after.hash == before.hash
    assert compile_service(after, "caller").hash == compile_service(before, "caller").hash


@settings(max_examples=examples(60), deadline=None)
@given(meshes())
def test_every_value_of_a_compiled_file_leads_back_to_a_mesh_file(files: dict[str, dict[str, object]]) -> None:
    """A problem anywhere in it is told at a key or a value that stands there, by the path that it has there."""
    raw = {name: json.dumps(tree, indent=1).encode() for name, tree in files.items()}
    try:
        mesh = read_mesh(raw)
    except ConfigError:
        return
    compiled = compile_service(mesh, "caller", "v1")
    written = Written()
    assert write(compiled.root, compiled.text.split("\n")[0].removeprefix("# "), written) == compiled.text
    for path, places in written.places.items():
        for line, column, mark in places:
            told = compiled.translate(Problem("f", line, column, path, "m"))
            assert (told.file, told.line, told.column) == (mark.file, mark.line, mark.column)
            source = raw[told.file].decode().split("\n")[told.line - 1]
            assert source[told.column - 1] not in " :,"
            assert told.path or (told.line, told.column) == (1, 1)


ACCESS: dict[str, list[object]] = {
    "callers": [[], "mesh", ["caller"], [{"from": ["caller", "a"], "methods": ["GET"]}, "a"]],
    "identities": [["x/y"], ["x/z", "q"]],
    "inbound": [{"tls": "off"}, {"tls": {"mode": "strict", "clear": {"path": "/ready"}}}],
    "authorization": [
        {"rules": [{"name": "d", "deny": {"path": {"prefix": "/a"}}}]},
        {"mode": "enforce", "unidentified": "deny", "rules": [{"name": "e", "allow": {"from": "caller"}}]},
    ],
}
"""Who may call, in some forms."""


@st.composite
def edits(draw: st.DrawFn) -> list[dict[str, bytes]]:
    """Contents of a mesh one after the other, each with some files of its own; some of them have tests that fail."""
    variants = draw(st.lists(meshes(), min_size=2, max_size=3))
    for files in variants:
        for name in draw(st.lists(st.sampled_from(sorted(set(files) - {"mesh.yaml"})), max_size=2, unique=True)):
            to = draw(st.sampled_from(["a", "v", "a.v"]))
            files[name]["tests"] = [{"name": "t", "request": {"url": "http://a/a"}, "expect": {"to": to}}]
            for key in draw(st.lists(st.sampled_from(sorted(ACCESS)), max_size=2, unique=True)):
                files[name][key] = draw(st.sampled_from(ACCESS[key]))
    steps = [variants[0]]
    for _ in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from(variants))
        taken = draw(st.lists(st.sampled_from(sorted({*source, *steps[-1]})), min_size=1, max_size=2, unique=True))
        after = {name: tree for name, tree in steps[-1].items() if name not in taken or name in source}
        steps.append({**after, **{name: source[name] for name in taken if name in source}})
    return [{name: json.dumps(tree, indent=1).encode() for name, tree in step.items()} for step in steps]


def everything(one: Compiled) -> object:
    """All that is said of a compiled file, the places of its values included."""
    written = Written()
    write(one.root, "", written)
    return one.text, one.hash, one.discovers, one.callees, one.promises, written.places


@settings(max_examples=40, deadline=None)
@given(edits(), st.lists(st.booleans(), min_size=6, max_size=6))
def test_what_is_taken_from_an_earlier_mesh_is_what_would_be_made(
    steps: list[dict[str, bytes]], identity: list[bool]
) -> None:
    """After any edits, of any file: the compiled files, where each value comes from, and the problems."""
    previous, known = None, dict[str, Compiled]()
    remembered, worker._known = worker._known, worker._Known()
    try:
        for files, has_identity in zip(steps, identity, strict=False):
            judged, worker_now = worker.judge(files, has_identity), worker._known
            worker._known = worker._Known()
            anew = worker.judge(files, has_identity)
            assert type(judged) is type(anew)
            if isinstance(judged, Rejected) or isinstance(anew, Rejected):
                assert judged == anew
            else:
                assert (judged.hash, judged.files, judged.services) == (anew.hash, anew.files, anew.services)
            worker._known = worker_now
            try:
                mesh = read_mesh(files, previous, has_identity=has_identity)
                fresh = read_mesh(files, has_identity=has_identity)
            except ConfigError:
                continue
            assert (mesh.hash, mesh.warnings) == (fresh.hash, fresh.warnings)
            for name in mesh.services:
                now = compile_service(mesh, name, previous=known.get(name))
                assert everything(now) == everything(compile_service(fresh, name))
                known[name] = now
            previous = mesh
    finally:
        worker._known = remembered


def test_the_generator_makes_what_it_is_meant_to() -> None:
    """A mesh of the kind above is read, and a call of it does reach an instance of a further port."""
    files: dict[str, dict[str, object]] = {
        "mesh.yaml": {"mesh": "m", "access": "open", "unmatched": "deny"},
        "caller.yaml": {"service": "caller"},
        "a.yaml": {
            "service": "a", "ports": {"http": "h:80", "g": "h:9090"}, "instances": {"v": {"registered": {}}},
            "routes": [{"match": {"path": {"exact": "/a"}}, "to": "v"}],
        },
    }  # fmt: skip
    mesh = read_mesh({name: json.dumps(tree).encode() for name, tree in files.items()})
    request = Request("a", 9090, "/a", None)
    assert compiled_reach(mesh, request) == naive(files, request) == (frozenset({("a", "v", "g")}), None)
    loaded = load_source(make_source("f", compile_service(mesh, "caller").text.encode()), {})
    assert isinstance(loaded.config.service.name, str)
    assert not isinstance(loaded.config.service.name, Spelled)
