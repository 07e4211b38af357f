"""The report of a preview: what moves, what is not known, what changes; from the frames of two files and a ring."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.insight.preview.preview import preview
from sidecar.insight.preview.wire import pack, unpack
from sidecar.peer import Token
from sidecar.redact import NO_SECRETS, Secrets
from tests.support.compiling import frames_of
from tests.support.keeping import Keeping, head_of

LIVE = """
service: shop
outbound:
  routes:
    - {name: tenant, match: {host: web, headers: {x-tenant: acme}}, to: two}
    - name: canary
      match: {host: web}
      to: [{upstream: one, weight: 95}, {upstream: two, weight: 5}]
      sticky: {cookie: uid}
      timeout: 2s
upstreams:
  one: {endpoints: []}
  two: {endpoints: []}
"""


def report_of(keeping: Keeping, live: str, new: str, secrets: Secrets = NO_SECRETS) -> dict[str, Any]:
    return preview(frames_of(live), frames_of(new), [pack(keeping.recent)], "new.yaml", secrets)


def seen(live: str, count: int = 200) -> Keeping:
    keeping = Keeping(live)
    for number in range(count):
        keeping.live(head_of("GET", "web", f"/v1/{number}", f"Cookie: uid=u{number}"))
    return keeping


def test_the_same_file_moves_nothing() -> None:
    """And has nothing else to tell."""
    report = report_of(seen(LIVE), LIVE, LIVE)
    assert report["requests"] == 200
    assert {key for key, value in report.items() if value} == {"requests"}


def test_sticky_users_that_move_are_counted_one_by_one() -> None:
    """Weights from 95/5 to 90/10 move keys into the side that grows, and none else; the split says how many."""
    report = report_of(seen(LIVE), LIVE, LIVE.replace("weight: 95", "weight: 90").replace("weight: 5}", "weight: 10}"))
    (split,) = report["splits"]
    assert split["before"] == {"one": 0.95, "two": 0.05}
    assert split["after"] == {"one": 0.9, "two": 0.1}
    assert split["sticky_of"] == 200
    assert 2 <= split["sticky_moved"] == report["moved"] <= 22
    (group,) = report["groups"]
    assert (group["from"]["to"], group["to"]["to"], group["position"]) == (["one"], ["two"], "new.yaml:6")
    assert group["example"]["path"].startswith("/v1/")


def test_a_split_by_chance_moves_the_share_that_must_move() -> None:
    """A twentieth of the requests, of which none is moved as such."""
    live = LIVE.replace("      sticky: {cookie: uid}\n", "")
    new = live.replace("weight: 95", "weight: 90").replace("weight: 5}", "weight: 10}")
    report = report_of(seen(live), live, new)
    assert (report["moved"], round(report["moved_share"], 4)) == (10, 0.05)
    assert report["splits"][0]["sticky_of"] == 0


def test_what_no_route_takes_any_more_is_refused() -> None:
    """With what it would be, and that it is new."""
    new = LIVE.replace("match: {host: web}", "match: {host: web, path: {prefix: /v2}}")
    keeping = seen(LIVE, 3)
    keeping.live(head_of("GET", "elsewhere", "/"))
    report = report_of(keeping, LIVE, new)
    assert (report["moved"], report["refused"], report["not_found"]) == (3, 3, 3)
    assert {group["to"]["flag"] for group in report["groups"]} == {"NR"}
    assert report["groups"][0]["to"]["status"] == 404
    assert report["groups"][0]["position"] == ""


def test_a_field_that_was_not_kept_makes_its_requests_unknown() -> None:
    """Those only whose outcome depends on it."""
    added = "    - {match: {path: {prefix: /v1/7}, headers: {x-plan: gold}}, to: two}\n"
    new = LIVE.replace("    - name: canary", f"{added}    - name: canary")
    report = report_of(seen(LIVE, 20), LIVE, new)
    assert (report["unknown"], report["moved"]) == (1, 0)
    (unknown,) = report["unknowns"]
    assert (unknown["count"], unknown["needs"], unknown["why"]) == (1, "header x-plan", "not recorded")
    assert unknown["example"]["path"] == "/v1/7"


def test_a_field_that_changes_nothing_makes_nothing_unknown() -> None:
    """Asked for only where another question of the same route says no."""
    added = "    - {match: {host: web, path: {prefix: /v9}, headers: {x-plan: gold}}, to: two}\n"
    report = report_of(seen(LIVE, 5), LIVE, LIVE.replace("    - name: canary", f"{added}    - name: canary"))
    assert (report["unknown"], report["moved"]) == (0, 0)


def test_hashed_values_answer_questions_of_equality_and_no_others() -> None:
    """Also for values that the file in force does not ask for."""
    keeping = Keeping(LIVE)
    for tenant in ("acme", "beta", "gamma"):
        keeping.live(head_of("GET", "web", f"/{tenant}", f"X-Tenant: {tenant}"))
    exact = report_of(keeping, LIVE, LIVE.replace("x-tenant: acme", "x-tenant: beta"))
    assert exact["unknown"] == 0
    assert sorted(group["example"]["path"] for group in exact["groups"]) == ["/acme", "/beta"]
    prefix = report_of(keeping, LIVE, LIVE.replace("x-tenant: acme", "x-tenant: {prefix: ac}"))
    assert [(one["needs"], one["why"]) for one in prefix["unknowns"]] == [("header x-tenant", "only hashed")]
    # The one that is asked for by its value is known by it.
    assert prefix["unknown"] == 2


def test_settings_that_change_are_told_with_their_place() -> None:
    """Of routes with the same name; those within a section by their path."""
    new = LIVE.replace("timeout: 2s", "timeout: 1s\n      retry: {attempts: 3}")
    report = report_of(seen(LIVE, 1), LIVE, new)
    found = {one["setting"]: (one["before"], one["after"], one["position"]) for one in report["settings"]}
    assert found["timeout"] == (2.0, 1.0, "new.yaml:10")
    assert found["retry.attempts"][1:] == (3, "new.yaml:11")
    assert report["moved"] == 0


def test_a_secret_is_in_no_report() -> None:
    """Neither one that a request has, nor one that a file has."""
    live = LIVE.replace("x-tenant: acme", 'authorization: "Bearer hunter2hunter2"')
    new = live.replace("hunter2hunter2", "other2other2")
    new = new.replace("timeout: 2s", "request_headers: {set: {x-api-key: hunter2hunter2}}")
    keeping = Keeping(live)
    keeping.live(head_of("GET", "web", "/p/hunter2hunter2?k=hunter2hunter2", "Authorization: Bearer hunter2hunter2"))
    report = report_of(keeping, live, new, Secrets(["hunter2hunter2", "other2other2"]))
    assert report["moved"] == 1
    assert "hunter2" not in json.dumps(report)
    assert "other2" not in json.dumps(report)


RULES = """
service: shop
inbound:
  app: "127.0.0.1:1"
  authorization:
    default: deny
    rules:
      - {name: front, allow: {from: [{spiffe: "spiffe://shop/front"}], path: {prefix: /v1}}}
"""


def test_rules_of_authorization_are_asked_by_who_asked() -> None:
    """With the identity and the address that were kept; the rule that refuses is told."""
    keeping = Keeping(RULES)
    for identity in ("spiffe://shop/front", "spiffe://shop/other"):
        keeping.live(head_of("GET", "web", "/v1"), "inbound", "10.0.0.1", identity)
    new = RULES.replace("    rules:\n", "    rules:\n      - {name: no, deny: {path: {prefix: /v1}}}\n")
    report = report_of(keeping, RULES, new)
    assert (report["moved"], report["refused"], report["not_found"]) == (1, 1, 0)
    (group,) = report["groups"]
    assert (group["to"]["status"], group["position"]) == (403, "f.yaml:8")
    assert report_of(keeping, RULES, RULES)["moved"] == 0


JWT = RULES.replace(
    '{spiffe: "spiffe://shop/front"}',
    '{jwt: {issuer: "https://i", audience: a, claims: {role: CLAIM}, keys: {file: /k.json}}}',
)


@pytest.mark.parametrize(("claim", "unknown"), [("admin", 0), ("guest", 1)])
def test_of_a_token_only_what_rules_have_asked_is_known(claim: str, unknown: int) -> None:
    """The same rule knows what it said; another one would have to read the claims."""
    live = JWT.replace("CLAIM", "admin")
    keeping = Keeping(live)
    (rule,) = keeping.inbound.authorization.token_rules  # type: ignore[union-attr]
    exchange = keeping.live(head_of("GET", "web", "/v1"), "inbound")
    exchange.token = Token("accepted", "https://i", (rule.word,))
    keeping.telemetry.record(exchange)
    report = report_of(keeping, live, JWT.replace("CLAIM", claim))
    assert report["requests"] == 2
    assert report["unknown"] == unknown
    assert [one["needs"] for one in report["unknowns"]] == ["the claims of its token"] * unknown


def test_rings_travel_as_they_are() -> None:
    """Another process reads the same requests, with the same digests."""
    keeping = seen(LIVE, 120)
    keeping.live(head_of("GET", "web", "/", "X-Tenant: acme"))
    there = list(unpack(pack(keeping.recent)))
    here = list(keeping.recent.entries())
    assert len(there) == 121
    for one, other in zip(there, here, strict=True):
        assert one.values == other.values
        assert one.kept.said() == other.kept.said()
        assert (one.path, one.request_id, one.status) == (other.path, other.request_id, other.status)
    assert there[0].kept.recent.digest(b"acme") in there[0].values


def test_a_side_that_redirects_is_where_it_leads() -> None:
    """It has no upstream of which something could be read; another location is another place."""
    live = LIVE.replace("{upstream: two, weight: 5}", "{redirect: {host: new.example, status: 307}, weight: 5}")

    same = report_of(seen(live), live, live)
    moved = report_of(seen(live), live, live.replace("new.example", "other.example"))

    assert (same["requests"], same["moved"]) == (200, 0)
    assert moved["moved"] >= 1
    assert sum(group["count"] for group in moved["groups"]) == moved["moved"]
    assert all("other.example" in group["to"]["to"][0] for group in moved["groups"])
    assert any(setting["setting"].startswith("to.redirect.") for setting in moved["settings"])
