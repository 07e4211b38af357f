"""What `identity` and the `tls` of a file may say together, and where a file is told that they may not."""

# ruff: noqa: E501 - a row of the table is a file and the line that a user sees, which is easier to compare unbroken

from __future__ import annotations

import pytest

from sidecar.config.load import Loaded, load_followed, load_source
from sidecar.config.problems import ConfigError
from sidecar.config.source import make_source
from sidecar.config.tls_rules import check_tls

FILES = "identity: {from: {files: {certificate: /c, key: /k, trust: /t}}}"


def load(text: str) -> Loaded:
    """A file as `sidecar check` reads it."""
    return load_source(make_source("f", text.encode()), {})


def said(text: str) -> list[str]:
    """Problems, or warnings, as lines."""
    try:
        return [str(one) for one in load(text).warnings]
    except ConfigError as error:
        return [str(one) for one in error.problems]


def inbound(text: str, identity: str = FILES) -> str:
    """A file with this of `inbound`, which begins at 3:11."""
    return f"service: s\n{identity}\ninbound: {{{text}, app: 'h:8'}}"


def upstream(text: str, identity: str = FILES, servers: str = "dns: 'h:2'") -> str:
    """A file whose upstream has this `tls`, whose content begins at 4:22 after `dns: 'h:2'`."""
    return f"service: s\n{identity}\noutbound: {{}}\nupstreams: {{a: {{{servers}, tls: {{{text}}}}}}}"


@pytest.mark.parametrize(
    "text",
    [
        inbound("tls: permissive"),
        inbound("tls: off", "via: on"),
        inbound("tls: {mode: strict, clear: {path: /ready}}"),
        inbound("tls: {mode: strict, clear: [{methods: GET, path: [/ready, /live], networks: 10.0.0.0/8}, {networks: unix}]}"),
        inbound("listen: {address: 'h:1', tls: {certificate: /c, key: /c}}", "via: on"),
        inbound("listen: ['h:1', {address: 'h:2', tls: {certificates: {certificate: /c, key: /k}, client_trust: /t, min_version: 1.2}}], tls: strict"),
        upstream(""),
        upstream("", "via: on", "endpoints: ['a.example:443']"),
        upstream("trust: /t", "via: on", "endpoints: ['10.0.0.1:443']"),
        upstream("server_name: x", "via: on", "endpoints: ['10.0.0.1:443', 'unix:/x']"),
        upstream("server_name: 10.0.0.7, trust: /t, certificate: /c, key: /k, min_version: '1.2', verify: on", "via: on"),
        upstream("identities: [spiffe://shop/a, spiffe://shop/b]"),
        upstream("identities: spiffe://shop/a", "identity: {from: {workload_api: 'unix:///a'}, trust_domain: shop}"),
        f"service: s\noutbound: {{}}\n{FILES}",
        "control: http://c\nidentity: {from: control, keep: always, lifetime: 1d}",
        "control: http://c\nidentity: control",
    ],
)  # fmt: skip
def test_what_can_be_meant_is_not_complained_of(text: str) -> None:
    """Files of certificates need not be there."""
    assert [line for line in said(text) if "service" not in line] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # --- who we are
        ("service: s\noutbound: {}\nidentity: {}", "f:3:1: identity: the key `from` is missing"),
        ("service: s\noutbound: {}\nidentity: {from: {}}", "f:3:12: identity.from: expected one of `files` and `workload_api`, found neither; or write `from: control`"),
        ("service: s\noutbound: {}\nidentity: {from: {workload_api: 'unix:/a', files: {certificate: /c, key: /k, trust: /t}}}",
         "f:3:12: identity.from: expected one of `files` and `workload_api`, found both"),
        ("service: s\noutbound: {}\nidentity: {from: {files: {certificate: /c, key: /k}}}", "f:3:19: identity.from.files: the key `trust` is missing"),
        ("service: s\noutbound: {}\nidentity: {files: {certificate: /c, key: /k, trust: /t}}",
         "f:3:12: identity.files: unknown key `files`; it stands under `from`: `identity: {from: ...}`"),
        ("service: s\noutbound: {}\nidentity: files", "f:3:11: identity: expected `control`, or a mapping `{files: {certificate, key, trust}}` or `{workload_api: ADDRESS}`, found \"files\""),
        ("service: s\noutbound: {}\nidentity: control", "f:3:11: identity: `control` needs a control plane, found none; name one by `control`, or take certificates `from: {files: {certificate, key, trust}}`"),
        ("service: s\ncontrol: http://c\nidentity: {from: control, trust_domain: shop}",
         "f:3:27: identity.trust_domain: `trust_domain` has no effect with `from: control`; remove it: the control plane says which mesh this is"),
        (f"service: s\noutbound: {{}}\n{FILES[:-1]}, keep: always}}",
         "f:3:66: identity.keep: `keep` has no effect without `from: control`; remove it: who gives us the certificate says how long it lasts and where it is"),
        (f"service: s\noutbound: {{}}\n{FILES[:-1]}, lifetime: 1d}}",
         "f:3:66: identity.lifetime: `lifetime` has no effect without `from: control`; remove it: who gives us the certificate says how long it lasts and where it is"),
        # --- from other sidecars
        (inbound("tls: strikt"), "f:3:16: inbound.tls: expected `permissive`, `strict` or `off`, found \"strikt\"; did you mean `strict`?"),
        (inbound("tls: true"), "f:3:16: inbound.tls: expected `permissive`, `strict` or `off`, found true"),
        (inbound("tls: {}"), "f:3:11: inbound.tls: the key `mode` is missing"),
        (inbound("tls: {certificate: /c}"), "f:3:17: inbound.tls.certificate: unknown key `certificate`; certificates for clients outside are a listener's: `listen: {address, tls: {certificate, key}}`"),
        (inbound("tls: {mode: permissive, clear: {path: /a}}"), "f:3:35: inbound.tls.clear: `clear` has no effect beside `mode: permissive`, which takes everything in clear; remove it, or say `mode: strict`"),
        (inbound("tls: {mode: strict, clear: {}}"), "f:3:38: inbound.tls.clear: expected `methods`, `path` or `networks`, found none; such a rule would take everything in clear, which is `mode: permissive`"),
        (inbound("tls: {mode: strict, clear: [{path: /a}, {}]}"), "f:3:51: inbound.tls.clear[1]: expected `methods`, `path` or `networks`, found none; such a rule would take everything in clear, which is `mode: permissive`"),
        (inbound("tls: {mode: strict, clear: []}"), "f:3:38: inbound.tls.clear: expected at least one value, found a list; remove the key if nothing is meant"),
        (inbound("tls: {mode: strict, clear: {path: ready}}"), "f:3:45: inbound.tls.clear.path: expected a path that begins with `/`, found \"ready\"; did you mean `/ready`?"),
        # --- from clients outside
        (inbound("listen: {address: 'h:1', tls: {}}"), "f:3:36: inbound.listen.tls: expected `certificate` and `key`, or `certificates`, found neither; such as `{certificate: /tls/tls.crt, key: /tls/tls.key}`"),
        (inbound("listen: {address: 'h:1', tls: strict}"), "f:3:41: inbound.listen.tls: expected a mapping, found \"strict\""),
        (inbound("listen: {address: 'h:1', tls: {mode: strict}}"), "f:3:42: inbound.listen.tls.mode: unknown key `mode`; it is for TLS between sidecars: `inbound.tls`, which holds for listeners without a `tls`"),
        (inbound("listen: {address: 'h:1', tls: {certificate: /c}}"), "f:3:42: inbound.listen.tls.certificate: a `certificate` without a `key`; name the file of its `key`, which may be the same"),
        (inbound("listen: {address: 'h:1', tls: {key: /c}}"), "f:3:42: inbound.listen.tls.key: a `key` without a `certificate`; name the file of its `certificate`, which may be the same"),
        (inbound("listen: {address: 'h:1', tls: {certificates: [{certificate: /c}]}}"), "f:3:57: inbound.listen.tls.certificates[0]: the key `key` is missing"),
        (inbound("listen: {address: 'h:1', tls: {certificates: []}}"), "f:3:56: inbound.listen.tls.certificates: expected at least one value, found a list; remove the key if nothing is meant"),
        (inbound("listen: {address: 'h:1', tls: {certificates: {certificate: /c, key: /k}, certificate: /c, key: /k}}"),
         "f:3:36: inbound.listen.tls: expected one of `certificate` and `certificates`, found both; put it into the list as well, first if it is for clients that ask for no name"),
        (inbound("listen: {address: 'h:1', tls: {certificates: [{certificate: /c, key: /k}, {certificate: /c, key: /k}]}}"),
         "f:3:85: inbound.listen.tls.certificates[1]: `/c` comes twice; remove one"),
        (inbound("listen: {address: 'unix:/x', tls: {certificate: /c, key: /k}}"), "f:3:40: inbound.listen.tls: a Unix socket has no clients outside; who reaches the socket is on this machine: remove `tls`, or listen at `host:port`"),
        (inbound("listen: {address: 'h:1', tls: {certificate: /c, key: /k, min_version: 1.1}}"), "f:3:81: inbound.listen.tls.min_version: TLS 1.1 is not spoken; it is broken (RFC 8996); the oldest is `1.2`"),
        (inbound("listen: {address: 'h:1', tls: {certificate: /c, key: /k, trust: /t}}"), "f:3:68: inbound.listen.tls.trust: unknown key `trust`; roots of clients' certificates are `client_trust`"),
        ("service: s\noutbound: {listen: {address: 'h:1', tls: {}}}", "f:2:37: outbound.listen.tls: unknown key `tls`; known here: `address`, `host`, `protocol`"),
        # --- to servers
        (upstream("certificate: /c"), "f:4:35: upstreams.a.tls.certificate: a `certificate` without a `key`; name the file of its `key`, which may be the same"),
        (upstream("client_trust: /c"), "f:4:35: upstreams.a.tls.client_trust: unknown key `client_trust`; roots of servers' certificates are `trust`"),
        (upstream("server_name: '*.example.com'"), "f:4:48: upstreams.a.tls.server_name: expected one host, without `*`, found \"*.example.com\""),
        (upstream("min_version: 1.4"), 'f:4:48: upstreams.a.tls.min_version: expected `"1.2"` or `"1.3"`, found 1.4'),
        (upstream("verify: false"), "f:4:43: upstreams.a.tls.verify: expected `on` or `off`, found false"),
        (upstream("", servers="endpoints: ['unix:/x']"), "f:4:41: upstreams.a.tls: `unix:/x` has no host that a certificate could be for; give `tls` a `server_name`"),
        # --- to sidecars
        (upstream("identities: []"), "f:4:47: upstreams.a.tls.identities: expected at least one value, found a list; remove the key if nothing is meant"),
        (upstream("identities: [spiffe://shop/a, spiffe://shop/a]"), "f:4:65: upstreams.a.tls.identities[1]: `spiffe://shop/a` comes twice; remove one"),
        (upstream("identities: a"), "f:4:47: upstreams.a.tls.identities: expected the SPIFFE ID of a workload such as `spiffe://shop/storefront`, found \"a\"; it does not begin with `spiffe://`"),
        (upstream("identities: spiffe://other/a", f"{FILES[:-1]}, trust_domain: shop}}"), "f:4:47: upstreams.a.tls.identities: `spiffe://other/a` is not of our trust domain, `shop`; sidecars of other trust domains are not believed yet"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_at_its_place(text: str, expected: str) -> None:
    """Line, column, path, and what to do; once."""
    assert said(text) == [expected]
    with pytest.raises(ConfigError):
        load(text)


@pytest.mark.parametrize("key", ["server_name: x", "trust: /t", "certificate: /c", "key: /k", "min_version: 1.2", "verify: off"])  # fmt: skip
def test_beside_identities_stands_nothing_else(key: str) -> None:
    """A default that is written is refused as well: it would look as if it did something."""
    name = key.partition(":")[0]
    assert said(upstream(f"{key}, identities: spiffe://shop/a")) == [
        f"f:4:35: upstreams.a.tls.{name}: `{name}` has no effect beside `identities`; remove it: a sidecar is known by its SPIFFE ID alone, and what we show it and believe is said by `identity`"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (upstream("verify: off"), "f:4:35: warning: upstreams.a.tls.verify: whoever answers is believed: all that is sent here can be read and changed on its way; give `trust` the roots that the server's certificate chains to"),
        (upstream("", servers="endpoints: ['a:1', '10.0.0.1:443']"), "f:4:53: warning: upstreams.a.tls: the certificate of `10.0.0.1:443` must be for this address, as hardly any is; give `tls` the `server_name` that it is for"),
        (upstream("", servers="endpoints: ['[::1]:443']"), "f:4:43: warning: upstreams.a.tls: the certificate of `[::1]:443` must be for this address, as hardly any is; give `tls` the `server_name` that it is for"),
        (inbound("tls: strict, listen: {address: 'h:1', tls: {certificate: /c, key: /k}}"), "f:3:11: warning: inbound.tls: every listener has a `tls` of its own, so this holds for none; add a listener for other sidecars, or remove it"),
    ],
)  # fmt: skip
def test_what_protects_less_than_it_looks_is_a_warning(text: str, expected: str) -> None:
    """The file is used."""
    assert said(text) == [expected]
    assert load(text).warnings


def test_whom_we_trust_says_nothing_where_nobody_is_verified() -> None:
    """One of the two is a mistake."""
    assert said(upstream("verify: off, trust: /t")) == [
        "f:4:48: upstreams.a.tls.trust: `trust` has no effect beside `verify: off`; remove one of them"
    ]


NEEDY = [
    (inbound("tls: strict", "via: on"), "f:3:16: {}inbound.tls: `strict` without an `identity`: nobody can come in; "),
    (inbound("tls: {mode: permissive}", "via: on"), "f:3:23: {}inbound.tls.mode: `permissive` without an `identity`: nobody can come in by TLS; "),
    (upstream("identities: spiffe://shop/a", "via: on"), "f:4:35: {}upstreams.a.tls.identities: `identities` without an `identity`: there is nothing to show to the server, and nobody to believe; "),
]  # fmt: skip
HINT = "give the file an `identity`; what a mesh has compiled gets it from the sidecar's local file"


@pytest.mark.parametrize(("text", "expected"), NEEDY)
def test_a_file_that_needs_an_identity_is_warned_of_and_not_run(text: str, expected: str) -> None:
    """What a mesh compiles has none, and must pass a check; what is to be put in force as it is must have one."""
    assert said(text) == [expected.format("warning: ") + HINT]
    with pytest.raises(ConfigError) as caught:
        load_source(make_source("f", text.encode()), {}, is_to_run=True)
    assert expected.format("") + HINT in [str(one) for one in caught.value.problems]


def test_what_is_wrong_by_itself_is_not_told_as_missing() -> None:
    """An identity that cannot be read is one all the same."""
    assert said(inbound("tls: strict", "identity: {from: contrl}")) == [
        "f:2:18: identity.from: expected `control`, or a mapping `{files: {certificate, key, trust}}` or"
        ' `{workload_api: ADDRESS}`, found "contrl"'
    ]


@pytest.mark.parametrize(
    ("address", "is_warned_of"),
    [
        ("unix:///run/a.sock", False),
        ("tcp://127.0.0.1:1", False),
        ("tcp://[fe80::1]:1", False),
        ("tcp://10.0.0.1:1", True),
    ],
)
def test_an_agent_elsewhere_is_warned_of(address: str, is_warned_of: bool) -> None:
    """What it sends is a key, and nothing encrypts it."""
    found = said(f"service: s\noutbound: {{}}\nidentity: {{from: {{workload_api: '{address}'}}}}\n")
    assert any("comes over the network in clear" in line for line in found) == is_warned_of


PUSHED = "service: s\ninbound: {app: 'h:8', tls: strict}\nupstreams: {a: {discover: a, tls: {identities: spiffe://shop/a}}}\n"


def follow(local: str, pushed: str = PUSHED) -> Loaded:
    """What a sidecar makes of a pushed and its local file."""
    return load_followed(make_source("pushed", pushed.encode()), make_source("local", local.encode()), {}, {})


def test_in_a_mesh_everybody_is_somebody() -> None:
    """Without a word about it, by the control plane; a local file may say otherwise."""
    loaded = follow("control: http://c\n")
    assert loaded.config.identity is not None
    assert (loaded.config.identity.source, loaded.warnings) == ("control", ())
    other = follow(f"control: http://c\n{FILES}\n").config.identity
    assert other is not None
    assert other.source != "control"


def test_who_a_sidecar_is_is_never_pushed() -> None:
    """And what is done with requests in clear is never local."""
    with pytest.raises(ConfigError) as caught:
        follow("control: http://c\ninbound: {tls: off}\n", PUSHED + FILES)
    assert [str(one) for one in caught.value.problems] == [
        "local:2:11: inbound.tls: with `control`, `inbound.tls` is not for a local file, which says only what concerns the machine; it belongs in the mesh's file of this service",
        "pushed:4:1: identity: `identity` is the machine's own and never pushed; say it in the sidecar's local file, or on its command line",
    ]  # fmt: skip


def test_listeners_of_the_machine_may_have_certificates_of_their_own() -> None:
    """They are files on it."""
    local = (
        "control: http://c\ninbound: {listen: ['h:1', {address: 'h:2', name: web, tls: {certificate: /c, key: /k}}]}\n"
    )
    inbound = follow(local).config.inbound
    assert inbound is not None
    assert [spec.tls is not None for spec in inbound.listen] == [False, True]


def test_rules_are_those_of_a_file_that_is_only_looked_at_unless_it_is_said() -> None:
    """Who checks files of others must not refuse what they lack."""
    found: list[bool] = []
    check_tls(load(NEEDY[0][0]).config, lambda *said, rule="", **more: found.append(bool(rule)))  # type: ignore[misc]
    assert found == [True]
