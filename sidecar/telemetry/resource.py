"""
Who the telemetry is about: OpenTelemetry's resource. *Cold.*

The file wins over the environment (`OTEL_SERVICE_NAME`, then `OTEL_RESOURCE_ATTRIBUTES`). The SDK is imported only
where spans are exported, in the exporter's thread: its import takes 50 ms that other users need not pay.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

INSTANCE_ID = str(uuid.uuid4())
"""`service.instance.id` of this process, unless the environment names one: a random UUID, as the conventions ask."""

DEFAULT_SERVICE_NAME = "unknown_service:sidecar"


def service_attributes(name: str, version: str, namespace: str, environment: Mapping[str, str]) -> dict[str, str]:
    """
    The resource's attributes as far as they are ours: `service.*` and those of `OTEL_RESOURCE_ATTRIBUTES`.

    Args:
        name: As in the file; empty if it says nothing, and so for the others.
        environment: `os.environ`.
    """
    attributes = {"service.instance.id": INSTANCE_ID, "service.name": DEFAULT_SERVICE_NAME}
    for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip():
            attributes[key.strip()] = unquote(value.strip())
    named = {
        "service.name": name or environment.get("OTEL_SERVICE_NAME", ""),
        "service.version": version,
        "service.namespace": namespace,
    }
    return attributes | {key: value for key, value in named.items() if value}


def encoded_resource(attributes: Mapping[str, str]) -> bytes:
    """
    The resource as an OTLP `Resource` message, with what the SDK adds (`telemetry.sdk.*`, detectors that the
    environment asks for). Slow at first; call it outside the event loop.
    """
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
    from opentelemetry.sdk.resources import Resource

    def any_value(value: object) -> AnyValue:
        if isinstance(value, bool):
            return AnyValue(bool_value=value)
        if isinstance(value, int):
            return AnyValue(int_value=value)
        if isinstance(value, float):
            return AnyValue(double_value=value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
        return AnyValue(string_value=str(value))

    resource = Resource.create(dict(attributes))
    pairs = [KeyValue(key=key, value=any_value(value)) for key, value in resource.attributes.items()]
    return ResourceMessage(attributes=pairs).SerializeToString()
