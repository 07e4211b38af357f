"""The section `telemetry`: templates, filters, propagators, other meshes' names."""

from __future__ import annotations

import pytest

from sidecar.compile.telemetry import telemetry_settings
from sidecar.config.load import load_text
from sidecar.config.model.telemetry import COMPAT, LINE_NAMES, PROPAGATORS, Telemetry
from sidecar.config.problems import ConfigError
from sidecar.telemetry.access_log import line_template
from sidecar.telemetry.access_log.line_template import LineTemplate, TemplateError
from sidecar.telemetry.recorder import LogFilter, TelemetrySettings
from sidecar.telemetry.traces import propagation


def settings(written: str) -> TelemetrySettings:
    """What `telemetry: {written}` is compiled to."""
    text = f"service: s\noutbound: {{}}\ntelemetry: {{{written}}}\n"
    return telemetry_settings(load_text(text.encode(), "f", {}))


def test_the_words_are_those_that_telemetry_knows() -> None:
    """The file's room may not ask telemetry's, so each has its list."""
    assert set(LINE_NAMES) == line_template.NAMES
    assert PROPAGATORS == propagation.NAMES
    assert set(COMPAT) == {"envoy", "istio", "linkerd", "appmesh"}


def test_defaults_leave_it_to_the_environment() -> None:
    """What the file does not say is None, so that a variable may."""
    assert Telemetry().traces.sample is None
    assert settings("") == TelemetrySettings("s")


@pytest.mark.parametrize(
    ("written", "template"),
    [
        ("json", None),
        ("'{method}'", "{method}"),
        ("'{{{method}}} 100% \"é\"'", '{{{method}}} 100% "é"'),
        ("'{" + "} {".join(LINE_NAMES) + "}'", "{" + "} {".join(LINE_NAMES) + "}"),
    ],
)
def test_what_the_file_accepts_as_a_template_can_be_compiled(written: str, template: str | None) -> None:
    """And means the same to both."""
    found = settings(f"access_log: {{format: {written}}}")
    assert found.access_log_path == "/dev/stdout"
    assert found.access_log_template == template
    if template is not None:
        LineTemplate(template)


@pytest.mark.parametrize("template", ["{", "a {b", "{}", "{methd}", "{method", "}{method}"])
def test_what_cannot_be_compiled_is_refused_by_the_file(template: str) -> None:
    """So that no reload fails late."""
    with pytest.raises(TemplateError):
        LineTemplate(template)
    with pytest.raises(ConfigError, match="format"):
        settings(f"access_log: {{format: '{template}'}}")


def test_off_means_no_log() -> None:
    """Not even a file."""
    assert settings("access_log: {path: /x, format: off}").access_log_path is None


@pytest.mark.parametrize("written", ["true", "99", "1000", "'<100'", "'=400'", "6xx", "40", "''", "-1", "4.04"])
def test_what_is_no_status_is_refused(written: str) -> None:
    """With what would have been accepted."""
    with pytest.raises(ConfigError, match="expected a status or a range"):
        settings(f"access_log: {{when: {{status: {written}}}}}")


def test_all_conditions_together() -> None:
    """Any of them is enough; `telemetry.recorder` says so."""
    when = settings("access_log: {when: {status: '>=400', slower_than: 500ms, sample: 1%}}").access_log_when
    assert when == LogFilter(((400, 999),), 500_000_000, 0.01)


def test_propagators_and_compat() -> None:
    """One or a list, in order; an empty list of propagators means none."""
    assert settings("traces: {propagators: b3}").propagators == ("b3",)
    assert settings("traces: {propagators: [xray, tracecontext]}").propagators == ("xray", "tracecontext")
    assert settings("traces: {propagators: []}").propagators == ()
    assert settings("metrics: {compat: istio}").compat == ("istio",)
    assert settings("metrics: {compat: [appmesh, envoy]}").compat == ("appmesh", "envoy")
