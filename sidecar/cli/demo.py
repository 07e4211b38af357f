"""`sidecar demo`: a mesh of services with their sidecars, or one sidecar, with traffic. *Cold.*"""

from __future__ import annotations

import sys

import click

SINGLE_PER_SECOND = 200.0
CAPTURED_PER_SECOND = 5.0
"""A page is three new connections and their sidecars' own, as of apps that keep none."""
MESH_PER_SECOND = 50.0
"""A page of the mesh passes six times through a sidecar, and all of them share the machine with its customers."""


@click.command("demo")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 86400), default=None,
    help="Run unattended for so long, then check every claim; without it, run until Ctrl-C.",
)  # fmt: skip
@click.option(
    "--requests-per-second",
    type=click.FloatRange(1, 1000),
    default=None,
    help="Of the traffic; default: 50 in the mesh, 200 with --single, 5 with --captured.",
)
@click.option("--single", is_flag=True, help="One sidecar with a file of its own, without a control plane.")
@click.option(
    "--captured", is_flag=True, help="Apps that know of no sidecar, on hosts of their own; as root, on Linux."
)
def demo(seconds: float | None, requests_per_second: float | None, single: bool, captured: bool) -> None:
    """
    Run a mesh, or with --single one app with its sidecar, and show what happens.

    The mesh: a control plane, four services with a sidecar beside each instance, and one without. All are real
    processes on 127.0.0.1, with traffic of their own. It prints what to try: the map, curl commands, and the files to
    edit while it runs. With --captured each service is a host, a network namespace, whose connections the kernel leads
    to its sidecar: HTTP by plain names, Redis, HTTPS.

    Exit codes: 0 ended by Ctrl-C, or with --seconds every claim held; 1 something failed; 2 wrong usage, or no such
    hosts can be made here; 130 interrupted before the claims were checked.
    """
    if single and captured:
        raise click.UsageError("--single and --captured are two demonstrations; choose one")
    if captured:
        from sidecar.demo.captured.show import show as show_captured

        sys.exit(show_captured(seconds, requests_per_second or CAPTURED_PER_SECOND))
    if single:
        from sidecar.demo.single.show import show as show_single

        sys.exit(show_single(seconds, requests_per_second or SINGLE_PER_SECOND))
    from sidecar.demo.mesh.show import show

    sys.exit(show(seconds, requests_per_second or MESH_PER_SECOND))
