"""`mesh.yaml`: what holds for all services. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Literal

from sidecar.config.model.telemetry import Telemetry
from sidecar.config.values.base import Model, OneOrMany, setting, table
from sidecar.config.values.units import Duration, Percent, PositiveDuration, choice, integer
from sidecar.mesh.model.access import InboundDefaults, MeshAuthorization, MeshIdentity
from sidecar.mesh.model.service import Service, Values
from sidecar.mesh.model.words import MeshName, ServiceName, Wave


class ErrorRate(Model):
    """How much worse than the others a wave may be."""

    worse_by: Percent = setting(2.0, "Difference of the shares of requests that failed.", "2%")


class Halt(Model):
    """What stops a service's rollout and takes it back."""

    refused: Annotated[int, integer(1, 1_000_000)] = setting(1, "So many instances that refuse the revision.")
    error_rate: ErrorRate = setting(ErrorRate(), "Failures, compared with the rest of the service.")


class Thin(Model):
    """What is done when a wave has too few requests to be judged."""

    after: PositiveDuration = setting(300.0, "How long they are waited for.", "5m")
    then: Annotated[Literal["go", "hold"], choice("go", "hold")] = setting("go", "`go` on, or `hold` for an operator.")


class RolloutSpec(Model):
    """How a change reaches the instances of the services that it concerns."""

    waves: Annotated[list[Wave], OneOrMany()] = setting(
        ["one", 10.0, 50.0, 100.0],
        "Shares of a service's instances that have the change after each wave; `one`: one instance.",
        ["one", "10%", "50%", "100%"],
    )
    hold: Duration = setting(30.0, "How long a wave is watched before the next.", "30s")
    accept_timeout: PositiveDuration = setting(30.0, "For all of a wave to say that they run it.", "30s")
    halt: Halt = setting(Halt(), "What stops a rollout and takes it back.")
    thin: Thin = setting(Thin(), "What is done when there are too few requests to judge by.")


class Defaults(Values):
    """What holds for every service that does not say otherwise."""

    inbound: InboundDefaults | None = setting(None, "What is done with requests to their apps: `tls`.")


class MeshFile(Model):
    """The mesh's own file."""

    mesh: MeshName = setting(..., "The mesh's name, and its trust domain.")
    defaults: Defaults = setting(Defaults(), "What holds where neither a service nor its callers say otherwise.")
    telemetry: Telemetry | None = setting(None, "What every sidecar tells; a sidecar's own file may say where.")
    access: Annotated[Literal["open", "closed"], choice("open", "closed")] = setting(
        "open", "Who may call a service that names no `callers`: `open`: everyone; `closed`: nobody."
    )
    authorization: MeshAuthorization = setting(
        MeshAuthorization(), "Whether `callers` are enforced, and the platform's rules around those of each service."
    )
    identity: MeshIdentity = setting(MeshIdentity(), "The certificates that the control plane signs.")
    unmatched: Annotated[Literal["passthrough", "deny"], choice("passthrough", "deny")] = setting(
        "passthrough", "Calls to hosts that the mesh does not know: sent as addressed and counted, or 404."
    )
    rollout: RolloutSpec = setting(RolloutSpec(), "How changes reach the instances.")
    services: dict[ServiceName, Service] = table("Services by name, in a mesh of one file; else each has its own.")
