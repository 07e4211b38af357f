"""Whatever a manifest says and however it is written, a sidecar is all that is added, and leaves no trace behind."""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config.problems import ConfigError, Problem
from sidecar.inject.manifests import inject, uninject
from sidecar.inject.wanted import PREFIX, Wanted
from tests.support.thoroughness import examples
from tests.support.yaml_styles import styled

WORDS = st.sampled_from(["web", "db", "true", "8080", "a b", "it's", 'say "x"', "ä", "-", "# no", "{{ x }}", "x: y"])
PORTS = st.sampled_from([80, 8080, "http"])
NOTHING = st.just(None)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping of some of these."""
    return st.fixed_dictionaries({}, optional=fields)


PROBES = st.one_of(
    st.builds(lambda port, n: {"tcpSocket": {"port": port}, "periodSeconds": n}, PORTS, st.integers(1, 9)),
    st.builds(lambda port: {"grpc": {"port": port, "service": "x"}}, st.just(8080)),
    st.builds(lambda port: {"httpGet": {"path": "/ready", "port": port}}, PORTS),
    st.builds(lambda word: {"exec": {"command": [word, word]}}, WORDS),
)
CONTAINERS = st.builds(
    lambda image, more: {"name": "app", "image": image, **more},
    WORDS,
    optional(
        ports=st.just([{"name": "http", "containerPort": 8080}]),
        env=st.one_of(NOTHING, st.lists(st.builds(lambda word: {"name": "A", "value": word}, WORDS), max_size=2)),
        livenessProbe=PROBES,
        readinessProbe=PROBES,
        args=st.lists(WORDS, max_size=2),
        command=st.just(["sh", "-c", "echo a\n# no comment\n\necho b\n"]),
    ),
)
VOLUMES = st.one_of(NOTHING, st.lists(st.just({"name": "v", "emptyDir": {}}), max_size=2))
INITS = st.one_of(NOTHING, st.lists(st.just({"name": "first", "image": "x", "command": ["a\nb\n"]}), max_size=1))
ANNOTATIONS = st.one_of(NOTHING, st.dictionaries(st.sampled_from(["a/b", "c"]), WORDS, max_size=2))
SPECS = st.builds(
    lambda before, containers, after: {**before, "containers": containers, **after},
    st.one_of(optional(initContainers=INITS, serviceAccountName=WORDS), optional(volumes=VOLUMES)),
    st.lists(CONTAINERS, min_size=1, max_size=1),
    st.one_of(
        optional(volumes=VOLUMES),
        optional(initContainers=INITS, terminationGracePeriodSeconds=st.just(90), nodeSelector=st.just({})),
    ),
)
METADATA = optional(annotations=ANNOTATIONS, labels=st.just({"app": "web", "version": "v1"}))
TEMPLATES = st.builds(
    lambda metadata, spec: ({} if metadata is None else {"metadata": metadata}) | {"spec": spec},
    st.one_of(NOTHING, METADATA),
    SPECS,
)
WORKLOADS = st.one_of(
    st.builds(
        lambda kind, template: {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "template": template},
        },
        st.sampled_from(["Deployment", "StatefulSet", "DaemonSet"]),
        TEMPLATES,
    ),
    st.builds(lambda spec: {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}, SPECS),
    st.builds(
        lambda template: {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "web"},
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}},
        },
        TEMPLATES,
    ),
    st.just({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "x\n\n# y\n"}}),
)
LISTS = st.builds(lambda items: {"apiVersion": "v1", "kind": "List", "items": items}, st.lists(WORKLOADS, max_size=2))
DOCUMENTS = st.lists(st.one_of(WORKLOADS, LISTS), min_size=1, max_size=3)
WANTED = st.builds(
    Wanted,
    config=st.just("web-sidecar"),
    control=st.sampled_from([(), ("https://control:15010",)]),
    mesh=st.just("shop"),
    roots=st.just("mesh-roots"),
    is_captured=st.just(True),
    is_plain=st.booleans(),
    has_proxy_env=st.booleans(),
)


def documents_of(text: str) -> list[Any]:
    """By PyYAML's own reader."""
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def without_sidecar(value: Any) -> Any:
    """A value without what injection adds, found by other means than `uninject` has."""
    if isinstance(value, list):
        named = [
            item for item in value
            if not (isinstance(item, dict) and str(item.get("name", "")).startswith("sidecar"))
            and not (isinstance(item, dict) and str(item.get("name", "")).lower() in ("http_proxy", "no_proxy"))
        ]  # fmt: skip
        return [without_sidecar(item) for item in named]
    if isinstance(value, dict):
        found = {key: without_sidecar(one) for key, one in value.items() if not str(key).startswith(PREFIX)}
        found.pop("kubectl.kubernetes.io/default-container", None)
        if found.get("terminationGracePeriodSeconds") == 60:
            del found["terminationGracePeriodSeconds"]
        return {key: one for key, one in found.items() if one not in (None, [], {})}
    return value


def with_probes_as_they_were(injected: Any, original: Any) -> Any:
    """What asks the sidecar instead of the app asks the app again."""
    if isinstance(original, dict) and isinstance(injected, dict):
        found = {key: with_probes_as_they_were(one, original.get(key)) for key, one in injected.items()}
        for handler in ("tcpSocket", "grpc"):
            if handler in original and handler not in injected:
                assert found.pop("httpGet") == {"path": "/app-health/8080", "port": 15020} or original[handler] == {
                    "port": 80
                }
                found[handler] = original[handler]
        return found
    if isinstance(original, list) and isinstance(injected, list):
        return [with_probes_as_they_were(*pair) for pair in zip(injected, original, strict=True)]
    return injected


@given(DOCUMENTS, st.integers(0, 2**32), WANTED)
@settings(max_examples=examples(300), deadline=None)
def test_what_is_injected_comes_out_without_a_trace(values: list[Any], seed: int, wanted: Wanted) -> None:
    """
    `uninject` gives back every byte; a second `inject` changes nothing; and read by another reader, the injected
    manifest says what it said, the sidecar's own parts left out of account.
    """
    text = styled(values, seed)
    assert documents_of(text) == values
    outcome = inject(text, "f", wanted)
    if outcome.problems:
        # A plain sidecar in a Job, and aliases that share what is edited, are all that is refused here.
        assert all("would never end" in one.message or "alias" in one.message for one in outcome.problems)
        assert outcome.text == text
        return
    assert uninject(outcome.text, "f").text == text
    assert inject(outcome.text, "f", wanted).text == outcome.text
    injected = [without_sidecar(value) for value in documents_of(outcome.text)]
    original = [without_sidecar(copy.deepcopy(value)) for value in values]
    assert with_probes_as_they_were(injected, original) == original


@given(DOCUMENTS, st.integers(0, 2**32), WANTED, WANTED)
@settings(max_examples=examples(120), deadline=None)
def test_bringing_up_to_date_is_injecting_anew(values: list[Any], seed: int, first: Wanted, then: Wanted) -> None:
    """What was injected once with other wishes is, injected again, what it would be without that."""
    text = styled(values, seed)
    earlier, wanted = inject(text, "f", first), inject(text, "f", then)
    if not earlier.problems and not wanted.problems:
        assert inject(earlier.text, "f", then).text == wanted.text


SERVICES = st.builds(
    lambda image, more: {"image": image, **more},
    WORDS,
    optional(
        ports=st.just(["8000:8080"]),
        expose=st.lists(st.just("8080"), max_size=1),
        networks=st.sampled_from([["a"], {"a": None}, {"a": {"aliases": ["b"]}}]),
        depends_on=st.sampled_from([["db"], {"db": {"condition": "service_started"}}, [], {}]),
        environment=st.sampled_from([["A=1"], {"A": "1"}, [], {}, None, {"HTTP_PROXY": "x"}]),
        labels=st.sampled_from([{"sidecar.mesh/version": "v1"}, ["a=b"], None]),
        command=WORDS,
    ),
)
COMPOSE = st.builds(
    lambda web, db, more: {"services": {"web": web, "db": db}, **more}, SERVICES, SERVICES, optional(volumes=NOTHING)
)
TASKS = st.builds(
    lambda app, more, last: {
        **more,
        "family": "web",
        "networkMode": "awsvpc",
        "containerDefinitions": [{"name": "envoy", "image": "aws-appmesh-envoy:1"}, {"name": "app", **app}],
        **last,
    },
    optional(
        image=WORDS,
        dependsOn=st.sampled_from(
            [[], [{"containerName": "envoy", "condition": "HEALTHY"}], [{"containerName": "x", "condition": "START"}]]
        ),
        environment=st.sampled_from([[], [{"name": "A", "value": "1"}]]),
        portMappings=st.just([{"containerPort": 8080}]),
    ),
    optional(cpu=WORDS, proxyConfiguration=st.just({"type": "APPMESH", "containerName": "envoy"})),
    optional(volumes=st.sampled_from([[], [{"name": "v"}]]), memory=WORDS),
)


@given(st.one_of(COMPOSE, TASKS), st.integers(0, 2**32), st.booleans())
@settings(max_examples=examples(300), deadline=None)
def test_compose_files_and_tasks_come_back_in_every_style(value: Any, seed: int, is_captured: bool) -> None:
    """What stands in a Compose file or a task definition comes back byte by byte, however it is written."""
    text = styled([value], seed)
    wanted = Wanted(
        control=("https://control:15010",),
        token="t",
        is_captured=is_captured,
        services=("web",) if "services" in value else (),
        replaces_app_mesh=True,
    )
    outcome = inject(text, "f", wanted)
    if outcome.problems:
        assert all("expected one port" in one.message or "alias" in one.message for one in outcome.problems)
        return
    assert outcome.text != text
    assert uninject(outcome.text, "f").text == text
    assert inject(outcome.text, "f", wanted).text == outcome.text
    assert documents_of(text)[0] == value


@given(st.text(st.sampled_from(list("ab:-{}[]#&*!|>'\"%@` \n\t\r\x00\x85\u2028\ufeff0~,?")), max_size=60))
@settings(max_examples=examples(400), deadline=None)
def test_any_text_passes_or_is_refused_with_a_place(text: str) -> None:
    """What is no manifest passes byte by byte; what is no YAML is told with file, line and column."""
    problems: list[Problem] = []
    try:
        assert inject(text, "f", Wanted(config="c")).text == text
    except ConfigError as error:
        problems = error.problems
    assert all(problem.line > 0 and problem.column > 0 and problem.message for problem in problems)


STEPS = st.sampled_from(["spec", "metadata", "containers", "annotations", "app", "name", "image", 0, 1, "sidecar"])
ARGUMENTS = st.one_of(
    st.sampled_from(["", "x", "a: [", "- "]),
    st.lists(st.sampled_from(["", "x", "app", "0", "9", "spec", "a: {", 1, None]), max_size=4),
)
NOTES = st.lists(
    st.tuples(
        st.sampled_from(["key", "items", "value", "entry", "name", "gone"]),
        st.lists(STEPS, min_size=1, max_size=4),
        ARGUMENTS,
    ),
    max_size=4,
)


@given(NOTES, st.booleans())
@settings(max_examples=examples(400), deadline=None)
def test_notes_of_any_content_are_followed_or_refused(notes: list[Any], is_json: bool) -> None:
    """Whatever somebody has made of `sidecar.mesh/undo`, there is a text or a problem, and no exception."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "annotations": {PREFIX + "injected": "x", PREFIX + "undo": json.dumps(notes)}},
        "spec": {"containers": [{"name": "app", "image": "a"}, {"name": "sidecar", "image": "b"}]},
    }
    text = json.dumps(pod) if is_json else yaml.safe_dump(pod, sort_keys=False)
    outcome = uninject(text, "f")
    assert outcome.problems or documents_of(outcome.text)


# --- values of the wrong kinds ---------------------------------------------------------------------------------------

ODD = st.sampled_from([None, True, 0, -1, 80, "", "x", "80", [], {}, [None], [1], ["a"], {"a": 1}, [{}], [[]], 1.5])
WORDS_OF_MANIFESTS = """
    name image ports containerPort env livenessProbe tcpSocket grpc httpGet port host
    securityContext runAsUser annotations labels metadata spec template containers initContainers
    volumes items restartPolicy hostNetwork os nodeSelector build deploy networks depends_on
    environment expose extends dockerLabels portMappings dependsOn containerDefinitions networkMode
    family requiresCompatibilities Resources Type Properties
"""
KEYS = st.sampled_from(WORDS_OF_MANIFESTS.split())
TREES = st.recursive(
    ODD, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)), max_leaves=12
)
CONTAINER = st.dictionaries(KEYS, TREES, max_size=5)


@given(
    st.one_of(
        st.builds(
            lambda kind, spec, metadata: {
                "apiVersion": "apps/v1",
                "kind": kind,
                "metadata": {"name": "web"},
                "spec": spec if kind == "Pod" else {"template": {"metadata": metadata, "spec": spec}},
            },
            st.sampled_from(["Deployment", "Job", "StatefulSet"]),
            st.builds(lambda one, more: {"containers": one, **more}, st.lists(CONTAINER), st.dictionaries(KEYS, TREES)),
            TREES,
        ),
        st.builds(lambda name, one: {"services": {"web": one, "other": name}}, TREES, CONTAINER),
        st.builds(
            lambda one, more: {**more, "networkMode": "awsvpc", "family": "web", "containerDefinitions": one},
            st.lists(CONTAINER, min_size=1),
            st.dictionaries(KEYS, TREES),
        ),
        st.builds(lambda one: {"Resources": {"A": {"Type": "AWS::ECS::TaskDefinition", "Properties": one}}}, TREES),
        TREES,
    ),
    st.booleans(),
)
@settings(max_examples=examples(500), deadline=None)
def test_values_of_any_kind_are_injected_or_refused(value: Any, is_captured: bool) -> None:
    """Whatever kinds of values stand where, there is an injected text that comes back, or problems; no exception."""
    # By way of JSON, for the dumper writes what is one object in several places as anchor and aliases.
    text = yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False)
    wanted = Wanted(config="c", is_captured=is_captured, services=("web",) if "services" in str(value)[:20] else ())
    outcome = inject(text, "f", wanted)
    if outcome.problems:
        assert outcome.text == text
        assert not any("nothing is written" in problem.message for problem in outcome.problems)
    else:
        assert uninject(outcome.text, "f").text == text
