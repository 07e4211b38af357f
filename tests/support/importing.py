"""Imports in memory: text in, what was written and the account out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sidecar.config.yaml.document import Mapping, Node
from sidecar.config.yaml.document import Sequence as SequenceNode
from sidecar.config.yaml.foreign import parse_foreign
from sidecar.importing.account import Account, Entry, shown
from sidecar.importing.account import Path as FieldPath
from sidecar.importing.appmesh.translate import translate
from sidecar.importing.draft import MeshDraft
from sidecar.importing.gateway_api.translate import translate as translate_routes
from sidecar.importing.judge import judge
from sidecar.importing.write import files_of

SAMPLES = Path(__file__).parent.parent / "samples" / "importing"


class Import:
    """What one import came to."""

    def __init__(self, source: str, documents: list[Node], mesh: MeshDraft | None, accounts: list[Account]) -> None:
        self.documents = documents
        self.accounts = accounts
        self.files = {} if mesh is None else {name: raw.decode() for name, raw in files_of(mesh, source).items()}
        self.entries = [entry for account in accounts for entry in account.entries()]

    @property
    def lost(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_lost]

    def entry(self, ending: str) -> Entry:
        """The one entry whose path ends so."""
        (found,) = [entry for entry in self.entries if entry.path.endswith(ending) and entry.outcome != "assumed"]
        return found

    def problems(self) -> list[str]:
        """What `sidecar mesh check` says of the files."""
        return [str(one) for one in judge({name: text.encode() for name, text in self.files.items()})[0]]


def import_app_mesh(*texts: str, given: dict[str, str] | None = None, mesh: str = "") -> Import:
    documents: list[Node] = []
    for index, text in enumerate(texts):
        roots, problems = parse_foreign(text, f"file{index}.yaml")
        assert problems == []
        documents += roots
    found = translate(documents, given or {}, mesh)
    return Import("app-mesh", documents, found.mesh, found.accounts)


def import_gateway_api(*texts: str) -> Import:
    documents: list[Node] = []
    for index, text in enumerate(texts):
        roots, problems = parse_foreign(text, f"file{index}.yaml")
        assert problems == []
        documents += roots
    mesh, accounts = translate_routes(documents)
    return Import("gateway-api", documents, mesh, accounts)


def leaves(node: Node, path: FieldPath = ()) -> Iterator[FieldPath]:
    """The paths of all scalars, and of empty mappings and lists: written without looking at how accounts do it."""
    if isinstance(node, Mapping) and node.entries:
        for key, (_, value) in node.entries.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, SequenceNode) and node.items:
        for index, item in enumerate(node.items):
            yield from leaves(item, (*path, index))
    else:
        yield path


def check_account(documents: Sequence[Node], entries: Sequence[Entry]) -> None:
    """Every leaf of every document is in exactly one entry, and entries count what they cover."""
    told = [entry for entry in entries if entry.outcome != "assumed"]
    places: dict[tuple[str, str], list[Entry]] = {}
    for entry in told:
        places.setdefault((entry.file, entry.path), []).append(entry)
    claimed: dict[int, int] = {}
    for document in documents:
        for leaf in leaves(document):
            node = document
            covering = []
            for end in range(len(leaf) + 1):
                for entry in places.get((document.file, shown(leaf[:end])), []):
                    if (entry.line, entry.column) == (node.line, node.column):
                        covering.append(entry)
                if end < len(leaf):
                    step = leaf[end]
                    if isinstance(node, Mapping):
                        node = node.entries[str(step)][1]
                    elif isinstance(node, SequenceNode):
                        node = node.items[int(step)]
            assert len(covering) == 1, (shown(leaf), covering)
            claimed[id(covering[0])] = claimed.get(id(covering[0]), 0) + 1
    assert [entry.leaves for entry in told] == [claimed.get(id(entry), 0) for entry in told]
