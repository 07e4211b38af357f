"""Who asks, as the page shows it: locks on calls by TLS, refused callers in red, and when certificates end."""

from __future__ import annotations

from typing import Any

from tests.browser.conftest import Open, look_again
from tests.support.chromium import Tab
from tests.support.mesh_fixture import NOW, Json, edge, instance, mesh, service

CALL = '[data-edge=\'["{}","{}"]\']'


def refused(caller: str, callee: str, count: int, *, audit: bool = False, identity: str = "") -> Json:
    """A row of `refused`, by the rule made of `callers`."""
    return {
        "from": caller, "to": callee, "identity": identity, "rule": "callers", "count": count, "audit": audit,
        "window_s": 60,
    }  # fmt: skip


def secured(**more: Any) -> Json:
    """Four services: calls wholly, partly and not by TLS, one refused, one of a caller that tells nothing itself."""
    certificate = {
        "identity": "spiffe://shop/catalog", "not_after": NOW + 6 * 86400, "issuer": "CN=x",
        "issuer_not_after": NOW + 60 * 86400, "root_not_after": NOW + 3000 * 86400, "warning": None, "trouble": None,
    }  # fmt: skip
    ends = {**certificate, "not_after": NOW + 7300, "warning": "its certificate ends in 2 h", "trouble": "no answer"}
    quiet = edge("jobs", "catalog", 1, tls="all", route="", upstream="", version="")
    quiet.update(success=None, p50_s=None, p99_s=None)
    edges = [
        edge("front", "catalog", 20, tls="all"), edge("front", "pay", 2, tls="all"),
        edge("search", "catalog", 5, tls="some"), edge("front", "search", 4, tls="none"), quiet,
    ]  # fmt: skip
    return mesh(
        [
            service("front"), service("search"), service("catalog", 2, unidentified=7),
            service("pay", 0, kind="external", versions=()),
        ],
        [instance("catalog", 0, certificate=certificate), instance("catalog", 1, certificate=ends)],
        edges,
        refused=[
            refused("batch", "catalog", 12, identity="spiffe://shop/batch"), refused("", "catalog", 3),
            refused("search", "catalog", 4, audit=True, identity="spiffe://shop/search"),
        ],
        **more,
    )  # fmt: skip


def told(tab: Tab, caller: str, callee: str) -> str:
    """What a screen reader is told of a call."""
    said: str = tab.run(f"document.querySelector({CALL.format(caller, callee)!r}).getAttribute('aria-label')")
    return said


def test_lock_tells_how_much_of_a_call_is_by_tls(open_mesh: Open) -> None:
    """Closed for all of it, open for some, none where there is none; in words for who does not see it."""
    tab, _ = open_mesh(secured())
    locks = """[...document.querySelectorAll('.label')].map((one) => [
      one.querySelector('.label-rate').textContent, one.querySelector('.lock')?.getAttribute('class') ?? ''
    ])"""
    found = dict(tab.run(locks))
    assert found["20/s"] == "lock lock-all"
    assert found["5.0/s"] == "lock lock-some"
    assert found["4.0/s"] == ""
    assert ", all by mutual TLS; well" in told(tab, "front", "catalog")
    assert ", some by mutual TLS, some in clear; look at it" in told(tab, "search", "catalog")
    assert "TLS" not in told(tab, "front", "search")
    assert ", all by TLS; well" in told(tab, "front", "pay")
    assert told(tab, "jobs", "catalog") == "jobs to catalog: 1.0/s, all by mutual TLS; well"
    tab.run(f"document.querySelector({CALL.format('front', 'catalog')!r}).focus()")
    tab.press("Enter")
    assert "all by mutual TLS" in tab.text("#panel .facts")
    tab.press("t")
    tab.wait("!document.getElementById('tables').hidden")
    assert "some by mutual TLS, some in clear" in tab.text("#tables")


def test_refused_caller_is_a_red_call_that_says_who_and_by_which_rule(open_mesh: Open) -> None:
    """To whom it asked; in the call's details, in the service's, and beside the map; those in audit as such."""
    tab, page = open_mesh(secured())
    said = told(tab, "batch", "catalog")
    assert said == "batch to catalog: hurts (12 requests refused by rule callers)"
    assert tab.run(f"document.querySelector({CALL.format('batch', 'catalog')!r}).classList.contains('is-bad')")
    assert "12 refusedin a minute" in tab.texts(".label.is-bad")
    assert told(tab, "", "catalog") == "unknown callers to catalog: hurts (3 requests refused by rule callers)"
    assert "4 requests would be refused by rule callers" in told(tab, "search", "catalog")
    assert "12 requests refused by rule callers" in tab.text("#panel")
    tab.run(f"document.querySelector({CALL.format('batch', 'catalog')!r}).focus()")
    tab.press("Enter")
    rows = "[...document.querySelectorAll('#panel tbody tr')].map((one) => one.innerText)"
    told_rows = [row.split() for row in tab.run(rows) if "refuses" in row]  # those of routes come by and by
    assert told_rows == [["batch", "spiffe://shop/batch", "callers", "refuses", "12"]]
    tab.click("[data-node=catalog] .name")
    panel = tab.text("#panel")
    assert "Refused callers" in panel
    assert "without an identity" in panel
    assert "would refuse; in audit" in panel
    assert "7 requests in the last minute, let in for the time being" in panel
    page.mesh = secured(revision=13) | {"refused": []}
    look_again(tab)
    tab.wait("document.querySelector('[data-node=batch]') === null")
    assert "Refused callers" not in tab.text("#panel")


def test_instance_tells_how_long_its_certificate_is_good_for(open_mesh: Open) -> None:
    """And what is wrong with it."""
    tab, _ = open_mesh(secured())
    tab.click("[data-node=catalog] .name")
    panel = tab.text("#panel")
    assert "certificate for 6 days" in panel
    assert "certificate for 2 h" in panel
    assert tab.texts("#panel td .warn") == ["certificate for 2 h", "its certificate ends in 2 h", "no answer"]


def test_mesh_in_clear_shows_nothing_of_it(open_mesh: Open) -> None:
    """As before there were identities."""
    clear = secured() | {"refused": []}
    for row in clear["edges"]:
        row["tls"] = "none"
    for row in clear["instances"]:
        row["certificate"] = None
    clear["services"][2]["unidentified"] = 0
    tab, _ = open_mesh(clear)
    tab.click("[data-node=catalog] .name")
    assert tab.run("document.querySelectorAll('.lock').length") == 0
    labels = "[...document.querySelectorAll('[aria-label]')].map((one) => one.ariaLabel)"
    text = tab.run(f"document.body.innerText + {labels}")
    assert not [word for word in ("TLS", "refused by", "certificate", "no identity") if word in text]
