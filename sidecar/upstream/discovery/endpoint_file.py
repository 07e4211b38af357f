"""
A file of endpoints, in the form of Prometheus's `file_sd`. *Cold, pure but for reading.*

    [{"targets": ["10.0.0.11:8080", "10.0.0.12:8080"], "labels": {"zone": "eu-west-1a", "weight": "2", "tls": "true"}}]

Of the labels `zone`, `weight` and `tls` count; `version` and any other are for those who read the file.
"""

from __future__ import annotations

import json
import os
from math import isfinite
from typing import Final

from sidecar.net.address import Address, TcpAddress, parse_address
from sidecar.upstream.discovery.endpoint_set import EndpointSet

MAX_BYTES: Final = 10 * 1024 * 1024
"""Some 100,000 endpoints."""

_MAX_WEIGHT: Final = 1_000_000.0
_MAX_ZONE_CHARS: Final = 128
_SHOWN_CHARS: Final = 60


class EndpointFileError(Exception):
    """A file that cannot be used, and why, with the place."""


def read_endpoints(path: str) -> bytes:
    """
    The file's content. Blocks; a FIFO is not waited for.

    Raises:
        OSError, ValueError: It cannot be read.
        EndpointFileError: It is too large.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise EndpointFileError(f"expected at most {MAX_BYTES} octets, found more")
    return raw


def parse_endpoints(raw: bytes) -> EndpointSet:
    """
    Understand a file. An address that comes twice counts with the sum of its weights, and is spoken to by TLS if it is
    said once.

    Raises:
        EndpointFileError: It is not JSON, or not of that form.
    """
    try:
        groups = json.loads(raw)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}, column {error.colno}: " if isinstance(error, json.JSONDecodeError) else ""
        what = error.msg.lower() if isinstance(error, json.JSONDecodeError) else "it is not UTF-8, or nested too deeply"
        raise EndpointFileError(f"{where}expected JSON: {what}") from None
    if not isinstance(groups, list):
        raise _refusal("", "a list of `{targets, labels}`", groups)
    weights: dict[Address, float] = {}
    zones: dict[Address, str] = {}
    tls: dict[Address, bool] = {}
    for index, group in enumerate(groups):
        at = f"[{index}]"
        if not isinstance(group, dict):
            raise _refusal(at, "a mapping `{targets, labels}`", group)
        unknown = next((key for key in group if key not in ("targets", "labels")), None)
        if unknown is not None:
            raise _refusal(at, "the keys `targets` and `labels`", unknown)
        labels = group.get("labels", {})
        if not isinstance(labels, dict):
            raise _refusal(f"{at}.labels", "a mapping", labels)
        weight = _weight(labels.get("weight", 1), f"{at}.labels.weight")
        zone = _zone(labels.get("zone", ""), f"{at}.labels.zone")
        is_tls = _flag(labels["tls"], f"{at}.labels.tls") if "tls" in labels else None
        targets = group.get("targets")
        if not isinstance(targets, list):
            raise _refusal(f"{at}.targets", "a list of addresses", targets)
        for number, target in enumerate(targets):
            address = _address(target, f"{at}.targets[{number}]")
            weights[address] = weights.get(address, 0.0) + weight
            if zone:
                zones[address] = zone
            if is_tls is not None:
                tls[address] = is_tls or tls.get(address, False)
    return EndpointSet(weights, zones, tls)


def _address(written: object, at: str) -> Address:
    if isinstance(written, str):
        try:
            address = parse_address(written)
        except ValueError as error:
            raise EndpointFileError(f"{at}: {error}") from None
        if not isinstance(address, TcpAddress) or address.port:
            return address
    raise _refusal(at, "an address such as `10.0.0.11:8080`", written)


def _weight(written: object, at: str) -> float:
    # Prometheus has strings for labels; people write numbers.
    if isinstance(written, str | int | float) and not isinstance(written, bool):
        try:
            weight = float(written)
        except (ValueError, OverflowError):
            weight = -1.0
        if isfinite(weight) and 0 <= weight <= _MAX_WEIGHT:
            return weight
    raise _refusal(at, f"a number from 0 to {_MAX_WEIGHT:g}", written)


def _zone(written: object, at: str) -> str:
    if isinstance(written, str) and len(written) <= _MAX_ZONE_CHARS and (not written or written.isprintable()):
        return written
    raise _refusal(at, f"a name of at most {_MAX_ZONE_CHARS} characters", written)


def _flag(written: object, at: str) -> bool:
    # Strings for Prometheus, booleans from people.
    if written in ("true", "false"):
        return written == "true"
    if isinstance(written, bool):
        return written
    raise _refusal(at, '"true" or "false"', written)


def _refusal(at: str, wanted: str, found: object) -> EndpointFileError:
    shown = json.dumps(found)
    if len(shown) > _SHOWN_CHARS:
        shown = shown[:_SHOWN_CHARS] + "..."
    return EndpointFileError(f"{at}: expected {wanted}, found {shown}" if at else f"expected {wanted}, found {shown}")
