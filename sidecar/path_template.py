"""
Templates of paths, `/orders/{id}`: what is one, and why another text is none. *Pure.*

    template   = 1*( "/" segment ) [ "/" rest ]      /orders/{id}/items      /files/{name...}
    segment    = literal | "{" name "}"              an own segment of the path, not empty
    rest       = "{" name "...}"                     all that is left: one segment or more, the first of them not empty
    name       = letters, digits and "_", not beginning with a digit; each once in a template

A name stands for a whole segment, as OpenAPI's path templates and the routers that say `http.route` have it; the rest
is spelled as Go's `net/http` spells it. A literal is compared as a path is, in its normal form.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_SEGMENTS: Final = 64
"""Of a template. OpenAPI documents seldom have a dozen; a bound keeps what is compiled of a template small."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_FOREIGN: Final = re.compile(r"[=:*+?]")
_DOT: Final = re.compile(r"%2e", re.IGNORECASE)


class TemplateError(ValueError):
    """
    A text that is no template.

    Attributes:
        hint: What to write instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.args[0]}; {self.hint}"


class Segment(NamedTuple):
    """
    One segment of a template.

    Attributes:
        literal: What the path must have there, as written; None where a name stands.
        name: What the path's segment is called; empty of a literal.
        is_rest: Whether the name is for all that is left of the path.
    """

    literal: str | None
    name: str = ""
    is_rest: bool = False


def parse_template(text: str) -> tuple[Segment, ...]:
    """
    Read a template.

    Whether its literals are parts of a path at all, such as without `?`, is not looked at here.

    Raises:
        TemplateError: It is none; the message says why in words that can stand alone.
    """
    if not text.startswith("/"):
        raise TemplateError("a template begins with `/`", f"did you mean `/{text}`?")
    written = text[1:].split("/")
    if len(written) > MAX_SEGMENTS:
        raise TemplateError(f"the template has more than {MAX_SEGMENTS} segments", "end it with `{name...}`")
    segments: list[Segment] = []
    names: set[str] = set()
    for number, one in enumerate(written, 1):
        segment = _segment(one)
        if segment.name in names:
            raise TemplateError(f"the name `{segment.name}` comes twice in the template", "rename one of them")
        if segment.name:
            names.add(segment.name)
        if segment.is_rest and number < len(written):
            message = f"`{one}` stands for all that is left of a path, and so only at the end"
            raise TemplateError(message, f"for one segment write `{{{segment.name}}}`")
        segments.append(segment)
    return tuple(segments)


def _segment(written: str) -> Segment:
    if "{" not in written and "}" not in written:
        if _DOT.sub(".", written) in (".", ".."):
            raise TemplateError(
                "a template has no segments of dots", "no path has them either once it is in normal form"
            )
        return Segment(written)
    if "{" not in written or -1 < written.find("}") < written.find("{"):
        raise TemplateError(f"a `}}` without its `{{` in `{written}`", "the characters themselves are `%7B` and `%7D`")
    if "}" not in written:
        raise TemplateError(
            f"a `{{` that is not closed in `{written}`", "write `{name}`; the character itself is `%7B`"
        )
    if not (written.startswith("{") and written.endswith("}")) or written.count("{") > 1 or written.count("}") > 1:
        raise TemplateError(
            f"a name stands for a whole segment, found `{written}`", "use `regex` for parts of segments"
        )
    inside = written[1:-1]
    name = inside.removesuffix("...")
    is_rest = name != inside
    if _NAME.fullmatch(name) is None:
        raise TemplateError(*_nameless(written, inside, name))
    return Segment(None, name, is_rest)


def _nameless(written: str, inside: str, name: str) -> tuple[str, str]:
    """Why it is no name, and what whoever knows another notation, `{id:[0-9]+}` or `{rest=**}`, may have meant."""
    if not name:
        return f"the name between `{{` and `}}` is empty in `{written}`", "give it one, such as `{id}`"
    message = f"expected a name between `{{` and `}}`, found `{written}`"
    if _FOREIGN.search(inside) is not None:
        found = re.search(_NAME, inside)
        wanted = found[0] if found is not None else "rest"
        return message, f"write `{{{wanted}}}` for one segment, `{{{wanted}...}}` at the end for all that is left"
    return message, "a name is letters, digits and `_`, at most 64, and does not begin with a digit"
