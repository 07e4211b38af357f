"""Names of ours, made of others'. *Cold, pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from sidecar.config.values.addresses import is_host
from sidecar.mesh.model.words import OF_SIDECARS, PORT_MARK
from sidecar.mesh.told import RESERVED

_MAX_CHARS: Final = 63
_OTHERS: Final = re.compile(r"[^a-z0-9]+")
_NOT_OF_ROUTES: Final = re.compile(r"[^A-Za-z0-9_.:/@-]+")


def word_of(text: str) -> str:
    """The nearest name of a service, an instance or a mesh: `Color_Teller` as `color-teller`; never empty."""
    word = _OTHERS.sub("-", text.lower()).strip("-")[:_MAX_CHARS].rstrip("-")
    return word or "unnamed"


def service_name(host: str, taken: Iterable[str]) -> str:
    """
    A name for the service that is called by a host: its first label, or more of them, or with a number.

    Args:
        taken: Names that others have.
    """
    used = {*taken, *RESERVED, *OF_SIDECARS}
    labels = [label for label in host.split(".") if label] or [host]
    words = [labels[0]] if not is_host(host) or host[0].isdigit() else labels
    for end in range(1, len(words) + 1):
        name = word_of("-".join(words[:end]))
        if name not in used:
            return name
    return numbered(word_of(labels[0]), used)


def instance_name(text: str, service: str, taken: Iterable[str]) -> str:
    """A name for a subset of a service's instances."""
    name = word_of(text)
    if name.startswith(PORT_MARK) or name == service:
        name = word_of(f"of-{name}")
    return numbered(name, {*taken, service})


def route_name(text: str, service: str, taken: Iterable[str]) -> str:
    """A name for a route of a service."""
    name = _NOT_OF_ROUTES.sub("-", text).lstrip(".:/@-")[:100] or "route"
    if name.startswith(PORT_MARK) or name == service:
        name = f"route-{name}"
    return numbered(name, {*taken, service})


def numbered(name: str, used: set[str]) -> str:
    """The name, or the name with the first number that makes it new."""
    if name not in used:
        return name
    number = 2
    while f"{name[: _MAX_CHARS - 5]}-{number}" in used:
        number += 1
    return f"{name[: _MAX_CHARS - 5]}-{number}"
