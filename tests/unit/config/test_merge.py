"""What a sidecar runs that follows a control plane: pushed file, local file and command line as one tree."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sidecar.config.load import Loaded, load_followed, load_text
from sidecar.config.merge import DEFAULT
from sidecar.config.problems import ConfigError
from sidecar.config.source import make_source
from sidecar.config.yaml.places import lines_of

PUSHED = """\
service: {name: shop, namespace: prod}
inbound: {app: "127.0.0.1:8080", listen: "0.0.0.0:15000"}
limits: {max_headers: 64, idle_timeout: 10s}
telemetry:
  metrics: {listen: "0.0.0.0:1", compat: envoy}
  access_log: {format: off}
"""
LOCAL = "control: http://c:15010\n"
OPTIONS = {"control": ["http://c:15010"], "service": "shop"}


def load(pushed: str | None, local: str | None = LOCAL, **options: str) -> Loaded:
    """What is made of these texts."""
    sources = [None if text is None else make_source(name, text.encode()) for name, text in
               (("pushed", pushed), ("local", local))]  # fmt: skip
    given: Mapping[str, str | list[str]] = options if local is not None else {**OPTIONS, **options}
    return load_followed(sources[0], sources[1], {name.replace("_", "-"): text for name, text in given.items()}, {})


def complaints(pushed: str | None, local: str | None = LOCAL, **options: str) -> list[str]:
    """The problems as lines."""
    with pytest.raises(ConfigError) as caught:
        load(pushed, local, **options)
    return [str(problem) for problem in caught.value.problems]


def test_a_local_key_replaces_the_pushed_value_and_is_not_merged() -> None:
    """Of `limits` nothing is left of what was pushed; of `inbound` only the keys that the machine has."""
    config = load(PUSHED, LOCAL + "limits: {max_headers: 10}\ninbound: {listen: '127.0.0.1:7'}\n").config
    assert (config.limits.max_headers, config.limits.idle_timeout) == (10, 300.0)
    assert config.inbound is not None
    assert config.inbound.app is not None
    assert (config.inbound.listen[0].address, config.inbound.app.address) == ("127.0.0.1:7", "127.0.0.1:8080")


LISTENS = """service: shop
inbound:
  app: "127.0.0.1:8080"
  listen: ["0.0.0.0:15000", {address: "0.0.0.0:15100", name: grpc, app: "127.0.0.1:9090"}]
outbound:
  listen:
    - 127.0.0.1:15001
    - {address: "127.0.0.1:9101", host: payments}
    - {address: "127.0.0.1:9102", host: "Search:9090"}
"""


def test_listeners_that_a_local_list_leaves_out_are_told_with_both_places() -> None:
    """A port that an app or its callers count on does not vanish without a word."""
    local = LOCAL + "outbound: {listen: ['127.0.0.1:1', {address: '127.0.0.1:2', host: search:9090}]}\n"
    loaded = load(LISTENS, local + "inbound: {listen: '0.0.0.0:25000'}\n")
    assert [one.address for one in loaded.config.outbound.listen] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert [str(one) for one in loaded.warnings] == [
        "local:2:12: warning: outbound.listen: replaces the pushed list of listeners, so nothing listens for"
        " `payments`, which the pushed file has at pushed:8:7; if it is wanted on this machine, add"
        " `{address: ..., host: payments}` here",
        "local:3:11: warning: inbound.listen: replaces the pushed list of listeners, so nothing listens for `grpc`,"
        " which the pushed file has at pushed:4:29; if it is wanted on this machine, add `{address: ..., name: grpc}`"
        " here",
    ]


@pytest.mark.parametrize(
    "local",
    [
        "outbound: {listen: [{address: '127.0.0.1:1', host: PAYMENTS}, {address: '127.0.0.1:2', host: 'search:9090'}]}",
        "inbound: {listen: [{address: '0.0.0.0:1', name: http}, {address: '0.0.0.0:2', name: grpc}]}",
        "inbound: {app: '127.0.0.1:1'}",
    ],
)
def test_local_list_that_has_every_pushed_listener_is_no_conflict(local: str) -> None:
    """They are told apart by what others know them by, not by their addresses."""
    assert load(LISTENS, LOCAL + local).warnings == ()


def test_of_metrics_only_the_address_is_the_machines() -> None:
    """What other meshes' names are shown is pushed."""
    metrics = load(PUSHED, LOCAL + "telemetry: {metrics: {listen: '127.0.0.1:9'}}\n").config.telemetry.metrics
    assert (metrics.listen, metrics.compat) == (["127.0.0.1:9"], ["envoy"])


def test_what_is_kept_told_and_guarded_here_is_the_machines() -> None:
    """Heads of recent requests, who is told in responses, and whether a push may move that many of them."""
    config = load(
        PUSHED,
        LOCAL
        + "telemetry: {recent_requests: off}\nexplain: {sources: 127.0.0.0/8}\nreload: {guard: {max_moved: 20%}}\n",
    ).config
    assert config.telemetry.recent_requests.keep == 0
    assert config.explain is not None
    assert config.reload is not None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("upstreams: {}", "local:2:1: upstreams"),
        ("via: off", "local:2:1: via"),
        ("tests: []", "local:2:1: tests"),
        ("inbound: {routes: []}", "local:2:11: inbound.routes"),
        ("outbound: {unmatched: deny}", "local:2:12: outbound.unmatched"),
        ("telemetry: {traces: {}}", "local:2:13: telemetry.traces"),
        ("telemetry: {metrics: {compat: envoy}}", "local:2:23: telemetry.metrics.compat"),
    ],
)
def test_what_is_the_meshs_to_say_is_a_problem_that_says_where_it_belongs(text: str, place: str) -> None:
    """At its key in the local file, whether or not anything was pushed yet."""
    for pushed in (PUSHED, None):
        (line,) = complaints(pushed, LOCAL + "service: shop\n" * (pushed is None) + text)
        expected = place if pushed is not None else place.replace(":2:", ":3:")
        assert line.startswith(expected)
        assert line.endswith("it belongs in the mesh's file of this service")


def test_every_key_that_is_allowed_is_accepted() -> None:
    """All of them at once."""
    local = """
        control: {addresses: [http://c:1], token_file: /t, trust: /c, address: 10.0.0.1, instance: a, weight: 2}
        bootstrap: /b
        state: "off"
        service: shop
        zone: a
        workers: 2
        limits: {}
        drain: {delay: 1s}
        admin: {listen: "127.0.0.1:1"}
        inbound: {listen: "127.0.0.1:2", app: "127.0.0.1:3", health_check: {path: /up}}
        outbound: {listen: "127.0.0.1:4"}
        telemetry: {metrics: {listen: "127.0.0.1:5"}, access_log: {format: json}}
    """
    assert load(None, local).config.workers == 2
    assert load(PUSHED, local).config.drain.delay == 1.0


@pytest.mark.parametrize("text", ["workers: 2", "control: http://x:1", "bootstrap: /b", "state: /s"])
def test_what_is_the_machines_own_is_never_pushed(text: str) -> None:
    """It is refused where it was pushed, so that the control plane hears of it."""
    key = text.partition(":")[0]
    (line,) = complaints(PUSHED + text)
    assert line.startswith(f"pushed:7:1: {key}: `{key}` is the machine's own and never pushed")


def test_problems_name_the_file_that_holds_the_value() -> None:
    """Both files are judged together, and all is told at once."""
    lines = complaints(
        "service: shop\ninbound: {app: nowhere}\nvai: on\n", LOCAL + "limits: {max_headers: many}\nzoen: a\n"
    )
    assert [line.split(": ")[0] for line in lines] == ["local:2:23", "local:3:1", "pushed:2:16", "pushed:3:1"]


def test_rules_between_values_of_both_files_are_kept() -> None:
    """Two listeners of one address, one pushed and one local."""
    (line,) = complaints(PUSHED, LOCAL + "admin: {listen: '0.0.0.0:15000'}\n")
    assert line.startswith("local:2:17: admin.listen: `0.0.0.0:15000` is already listened on")


def test_the_command_line_goes_before_both() -> None:
    """Value by value: what the pushed file says of the service beside is kept."""
    config = load(PUSHED, LOCAL + "zone: a\n", zone="b", version="v2").config
    assert config.zone == "b"
    assert (config.service.name, config.service.version, config.service.namespace) == ("shop", "v2", "prod")


def test_a_short_form_is_lengthened_for_the_command_line() -> None:
    """`control: URL` and `service: NAME` of a file beside `--address` and `--version`."""
    config = load(None, LOCAL + "service: shop\n", address="10.0.0.9", version="v1").config
    assert config.control is not None
    assert (config.control.addresses, config.control.address) == (["http://c:15010"], "10.0.0.9")
    assert (config.service.name, config.service.version) == ("shop", "v1")


def test_an_option_that_is_wrong_is_named() -> None:
    """As files are."""
    (line,) = complaints(None, None, address="not a host")
    assert line.startswith("--address:1:1: control.address: expected")


def test_no_local_file_is_needed() -> None:
    """The command line says enough."""
    loaded = load(None, None)
    assert (loaded.config.service.name, loaded.is_whole, loaded.source.digest_hex) == ("shop", False, "")


def test_without_a_service_nothing_can_be_followed() -> None:
    """And what to say is said."""
    (line,) = complaints(None)
    assert "the key `service` is missing" in line


def test_the_drain_has_a_delay_of_its_own_unless_somebody_says_otherwise() -> None:
    """Others need a moment to hear of a goodbye; a short drain is not made impossible by that."""
    assert load(PUSHED).config.drain.delay == 3.0
    assert load(PUSHED, LOCAL + "drain: {timeout: 2s}\n").config.drain.delay == 1.0
    assert load(PUSHED, LOCAL + "drain: {timeout: 0}\n").config.drain.delay == 0.0
    assert load(PUSHED + "drain: {delay: 0}\n").config.drain.delay == 0.0
    source = make_source("pushed", PUSHED.encode())
    in_pod = load_followed(source, None, OPTIONS, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert in_pod.config.drain.delay == 10.0


def test_every_setting_knows_where_it_was_written() -> None:
    """Lines of the pushed file are plain; others say their file, and what nobody wrote says so."""
    loaded = load(PUSHED, LOCAL + "limits: {max_headers: 10}\ninbound: {listen: '127.0.0.1:7'}\n", zone="b")
    lines = lines_of(loaded.root)
    assert lines["limits", "max_headers"] == "local:2"
    assert lines["inbound", "listen"] == "local:3"
    assert lines["inbound", "app"] == 2
    assert lines["zone",] == "--zone:1"
    assert lines["drain", "delay"] == DEFAULT


def test_a_file_with_control_is_judged_as_a_local_one() -> None:
    """So `sidecar check` tells what `sidecar run` would."""
    assert load_text(b"control: http://c:1\nservice: s\n", "f", {}).control is not None
    with pytest.raises(ConfigError, match="it belongs in the mesh's file"):
        load_text(b"control: http://c:1\nservice: s\nupstreams: {}\n", "f", {})


@pytest.mark.parametrize("key", ["bootstrap", "state"])
def test_what_only_a_follower_needs_is_refused_elsewhere(key: str) -> None:
    """Nobody would read it."""
    with pytest.raises(ConfigError, match=f"`{key}` has no effect without `control`"):
        load_text(f"service: s\noutbound: {{}}\n{key}: /x\n".encode(), "f", {})


def test_capture_can_be_an_option() -> None:
    """Of a sidecar that has no file of its own, as one that was injected."""
    loaded = load(PUSHED, None, capture="deny")
    assert loaded.config.capture is not None
    assert loaded.config.capture.unmatched == "deny"
    assert load(PUSHED, None).config.capture is None
