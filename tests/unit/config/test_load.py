"""Files that are good: short forms become long ones, and defaults are those of the design."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from sidecar.config.load import load_text
from sidecar.config.model.root import Config, Hash, InboundListen, ListenSpec

ROOT = pathlib.Path(__file__).parents[3]

DESIGN_EXAMPLE = (pathlib.Path(__file__).parent / "design_example.yaml").read_bytes()


def load(text: str, **env: str) -> Config:
    """A good file."""
    return load_text(text.encode(), "f", env)


def outbound(rest: str) -> Config:
    """A file with two upstreams, `a` and `b`, and these outbound settings."""
    upstreams = 'upstreams: {a: {endpoints: ["h:1"]}, b: {dns: "h:2"}}'
    return load(f"service: s\n{upstreams}\noutbound: {rest}\n")


def test_the_designs_example_means_what_it_says() -> None:
    """The full example of the design."""
    config = load_text(DESIGN_EXAMPLE, "f", {})
    assert config.outbound is not None
    beta, canary, old, teapot = config.outbound.routes
    assert beta.match[0].cookies["BETA_USER"].exact == "true"
    assert [(d.upstream, d.weight) for d in canary.to or []] == [
        ("recommendations", 95.0), ("recommendations-beta", 5.0),
    ]  # fmt: skip
    assert canary.match[0].headers["x-canary"].present is True
    assert canary.timeout == 2.0
    assert canary.sticky is not None
    assert canary.sticky.cookie == "uid"
    assert (old.action, teapot.action) == ("redirect", "respond")
    assert config.limits.max_header_bytes == 65536
    assert config.upstreams["recommendations"].endpoints is not None
    assert [e.weight for e in config.upstreams["recommendations"].endpoints] == [1.0, 2.0]


def test_defaults_are_those_of_the_design() -> None:
    """What a file that says only the necessary means."""
    config = load("service: s\ninbound: {app: 127.0.0.1:8080}\noutbound: {}\n")
    assert config.inbound is not None
    assert config.outbound is not None
    assert config.inbound.listen == [InboundListen(address="0.0.0.0:15000")]
    assert config.outbound.listen == [ListenSpec(address="127.0.0.1:15001")]
    assert config.outbound.unmatched == "deny"
    limits = config.limits
    assert (limits.max_header_bytes, limits.max_headers, limits.max_connections) == (65536, 128, 10000)
    assert (limits.header_timeout, limits.idle_timeout, config.drain.timeout) == (10.0, 300.0, 20.0)
    assert (limits.client_idle_timeout, limits.stream_idle_timeout, limits.tunnel_idle_timeout) == (None, None, None)
    assert limits.on_client_reset == "cancel"
    assert (config.admin.listen, config.telemetry.metrics.listen) == (["127.0.0.1:9901"], ["0.0.0.0:15020"])
    traces, log = config.telemetry.traces, config.telemetry.access_log
    assert (traces.otlp_endpoint, traces.sample, log.path, log.format) == (None, None, "/dev/stdout", "json")
    upstream = outbound("{}").upstreams["a"]
    assert (upstream.hosts, upstream.load_balancing) == (None, "least_request")
    assert (upstream.connect_timeout, upstream.idle_timeout) == (1.0, None)  # 4s, or 1m: `upstream.spec`


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a", [("a", 1.0)]),
        ("{a: 3, b: 0}", [("a", 3.0), ("b", 0.0)]),
        ("{a: 95%, b: 5%}", [("a", 95.0), ("b", 5.0)]),
        ("[a, b]", [("a", 1.0), ("b", 1.0)]),
        ("[{upstream: a, weight: 2}, b]", [("a", 2.0), ("b", 1.0)]),
    ],
)
def test_destinations_may_be_written_in_three_ways(written: str, expected: list[tuple[str, float]]) -> None:
    """A name, weights by name, or a list."""
    config = outbound(f"{{routes: [{{to: {written}}}]}}")
    assert config.outbound is not None
    assert [(d.upstream, d.weight) for d in config.outbound.routes[0].to or []] == expected


def test_listeners_may_be_written_in_three_ways() -> None:
    """An address, a mapping, or a list of both."""
    for written, expected in (
        ("127.0.0.1:1", [("127.0.0.1:1", None)]),
        ('{address: "127.0.0.1:1", host: A}', [("127.0.0.1:1", "a")]),
        ('["127.0.0.1:1", {address: "127.0.0.1:2", host: a}]', [("127.0.0.1:1", None), ("127.0.0.1:2", "a")]),
    ):
        config = load(f"service: s\noutbound:\n  listen: {written}\n")
        assert config.outbound is not None
        assert [(spec.address, spec.host) for spec in config.outbound.listen] == expected


def test_matches_may_be_one_or_many() -> None:
    """A mapping is one match, a list any of them, nothing every request."""
    config = outbound(
        "{routes: [{match: {host: A, methods: GET}, to: a}, {match: [{host: [a, b]}, {}], to: a}, {to: a}]}"
    )
    assert config.outbound is not None
    one, many, none = config.outbound.routes
    assert [(m.host, m.methods) for m in one.match] == [(["a"], ["GET"])]
    assert [m.host for m in many.match] == [["a", "b"], []]
    assert none.match == []


def test_unquoted_values_of_matchers_and_headers_keep_their_spelling() -> None:
    """`BETA_USER: true` and `x: 1.10` are the text that was written."""
    config = outbound(
        "{routes: [{match: {cookies: {B: true}, query: {v: 1.10}}, request_headers: {set: {X: 007}}, to: a}]}"
    )
    assert config.outbound is not None
    route = config.outbound.routes[0]
    assert (route.match[0].cookies["B"].exact, route.match[0].query["v"].exact) == ("true", "1.10")
    assert route.request_headers is not None
    assert route.request_headers.set == {"x": "007"}
    assert load("service: {name: s, version: 1.10}\noutbound: {}").service.version == "1.10"


def test_keys_of_hash_and_sticky() -> None:
    """The four sources, of which `source_ip` may be a word."""
    for written, name in (("{cookie: u}", "cookie"), ("{header: X-U}", "header"), ("{query: u}", "query")):
        config = load(
            f"service: s\noutbound: {{}}\nupstreams:\n  a: {{dns: 'h:1', load_balancing: {{hash: {written}}}}}"
        )
        policy = config.upstreams["a"].load_balancing
        assert isinstance(policy, Hash)
        assert getattr(policy, name) in ("u", "x-u")
    for written in ("source_ip", "{source_ip: true}"):
        config = outbound(f"{{routes: [{{to: {{a: 1, b: 1}}, sticky: {written}}}]}}")
        assert config.outbound is not None
        assert config.outbound.routes[0].sticky is not None
        assert config.outbound.routes[0].sticky.source_ip is True


def test_variables_are_read_everywhere() -> None:
    """In strings, and where a number is wanted."""
    config = load(
        "service: ${S}\noutbound: {listen: '127.0.0.1:${P}'}\nlimits:\n  max_headers: ${N:-7}\n", S="s", P="1234"
    )
    assert config.outbound is not None
    assert (config.service.name, config.outbound.listen[0].address) == ("s", "127.0.0.1:1234")
    assert config.limits.max_headers == 7


def test_a_byte_order_mark_and_crlf_are_read() -> None:
    """What editors on Windows write."""
    assert load_text(b"\xef\xbb\xbfservice: s\r\noutbound: {}\r\n", "f", {}).service.name == "s"


def test_configurations_of_equal_files_are_equal() -> None:
    """So that a reload can tell what changed."""
    assert load_text(DESIGN_EXAMPLE, "f", {}) == load_text(DESIGN_EXAMPLE, "g", {})


def test_sidecar_files_among_the_examples_load() -> None:
    """Each example that is a file of a sidecar (its top level has `service`), not of a mesh; with no variables set."""
    examples = ROOT / "config" / "examples"
    meshes = [path.parent for path in examples.rglob("mesh.yaml")]
    paths = [path for path in sorted(examples.rglob("*.yaml")) if not any(mesh in path.parents for mesh in meshes)]
    ours = [
        path for path in paths if any(_is_sidecar_file(document) for document in yaml.safe_load_all(path.read_text()))
    ]
    assert ours
    for path in ours:
        assert load_text(path.read_bytes(), str(path), {}).service.name


def _is_sidecar_file(document: object) -> bool:
    return isinstance(document, dict) and "service" in document


def test_the_work_of_loading_grows_no_faster_than_the_file() -> None:
    """Ten times the routes cost about ten times the calls."""
    assert _calls(2000) < 14 * _calls(200)


def _calls(routes: int) -> int:
    import cProfile
    import pstats

    lines = ["service: s", "upstreams: {u: {endpoints: ['h:1']}}", "outbound:", "  routes:"]
    for number in range(routes):
        match = f"{{host: h{number}, path: {{prefix: /{number}}}}}"
        lines.append(f"    - {{name: r{number}, match: {match}, to: {{u: 1}}, timeout: 2s}}")
    text = "\n".join(lines).encode()
    profile = cProfile.Profile()
    profile.runcall(load_text, text, "f", {})
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
