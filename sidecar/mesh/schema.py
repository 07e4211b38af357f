"""The JSON Schemas of a mesh's files, for editors: generated from the models, short forms included. *Cold, pure.*"""

from __future__ import annotations

from typing import Any, Final

from sidecar.config.schema import SCHEMA_ID, schema_of, schema_text
from sidecar.mesh.model.root import MeshFile
from sidecar.mesh.model.service import ServiceFile

KINDS: Final = ("mesh", "service")


def mesh_schema(kind: str = "") -> dict[str, Any]:
    """
    What an editor needs to complete and check a file of a mesh.

    Args:
        kind: `mesh` for mesh.yaml, `service` for a service's file; empty for one schema that takes both.
    """
    if kind == "mesh":
        return schema_of(MeshFile, "mesh")
    if kind == "service":
        return schema_of(ServiceFile, "service of a mesh")
    mesh, service = mesh_schema("mesh"), mesh_schema("service")
    definitions = {**mesh.pop("$defs"), **service.pop("$defs")}
    for schema, name in ((mesh, "MeshFile"), (service, "ServiceFile")):
        del schema["$schema"]
        definitions[name] = schema
    # By the key that a mesh's own file has, so that an editor tells the problems of one kind only.
    return {
        "$schema": SCHEMA_ID,
        "title": "file of a sidecar mesh",
        "if": {"anyOf": [{"required": ["mesh"]}, {"required": ["services"]}]},
        "then": {"$ref": "#/$defs/MeshFile"},
        "else": {"$ref": "#/$defs/ServiceFile"},
        "$defs": definitions,
    }


def mesh_schema_text(kind: str = "") -> str:
    """The schema as text, with a line end; that of both kinds is kept in `config/mesh.schema.json`."""
    return schema_text(mesh_schema(kind))
