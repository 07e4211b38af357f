"""`sidecar explain`: where a request goes, why, and with which settings; by a file or by a running sidecar. *Cold.*"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from sidecar.cli.admin_client import Admin, AskError, admin_option, fail, printable
from sidecar.insight.explain.asked import Asked, query_of
from sidecar.insight.explain.curl import question_of_curl
from sidecar.insight.explain.text import lines_of
from sidecar.insight.question import NOBODY, Question

if TYPE_CHECKING:
    from sidecar.config.load import Loaded

NOT_FORWARDED = 3


class _WithCurl(click.Command):
    """What stands behind the word `curl` is that command's own, options and all."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options of ours come before it."""
        if "curl" in args:
            at = args.index("curl")
            ctx.meta["sidecar.explain.curl"] = args[at:]
            args = [*args[:at], "curl"]
        return super().parse_args(ctx, args)


@click.command("explain", cls=_WithCurl)
@click.argument("request", nargs=-1, metavar="[METHOD] URL | curl ... | -")
@click.option(
    "--config", "file", metavar="FILE", envvar="SIDECAR_CONFIG", show_envvar=True, help="The file to explain by."
)
@click.option("--live", is_flag=True, help="Ask the running sidecar, which knows its endpoints and what is in force.")
@admin_option
@click.option("--request-id", metavar="ID", default="", help="Explain a request that the running sidecar has served.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A field of the request.")
@click.option("--cookie", "cookies", multiple=True, metavar="NAME=VALUE", help="A cookie of the request.")
@click.option("--source-ip", default=NOBODY, show_default=True, metavar="IP", help="Address of who connects.")
@click.option("--from", "requester", default="", metavar="WHO", help="SPIFFE ID, or service, of who asks by TLS.")
@click.option(
    "--jwt", "claims", type=click.File(), metavar="FILE", help="What its token claims, in JSON; taken as verified."
)
@click.option(
    "--direction", type=click.Choice(["inbound", "outbound"]), default=None, help="Default: outbound if there is one."
)
@click.option(
    "--listener", default="", metavar="NAME|ADDRESS", help="By which it comes, for one of several ports of the app."
)
@click.option("--all", "is_whole", is_flag=True, help="Tell each route and each setting, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON on standard output.")
@click.pass_context
def explain(
    ctx: click.Context,
    request: tuple[str, ...],
    file: str | None,
    live: bool,
    address: str,
    request_id: str,
    headers: tuple[str, ...],
    cookies: tuple[str, ...],
    source_ip: str,
    requester: str,
    claims: TextIO | None,
    direction: str | None,
    listener: str,
    is_whole: bool,
    as_json: bool,
) -> None:
    """
    Say where a request goes and why: each route in order with the first condition that it missed, the split, the
    endpoint, what is sent, and every setting in force with the line that set it.

    It is decided by the code that decides on live traffic. The request is a URL with an optional method, or a curl
    command as it was pasted (its options come last, ours before it), or `-`: a curl command on standard input.

    The exit code is 0 when the request is forwarded, 3 when the sidecar answers it itself, 1 when the file has problems
    or the sidecar does not answer, 2 when the file cannot be read or the command makes no sense.
    """
    if request_id:
        live = True
    question = None if request_id else _question(ctx, request, headers, cookies, source_ip)
    if request_id and request:
        raise click.UsageError("expected a request or --request-id, found both")
    if not live and file is None:
        raise click.UsageError("expected --config FILE to explain by a file, or --live to ask the running sidecar")
    if live and claims is not None:
        raise click.UsageError("--jwt: a running sidecar verifies tokens; explain by its file, with --config")
    if question is not None:
        token = _claims(claims) if claims is not None else None
        question = Question(
            question.method, question.url, question.headers, question.cookies, source_ip, requester, token
        )
    asked = Asked(question, request_id, direction or "", listener, is_whole)
    account = _ask(address, asked) if live else _explain_by(str(file), asked, as_json)
    if as_json:
        click.echo(json.dumps(account))
    else:
        for line in lines_of(account, is_whole=is_whole):
            click.echo(printable(line))
    if account["outcome"]["kind"] != "forward":
        sys.exit(NOT_FORWARDED)


def _question(
    ctx: click.Context, words: Sequence[str], headers: Sequence[str], cookies: Sequence[str], source_ip: str
) -> Question:
    pasted = ctx.meta.get("sidecar.explain.curl")
    try:
        if pasted is not None:
            question = question_of_curl(pasted)
        elif list(words) == ["-"]:
            question = question_of_curl([sys.stdin.read()])
        elif len(words) == 1 and words[0].lstrip().startswith("curl "):
            question = question_of_curl(words)
        elif len(words) not in (1, 2):
            raise click.UsageError("expected [METHOD] URL, such as GET http://orders/v1, or a curl command")
        else:
            question = Question(words[0] if len(words) == 2 else "GET", words[-1])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not question.url.lower().startswith(("http://", "https://")):
        raise click.UsageError(f"expected a URL such as http://orders/v1, found `{question.url}`")
    more = tuple(_pair(header, ":", "-H", "NAME: VALUE") for header in headers)
    crumbs = tuple(_pair(cookie, "=", "--cookie", "NAME=VALUE") for cookie in cookies)
    return Question(question.method, question.url, question.headers + more, question.cookies + crumbs, source_ip)


def _pair(written: str, separator: str, option: str, form: str) -> tuple[str, str]:
    name, found, value = written.partition(separator)
    if not found or not name.strip():
        raise click.UsageError(f"{option}: expected {form}, found `{written}`")
    return name.strip(), value.strip()


def _claims(file: TextIO) -> Mapping[str, object]:
    try:
        claims = json.load(file)
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise click.UsageError(f"--jwt: expected claims in JSON, found none in {file.name}")
    return claims


def _ask(address: str, asked: Asked) -> dict[str, Any]:
    try:
        with Admin(address) as admin:
            account: dict[str, Any] = json.loads(admin.get(f"/explain?{query_of(asked)}"))
    except AskError as error:
        fail(error)
    except ValueError:
        fail(f"{address} answered with something that is not JSON; is it a sidecar's admin listener?")
    return account


def _explain_by(file: str, asked: Asked, as_json: bool) -> dict[str, Any]:
    # Here, for the models are most of what a start costs, and who asks a running sidecar needs none of them.
    from sidecar.cli.insight.reading import read_plan

    loaded, scene = read_plan(file, as_json)
    from sidecar.compile.time_slices import at_once
    from sidecar.errors import ProtocolError
    from sidecar.insight.explain.account import account_of
    from sidecar.insight.explain.asked import way_in
    from sidecar.insight.question import head_of
    from sidecar.insight.walk import Visitor, walk

    question = asked.question
    assert question is not None
    try:
        side, listener = way_in(scene.plan, asked)
        visitor = Visitor(question.source_ip, _identity(question.requester, loaded), question.claims)
        walked = walk(side, listener, head_of(question), visitor)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except ProtocolError as error:
        raise click.UsageError(f"the request is not valid: {error.detail or error.reason.text}") from None
    return at_once(account_of(walked, scene, is_whole=asked.is_whole))


def _identity(requester: str, loaded: Loaded) -> str:
    """What stands for a service is its SPIFFE ID in the file's trust domain."""
    from sidecar.compile.security.authorization import spiffe_id
    from sidecar.config.authorization_rules import trust_domain_of

    if not requester or requester.startswith("spiffe://"):
        return requester
    domain = trust_domain_of(loaded.config)
    if not domain:
        raise click.UsageError(f"--from: expected a SPIFFE ID, found `{requester}`, and the file has no trust domain")
    return spiffe_id(requester, domain)
