"""
Where spans go and how, from the file and OpenTelemetry's variables. *Cold, pure.*

The file's endpoint wins. Of each pair of variables the one with `TRACES` in its name does. gRPC is not spoken: a
library for it costs 18 MiB of memory, near what all else takes, and a collector that listens for it listens for HTTP
beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final
from urllib.parse import unquote, urlsplit

from sidecar.telemetry.otel_variables import Variables

DEFAULT_TIMEOUT_S: Final = 10.0
DEFAULT_ENDPOINT: Final = "http://localhost:4318"
"""The specification's; only where OTEL_TRACES_EXPORTER asks for OTLP and nobody says where to."""

_PATH: Final = "/v1/traces"
_GRPC_PORT: Final = ":4317"
_USE_HTTP: Final = "use OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf with the collector's HTTP port, usually 4318"
_OTHER_EXPORTERS: Final = frozenset({"console", "logging", "zipkin", "jaeger"})
_DISABLED: Final = "OTEL_SDK_DISABLED"
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
FILE_ENDPOINT: Final = "telemetry.traces.otlp_endpoint"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where spans go.

    Attributes:
        url: Whole URL, `http` or `https`, path included.
        headers: To send with each batch, such as a token; never logged.
        is_compressed: Whether batches are gzipped.
        timeout_s: What one try may take; infinite for no limit.
        ca_file: Certificates (PEM) by which an `https` collector is known; empty for the system's.
        client_cert_file, client_key_file: By which it knows us (PEM); empty for none.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    is_compressed: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""

    @property
    def shown(self) -> str:
        """The URL as the log may show it: without user information and query, which could be secrets."""
        return _shown(self.url)


def decide(endpoint: str | None, variables: Variables) -> tuple[Target | None, str, Mapping[str, object]]:
    """
    Whether spans are exported, where to, and who said so.

    Args:
        endpoint: The file's.

    Returns:
        The target or None; the source that won; by source, all that said something, the winner first.
    """
    # The variables' URLs may hold secrets; the one that wins is shown without them, the others only named.
    named: dict[str, object] = {name: "set" for name in _ENDPOINTS if variables.text(name)}
    by = _turned_off_by(variables)
    off: dict[str, object] = {by: True if by == _DISABLED else variables.text(by)} if by else {}
    if by and not endpoint:
        return None, by, off | named
    try:
        target = target_of(endpoint, variables)
    except ValueError as error:
        variables.complain(f"span_export_off error={str(error)!r}")
        target = None
    said: dict[str, object] = {FILE_ENDPOINT: target.shown if target else None} if endpoint else {}
    said |= named | off
    if not said and target is not None:
        said[_EXPORTER] = variables.text(_EXPORTER)
    return target, next(iter(said), "default"), said


def _turned_off_by(variables: Variables) -> str:
    """Name of the variable that turns export off, or an empty string."""
    if variables.is_true(_DISABLED):
        return _DISABLED
    wanted = _exporters(variables)
    if not wanted or "otlp" in wanted:
        return ""
    others = " ".join(sorted(wanted & _OTHER_EXPORTERS))
    if others:
        variables.complain(f"span_exporter_unsupported {_EXPORTER}={others!r}; expected otlp or none, so none is used")
    return _EXPORTER


def _exporters(variables: Variables) -> set[str]:
    wanted = {name.strip() for name in variables.word(_EXPORTER).split(",")} - {""}
    unknown = wanted - _OTHER_EXPORTERS - {"otlp", "none"}
    if unknown:
        variables.complain(
            f"span_exporter_unknown {_EXPORTER}={' '.join(sorted(unknown))!r:.60}; expected otlp or none"
        )
    return wanted - unknown


def target_of(endpoint: str | None, variables: Variables) -> Target | None:
    """
    Where spans go: the file's endpoint, else the environment's; None when neither names one, or it speaks gRPC only.

    `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is used as it is; to `OTEL_EXPORTER_OTLP_ENDPOINT` and the file's endpoint
    `/v1/traces` is added, unless the file's already ends so. Compression is `OTEL_EXPORTER_OTLP_COMPRESSION` if set;
    else gzip, but none to this machine, where it would only cost both sides CPU.

    Raises:
        ValueError: The URL is not http or https, has no host, or a header cannot be sent.
    """
    url = _url(endpoint, variables)
    if not url or not _is_spoken(url, endpoint, variables):
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or (parts.port is not None and parts.port < 1):
        raise ValueError(f"expected an http or https URL of a collector, got {_shown(url)!r}")
    # Compressing for this machine would cost both sides CPU and save nothing.
    is_local = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    compression = _compression(variables)
    return Target(
        url,
        _headers(variables.text(*_both("HEADERS"))),
        compression == "gzip" if compression else not is_local,
        _timeout_s(variables),
        variables.text(*_both("CERTIFICATE")),
        variables.text(*_both("CLIENT_CERTIFICATE")),
        variables.text(*_both("CLIENT_KEY")),
    )


def _both(name: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"


def _url(endpoint: str | None, variables: Variables) -> str:
    if endpoint:
        return endpoint if endpoint.rstrip("/").endswith(_PATH) else endpoint.rstrip("/") + _PATH
    own, base = (variables.text(name) for name in _ENDPOINTS)
    if not own and not base and "otlp" in _exporters(variables):
        base = DEFAULT_ENDPOINT
    return own or (base and base.rstrip("/") + _PATH)


def _is_spoken(url: str, endpoint: str | None, variables: Variables) -> bool:
    """Whether the collector is asked in a protocol that there is."""
    names = _both("PROTOCOL")
    protocol, by = variables.word(*names), variables.first(*names)
    if protocol == "grpc" and not endpoint:
        variables.complain(f"otlp_grpc_unsupported {by}=grpc; no spans are exported: {_USE_HTTP}")
        return False
    if protocol not in ("http/protobuf", "grpc", ""):
        variables.complain(f"otlp_protocol_unsupported {by}={protocol!r:.60}; http/protobuf is used instead")
    authority = (url.partition("://")[2] or url).partition("/")[0]
    if protocol != "http/protobuf" and authority.endswith(_GRPC_PORT):
        what = f"otlp_port_of_grpc url={_shown(url)!r}; port 4317 is gRPC's, which is not spoken"
        variables.complain(f"{what}: {_USE_HTTP}")
    return True


def _compression(variables: Variables) -> str:
    names = _both("COMPRESSION")
    said = variables.word(*names)
    if said in ("", "gzip", "none"):
        return said
    variables.complain(f"otlp_compression_unknown {variables.first(*names)}={said!r:.60}; expected gzip or none")
    return ""


def _timeout_s(variables: Variables) -> float:
    """ "Any value that represents a duration MUST be an integer representing a number of milliseconds"; 0: no limit."""
    names = _both("TIMEOUT")
    said = variables.text(*names)
    if not said:
        return DEFAULT_TIMEOUT_S
    if not (said.isascii() and said.isdigit()):
        by = variables.first(*names)
        variables.complain(f"otlp_timeout_invalid {by}={said!r:.60}; expected a whole number of milliseconds")
        return DEFAULT_TIMEOUT_S
    return int(said[:12]) / 1000 or inf


def _headers(given: str) -> tuple[tuple[str, str], ...]:
    """`key1=value1,key2=value2`, percent-encoded as W3C Baggage (OTLP exporter specification)."""
    pairs = []
    for pair in given.split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip():
            name, content = unquote(key.strip()), unquote(value.strip())
            if not name.isascii() or not (name + content).isprintable() or any(ord(char) > 255 for char in content):
                raise ValueError(f"expected a header that can be sent in OTEL_EXPORTER_OTLP_HEADERS, got {name!r}")
            pairs.append((name, content))
    return tuple(pairs)


def _shown(url: str) -> str:
    scheme, slashes, rest = url.partition("//")
    return scheme + slashes + rest.partition("?")[0].rpartition("@")[2]
