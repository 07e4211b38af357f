"""The backends of a rule, with the filters that each has of its own, as the sides of a route. *Cold, pure.*"""

from __future__ import annotations

from typing import Any

from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError
from sidecar.importing.gateway_api.filters import EDITS, Target, edits, redirect, rewrite

_MAX_WEIGHT = 1_000_000
_OF_BACKENDS = ("group", "kind", "name", "namespace", "port")

Side = dict[str, Plain]
"""As the list form of `to` has it: `upstream` or `redirect`, `weight`, and what is changed there."""


def sides_of(rule: Field, instance: Target, of_rule: Plain | None, *, has_prefixes: bool) -> list[Side]:
    """
    The sides of a rule in the order of its backends; those that differ by their weights only are one.

    Args:
        instance: The instance that a reference means.
        of_rule: What the rule's own filters rewrite. A side's rewriting takes the place of it, so it says that, too.
        has_prefixes: Whether all matches of the rule have a prefix, which may be replaced.
    """
    found: list[Side] = []
    for reference in rule.each("backendRefs"):
        try:
            side = _side(reference, instance, has_prefixes)
        except WrongError as error:
            error.give_up(reference)
            continue
        if side is None:
            continue
        own = side.get("rewrite")
        if isinstance(own, dict) and isinstance(of_rule, dict):
            is_path_said = "path" in own or "prefix" in own
            kept = {key: value for key, value in of_rule.items() if key == "host" or not is_path_said}
            side["rewrite"] = {**kept, **own}
        _add(found, side, reference)
    return found


def _side(reference: Field, instance: Target, has_prefixes: bool) -> Side | None:
    weight = reference.get("weight")
    number = 1 if weight is None else weight.integer()
    if not 0 <= number <= _MAX_WEIGHT:
        raise WrongError(weight or reference, f"expected a weight from 0 to {_MAX_WEIGHT}, found {number}")
    kinds = [one.need("type").text() for one in reference.each("filters")]
    side: Side = {}
    if "RequestRedirect" in kinds:
        for key in _OF_BACKENDS:
            reference.drop(key, "its requests are redirected, and go to no backend")
    else:
        name = instance(reference)
        if name is None:
            return None
        side["upstream"] = name
    side["weight"] = number
    if weight is not None:
        weight.kept("to")
    for one, kind in zip(reference.each("filters"), kinds, strict=True):
        _put_filter(one, kind, side, kinds, has_prefixes)
    return side


def _put_filter(one: Field, kind: str, side: Side, kinds: list[str], has_prefixes: bool) -> None:
    if kinds.count(kind) > 1 and kind in (*EDITS, "URLRewrite", "RequestRedirect"):
        raise WrongError(one, f"found {kinds.count(kind)} of {kind}", "the specification has one of each")
    if "RequestRedirect" in kinds and kind in ("RequestHeaderModifier", "URLRewrite"):
        one.dropped("its requests are redirected, and go to no backend")
        return
    if kind in EDITS:
        side[EDITS[kind]] = edits(one)
    elif kind == "URLRewrite":
        side["rewrite"] = rewrite(one.need("urlRewrite"), has_prefixes)
        one.need("type").kept("says what it does")
    elif kind == "RequestRedirect":
        side["redirect"] = redirect(one.need("requestRedirect"), has_prefixes)
        one.need("type").kept("says what it does")
    else:
        hint = "make a rule of its own of this backend, with the filter in the rule"
        one.dropped(f"the language has no {kind} of one target", hint, is_lost=True)


def _add(sides: list[Side], side: Side, reference: Field) -> None:
    """One more, or more of one that is there: a backend may be there again only where it is rewritten otherwise."""
    for other in sides:
        if "redirect" not in side and _whose(other) == _whose(side):
            if any(other.get(key) != side.get(key) for key in EDITS.values()):
                message = "the same backend has other header modifiers in this rule, and those are made for all of it"
                for one in reference.each("filters"):
                    one.changed(message, "make a rule of its own of it", is_lost=True)
            other["weight"] = _weight(other) + _weight(side)
            return
    sides.append(side)


def _whose(side: Side) -> tuple[Any, Any]:
    return side.get("upstream"), side.get("rewrite")


def _weight(side: Side) -> int:
    weight = side["weight"]
    assert isinstance(weight, int)
    return weight
