"""What `sidecar explain` says, as a person reads it and as a program does."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl

import pytest

from sidecar.compile.time_slices import at_once
from sidecar.insight.explain.account import account_of
from sidecar.insight.explain.asked import Asked, asked_by, query_of, way_in
from sidecar.insight.explain.veil import Veil
from sidecar.insight.question import Question, head_of
from sidecar.insight.walk import Visitor, walk
from sidecar.redact import NO_SECRETS, Secrets
from tests.support.compiling import compiled
from tests.support.explaining import account, dedented, scene_of, told

FILE = """\
service: storefront
outbound:
  listen: 127.0.0.1:15001
  routes:
    - name: beta-users
      match: {host: shop, cookies: {BETA_USER: "true"}}
      to: b
    - name: canary
      match: {host: shop, path: {prefix: /v1}}
      to: {a: 95, b: 5}
      sticky: {cookie: uid}
      rewrite: {prefix: /api}
      request_headers: {set: {x-env: canary}, remove: [x-debug]}
      timeout: 2s
    - {name: gone, match: {path: /old}, redirect: {path: /new, status: 301}}
upstreams:
  a: {endpoints: ["10.0.0.1:80", {address: "10.0.0.2:80", weight: 0}], connect_timeout: 250ms}
  b: {endpoints: ["10.0.0.3:80"]}
"""


def test_an_account_is_told_as_a_person_reads_it() -> None:
    """Every decision, in the order in which it was made, with the lines of the file."""
    question = Question("POST", "http://shop/v1/x?q=1", (("x-debug", "1"),), (("uid", "u1"),))

    assert told(account(FILE, question)) == dedented(
        """
        POST shop/v1/x?q=1  (outbound, from 127.0.0.1)

        routes, in the order in which they are asked
          1  beta-users  f.yaml:5   missed at cookie BETA_USER: expected exact "true", found nothing
          2  canary      f.yaml:8   taken
          3  gone        f.yaml:15  missed at path: expected exact "/old", found `/v1/x`
          4  a                      missed at host: expected a, found `shop`
          5  b                      missed at host: expected b, found `shop`

        outcome
          route canary  (f.yaml:8): forwarded

        split
          by cookie uid: `u1`
             0.95 of 1  a  taken
             0.05 of 1  b

        endpoint of a
          balancer: least_request; takes 10.0.0.1:80
          in   10.0.0.1:80  100%, 0 under way
          out  10.0.0.2:80  its weight is 0

        sent to a
          - POST /v1/x?q=1 HTTP/1.1
          + POST /api/x?q=1 HTTP/1.1
            host: shop
          - x-debug: 1
            Cookie: [redacted]
          + x-env: canary
          + x-forwarded-proto: http
          + via: 1.1 sidecar

        settings in force
          timeout                      2s                               f.yaml:14
          retry.attempts               1                                default
          retry.on                     what cannot have been processed  default
          upstreams.a.connect_timeout  0.25s                            f.yaml:17
          upstreams.a.idle_timeout     4s                               default
          upstreams.b.connect_timeout  1s                               default
          upstreams.b.idle_timeout     4s                               default
          limits.idle_timeout          300s                             default
          and 47 more by default (--all)
        """
    )


def test_a_request_that_no_route_takes_is_told_as_refused() -> None:
    """With the status and the flag that the log would have, and nothing of a split."""
    found = account(FILE, Question("GET", "http://nobody/x"))

    assert found["outcome"] == {
        "kind": "refused", "route": None, "position": None, "status": 404, "flag": "NR",
        "why": "no route matches and unmatched requests are denied",
    }  # fmt: skip
    assert (found["split"], found["endpoint"], found["sent"], found["settings"]) == (None, None, None, {})
    assert "no route: the sidecar answers 404, flag NR: no route matches" in told(found)


def test_a_redirection_says_where_it_leads() -> None:
    """Its location is what the client would get."""
    found = account(FILE, Question("GET", "http://nobody/old"))

    assert (found["outcome"]["kind"], found["outcome"]["status"], found["outcome"]["why"]) == ("redirect", 301, "/new")
    assert "the sidecar redirects with 301 to /new" in told(found)


def test_a_route_that_would_match_but_comes_later_says_so() -> None:
    """Which is the answer to: why not by that one?"""
    found = account(FILE, Question("GET", "http://shop/v1", cookies=(("BETA_USER", "true"),)))

    assert [one["result"] for one in found["routes"][:2]] == ["taken", "matches, comes later"]


def test_each_match_of_a_route_says_what_it_missed() -> None:
    """A route with several matches was missed by each of them."""
    text = """\
        service: s
        outbound:
          routes:
            - {name: r, match: [{path: /a}, {methods: POST}], respond: {status: 200}}
        """

    misses = account(text, Question("GET", "http://x/b"))["routes"][0]["matches"]

    assert list(misses) == [
        {"part": "path", "expected": 'exact "/a"', "found": "/b"},
        {"part": "methods", "expected": "POST", "found": "GET"},
    ]


def many(count: int) -> str:
    """A file with so many routes of one host, of which the one in the middle asks for nothing else."""
    routes = "".join(f"    - {{name: r{n}, match: {{host: h{n % 3}, path: /{n}}}, to: a}}\n" for n in range(count))
    return f"service: s\noutbound:\n  routes:\n{routes}upstreams:\n  a: {{endpoints: ['10.0.0.1:80']}}\n"


def test_of_many_routes_those_missed_in_a_row_are_told_as_one() -> None:
    """With how many were missed at which question; `all` tells each of them."""
    question = Question("GET", "http://h1/70")

    folded = account(many(100), question)
    whole = account(many(100), question, is_whole=True)

    assert [(one["index"], one["count"], one["name"], one["result"]) for one in folded["routes"]] == [
        (0, 70, "r0 … r69", "missed"), (70, 1, "r70", "taken"), (71, 30, "r71 … a", "missed"),
    ]  # fmt: skip
    assert folded["routes"][0]["missed_at"] == {"host": 47, "path": 23}
    assert " 1 to 70  r0 … r69  f.yaml:4   missed: 47 at host, 23 at path (--all)" in told(folded)
    assert len(whole["routes"]) == 101
    assert folded["outcome"] == whole["outcome"]


def test_of_a_large_file_only_what_concerns_the_route_is_looked_up() -> None:
    """The line of its timeout is found among those of ten thousand others."""
    text = many(300).replace("name: r170,", "name: r170, timeout: 3s,")

    settings = account(text, Question("GET", "http://h2/170"))["settings"]

    assert settings["timeout"] == {"value": 3.0, "from": "f.yaml:174"}


def test_what_is_secret_is_in_no_account() -> None:
    """Neither what a request brings under such names nor what the configuration hides, whether expected or seen."""
    text = """\
        service: s
        outbound:
          routes:
            - {name: r, match: {headers: {x-api-key: hunter2hunter2}}, respond: {status: 200}}
            - {name: q, match: {query: {token: abcdefgh}}, to: a}
            - {name: t, match: {headers: {x-tenant: "of-the-vault"}}, to: a}
            - {name: u, match: {path: /u}, to: a, request_headers: {set: {x-tenant: "of-the-vault"}}}
        upstreams:
          a: {endpoints: ["10.0.0.1:80"]}
        """
    headers = (
        ("authorization", "Bearer eyJsecret"), ("x-api-key", "hunter3hunter3"), ("x-tenant", "of-the-vault-not")
    )  # fmt: skip
    question = Question("GET", "http://a/u?token=ijklmnop", headers, (("sid", "cookiemonster"),))

    found = account(text, question, Secrets(["of-the-vault"]))

    everything = json.dumps(found) + told(found)
    for secret in ("hunter", "abcdefgh", "ijklmnop", "of-the-vault", "eyJ", "cookiemonster"):
        assert secret not in everything
    assert found["outcome"]["route"] == "u"


def test_authorization_is_told_with_its_rule_and_line() -> None:
    """Who is refused by a rule reaches no route, and the account says which rule and where."""
    text = """\
        service: s
        inbound:
          app: 127.0.0.1:8080
          authorization:
            default: deny
            rules:
              - {name: no-admin, deny: {path: {prefix: /admin}}}
              - {name: rest, allow: {}}
        """

    denied = account(text, Question("GET", "http://s/admin"))
    allowed = account(text, Question("GET", "http://s/x"))

    assert (denied["outcome"]["status"], denied["outcome"]["flag"], denied["routes"]) == (403, "UAEX", [])
    assert (denied["authorization"]["rule"], denied["authorization"]["position"]) == ("no-admin", "f.yaml:7")
    assert allowed["authorization"]["outcome"] == "allowed"
    assert allowed["outcome"]["route"] == "app"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "expected `url`, `curl` or `request_id`"),
        ([("url", "http://a/"), ("request_id", "x")], "expected `url`, `curl` or `request_id`"),
        ([("url", "ftp://a/")], "url: expected http://HOST/PATH, found `ftp://a/`"),
        ([("url", "http://a/"), ("uri", "x")], "unknown parameter `uri`"),
        ([("url", "http://a/"), ("direction", "up")], "direction: expected inbound or outbound, found `up`"),
        ([("url", "http://a/"), ("header", "x")], "header: expected NAME: VALUE, found `x`"),
        ([("url", "http://a/"), ("cookie", "x")], "cookie: expected NAME=VALUE, found `x`"),
        ([("url", "http://a/"), ("header", "x: y\r\nz: a")], "a parameter has a control character"),
    ],
)
def test_what_makes_no_sense_is_said(params: list[tuple[str, str]], message: str) -> None:
    """Each mistake in a query has a sentence that says what would do."""
    with pytest.raises(ValueError, match="^" + message.replace("`", ".")):
        asked_by(params)


def test_a_query_asks_what_was_meant() -> None:
    """What the command sends is what the admin listener reads."""
    asked = Asked(
        Question("PUT", "http://a/b?c=d", (("x-a", "1, 2"), ("x-a", "3")), (("k", "v=w"),), "10.1.2.3", "spiffe://a/b"),
        direction="outbound", listener="web", is_whole=True,
    )  # fmt: skip

    assert asked_by(parse_qsl(query_of(asked))) == asked


def test_a_listener_is_found_by_its_name_or_address() -> None:
    """And one that is not there is named with those that are."""
    plan = compiled(
        """\
        service: s
        inbound:
          listen:
            - {address: "127.0.0.1:15000", name: web, app: "127.0.0.1:8080"}
            - {address: "127.0.0.1:15002", name: admin, app: "127.0.0.1:8081"}
        """
    ).plan
    question = Question("GET", "http://s/")

    by_name, _ = way_in(plan, Asked(question, listener="admin"))
    by_address, listener = way_in(plan, Asked(question, listener="127.0.0.1:15002"))

    assert by_name is by_address
    assert listener is not None
    assert listener.address == "127.0.0.1:15002"
    with pytest.raises(ValueError, match=r"there is no listener `x`; there are: 127\.0\.0\.1:15000, "):
        way_in(plan, Asked(question, listener="x"))
    with pytest.raises(ValueError, match="nothing outbound"):
        way_in(plan, Asked(question, direction="outbound"))


def test_balancers_take_no_turn_for_an_account() -> None:
    """Asking a hundred times who would be next leaves the next where it was."""

    endpoints = "load_balancing: round_robin, endpoints: ['10.0.0.1:80', '10.0.0.2:80']"
    text = f"service: s\noutbound: {{}}\nupstreams: {{a: {{{endpoints}}}}}"
    scene = scene_of(text)
    question = Question("GET", "http://a/")
    head = head_of(question)
    cluster = scene.plan.clusters["a"]
    first = cluster.choose(head, "127.0.0.1")
    for _ in range(3):
        side, listener = way_in(scene.plan, Asked(question))
        at_once(account_of(walk(side, listener, head_of(question), Visitor("127.0.0.1")), scene))

    assert cluster.choose(head, "127.0.0.1") is not first
    assert cluster.choose(head, "127.0.0.1") is first


def test_a_side_that_redirects_is_told_as_such() -> None:
    """For a key that sticks to it, it is the outcome; by chance, what is told is for an upstream."""
    text = """\
        service: s
        outbound:
          routes:
            - name: moving
              match: {host: shop}
              to: [{upstream: a, weight: 1}, {redirect: {host: new.example, status: 307}, weight: 99}]
              sticky: {cookie: uid}
        upstreams:
          a: {endpoints: ["10.0.0.1:80"]}
        """

    sticks = account(text, Question("GET", "http://shop/x", cookies=(("uid", "u2"),)))
    by_chance = account(text, Question("GET", "http://shop/x"))

    assert (sticks["outcome"]["kind"], sticks["outcome"]["status"]) == ("redirect", 307)
    assert sticks["outcome"]["why"] == "http://new.example/x"
    assert (by_chance["outcome"]["kind"], by_chance["endpoint"]["upstream"]) == ("forward", "a")
    assert [one["note"] for one in by_chance["split"]["sides"]] == ["", "the sidecar redirects with 307"]


def test_what_was_only_hashed_of_a_request_is_not_shown() -> None:
    """Though an operand of the file gives it back: the ring has promised not to keep it."""
    veil = Veil(NO_SECRETS, frozenset({"header x-plan", "query plan"}))

    assert veil.line("x-plan: gold") == "x-plan: [redacted]"
    assert veil.line("GET /a?x=1&plan=gold&y=2 HTTP/1.1") == "GET /a?x=1&plan=[redacted]&y=2 HTTP/1.1"
    assert veil.query("plan=gold&planet=b") == "plan=[redacted]&planet=b"
    assert (veil.covers("header x-plan"), veil.covers("header x-other"), veil.covers("cookie sid")) == (
        True,
        False,
        True,
    )


def test_curl_command_is_asked_about_as_it_was_pasted() -> None:
    """A page has it at hand as text, with its lines; headers beside it come behind its own."""
    command = "curl -X PUT http://orders/v1 \\\n  -H 'x-a: 1' -b uid=7"
    asked = asked_by([("curl", command), ("header", "x-b: 2"), ("direction", "outbound")])
    question = asked.question
    assert question is not None
    assert (question.method, question.url) == ("PUT", "http://orders/v1")
    assert (question.headers, question.cookies) == ((("x-a", "1"), ("x-b", "2")), (("uid", "7"),))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ([("curl", "curl http://a"), ("url", "http://a")], "expected `url`, `curl` or `request_id`"),
        ([("curl", "curl --nonsense http://a")], "--nonsense"),
        ([("curl", "curl http://a -H 'x: 1\nhost: b'")], "control character"),
        ([("curl", "curl ftp://a")], "url: expected http://HOST/PATH"),
        ([("curl", "curl 'http://a")], "curl: no closing quotation"),
    ],
)
def test_curl_command_that_makes_no_sense_is_refused(params: list[tuple[str, str]], said: str) -> None:
    """By what it says, and not by what a parser would make of it."""
    with pytest.raises(ValueError, match=re.escape(said)):
        asked_by(params)
