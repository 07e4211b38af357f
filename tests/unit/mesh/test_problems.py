"""What is wrong with a mesh: message, hint, and where, for every rule."""

# ruff: noqa: E501 - a row of the table is files and the lines that a user sees, which are easier to compare unbroken

from __future__ import annotations

import pytest

from sidecar.mesh.read import read_mesh
from tests.support.meshes import complaints, files

A = "=== a.yaml\nservice: a\napp: 127.0.0.1:8080\n"
B = "=== b.yaml\nservice: b\napp: 127.0.0.1:8080\n"
KINDS = "`registered`, `kubernetes`, `etcd`, `file`, `dns` and `endpoints`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # --- files
        (f"=== other.yaml\nmesh: shop\n=== mesh.yaml\nmesh: shop\n{A}", [
            "mesh.yaml:1:1: mesh: the mesh is also described in other.yaml; a directory holds one mesh",
            "other.yaml:1:1: mesh: the mesh is also described in mesh.yaml; a directory holds one mesh"]),
        ("=== mesh.yaml\nservices: {}\n", ["mesh.yaml:1:1: the key `mesh` is missing; such as `mesh: shop`"]),
        ("=== a.yaml\napp: h:1\n", ["a.yaml:1:1: the key `service` is missing; such as `service: storefront`"]),
        ("=== a.yaml\n\n", ["a.yaml:1:1: expected a mapping, found an empty file; begin with `service: a`, or remove the file"]),
        ("=== a.yaml\n- x\n", ["a.yaml:1:1: expected a mapping, found a list"]),
        ("=== a.yaml\nservice: a\napp: {\n", ["a.yaml:3:1: not YAML: did not find expected node content (while parsing a flow node)"]),
        ("=== a.yaml\nservice: ${NAME:-a}\n", [
            "a.yaml:1:10: service: found the variable `${NAME:-a}`, which this kind of file cannot have; write the value: it must be the same wherever the file is read; a literal `${` is `$${`"]),
        # --- names
        ("=== a.yaml\nservice: Store_Front\n", ["a.yaml:1:10: service: expected a name of up to 63 lower-case letters, digits and `-`, found \"Store_Front\"; did you mean `store-front`?"]),
        *((f"=== a.yaml\nservice: {name}\n", [f"a.yaml:1:10: service: the name `{name}` is reserved; name the service otherwise; it may keep the host"])
          for name in ("ns", "control", "mesh", "anyone", "authenticated")),
        ("=== a.yaml\nservice: app\n", ["a.yaml:1:10: service: the name `app` means every sidecar's own app; name the service otherwise; it may keep the host"]),
        (f"{A}=== c.yaml\nservice: a\n", [
            "a.yaml:1:10: service: the service `a` is also described in c.yaml:1; a service is described in one place: rename or remove one of the two",
            "c.yaml:1:10: service: the service `a` is also described in a.yaml:1; a service is described in one place: rename or remove one of the two"]),
        (f"=== mesh.yaml\nmesh: shop\nservices:\n  a: {{}}\n{A}", [
            "a.yaml:1:10: service: the service `a` is also described in mesh.yaml:3; a service is described in one place: rename or remove one of the two",
            "mesh.yaml:3:3: services.a: the service `a` is also described in a.yaml:1; a service is described in one place: rename or remove one of the two"]),
        # --- hosts
        (f"{A}hosts: [x, b]\n{B}", [
            "a.yaml:3:12: hosts[1]: the host `b` is also claimed by `b` (b.yaml:1); a host leads to one service: remove it from one of them",
            "b.yaml:1:10: service: the host `b` is also claimed by `a` (a.yaml:3); a service without `hosts` is called by its own name; give one of the two `hosts`"]),
        (f"=== a.yaml\nservice: a\nports: {{http: h:1, grpc: h:9090}}\n{B}hosts: ['a:9090']\n", [
            "a.yaml:1:10: service: the host `a:9090` is also claimed by `b` (b.yaml:3); a service without `hosts` is called by its own name; give one of the two `hosts`",
            "b.yaml:3:9: hosts[0]: the host `a:9090` is also claimed by `a` (a.yaml:1); a host leads to one service: remove it from one of them"]),
        (f"{A}hosts: ['*.a']\n", ["a.yaml:3:9: hosts[0]: expected one host, without `*`, found \"*.a\"; a service has names of its own: a pattern would take others'"]),
        (f"{A}hosts: [a, 'b:7']\n{B}hosts: [b, 'a:7']\n", [
            "a.yaml:3:12: hosts[1]: `b:7` must come before its host without a port, and that before this service; make a service of its own of that port",
            "b.yaml:3:12: hosts[1]: `a:7` must come before its host without a port, and that before this service; make a service of its own of that port"]),
        # --- ports
        ("=== a.yaml\nservice: a\napp: h:1\nports: {grpc: h:2}\n", ["a.yaml:2:1: app: expected one of `app` and `ports`, found both; `app` is short for the port `http`"]),
        ("=== a.yaml\nservice: a\nports: {http: h:1, x: 'unix:/x'}\n", [
            "a.yaml:2:23: ports.x: callers choose a further port by its number, which a Unix socket has not; let the app listen on a port of its own; only the first may be a Unix socket"]),
        ("=== a.yaml\nservice: a\nports: {http: h:1, x: i:1}\n", ["a.yaml:2:23: ports.x: 1 is already the number of the port `http`; callers tell them by it"]),
        ("=== a.yaml\nservice: a\nports: {grpc: {app: h:1, protocol: grpc}}\n", ["a.yaml:2:36: ports.grpc.protocol: expected `http`, `http1`, `http2` or `tcp`, found \"grpc\"; gRPC is spoken over HTTP/2: `http2`"]),
        ("=== a.yaml\nservice: a\ninbound: {rate_limit: {requests: 5}}\n", ["a.yaml:2:1: inbound: `inbound` has no effect without `app`; such as `app: 127.0.0.1:8080`"]),
        # --- what is no HTTP
        ("=== a.yaml\nservice: a\nports: {x: {app: h:1, protocol: auto}}\n", [
            "a.yaml:2:33: ports.x.protocol: expected `http`, `http1`, `http2` or `tcp`, found \"auto\"; `auto` is a word for a listener of one sidecar; callers' sidecars must know what to send"]),
        (f"{A}protocol: tcp\n", ["a.yaml:3:1: protocol: `protocol` has no effect without `dns` or `endpoints`; say it of a port: `ports: {db: {app: \"127.0.0.1:5432\", protocol: tcp}}`"]),
        ("=== a.yaml\nservice: a\nendpoints: ['h:1', 'h:2']\nprotocol: tcp\n", [
            "a.yaml:1:10: service: connections are known by their port, which these have not; give every one of `hosts` a port"]),
        ("=== a.yaml\nservice: a\nports: {x: {app: h:1, protocol: tcp}}\nroutes: [{match: {path: /x}}]\n", [
            "a.yaml:3:19: routes[0].match.path: `path` cannot be asked of a connection: `a` speaks no HTTP; remove it: its routes can only share connections out"]),
        (f"=== a.yaml\nservice: a\nports: {{x: {{app: h:1, protocol: tcp}}}}\n{B}calls: {{a: {{routes: [{{match: {{methods: GET}}}}]}}}}\n", [
            "b.yaml:3:31: calls.a.routes[0].match.methods: `methods` cannot be asked of a connection: `a` speaks no HTTP; remove it: its routes can only share connections out"]),
        # --- instances
        (f"{A}instances: {{v: {{}}}}\n", [f"a.yaml:3:16: instances.v: nothing can discover these instances: found none of {KINDS}; such as `registered: {{version: v1}}` or `kubernetes: {{service: NAME, port: http}}`"]),
        (f"{A}instances: {{v: {{dns: 'h:1', file: /x}}}}\n", [f"a.yaml:3:16: instances.v: expected one of {KINDS}, found `file` and `dns`"]),
        ("=== a.yaml\nservice: a\ninstances: {v: {registered: {}}}\n", [
            "a.yaml:2:17: instances.v.registered: nothing can discover these instances: the service has no `app`; say where the app listens (`app: 127.0.0.1:8080`), or where else they are found"]),
        (f"{A}instances: {{a: {{registered: {{}}}}}}\n", ["a.yaml:3:13: instances.a: an instance may not be called as its service; that name means all of them"]),
        (f"{A}instances: {{port-x: {{registered: {{}}}}}}\n", ["a.yaml:3:13: instances.port-x: names that begin with `port-` are those of further ports; name the instances otherwise"]),
        ("=== a.yaml\nservice: a\nports: {http: h:1, x: h:2}\ninstances: {v: {file: /x}}\n", [
            "a.yaml:3:17: instances.v.file: nothing can discover the port `x` of these instances: `file` tells one; make a service of its own of that port"]),
        (f"{A}instances: {{v: {{kubernetes: {{service: x, port: 0}}}}}}\n", ["a.yaml:3:48: instances.v.kubernetes.port: expected a port's name such as `http`, or a number from 1 to 65535, found 0"]),
        # --- outside of the mesh
        ("=== a.yaml\nservice: a\ndns: h:1\nendpoints: ['i:1']\n", ["a.yaml:3:1: endpoints: expected one of `dns` and `endpoints`, found both"]),
        ("=== a.yaml\nservice: a\ndns: h:1\napp: h:1\n", ["a.yaml:3:1: app: `app` has no effect: the service has no sidecars; with `dns` it is outside of the mesh; instances of the mesh go under `instances`"]),
        (f"{A}host: keep\n", ["a.yaml:3:1: host: `host` has no effect without `dns`; remove it: `Host` is kept in the mesh"]),
        ("=== a.yaml\nservice: a\ndns: h:1\nhost: x\n", ["a.yaml:3:7: host: expected `keep`, found \"x\"; without it `Host` is the name in `dns`; a route may `rewrite: {host: ...}`"]),
        (f"{A}tls: {{}}\n", ["a.yaml:3:1: tls: `tls` has no effect without `dns` or `endpoints`; between sidecars it is `inbound.tls` of the service that is called"]),
        (f"{A}calls: {{b: {{tls: {{}}}}}}\n{B}", ["a.yaml:3:13: calls.b.tls: unknown key `tls`; a service outside of the mesh says `tls` itself, for all its callers"]),
        (f"{A}inbound: {{authorization: {{}}}}\n", ["a.yaml:3:11: inbound.authorization: unknown key `authorization`; write it beside `callers`, as `authorization` of the service: its `default` is made from them"]),
        ("=== a.yaml\nservice: a\ndns: h:1\ntls: {identities: ['spiffe://x/y']}\n", ["a.yaml:3:7: tls.identities: `identities` has no effect in the mesh's files; remove it: of what is outside of the mesh nobody knows a SPIFFE ID"]),
        ("=== a.yaml\nservice: a\ndns: h:443\n", ["a.yaml:2:6: warning: dns: calls go to the port of HTTPS in clear: there is no `tls`; say `tls: {}` if callers are to speak TLS; an app that does so itself needs none"]),
        ("=== a.yaml\nservice: a\ndns: h:443\ntls: {verify: off}\n", []),
        ("=== a.yaml\nservice: a\nauthorization: {}\n", ["a.yaml:2:1: authorization: `authorization` has no effect without `app`; such as `app: 127.0.0.1:8080`"]),
        # --- callers and calls
        (f"{A}callers: [bb]\n{B}", ["a.yaml:3:11: callers[0]: there is no service `bb`; did you mean `b`?"]),
        (f"{A}callers: [ns]\n", ["a.yaml:3:11: callers[0]: expected a service, `mesh`, `anyone` or a mapping such as `{from: storefront, methods: [GET]}`, found \"ns\""]),
        (f"{A}callers: ['spiffe://shop/b']\n", ["a.yaml:3:11: callers[0]: expected a service, `mesh`, `anyone` or a mapping, found \"spiffe://shop/b\"; did you mean `{from: spiffe://shop/b}`?"]),
        (f"{A}calls: {{bb: {{}}}}\n{B}", ["a.yaml:3:9: calls.bb: there is no service `bb`; did you mean `b`?"]),
        (f"{A}calls: {{a: {{}}}}\n", ["a.yaml:3:9: calls.a: a service does not call itself by its sidecars; remove it"]),
        (f"{A}calls: {{c: {{}}}}\n=== c.yaml\nservice: c\n", [
            "a.yaml:3:9: calls.c: nothing can discover `c`: it has no `app`, no `instances` and no `dns` (c.yaml:1); say there where it is found"]),
        (f"{A}calls: {{b: {{}}}}\n{B}callers: []\n", [
            "a.yaml:3:9: warning: calls.b: `b` does not admit `a` (b.yaml:3); remove the call, or ask to be named in `callers`",
            "b.yaml:3:1: warning: callers: `a` calls `b` (a.yaml:3) and is not admitted; add it to `callers`, if it may"]),
        (f"=== mesh.yaml\nmesh: shop\naccess: closed\n{A}calls: {{b: {{}}}}\n{B}", [
            "a.yaml:3:9: warning: calls.b: `b` does not admit `a` (b.yaml:1): the mesh's `access` is `closed`; remove the call, or ask to be named in `callers`",
            "b.yaml:1:10: warning: service: `a` calls `b` (a.yaml:3) and is not admitted; add it to `callers`, if it may"]),
        (f"{A}calls: {{b: {{timeout: 5}}}}\n{B}", ["a.yaml:3:22: calls.b.timeout: expected a duration such as `250ms`, `2s`, `5m` or `1h`, found 5; did you mean `5s`?"]),
        # --- routes
        (f"{A}instances: {{beta: {{registered: {{}}}}}}\nroutes: [{{to: betta}}]\n", ["a.yaml:4:15: routes[0].to: there are no instances `betta`; did you mean `beta`?"]),
        (f"{A}routes: [{{mirror: x}}]\n", ["a.yaml:3:19: routes[0].mirror: there are no instances `x`"]),
        (f"{A}routes: [{{match: {{host: b}}}}]\n{B}", ["a.yaml:3:25: routes[0].match.host: `b` is no host of `a`; leave `host` out: the route holds for all of them"]),
        (f"{A}routes: [{{name: r}}, {{name: r}}]\n", ["a.yaml:3:28: routes[1].name: the name `r` is already that of another route of this service; names tell routes apart in metrics, logs and tests"]),
        (f"{A}calls: {{b: {{routes: [{{to: x}}]}}}}\n{B}", ["a.yaml:3:27: calls.b.routes[0].to: there are no instances `x`"]),
        (f"{A}calls: {{b: {{routes: [{{to: c.w}}]}}, c: {{}}}}\n{B}=== c.yaml\nservice: c\ndns: h:1\ninstances: {{v: {{dns: 'i:1'}}}}\n", [
            "a.yaml:3:27: calls.b.routes[0].to: there are no instances `c.w`; did you mean `c.v`?"]),
        (f"{A}routes: [{{name: port-x}}]\n", ["a.yaml:3:17: routes[0].name: names that begin with `port-` are those of further ports; name the route otherwise"]),
        (f"{A}routes: [{{name: a}}]\n", ["a.yaml:3:17: routes[0].name: a route may not be called as its service; that name is the default route's"]),
        (f"{A}routes: [{{respond: {{status: 204, body: x}}}}]\n", ["a.yaml:3:34: routes[0].respond.body: a response with status 204 has no body; remove it"]),
        (f"{A}calls: {{b: {{routes: [{{name: r}}]}}, c: {{routes: [{{name: r}}]}}}}\n{B}=== c.yaml\nservice: c\ndns: h:1\n", [
            "a.yaml:3:55: calls.c.routes[0].name: the name `r` is already that of another route of this service; names tell routes apart in metrics, logs and tests"]),
        (f"{A}calls: {{b: {{routes: [{{to: c}}]}}}}\n{B}=== c.yaml\nservice: c\ndns: h:1\n", ["a.yaml:3:27: calls.b.routes[0].to: `c` is not called by this service; add `c: {}` to `calls`"]),
        (f"{A}calls: {{b: {{routes: [{{overrides: [y]}}]}}}}\n{B}tests: [{{name: x, request: {{url: 'http://b/'}}, expect: {{to: b}}}}]\n", ["a.yaml:3:35: calls.b.routes[0].overrides[0]: `b` has no test `y`"]),
        # --- values
        ("=== mesh.yaml\nmesh: shop\ndefaults: {retry: {backoff: {base: 2s, max: 1s}}}\n", ["mesh.yaml:2:20: defaults.retry.backoff: `base` is longer than `max`; the waits would begin above their bound"]),
        (f"{A}outlier_detection: {{base_ejection_time: 9m, max_ejection_time: 1m}}\n", ["a.yaml:3:45: outlier_detection.max_ejection_time: shorter than `base_ejection_time`; no ejection is shorter than the first"]),
        # --- rollout
        ("=== mesh.yaml\nmesh: shop\nrollout: {waves: [10%, one]}\n", [
            "mesh.yaml:2:11: rollout.waves: the last wave is not `100%`; add `100%`: a rollout ends with all instances",
            "mesh.yaml:2:24: rollout.waves[1]: `one` is the smallest wave and comes first; move it, or remove it"]),
        ("=== mesh.yaml\nmesh: shop\nrollout: {waves: [50%, 10%, 100%]}\n", ["mesh.yaml:2:24: rollout.waves[1]: not larger than the wave before; each wave adds instances to the one before"]),
        ("=== mesh.yaml\nmesh: shop\nrollout: {thin: {then: wait}}\n", ["mesh.yaml:2:24: rollout.thin.then: expected `go` or `hold`, found \"wait\""]),
        # --- tests
        (f"{A}tests: [{{name: t, request: {{url: 'http://x/'}}, expect: {{to: a}}}}]\n", ["a.yaml:3:34: tests[0].request.url: no service is called by the host `x`"]),
        (f"{A}tests: [{{name: t, request: {{url: 'http://a/'}}, expect: {{to: x}}}}]\n", ["a.yaml:3:61: tests[0].expect.to: there are no instances `x`"]),
        (f"{A}tests: [{{name: t, request: {{url: 'http://a/'}}, expect: {{route: x}}}}]\n", ["a.yaml:3:64: tests[0].expect.route: there is no route `x`"]),
        (f"{A}tests: [{{name: t, request: {{url: 'http://a/'}}, expect: {{}}}}]\n", ["a.yaml:3:48: tests[0].expect: expected `route`, `to`, `status`, `authorization`, `rule`, `split`, `sent`, `timeout` or `retry`, found none"]),
    ],
)  # fmt: skip
def test_every_problem_is_told_at_its_place(text: str, expected: list[str]) -> None:
    """File, line, column, path, what was expected and found, and what to do."""
    assert complaints(text) == expected


def test_all_problems_of_all_files_are_told_at_once() -> None:
    """One run of `check` is enough to know what is to be done."""
    found = complaints(
        f"{A}tls: {{}}\ncallers: [zz]\n=== mesh.yaml\nmesh: shop\nacess: open\n=== c.yaml\nservice: c\ndns: x\n"
    )
    assert [line.partition(" ")[0] for line in found] == [
        "a.yaml:3:1:",
        "a.yaml:4:11:",
        "c.yaml:2:6:",
        "mesh.yaml:2:1:",
    ]


def test_a_file_that_cannot_be_read_makes_nothing_else_wrong() -> None:
    """Who calls a service whose file is broken is not told that there is no such service."""
    assert len(complaints(f"{A}callers: [c]\ncalls: {{c: {{}}}}\n=== c.yaml\nservice: [\n")) == 1
    assert len(complaints(f"{A}callers: [c]\ncalls: {{c: {{}}}}\n=== c.yaml\nservice: C\n")) == 1


def test_values_that_are_wrong_by_themselves_are_not_missed_elsewhere() -> None:
    """An instance that cannot be understood still has its name."""
    text = f"{A}instances: {{beta: {{registered: {{color: red}}}}}}\nroutes: [{{to: beta}}]\n"
    assert complaints(text) == [
        "a.yaml:3:33: instances.beta.registered.color: unknown key `color`; known here: `version`, `zone`"
    ]


def test_more_than_fifty_implicit_calls_are_a_warning_that_proposes_calls() -> None:
    """It is what every sidecar of the service would be told."""
    others = "".join(f"=== s{number}.yaml\nservice: s{number}\ndns: h:{number}\n" for number in range(1, 51))
    assert complaints(f"{A}{others}") == []
    found = complaints(f"{A}{others}{B}calls: {{}}\n")
    assert found == [
        "a.yaml:1:10: warning: service: without `calls` its sidecars are told of all 51 services that admit it; name those that it calls: `calls: {b: {}, s1: {}, s10: {}, ...}`"
    ]


def test_files_are_told_apart_by_what_they_say() -> None:
    """The mesh's own may be called anything."""
    assert read_mesh(files("=== shop.yml\nmesh: shop\n=== x/mesh.yaml\nservice: a\n")).services.keys() == {"a"}
    assert list(files("=== a\nx\n=== b\ny")) == ["a", "b"]
