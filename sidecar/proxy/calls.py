"""
How long a call of gRPC may take, and how it ended, by what passes of it. *Hot path, but only of gRPC; pure.*
"""

from __future__ import annotations

from math import inf

from sidecar import errors, grpc
from sidecar.errors import ProtocolError
from sidecar.exchange import Exchange
from sidecar.message import Field, Kind, RequestHead, ResponseHead, noted


def time_of(head: RequestHead) -> float:
    """
    Seconds that the client of a call gives it; inf if it says none, or what cannot be read, which is then the server's
    to judge.

    Raises:
        ProtocolError: `RESPONSE_TIMEOUT`: none are left.
    """
    seconds: float | None = noted(head.fields, Kind.GRPC_TIMEOUT) if head.kinds & Kind.GRPC else None
    if seconds is None:
        return inf
    if not seconds:
        raise ProtocolError(errors.RESPONSE_TIMEOUT, "grpc-timeout")
    return seconds


def end_local(exchange: Exchange, status: int, fields: list[Field]) -> None:
    """If the request is gRPC, say in the record how an answer ends it that its route has made."""
    if exchange.head is not None and exchange.head.kinds & Kind.GRPC:
        said = said_by(fields)
        exchange.grpc_status = grpc.status_for_http(status) if said < 0 else said


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
