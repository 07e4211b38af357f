"""The section `telemetry`: where metrics, spans and log lines go, and which there are. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from sidecar.config.model.preview import RecentRequests, RecentSetting
from sidecar.config.problems import did_you_mean
from sidecar.config.values.addresses import HttpUrl, TcpListenAddresses
from sidecar.config.values.base import Model, OneOrMany, Reads, expected, refused, setting
from sidecar.config.values.units import PositiveDuration, Ratio, choice, value_of
from sidecar.config.values.words import Part
from sidecar.config.yaml.scalars import Spelled

PROPAGATORS: Final = ("tracecontext", "b3", "b3multi", "xray")
COMPAT: Final = ("envoy", "istio", "linkerd", "appmesh")
LINE_NAMES: Final = (
    "attempts", "authority", "authorization", "bytes_received", "bytes_sent", "detail", "direction",
    "downstream_remote_address", "duration", "grpc_status", "http_route", "jwt", "jwt_issuer", "method", "path",
    "peer_identity", "protocol", "raw_line", "request_id", "response_code", "response_code_details", "response_flags",
    "retry_skipped", "route_name", "rule", "rule_at", "span_id", "start_time", "tls_version", "trace_id",
    "upstream_cluster", "upstream_host", "upstream_peer_identity", "upstream_service_time", "upstream_tls_version",
    "user_agent", "x_forwarded_for",
)  # fmt: skip
"""What a template of the access log may name; `line_template` in telemetry has the same, and a test compares them."""

_PLACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_MAX_TEMPLATE_CHARS: Final = 4096
_STATUS: Final = re.compile(r"(>=|<=|>|<)\s*([0-9]{3})|([0-9]{3})\s*-\s*([0-9]{3})|([1-5])xx|([0-9]{3})")


class _Once:
    """A list in which nothing comes twice."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, values: list[str]) -> list[str]:
        for index, value in enumerate(values):
            if value in values[:index]:
                raise refused(f"`{value}` comes twice", "remove one")
        return values


def parse_log_format(written: object) -> str:
    """Read `json`, `off`, or a template: text with names in braces."""
    what = "`json`, `off`, or a template such as `{start_time} {method} {path} {response_code}`"
    if not isinstance(written, str) or isinstance(written, Spelled):
        raise expected(what)
    if written in ("json", "off"):
        return str(written)
    if "{" not in written:
        hint = did_you_mean(written, ("json", "off"))
        raise expected(what, "names stand in braces: `{start_time}`" if "%" in written else hint)
    if len(written) > _MAX_TEMPLATE_CHARS:
        raise expected(f"a template of at most {_MAX_TEMPLATE_CHARS} characters")
    for match in _PLACE.finditer(written):
        name = match[1]
        if name is None and len(match[0]) == 1:
            raise refused(
                f"the template has a `{match[0]}` that stands alone", f"the character itself is `{match[0] * 2}`"
            )
        if name is not None and name not in LINE_NAMES:
            hint = did_you_mean(name, LINE_NAMES) or "known are: " + ", ".join(f"`{{{known}}}`" for known in LINE_NAMES)
            raise refused(f"the template names `{{{name}}}`, which there is not", hint)
    return str(written)


def parse_status_range(written: object) -> tuple[int, int]:
    """Read `>=400`, `<300`, `500-503`, `5xx` or `404` as the first and the last status that are meant."""
    what = "a status or a range such as `>=400`, `500-503`, `5xx` or `404`"
    value = value_of(written)
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    elif isinstance(written, str):
        text = written.strip()
    else:
        raise expected(what)
    match = _STATUS.fullmatch(text)
    if match is None:
        raise expected(what)
    comparison, bound, low, high, hundreds, single = match.groups()
    if comparison:
        number = int(bound)
        first, last = {
            ">=": (number, 999), ">": (number + 1, 999), "<=": (100, number), "<": (100, number - 1)
        }[comparison]  # fmt: skip
    elif low:
        first, last = int(low), int(high)
    elif hundreds:
        first, last = int(hundreds) * 100, int(hundreds) * 100 + 99
    else:
        first = last = int(single)
    if not 100 <= first <= last <= 999:
        raise expected(what, "statuses go from 100 to 599, the smaller one first")
    return first, last


Propagator = Annotated[Literal["tracecontext", "b3", "b3multi", "xray"], choice(*PROPAGATORS)]
Compat = Annotated[Literal["envoy", "istio", "linkerd", "appmesh"], choice(*COMPAT)]
StatusRange = Annotated[
    tuple[int, int],
    Reads(parse_status_range, {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 100, "maximum": 599}]}),
]
LogFormat = Annotated[str, Reads(parse_log_format, {"anyOf": [{"enum": ["json", "off"]}, {"pattern": r"\{"}]})]


class Metrics(Model):
    """Metrics and health."""

    listen: TcpListenAddresses = setting(["0.0.0.0:15020"], "An address, or a list; read-only.", "0.0.0.0:15020")
    compat: Annotated[list[Compat], OneOrMany(may_be_empty=True), _Once()] = setting(
        [], "Metrics by the names of other meshes, beside our own: `envoy`, `istio`, `linkerd`, `appmesh`."
    )


class Traces(Model):
    """Spans."""

    otlp_endpoint: HttpUrl | None = setting(
        None, "Base URL of an OTLP/HTTP collector; without it the `OTEL_*` variables decide; none set: no export."
    )
    sample: Ratio | None = setting(
        None,
        "Share of the traces that begin here which is exported; 0 to 1, or a percentage. Without it "
        "`OTEL_TRACES_SAMPLER` decides; not set: all.",
    )
    propagators: Annotated[list[Propagator], OneOrMany(may_be_empty=True), _Once()] | None = setting(
        None,
        "Formats of trace context, read in this order and all written: `tracecontext`, `b3`, `b3multi`, `xray`. "
        "Without it `OTEL_PROPAGATORS` decides; not set: `tracecontext`.",
    )


class LogWhen(Model):
    """Which lines are written: those for which one of these holds."""

    status: Annotated[list[StatusRange], OneOrMany(may_be_empty=True)] = setting(
        [], 'Statuses: `">=400"`, `500-503`, `5xx`, `404`, or a list of these.'
    )
    slower_than: PositiveDuration | None = setting(None, "Shortest duration.")
    sample: Ratio = setting(0.0, "Share of all others; 0 to 1, or a percentage.")


class AccessLog(Model):
    """A line for every request."""

    path: Part = setting("/dev/stdout", "The file that lines are appended to.")
    format: LogFormat = setting("json", "`json`, `off`, or text with names in braces: `{method} {path}`.")
    when: LogWhen | None = setting(None, "Which lines are written; default: all.")


class Telemetry(Model):
    """What is told about every request."""

    metrics: Metrics = setting(Metrics(), "Metrics and health.")
    traces: Traces = setting(Traces(), "Spans.")
    access_log: AccessLog = setting(AccessLog(), "A line for every request.")
    recent_requests: RecentSetting = setting(
        RecentRequests(), "Which heads of requests are kept, for `sidecar preview`; `off`: none."
    )
