"""
What is secret, decided in one place; whatever shows something to somebody asks here. *Pure, cold.*

Three rules, because a secret reaches the configuration by three ways: a value under a name that speaks of secrets is
hidden, be it of a field, a cookie or a parameter; so is, wherever it stands, the value of an environment variable with
such a name, and what was read from a file that holds a secret (`${file:...}`); and so are the user information and the
signatures of a URL.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote_plus

HIDDEN: Final = "[redacted]"

_SENSITIVE: Final = re.compile(
    r"(?:^|[-_.])(?:authorization|auth|api[-_]?key|access[-_]?key|private[-_]?key|token|secret|passw(?:or)?d|passphrase"
    r"|pwd|credentials?|cookie)(?:$|[-_.])|token$|secret$|password$|apikey$",
    re.IGNORECASE,
)

# What a message carries and no variable is called for that reason: XDG_SESSION_TYPE is no secret.
_OF_SESSIONS: Final = re.compile(
    r"(?:^|[-_.])(?:session|sid|jwt|csrf|xsrf)(?:$|[-_.])|sess(?:ion)?[-_]?id$", re.IGNORECASE
)

# Variables whose names only look so: where a shell is and was (pwd(1)), and by custom where a secret's file is.
_OF_PATHS: Final = re.compile(r"(?:OLD)?PWD|.+_FILE", re.IGNORECASE)

# Parameters that carry secrets under names that do not say so: signatures of presigned addresses.
_SIGNED: Final = frozenset(
    {"sig", "signature", "awsaccesskeyid", "x-amz-signature", "x-amz-credential", "x-goog-signature"}
)

# Keys of the file whose mapping has names of fields, cookies or parameters as its keys, and those of the file's own.
_NAME_MAPS: Final = frozenset({"headers", "header", "cookies", "query", "set", "add"})
_OWN_NAMES: Final = frozenset({"upstreams"})
# Keys of the language that say what kind of thing stands there.
_STRUCTURE: Final = frozenset({"cookie", "cookies"})

_USER_INFORMATION: Final = re.compile(r"(?<=://)[^/?#@\s\"'`]+(?=@)")
_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#?\s\"'`]+)=[^&#\s\"'`]+")

_MIN_SECRET_LENGTH: Final = 4
"""Shorter values of variables are not searched for: they would hide every `1` and `no` of the page."""
_MAX_LEARNED: Final = 1024
"""Four times as many as one file may name."""
_PLAIN_WORDS: Final = frozenset({"true", "false", "none", "null"})


def is_sensitive(name: str) -> bool:
    """Whether the value of a field, cookie or parameter of this name is hidden: `authorization`, `x-api-key`, `sid`."""
    return _SENSITIVE.search(name) is not None or _OF_SESSIONS.search(name) is not None


def is_sensitive_parameter(name: str) -> bool:
    """The same of a parameter of a query, as it stands there: signatures count, too."""
    plain = unquote_plus(name)
    return plain.lower() in _SIGNED or is_sensitive(plain)


def is_secret_place(keys: Sequence[int | str]) -> bool:
    """Whether what stands at this place of the file is hidden for its name, as `match.headers.x-api-key` is."""
    return any(
        holder in _NAME_MAPS and isinstance(name, str) and is_sensitive(name)
        for holder, name in itertools.pairwise(keys)
    )


class Secrets:
    """
    What may be shown by whoever knows these secrets.

    Args:
        values: Texts that must not appear anywhere, in no form in which something here shows them.
    """

    __slots__ = ("_learned", "_pattern", "_values")

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = frozenset(values)
        self._learned: dict[str, None] = {}
        self._compile()

    def learn(self, values: Iterable[str]) -> None:
        """From now on hide these, too; of many, those that were learned last, for an old one may still be in use."""
        new = {value: None for value in values if _is_worth_hiding(value)}
        if not new.keys() <= self._learned.keys():
            self._learned = {**{value: None for value in self._learned if value not in new}, **new}
            for value in list(self._learned)[:-_MAX_LEARNED]:
                del self._learned[value]
            self._compile()

    def _compile(self) -> None:
        forms = {form for value in (*self._values, *self._learned) for form in _forms(value)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        # Hosts are compared in lower case, so this is how they come out.
        text = "|".join(re.escape(form) for form in longest_first)
        self._pattern = re.compile(text, re.IGNORECASE) if text else None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self._pattern is not None

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Secrets:
        """The values of environment variables whose names speak of secrets."""
        return cls(value for name, value in env.items() if _is_secret_variable(name) and _is_worth_hiding(value))

    def hide(self, text: str) -> str:
        """The text without secrets: for a line of a log, a problem, a value."""
        if self._pattern is not None:
            text = self._pattern.sub(HIDDEN, text)
        if "://" in text:
            text = _USER_INFORMATION.sub(HIDDEN, text)
        if "?" in text or "&" in text:
            text = _PARAMETER.sub(_without_value, text)
        return text

    def shown(self, value: object) -> Any:
        """A copy of a JSON-ready part of the configuration without secrets; what kind of match stands there stays."""
        return self._walk(value, "")

    def under(self, name: str, value: object) -> Any:
        """The same of what stands under a key of the file, given as a path such as `fault.header`."""
        key = name.rpartition(".")[2]
        return self._item("", key, value)

    def _walk(self, value: object, holder: str) -> Any:
        if isinstance(value, Mapping):
            return {key: self._item(holder, str(key), item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item, holder) for item in value]
        return self.hide(value) if isinstance(value, str) else value

    def _item(self, holder: str, key: str, value: object) -> Any:
        if holder in _NAME_MAPS:
            return _hidden(value) if is_sensitive(key) else self._walk(value, "")
        if key == "authorization" and (isinstance(value, Mapping) or holder == "expect"):
            return self._walk(value, key)  # rules, and what a test expects of them, and not the field of that name
        if key not in _STRUCTURE and holder not in _OWN_NAMES and _SENSITIVE.search(key) is not None:
            return _hidden(value)
        return self._walk(value, key)


NO_SECRETS: Final = Secrets()
"""Hides what its name or its form gives away."""


def _is_secret_variable(name: str) -> bool:
    return _SENSITIVE.search(name) is not None and _OF_PATHS.fullmatch(name) is None


def _is_worth_hiding(value: str) -> bool:
    return len(value) >= _MIN_SECRET_LENGTH and value.lower() not in _PLAIN_WORDS


def _forms(value: str) -> Iterable[str]:
    """How a value looks after what is done with it before it is shown."""
    escaped = value.encode("unicode_escape", "surrogatepass").decode()
    in_json = json.dumps(value)[1:-1]
    return (value, escaped, in_json, json.dumps(value, ensure_ascii=False)[1:-1], _percent_encoded(value))


def _percent_encoded(value: str) -> str:
    return quote(value.encode("utf-8", "surrogatepass"), safe="")


def _without_value(found: re.Match[str]) -> str:
    return f"{found[1]}={HIDDEN}" if is_sensitive_parameter(found[1]) else found[0]


def _hidden(value: object) -> Any:
    """Scalars hidden at any depth, but the shape kept: what kind of match stands there is no secret."""
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(item) for item in value]
    return HIDDEN if isinstance(value, str | int | float) and not isinstance(value, bool) else value
