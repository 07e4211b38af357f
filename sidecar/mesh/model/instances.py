"""Where the instances of a service are found, all of them or a subset that routes name. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final

from sidecar.config.model.root import EndpointSpec
from sidecar.config.values.addresses import DnsAddress
from sidecar.config.values.base import Model, Reads, Short, expected, setting
from sidecar.config.values.units import value_of
from sidecar.config.values.words import FilePath, FreeName

_KUBERNETES_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_KEY: Final = re.compile(r"/?[\x21-\x7e]{1,1000}")


def parse_kubernetes_name(written: object) -> str:
    """Read the name of an object (RFC 1123)."""
    if not isinstance(written, str) or _KUBERNETES_NAME.fullmatch(written) is None:
        raise expected("a name of Kubernetes: lower-case letters, digits, `-` and `.`")
    return str(written)


def parse_kubernetes_port(written: object) -> str | int:
    """Read a port's name, or its number."""
    value = value_of(written)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    if isinstance(written, str) and re.fullmatch(r"[a-z0-9-]{1,63}", written) and re.search("[a-z]", written):
        return str(written)
    raise expected("a port's name such as `http`, or a number from 1 to 65535")


def parse_key(written: object) -> str:
    """Read a key of etcd, or the beginning of several."""
    if not isinstance(written, str) or _KEY.fullmatch(written) is None:
        raise expected("a key of etcd such as `/endpoints/recommendations/`")
    return str(written)


KubernetesName = Annotated[str, Reads(parse_kubernetes_name, {"type": "string"})]
KubernetesPort = Annotated[
    str | int,
    Reads(parse_kubernetes_port, {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}),
]
EtcdKey = Annotated[str, Reads(parse_key, {"type": "string", "minLength": 1})]
Endpoints = list[Annotated[EndpointSpec, Short("address", "an address, or a mapping `{address, weight, zone}`")]]


class Registered(Model):
    """Those whose sidecars say so; all that are said must be equal."""

    version: FreeName | None = setting(None, "The app's version, as its sidecar was told it; default: any.")
    zone: FreeName | None = setting(None, "Where the sidecar is; default: anywhere.")


class KubernetesSource(Model):
    """The ready endpoints of a Service, from its EndpointSlices."""

    service: KubernetesName = setting(..., "Name of the Service.")
    namespace: KubernetesName | None = setting(None, "Its namespace; default: that of the control plane.")
    port: KubernetesPort = setting(..., "Name or number of the Service's port for the first of `ports`.")


class InstanceSource(Model):
    """Where these instances are found: exactly one of the six."""

    is_one_value: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("registered", "kubernetes", "etcd", "file", "dns", "endpoints")

    registered: Registered | None = setting(None, "Those whose sidecars registered with these labels; `{}`: all.")
    kubernetes: KubernetesSource | None = setting(None, "Endpoints of a Service of Kubernetes.")
    etcd: EtcdKey | None = setting(None, "Keys of etcd that begin so, each with an endpoint as JSON.")
    file: FilePath | None = setting(
        None, "A file that the control plane follows, in the form of Prometheus's `file_sd`, as JSON."
    )
    dns: DnsAddress | None = setting(None, "`name:port`; every A and AAAA record is an endpoint; resolved again.")
    endpoints: Endpoints | None = setting(None, "Addresses.")

    @property
    def given(self) -> list[str]:
        """The kinds that are given; one, in a mesh that was accepted."""
        return [kind for kind in self.kinds if getattr(self, kind) is not None]
