"""Ports as Compose files write them. *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.inject.edits import Value

_SHORT: Final = re.compile(r"(?P<host>.*:)?(?P<port>[0-9]+)(?P<protocol>/[a-z]+)?")


def container_port(written: Value) -> int | None:
    """The TCP port of the container that an entry of `ports` or `expose` means; None if it is none, or not known."""
    if isinstance(written, Mapping):
        target = written.get("target")
        is_tcp = written.get("protocol") in (None, "tcp")
        return container_port(target) if is_tcp and not isinstance(target, Mapping) else None
    if type(written) is int:
        return written
    found = _SHORT.fullmatch(written) if isinstance(written, str) else None
    if found is None or found["protocol"] not in (None, "/tcp"):
        return None
    return int(found["port"])


def led_to(written: Value, port: int, instead: int) -> Value:
    """The same entry of `ports`, which leads to another port of the container if it led to this one."""
    if container_port(written) != port:
        return written
    if isinstance(written, Mapping):
        return {**written, "target": instead}
    found = _SHORT.fullmatch(str(written))
    assert found is not None
    return f"{found['host'] or ''}{instead}{found['protocol'] or ''}"
