"""
How a call of gRPC ended, by what passes of its response. *Hot path, but only of gRPC; pure.*
"""

from __future__ import annotations

from sidecar import grpc
from sidecar.message import Field, Kind, ResponseHead, noted


def said_by(fields: list[Field]) -> int:
    """The status in these fields of a head or of trailers, or -1."""
    said: int | None = noted(fields, Kind.GRPC_STATUS)
    return -1 if said is None else said


def said_at_end(trailers: list[Field]) -> int:
    """The status of a call whose response of status 200 has ended; UNKNOWN if the trailers say none."""
    said = said_by(trailers) if trailers else -1
    return grpc.UNKNOWN if said < 0 else said


def said_so_far(head: ResponseHead, is_end: bool, trailers: list[Field]) -> int:
    """
    The status by a head, and what has come with it; -1 if it is still to come.

    A head that says no status and is no 200 stands for one: what comes behind it is no call's.
    """
    said = said_by(head.fields) if head.kinds & Kind.GRPC_STATUS else -1
    if said < 0 and head.status != 200:
        return grpc.status_for_http(head.status)
    return said_at_end(trailers) if said < 0 and is_end else said


def counts_as(status: int, said: int) -> int:
    """
    The status of HTTP as which a response counts to who judges the server by it.

    Args:
        status: Of its head.
        said: The call's; a head that is no 200 speaks for itself.
    """
    return grpc.http_status(said) if status == 200 else status
