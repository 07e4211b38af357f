"""
The shape of the house: who may import whom, what a room's door says, how long a file and how full a folder may be.

Imports are read from the source and never executed, so that an import inside a function or under `if TYPE_CHECKING`
counts as much as any other.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "sidecar"

RANKS = (
    ("errors", "clock", "build", "redact", "files"),
    ("process_log", "page"),
    ("message", "grpc", "path_template", "peer", "spiffe"),
    ("exchange",),
    ("http1", "net", "config"),
    # Its fields are those of HTTP/1.1.
    ("http2",),
    ("routing", "upstream", "filters", "telemetry"),
    # Rules ask of a request what routes ask.
    ("security", "capture"),
    ("proxy", "admin"),
    ("compile",),
    ("link",),
    ("insight",),
    ("loader",),
    ("runtime",),
    ("workers",),
    ("mesh",),
    ("control", "importing"),
    ("demo",),
    ("inject",),
    ("webhook",),
    ("install",),
    ("cli",),
)
RANK_OF = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
DATA_PATH = ("http1", "http2", "net", "routing", "upstream", "telemetry", "proxy")
NOT_ON_DATA_PATH = ("sidecar.config", "pydantic", "yaml", "click", "rich")
# Four hundred is what to aim at; a state machine of a connection does not gain by being cut in two.
MAX_LINES = 550
MAX_FILES = 14
CONTROL_PLANE_ONLY = ("aiohttp", "sidecar.control")
# The webhook serves by what the control plane serves by, and speaks to the same API; it proxies nothing.
CONTROL_PLANE_LIKE = ("control", "webhook")
# Commands that run a control plane, or change what its engine keeps.
AT_THE_ENGINE = (
    ("cli", "mesh", "control.py"),
    ("cli", "mesh", "authority", "ca.py"),
    ("cli", "inject", "serve.py"),
)
# Costs 14 MiB: a sidecar makes its key and its request in a process that ends at once.
MAKES_KEYS = (("link", "identity", "make_request.py"), ("demo", "captured", "make_certificate.py"))

VERIFIES_TOKENS = ("security", "tokens", "library.py")

MODULES = sorted(path for path in ROOT.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """A module, parsed once for all that is asked of it."""
    return ast.parse(path.read_text())


def room_of(path: Path) -> str:
    """`sidecar/http1/head.py` -> `http1`; `sidecar/errors.py` -> `errors`."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports_of(tree: ast.Module, package: str = "") -> Iterator[tuple[int, str]]:
    """
    Every module that the tree imports, wherever in it, with the line.

    Of `from a import b` both `a` and `a.b` are given, for `b` may be a module; relative imports are made absolute
    with `package`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*base, module] if module else base)
            yield node.lineno, module
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def package_of(path: Path) -> str:
    return ".".join(("sidecar", *path.relative_to(ROOT).parts[:-1]))


@functools.cache
def imports_in(path: Path) -> tuple[tuple[int, str], ...]:
    """`imports_of` a module of ours, looked for once for all that is asked of it."""
    return tuple(imports_of(tree_of(path), package_of(path)))


def of_every_module(rule: Callable[[Path], None]) -> Callable[[], None]:
    """
    One test of a rule for modules, which names all that break it. A test for each module would be some thousand, and
    take ten seconds for nothing but their number.
    """

    def test() -> None:
        broken = []
        for path, name in zip(MODULES, NAMES, strict=True):
            try:
                rule(path)
            except AssertionError as error:
                broken.append(f"{name}: {error}")
        assert not broken, "\n".join(broken)

    test.__name__, test.__doc__ = rule.__name__, rule.__doc__
    return test


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_import_reader_sees_every_form() -> None:
    """The reader of this file finds plain, from, relative, late and type-only imports."""
    source = (
        "from __future__ import annotations\nimport a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\n"
        "if TYPE_CHECKING:\n    import h\ndef late():\n    from i import j\n"
    )
    found = {module for _, module in imports_of(ast.parse(source), "sidecar.proxy")}
    assert found >= {"a.b", "c", "c.d", "sidecar.proxy.e", "sidecar.f", "sidecar.f.g", "h", "i.j"}


def test_every_room_has_a_rank() -> None:
    """A new room must be given its place in the order before anything can be put there."""
    known = set(RANK_OF) | {"__init__", "__main__"}
    assert {room_of(path) for path in MODULES} - {"__pycache__"} <= known


@of_every_module
def test_imports_go_down_only(path: Path) -> None:
    """A module imports its own room and rooms of a lower rank, never its own rank's other rooms or a higher one."""
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    wrong = []
    for line, module in imports_in(path):
        parts = module.split(".")
        if parts[0] != "sidecar" or len(parts) < 2 or parts[1] not in RANK_OF:
            continue
        if parts[1] != room and RANK_OF[parts[1]] >= RANK_OF[room]:
            wrong.append(f"{path.relative_to(ROOT.parent)}:{line}: {room} may not import {module}")
    assert not wrong


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if room_of(path) in (*DATA_PATH, "errors", "clock", "message", "exchange")],
    ids=[name for path, name in zip(MODULES, NAMES, strict=True)
         if room_of(path) in (*DATA_PATH, "errors", "clock", "message", "exchange")],
)  # fmt: skip
def test_data_path_knows_no_configuration(path: Path) -> None:
    """What serves requests imports neither the configuration nor what only reading it or a terminal needs."""
    wrong = [
        f"{path.relative_to(ROOT.parent)}:{line}: {module}"
        for line, module in imports_in(path)
        if any(is_within(module, banned) for banned in NOT_ON_DATA_PATH)
    ]
    assert not wrong


@of_every_module
def test_only_the_control_plane_imports_what_is_its_own(path: Path) -> None:
    """A sidecar's process never imports the control plane, nor the server that it is made of."""
    if room_of(path) in CONTROL_PLANE_LIKE or path.relative_to(ROOT).parts in AT_THE_ENGINE:
        return
    wrong = [
        f"{path.relative_to(ROOT.parent)}:{line}: {module}"
        for line, module in imports_in(path)
        if any(is_within(module, banned) for banned in CONTROL_PLANE_ONLY)
    ]
    assert not wrong


@of_every_module
def test_process_that_proxies_never_imports_cryptography(path: Path) -> None:
    """Certificates are made by the control plane and by processes of their own, which are run and never imported."""
    if room_of(path) in CONTROL_PLANE_LIKE or path.relative_to(ROOT).parts in MAKES_KEYS:
        return
    banned = ("cryptography", *(".".join(("sidecar", *one)).removesuffix(".py") for one in MAKES_KEYS))
    wrong = [
        f"{path.relative_to(ROOT.parent)}:{line}: {module}"
        for line, module in imports_in(path)
        if any(is_within(module, one) for one in banned)
    ]
    assert not wrong


@of_every_module
def test_what_verifies_tokens_is_imported_in_one_place_and_late(path: Path) -> None:
    """PyJWT imports `cryptography`, which only those pay whose rules ask for tokens: never with a module."""
    lines = [line for line, module in imports_in(path) if is_within(module, "jwt")]
    if path.relative_to(ROOT).parts != VERIFIES_TOKENS:
        assert not lines
        return
    late = {
        node.lineno
        for function in ast.walk(tree_of(path))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
    }
    typed = {
        node.lineno
        for block in ast.walk(tree_of(path))
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in block.body
    }
    assert lines
    assert set(lines) <= late | typed


def imported_modules() -> dict[str, set[str]]:
    """The modules of the package, and which of them each imports, wherever in it."""
    names = {
        package_of(path) if path.stem == "__init__" else f"{package_of(path)}.{path.stem}": path for path in MODULES
    }
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = {module for _, module in imports_in(path) if module in names}
        # Of `from a.b import c` where `a.b.c` is a module, the package `a.b` is only the way to it: a docstring.
        graph[name] = {module for module in found if names[module].stem != "__init__"} - {name}
    return graph


def circles_of(graph: dict[str, set[str]]) -> set[tuple[str, ...]]:
    """Groups of modules each of which reaches every other."""
    reached: dict[str, set[str]] = {}
    for name in graph:
        seen: set[str] = set()
        to_do = [name]
        while to_do:
            new = graph[to_do.pop()] - seen
            seen |= new
            to_do += new
        reached[name] = seen
    return {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }


def test_circles_are_found() -> None:
    """Two modules that import each other are one circle; one that only looks at it is none."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d2"}, "d2": set()}
    assert circles_of(graph) == {("b", "c")}


def test_no_imports_go_in_circles() -> None:
    """
    Neither at run time nor for types: where a lower module needs to speak of a higher one, it states a protocol.
    """
    assert set(circles_of(imported_modules())) == set()


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda folder: folder.name)
def test_folder_can_be_seen_at_once(folder: Path) -> None:
    """A room is about a dozen files; one that grows gets rooms within it."""
    assert len(list(folder.glob("*.py"))) <= MAX_FILES


def test_unit_tests_stand_where_their_subjects_do() -> None:
    """`tests/unit/` has the folders of `sidecar/`, and one for the benchmarks' own code."""
    tests = Path(__file__).parent / "unit"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")} - {Path("benchmarks")}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py" and path.parent != ROOT])
def test_door_of_a_room_is_a_docstring(path: Path) -> None:
    """A room's `__init__.py` says what the room is for and holds no code."""
    body = tree_of(path).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)
    assert isinstance(body[0].value.value, str)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py" and path.parent != ROOT])
def test_door_of_a_room_says_who_passes(path: Path) -> None:
    """It says what enters, what leaves, and who may come in."""
    words = " ".join((ast.get_docstring(tree_of(path)) or "").lower().split())
    assert all(any(form in words for form in forms) for forms in (("enter",), ("leave",), ("come in", "comes in")))


@of_every_module
def test_file_is_one_subject_long(path: Path) -> None:
    """No file is longer than what can be read at one sitting."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


@of_every_module
def test_first_statement_is_a_docstring(path: Path) -> None:
    """Every module says in its first line what it is."""
    assert ast.get_docstring(tree_of(path))
