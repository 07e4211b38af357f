"""`sidecar capture install`. *Cold.*"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from sidecar.capture.exclusions import parse_exclusions, parse_ports
from sidecar.capture.netfilter.kernel import KernelError
from sidecar.capture.netfilter.table import RulesDifferError
from sidecar.capture.netfilter.table import install as put
from sidecar.capture.rules import INBOUND_PORT, OUTBOUND_PORT, SIDECAR_USER, PortRange, Wanted, rules_of
from sidecar.capture.shown import as_iptables, as_nft
from sidecar.cli.capture.failures import explained, has_no_nftables

_OF_THE_FIRST_NAMESPACE: Final = Path("/proc/sys/net/core/netdev_budget")
"""A setting of the whole machine, which other network namespaces than its first do not have."""


@click.command("install", short_help="Lead the app's connections to its sidecar.")
@click.option("--outbound-port", default=OUTBOUND_PORT, show_default=True, type=click.IntRange(1, 65535))
@click.option("--inbound-port", default=INBOUND_PORT, show_default=True, type=click.IntRange(1, 65535))
@click.option("--user", default=SIDECAR_USER, show_default=True, type=click.IntRange(0), help="Its own, by number.")
@click.option("--inbound-ports", metavar="PORT,...", help="Take only these incoming connections.")
@click.option("--exclude-outbound", default="", metavar="PORT|NETWORK,...", help="Leave these outgoing ones alone.")
@click.option("--exclude-inbound", default="", metavar="PORT|NETWORK,...", help="And these incoming ones.")
@click.option(
    "--exclude-user", multiple=True, type=click.IntRange(0), help="Leave alone what this user sends; repeatable."
)
@click.option("--host", is_flag=True, help="Do it in a machine's own network, too; needs --inbound-ports.")
@click.option("--dry-run", type=click.Choice(["nft", "iptables"]), help="Print the rules, and change nothing.")
def install(
    outbound_port: int, inbound_port: int, user: int, inbound_ports: str | None, exclude_outbound: str,
    exclude_inbound: str, exclude_user: tuple[int, ...], host: bool, dry_run: str | None,
) -> None:  # fmt: skip
    """
    Lead the connections of this network namespace to the sidecar in it, in place of what an earlier `install` did.

    Outgoing ones of every user but the sidecar's own go to --outbound-port, incoming ones to --inbound-port. All of it
    or nothing is done, and read back; what others have put there stays. Needs NET_ADMIN.
    """
    try:
        wanted = Wanted(
            outbound_port, inbound_port, user, None if inbound_ports is None else parse_ports(inbound_ports),
            *parse_exclusions(exclude_outbound), exclude_user, *parse_exclusions(exclude_inbound),
        )  # fmt: skip
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    rules = rules_of(wanted)
    if dry_run is not None:
        click.echo(as_nft(rules) if dry_run == "nft" else "\n".join(as_iptables(rules)), nl=dry_run != "nft")
        return
    _judge_place(host, wanted.inbound_ports)
    try:
        put(rules)
    except KernelError as error:
        click.echo(f"nothing has changed: {explained(error)}", err=True)
        if has_no_nftables(error):
            click.echo("iptables can do the same, as root:\n" + "\n".join(as_iptables(rules)), err=True)
        sys.exit(1)
    except RulesDifferError as error:
        click.echo(f"not captured as was meant: {error}; `sidecar capture uninstall` takes it away", err=True)
        sys.exit(1)
    click.echo(f"captured: outgoing connections by {outbound_port}, incoming by {inbound_port}; {len(rules)} rules")


def _judge_place(is_wanted: bool, inbound_ports: tuple[PortRange, ...] | None) -> None:
    """A whole machine is not captured by mistake: its ssh would go on, and hardly anything else."""
    if not _OF_THE_FIRST_NAMESPACE.exists():
        return
    if not is_wanted:
        raise click.UsageError(
            "this is a machine's own network, of which all processes would be captured; --host says so"
        )
    if not inbound_ports:
        raise click.UsageError("with --host, say which ports are the app's: --inbound-ports 8080,...")
