"""Access logs of nodes and gateways, of which a mesh has one kind. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Final

from sidecar.importing.appmesh.sources.resource import Resource
from sidecar.importing.draft import Plain
from sidecar.importing.field import Field, WrongError

_OPERATORS: Final = {
    "START_TIME": "start_time", "REQ(:METHOD)": "method", "REQ(:PATH)": "path",
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)": "path", "PROTOCOL": "protocol", "RESPONSE_CODE": "response_code",
    "RESPONSE_FLAGS": "response_flags", "RESPONSE_CODE_DETAILS": "response_code_details",
    "BYTES_RECEIVED": "bytes_received", "BYTES_SENT": "bytes_sent", "DURATION": "duration",
    "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)": "upstream_service_time", "REQ(X-FORWARDED-FOR)": "x_forwarded_for",
    "REQ(USER-AGENT)": "user_agent", "REQ(X-REQUEST-ID)": "request_id", "REQ(:AUTHORITY)": "authority",
    "UPSTREAM_HOST": "upstream_host", "UPSTREAM_CLUSTER": "upstream_cluster", "ROUTE_NAME": "route_name",
    "DOWNSTREAM_REMOTE_ADDRESS": "downstream_remote_address", "TRACE_ID": "trace_id",
}  # fmt: skip
"""Envoy's command operators and what a template here calls the same."""
_OPERATOR: Final = re.compile(r"%([A-Z_]+(?:\([^)%]*\))?)(?::[0-9]+)?%")


def log_of(resources: list[Resource]) -> dict[str, Plain]:
    """
    The mesh's access log: that which most of the resources have; none if none has one.

    App Mesh writes none where nothing is said; a mesh here has one kind for all its sidecars.
    """
    found: list[tuple[str, dict[str, Plain], Field]] = []
    for resource in resources:
        try:
            logging = resource.spec.get("logging") if resource.spec is not None else None
            log = logging.get("accessLog") if logging is not None else None
            file = log.get("file") if log is not None else None
            if file is not None:
                found.append((resource.label, _read(file), file))
        except WrongError as error:
            error.give_up(error.field)
    if not found:
        return {"format": "off"}
    kinds = [kind for _, kind, _ in found]
    common = max(kinds, key=kinds.count)
    for _, kind, file in found:
        if kind == common:
            file.kept("telemetry.access_log of mesh.yaml")
        else:
            hint = "say `telemetry: {access_log: ...}` in the own file of its sidecars"
            file.changed("telemetry.access_log of mesh.yaml is that of most nodes", hint)
    return common


def _read(file: Field) -> dict[str, Plain]:
    path, form = file.need("path"), file.get("format")
    found: dict[str, Plain] = {"path": path.text()}
    if form is None:
        found["format"] = template_of(_DEFAULT) or "json"
        return found
    text = form.get("text")
    if text is None:
        form.changed(
            "telemetry.access_log.format: json, whose keys are always the same", "docs/telemetry.md lists them"
        )
        found["format"] = "json"
        return found
    template = template_of(text.text())
    if template is None:
        hint = "docs/telemetry.md lists what a template may name"
        text.changed("telemetry.access_log.format: json, for not all of its operators are known here", hint)
    else:
        text.changed("telemetry.access_log.format, with our names of its operators")
    found["format"] = template or "json"
    return found


_DEFAULT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS%'
    ' %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%"'
    ' "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)
"""Envoy's own format, which queries that people have stored expect."""


def template_of(text: str) -> str | None:
    """A format of Envoy as a template; None if an operator of it is not known here."""
    parts: list[str] = []
    end = 0
    for match in _OPERATOR.finditer(text):
        name = _OPERATORS.get(match[1])
        if name is None:
            return None
        parts += [_literal(text[end : match.start()]), f"{{{name}}}"]
        end = match.end()
    parts.append(_literal(text[end:]))
    found = "".join(parts).rstrip("\n")
    return found if "%" not in found.replace("%%", "") and "{" in found and len(found) <= 4096 else None


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
