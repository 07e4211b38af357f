"""Who asked whom, of what sidecars told of those who asked them."""

from __future__ import annotations

import pytest

from sidecar.control.calls import callers as module
from sidecar.control.calls.callers import Callers, Names
from sidecar.control.calls.edges import AskedKey, Edges
from sidecar.control.revision.judged import Judged, ServiceFacts
from sidecar.link.report import OTHERS, Asked

MESH = Judged(
    "shop", "h",
    {
        "catalog": ServiceFacts("mesh", (), (), ("spiffe://shop/catalog",)),
        "web": ServiceFacts("mesh", (), (), ("spiffe://shop/ns/shop/sa/web", "spiffe://shop/ns/old/sa/web")),
        "pay": ServiceFacts("external", (), ()),
    },
    {}, (), {},
)  # fmt: skip


def asked(*rows: Asked, service: str = "catalog") -> Callers:
    """Of what one service was told in the last minute."""
    edges = Edges(lambda: 6_000_000.0)
    edges.add_asked(service, str, rows)
    return Callers(edges.asked(), Names(MESH))


def test_identity_is_the_service_that_has_it() -> None:
    """By the mesh's files first, else by its own name; what is of nobody's keeps its whole name."""
    names = Names(MESH)
    assert names.of("spiffe://shop/catalog") == "catalog"
    assert names.of("spiffe://shop/ns/old/sa/web") == names.of("spiffe://shop/ns/shop/sa/web") == "web"
    assert names.of("spiffe://shop/stranger") == "stranger"
    for other in ("spiffe://shop/ns/x/sa/y", "spiffe://elsewhere/catalog", "", "spiffe://shop/"):
        assert names.of(other) == other
    assert Names(None).of("spiffe://shop/catalog") == "spiffe://shop/catalog"


def test_refused_are_told_with_rule_and_who() -> None:
    """Those in audit as such; who showed nothing has no name; who only passed for the time being is counted."""
    web = "spiffe://shop/ns/shop/sa/web"
    callers = asked(
        Asked(web, 9), Asked(web, 4, "callers", "denied"), Asked(web, 2, "no-internals", "audit_denied"),
        Asked("", 3, "callers", "denied"), Asked("", 5, "", "unidentified"),
    )  # fmt: skip
    rows = [
        (one["from"], one["to"], one["identity"], one["rule"], one["count"], one["audit"]) for one in callers.refused
    ]
    assert rows == [
        ("", "catalog", "", "callers", 3, False),
        ("web", "catalog", web, "callers", 4, False),
        ("web", "catalog", web, "no-internals", 2, True),
    ]
    assert callers.unidentified == {"catalog": 5}


def test_who_tells_nothing_itself_is_told_by_whom_it_asked() -> None:
    """But not what was refused, and not beside what its own sidecar tells, nor whoever has no name of its own."""
    web, stranger = "spiffe://shop/ns/shop/sa/web", "spiffe://shop/stranger"
    callers = asked(Asked(web, 9), Asked(stranger, 4), Asked(stranger, 4, "callers", "denied"), Asked(OTHERS, 3))
    assert callers.beside(()) == {("web", "catalog"): 9}
    assert callers.beside({("web", "catalog")}) == {}


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the most requests stay."""
    monkeypatch.setattr(module, "MAX_REFUSED", 2)
    callers = asked(*(Asked(f"spiffe://shop/s{n}", n, "callers", "denied") for n in range(1, 5)))
    assert [one["count"] for one in callers.refused] == [4, 3]


def test_window_is_a_minute() -> None:
    """As of edges."""
    now = [6_000_000.0]
    edges = Edges(lambda: now[0])
    edges.add_asked("catalog", str, [Asked("spiffe://shop/web", 3, "callers", "denied")])
    now[0] += 30
    edges.add_asked("catalog", str, [Asked("spiffe://shop/web", 2, "callers", "denied")])
    key = AskedKey("catalog", "spiffe://shop/web", "callers", "denied")
    assert edges.asked() == {key: 5}
    now[0] += 40
    assert edges.asked() == {key: 2}
    now[0] += 60
    edges.sweep()
    assert edges.asked() == {}
