"""What the log says of who was refused."""

from __future__ import annotations

from sidecar.exchange import Decision
from sidecar.message import RequestHead
from sidecar.security.authorization.authorization import Authorization
from tests.unit.security.authorization.support import allow, clause, decision, deny, head, peer, rules

STOREFRONT, SEARCH = "spiffe://shop/storefront", "spiffe://shop/search"


def told(authorization: Authorization, asked: RequestHead, identity: str = "", ip: str = "192.0.2.1") -> str:
    """Of a request that is refused."""
    found: Decision = decision(authorization, asked, identity, ip)
    assert found.outcome != "allowed"
    return authorization.explain(found, peer(identity) if identity else None, ip, asked)


def test_a_rule_that_denies_is_named() -> None:
    """With who asked."""
    authorization = rules(deny("no-internals", clause(prefix="/internal")), default="allow")
    assert told(authorization, head("/internal")) == "192.0.2.1 without an identity is denied by `no-internals`"
    assert told(authorization, head("//internal"), SEARCH) == f"{SEARCH} is denied by `no-internals`"


def test_the_nearest_rule_is_the_one_of_which_least_differs() -> None:
    """With its place, and what was expected; of several the first."""
    authorization = rules(
        allow("one", clause(STOREFRONT, methods=["GET"], prefix="/v1")),
        allow("two", clause(SEARCH, methods=["GET", "HEAD"], prefix="/v1")),
    )
    assert told(authorization, head("/v1", "POST"), SEARCH) == (
        f"{SEARCH} is allowed by no rule; the nearest is `two` (f:two): methods: expected GET or HEAD"
    )
    assert told(authorization, head("/v1")) == (
        f"192.0.2.1 without an identity is allowed by no rule; the nearest is `one` (f:one): it is for {STOREFRONT}"
    )
    assert told(authorization, head("/x", "POST"), "spiffe://shop/x") == (
        "spiffe://shop/x is allowed by no rule; the nearest is `one` (f:one): it is for spiffe://shop/storefront;"
        " path differs; methods: expected GET"
    )


def test_where_a_reading_climbs_it_is_told_of_that() -> None:
    """Its path is what differs."""
    authorization = rules(allow("public", clause(prefix="/public")))
    assert told(authorization, head("/public/..%2fadmin")).endswith("`public` (f:public): path differs")


def test_values_that_may_be_secret_are_not_shown() -> None:
    """Neither what was expected of a header, cookie or parameter, nor what came."""
    secret = {"a": "s3cret"}
    authorization = rules(allow("token", clause(path="/s3cret", headers=secret, cookies=secret, query=secret)))
    text = told(authorization, head("/?a=guessed", "GET", "a: guessed"))
    assert text.endswith("path differs; header a differs; cookie a differs; query a differs")
    assert "s3cret" not in text
    assert "guessed" not in text


def test_without_a_rule_that_allows_there_is_none_near() -> None:
    """And a rule that denies is none."""
    authorization = rules(deny("x", clause(path="/x")))
    assert told(authorization, head(), SEARCH) == f"{SEARCH} is allowed by no rule"


def test_long_lists_of_sources_are_shortened() -> None:
    """Three, and how many more."""
    authorization = rules(allow("many", clause(*[f"spiffe://shop/s{number}" for number in range(9)])))
    assert told(authorization, head()).endswith(
        "it is for spiffe://shop/s0 or spiffe://shop/s1 or spiffe://shop/s2 or 6 more"
    )


def test_only_so_many_rules_are_looked_at() -> None:
    """The cost of a refusal does not grow with the rules: those far behind are not seen."""
    specs = [allow(f"r{number}", clause(STOREFRONT, path=f"/{number}")) for number in range(1000)]
    authorization = rules(*specs, allow("own", clause(SEARCH, path="/own")))
    assert "`own`" in told(authorization, head("/none"), SEARCH)  # of those that are about the client
    assert "`r0`" in told(authorization, head("/none"), "spiffe://shop/x")
