"""Who is admitted between two files: whom either of them admits."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.control.rollout.admission import with_admission_of, with_identities_of
from sidecar.control.rollout.split import Split, split

Values = dict[str, Any]
CLEAR: Values = {"methods": ["GET"], "path": ["/ready"]}
SCRAPES: Values = {"path": ["/metrics"]}


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (None, None, None), (None, "off", None), ("off", None, "off"), ("off", "permissive", "permissive"),
        ("off", "strict", "permissive"), ("strict", "off", "permissive"), (None, "strict", "permissive"),
        ("permissive", "strict", "permissive"), ("strict", "permissive", "permissive"), ("strict", "strict", "strict"),
        ("permissive", None, "permissive"), ({"mode": "permissive"}, "strict", {"mode": "permissive"}),
        ({"mode": "strict", "clear": CLEAR}, "strict", {"mode": "strict", "clear": CLEAR}),
        ("strict", {"mode": "strict", "clear": CLEAR}, {"mode": "strict", "clear": [CLEAR]}),
        ({"mode": "strict", "clear": [SCRAPES]}, {"mode": "strict", "clear": CLEAR},
         {"mode": "strict", "clear": [SCRAPES, CLEAR]}),
        ({"mode": "strict", "clear": [SCRAPES]}, "permissive", "permissive"),
    ],
)  # fmt: skip
def test_tls_takes_what_either_takes(own: Any, other: Any, expected: Any) -> None:
    """`off` takes clear, `strict` TLS, `permissive` both."""
    sides = [{} if one is None else {"tls": one} for one in (own, other)]
    assert with_admission_of(sides[0], sides[1]).get("tls") == expected


def rule(name: str, what: str, **said: Any) -> Values:
    """`{name, what: {...}}`, with a mode if that is said."""
    mode = {"mode": said.pop("mode")} if "mode" in said else {}
    return {"name": name, **mode, what: said}


def section(*rules: Values, **values: Any) -> Values:
    """`authorization` of a compiled file."""
    return {"default": "deny", "rules": list(rules), **values}


def callers(*names: str, **said: Any) -> Values:
    """The rule that is made from `callers`."""
    return rule("callers", "allow", **{"from": [f"spiffe://shop/{name}" for name in names]}, **said)


def joined(own: Values | None, other: Values | None) -> Any:
    """What is said in between."""
    sides = [{} if one is None else {"authorization": one} for one in (own, other)]
    return with_admission_of(sides[0], sides[1]).get("authorization")


def test_no_rules_admit_everyone() -> None:
    """Rules that are new narrow, and rules that go widen."""
    assert joined(None, section(callers("a"))) is None
    assert joined(section(callers("a")), None) is None


def test_callers_of_both_are_admitted() -> None:
    """One rule, as one file has it where that names them all; else the old ones first."""
    both = section(callers("a", "b"))
    assert joined(section(callers("a")), both) is both
    assert joined(both, section(callers("b"))) is both
    assert joined(section(callers("b")), section(callers("a"))) == section(callers("b", "a"))


def test_nobody_is_a_list_without_clauses() -> None:
    """`callers: []`; between it and another is the other."""
    nobody, one = section({"name": "callers", "allow": []}), section(callers("a"))
    assert joined(nobody, one) is one
    assert joined(one, nobody) is one


def test_callers_that_ask_for_different_things_stand_side_by_side() -> None:
    """As clauses of one rule, any of which is enough."""
    own = rule("callers", "allow", **{"from": ["a"]})
    other = rule("callers", "allow", **{"from": ["a"], "path": ["/x"]})
    assert joined(section(own), section(other)) == section(
        {"name": "callers", "allow": [{"from": ["a"]}, {"from": ["a"], "path": ["/x"]}]}
    )


def test_audit_admits_more_than_enforcement() -> None:
    """Of the rule from `callers`, and of all; of one `deny` it is a setting."""
    own, other = section(callers("a", mode="audit")), section(callers("a"))
    assert joined(own, other) is own
    assert joined(other, own) is own
    assert joined(other, section(callers("a"), mode="audit")) == section(callers("a"), mode="audit")
    denies = section(rule("d", "deny", path=["/x"]), callers("a"))
    audited = section(rule("d", "deny", path=["/x"], mode="audit"), callers("b"))
    assert joined(denies, audited) == section(rule("d", "deny", path=["/x"]), callers("a", "b"))


def test_defaults_and_who_is_not_identified_are_as_wide_as_either_says() -> None:
    """What refuses less."""
    own, other = section(callers("a"), unidentified="deny"), section(callers("a"))
    assert joined(own, other) is other
    assert joined(other, own) is other
    assert joined(own, section(callers("a"), default="allow"))["default"] == "allow"


def test_denial_that_only_one_has_changes_with_the_routes() -> None:
    """And callers who are new are admitted first all the same."""
    deny = rule("no-internals", "deny", path={"prefix": "/internal"})
    last = rule("last", "deny", methods=["TRACE"])
    own, other = section(callers("a"), last), section(deny, callers("a", "b"), last)
    assert joined(own, other) == section(callers("a", "b"), last)
    assert joined(other, own) is other


def test_name_is_never_given_twice() -> None:
    """An `allow` on the other side of a `deny` that both have: moved, so it stands on both."""
    deny, allow = rule("d", "deny", path=["/x"]), rule("ops", "allow", **{"from": ["a"]})
    assert joined(section(deny, allow), section(allow, deny)) == section({**allow, "name": "ops.2"}, deny, allow)


def upstream(*identities: str) -> Values:
    """That is spoken to by TLS between sidecars."""
    return {"discover": "b", **({"tls": {"identities": list(identities)}} if identities else {})}


def test_identities_of_both_are_accepted() -> None:
    """A callee that changes its name is called by either; TLS itself comes and goes with the routes."""
    own, other = upstream("x"), upstream("y")
    assert with_identities_of(own, other) == upstream("x", "y")
    assert with_identities_of(own, own) is own
    assert with_identities_of(upstream(), other) == upstream()
    outside = {"dns": "h:443", "tls": {}}
    assert with_identities_of(outside, other) is outside


def _cut(old: Values, new: Values) -> Split:
    return split([old], new)


def _callee(tls: str | None, authorization: Values | None) -> Values:
    said = {"tls": tls, "authorization": authorization}
    return {"service": "b", "inbound": {"app": "127.0.0.1:1", **{k: v for k, v in said.items() if v is not None}}}


def test_a_mesh_that_begins_with_identity_loses_nobody() -> None:
    """The callee takes both first, callers speak TLS with the routes, and rules come last."""
    old, new = _callee(None, None), _callee("permissive", section(callers("a")))
    parts = _cut(old, new)
    assert parts.widened[0]["inbound"] == {"app": "127.0.0.1:1", "tls": "permissive"}
    assert parts.routed["inbound"] == parts.widened[0]["inbound"]
    before = {"service": "a", "outbound": {}, "upstreams": {"b": {"discover": "b"}}}
    after = {"service": "a", "outbound": {}, "upstreams": {"b": upstream("spiffe://shop/b")}}
    parts = _cut(before, after)
    assert parts.widened[0] is before
    assert parts.routed is after


def test_strict_is_the_last_that_comes_and_the_first_that_goes() -> None:
    """While others may still come in clear, and before they do again."""
    permissive, strict = _callee("permissive", None), _callee("strict", None)
    parts = _cut(permissive, strict)
    assert parts.widened[0] is permissive
    assert parts.routed is permissive
    assert _cut(strict, permissive).widened[0] is permissive
    assert _cut(strict, permissive).routed is permissive
    off = _cut(strict, _callee("off", None))
    assert off.widened[0]["inbound"]["tls"] == off.routed["inbound"]["tls"] == "permissive"


def test_caller_that_is_new_is_admitted_first_and_one_that_goes_is_refused_last() -> None:
    """One revision that swaps two callers."""
    old, new = _callee("strict", section(callers("a"))), _callee("strict", section(callers("b")))
    parts = _cut(old, new)
    assert parts.widened[0]["inbound"]["authorization"] == section(callers("a", "b"))
    assert parts.routed["inbound"]["authorization"] == section(callers("b", "a"))
    assert _cut(old, _callee("strict", section(callers("a", "b")))).routed["inbound"]["authorization"]["rules"] == [
        callers("a", "b")
    ]
