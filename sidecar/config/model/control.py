"""The control plane that a sidecar follows, and how the sidecar is known there. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Literal

from sidecar.config.values.addresses import Host, HttpUrl
from sidecar.config.values.base import Model, OneOrMany, setting
from sidecar.config.values.units import Weight, choice
from sidecar.config.values.words import FilePath, FreeName


class Control(Model):
    """The control plane that says what this sidecar runs."""

    addresses: Annotated[list[HttpUrl], OneOrMany()] = setting(..., "A URL such as `https://control:15010`, or a list.")
    token_file: FilePath | None = setting(
        None, "A file with the token for joining the mesh, or the bearer token that it asks for; followed."
    )
    trust: FilePath | None = setting(
        None, "Certificates (PEM) that its own must be signed by; default: what the system trusts."
    )
    form: Annotated[Literal["auto", "stream", "poll"], choice("auto", "stream", "poll")] = setting(
        "auto", "How news comes: a stream, long polls, or `auto`: polls only where no stream comes through."
    )
    address: Host | None = setting(
        None, "Name or IP address by which others reach this instance; default: it is found out."
    )
    instance: FreeName | None = setting(None, "A name that no other instance has; default: one is made.")
    weight: Weight = setting(1.0, "Share of the service's requests relative to its other instances.")
