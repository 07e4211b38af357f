"""Who is who, and who may call whom: what is wrong with it, and what the compiled file has of it."""

# ruff: noqa: E501 - rows and files of one line are easier to read unbroken

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml

from sidecar.config.problems import ConfigError
from sidecar.config.values import unsupported
from sidecar.mesh.compile.language import needed
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.verify import verify
from tests.support.meshes import complaints, mesh

A = "=== a.yaml\nservice: a\napp: 127.0.0.1:8080\n"
B = "=== b.yaml\nservice: b\napp: 127.0.0.1:8080\n"
C = "=== c.yaml\nservice: c\n"
MESH = "=== mesh.yaml\nmesh: shop\n"
OFF = "say `permissive`, or `callers: anyone`"
AUTHORITY = "this mesh runs without identities; start its control plane with an authority: `sidecar mesh ca init`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # --- identities
        (f"{A}identities: [x]\n{B}identities: [ns/shop/sa/b, x]\n", [
            "a.yaml:3:14: identities[0]: the identity `x` is also claimed by `b` (b.yaml:3); an identity is that of one service: remove it from one of them",
            "b.yaml:3:28: identities[1]: the identity `x` is also claimed by `a` (a.yaml:3); an identity is that of one service: remove it from one of them"]),
        (f"{A}{B}identities: [a]\n", [
            "a.yaml:1:10: service: the identity `a` is also claimed by `b` (b.yaml:3); a service without `identities` has its own name; give one of the two another",
            "b.yaml:3:14: identities[0]: the identity `a` is also claimed by `a` (a.yaml:1); an identity is that of one service: remove it from one of them"]),
        (f"{A}identities: ns/shop/sa/a\n{B}identities: [a, b]\n", [
            "b.yaml:3:14: identities[0]: `a` is the name of another service (a.yaml:1); a service's own name is nobody else's identity: remove it"]),
        (f"{A}identities: [a, a]\n", ["a.yaml:3:17: identities[1]: `a` comes twice; remove one"]),
        (f"{A}identities: [control/x]\n", ["a.yaml:3:14: identities[0]: identities that begin with `control` are the control plane's; name the service's own"]),
        (f"{A}identities: ['spiffe://shop/a']\n", ["a.yaml:3:14: identities[0]: expected the path of a SPIFFE ID, such as `storefront` or `ns/shop/sa/storefront`, found \"spiffe://shop/a\"; leave out the trust domain, which is the mesh: what follows it is the path"]),
        (f"{A}identities: [a//b]\n", ["a.yaml:3:14: identities[0]: expected the path of a SPIFFE ID, such as `storefront` or `ns/shop/sa/storefront`, found \"a//b\"; a path has neither empty segments nor a `/` at its end"]),
        (f"{MESH}identity: {{lifetime: 31d}}\n", ["mesh.yaml:2:22: identity.lifetime: expected a time from `1h` to `30d`, such as `7d`, found \"31d\""]),
        # --- who is named
        (f"{A}callers: [{{from: [bb, b]}}]\n{B}", ["a.yaml:3:19: callers[0].from[0]: there is no service `bb`; did you mean `b`?"]),
        (f"{A}callers: [out]\n=== out.yaml\nservice: out\ndns: h:1\n", ["a.yaml:3:11: warning: callers[0]: `out` is outside of the mesh and calls nobody; remove it: from there comes nobody who has an identity"]),
        (f"{A}authorization: {{rules: [{{name: r, allow: {{from: bb}}}}]}}\n{B}", ["a.yaml:3:49: authorization.rules[0].allow.from: there is no service `bb`; did you mean `b`?"]),
        (f"{MESH}authorization: {{first: [{{name: r, deny: {{from: bb}}}}]}}\n{B}", ["mesh.yaml:2:48: authorization.first[0].deny.from: there is no service `bb`; did you mean `b`?"]),
        (f"{A}callers: {{from: 'spiffe://other/*'}}\n", ["a.yaml:3:17: callers.from: `spiffe://other/*` is of another trust domain than this mesh; write `spiffe://shop/...`: sidecars of other trust domains are not believed yet"]),
        (f"{A}callers: [b, {{path: {{}}}}]\n{B}", ["a.yaml:3:21: callers[1].path: expected one of `exact`, `prefix`, `starts_with`, `suffix`, `contains` and `regex`, found none"]),
        # --- names of rules
        (f"{MESH}authorization: {{last: [{{name: r, deny: {{}}}}]}}\n{A}authorization: {{rules: [{{name: r, deny: {{path: /x}}}}]}}\n", [
            "a.yaml:3:32: authorization.rules[0].name: the name `r` is already that of a rule of the platform (mesh.yaml:2); names tell rules apart in metrics, logs and tests",
            "mesh.yaml:2:31: authorization.last[0].name: the name `r` is also that of a rule of `a` (a.yaml:3); rename one of the two"]),
        (f"{MESH}authorization: {{first: [{{name: r, deny: {{path: /x}}}}], last: [{{name: r, deny: {{path: /y}}}}]}}\n", [
            "mesh.yaml:2:69: authorization.last[0].name: the name `r` is already that of another rule of the platform; names tell rules apart in metrics, logs and tests"]),
        (f"{A}authorization: {{rules: [{{name: callers, allow: {{path: /x}}}}]}}\n", ["a.yaml:3:32: authorization.rules[0].name: the name `callers` is taken; rename it: that is the rule which is made from `callers`"]),
        # --- rules that others hide
        (f"{MESH}authorization: {{first: [{{name: p, deny: {{path: {{prefix: /x}}}}}}]}}\n{A}authorization: {{rules: [{{name: r, allow: {{path: /x/y}}}}]}}\n", [
            "a.yaml:3:25: warning: authorization.rules[0]: no request comes to this rule: `p` matches all of it before (mesh.yaml:2); remove it, or ask the platform's team"]),
        (f"{A}callers: b\nauthorization: {{rules: [{{name: r, allow: {{}}}}]}}\n{B}", [
            "a.yaml:3:1: warning: callers: no request comes to this rule: `r` matches all of it before; remove one of the two"]),
        (f"{A}authorization: {{rules: [{{name: r, deny: {{path: /x}}}}, {{name: s, deny: {{path: /x}}}}]}}\n", [
            "a.yaml:3:54: warning: authorization.rules[1]: no request comes to this rule: `r` matches all of it before; put it before that rule, or remove it"]),
        (f"{A}authorization: {{rules: [{{name: r, allow: {{}}}}]}}\n", []),
        # --- who cannot be known
        (f"{A}authorization: {{rules: [{{name: r, allow: {{from: b}}}}]}}\n{B}inbound: {{tls: off}}\n", [
            "a.yaml:3:49: authorization.rules[0].allow.from: `b` has no identity: its `inbound.tls` is `off` (b.yaml:3); say `permissive` there, or admit it by its `networks`",
            "b.yaml:3:11: inbound.tls: a rule of `a` asks for the identity of `b`, which has none so"]),
        (f"{MESH}authorization: {{first: [{{name: r, allow: {{from: b}}}}]}}\n{B}inbound: {{tls: off}}\n", [
            "b.yaml:3:11: inbound.tls: a rule of the platform asks for the identity of `b`, which has none so",
            "mesh.yaml:2:49: authorization.first[0].allow.from: `b` has no identity: its `inbound.tls` is `off` (b.yaml:3); say `permissive` there, or admit it by its `networks`"]),
        (f"{A}callers: b\n{B}inbound: {{tls: off}}\n", [
            "a.yaml:3:10: warning: callers: `b` has no identity to be admitted by: its `inbound.tls` is `off` (b.yaml:3); say `permissive` there"]),
        (f"{MESH}defaults: {{inbound: {{tls: off}}}}\n{A}callers: b\ninbound: {{tls: permissive}}\n{B}callers: mesh\n", [
            f"b.yaml:3:10: callers: nobody is known here: `inbound.tls` is `off` (mesh.yaml:2); {OFF}"]),
        (f"{A}callers: {{from: authenticated}}\ninbound: {{tls: off}}\n", [f"a.yaml:3:10: callers: nobody is known here: `inbound.tls` is `off` (a.yaml:4); {OFF}"]),
        (f"{A}inbound: {{tls: off}}\nauthorization: {{rules: [{{name: r, allow: {{from: authenticated}}}}]}}\n", [
            "a.yaml:4:49: authorization.rules[0].allow.from: nobody is known here: `inbound.tls` is `off` (a.yaml:3); say `permissive`, or ask for `networks`"]),
        # --- what only the compiled file shows
        (f"{A}inbound: {{tls: {{mode: permissive, clear: {{path: /x}}}}}}\n", ["a.yaml:3:35: inbound.tls.clear: `clear` has no effect beside `mode: permissive`, which takes everything in clear; remove it, or say `mode: strict`"]),
        (f"{A}tests: [{{name: t, request: {{url: 'http://a/', from: c}}, expect: {{authorization: denied}}}}]\n{C}", [
            "a.yaml:3:9: tests[0]: the test `t` fails: expected `denied`, found no `inbound.authorization`; the test is wrong, or a route is"]),
    ],
)  # fmt: skip
def test_every_problem_is_told_at_its_place(text: str, expected: list[str]) -> None:
    """File, line, column, path, what was expected and found, and what to do."""
    assert complaints(text, has_identity=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{A}inbound: {{tls: strict}}\n", [f"a.yaml:3:11: inbound.tls: `strict` cannot be kept: {AUTHORITY}"]),
        (f"{MESH}defaults: {{inbound: {{tls: strict}}}}\n", [f"mesh.yaml:2:22: defaults.inbound.tls: `strict` cannot be kept: {AUTHORITY}"]),
        (f"{MESH}authorization: {{mode: enforce}}\n", [f"mesh.yaml:2:23: authorization.mode: `callers` cannot be enforced: {AUTHORITY}"]),
        (f"{A}authorization: {{mode: enforce}}\n", [f"a.yaml:3:23: authorization.mode: `callers` cannot be enforced: {AUTHORITY}"]),
        (f"{A}authorization: {{rules: [{{name: r, deny: {{from: b}}}}]}}\n{B}", [f"a.yaml:3:48: authorization.rules[0].deny.from: nobody can be known as that: {AUTHORITY}"]),
        (f"{A}callers: [{{from: b}}]\ninbound: {{tls: off}}\n{B}", []),
    ],
)  # fmt: skip
def test_what_asks_for_an_identity_is_told_where_nobody_has_one(text: str, expected: list[str]) -> None:
    """It is refused, not left out."""
    assert complaints(text) == expected


def test_rule_that_asks_what_is_asked_for_is_refused_where_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw TCP is judged by source alone."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset())
    port = "=== a.yaml\nservice: a\nports: {db: {app: 'h:1', protocol: tcp}}\n"
    rules = (
        "authorization: {rules: [{name: r, deny: {path: /x, from: b}}]}\n"
        "callers: [b, {from: b, methods: GET}, {from: {jwt: {issuer: i, keys: k}}}]\n"
    )
    with pytest.raises(ConfigError) as error:
        mesh(f"{port}{rules}{B}", has_identity=True)
    tail = "cannot be judged at the port `db`, where nothing is read of what is sent; ask for `from` alone, or make a service of its own of that port"
    assert [str(one) for one in error.value.problems] == [
        f"a.yaml:3:42: authorization.rules[0].deny.path: `path` {tail}",
        f"a.yaml:4:24: callers[1].methods: `methods` {tail}",
        "a.yaml:4:46: callers[2].from: no token can be seen at the port `db`, where nothing is read of what is sent;"
        " make a service of its own of that port",
    ]


def inbound(text: str, service: str = "a", *, has_identity: bool = True) -> Any:
    """What the compiled file of a service says of requests to its app."""
    made = compile_service(mesh(text, has_identity=has_identity), service)
    return yaml.safe_load(made.text)["inbound"]


def callers(text: str) -> Any:
    """The rule that is made from `callers`, if it is the only one; None where nothing restricts."""
    said = inbound(text).get("authorization")
    if said is None:
        return None
    assert said["default"] == "deny"
    (rule,) = said["rules"]
    assert rule["name"] == "callers"
    return rule["allow"]


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ("callers: [b, c]", {"from": ["spiffe://shop/c", "spiffe://shop/ns/shop/sa/b", "spiffe://shop/old"]}),
        ("callers: c", {"from": ["spiffe://shop/c"]}),
        ("callers: []", []),
        ("callers: [c, mesh]", {"from": "authenticated"}),
        ("callers: anyone", None),
        ("callers: [c, anyone]", None),
        ("callers: {from: [c, {service: b}], methods: [GET]}", {"from": ["spiffe://shop/c", "spiffe://shop/old", "spiffe://shop/ns/shop/sa/b"], "methods": ["GET"]}),
        ("callers: [c, {from: {jwt: {issuer: i, keys: {file: k}, claims: {n: [1, x]}}}}]", [{"from": ["spiffe://shop/c"]}, {"from": {"jwt": {"issuer": "i", "keys": {"file": "k"}, "claims": {"n": [1, "x"]}}}}]),
        ("callers: [c, {path: /x}]", [{"from": ["spiffe://shop/c"]}, {"path": "/x"}]),
        ("callers: {from: {networks: [10.0.0.0/8]}}", {"from": {"networks": ["10.0.0.0/8"]}}),
        ("inbound: {tls: permissive}", None),
        ("inbound: {tls: off}", None),
        ("inbound: {tls: strict}", {"from": "authenticated"}),
        ("inbound: {tls: strict}\ncallers: anyone", None),
    ],
)  # fmt: skip
def test_callers_become_one_rule_with_every_identity_spelled_out(said: str, allowed: Any) -> None:
    """Who names nobody, and nobody in particular, gets no rules at all."""
    others = f"{B}identities: [old, ns/shop/sa/b]\n{C}"
    assert callers(f"{A}{said}\n{others}") == allowed


@pytest.mark.parametrize("tls", ["", "inbound: {tls: strict}\n"])
def test_closed_is_nobody(tls: str) -> None:
    """Whichever TLS it takes."""
    assert callers(f"{MESH}access: closed\n{A}{tls}") == []


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("", "audit"), ("authorization: {mode: audit}", "audit"), ("authorization: {mode: enforce}", None),
    ],
)  # fmt: skip
def test_callers_begin_in_audit_until_the_mesh_says_enforce(said: str, mode: str | None) -> None:
    """And a service may be before or behind the others."""
    rule = inbound(f"{MESH}{said}\n{A}callers: c\n{C}")["authorization"]["rules"][0]
    assert rule.get("mode") == mode
    own = inbound(f"{MESH}{said}\n{A}callers: c\nauthorization: {{mode: enforce}}\n{C}")["authorization"]
    assert "mode" not in own["rules"][0]
    own = inbound(f"{MESH}{said}\n{A}callers: c\nauthorization: {{mode: audit}}\n{C}")["authorization"]
    assert own["rules"][0]["mode"] == "audit"


def test_rules_are_asked_in_the_order_of_the_design() -> None:
    """The platform's first, the service's, that from `callers`, the platform's last, the default."""
    text = (
        f"{MESH}authorization:\n  mode: enforce\n  unidentified: deny\n"
        "  first: [{name: probes, allow: {from: anyone, path: [/ready, /live]}}]\n  last: [{name: ops, allow: {from: 'spiffe://shop/ns/ops/*'}}]\n"
        f"{A}callers: c\nauthorization:\n  rules:\n  - {{name: internals, deny: {{path: {{prefix: /internal}}}}}}\n"
        f"  - {{name: batch, allow: [{{from: [c, {{networks: 10.0.0.0/8}}], path: /b}}]}}\n{C}"
    )
    assert inbound(text)["authorization"] == {
        "unidentified": "deny",
        "default": "deny",
        "rules": [
            {"name": "probes", "allow": {"from": "anyone", "path": ["/ready", "/live"]}},
            {"name": "internals", "deny": {"path": {"prefix": "/internal"}}},
            {"name": "batch", "allow": [{"from": ["spiffe://shop/c", {"networks": "10.0.0.0/8"}], "path": "/b"}]},
            {"name": "callers", "allow": {"from": ["spiffe://shop/c"]}},
            {"name": "ops", "allow": {"from": "spiffe://shop/ns/ops/*"}},
        ],
    }
    lines = compile_service(mesh(text, has_identity=True), "a").text.split("\n")
    origins = {line.partition("name: ")[2].partition(",")[0]: before for before, line in itertools.pairwise(lines)}
    found = {name: origins[name].strip() for name in ("probes", "internals", "batch", "callers", "ops")}
    assert found == {
        "probes": "# from mesh.yaml:5", "internals": "# from a.yaml:6", "batch": "# from a.yaml:7",
        "callers": "# from a.yaml:3", "ops": "# from mesh.yaml:6",
    }  # fmt: skip
    assert verify(mesh(text, has_identity=True)) == []


def test_rules_of_people_stand_also_where_everyone_may_call() -> None:
    """And what none of them refuses is allowed by `callers`."""
    text = f"{A}authorization: {{rules: [{{name: d, deny: {{path: /x}}}}]}}\n"
    assert inbound(text)["authorization"] == {
        "default": "deny",
        "rules": [{"name": "d", "deny": {"path": "/x"}}, {"name": "callers", "allow": {"from": "anyone"}}],
    }


def test_without_identities_only_what_people_wrote_is_in_force() -> None:
    """Nobody is refused for not being known."""
    text = f"{A}callers: c\nauthorization: {{rules: [{{name: d, deny: {{path: /x}}}}]}}\n{C}"
    assert inbound(text, has_identity=False) == {
        "app": "127.0.0.1:8080",
        "authorization": {"default": "allow", "rules": [{"name": "d", "deny": {"path": "/x"}}]},
    }
    assert inbound(f"{A}callers: c\ninbound: {{tls: off}}\n{C}", has_identity=False) == {"app": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("mesh_says", "service_says", "expected"),
    [
        ("", "", "permissive"), ("strict", "permissive", "permissive"),
        ("{mode: strict, clear: {path: /ready}}", "", {"mode": "strict", "clear": {"path": "/ready"}}),
        ("strict", "{mode: strict, clear: [{networks: unix}]}", {"mode": "strict", "clear": [{"networks": "unix"}]}),
    ],
)  # fmt: skip
def test_tls_is_the_services_or_the_meshs_or_permissive(mesh_says: str, service_says: str, expected: Any) -> None:
    """Always written: an old sidecar must refuse it, not listen in clear."""
    defaults = f"defaults: {{inbound: {{tls: {mesh_says}}}}}\n" if mesh_says else ""
    own = f"inbound: {{tls: {service_says}}}\n" if service_says else ""
    assert inbound(f"{MESH}{defaults}{A}{own}")["tls"] == expected


def upstreams(text: str, *, has_identity: bool = True) -> Any:
    """What the compiled file of `c` says of whom it calls."""
    return yaml.safe_load(compile_service(mesh(text, has_identity=has_identity), "c").text)["upstreams"]


def test_sidecars_are_known_by_any_identity_of_their_service() -> None:
    """Of all instances, and of a subset; not who takes no TLS, nor who has no sidecars."""
    subset = "instances: {v: {registered: {}}}\nroutes: [{to: {v: 1, b: 1}}]\n"
    text = f"{A}inbound: {{tls: off}}\n{B}identities: [x/y, b]\n{subset}{C}=== d.yaml\nservice: d\ninstances: {{v: {{dns: 'h:1'}}}}\n"
    found = upstreams(text)
    accepted = {"identities": ["spiffe://shop/b", "spiffe://shop/x/y"]}
    assert {name: one.get("tls") for name, one in found.items()} == {
        "a": None,
        "b": accepted,
        "b.v": accepted,
        "d": None,
    }
    assert all(
        "tls" not in one for one in upstreams(text.replace("{tls: off}", "{upgrades: []}"), has_identity=False).values()
    )


@pytest.mark.parametrize(
    ("said", "host"),
    [
        ("dns: p.example.com:443\ntls: {}", "p.example.com"),
        ("dns: p.example.com:443\ntls: {server_name: q.example.com, min_version: '1.2'}", "q.example.com"),
        ("dns: p.example.com:8443\ntls: {server_name: q.example.com}", "q.example.com:8443"),
        ("endpoints: ['10.0.0.1:443']\ntls: {server_name: q.example.com}", "q.example.com"),
        ("endpoints: ['10.0.0.1:443']\ntls: {server_name: q.example.com}\nhost: keep", None),
        ("dns: p.example.com:443\ntls: {server_name: q.example.com}\nhost: keep", None),
        ("endpoints: ['10.0.0.1:443']\ntls: {verify: off}", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_identity", [False, True])
def test_servers_outside_are_called_by_the_name_that_they_are_known_by(
    said: str, host: str | None, has_identity: bool
) -> None:
    """TLS to them asks for no identity of ours."""
    text = f"{C}=== p.yaml\nservice: p\n{said}\n"
    assert "tls" in upstreams(text, has_identity=has_identity)["p"]
    assert upstreams(text, has_identity=has_identity)["p"]["tls"] == yaml.safe_load(said)["tls"]
    compiled = yaml.safe_load(compile_service(mesh(text, has_identity=has_identity), "c").text)
    sent = [route["rewrite"]["host"] for route in compiled["outbound"].get("routes", [])]
    assert sent == ([] if host is None else [host])
    assert verify(mesh(text, has_identity=has_identity)) == []


def test_file_that_says_nothing_of_identity_is_read_by_every_sidecar() -> None:
    """Who says something needs sidecars that keep it: an older one is refused by its name."""
    text = f"{A}{B}{C}callers: []\n"
    assert compile_service(mesh(text), "a", language=1).language == 1
    for service in "ac":
        assert needed(compile_service(mesh(text, has_identity=True), service).root) == 2
        with pytest.raises(ConfigError, match=f"the sidecars of `{service}` know language 1, and this mesh needs 2"):
            compile_service(mesh(text, has_identity=True), service, language=1)
    outside = f"{C}=== p.yaml\nservice: p\ndns: h:443\ntls: {{}}\n"
    assert compile_service(mesh(outside), "c").language == 2
    tested = f"{A}tests: [{{name: t, request: {{url: 'http://a/', from: 'spiffe://shop/c'}}, expect: {{to: app}}}}]\n"
    assert compile_service(mesh(tested), "a").language == 2


def test_who_turns_identity_on_compiles_everything_anew() -> None:
    """What callers have is remembered, and was for sidecars without."""
    text = f"{A}{B}"
    before, after = mesh(text), mesh(text, has_identity=True)
    first = compile_service(before, "a")
    assert compile_service(after, "a", previous=first) == compile_service(after, "a")
    assert compile_service(before, "a", previous=compile_service(after, "a")) == first


def test_who_asks_in_a_test_is_spelled_and_the_test_is_about_its_own_sidecars() -> None:
    """It runs in the file of the service that has the rules, and in no caller's."""
    test = "tests: [{name: t, request: {url: 'http://b/internal', from: a}, expect: {authorization: denied, rule: internals}}]\n"
    text = f"{A}calls: {{b: {{}}}}\n{B}authorization: {{rules: [{{name: internals, deny: {{path: {{prefix: /internal}}}}}}]}}\n{test}"
    found = mesh(text, has_identity=True)
    made = yaml.safe_load(compile_service(found, "b").text)["tests"]
    assert made[0]["request"]["from"] == "spiffe://shop/a"
    assert made[0]["expect"] == {"authorization": "denied", "rule": "internals"}
    assert "tests" not in yaml.safe_load(compile_service(found, "a").text)


@pytest.mark.parametrize(
    ("callers", "is_admitted"),
    [
        ("{from: c}", True), ("{from: b}", False), ("[b, {from: [b, authenticated]}]", True), ("{path: /x}", True),
        ("{from: 'spiffe://shop/x/*'}", True), ("{from: 'spiffe://shop/y/*'}", False), ("{from: anyone}", True),
        ("{from: 'spiffe://shop/c'}", False), ("{from: 10.0.0.0/8}", True),
    ],
)  # fmt: skip
def test_mappings_admit_whom_they_may_mean(callers: str, is_admitted: bool) -> None:
    """For some requests; by its address anybody may come."""
    found = mesh(f"{A}callers: {callers}\n{B}{C}identities: [x/c]\n", has_identity=True)
    assert found.admits("a", "c") is is_admitted
    assert ("a" in found.callees("c")) is is_admitted
