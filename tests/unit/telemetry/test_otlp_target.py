"""Where spans go and how: the file, then OpenTelemetry's variables."""

from __future__ import annotations

from math import inf

import pytest

from sidecar.telemetry.otel_variables import Variables
from sidecar.telemetry.otlp_target import Target, decide, target_of


class TestEndpoint:
    """OTLP exporter specification, "Endpoint URLs for OTLP/HTTP"; the file wins."""

    @pytest.mark.parametrize(
        ("endpoint", "environment", "url"),
        [
            (None, {}, None),
            ("http://c:4318", {}, "http://c:4318/v1/traces"),
            ("http://c:4318/", {}, "http://c:4318/v1/traces"),
            ("https://c/otlp", {}, "https://c/otlp/v1/traces"),
            ("http://c:4318/v1/traces", {}, "http://c:4318/v1/traces"),
            (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:4318"}, "http://e:4318/v1/traces"),
            (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e/a/"}, "http://e/a/v1/traces"),
            (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
            (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}, "http://t/x"),
            (
                None,
                {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://e"},
                "http://t/x",
            ),
            ("http://c", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}, "http://c/v1/traces"),
        ],
    )
    def test_where_spans_go(self, endpoint: str | None, environment: dict[str, str], url: str | None) -> None:
        """First of: file, traces variable, general variable."""
        target = target_of(endpoint, Variables(environment))
        assert (target.url if target else None) == url

    @pytest.mark.parametrize("url", ["c:4318", "ftp://c", "http://", "http://c:99999", "grpc://c:4317"])
    def test_what_is_no_http_url_is_refused(self, url: str) -> None:
        """With the URL in the message."""
        with pytest.raises(ValueError):
            target_of(None, Variables({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url}))

    def test_no_secret_of_a_url_is_shown(self) -> None:
        """User information and query, in the log and in messages."""
        target = target_of("https://user:secret@c:4318", Variables({}))
        assert target is not None
        assert target.shown == "https://c:4318/v1/traces"
        with pytest.raises(ValueError, match="got 'ftp://c/x'"):
            target_of(None, Variables({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://user:secret@c/x?token=secret"}))

    def test_headers_are_percent_decoded(self) -> None:
        """As W3C Baggage; the traces variable goes before the general one."""
        general = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x = y ,broken,=none"}
        target = target_of("http://c", Variables(general))
        assert target is not None
        assert target.headers == (("api-key", "a b"), ("x", "y"))
        target = target_of("http://c", Variables(general | {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "z=1"}))
        assert target is not None
        assert target.headers == (("z", "1"),)

    @pytest.mark.parametrize("given", ["a=b%0d%0ax: y", "a%0a=b", "a=%E2%82%AC", "%C3%A9=b", "a=%00"])
    def test_headers_that_cannot_be_sent_are_refused(self, given: str) -> None:
        """And their value is not in the message."""
        with pytest.raises(ValueError):
            target_of("http://c", Variables({"OTEL_EXPORTER_OTLP_HEADERS": given}))

    @pytest.mark.parametrize(
        ("url", "environment", "is_compressed"),
        [
            ("http://127.0.0.1:4318", {}, False),
            ("http://localhost:4318", {}, False),
            ("http://[::1]:4318", {}, False),
            ("http://collector:4318", {}, True),
            ("http://127.0.0.1:4318", {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, True),
            ("http://collector:4318", {"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}, False),
            ("http://collector", {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none"}, False),
        ],
    )
    def test_batches_that_leave_the_machine_are_compressed(
        self, url: str, environment: dict[str, str], is_compressed: bool
    ) -> None:
        """Unless the environment says otherwise."""
        target = target_of(url, Variables(environment))
        assert target is not None
        assert target.is_compressed == is_compressed


GENERAL = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


def found(environment: dict[str, str], endpoint: str | None = None) -> tuple[Target | None, list[str]]:
    """Where spans go, and the first words of what is told."""
    variables = Variables(environment)
    target = decide(endpoint, variables)[0]
    return target, [line.split()[0] for line in variables.complaints]


class TestExporter:
    """`OTEL_TRACES_EXPORTER`."""

    @pytest.mark.parametrize(
        ("said", "is_on", "told"),
        [
            ("none", False, []),
            (" NONE ", False, []),
            ("otlp", True, []),
            ("OTLP,console", True, []),
            ("console", False, ["span_exporter_unsupported"]),
            ("zipkin,none", False, ["span_exporter_unsupported"]),
            ("sometimes", True, ["span_exporter_unknown"]),
            ("", True, []),
        ],
    )
    def test_it_turns_export_off(self, said: str, is_on: bool, told: list[str]) -> None:
        """A value that nobody knows counts as unset, one that is known and not spoken does not mean OTLP."""
        target, complaints = found({**GENERAL, "OTEL_TRACES_EXPORTER": said})
        assert (target is not None, complaints) == (is_on, told)

    @pytest.mark.parametrize("variable", [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "True"}])
    def test_a_collector_in_the_file_wins(self, variable: dict[str, str]) -> None:
        """And what it overrules is shown; without it, what was turned off is."""
        (name,) = variable
        target, source, said = decide("http://f", Variables({**GENERAL, **variable}))
        assert target is not None
        assert source == "telemetry.traces.otlp_endpoint"
        assert set(said) == {source, name, "OTEL_EXPORTER_OTLP_ENDPOINT"}
        target, source, said = decide(None, Variables({**GENERAL, **variable}))
        assert (target, source, set(said)) == (None, name, {name, "OTEL_EXPORTER_OTLP_ENDPOINT"})

    def test_who_asks_for_otlp_and_says_no_address_gets_the_specification_s(self) -> None:
        """ "http://localhost:4318"; nobody who says nothing gets it."""
        target, source, _ = decide(None, Variables({"OTEL_TRACES_EXPORTER": "otlp"}))
        assert target is not None
        assert (target.url, source) == ("http://localhost:4318/v1/traces", "OTEL_TRACES_EXPORTER")
        assert decide(None, Variables({})) == (None, "default", {})


class TestProtocol:
    """`OTEL_EXPORTER_OTLP_PROTOCOL`: one protocol is spoken."""

    @pytest.mark.parametrize(
        ("environment", "is_on", "told"),
        [
            ({**GENERAL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, []),
            ({**GENERAL, "OTEL_EXPORTER_OTLP_PROTOCOL": "HTTP/Protobuf"}, True, []),
            ({**GENERAL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, ["otlp_grpc_unsupported"]),
            ({**GENERAL, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "GRPC"}, False, ["otlp_grpc_unsupported"]),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False,
             ["otlp_grpc_unsupported"]),
            ({**GENERAL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
              "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, True, []),
            ({**GENERAL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, True, ["otlp_protocol_unsupported"]),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, True, ["otlp_port_of_grpc"]),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317/"}, True, ["otlp_port_of_grpc"]),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
              "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, []),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/a:4317/"}, True, []),
            ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, []),
        ],
    )  # fmt: skip
    def test_grpc_is_told_once_and_never_tried(self, environment: dict[str, str], is_on: bool, told: list[str]) -> None:
        """Its port alone proves nothing, so it is told and tried by HTTP."""
        target, complaints = found(environment)
        assert (target is not None, complaints) == (is_on, told)

    def test_the_line_says_what_to_do(self) -> None:
        """And which variable it is about."""
        variables = Variables({**GENERAL, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"})
        decide(None, variables)
        (line,) = variables.complaints
        assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc" in line
        assert "http/protobuf" in line
        assert "4318" in line

    def test_the_file_s_collector_is_spoken_to_by_http_whatever_a_variable_says(self) -> None:
        """Which the app's SDK has, too; only the port is worth a line."""
        environment = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        assert found(environment, "http://f:4318")[1] == []
        target, told = found(environment, "http://f:4317")
        assert (target is not None, told) == (True, ["otlp_port_of_grpc"])


class TestTimeout:
    """`OTEL_EXPORTER_OTLP_TIMEOUT`, in milliseconds."""

    @pytest.mark.parametrize(
        ("said", "seconds", "told"),
        [("", 10.0, []), ("2500", 2.5, []), ("0", inf, []), ("-1", 10.0, ["otlp_timeout_invalid"]),
         ("5s", 10.0, ["otlp_timeout_invalid"]), ("1.5", 10.0, ["otlp_timeout_invalid"]),
         ("٣", 10.0, ["otlp_timeout_invalid"])],
    )  # fmt: skip
    def test_it_bounds_a_try(self, said: str, seconds: float, told: list[str]) -> None:
        """The traces variable goes before the general one."""
        target, complaints = found({**GENERAL, "OTEL_EXPORTER_OTLP_TIMEOUT": said})
        assert target is not None
        assert (target.timeout_s, complaints) == (seconds, told)
        general = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": said or "10000"}
        target, complaints = found({**GENERAL, **general})
        assert target is not None
        assert (target.timeout_s, complaints) == (seconds, told)


def test_certificates_are_named_for_traces_or_for_all() -> None:
    """By which the collector is known, and we."""
    names = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    general = {f"OTEL_EXPORTER_OTLP_{name}": f"/all/{name}" for name in names}
    target, _ = found({**GENERAL, **general, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/traces"})
    assert target is not None
    assert (target.ca_file, target.client_cert_file, target.client_key_file) == (
        "/traces", "/all/CLIENT_CERTIFICATE", "/all/CLIENT_KEY",
    )  # fmt: skip


def test_a_compression_that_there_is_not_is_told_and_counts_as_unset() -> None:
    """Words in any case."""
    assert found({**GENERAL, "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"})[1] == ["otlp_compression_unknown"]
    target, told = found({**GENERAL, "OTEL_EXPORTER_OTLP_COMPRESSION": "NONE"})
    assert target is not None
    assert (target.is_compressed, told) == (False, [])
