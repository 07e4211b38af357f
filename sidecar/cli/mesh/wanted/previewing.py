"""
What a mesh's new files would do with the requests that its running sidecars have seen last. *Cold.*

Each sidecar that is asked compares the file that it would get with the one that it runs, by its own preview; nothing of
a request leaves it but what its report says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar.cli.admin_client import AskError, printable
from sidecar.cli.insight.preview import lines_of
from sidecar.cli.mesh.asking import ControlPlane
from sidecar.config.problems import ConfigError
from sidecar.mesh.compile.service import compile_service

if TYPE_CHECKING:
    from sidecar.mesh.mesh import Mesh

MOST: Final = 3
"""Instances of a service that are asked, each of another version first: what they see is alike."""

TIMEOUT_S: Final = 40.0
_CONNECTED: Final = ("healthy", "unhealthy", "starting")


@dataclass(frozen=True, slots=True)
class Previewed:
    """
    What an instance answered.

    Attributes:
        service: Whose it is.
        instance: Which was asked.
        report: As `GET /preview` makes it; None where there is none.
        why: Then why not.
    """

    service: str
    instance: str
    report: Mapping[str, Any] | None
    why: str = ""


def previews(mesh: Mesh, changes: Sequence[Mapping[str, Any]], control: tuple[str, str, str]) -> list[Previewed]:
    """
    Of each service whose file would change, what its sidecars say of it.

    Args:
        mesh: The new one.
        changes: As `mesh.diff` has them.
        control: URLs, token file and roots of the control plane.

    Raises:
        AskError: There is no control plane that answers.
    """
    plane = ControlPlane(*control)
    changed = [str(one["service"]) for one in changes if one["kind"] == "changed"]
    if not changed:
        return []
    instances = plane.get("/v1/mesh")["instances"]
    found: list[Previewed] = []
    for service in changed:
        asked = _chosen([one for one in instances if one["service"] == service])
        if not asked:
            found.append(Previewed(service, "", None, "none of its sidecars is connected"))
        for one in asked:
            found.append(_ask(plane, mesh, service, one))
    return found


def _chosen(instances: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that are asked: one of each version, then others."""
    connected = [one for one in instances if one["state"] in _CONNECTED]
    first = list({one["version"]: one for one in reversed(connected)}.values())
    others = [one for one in connected if all(one is not other for other in first)]
    return [*first, *others][:MOST]


def _ask(plane: ControlPlane, mesh: Mesh, service: str, instance: Mapping[str, Any]) -> Previewed:
    name = str(instance["id"])
    try:
        compiled = compile_service(mesh, service, instance["version"] or "")
    except ConfigError as error:
        return Previewed(service, name, None, str(error.problems[0]))
    body = {"instance": name, "kind": "preview", "file": compiled.text}
    try:
        status, said = plane.post("/v1/ask", body, TIMEOUT_S)
    except AskError as error:
        return Previewed(service, name, None, str(error))
    if status != 200:
        why = str(said.get("error", f"the control plane answered {status}"))
        return Previewed(service, name, None, "its release makes no previews" if why == "unsupported" else why)
    return Previewed(service, name, said["answer"])


def told(found: Sequence[Previewed]) -> Iterator[str]:
    """What they answered, as a person reads it."""
    for one in found:
        yield ""
        who = f"{one.service}, {one.instance}" if one.instance else one.service
        if one.report is None:
            yield printable(f"{who}: no preview: {one.why}")
        elif one.report["problems"]:
            yield printable(f"{who}: refuses the file: {one.report['problems'][0]['text']}")
        else:
            lines = lines_of(one.report)
            yield printable(f"{who}: {next(lines)}")
            yield from (f"  {line}" if line else "" for line in lines)
