"""`sidecar mesh token`: join tokens, asked of a control plane. *Cold.*"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import click

from sidecar.cli.admin_client import AskError
from sidecar.cli.mesh.asking import ControlPlane, control_options, table
from sidecar.cli.mesh.wanted.telling import stop

REFUSED: Final = 1
CANNOT: Final = 2
_TTL: Final = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[mhd])")
_UNITS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


def _ttl(ctx: click.Context, param: click.Parameter, value: str) -> float:
    found = _TTL.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"expected a duration such as `12h` or `90d`, found `{value}`")
    return int(found["number"]) * _UNITS[found["unit"]]


@click.group("token", short_help="Make, list and revoke join tokens.")
def token() -> None:
    """
    Join tokens, by which sidecars have their first certificate: docs/mesh-identity.md.

    Making and revoking needs the right `write`. Exit codes: 0 done, 1 refused, 2 no answer.
    """


@token.command("create")
@click.argument("service")
@click.option("--ttl", "ttl_s", default="90d", show_default=True, callback=_ttl, help="For how long it may be used.")
@click.option("--once", is_flag=True, help="It lets one sidecar in, and no other.")
@control_options
def create(service: str, ttl_s: float, once: bool, url: str, token_file: str, trust: str, as_json: bool) -> None:
    """
    Make a token for the sidecars of SERVICE, and print it, once: nobody can ask for it again.

    Standard output has the token alone, with the SHA-256 of the root by which a sidecar knows whom it may show it to;
    it goes into the file that `control.token_file` of a sidecar names.
    """
    said = _post(url, token_file, trust, {"service": service, "ttl_s": ttl_s, "once": once}, as_json)
    if as_json:
        click.echo(json.dumps(said))
        return
    click.echo(said["token"])
    uses = "one use" if said["once"] else "many uses"
    click.echo(f"token {said['id']} for `{said['service']}`, {uses}, until {_date(said['expires'])}", err=True)


@token.command("list")
@control_options
def list_(url: str, token_file: str, trust: str, as_json: bool) -> None:
    """Show what is known of all tokens; not the tokens."""
    try:
        found = ControlPlane(url, token_file, trust).get("/v1/tokens")["tokens"]
    except AskError as error:
        stop(str(error), as_json, CANNOT)
    if as_json:
        click.echo(json.dumps(found))
        return
    now_s = time.time()
    rows = [
        [one["id"], one["service"], "once" if one["once"] else "many", str(one["uses"]),
         _date(one["used"]) if one["used"] else "-",
         _date(one["expires"]) + (" (expired)" if one["expires"] <= now_s else "")]
        for one in found
    ]  # fmt: skip
    click.echo(table(["ID", "SERVICE", "USES", "USED", "LAST", "EXPIRES"], rows))


@token.command("revoke")
@click.argument("id")
@control_options
def revoke(id: str, url: str, token_file: str, trust: str, as_json: bool) -> None:
    """Let nobody in by a token any more. Certificates that came of it stay until they end."""
    try:
        status, said = ControlPlane(url, token_file, trust).delete(f"/v1/tokens/{quote(id, safe='')}")
    except AskError as error:
        stop(str(error), as_json, CANNOT)
    if status != 200:
        stop(str(said.get("error")), as_json, REFUSED)
    click.echo(json.dumps({"ok": True}) if as_json else f"revoked {id}")


def _post(url: str, token_file: str, trust: str, body: dict[str, object], as_json: bool) -> dict[str, object]:
    try:
        status, said = ControlPlane(url, token_file, trust).post("/v1/tokens", body)
    except AskError as error:
        stop(str(error), as_json, CANNOT)
    if status != 200:
        stop(str(said.get("error")), as_json, REFUSED)
    return said


def _date(at_s: object) -> str:
    assert isinstance(at_s, int | float)
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
