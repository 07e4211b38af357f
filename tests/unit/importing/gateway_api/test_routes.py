"""Routes of the Gateway API for a mesh: order, targets, filters, and every field accounted for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from tests.support.importing import SAMPLES, check_account, import_gateway_api

SAMPLE = (SAMPLES / "gamma.yaml").read_text()
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: n}\nspec: {ports: [{port: 80}]}\n---\n"


def route(spec: str, kind: str = "HTTPRoute", more: str = "") -> str:
    return (
        f"apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r, namespace: n{more}}}\n"
        f"spec: {{parentRefs: [{{kind: Service, group: '', name: s}}], {spec}}}\n"
    )


def test_every_leaf_is_in_the_account_exactly_once() -> None:
    """No field is left out of the report, and none is told twice."""
    done = import_gateway_api(SAMPLE)
    check_account(done.documents, done.entries)


def test_result_passes_mesh_check_and_compiles() -> None:
    """What is written is a good mesh, and every service with sidecars has a file."""
    done = import_gateway_api(SAMPLE)
    assert done.problems() == []
    mesh = read_mesh({name: text.encode() for name, text in done.files.items()})
    for name, placed in mesh.placed.items():
        assert placed.service.is_outside or compile_service(mesh, name).text


def test_exact_paths_come_before_prefixes_and_long_ones_before_short() -> None:
    """The order of the rules in the route does not matter where the specification's precedence decides."""
    reco = import_gateway_api(SAMPLE).files["services/reco.yaml"]
    places = [reco.index(f"name: {name}") for name in ("reco.1\n", "reco.3", "reco.2", "reco.1-2", "reco.4")]
    assert places == sorted(places)


def test_older_route_wins_a_tie() -> None:
    """Of two routes with the same match the one that was created first is asked first."""
    old = route("rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: s, port: 80}]}]",
                more=', creationTimestamp: "2020-01-01T00:00:00Z"').replace("name: r,", "name: z,")  # fmt: skip
    new = route("rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: s, port: 80}]}]",
                more=', creationTimestamp: "2024-01-01T00:00:00Z"')  # fmt: skip
    text = import_gateway_api(SERVICE + new + "---\n" + old).files["services/s.yaml"]
    assert text.index("name: z.1") < text.index("name: r.1")


def test_filters_of_one_backend_are_edits_of_one_destination() -> None:
    """A header that only the canary gets stands beside its weight."""
    reco = import_gateway_api(SAMPLE).files["services/reco.yaml"]
    assert '- {upstream: reco-v2, weight: 1, request_headers: {set: {x-canary: "1"}}}' in reco


OTHERS = "".join(
    f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: n}}\nspec: {{ports: [{{port: 80}}]}}\n---\n"
    for name in ("t", "u")
)


def imported(rules: str) -> dict[str, Any]:
    """The routes of `s` as YAML reads them, by name; all of them pass as a mesh, and every field is accounted for."""
    done = import_gateway_api(SERVICE + OTHERS + route(f"rules: {rules}"))
    check_account(done.documents, done.entries)
    assert done.problems() == []
    assert not done.lost
    read_mesh({name: text.encode() for name, text in done.files.items()})
    return {one["name"]: one for one in yaml.safe_load(done.files["services/s.yaml"])["routes"]}


def test_a_backend_that_is_rewritten_for_itself_is_a_destination_that_is() -> None:
    """It has what the rule rewrites, too, for a destination's own rewriting takes the place of the route's."""
    found = imported(
        "[{filters: [{type: URLRewrite, urlRewrite: {hostname: h.example, path: {type: ReplaceFullPath,"
        " replaceFullPath: /w}}}], backendRefs: [{name: s, port: 80, weight: 9}, {name: t, port: 80, filters: [{type:"
        " URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /n}}}]}, {name: u, port: 80,"
        " filters: [{type: URLRewrite, urlRewrite: {hostname: u.example}}]}]}]"
    )["r.1"]
    assert found["rewrite"] == {"host": "h.example", "path": "/w"}
    assert found["match"] == {"path": {"prefix": "/"}}
    assert [(side["weight"], side.get("rewrite")) for side in found["to"]] == [
        (9, None), (1, {"host": "h.example", "prefix": "/n"}), (1, {"host": "u.example", "path": "/w"}),
    ]  # fmt: skip


def test_a_backend_may_come_twice_if_it_is_rewritten_otherwise() -> None:
    """Else its weights are added up."""
    rewritten = "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /v2}}}]"
    found = imported(
        "[{backendRefs: [{name: s, port: 80, weight: 8}, {name: s, port: 80, weight: 1, FILTERS}, {name: s, port: 80},"
        " {name: s, port: 80, weight: 2, FILTERS}]}]".replace("FILTERS", rewritten)
    )["r.1"]
    assert [(side["weight"], side.get("rewrite")) for side in found["to"]] == [(9, None), (3, {"path": "/v2"})]


def test_a_backend_that_redirects_is_a_side_that_does() -> None:
    """With its share; one alone is the route's redirect, with the headers of both filters."""
    redirected = (
        "filters: [{type: RequestRedirect, requestRedirect: {hostname: h.example, statusCode: 307}},"
        " {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-a, value: b}]}}]"
    )
    both = "[{backendRefs: [{name: s, port: 80, weight: 3}, {name: t, port: 80, FILTERS}]}]"
    found = imported(both.replace("FILTERS", redirected))["r.1"]
    assert found["to"][1] == {
        "redirect": {"host": "h.example", "status": 307}, "weight": 1, "response_headers": {"set": {"x-a": "b"}},
    }  # fmt: skip
    alone = imported(
        "[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-c]}}],"
        " backendRefs: [{name: t, port: 80, FILTERS}]}]".replace("FILTERS", redirected)
    )["r.1"]
    assert alone["redirect"] == {"host": "h.example", "status": 307}
    assert alone["response_headers"] == {"set": {"x-a": "b"}, "remove": ["x-c"]}
    assert "to" not in alone


def test_several_mirrors_of_a_rule_are_several_of_a_route() -> None:
    """Each with its share; a second one of the same backend is told as lost."""
    found = imported(
        "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: t, port: 80}, percent: 10}},"
        " {type: RequestMirror, requestMirror: {backendRef: {name: u, port: 80}}}],"
        " backendRefs: [{name: s, port: 80}]}]"
    )["r.1"]
    assert [mirror.get("percent") for mirror in found["mirror"]] == ["10%", None]
    assert len({mirror["to"] for mirror in found["mirror"]}) == 2
    twice = import_gateway_api(
        SERVICE + route("rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}}},"
        " {type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}, percent: 5}}],"
        " backendRefs: [{name: s, port: 80}]}]")
    )  # fmt: skip
    assert ["gets a copy already" in entry.how for entry in twice.lost] == [True]


def test_header_modifiers_of_a_backend_that_comes_again_are_told_as_lost() -> None:
    """They would be made for all of its share."""
    modified = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: b}]}}]"
    rules = "rules: [{backendRefs: [{name: s, port: 80}, {name: s, port: 80, FILTERS}]}]".replace("FILTERS", modified)
    done = import_gateway_api(SERVICE + route(rules))
    assert any("other header modifiers" in entry.how for entry in done.lost)


def test_reference_to_another_namespace_needs_a_grant() -> None:
    """A mirror that is granted is written; a backend that is not has no share, and is told as lost."""
    done = import_gateway_api(SAMPLE)
    assert "mirror: {to: audit-other, percent: 12.5%}" in done.files["services/reco.yaml"]
    assert "no ReferenceGrant" in next(entry.how for entry in done.lost if entry.within.endswith("backendRefs[0]"))


def test_rule_without_a_usable_backend_answers_500() -> None:
    """Where every backend is invalid or has no weight, nothing else is asked instead."""
    text = import_gateway_api(SERVICE + route("rules: [{backendRefs: [{name: s, port: 80, weight: 0}]}]")).files[
        "services/s.yaml"
    ]
    assert "respond: {status: 500}" in text
    assert "no-route" not in text


def test_redirect_of_a_scheme_leads_to_its_port() -> None:
    """A redirection to https without a port leads to 443, with 302 where no status is said."""
    assert (
        "redirect: {scheme: https, host: a.example.com, port: 443, status: 302}"
        in import_gateway_api(SAMPLE).files["services/reco.yaml"]
    )


def test_route_of_a_gateway_is_told_and_left_to_it() -> None:
    """A route without a Service as parent is no route of a mesh."""
    text = route("rules: [{backendRefs: [{name: s, port: 80}]}]").replace(
        "kind: Service, group: '', name: s", "name: gw"
    )
    done = import_gateway_api(SERVICE + text)
    assert "a mesh has no gateways" in done.lost[0].how
    assert "name: endpoints" in done.files["services/s.yaml"]


def test_consumer_route_is_told_as_lost() -> None:
    """A route in another namespace than its Service holds only for callers there, who cannot be known."""
    text = route("rules: [{backendRefs: [{name: s, port: 80}]}]").replace("namespace: n}", "namespace: m}")
    done = import_gateway_api(SERVICE + text.replace("name: s}]", "name: s, namespace: n}]"))
    assert any("holds only for callers there" in entry.how for entry in done.lost)


def test_a_grpc_route_takes_calls_of_grpc() -> None:
    """By service and method; nothing of it is lost."""
    done = import_gateway_api(SAMPLE)
    text = done.files["services/reco-v2.yaml"]
    assert "match: [{grpc: {service: a.B, method: C}}, {grpc: {service: a.B}}]" in text
    assert not any("gRPC" in entry.how for entry in done.lost)


CALL: dict[str, Any] = {
    "methods": ["POST"],
    "headers": {"content-type": {"regex": "application/grpc([+;].*)?", "ignore_case": True}},
}


@pytest.mark.parametrize(
    ("match", "written"),
    [
        ("{}", {"grpc": {}}),
        (
            "{method: {service: a.B}, headers: [{name: x, value: y}]}",
            {"grpc": {"service": "a.B"}, "headers": {"x": "y"}},
        ),
        ("{method: {method: C}}", {"path": {"regex": "/[^/]+/C"}, **CALL}),
        ("{method: {type: RegularExpression, service: 'a.(B|C)'}}", {"path": {"regex": "/a.(B|C)/[^/]+"}, **CALL}),
    ],
)
def test_a_call_is_written_as_such_and_only_by_a_pattern_as_a_path(match: str, written: dict[str, Any]) -> None:
    """A GRPCRoute takes no other requests, whatever its matches say."""
    text = route(f"rules: [{{matches: [{match}], backendRefs: [{{name: s, port: 80}}]}}]")
    done = import_gateway_api(SERVICE + text.replace("HTTPRoute", "GRPCRoute"))
    check_account(done.documents, done.entries)
    assert yaml.safe_load(done.files["services/s.yaml"])["routes"][0]["match"] == written
    assert done.problems() == []


def test_a_prefix_before_any_call_is_one_of_a_path() -> None:
    """What replaces a prefix needs one, and a call of any service has none of its own."""
    side = "{name: s, port: 80, filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch,"
    side += " replacePrefixMatch: /n}}}]}"
    text = route(f"rules: [{{matches: [{{}}], backendRefs: [{{name: s, port: 80}}, {side}]}}]", "GRPCRoute")
    done = import_gateway_api(SERVICE + text)
    assert yaml.safe_load(done.files["services/s.yaml"])["routes"][0]["match"] == {"path": {"prefix": "/"}, **CALL}
    assert done.problems() == []


@pytest.mark.parametrize(("word", "protocol"), [("kubernetes.io/h2c", "http2"), ("grpc", "http2"), ("http", "")])
def test_what_a_port_speaks_is_said(word: str, protocol: str) -> None:
    """By `appProtocol`; HTTP/2 in clear by prior knowledge, which gRPC is, too."""
    text = SERVICE.replace("port: 80", f"port: 80, appProtocol: {word}", 1)
    done = import_gateway_api(text + route("rules: [{backendRefs: [{name: s, port: 80}]}]"))
    assert (f"protocol: {protocol}" in done.files["services/s.yaml"]) is bool(protocol)
    assert done.lost == []


TCP_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: db}
spec: {parentRefs: [{group: "", kind: Service, name: db}], rules: [{backendRefs: [{name: db, port: 5432}]}]}
"""


def test_route_of_tcp_is_told_with_what_to_write_instead() -> None:
    """It is not imported, and the report says how a mesh's files say the same."""
    (entry,) = import_gateway_api(TCP_ROUTE).lost
    assert entry.how == "a TCPRoute of v1 is not imported"
    assert "protocol: tcp" in entry.what_to_do
