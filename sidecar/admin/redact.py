"""
Keep secrets out of what the admin listener shows. *Pure, cold.*

Two rules, because a secret reaches the configuration by two ways: a value under a name that speaks of secrets is
hidden, and so is, wherever it stands, the value of an environment variable with such a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

HIDDEN = "[redacted]"

_SENSITIVE = re.compile(
    r"(?:^|[-_.])(?:authorization|auth|api[-_]?key|access[-_]?key|token|secret|passw(?:or)?d|pwd|credentials?|cookie)"
    r"(?:$|[-_.])|token$|secret$|password$|apikey$",
    re.IGNORECASE,
)

# A header edit or a match names a field; these names say what kind of thing stands there and are no secrets.
_STRUCTURE = frozenset({"cookie", "cookies", "sticky", "hash"})

_MIN_SECRET_LENGTH = 4
"""Shorter values of variables are not searched for: they would hide every `1` and `true` of the page."""


def is_sensitive(name: str) -> bool:
    """Whether what stands under this name is to be hidden: `authorization`, `x-api-key`, `DB_PASSWORD`."""
    return _SENSITIVE.search(name) is not None


def secrets_of(env: Mapping[str, str]) -> tuple[str, ...]:
    """Values of environment variables whose names speak of secrets, longest first."""
    found = {value for name, value in env.items() if is_sensitive(name) and len(value) >= _MIN_SECRET_LENGTH}
    return tuple(sorted(found, key=len, reverse=True))


def redact(value: object, secrets: Iterable[str] = ()) -> object:
    """
    A copy of a JSON-ready value with secrets replaced by `[redacted]`.

    Args:
        value: Dictionaries, lists and scalars.
        secrets: Strings that must not appear in any value, `secrets_of`.
    """
    return _walk(value, tuple(secrets), False)


def _walk(value: object, secrets: tuple[str, ...], is_header_map: bool) -> object:
    if isinstance(value, Mapping):
        return {key: _under(str(key), item, secrets, is_header_map) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_walk(item, secrets, is_header_map) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    return value


def _under(key: str, value: object, secrets: tuple[str, ...], is_header_map: bool) -> object:
    if value is None or (is_sensitive(key) and not is_header_map and key in _STRUCTURE):
        return value if value is None else _walk(value, secrets, False)
    if is_sensitive(key):
        return _hide(value)
    return _walk(value, secrets, key in ("set", "add", "headers"))


def _hide(value: object) -> object:
    """Hide scalars at any depth, but keep the shape: what kind of match stands there is no secret."""
    if isinstance(value, Mapping):
        return {key: _hide(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hide(item) for item in value]
    return HIDDEN if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value
