"""The file of a service's sidecars: what is in it, in which order, and where each part comes from."""

# ruff: noqa: E501 - a mesh of one line a file is easier to read unbroken

from __future__ import annotations

import pathlib

import pytest
import yaml

from sidecar.config.load import load_source, load_text
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import make_source
from sidecar.mesh.compile.language import FIRST
from sidecar.mesh.compile.origins import EndpointsOrigin
from sidecar.mesh.compile.service import Compiled, compile_service
from sidecar.mesh.mesh import Mark
from sidecar.mesh.read import read_mesh
from sidecar.mesh.source import read_directory
from tests.support.meshes import files, mesh

EXAMPLE = pathlib.Path(__file__).parents[4] / "config" / "examples" / "mesh"
GOLDEN = pathlib.Path(__file__).parents[1] / "golden"

FRONT = "=== front.yaml\nservice: front\napp: 127.0.0.1:80\n"
BACK = "=== back.yaml\nservice: back\napp: 127.0.0.1:80\n"


def compiled(text: str, service: str = "front", version: str = "") -> Compiled:
    """The file of a service of a mesh as `meshes.mesh` reads it."""
    return compile_service(mesh(text), service, version)


def values(text: str, service: str = "front") -> dict:  # type: ignore[type-arg]
    """The same, as YAML reads it."""
    loaded = yaml.safe_load(compiled(text, service).text)
    assert isinstance(loaded, dict)
    return loaded


def routes(text: str) -> dict[str, dict]:  # type: ignore[type-arg]
    """Routes to callees of `front`, by name, in order."""
    return {route["name"]: route for route in values(text)["outbound"].get("routes", [])}


@pytest.mark.parametrize("service", ["storefront", "recommendations", "catalog"])
def test_the_example_compiles_to_what_people_have_read(service: str) -> None:
    """After a change that is meant: `sidecar mesh compile config/examples/mesh --service S --version v1`."""
    made = compile_service(read_mesh(read_directory(str(EXAMPLE))), service, "v1")
    assert made.text == (GOLDEN / f"{service}.yaml").read_text()


@pytest.mark.parametrize("service", ["storefront", "recommendations", "catalog"])
def test_the_compiled_file_is_a_file(service: str) -> None:
    """A sidecar takes it as any other."""
    made = compile_service(read_mesh(read_directory(str(EXAMPLE))), service)
    assert load_text(made.text.encode(), "f", {}).service.name == service


def test_a_callers_routes_come_before_the_producers_and_the_default_last() -> None:
    """The first that matches is taken."""
    text = f"{FRONT}calls: {{back: {{timeout: 1s, routes: [{{name: own, match: {{path: /a}}}}]}}}}\n{BACK}routes: [{{name: theirs, match: {{path: /b}}}}]\n"
    assert list(routes(text)) == ["front.own", "back.theirs", "back"]


def test_without_anything_to_say_the_default_is_the_upstreams_own_host() -> None:
    """No route is written that says nothing."""
    assert routes(f"{FRONT}{BACK}") == {}
    assert "hosts" not in values(f"{FRONT}{BACK}")["upstreams"]["back"]


def test_after_a_route_that_takes_everything_there_is_no_default() -> None:
    """It could not be reached."""
    assert list(routes(f"{FRONT}{BACK}routes: [{{name: all, timeout: 1s}}]\n")) == ["back.all"]


TIMEOUTS = ["route", "calls", "service", "defaults"]


@pytest.mark.parametrize("said", [TIMEOUTS[index:] for index in range(len(TIMEOUTS) + 1)])
@pytest.mark.parametrize("whose", ["caller", "producer", "default"])
def test_the_first_that_says_a_value_has_the_last_word(whose: str, said: list[str]) -> None:
    """The caller's route or the producer's, `calls.X`, the producer's service, `defaults`; else there is none."""
    own = "timeout: 1s" if "route" in said and whose == "caller" else "upgrades: []"
    theirs = "timeout: 1s" if "route" in said and whose == "producer" else "upgrades: []"
    text = (
        f"=== mesh.yaml\nmesh: shop\n{'defaults: {timeout: 4s}' if 'defaults' in said else ''}\n"
        f"{FRONT}calls: {{back: {{{'timeout: 2s, ' if 'calls' in said else ''}routes: [{{name: r, match: {{path: /a}}, {own}}}]}}}}\n"
        f"{BACK}{'timeout: 3s' if 'service' in said else ''}\nroutes: [{{name: r, match: {{path: /b}}, {theirs}}}]\n"
    )
    found = routes(text).get({"caller": "front.r", "producer": "back.r", "default": "back"}[whose], {})
    order = said if whose != "default" else [one for one in said if one != "route"]
    expected = {"route": "1s", "calls": "2s", "service": "3s", "defaults": "4s"}
    assert found.get("timeout") == (expected[order[0]] if order else None)


def test_an_upstreams_keys_are_taken_whole_from_the_first_that_says_them() -> None:
    """A caller's circuit breaker is not mixed with the producer's."""
    text = (
        "=== mesh.yaml\nmesh: shop\ndefaults: {slow_start: 1s, panic_threshold: 10%}\n"
        f"{FRONT}calls: {{back: {{circuit_breaker: {{max_requests: 1}}}}}}\n"
        f"{BACK}circuit_breaker: {{max_connections: 2}}\nslow_start: 2s\n"
    )
    upstream = values(text)["upstreams"]["back"]
    assert upstream["circuit_breaker"] == {"max_requests": 1}
    assert (upstream["slow_start"], upstream["panic_threshold"]) == ("2s", "10%")


@pytest.mark.parametrize(
    ("said", "expected"),
    [("", {"consecutive_connect_failures": 3}), ("outlier_detection: {consecutive_5xx: 9}", {"consecutive_5xx": 9})],
)
def test_in_a_mesh_endpoints_that_cannot_be_reached_are_ejected(said: str, expected: dict[str, int]) -> None:
    """Unless somebody says otherwise."""
    assert values(f"{FRONT}{BACK}{said}\n")["upstreams"]["back"]["outlier_detection"] == expected


def test_routes_that_answer_themselves_get_no_timeout() -> None:
    """It would have no effect, and so be refused."""
    text = f"{FRONT}{BACK}timeout: 1s\nroutes: [{{name: r, match: {{path: /r}}, respond: {{status: 204}}}}]\n"
    assert routes(text)["back.r"] == {
        "name": "back.r",
        "match": {"host": "back", "path": "/r"},
        "respond": {"status": 204},
    }


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("v1", "back.v1"),
        ("back", "back"),
        ("{v1: 9, back: 1}", {"back.v1": 9, "back": 1}),
        ("[v1, {upstream: v2, weight: 5%}]", ["back.v1", {"upstream": "back.v2", "weight": "5%"}]),
    ],
)
def test_every_form_of_to_names_instances(to: str, expected: object) -> None:
    """In the compiled file they are upstreams."""
    instances = "instances: {v1: {registered: {version: a}}, v2: {registered: {version: b}}}"
    text = f"{FRONT}{BACK}{instances}\nroutes: [{{name: r, to: {to}, mirror: {{to: v2}}}}]\n"
    assert routes(text)["back.r"]["to"] == expected
    assert routes(text)["back.r"]["mirror"] == {"to": "back.v2"}
    several = text.replace("mirror: {to: v2}", "mirror: [{to: v2, percent: 5%}, back]")
    assert routes(several)["back.r"]["mirror"] == [{"to": "back.v2", "percent": "5%"}, "back"]


def test_a_caller_may_lead_to_another_service_that_it_calls() -> None:
    """And to its instances."""
    text = f"{FRONT}calls: {{back: {{routes: [{{name: r, to: {{other: 1, other.v: 1}}}}]}}, other: {{}}}}\n{BACK}=== other.yaml\nservice: other\napp: h:1\ninstances: {{v: {{registered: {{}}}}}}\n"
    assert routes(text)["front.r"]["to"] == {"other": 1, "other.v": 1}
    assert set(values(text)["upstreams"]) == {"back", "other", "other.v"}


def test_matches_get_the_hosts_of_the_service_where_they_have_none() -> None:
    """Each match of a list; a route without any gets one."""
    text = f"{FRONT}{BACK}hosts: [back, back.shop]\nroutes: [{{name: r, match: [{{path: /a}}, {{host: back, path: /b}}]}}, {{name: all}}]\n"
    found = routes(text)
    hosts = ["back", "back.shop"]
    assert found["back.r"]["match"] == [{"host": hosts, "path": "/a"}, {"host": "back", "path": "/b"}]
    assert found["back.all"]["match"] == {"host": hosts}


def test_routes_without_a_name_get_one_that_does_not_depend_on_others() -> None:
    """So that a metric does not change its label because another service has one route more."""
    text = f"{FRONT}calls: {{back: {{routes: [{{match: {{path: /a}}}}]}}}}\n{BACK}routes: [{{name: x, match: {{path: /b}}}}, {{}}]\n"
    assert list(routes(text)) == ["front.back.route-1", "back.x", "back.route-2"]


def test_only_what_is_called_is_compiled() -> None:
    """`calls` is all that the sidecars are told; without it, every service that admits it."""
    others = (
        "=== x.yaml\nservice: x\napp: h:1\n=== y.yaml\nservice: y\napp: h:1\ncallers: [z]\n=== z.yaml\nservice: z\n"
    )
    assert compiled(f"{FRONT}{BACK}{others}").callees == ("back", "x")
    assert compiled(f"{FRONT}calls: {{y: {{}}}}\n{BACK}{others}").callees == ("y",)
    assert set(values(f"{FRONT}calls: {{y: {{}}}}\n{BACK}{others}")["upstreams"]) == {"y"}


@pytest.mark.parametrize(
    ("access", "callers", "admitted"),
    [
        ("open", "", True), ("closed", "", False), ("closed", "callers: [front]", True), ("open", "callers: []", False),
        ("closed", "callers: mesh", True), ("closed", "callers: anyone", True), ("open", "callers: [x]", False),
    ],
)  # fmt: skip
def test_who_is_admitted(access: str, callers: str, admitted: bool) -> None:
    """The list decides; where there is none, `access` of the mesh."""
    found = mesh(f"=== mesh.yaml\nmesh: shop\naccess: {access}\n{FRONT}{BACK}{callers}\n=== x.yaml\nservice: x\n")
    assert found.admits("back", "front") is admitted
    assert found.callees("front") == (("back",) if admitted else ())


def test_unmatched_and_telemetry_are_the_meshs() -> None:
    """In every sidecar's file."""
    text = f"=== mesh.yaml\nmesh: shop\nunmatched: deny\ntelemetry: {{traces: {{sample: 10%}}}}\n{FRONT}"
    assert values(text)["outbound"]["unmatched"] == "deny"
    assert values(text)["telemetry"] == {"traces": {"sample": "10%"}}
    assert values(FRONT)["outbound"]["unmatched"] == "passthrough"


def test_listen_gives_a_dependency_a_port() -> None:
    """Beside the one for all."""
    text = f"{FRONT}calls: {{back: {{listen: 127.0.0.1:9101}}}}\n{BACK}hosts: ['x:1', y]\n"
    assert values(text)["outbound"]["listen"] == ["127.0.0.1:15001", {"address": "127.0.0.1:9101", "host": "y"}]


def test_inbound_is_what_the_service_says_of_its_own_sidecars() -> None:
    """The app, and rules as in a file of one sidecar."""
    text = (
        f"{FRONT}inbound: {{rate_limit: {{requests: 5}}, routes: [{{match: {{path: /x}}, respond: {{status: 404}}}}],"
        " health_check: {path: /healthz, interval: 2s}}\n"
    )
    assert values(text)["inbound"] == {
        "app": "127.0.0.1:80",
        "health_check": {"path": "/healthz", "interval": "2s"},
        "rate_limit": {"requests": 5},
        "routes": [{"match": {"path": "/x"}, "respond": {"status": 404}}],
    }
    assert "inbound" not in values("=== front.yaml\nservice: front\n")


def test_the_version_is_told_to_telemetry() -> None:
    """It is the app's, and each has a file of its own."""
    one, two = (compiled(FRONT, "front", version) for version in ("v1", ""))
    assert yaml.safe_load(one.text)["service"] == {"name": "front", "version": "v1"}
    assert yaml.safe_load(two.text)["service"] == "front"
    assert one.hash != two.hash


class TestPorts:
    """A service with several ports."""

    TEXT = (
        f"{FRONT}calls: {{back: {{routes: [{{name: own, match: {{path: /o}}, to: v}}]}}}}\n"
        "=== back.yaml\nservice: back\nports: {http: '127.0.0.1:80', grpc: '127.0.0.1:9090'}\n"
        "instances: {v: {registered: {version: v}}}\nroutes: [{name: r, match: {path: /r}, to: {v: 1, back: 1}}]\n"
        "tests:\n- {name: t, request: {url: 'http://back:9090/r'}, expect: {route: r, to: v}}\n"
    )

    def test_each_has_a_listener_and_the_first_is_the_app(self) -> None:
        """15000, then from 15100 on."""
        assert values(self.TEXT, "back")["inbound"] == {
            "listen": [
                {"address": "0.0.0.0:15000", "name": "http", "protocol": "http"},
                {"address": "0.0.0.0:15100", "name": "grpc", "app": "127.0.0.1:9090", "protocol": "http"},
            ],
            "app": "127.0.0.1:80",
        }

    def test_further_ports_are_upstreams_by_host_and_port(self) -> None:
        """Their routes come first: a host without a port takes requests for any."""
        found = routes(self.TEXT)
        assert list(found) == [
            "front.own.port-grpc", "back.r.port-grpc", "back.port-grpc", "front.own", "back.r",
        ]  # fmt: skip
        assert found["back.r.port-grpc"]["match"] == {"host": "back:9090", "path": "/r"}
        assert found["back.r.port-grpc"]["to"] == {"back.v.port-grpc": 1, "back.port-grpc": 1}
        assert values(self.TEXT)["upstreams"]["back.port-grpc"]["hosts"] == ["back:9090"]

    def test_a_test_means_the_port_of_its_url(self) -> None:
        """By the producer's own names."""
        assert values(self.TEXT)["tests"][0]["expect"] == {"route": "back.r.port-grpc", "to": "back.v.port-grpc"}

    def test_endpoints_of_each_port_are_found_by_its_name(self) -> None:
        """A registration says all ports."""
        found = compiled(self.TEXT).discovers["back.v.port-grpc"]
        assert found == EndpointsOrigin("back", "v", "grpc", "registered", {"version": "v"})


class TestOutside:
    """Services that are no part of the mesh."""

    TEXT = f"{FRONT}=== back.yaml\nservice: back\ndns: back.example.com:8443\n"

    def test_it_is_found_without_the_control_plane(self) -> None:
        """By the sidecar's own DNS, or at fixed addresses."""
        assert values(self.TEXT)["upstreams"]["back"]["dns"] == "back.example.com:8443"
        fixed = self.TEXT.replace("dns: back.example.com:8443", "endpoints: ['10.0.0.1:80']")
        assert values(fixed)["upstreams"]["back"]["endpoints"] == ["10.0.0.1:80"]
        assert compiled(self.TEXT).discovers == compiled(fixed).discovers == {}

    def test_it_is_called_by_its_name_there(self) -> None:
        """Unless it says `host: keep`."""
        assert routes(self.TEXT)["back"]["rewrite"] == {"host": "back.example.com:8443"}
        assert routes(self.TEXT + "host: keep\n") == {}

    @pytest.mark.parametrize("port", ["80", "443"])
    def test_a_port_that_everybody_knows_is_not_said(self, port: str) -> None:
        """RFC 9110, 7.2: `Host` has the port only if it is not the scheme's own."""
        assert routes(self.TEXT.replace("8443", port))["back"]["rewrite"] == {"host": "back.example.com"}

    def test_a_routes_own_rewrite_is_kept(self) -> None:
        """Only what it does not say is filled in."""
        text = (
            self.TEXT + "routes: [{name: r, match: {path: /a}, rewrite: {path: /b}}, {name: s, rewrite: {host: x}}]\n"
        )
        found = routes(text)
        assert found["back.r"]["rewrite"] == {"path": "/b", "host": "back.example.com:8443"}
        assert found["back.s"]["rewrite"] == {"host": "x"}

    def test_a_side_s_own_rewrite_is_kept_and_has_the_host_too(self) -> None:
        """What a side says takes the place of the route's, so that it needs what the route's would have."""
        text = self.TEXT + (
            "routes: [{name: r, match: {path: /a}, to: [{upstream: back, rewrite: {path: /b}}, "
            "{redirect: {host: x}, weight: 2}], mirror: back}]\n"
        )
        found = routes(text)["back.r"]
        assert found["to"] == [
            {"upstream": "back", "rewrite": {"path": "/b", "host": "back.example.com:8443"}},
            {"redirect": {"host": "x"}, "weight": 2},
        ]
        assert found["rewrite"] == {"host": "back.example.com:8443"}
        assert compiled(text).language == 4

    def test_it_has_no_file(self) -> None:
        """No sidecar stands beside it."""
        with pytest.raises(ConfigError, match=r"back\.yaml:1:10: `back` is outside of the mesh"):
            compiled(self.TEXT, "back")


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        ("registered: {}", EndpointsOrigin("back", "v", "http", "registered", {})),
        ("registered: {version: v1, zone: a}", EndpointsOrigin("back", "v", "http", "registered", {"version": "v1", "zone": "a"})),
        ("kubernetes: {service: x, port: web}", EndpointsOrigin("back", "v", "http", "kubernetes", {"service": "x", "port": "web"})),
        ("kubernetes: {service: x, namespace: n, port: 80}", EndpointsOrigin("back", "v", "http", "kubernetes", {"service": "x", "port": 80, "namespace": "n"})),
        ("etcd: /e/", EndpointsOrigin("back", "v", "http", "etcd", {"key": "/e/"})),
        ("file: e.json", EndpointsOrigin("back", "v", "http", "file", {"path": "e.json"})),
        ("dns: h:1", EndpointsOrigin("back", "v", "http", "dns", {"address": "h:1"})),
        ("endpoints: ['h:1', {address: 'i:2', weight: 5, zone: z}]", EndpointsOrigin("back", "v", "http", "endpoints", {"endpoints": [
            {"address": "h:1", "weight": 1.0, "zone": ""}, {"address": "i:2", "weight": 5.0, "zone": "z"}]})),
    ],
)  # fmt: skip
def test_every_discover_says_where_its_endpoints_come_from(source: str, origin: EndpointsOrigin) -> None:
    """What the control plane follows; in the file is only the name."""
    text = f"{FRONT}{BACK}instances: {{v: {{{source}}}}}\nroutes: [{{name: r, to: v}}]\n"
    made = compiled(text)
    assert yaml.safe_load(made.text)["upstreams"]["back.v"]["discover"] == "back.v"
    assert made.discovers["back.v"] == origin
    everything = made.discovers["back"]
    if origin.kind == "registered":
        assert everything == EndpointsOrigin("back", "", "http", "registered", {})
    else:
        parts = (EndpointsOrigin("back", "", "http", "registered"), origin)
        assert everything == EndpointsOrigin("back", "", "http", "union", {}, parts)


def test_instances_that_nothing_leads_to_are_not_in_the_file() -> None:
    """Nobody follows, checks or connects to what is not used."""
    text = f"{FRONT}{BACK}instances: {{v: {{registered: {{}}}}, w: {{registered: {{}}}}}}\ntests: [{{name: t, request: {{url: 'http://back/'}}, expect: {{to: back}}}}]\nroutes: [{{match: {{path: /w}}, to: w}}]\n"
    assert set(values(text)["upstreams"]) == {"back", "back.w"}


class TestTests:
    """Promises in the compiled file."""

    def test_a_producers_tests_are_in_every_callers_file(self) -> None:
        """With the names that its routes and instances have there."""
        text = f"{FRONT}{BACK}instances: {{v: {{registered: {{}}}}}}\nroutes: [{{name: r, to: v}}]\ntests: [{{name: t, request: {{url: 'http://back/'}}, expect: {{route: r, to: v}}}}]\n"
        test = {"name": "back: t", "request": {"url": "http://back/"}, "expect": {"route": "back.r", "to": "back.v"}}
        assert values(text)["tests"] == [test]
        assert "tests" not in values(text, "back")

    def test_a_services_other_tests_are_in_its_own(self) -> None:
        """Those of what it calls, by the names of its file, and those of its own app."""
        tests = "tests: [{name: t, request: {url: 'http://back/'}, expect: {to: back}}, {name: u, request: {url: 'http://front/'}, expect: {to: app}}]"
        assert [test["name"] for test in values(f"{FRONT}{tests}\n{BACK}")["tests"]] == ["t", "u"]
        assert "tests" not in values(f"{FRONT}{tests}\n{BACK}", "back")

    def test_what_a_caller_overrides_is_not_promised_to_it(self) -> None:
        """To the others it still is."""
        call = "calls: {back: {routes: [{name: o, overrides: t}]}}"
        text = f"{FRONT}{call}\n{BACK}tests: [{{name: t, request: {{url: 'http://back/'}}, expect: {{route: back}}}}]\n=== other.yaml\nservice: other\n"
        assert "tests" not in values(text)
        assert "overrides" not in compiled(text).text
        assert len(values(text, "other")["tests"]) == 1


class TestHash:
    """What is pushed only if it differs."""

    TEXT = f"{FRONT}calls: {{back: {{timeout: 1s}}}}\n{BACK}routes: [{{name: r, match: {{path: /r}}}}]\n"

    def test_a_line_on_top_changes_nothing_but_comments(self) -> None:
        """The text tells the new place, the hash is of the values."""
        before, after = compiled(self.TEXT), compiled(self.TEXT.replace("service: back", "# hello\n\nservice: back"))
        assert before.text != after.text
        assert (before.hash, mesh(self.TEXT).hash) == (
            after.hash,
            mesh(self.TEXT.replace("service: back", "# x\nservice: back")).hash,
        )

    def test_moving_a_service_to_another_file_changes_nothing(self) -> None:
        """Nor does the form: a directory, or one file."""
        one = "=== mesh.yaml\nmesh: shop\nservices:\n  front: {app: 127.0.0.1:80, calls: {back: {timeout: 1s}}}\n  back: {app: 127.0.0.1:80, routes: [{name: r, match: {path: /r}}]}\n"
        assert mesh(one).hash == mesh(self.TEXT).hash
        assert compiled(one).hash == compiled(self.TEXT).hash

    @pytest.mark.parametrize(("old", "new"), [("1s", "2s"), ("/r", "/s"), ("name: r", "name: s"), ("1s", "'1s'")])
    def test_it_changes_with_a_value(self, old: str, new: str) -> None:
        """But not with how it is quoted."""
        assert (compiled(self.TEXT).hash == compiled(self.TEXT.replace(old, new)).hash) is (new == "'1s'")

    def test_it_is_128_bits_in_hexadecimal(self) -> None:
        """As the stream's protocol has it."""
        assert len(bytes.fromhex(compiled(self.TEXT).hash)) == 16

    def test_a_number_is_not_its_text(self) -> None:
        """`true` is one value of a cookie, and another of a setting."""
        one = f"{FRONT}{BACK}routes: [{{match: {{cookies: {{a: '1'}}}}}}]\n"
        assert compiled(one).hash != compiled(one.replace("'1'", "1")).hash


def test_sidecars_that_are_too_old_are_named() -> None:
    """Compile writes only what they know."""
    with pytest.raises(ConfigError, match=f"the sidecars of `front` know language 0, and this mesh needs {FIRST}"):
        compile_service(mesh(FRONT), "front", language=0)
    with pytest.raises(ConfigError, match="the mesh has no service `fronnt`"):
        compile_service(mesh(FRONT), "fronnt")


class TestTranslate:
    """From a place in the compiled file to the one in the mesh's files."""

    TEXT = f"{FRONT}calls: {{back: {{timeout: 1s}}}}\n{BACK}routes:\n- name: r\n  match: {{path: /r}}\n  rewrite: {{path: /x}}\n"

    def translated(self, path: str, what: str, *, offset: int = 0) -> tuple[str, int, int, str]:
        """Where a problem at a piece of the compiled text is told."""
        made = compiled(self.TEXT)
        before = made.text[: made.text.index(what) + offset]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        found = made.translate(Problem("x", line, column, path, "m"))
        return found.file, found.line, found.column, found.path

    def test_a_value_is_told_where_it_was_written(self) -> None:
        """Be it the producer's or the caller's."""
        at = "outbound.routes[0]"
        assert self.translated(f"{at}.rewrite.path", "path: /x", offset=6) == (
            "back.yaml",
            6,
            19,
            "routes[0].rewrite.path",
        )
        assert self.translated(f"{at}.timeout", "timeout: 1s", offset=9) == ("front.yaml", 3, 25, "calls.back.timeout")

    def test_a_key_is_told_at_the_key(self) -> None:
        """Key and value have one path, and two places."""
        at = "outbound.routes[0]"
        assert self.translated(f"{at}.timeout", "timeout: 1s") == ("front.yaml", 3, 16, "calls.back.timeout")
        assert self.translated(f"{at}.name", "back.r") == ("back.yaml", 4, 9, "routes[0].name")

    def test_what_the_compiler_made_is_told_where_it_made_it_from(self) -> None:
        """The upstream is the service's."""
        assert self.translated("upstreams.back.discover", "discover: back", offset=10) == (
            "back.yaml",
            1,
            10,
            "service",
        )

    def test_a_place_without_a_path_is_told_at_what_is_before_it(self) -> None:
        """Such as YAML that is not YAML, which the compiler does not write."""
        made = compiled(self.TEXT)
        assert made.translate(Problem("x", 9999, 1, "", "m")).file == "back.yaml"
        assert made.translate(Problem("x", 0, 1, "", "m")) == Problem("x", 0, 1, "", "m")

    def test_every_problem_of_every_value_is_told_in_a_mesh_file(self) -> None:
        """Each place that the parser of the compiled file knows has one in the mesh's files."""
        source = read_directory(str(EXAMPLE))
        lines = {name: raw.decode().split("\n") for name, raw in source.items()}
        made = compile_service(read_mesh(source), "storefront", "v1")
        loaded = load_source(make_source("f", made.text.encode()), {})
        locations = [
            ("outbound", "routes", index, key) for index in range(5) for key in ("name", "match", "to", "timeout")
        ]
        for location in [*locations, ("upstreams", "recommendations", "circuit_breaker"), ("tests", 1, "expect", "to")]:
            found = made.translate(loaded.problem_at(location, "m"))
            assert found.file in lines
            assert len(lines[found.file][found.line - 1]) >= found.column

    def test_a_route_is_known_by_its_name(self) -> None:
        """As telemetry tells it; the implicit route of an upstream, too."""
        made = compiled(self.TEXT)
        assert made.origin_of_route("back.r") == Mark("back.yaml", 4, 3)
        assert made.origin_of_route("back") == Mark("back.yaml", 1, 10)
        assert made.origin_of_route("x") is None


def test_what_nobody_says_anything_else_of_is_taken_from_the_file_before() -> None:
    """Not so of a callee that is edited, nor of a route that leads to one; and the result is the same."""
    other = "=== other.yaml\nservice: other\napp: 127.0.0.1:80\n"
    third = "=== third.yaml\nservice: third\napp: 127.0.0.1:80\n"
    front = f"{FRONT}calls: {{third: {{}}, other: {{}}, back: {{routes: [{{to: other}}]}}}}\n"
    before = mesh(f"{front}{BACK}{other}{third}")
    first = compile_service(before, "front")
    after = read_mesh(
        files(f"=== mesh.yaml\nmesh: shop\n{front}{BACK}{other}timeout: 3s\n{third}"), before, has_identity=False
    )
    second = compile_service(after, "front", previous=first)
    assert second == compile_service(after, "front")
    assert second.text != first.text
    assert [name for name in second.callees if second.calls[name] is first.calls[name]] == ["third"]
    defaults = read_mesh(
        {**{name: one.raw for name, one in after.documents.items()}, "mesh.yaml": b"mesh: x\n"},
        after,
        has_identity=False,
    )
    third_file = compile_service(defaults, "front", previous=second)
    assert not [name for name in second.callees if third_file.calls[name] is second.calls[name]]


def test_callers_share_where_the_endpoints_of_a_callee_come_from() -> None:
    """It does not depend on the caller. After an edit of the callee it is another, after one of a caller the same."""
    back = f"{BACK}instances: {{fixed: {{endpoints: [10.0.0.1:80]}}}}\n"
    front, third = f"{FRONT}calls: {{back: {{}}}}\n", "=== third.yaml\nservice: third\napp: 127.0.0.1:80\n"
    before = mesh(f"{front}{back}{third}")
    first = compile_service(before, "front").discovers["back"]
    assert compile_service(before, "third").discovers["back"] is first
    caller = read_mesh(
        files(f"=== mesh.yaml\nmesh: shop\n{front}timeout: 3s\n{back}{third}"), before, has_identity=False
    )
    assert compile_service(caller, "front").discovers["back"] is first
    moved = back.replace("10.0.0.1", "10.0.0.2")
    callee = read_mesh(files(f"=== mesh.yaml\nmesh: shop\n{front}{moved}{third}"), before, has_identity=False)
    assert "10.0.0.2:80" in str(compile_service(callee, "front").discovers["back"])


def test_files_are_split_as_written() -> None:
    """The support of these tests."""
    assert files("=== a\nx\n\n=== b\ny\n") == {"a": b"x\n\n", "b": b"y\n"}


DB = '=== back.yaml\nservice: back\nports: {db: {app: "127.0.0.1:5432", protocol: tcp}}\ninstances: {old: {registered: {version: v1}}, new: {registered: {version: v2}}}\nroutes: [{to: {old: 9, new: 1}}]\n'


def test_a_service_that_speaks_tcp_is_called_by_its_port_and_shares_connections_out() -> None:
    """Every upstream says what its servers speak, `listen` what is taken there, and the called side the same."""
    text = f'{FRONT}calls: {{back: {{listen: "127.0.0.1:9101"}}}}\n{DB}'
    made = values(text)
    assert made["outbound"]["listen"][1] == {"address": "127.0.0.1:9101", "host": "back:5432", "protocol": "tcp"}
    assert routes(text) == {
        "back.route-1": {"name": "back.route-1", "match": {"host": "back:5432"}, "to": {"back.old": 9, "back.new": 1}}
    }
    upstreams = made["upstreams"]
    assert {name: (one["hosts"], one["protocol"]) for name, one in upstreams.items()} == {
        "back": (["back:5432"], "tcp"), "back.new": ([], "tcp"), "back.old": ([], "tcp"),
    }  # fmt: skip
    assert values(text, "back")["inbound"]["listen"] == [{"address": "0.0.0.0:15000", "name": "db", "protocol": "tcp"}]


def test_outside_of_the_mesh_tcp_goes_by_tls_if_it_says_so() -> None:
    """By the port of its name in DNS."""
    made = values(f"{FRONT}=== back.yaml\nservice: back\ndns: cache.example.com:6380\nprotocol: tcp\ntls: {{}}\n")
    upstream = made["upstreams"]["back"]
    assert (upstream["hosts"], upstream["protocol"], upstream["tls"]) == (["back:6380"], "tcp", {})


@pytest.mark.parametrize(("service", "language"), [("front", 3), ("back", 3), ("other", 1)])
def test_only_files_that_speak_of_tcp_need_sidecars_that_know_it(service: str, language: int) -> None:
    """Whoever neither speaks it nor calls who does may be older."""
    other = "=== other.yaml\nservice: other\napp: 127.0.0.1:81\ncalls: {}\n"
    text = f"{FRONT}{DB}{other}"
    assert compiled(text, service).language == language


@pytest.mark.parametrize(
    ("routes", "language"),
    [
        ("[{name: r, match: {path: {prefix: /a}, headers: {template: x}}}]", 1),
        ("[{name: r, match: {path: {template: '/a/{b}'}}}]", 4),
        ("[{name: r, match: [{path: /a}, {path: {template: '/a/{b}'}}]}]", 4),
        ("[{name: r, to: [{upstream: back, request_headers: {remove: x}}], rewrite: {path: /x}}]", 1),
        ("[{name: r, to: [{upstream: back, rewrite: {path: /x}}]}]", 4),
        ("[{name: r, to: [back, {redirect: {host: x}}]}]", 4),
        ("[{name: r, match: {path: /m}, mirror: {to: back, percent: 5%}}]", 1),
        ("[{name: r, match: {path: /m}, mirror: [{to: back, percent: 5%}]}]", 4),
    ],
)
def test_only_files_that_say_what_is_new_of_routes_need_sidecars_that_know_it(routes: str, language: int) -> None:
    """A service's routes stand in its callers' files; who does not call it may be older, and so may it itself."""
    text = f"{FRONT}calls: {{back: {{}}}}\n{BACK}routes: {routes}\n=== other.yaml\nservice: other\napp: 127.0.0.1:81\ncalls: {{}}\n"
    assert {name: compiled(text, name).language for name in ("front", "back", "other")} == {
        "front": language, "back": 1, "other": 1,
    }  # fmt: skip


def test_a_log_that_names_a_template_needs_sidecars_that_know_it() -> None:
    """The word stands within the text of the log's lines."""
    root = "=== mesh.yaml\nmesh: shop\ntelemetry: {access_log: {format: '{method} {%s}'}}\n"
    found = {name: compiled(f"{root % name}{FRONT}").language for name in ("route_name", "http_route")}
    assert found == {"route_name": 1, "http_route": 4}


class TestHttpVersions:
    """Which HTTP an app speaks is said to its own sidecars; callers come by either."""

    TEXT = (
        f"{FRONT}calls: {{back: {{http2: {{ping_interval: 5m}}}}, out: {{}}}}\n=== back.yaml\nservice: back\n"
        "ports: {http: '127.0.0.1:80', grpc: {app: '127.0.0.1:9090', protocol: http2}}\n"
        "=== out.yaml\nservice: out\ndns: out.example.com:80\nprotocol: http2\n"
        "=== only.yaml\nservice: only\nports: {http: {app: '127.0.0.1:81', protocol: http1}}\ncalls: {}\n"
    )

    def test_an_app_is_what_its_port_says(self) -> None:
        """The first is `inbound.app`, and listeners say only whether it is HTTP."""
        assert values(self.TEXT, "back")["inbound"] == {
            "listen": [
                {"address": "0.0.0.0:15000", "name": "http", "protocol": "http"},
                {
                    "address": "0.0.0.0:15100", "name": "grpc", "protocol": "http",
                    "app": {"address": "127.0.0.1:9090", "protocol": "http2"},
                },
            ],
            "app": "127.0.0.1:80",
        }  # fmt: skip
        assert values(self.TEXT, "only")["inbound"] == {"app": {"address": "127.0.0.1:81", "protocol": "http1"}}

    def test_callers_are_told_only_of_what_is_outside_of_the_mesh(self) -> None:
        """Where there are sidecars, these agree with each other."""
        upstreams = values(self.TEXT)["upstreams"]
        assert {name: one.get("protocol") for name, one in upstreams.items()} == {
            "back": None, "back.port-grpc": None, "out": "http2",
        }  # fmt: skip
        assert upstreams["back.port-grpc"]["http2"] == {"ping_interval": "5m"}

    def test_only_files_that_say_it_need_sidecars_that_know_it(self) -> None:
        """A caller may be older than the app that it calls."""
        quiet = self.TEXT.replace("{http2: {ping_interval: 5m}}, out: {}", "{}")
        found = {name: compiled(quiet, name).language for name in ("front", "back", "only")}
        assert found == {"front": FIRST, "back": 5, "only": 5}
        assert compiled(self.TEXT, "front").language == 5


@pytest.mark.parametrize(
    "route",
    [
        "match: {grpc: {}}",
        "match: [{path: /x}, {grpc: {service: s.A}}]",
        "retry: {on: grpc_internal, methods: [POST]}",
        "retry: {on: [5xx, grpc_unavailable], methods: [POST]}",
        "fault: {abort: {grpc_status: 14}}",
    ],
)
def test_a_route_that_speaks_of_grpc_needs_sidecars_that_know_it(route: str) -> None:
    """In the files of those who call the service."""
    text = f"{FRONT}calls: {{back: {{}}}}\n{BACK}routes: [{{name: r, {route}}}]\n"
    assert (compiled(text).language, compiled(text, "back").language) == (5, FIRST)


def test_a_header_that_is_called_grpc_is_no_call() -> None:
    """An older sidecar knows it."""
    assert (
        compiled(
            f"{FRONT}calls: {{back: {{}}}}\n{BACK}routes: [{{name: r, match: {{headers: {{grpc: x}}}}}}]\n"
        ).language
        == 1
    )
