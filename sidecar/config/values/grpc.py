"""
What gRPC is over HTTP (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md): its paths, content type, statuses. *Cold, pure.*

Without pydantic, because `compile` says the same to the data path that the rules of a file are about.
"""

from __future__ import annotations

from typing import Final

METHOD: Final = "POST"

CONTENT_TYPE: Final = "application/grpc([+;].*)?"
"""
The whole value of `content-type`, in any case (RE2). Not of `application/grpc-web`, which is another protocol.
"""

STATUSES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""By their numbers (doc/statuscodes.md)."""


def path_of(service: str | None, method: str | None) -> tuple[str, str] | None:
    """
    What the path of a call must be, as kind and operand of a test of paths.

    Args:
        service: With its package, `shop.Recommendations`; None: any.
        method: None: any of the service.
    """
    if service is None:
        return None
    return ("prefix", f"/{service}") if method is None else ("exact", f"/{service}/{method}")
