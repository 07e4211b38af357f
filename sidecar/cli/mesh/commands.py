"""The command `sidecar mesh` and the table of its subcommands, each imported only when it is called."""

from __future__ import annotations

import click

from sidecar.cli.commands import LazyGroup

_COMMANDS = {
    "check": ("sidecar.cli.mesh.check", "check", "Check a mesh's files and print every problem."),
    "compile": ("sidecar.cli.mesh.compile", "compile_", "Print the file that a service's sidecars get."),
    "names": ("sidecar.cli.mesh.names", "names", "List what each service must be able to resolve."),
    "explain": ("sidecar.cli.mesh.explain", "explain", "Say where a request would go, and whether it is admitted."),
    "diff": (
        "sidecar.cli.mesh.wanted.diff",
        "diff",
        "Say which files and routes differ, of two directories or in the running mesh.",
    ),
    "push": ("sidecar.cli.mesh.wanted.push", "push", "Make a directory what the control plane wants."),
    "rollback": ("sidecar.cli.mesh.wanted.rollback", "rollback", "Want an earlier revision's files again."),
    "hurry": ("sidecar.cli.mesh.wanted.hurry", "hurry", "Skip the waves of rollouts that are under way."),
    "learn": (
        "sidecar.cli.mesh.identity.learn",
        "learn",
        "Propose `callers` and `calls` by what was really called.",
    ),
    "schema": ("sidecar.cli.mesh.schema", "schema", "Print the JSON Schema of a mesh's files."),
    "status": ("sidecar.cli.mesh.status", "status", "Show the wanted revision and what every instance runs."),
    "top": ("sidecar.cli.mesh.top", "top", "Show who calls whom, how often and how well."),
    "token": ("sidecar.cli.mesh.authority.token", "token", "Make, list and revoke join tokens."),
    "ca": ("sidecar.cli.mesh.authority.ca", "ca", "Make, show, back up and rotate the mesh's own authority."),
    "install": (
        "sidecar.cli.mesh.install.command",
        "install",
        "Print the manifests of control plane and webhook for Kubernetes.",
    ),
    "wait": ("sidecar.cli.mesh.wait", "wait", "Block until everyone runs a revision."),
}


@click.group("mesh", cls=LazyGroup, table=_COMMANDS)
def mesh() -> None:
    """Many sidecars from one directory: what it says, what each of them gets, where requests go."""
