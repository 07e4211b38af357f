"""The routing language end to end: every kind of match, weights, edits, rewrites, and where the rest goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.origin import Origin
from tests.support.process import Response, SidecarProcess, running_sidecar
from tests.support.wait import eventually

ROUTES = """
service: storefront
inbound:
  listen: "127.0.0.1:${INBOUND_PORT}"
  app: "127.0.0.1:%(app)d"
  routes:
    - {name: in-teapot, match: {path: /teapot}, respond: {status: 418, body: "short and stout\\n"}}
    - {name: in-admin, match: {path: {prefix: /admin}}, to: other}
outbound:
  listen: "127.0.0.1:${OUTBOUND_PORT}"
  routes:
    - {name: host, match: {host: by-host}, to: other}
    - {name: wildcard, match: {host: "*.wild.example"}, to: other}
    - {name: hosts, match: {host: [one-of, two-of]}, to: other}
    - {name: exact, match: {host: m, path: /exact}, to: other}
    - {name: prefix, match: {host: m, path: {prefix: /prefix}}, to: other}
    - {name: template, match: {host: m, path: {template: "/orders/{id}/items/{rest...}"}}, to: other}
    - {name: starts, match: {host: m, path: {starts_with: /starts}}, to: other}
    - {name: suffix, match: {host: m, path: {suffix: .css}}, to: other}
    - {name: contains, match: {host: m, path: {contains: /mid/}}, to: other}
    - {name: regex, match: {host: m, path: {regex: "/user/[0-9]+"}}, to: other}
    - {name: case, match: {host: m, path: {exact: /Case, ignore_case: true}}, to: other}
    - {name: method, match: {host: m, path: /method, methods: [PUT, DELETE]}, to: other}
    - {name: h-exact, match: {host: m, headers: {x-exact: "yes"}}, to: other}
    - {name: h-prefix, match: {host: m, headers: {x-prefix: {prefix: ab}}}, to: other}
    - {name: h-suffix, match: {host: m, headers: {x-suffix: {suffix: yz}}}, to: other}
    - {name: h-contains, match: {host: m, headers: {x-contains: {contains: mid}}}, to: other}
    - {name: h-regex, match: {host: m, headers: {x-regex: {regex: "v[0-9]"}}}, to: other}
    - {name: h-range, match: {host: m, headers: {x-range: {range: [10, 20]}}}, to: other}
    - {name: h-present, match: {host: m, headers: {x-present: {present: true}}}, to: other}
    - {name: h-invert, match: {host: m, headers: {x-invert: {exact: prod, invert: true}}}, to: other}
    - {name: cookie, match: {host: m, cookies: {BETA_USER: "true"}}, to: other}
    - {name: query, match: {host: m, query: {debug: "a b"}}, to: other}
    - {name: both, match: {host: m, path: /both, headers: {x-a: "1"}, cookies: {c: "2"}, query: {q: "3"}}, to: other}
    - {name: any, match: [{host: m, path: /any-a}, {host: m, path: /any-b}], to: other}
    - {name: first, match: {host: order, path: {prefix: /a}}, to: other}
    - {name: second, match: {host: order, path: /a/b}, to: web}
    - {name: canary, match: {host: split}, to: {web: 95, other: 5}}
    - {name: sticky, match: {host: stuck}, to: {web: 50, other: 50}, sticky: {cookie: uid}}
    - name: edits
      match: {host: edits}
      to:
        - upstream: web
          request_headers: {set: {x-order: target}, add: {x-many: two}}
          response_headers: {set: {x-last: target}, add: {x-from-target: "1"}, remove: [x-served-by]}
      request_headers: {set: {x-order: route}, add: {x-many: one}, remove: [x-secret]}
      response_headers: {set: {x-last: route}}
    - {name: rw-prefix, match: {host: rw, path: {prefix: /old}}, to: web, rewrite: {prefix: /new}}
    - {name: rw-path, match: {host: rw, path: /path}, to: web, rewrite: {path: /echo, host: else.example}}
    - {name: rw-regex, match: {host: rw, path: {starts_with: /u/}}, to: web,
       rewrite: {regex: {pattern: "^/u/([^/]+)/(.*)$", substitution: "/\\\\2/of/\\\\1"}}}
    - name: sides
      match: {host: sides, path: {prefix: /v1}}
      to:
        - upstream: web
        - {upstream: other, rewrite: {prefix: /echo}}
        - {redirect: {host: elsewhere.example, prefix: /v3, status: 307}, response_headers: {set: {x-side: gone}}}
      rewrite: {host: of-the-route, path: /whole}
      sticky: {header: x-user}
    - {name: moved, match: {host: moved, path: {prefix: /from}}, redirect: {prefix: /to, status: 308}}
    - {name: https, match: {host: moved}, redirect: {scheme: https, host: secure.example}}
    - {name: local, match: {host: local}, respond: {status: 200, body: "{}", headers: {content-type: application/json}},
       response_headers: {set: {x-local: "1"}}}
upstreams:
  web: {endpoints: ["127.0.0.1:%(web)d"]}
  other: {hosts: [other, alias, "*.other.example"], endpoints: ["127.0.0.1:%(other)d"]}
"""


@dataclass
class World:
    """The sidecar and where its routes lead."""

    sidecar: SidecarProcess
    web: Origin
    other: Origin
    app: Origin

    def ask(self, host: str, path: str = "/", fields: dict[str, str] | None = None, method: str = "GET") -> Response:
        """One request to the outbound listener."""
        return self.sidecar.outbound(path, host=host, headers=fields, method=method)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for the file: routing keeps no state."""
    with Origin("web") as web, Origin("other") as other, Origin("app") as app:
        text = ROUTES % {"web": web.port, "other": other.port, "app": app.port}
        with running_sidecar(tmp_path_factory.mktemp("routing"), text) as sidecar:
            yield World(sidecar, web, other, app)


def echoed(response: Response) -> dict[str, Any]:
    """What the upstream got, its fields as a mapping of lists."""
    said: dict[str, Any] = response.json()
    fields: dict[str, list[str]] = {}
    for name, value in said["headers"]:
        fields.setdefault(name, []).append(value)
    return {**said, "headers": fields}


# --- matches -------------------------------------------------------------------------------------------------------

COOKIES = 'a=1; BETA_USER="true"; theme=a=b'
MATCHES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    # name: a request that matches, one that does not; each (host, path, fields, method)
    "host": (("BY-HOST:8080", "/"), ("not-by-host", "/")),
    "wildcard": (("a.b.wild.example", "/"), ("wild.example", "/")),
    "hosts": (("two-of.", "/"), ("three-of", "/")),
    "exact": (("m", "/exact?q"), ("m", "/exact/")),
    "exact, in normal form": (("m", "/x/../%65xact"), ("m", "/Exact")),
    "prefix": (("m", "/prefix/x"), ("m", "/prefixed")),
    "template": (("m", "/orders/7/items/a/b"), ("m", "/orders/7/items/")),
    "starts_with": (("m", "/starts-with"), ("m", "/start")),
    "suffix": (("m", "/a/b.css"), ("m", "/a.css/b")),
    "contains": (("m", "/a/mid/b"), ("m", "/a/middle/b")),
    "regex": (("m", "/user/17"), ("m", "/user/17/x")),
    "ignore_case": (("m", "/cASE"), ("m", "/cases")),
    "method": (("m", "/method", {}, "DELETE"), ("m", "/method", {}, "GET")),
    "header": (("m", "/", {"X-EXACT": "yes"}), ("m", "/", {"X-EXACT": "YES"})),
    "header prefix": (("m", "/", {"x-prefix": "abc"}), ("m", "/", {"x-prefix": "cab"})),
    "header suffix": (("m", "/", {"x-suffix": "xyz"}), ("m", "/", {"x-suffix": "yzx"})),
    "header contains": (("m", "/", {"x-contains": "amidst"}), ("m", "/", {"x-contains": "mi d"})),
    "header regex": (("m", "/", {"x-regex": "v1"}), ("m", "/", {"x-regex": "v10"})),
    "header range": (("m", "/", {"x-range": "19"}), ("m", "/", {"x-range": "20"})),
    "header present": (("m", "/", {"x-present": ""}), ("m", "/", {"x-absent": ""})),
    "header invert": (("m", "/", {"x-invert": "dev"}), ("m", "/", {"x-invert": "prod"})),
    "cookie": (("m", "/", {"cookie": COOKIES}), ("m", "/", {"cookie": "beta_user=true; BETA_USER=false"})),
    "query": (("m", "/?x=1&debug=a+b"), ("m", "/?debug=b&debug=a+b")),
    "all of one match": (
        ("m", "/both?q=3", {"x-a": "1", "cookie": "c=2"}),
        ("m", "/both?q=3", {"x-a": "1", "cookie": "c=3"}),
    ),
    "any of a list": (("m", "/any-b"), ("m", "/any-c")),
}


@pytest.mark.parametrize("name", list(MATCHES))
def test_every_kind_of_match_matches_what_it_says(world: World, name: str) -> None:
    """One request that it takes and one that is nearly like it, which nothing takes."""
    taken, refused = MATCHES[name]
    assert world.ask(*taken).text == "other"
    response = world.ask(*refused)
    assert (response.status, response.json()["flag"]) == (404, "NR")


def test_the_first_match_wins_in_file_order(world: World) -> None:
    """Also when a later route is more specific."""
    assert world.ask("order", "/a/b").text == "other"


# --- weights -------------------------------------------------------------------------------------------------------


def test_weights_fall_as_they_are_written(world: World) -> None:
    """Of 1,000 requests at 95 to 5, about 50 go to the small side (6 sigma: 9 to 91)."""
    seen = Counter(world.ask("split").text for _ in range(1000))
    assert set(seen) == {"web", "other"}
    assert 9 <= seen["other"] <= 91


def test_sticky_users_stay_on_their_side(world: World) -> None:
    """The same cookie goes the same way every time, and users are on both sides."""
    sides = {}
    for user in range(40):
        answers = {world.ask("stuck", fields={"cookie": f"x=y; uid=user-{user}"}).text for _ in range(3)}
        assert len(answers) == 1
        sides[user] = answers.pop()
    assert set(sides.values()) == {"web", "other"}
    without = {world.ask("stuck").text for _ in range(60)}
    assert without == {"web", "other"}


def test_every_side_rewrites_as_it_says_and_one_redirects(world: World) -> None:
    """A side's own rewriting is in the place of the route's; whose key falls to the redirect goes elsewhere."""
    seen: dict[str, set[tuple[str, ...]]] = {"web": set(), "other": set(), "": set()}
    for user in range(40):
        response = world.ask("sides", "/v1?q=1", {"x-user": f"user-{user}"})
        if response.status == 307:
            seen[""].add((response.headers["location"], response.headers["x-side"]))
        elif response.text == "web":
            seen["web"].add(world.web.requests[-1])
        else:
            seen["other"].add((*world.other.requests[-1], *echoed(response)["headers"]["host"]))
    assert seen == {
        "web": {("GET", "/whole?q=1")},
        "other": {("GET", "/echo?q=1", "sides")},
        "": {("http://elsewhere.example/v3?q=1", "gone")},
    }
    line = eventually(lambda: [one for one in world.sidecar.access_log() if one["response_code"] == 307], "its line")[0]
    assert (line["route_name"], line["upstream_cluster"]) == ("sides", None)
    assert line["response_code_details"] == "direct_response"
    assert world.sidecar.metric("sidecar_requests_total", route="sides", upstream="", code="307") > 0


# --- what is changed -----------------------------------------------------------------------------------------------


def test_header_edits_of_route_and_target(world: World) -> None:
    """Requests: the route's, then the target's. Responses: the target's, then the route's."""
    response = world.ask("edits", "/echo", {"x-secret": "s", "x-order": "client", "x-many": "zero"})
    fields = echoed(response)["headers"]
    assert fields["x-order"] == ["target"]
    assert fields["x-many"] == ["zero", "one", "two"]
    assert "x-secret" not in fields
    assert response.headers["x-last"] == "route"
    assert response.headers["x-from-target"] == "1"
    assert "x-served-by" not in response.headers


def test_rewrites(world: World) -> None:
    """Prefix, path and host, regex; the query stays."""
    for path, sent in {
        "/old/echo?a=1": "/new/echo?a=1",
        "/old": "/new",
        "/path?x=/old": "/echo?x=/old",
        "/u/ann/echo": "/echo/of/ann",
    }.items():
        assert world.ask("rw", path).status == 200
        assert world.web.requests[-1] == ("GET", sent)


def test_rewritten_hosts_are_what_the_upstream_sees(world: World) -> None:
    """And else it sees what the client named."""
    assert echoed(world.ask("rw", "/path"))["headers"]["host"] == ["else.example"]
    assert echoed(world.ask("web", "/echo"))["headers"]["host"] == ["web"]
    assert echoed(world.ask("alias:8080", "/echo"))["headers"]["host"] == ["alias:8080"]


def test_redirects(world: World) -> None:
    """Relative where only the path changes, absolute where scheme or host do."""
    moved = world.ask("moved", "/from/a?b=c")
    assert (moved.status, moved.headers["location"]) == (308, "/to/a?b=c")
    secure = world.ask("moved", "/x?y")
    assert (secure.status, secure.headers["location"]) == (301, "https://secure.example/x?y")


def test_fixed_responses(world: World) -> None:
    """Status, body, its type, edits; HEAD without the body."""
    response = world.ask("local")
    assert (response.status, response.text, response.headers["content-type"]) == (200, "{}", "application/json")
    assert response.headers["x-local"] == "1"
    head = world.ask("local", method="HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", "2")


# --- what no route names -------------------------------------------------------------------------------------------


def test_upstreams_are_reached_by_their_names_and_hosts(world: World) -> None:
    """By name without `hosts`, else by `hosts`."""
    assert world.ask("web").text == "web"
    assert world.ask("WEB:9999").text == "web"
    assert world.ask("alias").text == "other"
    assert world.ask("x.other.example").text == "other"
    assert world.ask("other.example").status == 404


def test_what_is_unmatched_is_denied(world: World) -> None:
    """404, and the answer says what to look at."""
    response = world.ask("stranger", "/x")
    said = response.json()
    assert (response.status, said["flag"], said["error"]) == (404, "NR", "no_route")
    assert "outbound.unmatched" in said["look_at"]
    assert "destination_not_found" in response.headers["proxy-status"]


def test_inbound_routes_and_the_app_for_the_rest(world: World) -> None:
    """Fixed answers, another upstream, and whatever else to the app, whatever its host."""
    teapot = world.sidecar.inbound("/teapot")
    assert (teapot.status, teapot.text) == (418, "short and stout\n")
    assert world.sidecar.inbound("/admin/x").text == "other"
    assert world.sidecar.inbound("/administrator").text == "app"
    assert world.sidecar.inbound("/", headers={"Host": "anything.example"}).text == "app"
