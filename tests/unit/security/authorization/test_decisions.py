"""What is decided: first match wins, the default, `callers`, who is unidentified, and what audit changes."""

from __future__ import annotations

import pytest

from tests.unit.security.authorization.support import allow, clause, decision, deny, head, judged, rules

STOREFRONT, SEARCH, OPS = "spiffe://shop/storefront", "spiffe://shop/search", "spiffe://shop/ns/ops/sa/deployer"

PEOPLES = (
    allow("probes", clause(path="/ready")),
    deny("no-internals", clause(prefix="/internal")),
    allow("shop", clause(STOREFRONT, SEARCH, methods=["GET"], prefix="/v1")),
    allow("ops", clause("spiffe://shop/ns/ops/*")),
)
CALLERS = allow("callers", clause(STOREFRONT))
CALLERS_IN_AUDIT = allow("callers", clause(STOREFRONT), is_audit=True)


@pytest.mark.parametrize(
    ("target", "method", "identity", "expected"),
    [
        ("/ready", "GET", "", ("allowed", "probes")),
        ("/ready", "GET", SEARCH, ("allowed", "probes")),
        ("/internal/x", "GET", OPS, ("denied", "no-internals")),
        ("/v1/a", "GET", SEARCH, ("allowed", "shop")),
        ("/v1/a", "POST", SEARCH, ("denied", "default")),
        ("/v1/a", "GET", "", ("denied", "default")),
        ("/v1/a", "POST", OPS, ("allowed", "ops")),
        ("/v1/a", "GET", "spiffe://other/storefront", ("denied", "default")),
        ("/v1/a", "GET", "spiffe://shop/storefront/x", ("denied", "default")),
        ("/v1/a", "GET", "spiffe://shop/ns/opsx/sa/deployer", ("denied", "default")),
    ],
)
def test_the_first_rule_that_matches_decides(
    target: str, method: str, identity: str, expected: tuple[str, str]
) -> None:
    """In the order of the file; where none does, the default."""
    assert judged(rules(*PEOPLES), head(target, method), identity) == expected


def test_the_default_may_allow() -> None:
    """And a rule of a file without a word about a client says nothing of it."""
    authorization = rules(*PEOPLES, default="allow")
    assert judged(authorization, head("/other")) == ("allowed", "default")
    assert judged(authorization, head("/internal")) == ("denied", "no-internals")


def test_what_the_default_refuses_is_refused_by_callers() -> None:
    """If there is such a rule: its name and place."""
    found = decision(rules(*PEOPLES, CALLERS), head("/other"), SEARCH)
    assert (found.outcome, found.rule, found.position) == ("denied", "callers", "f:callers")
    assert judged(rules(*PEOPLES, CALLERS), head("/other"), STOREFRONT) == ("allowed", "callers")


def test_a_rule_without_clauses_matches_nothing() -> None:
    """`callers: []` is a rule that allows nobody, not one that allows everybody."""
    assert judged(rules(allow("callers")), head(), STOREFRONT) == ("denied", "callers")


@pytest.mark.parametrize("is_permissive", [True, False])
@pytest.mark.parametrize("admits", [True, False])
def test_who_has_no_identity_passes_callers_only_while_permissive(is_permissive: bool, admits: bool) -> None:
    """And is counted; rules that people wrote hold all the same, and `unidentified: deny` refuses it."""
    authorization = rules(*PEOPLES, CALLERS, admits_unidentified=admits)
    found = decision(authorization, head("/other"), is_permissive=is_permissive)
    passes = is_permissive and admits
    assert (found.outcome, found.rule) == ("allowed" if passes else "denied", "callers")
    assert found.is_unidentified is passes
    assert judged(authorization, head("/internal"), is_permissive=is_permissive) == ("denied", "no-internals")
    assert judged(authorization, head("/other"), SEARCH, is_permissive=is_permissive) == ("denied", "callers")


def test_who_has_no_identity_passes_no_rule_of_people() -> None:
    """Without a rule `callers`, permissive or not: `default: deny` refuses it."""
    assert judged(rules(*PEOPLES), head("/other"), is_permissive=True) == ("denied", "default")


def test_a_certificate_without_identity_is_no_identity() -> None:
    """`authenticated` is who has a SPIFFE ID."""
    authorization = rules(allow("known", clause("authenticated")))
    assert authorization.decide(None, "::1", head(), False).outcome == "denied"
    assert judged(authorization, head(), STOREFRONT) == ("allowed", "known")


def test_in_audit_everything_passes_and_is_told() -> None:
    """By the rule that would refuse it."""
    authorization = rules(*PEOPLES, CALLERS, is_audit=True)
    for target, rule in (("/internal", "no-internals"), ("/other", "callers")):
        found = decision(authorization, head(target), SEARCH)
        assert (found.is_allowed, found.outcome, found.rule) == (True, "audit_denied", rule)
    assert judged(authorization, head("/ready"), SEARCH) == ("allowed", "probes")


def test_callers_in_audit_refuses_nobody_and_rules_of_people_do() -> None:
    """What only the default would refuse passes and is told; whom it names is allowed by it."""
    authorization = rules(*PEOPLES, CALLERS_IN_AUDIT)
    found = decision(authorization, head("/other"), SEARCH)
    assert (found.is_allowed, found.outcome, found.rule) == (True, "audit_denied", "callers")
    assert judged(authorization, head("/other"), STOREFRONT) == ("allowed", "callers")
    assert judged(authorization, head("/internal"), SEARCH) == ("denied", "no-internals")
    assert judged(authorization, head("/other")) == ("audit_denied", "callers")
    assert judged(authorization, head("/other"), is_permissive=True) == ("allowed", "callers")


def test_a_rule_that_denies_in_audit_leaves_the_decision_to_those_behind_it() -> None:
    """What it would have refused is told if it passes; what another refuses is refused by that one."""
    tried = deny("tried", clause(prefix="/v1"), is_audit=True)
    authorization = rules(tried, *PEOPLES)
    found = decision(authorization, head("/v1/a"), SEARCH)
    assert (found.is_allowed, found.outcome, found.rule, found.position) == (True, "audit_denied", "tried", "f:tried")
    assert judged(authorization, head("/v1/a")) == ("denied", "default")
    assert judged(authorization, head("/ready")) == ("allowed", "probes")
    assert judged(rules(tried, default="allow"), head("/v1/a")) == ("audit_denied", "tried")


@pytest.mark.parametrize(
    ("ip", "is_inside"),
    [
        ("10.1.2.3", True), ("11.0.0.1", False), ("::ffff:10.1.2.3", True), ("2001:db8::7", True),
        ("2001:db9::", False), ("unix", True), ("fe80::1%eth0", True), ("no address", False),
    ],
)  # fmt: skip
def test_networks(ip: str, is_inside: bool) -> None:
    """Also IPv4 that IPv6 has mapped, zones, and Unix sockets."""
    authorization = rules(allow("near", clause("10.0.0.0/8", "2001:db8::/32", "fe80::1", "unix")))
    assert judged(authorization, head(), ip=ip)[0] == ("allowed" if is_inside else "denied")


def test_one_source_of_a_list_is_enough() -> None:
    """Identity or network; and rules about both are asked in order."""
    authorization = rules(deny("none", clause("10.0.0.0/24")), allow("some", clause("10.0.0.0/8", SEARCH)))
    assert judged(authorization, head(), ip="10.9.0.1") == ("allowed", "some")
    assert judged(authorization, head(), SEARCH, ip="192.0.2.1") == ("allowed", "some")
    assert judged(authorization, head(), SEARCH, ip="10.0.0.1") == ("denied", "none")


def test_hosts_of_rules_may_carry_a_port() -> None:
    """As those of routes; without one the request's port is 80."""
    authorization = rules(deny("admin", clause(hosts=["shop:9090"])), default="allow")
    assert judged(authorization, head(host="shop:9090")) == ("denied", "admin")
    assert judged(authorization, head(host="shop")) == ("allowed", "default")


def test_whoever_many_rules_name_is_decided_upon_in_their_order() -> None:
    """Beyond `MAX_TABLES` different lists of sources there is one table for an identity; the first rule still wins."""
    specs = [
        (deny if number % 2 else allow)(f"r{number}", clause(SEARCH, f"spiffe://shop/s{number}", prefix=f"/{number}"))
        for number in range(30)
    ]
    last = allow("last", clause(SEARCH))
    authorization = rules(*specs, last)
    for number in range(30):
        expected = ("denied" if number % 2 else "allowed", f"r{number}")
        assert judged(authorization, head(f"/{number}/x"), SEARCH) == expected
        assert judged(authorization, head(f"/{number}/x"), f"spiffe://shop/s{number}") == expected
    assert judged(authorization, head("/other"), SEARCH) == ("allowed", "last")


def test_the_same_decision_is_given_to_all_requests() -> None:
    """Nothing is made for a request."""
    authorization = rules(*PEOPLES, CALLERS)
    assert decision(authorization, head("/v1/a"), SEARCH) is decision(authorization, head("/v1/b"), STOREFRONT)
