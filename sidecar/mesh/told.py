"""Compiled files as who only hands them on knows them: nothing here needs the language of a mesh. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LANGUAGE: Final = 2
"""The newest language of compiled files; a sidecar says which it knows, a file needs what `compile.language` says."""

IDENTITY: Final = False
"""Whether sidecars have identities where nobody says: a control plane says it to its `Compiler`, and commands that look
at files by `--identity`."""


@dataclass(frozen=True, slots=True)
class Told:
    """A file that a service's sidecars are to have: its hash and its text, empty where that is not kept any more."""

    hash: str
    text: str
