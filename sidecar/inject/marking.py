"""The marks by which an injected workload is known later, and by which the sidecar comes out of it again. *Pure.*"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from sidecar import __version__
from sidecar.inject.edits import Edit
from sidecar.inject.text.restore import notes_of
from sidecar.inject.text.settle import settled
from sidecar.inject.text.tree import Node
from sidecar.inject.wanted import INJECTED, UNDO, Decision

UNCOPIED: Final = frozenset({"spec", "template", "containers", "initContainers", "jobTemplate", "services"})
"""Values that are not written out for the sake of an edit: too much would stand twice."""


def marked(text: str, root: Node, decision: Decision) -> list[Edit]:
    """
    The edits of a decision, with the marks by which they are known, and how they are undone.

    Args:
        text: In which the document stands; `root` is the document's.

    Raises:
        TextError: One of them cannot be written into this text.
    """
    bare = decision.edits({INJECTED: "", UNDO: ""})
    notes = notes_of(text, root, settled(bare, root, UNCOPIED), decision.path)
    digest = hashlib.sha256(repr(bare).encode()).hexdigest()[:8]
    # Without `$`, which Compose would take for a variable.
    undo = json.dumps([list(note) for note in notes], separators=(",", ":")).replace("$", "\\u0024")
    return [*decision.edits({INJECTED: f"{__version__}-{digest}", UNDO: undo})]
