"""What a server's refusal means, in a sentence for people. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from sidecar.link.fields import MessageError, decode

MAX_BODY_BYTES: Final = 64 * 1024
_SHOWN_CHARS: Final = 300
_MAX_CODE_CHARS: Final = 64
_MEANINGS: Final[Mapping[int, str]] = {
    401: "the token is missing or wrong",
    403: "the token does not allow it",
    404: "there is no control plane at this address, or one of another release",
    429: "it has too much to do",
    503: "it cannot serve now",
}
_UNTAKEN: Final = frozenset({400, 413, 415, 422})
"""The same content would be refused again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Attributes:
        why: A sentence.
        retry_after_s: Which it asks to be left alone for; 0 if it does not say.
        is_final: Sending the same again would be in vain.
        code: A word by which programs tell refusals apart; empty if there is none.
    """

    why: str
    retry_after_s: float = 0.0
    is_final: bool = False
    code: str = ""


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """
    Understand an answer that is neither 2xx nor 304.

    Args:
        body: Its first octets; `{"error": "..."}` is shown, anything else is not. It may have a `code`.
    """
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    parts = [f"status {phrase}"]
    if status in _MEANINGS:
        parts.append(_MEANINGS[status])
    said, code = "", ""
    try:
        fields = decode(body)
        said = fields.text("error", "", MAX_BODY_BYTES)
        code = fields.text("code", "", _MAX_CODE_CHARS)
    except MessageError:
        pass
    if said:
        parts.append(" ".join(said.split())[:_SHOWN_CHARS])
    after = headers.get("retry-after", "").strip()
    # The other form, a date, is of no use between two clocks that may differ.
    retry_after_s = (
        float(after) if status in (429, 503) and after.isascii() and after.isdigit() and len(after) < 7 else 0
    )
    return Refusal(": ".join(parts), retry_after_s, status in _UNTAKEN, code)
