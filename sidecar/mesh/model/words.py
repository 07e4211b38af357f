"""Names of services, instances and ports, and the hosts by which services are called. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Annotated, Final

from sidecar.config.values.addresses import parse_listened_host
from sidecar.config.values.base import Reads, expected, refused
from sidecar.config.values.units import parse_percent
from sidecar.config.yaml.scalars import Spelled
from sidecar.mesh.told import NAME_PATTERN, RESERVED
from sidecar.spiffe import SCHEME, SpiffeError, parse_workload_id

OF_SIDECARS: Final = {"app": "every sidecar's own app", "passthrough": "what is sent as addressed"}
"""What upstreams of these names mean in every sidecar."""

PORT_MARK: Final = "port-"
"""How the last part of an upstream's name begins that is for a further port, so no instance's may."""

MESH: Final = "mesh"
"""In `callers`: every service of the mesh."""

ANYONE: Final = "anyone"
"""In `callers`: also who is not of the mesh."""

CONTROL: Final = "control"
"""The first segment of the control plane's own identity."""

_RENAME: Final = "name the service otherwise; it may keep the host"
_NAME: Final = re.compile(NAME_PATTERN)
_WHAT: Final = "a name of up to 63 lower-case letters, digits and `-`"


def parse_name(written: object) -> str:
    """Read the name of a mesh, an instance or a port."""
    if not isinstance(written, str) or _NAME.fullmatch(written) is None:
        lower = written.lower().replace("_", "-") if isinstance(written, str) else ""
        raise expected(_WHAT, f"did you mean `{lower}`?" if _NAME.fullmatch(lower) else "")
    return str(written)


def parse_service_name(written: object) -> str:
    """Read the name of a service."""
    name = parse_name(written)
    if name in RESERVED:
        raise refused(f"the name `{name}` is reserved", _RENAME)
    if name in OF_SIDECARS:
        raise refused(f"the name `{name}` means {OF_SIDECARS[name]}", _RENAME)
    return name


def parse_instance_name(written: object) -> str:
    """Read the name of a subset of a service's instances."""
    name = parse_name(written)
    if name.startswith(PORT_MARK):
        raise refused(f"names that begin with `{PORT_MARK}` are those of further ports", "name the instances otherwise")
    return name


def parse_service_host(written: object) -> str:
    """Read a host, with or without a port; returned in lower case, without a dot at the end."""
    if isinstance(written, str) and "*" in written:
        raise expected("one host, without `*`", "a service has names of its own: a pattern would take others'")
    return parse_listened_host(written)


def parse_wave(written: object) -> str | float:
    """Read `one`, or a percentage of more than 0 as a number up to 100."""
    if written == "one" and not isinstance(written, Spelled):
        return "one"
    what = "`one` or a percentage such as `10%`"
    if not isinstance(written, str) or not written.endswith("%"):
        raise expected(what)
    share = parse_percent(written)
    if share <= 0:
        raise expected("a percentage of more than 0")
    return share


def parse_caller(written: object) -> str:
    """Read the name of a service, `mesh`, or `anyone`."""
    if written in (MESH, ANYONE):
        return str(written)
    if isinstance(written, str) and any(mark in written for mark in ":/."):
        raise expected("a service, `mesh`, `anyone` or a mapping", f"did you mean `{{from: {written}}}`?")
    name = parse_name(written)
    if name in RESERVED:
        raise expected("a service, `mesh`, `anyone` or a mapping such as `{from: storefront, methods: [GET]}`")
    return name


def parse_own_identity(written: object) -> str:
    """Read the path of a SPIFFE ID, without the `/` that it begins with."""
    what = "the path of a SPIFFE ID, such as `storefront` or `ns/shop/sa/storefront`"
    if not isinstance(written, str):
        raise expected(what)
    if written.startswith(SCHEME):
        raise expected(what, "leave out the trust domain, which is the mesh: what follows it is the path")
    try:
        parse_workload_id(f"{SCHEME}mesh/{written}")
    except SpiffeError as error:
        raise expected(what, str(error)) from None
    if written.partition("/")[0] == CONTROL:
        raise refused("identities that begin with `control` are the control plane's", "name the service's own")
    return str(written)


_NAME_SCHEMA: Final = {"type": "string", "pattern": f"^{NAME_PATTERN}$"}

MeshName = Annotated[str, Reads(parse_name, _NAME_SCHEMA)]
PortName = Annotated[str, Reads(parse_name, _NAME_SCHEMA)]
ServiceName = Annotated[str, Reads(parse_service_name, _NAME_SCHEMA)]
InstanceName = Annotated[str, Reads(parse_instance_name, _NAME_SCHEMA)]
ServiceHost = Annotated[str, Reads(parse_service_host, {"type": "string"})]
Wave = Annotated[str | float, Reads(parse_wave, {"anyOf": [{"const": "one"}, {"type": "string", "pattern": "%$"}]})]
CallerName = Annotated[str, Reads(parse_caller, _NAME_SCHEMA)]
OwnIdentity = Annotated[str, Reads(parse_own_identity, {"type": "string", "minLength": 1})]
