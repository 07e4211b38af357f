"""Where a request would go, and whether it is admitted there."""

from __future__ import annotations

import pytest

from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError
from sidecar.mesh.arrival import Arrival, Verdict
from sidecar.mesh.explain import Admission, Destination, Explanation, explain
from sidecar.mesh.mesh import Mark
from tests.support.meshes import mesh

MESH = """
=== mesh.yaml
mesh: shop
unmatched: UNMATCHED
=== front.yaml
service: front
calls: {back: {timeout: 1s}, strict: {}, out: {}}
=== back.yaml
service: back
app: h:1
callers: [front]
instances: {v: {registered: {version: v1}}}
routes:
- {name: gone, match: {path: /gone}, respond: {status: 410}}
- {name: secret, match: {headers: {authorization: token}}, to: v}
- {name: split, match: {path: /s}, to: {v: 3, back: 1}}
=== strict.yaml
service: strict
app: h:1
callers: []
=== unknown.yaml
service: unknown
app: h:1
=== out.yaml
service: out
dns: out.example.com:80
"""


def explained(url: str, unmatched: str = "passthrough", caller: str = "front", **headers: str) -> Explanation:
    """What becomes of a GET."""
    request = {"url": url, "headers": headers}
    test = RoutingTest.model_validate({"name": "t", "request": request, "expect": {"status": 200}})
    return explain(mesh(MESH.replace("UNMATCHED", unmatched)), caller, test)


def test_a_request_is_explained_from_the_caller_to_who_admits_it() -> None:
    """Route, where it is written, what it asks, shares, and the word of the called service."""
    found = explained("http://back/s")
    assert found == Explanation(
        "front",
        "back.split",
        Mark("back.yaml", 8, 3),
        ('host back, path exact "/s"',),
        (Destination("back.v", 0.75, "registered, version v1"), Destination("back", 0.25, "registered")),
        None,
        1.0,
        (Admission("back", True, "its `callers` are front", Mark("back.yaml", 3, 1)),),
        "",
        (Arrival("back", "http", "app", Mark("back.yaml", 2, 1), (), ("app",), None, None),),
    )
    assert found.is_answered


def test_a_route_that_answers_itself_reaches_nobody() -> None:
    """Its status is what the app sees."""
    found = explained("http://back/gone")
    assert (found.route, found.status, found.destinations, found.is_answered) == ("back.gone", 410, (), False)


IN = """
=== front.yaml
service: front
calls:
  back:
    routes: [{match: {path: /old}, rewrite: {path: /new}, request_headers: {set: {x-tier: gold}}, to: back}]
=== back.yaml
service: back
ports: {http: 'h:1', admin: 'h:2'}
circuit_breaker: {max_requests: 7}
inbound:
  circuit_breaker: {max_requests: 9}
  rate_limit: {requests: 5, per: 2s}
  routes:
  - {match: {path: /secret}, respond: {status: 403}}
  - name: gold
    match: {path: /new, headers: {x-tier: gold, authorization: token}}
    timeout: 3s
    rate_limit: {requests: 1, key: {header: x-user}}
  - {name: teapot, match: {path: /new}, respond: {status: 418}}
"""


def arrived(url: str, **headers: str) -> Explanation:
    """What becomes of a GET of `front`."""
    request = {"url": url, "headers": headers}
    test = RoutingTest.model_validate({"name": "t", "request": request, "expect": {"status": 200}})
    return explain(mesh(IN), "front", test)


def test_the_called_services_own_routes_are_run_on_what_the_caller_sends() -> None:
    """After the caller's rewrites and edits: with limits and timeout of the route that it takes there."""
    found = arrived("http://back/old", Authorization="token")
    assert found.arrivals == (
        Arrival(
            "back", "http", "gold", Mark("back.yaml", 9, 5), found.arrivals[0].match, ("app",), None, 3.0,
            (
                "rate_limit: 1 in 1s, burst 1, by header x-user", "rate_limit: 5 in 2s, burst 5",
                "circuit_breaker: max_requests 9",
            ),
        ),
    )  # fmt: skip
    assert "token" not in str(found.arrivals[0].match)
    assert '"gold"' in str(found.arrivals[0].match)
    assert found.is_answered


def test_a_called_service_whose_sidecar_answers_itself_is_told() -> None:
    """Nobody else answers then."""
    found = arrived("http://back/old")
    (one,) = found.arrivals
    assert (one.route, one.status, one.to, found.is_answered) == ("teapot", 418, (), False)
    (one,) = arrived("http://back/secret").arrivals
    assert (one.route, one.origin, one.status) == ("routes[0]", Mark("back.yaml", 8, 5), 403)


def test_a_further_port_is_judged_as_that_port() -> None:
    """Each goes to its own app."""
    (one,) = arrived("http://back:2/").arrivals
    assert (one.port, one.route, one.to, one.origin) == ("admin", "app.admin", ("app.admin",), Mark("back.yaml", 2, 1))


def test_a_callee_that_does_not_admit_is_told() -> None:
    """The caller's sidecar sends it all the same."""
    found = explained("http://strict/")
    assert (found.route, found.status, found.is_answered) == ("strict", None, False)
    assert found.admissions == (Admission("strict", False, "its `callers` are nobody", Mark("strict.yaml", 3, 1)),)


@pytest.mark.parametrize(("unmatched", "route", "status"), [("passthrough", "passthrough", None), ("deny", "", 404)])
def test_a_host_of_which_the_sidecars_are_not_told_is_explained(unmatched: str, route: str, status: int | None) -> None:
    """It looks like any other host to them, but is one of the mesh."""
    found = explained("http://unknown/", unmatched)
    assert (found.route, found.status) == (route, status)
    assert (
        found.note
        == "that is a host of `unknown`, of which its sidecars are not told: `calls` of `front` does not name it"
    )
    assert found.admissions[0].is_admitted
    found = explained("http://strict/", unmatched, caller="back")
    assert found.note == "that is a host of `strict`, of which its sidecars are not told: it does not admit them"
    assert explained("http://nobody/", unmatched).note == ""
    assert "its own host" in explained("http://back/", unmatched, caller="back").note


def test_outside_everyone_is_admitted_that_the_mesh_lets() -> None:
    """By `access`, where nothing else is said."""
    found = explained("http://out/")
    assert [one.why for one in found.admissions] == ["the mesh's `access` is `open`"]
    assert found.is_answered


def test_secrets_are_not_shown() -> None:
    """Routes may ask for a token; who asks why a request went there need not know it."""
    found = explained("http://back/", Authorization="token")
    assert found.route == "back.secret"
    assert "token" not in str(found.match)


def test_what_is_no_request_is_told() -> None:
    """As the data path would refuse it."""
    with pytest.raises(ConfigError, match="the request is not valid"):
        explained("http://back/", host="a b")
    with pytest.raises(ConfigError, match="the mesh has no service `nobody`"):
        explained("http://back/", caller="nobody")


RULES = """
=== mesh.yaml
mesh: shop
authorization: {mode: MODE, first: [{name: probes, allow: {path: /ready}}]}
=== front.yaml
service: front
identities: [front, ns/x/sa/front]
=== other.yaml
service: other
calls: {back: {}}
=== back.yaml
service: back
app: h:1
callers: front
authorization:
  rules:
  - {name: old-accounts, deny: {from: "spiffe://shop/ns/x/*", path: {prefix: /new}}}
inbound: {tls: TLS}
=== out.yaml
service: out
dns: h:1
"""


def judged(caller: str, path: str, mode: str = "enforce", tls: str = "permissive", host: str = "back") -> Explanation:
    """A GET in a mesh whose sidecars have identities."""
    test = RoutingTest.model_validate({"name": "t", "request": {"url": f"http://{host}{path}"}, "expect": {}})
    found = mesh(RULES.replace("MODE", mode).replace("TLS", tls), has_identity=True)
    return explain(found, caller, test)


class TestRules:
    """The called service's own rules, in the code that judges live requests."""

    def test_who_is_admitted_is_told_by_which_rule(self) -> None:
        """And where that is written."""
        found = judged("front", "/x")
        (there,) = found.arrivals
        assert there.verdict == Verdict("allowed", "callers", Mark("back.yaml", 3, 1), "spiffe://shop/front")
        assert (there.route, there.to, found.is_answered) == ("app", ("app",), True)
        assert judged("other", "/ready").arrivals[0].verdict == Verdict(
            "allowed", "probes", Mark("mesh.yaml", 2, 40), "spiffe://shop/other"
        )

    def test_who_is_refused_is_told_what_differed_at_the_meshs_places(self) -> None:
        """No route is looked for; the sidecar answers itself."""
        found = judged("other", "/x")
        (there,) = found.arrivals
        assert (there.route, there.status, found.is_answered, found.unjudged) == ("", 403, False, [])
        why = (
            "spiffe://shop/other is allowed by no rule; the nearest is `callers` (back.yaml:3): it is for"
            " spiffe://shop/front or spiffe://shop/ns/x/sa/front"
        )
        assert there.verdict == Verdict("denied", "callers", Mark("back.yaml", 3, 1), "spiffe://shop/other", why)

    def test_in_audit_it_passes_and_is_told_all_the_same(self) -> None:
        """What would be refused once it is enforced."""
        found = judged("other", "/x", mode="audit")
        (there,) = found.arrivals
        assert there.verdict is not None
        assert (there.verdict.outcome, there.verdict.rule) == ("audit_denied", "callers")
        assert (there.route, found.is_answered) == ("app", True)

    def test_of_several_identities_the_worst_is_told(self) -> None:
        """An instance may have any of them."""
        (there,) = judged("front", "/new/x").arrivals
        assert there.verdict is not None
        assert (there.verdict.outcome, there.verdict.rule) == ("denied", "old-accounts")
        assert there.verdict.identity == "spiffe://shop/ns/x/sa/front"

    def test_what_has_no_rules_is_told_by_callers_and_access_as_before(self) -> None:
        """A service that is outside, and a mesh without identities."""
        assert [one.service for one in judged("front", "/", host="out").unjudged] == ["out"]
        found = explained("http://back/s")
        assert found.arrivals[0].verdict is None
        assert [one.service for one in found.unjudged] == ["back"]
