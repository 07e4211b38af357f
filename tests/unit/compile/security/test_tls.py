"""From `identity` and `tls` of a file to what listeners, upstreams and the plan have; and what pages show of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.compile.effective import Effective
from sidecar.compile.frames import FrameError, Kind, make_frame, read_header
from sidecar.compile.plan import make_draft
from sidecar.compile.time_slices import at_once
from sidecar.config.load import load_followed
from sidecar.config.source import make_source
from sidecar.loader.serialize import write_frames
from sidecar.net.tls.settings import (
    SYSTEM,
    ClearRule,
    ControlIdentity,
    FilesIdentity,
    IdentitySource,
    MeshTls,
    OutsideTls,
    Pair,
    ServerTls,
    UpstreamTls,
    WorkloadApiIdentity,
    WorkloadTls,
)
from tests.support.compiling import compiled, compiler, draft_of, frames_of

FILES = "{from: {files: {certificate: /run/c.pem, key: /run/k.pem, trust: /run/ca.pem}}}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (FILES, FilesIdentity(Pair("/run/c.pem", "/run/k.pem"), "/run/ca.pem")),
        (FILES[:-1] + ", trust_domain: shop}", FilesIdentity(Pair("/run/c.pem", "/run/k.pem"), "/run/ca.pem", "shop")),
        ("{from: {workload_api: 'unix:/a'}, trust_domain: shop}", WorkloadApiIdentity("unix:///a", "shop")),
    ],
)
def test_an_identity_is_in_the_plan_and_in_the_header(written: str, expected: IdentitySource) -> None:
    """Who needs it before there is a plan, or has none, reads it from the first frame."""
    text = f"service: s\noutbound: {{}}\nidentity: {written}\n"
    assert read_header(frames_of(text)[0]).identity == expected
    assert compiled(text).plan.identity == expected


def test_a_file_without_an_identity_is_nobody_s() -> None:
    """And has listeners and upstreams in clear."""
    plan = compiled("service: s\ninbound: {app: 'h:1'}\nupstreams: {a: {dns: 'h:2'}}").plan
    assert plan.identity is None
    assert [one.tls for one in plan.listeners] == [None]
    assert plan.clusters["a"].spec.tls is None


def test_in_a_mesh_the_control_plane_is_where_an_identity_comes_from() -> None:
    """Before anything was pushed, too: with it the sidecar asks for that."""
    pushed = make_source("pushed", b"service: s\ninbound: {app: 'h:1'}\n")
    for file, local, expected in (
        (None, "control: http://c\nservice: s\n", ControlIdentity()),
        (pushed, "control: http://c\n", ControlIdentity()),
        (
            pushed,
            "control: http://c\nidentity: {from: control, keep: never, lifetime: 1d}",
            ControlIdentity("never", 86_400),
        ),
    ):
        frames = write_frames(load_followed(file, make_source("local", local.encode()), {}, {}))
        draft = at_once(make_draft(frames))
        assert draft.header.identity == expected
        tls = [one.listener.tls for one in draft.listeners if one.listener is not None]
        assert tls == ([] if file is None else [MeshTls("permissive")])


def test_a_header_with_a_source_of_identities_that_is_none_is_refused() -> None:
    """As any other that this version did not write."""
    frame = frames_of(f"service: s\noutbound: {{}}\nidentity: {FILES}\n")[0]
    said = json.loads(frame[1:])
    for wrong in (
        {**said["identity"], "kind": "Nobody"},
        {**said["identity"], "more": 1},
        {"kind": "ControlIdentity", "pair": 1},
        {},
    ):
        with pytest.raises(FrameError):
            read_header(make_frame(Kind.HEADER, json.dumps({**said, "identity": wrong}).encode()))


PAIR = Pair("/c.pem", "/k.pem")


@pytest.mark.parametrize(
    ("inbound", "expected", "words"),
    [
        ("", [MeshTls("permissive")], ["permissive"]),
        ("tls: off", [None], ["off"]),
        ("tls: strict", [MeshTls("strict")], ["strict"]),
        (
            "tls: {mode: strict, clear: [{methods: [GET, HEAD], path: [/a/../ready, /caf%c3%a9], networks: 10.0.0.7},"
            " {networks: unix}]}",
            [MeshTls("strict", (ClearRule(("GET", "HEAD"), ("/ready", "/caf%C3%A9"), ("10.0.0.7/32",)),
                                ClearRule(networks=("unix",))))],
            ["strict"],
        ),
        (
            "tls: strict, listen: ['h:1', {address: 'h:2', tls: {certificate: /c.pem, key: /k.pem}}]",
            [MeshTls("strict"), OutsideTls((PAIR,))],
            ["strict", "outside"],
        ),
        (
            "listen: {address: 'h:2', tls: {certificates: [{certificate: /c.pem, key: /k.pem}, {certificate: /d.pem,"
            " key: /d.pem}], client_trust: /ca.pem, min_version: 1.2}}",
            [OutsideTls((PAIR, Pair("/d.pem", "/d.pem")), "/ca.pem", "1.2")],
            ["outside"],
        ),
    ],
)  # fmt: skip
def test_listeners_know_how_their_clients_speak(inbound: str, expected: list[object], words: list[str]) -> None:
    """Paths of rules are in the form in which requests have theirs; the header has a word of each."""
    text = (
        f"service: s\nidentity: {FILES}\ninbound: {{{inbound + ', ' if inbound else ''}app: 'h:8'}}\noutbound: {{}}\n"
    )
    *ours, outbound = compiled(text).plan.listeners
    assert [one.tls for one in ours] == expected
    assert outbound.tls is None
    header = read_header(frames_of(text)[0])
    assert [one.tls for one in header.listeners if one.role == "inbound"] == words
    assert {one.tls for one in header.listeners if one.role != "inbound"} == {"off"}


@pytest.mark.parametrize(
    ("tls", "servers", "expected"),
    [
        ("{}", "dns: 'pay.example:443'", ServerTls("pay.example")),
        ("{}", "dns: '[::1]:443'", ServerTls("::1")),
        ("{}", "endpoints: ['a:1']", ServerTls()),
        ("{server_name: b.example}", "dns: 'pay.example:443'", ServerTls("b.example")),
        ("{trust: /ca, certificate: /c.pem, key: /k.pem, min_version: 1.2}", "endpoints: []",
         ServerTls("", "/ca", PAIR, "1.2")),
        ("{verify: off}", "endpoints: []", ServerTls(trust=SYSTEM, is_verified=False)),
        ("{identities: [spiffe://shop/a, spiffe://shop/b]}", "discover: a",
         WorkloadTls(("spiffe://shop/a", "spiffe://shop/b"))),
    ],
)  # fmt: skip
def test_upstreams_know_how_their_servers_are_spoken_to(tls: str, servers: str, expected: UpstreamTls) -> None:
    """A server that is found by DNS is known by its name there, and not by the address that is dialled."""
    text = f"service: s\nidentity: {FILES}\noutbound: {{}}\nupstreams: {{a: {{{servers}, tls: {tls}}}}}\n"
    plan = compiled(text).plan
    assert plan.clusters["a"].spec.tls == expected
    # Read again it is the same, so that a reload has nothing to do.
    assert plan.clusters["a"].spec == compiled(text).plan.clusters["a"].spec
    assert [one.is_tls for one in plan.clusters["a"].endpoints] == [True] * len(plan.clusters["a"].endpoints)


def test_the_app_is_spoken_to_in_clear() -> None:
    """It is on this machine, whatever its listeners take."""
    plan = compiled(f"service: s\nidentity: {FILES}\ninbound: {{app: 'h:8', tls: strict}}\n").plan
    assert [one.is_tls for one in plan.clusters["app"].endpoints] == [False]


# --- pages ------------------------------------------------------------------------------------------------------

TEXT = """
service: s
identity:
  from: {files: {certificate: /run/c.pem, key: /run/k.pem, trust: /run/ca.pem}}
  trust_domain: shop
inbound:
  app: "h:8"
  tls: {mode: strict, clear: {path: /ready}}
  listen:
    - "h:1"
    - address: "h:2"
      tls: {certificate: /web/c.pem, key: /web/k.pem}
upstreams:
  plain: {endpoints: ["a:1"]}
  outside:
    dns: "pay.example:443"
    tls:
      certificate: /pay/c.pem
      key: /pay/k.pem
  inside:
    endpoints: ["b:1"]
    tls: {identities: [spiffe://shop/b]}
"""


def pages(text: str) -> tuple[Any, Any]:
    """`/routes` and `/upstreams`, as JSON has them."""
    draft = draft_of(text)
    effective = Effective("f.yaml", draft.written)
    plan = compiled(text, compiler()).plan
    routes, upstreams = at_once(effective.routes(plan)), at_once(effective.upstreams(plan))
    return json.loads(json.dumps(routes)), json.loads(json.dumps(upstreams))


def test_every_setting_in_force_is_shown_with_its_origin() -> None:
    """Paths of keys stand there, for they are no secret; what is in the files has never been read here."""
    routes, upstreams = pages(TEXT)
    settings = routes["settings"]
    assert settings["identity.from.files.key"] == {"value": "/run/k.pem", "from": "f.yaml:4"}
    assert settings["identity.trust_domain"] == {"value": "shop", "from": "f.yaml:5"}
    assert "identity.keep" not in settings
    assert routes["inbound"]["settings"]["tls.mode"] == {"value": "strict", "from": "f.yaml:8"}
    (rule,) = routes["inbound"]["settings"]["tls.clear"]["value"]
    assert rule["path"] == ["/ready"]
    assert routes["inbound"]["listeners"] == {
        "h:2": {
            "tls.certificate": {"value": "/web/c.pem", "from": "f.yaml:12"},
            "tls.key": {"value": "/web/k.pem", "from": "f.yaml:12"},
            "tls.client_trust": {"value": None, "from": "default"},
            "tls.min_version": {"value": "1.3", "from": "default"},
        }
    }
    of = {name: {key: one for key, one in page["settings"].items() if key.startswith("tls")}
          for name, page in upstreams.items()}  # fmt: skip
    assert of["plain"] == {"tls": {"value": None, "from": "default"}}
    assert of["inside"] == {"tls.identities": {"value": ["spiffe://shop/b"], "from": "f.yaml:22"}}
    assert of["outside"] == {
        "tls.server_name": {"value": "pay.example", "from": "default"},
        "tls.trust": {"value": "system", "from": "default"},
        "tls.certificate": {"value": "/pay/c.pem", "from": "f.yaml:18"},
        "tls.key": {"value": "/pay/k.pem", "from": "f.yaml:19"},
        "tls.min_version": {"value": "1.3", "from": "default"},
        "tls.verify": {"value": "on", "from": "default"},
    }
    assert {name: [one["tls"] for one in page["endpoints"]] for name, page in upstreams.items()} == {
        "app": [False], "plain": [False], "outside": [], "inside": [True],
    }  # fmt: skip


def test_what_holds_where_the_file_says_nothing_is_shown() -> None:
    """Permissive for who is somebody, no TLS for who is nobody."""
    for identity, mode in ((f"identity: {FILES}", "permissive"), ("via: on", "off")):
        routes, _ = pages(f"service: s\n{identity}\ninbound: {{app: 'h:8', listen: 'h:1'}}\n")
        assert routes["inbound"]["settings"]["tls.mode"] == {"value": mode, "from": "default"}
        assert "listeners" not in routes["inbound"]
        assert ("identity" in routes["settings"]) is (mode == "off")


def test_a_single_listener_is_shown_with_its_lines() -> None:
    """Written without the list, too."""
    listen = "    address: 'h:1'\n    tls: {certificates: {certificate: /c, key: /k}}\n"
    text = f"service: s\ninbound:\n  app: 'h:8'\n  listen:\n{listen}"
    routes, _ = pages(text)
    (shown,) = routes["inbound"]["listeners"].values()
    assert shown["tls.certificates"] == {"value": [{"certificate": "/c", "key": "/k"}], "from": "f.yaml:6"}
