"""What the rules of authorization may say, alone and together, and where a file is told that they may not."""

from __future__ import annotations

import pytest

from sidecar.config.load import load_source
from sidecar.config.model.authorization import Authorization
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import make_source

IDENTITY = "identity: {from: {files: {certificate: c, key: k, trust: t}}, trust_domain: shop}"


def read(rules: str, rest: str = "", default: str = "default: deny, ") -> tuple[Authorization | None, list[Problem]]:
    """The section with these rules, which begin in the file's fourth line, and what is said of it."""
    text = f"service: s\ninbound: {{app: 'h:8', authorization: {{{default}rules: [\n{rules}\n]}}}}\n{rest}\n"
    try:
        loaded = load_source(make_source("f", text.encode()), {})
    except ConfigError as error:
        return None, list(error.problems)
    assert loaded.config.inbound is not None
    return loaded.config.inbound.authorization, list(loaded.warnings)


def complaints(rules: str, rest: str = "", default: str = "default: deny, ") -> list[str]:
    """The problems, or else the warnings."""
    return [str(problem) for problem in read(rules, rest, default)[1]]


def test_a_word_is_the_source_that_it_looks_like() -> None:
    """A service, a SPIFFE ID or pattern, a network, `anyone`, `authenticated`; a list is any of them."""
    section, said = read(
        '{name: a, allow: {from: [storefront, anyone, authenticated, "spiffe://shop/x", "spiffe://shop/ns/*",'
        ' 10.0.0.0/8, "::1", {networks: [unix, 10.1.0.0/16]}, {spiffe: "spiffe://o/y"}, {service: b}]}}',
        IDENTITY,
    )
    assert said == []
    assert section is not None
    assert section.rules[0].allow is not None
    given = [source.model_dump(exclude_none=True) for source in section.rules[0].allow[0].sources]
    assert given == [
        {"service": "storefront"}, {"anyone": True}, {"authenticated": True}, {"spiffe": "spiffe://shop/x"},
        {"spiffe": "spiffe://shop/ns/*"}, {"networks": ["10.0.0.0/8"]}, {"networks": ["::1/128"]},
        {"networks": ["unix", "10.1.0.0/16"]}, {"spiffe": "spiffe://o/y"}, {"service": "b"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("{name: a, allow: {from: storefront}}",
         "f:3:25: inbound.authorization.rules[0].allow.from: `storefront` is the name of a service, and this file does"
         " not say of which trust domain; write `identity: {trust_domain: ...}`, or the whole ID, such as"
         " `spiffe://shop/storefront`"),
        ("{name: a, allow: {from: {jwt: {issuer: x}}}}",
         "f:3:26: inbound.authorization.rules[0].allow.from.jwt: the key `keys` is missing"),
        ("{name: a, allow: {from: {jwt: {keys: k, issuer: ''}}}}",
         "f:3:49: inbound.authorization.rules[0].allow.from.jwt.issuer: expected a text of 1 to 1000 printable"
         ' characters, found ""'),
        ("{name: a, allow: {from: {jwt: {issuer: x, keys: {file: k, url: 'https://x/'}}}}}",
         "f:3:43: inbound.authorization.rules[0].allow.from.jwt.keys: expected one of `file` and `url`, found both;"
         " a set of keys in JSON (RFC 7517)"),
        ("{name: a, allow: {from: {jwt: {issuer: x, keys: {file: k, trust: t}}}}}",
         "f:3:59: inbound.authorization.rules[0].allow.from.jwt.keys.trust: `trust` has no effect here; it is for the"
         " server of a `url` that begins with `https://`"),
        ("{name: a, allow: {from: {jwt: {issuer: x, keys: {url: 'http://x/'}}}}}",
         "f:3:55: warning: inbound.authorization.rules[0].allow.from.jwt.keys.url: keys that come in clear prove"
         " nothing; use `https://`: whoever is between can put a key of their own there, and sign any token"),
        ("{name: a, allow: {from: {jwt: {issuer: x, keys: k, leeway: 11m}}}}",
         'f:3:60: inbound.authorization.rules[0].allow.from.jwt.leeway: expected at most `10m`, found "11m"; so much'
         " longer is a token believed than it says"),
        ("{name: a, allow: {from: {jwt: {issuer: x, keys: k, claims: {a: {b: c}}}}}}",
         "f:3:64: inbound.authorization.rules[0].allow.from.jwt.claims.a: expected a text, a number or a boolean,"
         " found a mapping; text that looks like a number needs quotes"),
        ("{name: a, allow: {}}, {name: a, deny: {path: /x}}",
         "f:3:30: inbound.authorization.rules[1].name: the name `a` is already that of rules[0]; names tell rules"
         " apart in metrics, logs and tests"),
        ("{name: default, allow: {}}",
         "f:3:8: inbound.authorization.rules[0].name: the name `default` means that no rule matched; rename it"),
        ("{name: a}",
         "f:3:1: inbound.authorization.rules[0]: expected one of `allow` and `deny`, found none"),
        ("{name: a, allow: {}, deny: {}}",
         "f:3:1: inbound.authorization.rules[0]: expected one of `allow` and `deny`, found both; make two rules of it"),
        ("{allow: {}}", "f:3:1: inbound.authorization.rules[0]: the key `name` is missing"),
        ("{name: a, deny: []}",
         "f:3:17: inbound.authorization.rules[0].deny: expected at least one value, found a list; remove the"
         " key if nothing is meant"),
        ("{name: a, mode: audit, allow: {}}",
         "f:3:11: inbound.authorization.rules[0].mode: a rule that allows refuses nothing that could be let pass;"
         " remove `mode`: it has no effect until a request is refused, which `default` or a rule that denies does"),
        ("{name: callers, deny: {}}",
         "f:3:17: inbound.authorization.rules[0].deny: the rule `callers` must be one that allows; rename it: this rule"
         " says who may call, and what `default: deny` refuses is refused in its name"),
        ("{name: a, allow: {from: {anyone: false}}}",
         "f:3:34: inbound.authorization.rules[0].allow.from.anyone: expected `true`, found false; name who is meant"
         " instead"),
        ("{name: a, allow: {from: {}}}",
         "f:3:25: inbound.authorization.rules[0].allow.from: expected one of `anyone`, `authenticated`, `service`,"
         " `spiffe`, `networks`, `jwt`, found none"),
        ("{name: a, allow: {from: []}}",
         "f:3:25: inbound.authorization.rules[0].allow.from: expected at least one value, found a list; remove"
         " the key if nothing is meant"),
        ("{name: a, allow: {from: mesh}}",
         "f:3:25: inbound.authorization.rules[0].allow.from: there can be no service `mesh`; `mesh` is a word of"
         " `callers`; whoever has an identity is `authenticated`"),
        ("{name: a, allow: {from: Store}}",
         "f:3:25: inbound.authorization.rules[0].allow.from: expected a service's name such as `storefront`, `anyone`,"
         ' `authenticated`, a SPIFFE ID, or a network, found "Store"'),
        ("{name: a, allow: {from: 10.0.0.1/8}}",
         "f:3:25: inbound.authorization.rules[0].allow.from: expected a network such as `10.0.0.0/8`, an IP address, or"
         ' `unix`, found "10.0.0.1/8"; did you mean `10.0.0.0/8`?'),
        ('{name: a, allow: {from: "spiffe://*/x"}}',
         "f:3:25: inbound.authorization.rules[0].allow.from: expected a SPIFFE ID such as `spiffe://shop/storefront`,"
         ' or a pattern such as `spiffe://shop/ns/ops/*`, found "spiffe://*/x"; no pattern reaches into several trust'
         " domains"),
        ('{name: a, allow: {from: "spiffe://shop/store*"}}',
         "f:3:25: inbound.authorization.rules[0].allow.from: expected a SPIFFE ID such as `spiffe://shop/storefront`,"
         ' or a pattern such as `spiffe://shop/ns/ops/*`, found "spiffe://shop/store*"; a `*` stands for a whole'
         " segment"),
        ('{name: a, allow: {from: "spiffe://shop"}}',
         "f:3:25: inbound.authorization.rules[0].allow.from: expected a SPIFFE ID such as `spiffe://shop/storefront`,"
         ' or a pattern such as `spiffe://shop/ns/ops/*`, found "spiffe://shop"; for all of the trust domain, write'
         " `spiffe://shop/*`"),
        ("{name: a, allow: {path: {exact: /a, prefix: /b}}}",
         "f:3:25: inbound.authorization.rules[0].allow.path: expected one of `exact`, `prefix`, `starts_with`,"
         " `suffix`, `contains` and `regex`, found `exact` and `prefix`"),
        ("{name: a, allow: {path: [/a, {exact: /a, prefix: /b}]}}",
         "f:3:30: inbound.authorization.rules[0].allow.path[1]: expected one of `exact`, `prefix`, `starts_with`,"
         " `suffix`, `contains` and `regex`, found `exact` and `prefix`"),
        ("{name: a, deny: {path: {template: '/a/{b}'}}}",
         "f:3:25: inbound.authorization.rules[0].deny.path.template: `template` is for routes, and not for rules of who"
         " may pass; a segment to us, `a%2Fb`, is two to some servers; use `prefix`, which takes in all that is below"),
        ("{name: a, allow: {path: []}}",
         "f:3:25: inbound.authorization.rules[0].allow.path: expected at least one value, found a list; remove"
         " the key if nothing is meant"),
        ("{name: a, allow: {form: anyone}}",
         "f:3:19: inbound.authorization.rules[0].allow.form: unknown key `form`; did you mean `from`?"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_at_its_place(rules: str, expected: str) -> None:
    """With what to do instead."""
    assert complaints(rules) == [expected]


def test_the_default_must_be_written_once_there_are_rules() -> None:
    """Nobody is to find out by an outage which one it is."""
    assert complaints("{name: a, allow: {}}", default="") == [
        "f:2:23: inbound.authorization: the key `default` is missing; say what becomes of a request that no rule"
        " matches: `default: deny`, or `allow`"
    ]
    assert complaints("", default="") == []
    assert complaints("") == []


def test_unidentified_is_about_callers() -> None:
    """Without that rule it does nothing, which is told."""
    assert complaints("{name: callers, mode: audit, allow: []}", default="default: deny, unidentified: deny, ") == []
    (said,) = complaints("{name: a, allow: {}}", default="default: deny, unidentified: deny, ")
    assert said.startswith("f:2:54: warning: inbound.authorization.unidentified: `unidentified` has no effect")


HIDDEN = (
    "f:4:1: warning: inbound.authorization.rules[1]: no request comes to this rule: `first` matches all of it before"
)


@pytest.mark.parametrize(
    ("first", "second", "is_hidden"),
    [
        ("{}", "{path: /x}", True),
        ("{path: {prefix: /a}}", "{path: /a/b, methods: GET}", True),
        ("{path: {prefix: /a/}}", "{path: {prefix: /a}}", True),
        ("{path: {prefix: /a}}", "{path: /ab}", False),
        ("{path: {prefix: /a}}", "{path: '/a/../b'}", False),
        ("{path: /a}", "{path: {prefix: /a}}", False),
        ("{path: {prefix: /a, invert: true}}", "{path: /a/b}", False),
        ("{methods: [GET, HEAD]}", "{methods: GET}", True),
        ("{methods: GET}", "{methods: [GET, HEAD]}", False),
        ("{methods: GET}", "{path: /a}", False),
        ("{host: a}", "{host: a, path: /b}", True),
        ("{host: a}", "{}", False),
        ("{headers: {x: '1'}}", "{headers: {x: '1', y: '2'}}", True),
        ("{headers: {x: '1'}}", "{headers: {x: '2'}}", False),
        ("{from: anyone}", "{from: authenticated}", True),
        ("{from: authenticated}", "{from: [storefront, 'spiffe://shop/ns/*']}", True),
        ("{from: authenticated}", "{from: anyone}", False),
        ("{from: authenticated}", "{from: 10.0.0.0/8}", False),
        ("{from: [a, b]}", "{from: a, path: /x}", True),
        ("{from: a}", "{from: [a, b]}", False),
        ("{from: a}", "{from: 'spiffe://shop/a'}", True),
        ("{from: 'spiffe://shop/ns/*'}", "{from: 'spiffe://shop/ns/x/sa/y'}", True),
        ("{from: 'spiffe://shop/ns/*'}", "{from: 'spiffe://shop/ns/x/*'}", True),
        ("{from: 'spiffe://shop/*/x'}", "{from: 'spiffe://shop/a/x'}", False),
        ("{from: 10.0.0.0/8}", "{from: [10.1.0.0/16, 10.0.0.1]}", True),
        ("{from: 10.0.0.0/8}", "{from: '::1'}", False),
        ("[{path: /a}, {path: /b}]", "[{path: /b}, {path: /a, methods: GET}]", True),
        ("[{path: /a}]", "[{path: /b}, {path: /a}]", False),
        ("[]", "{path: /a}", False),
        ("{path: [/a, {prefix: /b}]}", "{path: [/b/c, /a]}", True),
        ("{path: [/a, {prefix: /b}]}", "{path: {prefix: /b/c}}", True),
        ("{path: [/a, /b]}", "{path: [/a, /c]}", False),
        ("{path: /a}", "{path: [/a, /b]}", False),
        ("[{path: /a}, {path: /b}]", "{path: [/a, /b]}", True),
        ("{from: {jwt: {issuer: x, keys: k}}}", "{from: {jwt: {keys: {file: k}, issuer: x}}, path: /a}", True),
        ("{from: {jwt: {issuer: x, keys: k}}}", "{from: {jwt: {issuer: y, keys: k}}}", False),
        ("{from: {jwt: {issuer: x, keys: k}}}", "{from: 10.0.0.0/8}", False),
        ("{from: 10.0.0.0/8}", "{from: {jwt: {issuer: x, keys: k}}}", False),
        ("{from: authenticated}", "{from: {jwt: {issuer: x, keys: k}}}", False),
        ("{}", "{from: {jwt: {issuer: x, keys: k}}}", True),
    ],
)
def test_a_rule_that_an_earlier_one_hides_is_told(first: str, second: str, is_hidden: bool) -> None:
    """As far as it is certain from how both are written."""
    said = complaints(f"{{name: first, allow: {first}}},\n{{name: second, deny: {second}}}", IDENTITY)
    assert [one.partition(";")[0] for one in said] == ([HIDDEN] if is_hidden else [])


def test_a_rule_that_denies_in_audit_hides_nothing() -> None:
    """It decides nothing."""
    assert complaints("{name: first, mode: audit, deny: {}},\n{name: second, deny: {path: /x}}") == []


def test_thousands_of_rules_are_compared_in_a_moment() -> None:
    """By an index of whom they are about, and with an end to it."""
    rules = ",\n".join(f"{{name: r{n}, allow: {{from: s{n}, path: /p{n}}}}}" for n in range(2000))
    assert complaints(rules, IDENTITY) == []
    alike = ",\n".join(f"{{name: r{n}, allow: {{headers: {{h{n}: x}}}}}}" for n in range(1500))
    assert complaints(alike) == []


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("request: {url: 'http://x/', from: storefront}, expect: {authorization: denied}", []),
        ("request: {url: 'http://x/', from: 'spiffe://o/a'}, expect: {rule: default}", []),
        ("request: {url: 'http://x/'}, expect: {rule: aa}", ["there is no rule `aa`; did you mean `a`?"]),
        ("request: {url: 'http://x/', from: 'spiffe://shop/*'}, expect: {rule: a}",
         ["expected the SPIFFE ID of a workload such as `spiffe://shop/storefront`"]),
    ],
)  # fmt: skip
def test_tests_may_say_who_asks_and_what_is_decided(test: str, expected: list[str]) -> None:
    """By names that there are."""
    said = complaints("{name: a, allow: {path: /x}}", f"{IDENTITY}\ntests: [{{name: t, {test}}}]")
    assert len(said) == len(expected)
    assert all(part in one for part, one in zip(expected, said, strict=True))


def test_a_service_in_a_test_needs_a_trust_domain() -> None:
    """As in a rule."""
    (said,) = complaints("", "tests: [{name: t, request: {url: 'http://x/', from: a}, expect: {rule: default}}]")
    assert "tests[0].request.from: `a` is the name of a service" in said
