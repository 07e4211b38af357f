"""`sidecar wait`: block until a sidecar is ready, for apps that must not start before it. *Cold.*"""

from __future__ import annotations

import http.client
import sys
import time

import click

from sidecar.config.values.units import parse_duration
from sidecar.config.yaml.scalars import resolve_plain

POLL_S = 0.1
TRY_S = 2.0
NOT_READY = 1
"""Exit code when the time is over."""


def seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A duration as the configuration file writes it."""
    try:
        return parse_duration(resolve_plain(value) if value else value)
    except ValueError:
        raise click.BadParameter(f"expected a duration such as `30s` or `2m`, found `{value}`") from None


@click.command("wait", short_help="Block until a sidecar is ready.")
@click.option(
    "--address", default="127.0.0.1:15020", envvar="SIDECAR_READY", show_default=True, show_envvar=True,
    metavar="HOST:PORT", help="The sidecar's metrics or admin listener.",
)  # fmt: skip
@click.option("--timeout", default="60s", show_default=True, callback=seconds, help="How long to wait; 0: one look.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing.")
def wait(address: str, timeout: float, quiet: bool) -> None:
    """
    Block until `/ready` of a sidecar is 200: its listeners are bound and a configuration is live.

    The exit code is 0 when it is ready and 1 when the time is over, with one line on standard error that says why it is
    not ready. In a shell: `sidecar wait && exec my-app`.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"expected an address such as `127.0.0.1:15020`, found `{address}`")
    deadline = time.monotonic() + timeout
    while True:
        why = _why_not_ready(host.strip("[]"), int(port), max(min(TRY_S, deadline - time.monotonic()), POLL_S))
        if not why:
            return
        if time.monotonic() + POLL_S > deadline:
            break
        time.sleep(POLL_S)
    if not quiet:
        click.echo(f"the sidecar at {address} is not ready after {timeout:g} s: {why}", err=True)
    sys.exit(NOT_READY)


def _why_not_ready(host: str, port: int, timeout_s: float) -> str:
    """One line, or nothing if it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        text = answer.read(200).decode("latin-1").strip()
        return "" if answer.status == 200 else f"{answer.status} {text.splitlines()[0] if text else ''}".strip()
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
