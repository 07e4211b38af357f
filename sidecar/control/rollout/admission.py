"""
Who is admitted, and in clear or by TLS: what two compiled files admit between them. *Cold, pure.*

A caller that is new to a service must be admitted before its first request, one that goes until its last; a callee must
take TLS before the first caller speaks it, and clear until the last does. So both files in between admit whom either
the old or the new file admits:

- `inbound.tls`: `off` takes clear, `strict` takes TLS, `permissive` both; of two `strict` what either takes in clear.
- `inbound.authorization`: none admits everyone, so rules that are new narrow and rules that go widen. Of two, the rules
  are those of the base, and those `allow` rules of the other that the base does not have, each where the other has it:
  behind and before the same `deny`s. Where both have the same `deny`s in the same order, this admits exactly whom one
  of the two admits: a request is admitted by a list if it matches an `allow` and none of the `deny`s before that, and
  the `deny`s before it are the same in both. A `deny` that only one file has, or has in another mode, is a setting as
  every other: it changes with the routes, and nothing that both refuse is let in for a while.
- an upstream's `tls.identities`: a callee that changes its name is accepted by the old and the new one.

Roots are in no compiled file: every bundle has the old and the new ones for as long as a leaf of either is alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

from sidecar.control.rollout.listeners import Tree

Rule = Mapping[str, Any]

_OFF: Final = "off"
_PERMISSIVE: Final = "permissive"
_STRICT: Final = "strict"
_AUDIT: Final = "audit"
_ENFORCE: Final = "enforce"
_ALLOW: Final = "allow"
_DENY: Final = "deny"
_CALLERS: Final = "callers"
_WIDER: Final = {"mode": _AUDIT, "default": _ALLOW, "unidentified": _ALLOW}
"""Of these keys the value that admits more."""


def with_admission_of(side: Tree, other: Tree) -> dict[str, Any]:
    """
    An inbound side that also admits whom another one admits.

    Returns:
        Equal to `side` where that admits all of them already.
    """
    made = dict(side)
    tls = _tls(side.get("tls", _OFF), other.get("tls", _OFF))
    if tls != side.get("tls", _OFF):
        made["tls"] = tls
    if "authorization" in side:
        if "authorization" in other:
            made["authorization"] = _authorization(side["authorization"], other["authorization"])
        else:
            del made["authorization"]
    return made


def with_identities_of(upstream: Tree, other: Tree) -> Tree:
    """An upstream that also accepts the identities of another definition of it; itself where there are no others."""
    own, others = (one.get("tls", {}).get("identities") for one in (upstream, other))
    if own is None or others is None:
        return upstream  # in clear so far, or from now on: whoever changes that is tried in waves
    both = _both(own, others)
    return upstream if both == own else {**upstream, "tls": {**upstream["tls"], "identities": both}}


def _tls(own: Any, other: Any) -> Any:
    modes = _mode(own), _mode(other)
    if modes == (_STRICT, _STRICT):
        clear = _both(_clear(own), _clear(other))
        return own if clear == _listed(_clear(own)) else {"mode": _STRICT, "clear": clear}
    return own if modes[0] in (modes[1], _PERMISSIVE) else _PERMISSIVE


def _mode(tls: Any) -> str:
    return str(tls["mode"] if isinstance(tls, Mapping) else tls)


def _clear(tls: Any) -> Any:
    return tls.get("clear", []) if isinstance(tls, Mapping) else []


def _authorization(own: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    mine, others = _plain(own), _plain(other)
    made = dict(mine)
    for key, wider in _WIDER.items():
        if wider in (mine[key], others[key]):
            made[key] = wider
    made["rules"] = _rules(mine["rules"], others["rules"])
    if any(rule["name"] == _CALLERS and rule["mode"] == _AUDIT for rule in (*mine["rules"], *others["rules"])):
        # Wherever it stands: what the default refuses it only tells.
        made["rules"] = [{**rule, "mode": _AUDIT} if rule["name"] == _CALLERS else rule for rule in made["rules"]]
    for one, plain in ((own, mine), (other, others)):
        if made == plain:
            return one
    return _sparse(made)


def _sparse(said: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what is a default."""
    rules = [
        {key: value for key, value in rule.items() if (key, value) != ("mode", _ENFORCE)} for rule in said["rules"]
    ]
    defaults = {"mode": _ENFORCE, "unidentified": _ALLOW}
    plain = {key: value for key, value in said.items() if defaults.get(key) != value}
    return {**plain, "rules": rules}


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a section says, with nothing left to defaults."""
    rules = [{"mode": _ENFORCE, **rule} for rule in said.get("rules", [])]
    return {"mode": _ENFORCE, "default": _DENY, "unidentified": _ALLOW, **said, "rules": rules}


def _rules(own: Sequence[Rule], other: Sequence[Rule]) -> list[Rule]:
    denies = [[index for index, rule in enumerate(rules) if _ALLOW not in rule] for rules in (own, other)]
    keys = [
        [repr((rules[index]["mode"], rules[index][_DENY])) for index in found]
        for rules, found in zip((own, other), denies, strict=True)
    ]
    blocks = SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_matching_blocks()
    common = [
        (denies[0][block.a + offset], denies[1][block.b + offset]) for block in blocks for offset in range(block.size)
    ]
    names = {rule["name"] for rule in own}
    made: list[Rule] = []
    start = (0, 0)
    for end in [*common, (len(own), len(other))]:
        allows = [rule for rule in other[start[1] : end[1]] if _ALLOW in rule]
        made += _joined(own[start[0] : end[0]], allows, names)
        made += own[end[0] : end[0] + 1]
        start = end[0] + 1, end[1] + 1
    return made


def _joined(own: Sequence[Rule], allows: Sequence[Rule], names: set[str]) -> list[Rule]:
    """
    The rules between two `deny`s that both files have.

    Args:
        names: Of all rules so far; takes those of rules that are added.
    """
    made = list(own)
    here = {rule["name"]: index for index, rule in enumerate(made) if _ALLOW in rule}
    for allow in allows:
        name = allow["name"]
        if name in here:
            rule = made[here[name]]
            made[here[name]] = {**rule, _ALLOW: _clauses(rule[_ALLOW], allow[_ALLOW])}
            continue
        number = 2
        while name in names:
            name, number = f"{allow['name']}.{number}", number + 1
        names.add(name)
        # No other rule that allows may be in audit than one called so.
        made.append({**allow, "name": name, "mode": allow["mode"] if name == _CALLERS else _ENFORCE})
    return made


def _clauses(own: Any, other: Any) -> Any:
    """What either allows; where they differ only in whom they name, as one."""
    if own == other:
        return own
    are_plain = isinstance(own, Mapping) and isinstance(other, Mapping) and "from" in own and "from" in other
    if are_plain and {**own, "from": 0} == {**other, "from": 0}:
        return {**own, "from": _both(own["from"], other["from"])}
    both = _both(own, other)
    return both[0] if len(both) == 1 else both


def _both(own: Any, other: Any) -> list[Any]:
    """The items of both; in the order of the one that has them all, if one has."""
    mine, others = _listed(own), _listed(other)
    more = [one for one in others if one not in mine]
    if more and all(one in others for one in mine):
        return others
    return mine + more


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
