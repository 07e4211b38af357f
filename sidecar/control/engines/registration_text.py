"""A registration as JSON, which another release can read: fields that are not known are ignored. *Pure.*"""

from __future__ import annotations

from typing import Any, get_args

from sidecar.control.engines.interface import Registration
from sidecar.link.fields import Fields, refusal
from sidecar.link.report import MAX_PORTS, Health, Port


def registration_values(registration: Registration) -> dict[str, Any]:
    """For `json.dumps`."""
    return {
        "service": registration.service, "instance": registration.instance, "version": registration.version,
        "zone": registration.zone, "weight": registration.weight, "health": registration.health,
        "holder": registration.holder, "lost": registration.lost_s,
        "ports": {
            name: {"address": port.address, "protocol": port.protocol, "tls": port.is_tls}
            for name, port in registration.ports.items()
        },
    }  # fmt: skip


def read_registration(fields: Fields) -> Registration:
    """
    Understand it.

    Raises:
        MessageError: With the place that is wrong.
    """
    health = fields.text("health", "healthy")
    if health not in get_args(Health):
        raise refusal("health", " or ".join(get_args(Health)), health)
    lost_s = fields.number("lost", -0.0) if fields.all().get("lost") is not None else None
    return Registration(
        service=fields.text("service"),
        instance=fields.text("instance"),
        version=fields.text("version", ""),
        zone=fields.text("zone", ""),
        weight=fields.number("weight", 1.0),
        ports=fields.table("ports", MAX_PORTS, _port),
        health=health,  # type: ignore[arg-type]
        holder=fields.text("holder", ""),
        lost_s=lost_s,
    )


def _port(ports: Fields, name: str) -> Port:
    port = ports.part(name) or Fields({}, name)
    return Port(port.text("address"), port.text("protocol", "http"), port.flag("tls", False))
