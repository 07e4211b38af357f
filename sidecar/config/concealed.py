"""
What a problem may say of a value that must not be shown: as it is written, never what it became. *Cold, pure.*

That is every value with a variable in it, for what a variable holds is not for whoever reads the log, and every one
under a name that speaks of secrets. A message or hint that repeats more than three characters of such a value in
another form than between quotes is replaced as a whole.
"""

from __future__ import annotations

from typing import Final

from sidecar.config.yaml.document import Scalar, describe
from sidecar.config.yaml.places import Place
from sidecar.redact import HIDDEN, is_secret_place

_QUOTES: Final = "`'\""
_LONGEST_REPEATED: Final = 3
_MAX_COMPARED_CHARS: Final = 4096

_MESSAGE: Final = "the value is not accepted here"
_HINT: Final = "what variables hold is not shown"


def found(place: Place) -> str:
    """What was found, as `describe` says it."""
    instead = _instead(place)
    if instead is None:
        return describe(place.mark)
    return HIDDEN if instead == HIDDEN else f'"{instead}"'


def concealed(place: Place, message: str, hint: str) -> tuple[str, str]:
    """A problem's message and hint without the value that they are about, if it must not be shown."""
    instead = _instead(place)
    if instead is None:
        return message, hint
    assert isinstance(place.mark, Scalar)
    value = place.mark.text
    message, hint = (_quoted_replaced(text, value, instead) for text in (message, hint))
    return (
        _MESSAGE if _repeats(message, value, instead) else message,
        _HINT if _repeats(hint, value, instead) else hint,
    )


def _instead(place: Place) -> str | None:
    """What stands for a value that must not be shown; None where it may be, and for keys."""
    mark = place.mark
    if mark is not place.node or not isinstance(mark, Scalar):
        return None
    if is_secret_place(place.keys):
        return HIDDEN
    return mark.written


def _quoted_replaced(text: str, value: str, instead: str) -> str:
    for form in (value, value.lower()):
        for quote in _QUOTES:
            text = text.replace(f"{quote}{form}{quote}", f"{quote}{instead}{quote}")
    return text


def _repeats(text: str, value: str, instead: str) -> bool:
    """Whether the text has a piece of the value."""
    value = value[:_MAX_COMPARED_CHARS].casefold()
    text = text.replace(instead, " ").casefold()
    length = min(_LONGEST_REPEATED + 1, len(value))
    return bool(value) and any(text[at : at + length] in value for at in range(len(text) - length + 1))
