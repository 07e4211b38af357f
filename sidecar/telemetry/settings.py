"""
What the file and the environment say about telemetry, and which of them won. *Cold, pure.*

The file wins wherever it says something; `OTEL_*` variables decide about the rest; then there are defaults. Whatever
was decided is remembered with its source, and what was overruled, for whoever asks why (`/config`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.telemetry.otel_variables import Variables
from sidecar.telemetry.otlp_target import Target, decide
from sidecar.telemetry.traces.propagation import NAMES as PROPAGATORS

RATIO_ONE = 1 << 64
"""`Sampler.root_below` at which every trace is sampled."""
_SAMPLERS = (
    "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off",
    "parentbased_traceidratio",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogFilter:
    """
    Which lines are written: those for which one of these holds.

    Attributes:
        statuses: Ranges `(first, last)` of status codes, both included.
        slower_than_ns: Shortest duration that is written, or None.
        sample: Share of all others, 0 to 1, chosen by trace id, so that one trace's lines are all there or none.
    """

    statuses: tuple[tuple[int, int], ...] = ()
    slower_than_ns: int | None = None
    sample: float = 0.0


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """
    What the file says about telemetry; None where it is silent and the environment decides.

    Attributes:
        service_name: Empty if the file does not say; then the environment does. So for version and namespace.
        otlp_endpoint: Base URL of a collector.
        sample: Share of the traces that begin here which are exported, 0 to 1; the caller's decision goes before it.
        propagators: Formats of trace context, of `propagation.NAMES`.
        access_log_path: File, `/dev/stdout` or `/dev/stderr`; None for no access log.
        access_log_template: Text with `{names}` (`line_template`); None for JSON.
        access_log_when: None for every line.
        compat: Families of other meshes' metrics to show: `envoy`, `istio`, `linkerd`, `appmesh`.
    """

    service_name: str = ""
    service_version: str = ""
    service_namespace: str = ""
    otlp_endpoint: str | None = None
    sample: float | None = None
    access_log_path: str | None = "/dev/stdout"
    access_log_template: str | None = None
    access_log_when: LogFilter | None = None
    propagators: tuple[str, ...] | None = None
    compat: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampler:
    """
    Who decides whether a trace is exported.

    Attributes:
        name: As `OTEL_TRACES_SAMPLER` spells it.
        follows_parent: Whether the caller's decision is ours too.
        root_below: A trace without such a decision is sampled if the low 64 bits of its id are below this.
    """

    name: str
    follows_parent: bool
    root_below: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """
    What is in force.

    Attributes:
        target: Where spans go, or None.
        effective: Setting by name: `value`, `source`, and `overruled`, which lists what said otherwise.
        complaints: Lines about what variables say and nobody understands; each counts as unset.
    """

    target: Target | None
    sampler: Sampler
    propagators: tuple[str, ...]
    effective: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()


def resolve(settings: TelemetrySettings, environment: Mapping[str, str]) -> Resolved:
    """Decide between the file and the environment."""
    variables = Variables(environment)
    target, source, said = decide(settings.otlp_endpoint, variables)
    endpoint = _decided(target.shown if target else None, source, said)
    sampler, sampling = _sampler(settings, variables)
    propagators, propagation = _propagators(settings, variables)
    effective = {"traces.otlp_endpoint": endpoint, "traces.sampler": sampling, "traces.propagators": propagation}
    effective |= _service(settings, environment)
    return Resolved(target, sampler, propagators, effective, tuple(variables.complaints))


def _decided(value: object, source: str, candidates: Mapping[str, object]) -> dict[str, object]:
    """An entry of `effective`; `candidates` are the sources that said something, the winner included."""
    entry: dict[str, object] = {"value": value, "source": source}
    overruled = {name: said for name, said in candidates.items() if name != source}
    return entry | {"overruled": overruled} if overruled else entry


def _sampler(settings: TelemetrySettings, variables: Variables) -> tuple[Sampler, dict[str, object]]:
    said: dict[str, object] = {}
    if settings.sample is not None:
        said["telemetry.traces.sample"] = settings.sample
    name = variables.word("OTEL_TRACES_SAMPLER")
    argument = variables.text("OTEL_TRACES_SAMPLER_ARG")
    if name:
        said["OTEL_TRACES_SAMPLER"] = f"{name} {argument}".strip()
    if settings.sample is not None:
        sampler = _by_name("parentbased_traceidratio", settings.sample)
    elif name in _SAMPLERS:
        sampler = _by_name(name, _ratio(argument, variables) if name.endswith("traceidratio") else 1.0)
    else:
        if name:
            variables.complain(
                f"sampler_unknown OTEL_TRACES_SAMPLER={name!r:.60}; expected one of {' '.join(_SAMPLERS)}"
            )
            del said["OTEL_TRACES_SAMPLER"]
        sampler = _by_name("parentbased_always_on", 1.0)
    shown: dict[str, object] = {"name": sampler.name}
    if sampler.name.endswith("traceidratio"):
        shown["ratio"] = sampler.root_below / RATIO_ONE
    return sampler, _decided(shown, next(iter(said), "default"), said)


def _by_name(name: str, ratio: float) -> Sampler:
    root = 0 if name.endswith("always_off") else round(ratio * RATIO_ONE)
    return Sampler(name, name.startswith("parentbased_"), root)


def _ratio(argument: str, variables: Variables) -> float:
    """`OTEL_TRACES_SAMPLER_ARG`: "Each Sampler type defines its own expected input"; 1.0 if unset or invalid."""
    if not argument:
        return 1.0
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        said = f"OTEL_TRACES_SAMPLER_ARG={argument!r:.60}"
        variables.complain(f"sampler_argument_invalid {said}; expected a number from 0 to 1")
        return 1.0
    return ratio


def _propagators(settings: TelemetrySettings, variables: Variables) -> tuple[tuple[str, ...], dict[str, object]]:
    said: dict[str, object] = {}
    if settings.propagators is not None:
        said["telemetry.traces.propagators"] = list(settings.propagators)
    written = variables.word("OTEL_PROPAGATORS")
    names = list(dict.fromkeys(name.strip() for name in written.split(",") if name.strip()))
    # "Values MUST be deduplicated"; `none` is none; `baggage` and others pass through as any field does.
    unknown = [name for name in names if name not in (*PROPAGATORS, "none", "baggage")]
    if unknown:
        known_names = " ".join(PROPAGATORS)
        variables.complain(f"propagators_unknown OTEL_PROPAGATORS={unknown!r:.60}; known are {known_names}")
    known = tuple(name for name in names if name in PROPAGATORS)
    if known or "none" in names:
        said["OTEL_PROPAGATORS"] = list(known)
    if settings.propagators is not None:
        chosen = settings.propagators
    elif "OTEL_PROPAGATORS" in said:
        chosen = known
    else:
        chosen = ("tracecontext",)
    return chosen, _decided(list(chosen), next(iter(said), "default"), said)


def _service(settings: TelemetrySettings, environment: Mapping[str, str]) -> dict[str, dict[str, object]]:
    said: dict[str, object] = {}
    if settings.service_name:
        said["service"] = settings.service_name
    if environment.get("OTEL_SERVICE_NAME"):
        said["OTEL_SERVICE_NAME"] = environment["OTEL_SERVICE_NAME"]
    source = next(iter(said), "OTEL_RESOURCE_ATTRIBUTES" if environment.get("OTEL_RESOURCE_ATTRIBUTES") else "default")
    return {"service.name": _decided(said.get(source), source, said)}
