"""Compiled files as who only hands them on knows them: nothing here needs the language of a mesh. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LANGUAGE: Final = 5
"""The newest language of compiled files; a sidecar says which it knows, a file needs what `compile.language` says."""

IDENTITY: Final = True
"""Whether sidecars have identities where nobody says: a control plane says it to its `Compiler`, and commands that look
at files by `--identity`."""

NAME_PATTERN: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""Of meshes, services, instances and ports: a label of DNS, and a segment of a SPIFFE path."""

RESERVED: Final = frozenset({"ns", "control", "mesh", "anyone", "authenticated"})
"""What a service may not be called: the first segments of other identities, and the words of `callers`."""


@dataclass(frozen=True, slots=True)
class Told:
    """A file that a service's sidecars are to have: its hash and its text, empty where that is not kept any more."""

    hash: str
    text: str
