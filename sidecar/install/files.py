"""The mesh's own files as ConfigMaps, one for each, as the engine `kubernetes` reads them. *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from sidecar.config.source import decode
from sidecar.install.parts import Manifest, named
from sidecar.install.settings import Settings

LABEL: Final = "sidecar.mesh/mesh"
MAX_BYTES: Final = 1024 * 1024
"""Of a ConfigMap."""
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_OTHER: Final = re.compile(r"[^a-z0-9]+")


class FileError(ValueError):
    """A file that cannot be a ConfigMap; which, and why."""


def manifests(settings: Settings) -> Iterator[Manifest]:
    """
    One for each file, in their order.

    Raises:
        FileError: One has a name that is none in Kubernetes, or that another one's would be, too; or is too large.
        ConfigError: One is no text.
    """
    names: dict[str, str] = {}
    for path, raw in settings.files.items():
        file = PurePosixPath(path)
        words = _OTHER.sub("-", str(file.with_suffix("")).lower()).strip("-")
        name = "mesh" if words == "mesh" else f"mesh-{words}"
        if _KEY.fullmatch(file.name) is None or not words or len(name) > 253:
            raise FileError(
                f"{path}: expected a name of letters, digits, `-`, `_` and `.`; Kubernetes has no other keys"
            )
        if len(raw) > MAX_BYTES:
            raise FileError(f"{path}: expected at most {MAX_BYTES} octets, as a ConfigMap has; divide it")
        if name in names:
            raise FileError(f"{path}: would be the ConfigMap {name}, as {names[name]}; rename one of the two")
        names[name] = path
        metadata = named(settings, name)
        metadata["labels"] = {**metadata["labels"], "app.kubernetes.io/name": "mesh-files", LABEL: settings.mesh}
        yield Manifest(
            "", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {file.name: decode(raw, path)}}
        )
