"""App Mesh as each source writes it: every field accounted for, and the result a good mesh."""

from __future__ import annotations

import pytest

from sidecar.compile.dry_plan import dry_plan
from sidecar.config.load import load_source
from sidecar.config.source import make_source
from sidecar.loader.serialize import write_frames
from sidecar.mesh.compile.service import compile_service
from sidecar.mesh.read import read_mesh
from tests.support.importing import SAMPLES, check_account, import_app_mesh

NAMES = ["template.yaml", "controller.yaml", "described.json", "plan.json", "tcp.yaml", "tcp-plan.json"]


@pytest.mark.parametrize("name", NAMES)
def test_every_leaf_is_in_the_account_exactly_once(name: str) -> None:
    """No field is left out of the report, and none is told twice."""
    done = import_app_mesh((SAMPLES / name).read_text())
    check_account(done.documents, done.entries)


@pytest.mark.parametrize("name", NAMES)
def test_result_passes_mesh_check(name: str) -> None:
    """What is written is a mesh that `sidecar mesh check` finds nothing wrong with."""
    assert import_app_mesh((SAMPLES / name).read_text()).problems() == []


@pytest.mark.parametrize("name", NAMES)
def test_compiled_file_of_every_service_is_good(name: str) -> None:
    """Every service's sidecars would take the file that the imported mesh gives them."""
    done = import_app_mesh((SAMPLES / name).read_text())
    mesh = read_mesh({name: text.encode() for name, text in done.files.items()})
    for service in mesh.placed:
        compiled = compile_service(mesh, service)
        loaded = load_source(make_source(service, compiled.text.encode()), {})
        assert dry_plan(loaded, write_frames(loaded)) is not None


@pytest.mark.parametrize("name", NAMES)
def test_same_input_gives_the_same_files(name: str) -> None:
    """Nothing of the output depends on anything but the input."""
    text = (SAMPLES / name).read_text()
    assert import_app_mesh(text).files == import_app_mesh(text).files


def test_nodes_of_a_virtual_service_are_instances_of_one_service() -> None:
    """Weighted nodes become instances: by DNS where App Mesh has DNS, registered where it has Cloud Map."""
    color = import_app_mesh((SAMPLES / "template.yaml").read_text()).files["services/color.yaml"]
    assert 'blue-prod-vn: {dns: "blue.demo.local:9080"}' in color
    assert "green-vn: {registered: {version: green-vn}}" in color
    assert "to: {blue-prod-vn: 95, green-vn: 5}" in color


def test_header_matchers_keep_their_meaning() -> None:
    """No matcher asks for presence, `Invert` turns around, and the end of a range is excluded."""
    color = import_app_mesh((SAMPLES / "template.yaml").read_text()).files["services/color.yaml"]
    assert "x-beta: {present: true}, x-env: {exact: prod, invert: true}, x-size: {range: [1, 10]}" in color


def test_prefix_of_a_gateway_is_put_before_the_service_s_own() -> None:
    """A gateway that makes `/` of `/color` leads to a route for `/paint` what comes for `/color/paint`."""
    ingress = import_app_mesh((SAMPLES / "template.yaml").read_text()).files["services/ingress.yaml"]
    assert "path: {starts_with: /color/paint}" in ingress
    assert "rewrite: {prefix: /paint, host: color.demo.local}" in ingress


def test_virtual_services_that_share_a_node_are_one_service() -> None:
    """One identity is one service: its routes ask for the host that each virtual service is called by."""
    cart = import_app_mesh((SAMPLES / "controller.yaml").read_text()).files["services/cart.yaml"]
    assert "hosts: [cart.shop.svc.cluster.local, cart-canary.shop]" in cart
    assert "match: {host: cart-canary.shop}, to: cart-v2" in cart


def test_router_without_a_catch_all_answers_404() -> None:
    """What none of a router's routes takes goes nowhere in App Mesh, so it does not go to all instances here."""
    cart = import_app_mesh((SAMPLES / "controller.yaml").read_text()).files["services/cart.yaml"]
    assert "{name: no-route, match: {host: cart.shop.svc.cluster.local}, respond: {status: 404}}" in cart


def test_backends_and_groups_become_calls() -> None:
    """A node calls what its backends name, and of a group with `*` all virtual services of the namespace."""
    done = import_app_mesh((SAMPLES / "controller.yaml").read_text())
    assert "cart: {}" in done.files["services/front.yaml"]
    assert [entry.how for entry in done.entries if entry.path == "spec.virtualservices[0].name"] == []
    assert [entry.how for entry in done.entries if entry.path == "spec.virtualservices[0]"] == ["calls.cart"]


def test_what_this_version_cannot_serve_is_told_as_lost() -> None:
    """A virtual service without a provider and a backend that is not there are told at their places."""
    done = import_app_mesh((SAMPLES / "described.json").read_text())
    assert [entry.within for entry in done.lost] == [
        "spec",
        "spec.backends[1].virtualService.virtualServiceName",
    ]


def test_a_port_of_grpc_is_one_of_http2() -> None:
    """Beside one of HTTP/1.1, of which nothing is said."""
    done = import_app_mesh((SAMPLES / "described.json").read_text())
    (text,) = [one for one in done.files.values() if "9090" in one]
    assert 'app: "127.0.0.1:9090", protocol: http2' in text
    assert done.entry("spec.listeners[1].portMapping.protocol").how == "protocol: http2"


def test_unknown_field_is_told_as_dropped() -> None:
    """What no translation has looked at is in the report, by name."""
    entry = import_app_mesh((SAMPLES / "template.yaml").read_text()).entry("Spec.Flavour")
    assert (entry.outcome, entry.how) == ("dropped", "unknown field")


GATEWAY_ROUTE = """
- gatewayRoute:
    meshName: apps
    gatewayRouteName: g
    virtualGatewayName: gw
    spec: {httpRoute: {match: {prefix: /}, action: {target: {virtualService: {virtualServiceName: api.apps.local}}}}}
"""


def test_gateway_route_without_its_gateway_is_told_as_lost() -> None:
    """A route of a gateway that was not given is no unknown field: it is a problem."""
    done = import_app_mesh((SAMPLES / "described.json").read_text(), GATEWAY_ROUTE)
    assert "there is no virtual gateway whose route it is" in [entry.how for entry in done.lost]
    check_account(done.documents, done.entries)


def test_second_resource_of_one_name_is_told_as_lost() -> None:
    """Of two with one name the first is imported; the other is a problem that says where the first is."""
    done = import_app_mesh(GATEWAY_ROUTE, GATEWAY_ROUTE)
    assert any("file0.yaml:" in entry.how and "has the same name" in entry.how for entry in done.lost)


def test_regex_for_the_cookie_header_keeps_its_meaning_and_offers_the_cookie() -> None:
    """The header is matched as a whole as it was; the report says how to ask for one cookie."""
    done = import_app_mesh((SAMPLES / "controller.yaml").read_text())
    assert 'headers: {cookie: {regex: ".*beta=1.*"}}' in done.files["services/cart.yaml"]
    assert "match: {cookies:" in done.entry("headers[0].match.regex").what_to_do


def test_gateway_without_a_rewrite_of_its_own_rewrites_as_app_mesh_does() -> None:
    """A prefix becomes `/` and the host the virtual service's name, where nothing is said."""
    ingress = import_app_mesh((SAMPLES / "controller.yaml").read_text()).files["services/ingress.yaml"]
    assert "rewrite: {prefix: /, host: cart-canary.shop}" in ingress


def test_defaults_that_app_mesh_does_not_show_are_written_out() -> None:
    """15 seconds, two retries of every method, and nothing beside the mesh under DROP_ALL."""
    mesh = import_app_mesh((SAMPLES / "plan.json").read_text()).files["mesh.yaml"]
    assert "timeout: 15s" in mesh
    assert "on: [connect_failure, reset_before_response, refused, 503]" in mesh
    assert "unmatched: deny" in mesh
