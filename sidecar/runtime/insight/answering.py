"""What a control plane may ask of this sidecar, and is answered with what the admin listener would say. *Cold.*"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sidecar.config.source import MAX_FILE_BYTES
from sidecar.link.fields import Fields

_MAX_VALUE_CHARS = 64 * 1024
_PUSHED = "pushed"
"""Name of a file that has none here."""
_PLAIN = ("method", "source_ip", "from")


class Told(Protocol):
    """Who knows the answers; `runtime.views.Views` and `workers.views.GroupViews` do."""

    async def explain(self, params: list[tuple[str, str]]) -> Mapping[str, object]:
        """As `GET /explain`."""
        ...

    async def preview(self, name: str, text: bytes) -> Mapping[str, Any]:
        """As `POST /preview`."""
        ...


async def answered(views: Told, kind: str, body: Mapping[str, Any]) -> Mapping[str, object] | None:
    """
    The answer; None for a kind of question that this release does not know.

    Args:
        kind: `explain` or `preview`.
        body: Of the question. To explain: `request`, with `url` and perhaps `method`, `headers`, `cookies`, `source_ip`
            and `from`; or `request_id`; and perhaps `direction`. To preview: `file`, which this sidecar would get.

    Raises:
        ValueError, LookupError: There is none; the text says why.
        link.fields.MessageError: The question is not of that form.
    """
    if kind == "explain":
        return await views.explain(_params(Fields(body)))
    if kind == "preview":
        text = Fields(body).text("file", limit=MAX_FILE_BYTES)
        return await views.preview(_PUSHED, text.encode("utf-8", "surrogatepass"))
    return None


def _params(said: Fields) -> list[tuple[str, str]]:
    """The question as the query of `GET /explain` has it."""
    found = [(name, said.text(name)) for name in ("request_id", "direction") if name in said.all()]
    request = said.part("request")
    if request is not None:
        found.append(("url", request.text("url", limit=_MAX_VALUE_CHARS)))
        found += [(name, request.text(name)) for name in _PLAIN if name in request.all()]
        for name, parameter, separator in (("headers", "header", ": "), ("cookies", "cookie", "=")):
            values = request.part(name)
            for key in values.all() if values is not None else ():
                assert values is not None
                found.append((parameter, f"{key}{separator}{values.text(key, limit=_MAX_VALUE_CHARS)}"))
    return found
