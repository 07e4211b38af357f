"""Rules of authorization from the file to the plan: as written, with their places, in frames, and the file's tests."""

from __future__ import annotations

import json

import pytest

from sidecar.compile.effective import Effective
from sidecar.compile.frames import Kind
from sidecar.compile.time_slices import at_once
from sidecar.config.problems import ConfigError
from sidecar.exchange import Direction
from sidecar.peer import Token
from sidecar.security.authorization.authorization import Authorization
from sidecar.security.tokens.rules import KeySource
from tests.support.compiling import compiled, compiler, draft_of, frames_of
from tests.unit.security.authorization.support import decision, head, judged

IDENTITY = "identity: {from: {files: {certificate: c, key: k, trust: t}}, trust_domain: shop}"
TEXT = f"""
service: s
{IDENTITY}
inbound:
  listen: [{{address: "h:15000", name: http}}, {{address: "h:15100", name: grpc, app: "h:2"}}]
  app: "h:1"
  authorization:
    default: deny
    rules:
      - {{name: probes, allow: {{from: anyone, path: [/ready, {{prefix: /live}}]}}}}
      - {{name: no-internals, deny: {{path: {{prefix: /internal}}}}}}
      - name: shop
        allow:
          - {{from: [storefront, search], methods: [GET], path: {{prefix: /v1}}}}
          - {{from: "spiffe://shop/ns/ops/*", headers: {{x-why: {{present: true}}}}}}
      - {{name: near, allow: {{from: [10.0.0.0/8, {{networks: unix}}], host: shop}}}}
      - {{name: callers, mode: audit, allow: {{from: storefront}}}}
"""


def authorization_of(text: str, side: str = "inbound") -> Authorization:
    """Of a file."""
    found = compiled(text).plan.side_of[side].authorization
    assert found is not None
    return found


def test_rules_are_compiled_as_they_are_written() -> None:
    """Services by their whole ID, lists as alternatives, the routes' own keys, the mode of a rule."""
    rules = authorization_of(TEXT)
    assert judged(rules, head("/ready")) == judged(rules, head("/live/x")) == ("allowed", "probes")
    assert judged(rules, head("/ready/x")) == judged(rules, head("/liv")) == ("audit_denied", "callers")
    assert judged(rules, head("/x/../re%61dy")) == ("allowed", "probes")  # the normal form is what is looked at
    assert judged(rules, head("/internal/x"), "spiffe://shop/storefront") == ("denied", "no-internals")
    assert judged(rules, head("/v1/x"), "spiffe://shop/search") == ("allowed", "shop")
    assert judged(rules, head("/v1/x", "POST"), "spiffe://shop/search") == ("audit_denied", "callers")
    assert judged(rules, head("/", "GET", "x-why: 1"), "spiffe://shop/ns/ops/sa/x") == ("allowed", "shop")
    assert judged(rules, head(), ip="10.1.1.1") == ("allowed", "near")
    assert judged(rules, head(), ip="unix") == ("allowed", "near")
    assert judged(rules, head(), "spiffe://shop/storefront") == ("allowed", "callers")


def test_a_decision_knows_where_its_rule_is_written() -> None:
    """File and line, for the log."""
    assert decision(authorization_of(TEXT), head("/internal")).position == "f.yaml:11"
    assert decision(authorization_of(TEXT), head("/other")).position == "f.yaml:17"


def test_all_ports_of_an_app_have_its_rules_and_what_it_calls_has_none() -> None:
    """They are about requests to the app, whichever port takes them."""
    plan = compiled(f"{TEXT}outbound: {{}}\n").plan
    assert plan.side_of["app.grpc"].authorization is plan.side_of["inbound"].authorization is not None
    assert plan.sides[Direction.OUTBOUND].authorization is None


@pytest.mark.parametrize(
    ("said", "of_nobody", "permissive"),
    [
        ("default: allow", ("allowed", "default"), ("allowed", "default")),
        ("default: deny", ("denied", "default"), ("denied", "default")),
        ("default: deny, rules: [{name: callers, allow: []}]", ("denied", "callers"), ("allowed", "callers")),
        ("default: deny, unidentified: deny, rules: [{name: callers, allow: []}]", ("denied", "callers"),
         ("denied", "callers")),
        ("mode: audit, default: deny, rules: [{name: callers, allow: []}]", ("audit_denied", "callers"),
         ("allowed", "callers")),
        ("mode: audit, default: deny", ("audit_denied", "default"), ("audit_denied", "default")),
    ],
)  # fmt: skip
def test_mode_default_and_unidentified(said: str, of_nobody: tuple[str, str], permissive: tuple[str, str]) -> None:
    """As the file says."""
    rules = authorization_of(f"service: s\ninbound: {{app: 'h:1', authorization: {{{said}}}}}\n")
    assert judged(rules, head()) == of_nobody
    assert judged(rules, head(), is_permissive=True) == permissive


def test_without_the_section_there_is_nothing_to_ask() -> None:
    """All sides."""
    plan = compiled("service: s\ninbound: {app: 'h:1'}\n").plan
    assert all(side.authorization is None for side in plan.side_of.values())


TOKENS = """
service: s
inbound:
  app: 'h:1'
  authorization:
    default: deny
    rules:
      - name: readers
        allow:
          from: [10.0.0.0/8, {jwt: {issuer: "https://id", audience: shop, claims: {scope: [read, 7]}, keys: k}}]
          methods: GET
      - {name: ops, allow: {from: {jwt: {issuer: ops, keys: {url: "https://ops/k", trust: ca.pem}, leeway: 5s}}}}
tests:
  - name: a
    request: {url: 'http://s/', jwt: {iss: "https://id", aud: [shop], scope: read write}}
    expect: {rule: readers}
  - name: b
    request: {url: 'http://s/', jwt: {iss: "https://id", aud: shop}}
    expect: {authorization: denied}
  - name: c
    request: {url: 'http://s/', jwt: {iss: "https://id", aud: shop, scope: 7}}
    expect: {rule: readers}
  - {name: d, request: {url: 'http://s/', method: POST, jwt: {iss: ops}}, expect: {authorization: allowed, rule: ops}}
  - {name: e, request: {url: 'http://s/'}, expect: {authorization: denied, rule: default}}
"""


def test_rules_may_ask_for_tokens() -> None:
    """What each asks is in the plan; who verifies is given later; and the file's tests say what a token claims."""
    assert frames_of(TOKENS)
    rules = authorization_of(TOKENS)
    assert rules.tokens is None
    by_issuer = {rule.issuer: rule for rule in rules.token_rules}
    ops, readers = by_issuer["ops"], by_issuer["https://id"]
    assert (ops.keys, ops.leeway_s) == (KeySource(url="https://ops/k", trust="ca.pem"), 5.0)
    assert (readers.keys, readers.leeway_s) == (KeySource(file="k"), 60.0)
    assert readers.audiences == {"shop"}
    assert readers.claims == (("scope", ("read", 7)),)
    token = Token("accepted", "ops", (ops.word,))
    assert rules.decide(None, "192.0.2.1", head(), False, token).rule == "ops"
    assert judged(rules, head()) == ("denied", "default")
    assert judged(rules, head(), ip="10.0.0.1") == ("allowed", "readers")


def test_a_refusal_tells_what_its_token_came_to() -> None:
    """Its issuer where it is genuine, and never anything that it says of itself where it is not."""
    rules = authorization_of(TOKENS)
    for token, who in (
        (Token("accepted", "ops", ("another",)), ", with a token of ops,"),
        (Token("expired", "ops", why="whose token has expired"), ", whose token has expired,"),
        (None, ""),
    ):
        found = rules.decide(None, "192.0.2.1", head(), False, token)
        assert rules.explain(found, None, "192.0.2.1", head(), token).startswith(
            f"192.0.2.1 without an identity{who} is allowed by no rule; the nearest is `readers` (f.yaml:8): it is for"
            " 10.0.0.0/8 or a token of https://id for shop with scope"
        )


def test_pages_show_what_is_asked_of_tokens() -> None:
    """It is no secret."""
    page = json.dumps(at_once(Effective("f.yaml", draft_of(TOKENS).written).everything()))
    assert "https://id" in page
    assert '"audience": ["shop"]' in page


def test_many_rules_come_in_pieces() -> None:
    """So that none holds the loop of the data path for long; they are back together for who asks for the file."""
    rules = "\n".join(f"      - {{name: r{n}, deny: {{path: /p{n}}}}}" for n in range(100))
    text = f"service: s\ninbound:\n  app: 'h:1'\n  authorization:\n    default: allow\n    rules:\n{rules}\n"
    pieces = [frame for frame in frames_of(text) if frame[0] == Kind.RULES]
    assert len(pieces) >= 4
    assert judged(authorization_of(text), head("/p99")) == ("denied", "r99")
    assert decision(authorization_of(text), head("/p99")).position == "f.yaml:106"
    page = at_once(Effective("f.yaml", draft_of(text).written).everything())
    shown = json.loads(json.dumps(page))["inbound"]["authorization"]
    assert [rule["name"] for rule in shown["rules"]] == [f"r{n}" for n in range(100)]
    assert shown["default"] == "allow"


def test_a_page_shows_who_asks_as_the_file_calls_it() -> None:
    """`from`."""
    page = at_once(Effective("f.yaml", draft_of(TEXT).written).everything())
    rule = json.loads(json.dumps(page))["inbound"]["authorization"]["rules"][0]
    assert rule["allow"][0]["from"][0]["anyone"] is True


def test_counters_go_with_the_names_of_rules() -> None:
    """A plan with the same rules counts in the same scope, one with others in another."""
    text = "service: s\ninbound: {{app: 'h:1', authorization: {{default: deny, rules: [{{name: {}, allow: {{}}}}]}}}}\n"
    by = compiler()
    scopes = []
    for generation, name in enumerate(("a", "a", "b"), 1):
        rules = compiled(text.format(name), by, generation).plan.side_of["inbound"].authorization
        assert rules is not None
        scopes.append(decision(rules, head()).scope)
    assert scopes[0] is scopes[1]
    assert scopes[0] is not scopes[2]


def refusals(tests: str, tls: str = "") -> list[str]:
    """What is said of a file with these tests."""
    inbound = TEXT.replace("  authorization:", f"  {tls}\n  authorization:").replace(", mode: audit", "")
    try:
        frames_of(f"{inbound}outbound: {{unmatched: passthrough}}\ntests:\n{tests}")
    except ConfigError as error:
        return [problem.message for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "test",
    [
        "{url: 'http://x/v1', from: storefront}, expect: {authorization: allowed, rule: shop, to: app}",
        "{url: 'http://x/v1', from: 'spiffe://shop/search'}, expect: {rule: shop, route: app}",
        "{url: 'http://x/v1', method: POST, from: search}, expect: {authorization: denied, rule: callers, status: 403}",
        "{url: 'http://x/v1/..%2finternal', from: search}, expect: {authorization: denied, rule: no-internals}",
        "{url: 'http://x/ready'}, expect: {authorization: allowed}",
        "{url: 'http://shop/', source_ip: 10.0.0.1}, expect: {rule: near}",
        "{url: 'http://shop/'}, expect: {authorization: allowed, rule: callers}",
        "{url: 'http://shop/', from: evil}, expect: {status: 403, rule: callers}",
        "{url: 'http://shop/'}, expect: {to: passthrough}",
    ],
)
def test_tests_of_the_file_ask_the_rules(test: str) -> None:
    """By the code that judges live requests; who asks and what is expected of rules mean the inbound side."""
    assert refusals(f"  - {{name: t, request: {test}}}") == []


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("{url: 'http://x/v1', from: storefront}, expect: {authorization: denied}",
         "the test `t` fails: expected `denied`, found `allowed` by `shop`"),
        ("{url: 'http://x/v1', from: evil}, expect: {authorization: allowed, rule: shop}",
         "the test `t` fails: expected `allowed` by `shop`, found `denied` by `callers`"),
        ("{url: 'http://x/v1', from: evil}, expect: {to: app}",
         "the test `t` fails: expected to `app`, found that `callers` refuses it to evil, so 403"),
        ("{url: 'http://x/v1'}, expect: {to: app}",
         "the test `t` fails: expected to `app`, found that `callers` refuses it to nobody known, so 403"),
    ],
)  # fmt: skip
def test_a_test_that_fails_says_what_is_decided(test: str, expected: str) -> None:
    """And by which rule."""
    assert refusals(f"  - {{name: t, request: {test}}}", "tls: strict") == [expected]


def test_a_test_without_an_identity_passes_a_permissive_listener() -> None:
    """As a request does."""
    assert refusals("  - {name: t, request: {url: 'http://x/v1'}, expect: {authorization: allowed, to: app}}") == []


def test_a_test_says_what_the_rules_say_also_in_audit() -> None:
    """So that it holds on the day when they are enforced."""
    text = "service: s\ninbound: {app: 'h:1', authorization: {mode: audit, default: deny}}\ntests:\n  - {name: t, "
    frames_of(f"{text}request: {{url: 'http://x/'}}, expect: {{authorization: denied, rule: default, to: app}}}}\n")


def test_a_file_without_rules_has_no_answer() -> None:
    """Which a test that expects to be refused is told; that all may pass is true without any."""
    text = "service: s\ninbound: {app: 'h:1'}\ntests: [{name: t, request: {url: 'http://x/'}, expect: {"
    with pytest.raises(ConfigError, match=r"found no `inbound\.authorization`"):
        frames_of(f"{text}authorization: denied}}}}]\n")
    frames_of(f"{text}authorization: allowed}}}}]\n")
