"""The file wins over the environment, and it can be seen which did."""

from __future__ import annotations

import json
import logging

import pytest

from sidecar.telemetry.recorder import TelemetrySettings
from sidecar.telemetry.settings import RATIO_ONE, resolve
from tests.unit.telemetry.cases import COLLECTOR, Told, over, request

PARENT = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
URL = {"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}


def sampled(environment: dict[str, str], sent: bytes = b"", sample: float | None = None) -> set[bool]:
    """Whether requests are sampled, of some hundred that bring this."""
    telemetry = Told(TelemetrySettings("s", access_log_path=None, sample=sample), environment={**URL, **environment})
    found = set()
    for _ in range(200):
        exchange = over(request(PARENT + sent) if sent else request())
        telemetry.begin(exchange)
        found.add(exchange.sampled)
    return found


class TestSampler:
    """OpenTelemetry's environment variables, "General SDK Configuration"."""

    @pytest.mark.parametrize(
        ("name", "argument", "root", "yes", "no"),
        [
            ("", "", {True}, {True}, {False}),
            ("always_on", "", {True}, {True}, {True}),
            ("always_off", "", {False}, {False}, {False}),
            ("traceidratio", "0", {False}, {False}, {False}),
            ("traceidratio", "", {True}, {True}, {True}),
            ("parentbased_always_on", "", {True}, {True}, {False}),
            ("parentbased_always_off", "", {False}, {True}, {False}),
            ("parentbased_traceidratio", "0.5", {True, False}, {True}, {False}),
            ("parentbased_traceidratio", "0", {False}, {True}, {False}),
            ("ALWAYS_OFF", "", {False}, {False}, {False}),
            (" ParentBased_TraceIdRatio ", "0", {False}, {True}, {False}),
        ],
    )
    def test_the_variable_decides(
        self, name: str, argument: str, root: set[bool], yes: set[bool], no: set[bool]
    ) -> None:
        """For a trace that begins here, and for callers that sampled and did not."""
        environment = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
        assert sampled(environment) == root
        assert sampled(environment, b"01") == yes
        assert sampled(environment, b"00") == no

    def test_the_file_wins(self) -> None:
        """With its own sampler: by ratio, and the caller goes before."""
        environment = {"OTEL_TRACES_SAMPLER": "always_on"}
        assert sampled(environment, sample=0.0) == {False}
        assert sampled(environment, b"01", sample=0.0) == {True}
        assert sampled(environment, b"00", sample=1.0) == {False}

    def test_traceidratio_decides_by_trace_and_not_by_request(self) -> None:
        """All requests of one trace are sampled, or none."""
        environment = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
        assert len(sampled(environment, b"01")) == 1

    @pytest.mark.parametrize(
        ("environment", "said"),
        [
            ({"OTEL_TRACES_SAMPLER": "sometimes"}, "sampler_unknown"),
            ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"}, "sampler_argument_invalid"),
            ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, "sampler_argument_invalid"),
            ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"}, "sampler_argument_invalid"),
            ({"OTEL_PROPAGATORS": "jaeger"}, "propagators_unknown"),
        ],
    )
    def test_what_nobody_understands_is_logged_and_counts_as_unset(
        self, environment: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """ "An unrecognized value ... MUST generate a warning and gracefully ignore the setting", once."""
        resolved = resolve(TelemetrySettings(), environment)
        with caplog.at_level(logging.WARNING, "sidecar.telemetry"):
            Told(TelemetrySettings(), environment=environment).reconfigure(TelemetrySettings())
        assert [record.getMessage() for record in caplog.records] == list(resolved.complaints)
        assert resolved.complaints[0].startswith(said)
        assert resolved.sampler.root_below == RATIO_ONE
        assert resolved.propagators == ("tracecontext",)


class TestDisabled:
    """`OTEL_SDK_DISABLED`."""

    @pytest.mark.parametrize(("said", "is_off"), [("true", True), ("TRUE", True), ("false", False), ("", False)])
    def test_it_turns_export_off_and_propagation_stays(self, said: str, is_off: bool) -> None:
        """ "true" in any case; anything else is false."""
        telemetry = Told(TelemetrySettings("s"), environment={**URL, "OTEL_SDK_DISABLED": said})
        assert (telemetry._sinks.exporter is None) is is_off
        exchange = over(request(PARENT + b"01"))
        assert b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736" in telemetry.begin(exchange)

    def test_a_collector_in_the_file_wins(self) -> None:
        """Whoever wrote it there meant it."""
        telemetry = Told(TelemetrySettings("s", otlp_endpoint=COLLECTOR), environment={"OTEL_SDK_DISABLED": "true"})
        assert telemetry._sinks.exporter is not None
        entry = telemetry.effective()["traces.otlp_endpoint"]
        assert entry["source"] == "telemetry.traces.otlp_endpoint"
        assert entry["overruled"] == {"OTEL_SDK_DISABLED": True}


class TestPropagators:
    """`OTEL_PROPAGATORS`, and the file."""

    @pytest.mark.parametrize(
        ("said", "chosen"),
        [
            ("", ("tracecontext",)),
            ("b3multi, tracecontext,b3multi,baggage", ("b3multi", "tracecontext")),
            ("xray,jaeger", ("xray",)),
            ("none", ()),
            ("B3Multi,TRACECONTEXT", ("b3multi", "tracecontext")),
            ("baggage", ("tracecontext",)),
        ],
    )
    def test_the_variable_decides(self, said: str, chosen: tuple[str, ...]) -> None:
        """In its order, each once; what is no trace context passes through as any field does."""
        assert resolve(TelemetrySettings(), {"OTEL_PROPAGATORS": said}).propagators == chosen

    def test_the_file_wins(self) -> None:
        """And what it overrules is shown."""
        resolved = resolve(TelemetrySettings(propagators=("b3",)), {"OTEL_PROPAGATORS": "xray"})
        assert resolved.propagators == ("b3",)
        assert resolved.effective["traces.propagators"] == {
            "value": ["b3"],
            "source": "telemetry.traces.propagators",
            "overruled": {"OTEL_PROPAGATORS": ["xray"]},
        }


class TestEffective:
    """What `/config` shows."""

    def test_defaults_say_so(self) -> None:
        """Nothing was said by anybody."""
        telemetry = Told(TelemetrySettings())
        assert telemetry.effective() == {
            "traces.otlp_endpoint": {"value": None, "source": "default"},
            "traces.sampler": {"value": {"name": "parentbased_always_on"}, "source": "default"},
            "traces.propagators": {"value": ["tracecontext"], "source": "default"},
            "service.name": {"value": None, "source": "default"},
        }

    def test_the_environment_says_so(self) -> None:
        """Each by its variable."""
        environment = {
            **URL,
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
            "OTEL_SERVICE_NAME": "storefront",
        }
        effective = Told(TelemetrySettings(), environment=environment).effective()
        assert effective["traces.otlp_endpoint"] == {
            "value": f"{COLLECTOR}/v1/traces", "source": "OTEL_EXPORTER_OTLP_ENDPOINT"
        }  # fmt: skip
        assert effective["traces.sampler"] == {
            "value": {"name": "traceidratio", "ratio": 0.25}, "source": "OTEL_TRACES_SAMPLER"
        }  # fmt: skip
        assert effective["service.name"] == {"value": "storefront", "source": "OTEL_SERVICE_NAME"}

    def test_the_file_says_so_and_what_it_overruled(self) -> None:
        """It is followed at a reload."""
        environment = {**URL, "OTEL_TRACES_SAMPLER": "always_off", "OTEL_SERVICE_NAME": "other"}
        telemetry = Told(TelemetrySettings(), environment=environment)
        telemetry.reconfigure(TelemetrySettings("mine", otlp_endpoint="http://c:1", sample=0.5))
        assert telemetry.effective() == {
            "traces.otlp_endpoint": {
                "value": "http://c:1/v1/traces",
                "source": "telemetry.traces.otlp_endpoint",
                "overruled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "set"},
            },
            "traces.sampler": {
                "value": {"name": "parentbased_traceidratio", "ratio": 0.5},
                "source": "telemetry.traces.sample",
                "overruled": {"OTEL_TRACES_SAMPLER": "always_off"},
            },
            "traces.propagators": {"value": ["tracecontext"], "source": "default"},
            "service.name": {"value": "mine", "source": "service", "overruled": {"OTEL_SERVICE_NAME": "other"}},
        }

    def test_no_secret_is_shown(self) -> None:
        """Of a URL neither user information nor query; of headers nothing."""
        environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://user:hunter2@c/v1/traces?token=hunter2",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:hunter2@d",
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hunter2",
        }
        for settings in (TelemetrySettings(), TelemetrySettings(otlp_endpoint="http://a:hunter2@b")):
            text = json.dumps(Told(settings, environment=environment).effective())
            assert "hunter2" not in text
            assert "source" in text
