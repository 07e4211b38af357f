"""`sidecar mesh ca`: the mesh's own authority, straight at the engine that keeps it. *Cold.*"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from sidecar.cli.admin_client import printable
from sidecar.cli.mesh.authority.engine import engine_options

if TYPE_CHECKING:
    from sidecar.control.engines.interface import Secrets

REFUSED: Final = 1
CANNOT: Final = 2
_MAX_BYTES: Final = 1024 * 1024

Order = Callable[["Secrets"], Coroutine[Any, Any, Any]]

_passphrase = click.option("--passphrase-file", required=True, type=click.Path(), help="Its first line encrypts.")


@click.group("ca", short_help="Make, show, back up and rotate the mesh's own authority.")
def ca() -> None:
    """
    The authority that signs the certificates of a mesh: docs/mesh-identity.md.

    These commands change what the engine keeps, and a control plane that runs takes it up within seconds. They are to
    be run where the engine can be reached: beside the control plane with `--engine files`. Exit codes: 0 done, 1
    refused, 2 the engine or a file could not be used.
    """


@ca.command("init")
@click.option("--trust-domain", default="", metavar="NAME", help="The mesh's name; default: as its files say.")
@click.option("--certificate", default="", type=click.Path(), help="An intermediate that somebody gave, and its chain.")
@click.option("--key", default="", type=click.Path(), help="Its key.")
@click.option("--trust", "trusted", default="", type=click.Path(), help="The roots that it chains to.")
@click.option("--backup", "backup_path", default="", type=click.Path(), help="Put back what `ca backup` wrote.")
@click.option("--passphrase-file", default="", type=click.Path(), help="Of the backup.")
@engine_options
def init(
    trust_domain: str, certificate: str, key: str, trusted: str, backup_path: str, passphrase_file: str, **engine: str
) -> None:
    """
    Make the authority, unless there is one: a root and an intermediate, or what is given.

    With --certificate, --key and --trust the root stays elsewhere, and the intermediate is not renewed here.
    """
    given = (certificate, key, trusted)
    if any(given) and not all(given):
        raise click.UsageError("give --certificate, --key and --trust together")
    if backup_path and (any(given) or not passphrase_file):
        raise click.UsageError("give --backup with --passphrase-file, and without --certificate")

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import backup, orders
        from sidecar.control.authority import record as steps
        from sidecar.control.start import Options

        now_s = time.time()
        if backup_path:
            record = backup.opened(_read(backup_path), _line(passphrase_file))
        else:
            name = trust_domain or await orders.trust_domain_of(Options(**engine))  # type: ignore[arg-type]
            if certificate:
                chain, own_key, roots = (_read(one).decode("ascii", "replace") for one in given)
                record = steps.given(name, chain, own_key, roots, now_s)
            else:
                record = steps.made(name, now_s)
        return await orders.init(secrets, record)

    record = _ordered(engine, order)
    click.echo(f"made the authority of `{record.trust_domain}`, root sha256:{record.signing}")
    if not backup_path:
        click.echo("keep a copy where the engine is not: sidecar mesh ca backup FILE --passphrase-file FILE")


@ca.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@engine_options
def status(as_json: bool, **engine: str) -> None:
    """Show roots, the intermediate, what was issued and what is next; never a key."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.status(secrets)

    said = _ordered(engine, order)
    if as_json:
        click.echo(json.dumps(said))
        return
    click.echo(f"authority of `{said['trust_domain']}`, since {_date(said['created'])}")
    for root in said["roots"]:
        marks = ["signs"] * root["signs"] + ["key elsewhere"] * (not root["has_key"])
        live = f"{root['live']} live certificate{'' if root['live'] == 1 else 's'}"
        shown = (f"root          sha256:{root['fingerprint']}", f"ends {_date(root['ends'])}", live, *marks)
        click.echo("  ".join(shown))
    between = said["intermediate"]
    how = "renewed by itself" if between["renewed_here"] else "NOT renewed here: `sidecar mesh ca intermediate`"
    click.echo(f"intermediate  {printable(between['subject'])}  ends {_date(between['ends'])}  {how}")
    click.echo(f"tokens        {said['tokens']}")
    for one in said["issued"]:
        click.echo(printable(f"issued        {one['name']}  {one['identity']}  ends {_date(one['ends'])}"))
    for name in said["revoked"]:
        click.echo(printable(f"revoked       {name}"))
    if said["held"] is not None:
        held = said["held"]
        click.echo(printable(
            f"HELD since {_date(held['since'])}: {held['identity']} showed a certificate of {held['issuer']}, which is"
            " older than this authority and not known here"
        ))  # fmt: skip
    if said["next"]:
        click.echo(f"next: {said['next']}")


@ca.command("roots")
@engine_options
def roots(**engine: str) -> None:
    """Print the roots in PEM, for `--trust` and for others who are to trust this mesh."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.roots(secrets)

    click.echo(_ordered(engine, order), nl=False)


@ca.command("trust")
@click.argument("file", type=click.Path())
@engine_options
def trust(file: str, **engine: str) -> None:
    """Trust the roots in FILE (PEM), too. Nothing is signed by them here."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.trust(secrets, _read(file).decode("ascii", "replace"))

    click.echo(f"trusted now: {_roots(_ordered(engine, order))}")


@ca.command("replace")
@engine_options
def replace(**engine: str) -> None:
    """Say that this authority counts, and none that was before it: who has a certificate of that joins by a token."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.replace(secrets)

    click.echo(f"this authority counts: {_roots(_ordered(engine, order))}")


@ca.command("intermediate")
@click.option("--certificate", required=True, type=click.Path(), help="The intermediate, and its chain.")
@click.option("--key", required=True, type=click.Path(), help="Its key.")
@engine_options
def intermediate(certificate: str, key: str, **engine: str) -> None:
    """Sign by another intermediate, under a root that is trusted."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        chain, text = (_read(one).decode("ascii", "replace") for one in (certificate, key))
        return await orders.use_intermediate(secrets, chain, text)

    _ordered(engine, order)
    click.echo("signs now")


@ca.command("backup")
@click.argument("file", type=click.Path())
@_passphrase
@engine_options
def backup(file: str, passphrase_file: str, **engine: str) -> None:
    """Write the authority to FILE, encrypted. FILE must not be there yet."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.sealed(secrets, _line(passphrase_file))

    content = _ordered(engine, order)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as written:
            written.write(content)
    except OSError as error:
        _stop(f"{file}: {(error.strerror or str(error)).lower()}", CANNOT)
    click.echo(f"written to {file}; put back by `sidecar mesh ca init --backup {file} --passphrase-file FILE`")


@ca.command("revoke")
@click.argument("name", metavar="SERVICE/INSTANCE")
@engine_options
def revoke(name: str, **engine: str) -> None:
    """
    Refuse to renew the certificates of an instance that were issued until now, as `ca status` names it.

    The one that it has holds until it ends: the shorter certificates live, the sooner. Its token is revoked by
    `sidecar mesh token revoke`.
    """

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.revoke(secrets, name)

    is_known = _ordered(engine, order)
    click.echo(f"certificates of {printable(name)} are not renewed" + ("" if is_known else "; none is known"))


@ca.group("rotate")
def rotate() -> None:
    """Replace the root in three steps, in none of which a sidecar refuses another: docs/mesh-identity.md."""


@rotate.command("add")
@engine_options
def add(**engine: str) -> None:
    """First: make a new root, which is trusted and signs nothing yet."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.add_root(secrets)

    click.echo(f"trusted now: {_roots(_ordered(engine, order))}; next: sidecar mesh ca rotate sign")


@rotate.command("sign")
@click.option("--now", "is_now", is_flag=True, help="Do not wait until everyone must have the new root.")
@engine_options
def sign(is_now: bool, **engine: str) -> None:
    """Second: the new root signs. Both are trusted."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.sign_by_next(secrets, is_now=is_now)

    record = _ordered(engine, order)
    click.echo(f"signs now: sha256:{record.signing}; next, when all have renewed: sidecar mesh ca rotate drop")


@rotate.command("drop")
@click.argument("root", default="")
@engine_options
def drop(root: str, **engine: str) -> None:
    """Third: trust the old root no more; ROOT is the beginning of its SHA-256 where there are several."""

    async def order(secrets: Secrets) -> Any:
        from sidecar.control.authority import orders

        return await orders.drop_root(secrets, root.removeprefix("sha256:"))

    click.echo(f"trusted now: {_roots(_ordered(engine, order))}")


def _ordered(engine: dict[str, str], order: Order) -> Any:
    """What an order answers. Ends the process if it is refused."""
    try:
        from sidecar.control.authority.names import BadName
        from sidecar.control.authority.orders import secrets_of
        from sidecar.control.authority.record import AuthorityError
        from sidecar.control.engines.interface import EngineError
        from sidecar.control.start import Options, StartError
    except ModuleNotFoundError as error:
        if error.name not in ("aiohttp", "cryptography"):
            raise
        raise click.ClickException(f"install `sidecar-mesh[control]`: this needs {error.name}") from None
    from sidecar.config.source import SourceError
    from sidecar.control.authority.certificates import BadCertificate

    async def act() -> Any:
        async with secrets_of(Options(**engine)) as secrets:  # type: ignore[arg-type]
            return await order(secrets)

    try:
        return asyncio.run(act())
    except (AuthorityError, BadCertificate, BadName) as error:
        _stop(str(error), REFUSED)
    except (StartError, EngineError, SourceError) as error:
        _stop(str(error), CANNOT)


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        _stop(f"{path}: {(error.strerror or str(error)).lower()}", CANNOT)
    if len(content) > _MAX_BYTES:
        _stop(f"{path}: expected at most {_MAX_BYTES} octets", CANNOT)
    return content


def _line(path: str) -> str:
    """The first line of a file, which is a secret."""
    lines = _read(path).decode("utf-8", "replace").splitlines()
    return lines[0] if lines else ""


def _roots(record: Any) -> str:
    return ", ".join(f"sha256:{one.fingerprint}" for one in record.roots)


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")


def _stop(why: str, code: int) -> NoReturn:
    click.echo(f"sidecar: {printable(why)}", err=True)
    sys.exit(code)
