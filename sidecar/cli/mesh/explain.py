"""`sidecar mesh explain`: where a request would go, whether it is admitted, and what is done with it there. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import TextIO

import click
from pydantic import ValidationError

from sidecar.cli.mesh.reading import as_json_option, directory, identity_option, mesh_of, path_of, refuse
from sidecar.config.model.root import RoutingTest
from sidecar.config.problems import ConfigError
from sidecar.mesh import explain as explaining
from sidecar.mesh.arrival import Arrival, Verdict
from sidecar.mesh.mesh import Mark

NOT_ANSWERED = 3


@click.command("explain")
@directory
@click.argument("request", nargs=-1, required=True, metavar="[METHOD] URL")
@click.option("--from", "caller", required=True, metavar="SERVICE", help="Who sends it.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A field of the request.")
@click.option("--cookie", "cookies", multiple=True, metavar="NAME=VALUE", help="A cookie of the request.")
@click.option(
    "--jwt",
    "claims",
    type=click.File(),
    metavar="FILE",
    help="What its token claims, in JSON; taken as verified.",
)
@click.option("--version", default="", help="Of the caller's app.")
@identity_option
@as_json_option
def explain(
    directory: str,
    request: tuple[str, ...],
    caller: str,
    headers: tuple[str, ...],
    cookies: tuple[str, ...],
    claims: TextIO | None,
    version: str,
    as_json: bool,
) -> None:
    """
    Say where a request of a service would go in the mesh in DIRECTORY, whether it is admitted there, and what the
    sidecars there do with it.

    It is decided by the code that decides on live traffic, on the files that the sidecars of both services get. The
    exit code is 0 when the request is sent on and whoever it may go to admits the caller and sends it to the app, 3
    when a sidecar answers it itself or it is not admitted, 1 when the mesh has problems.
    """
    if len(request) > 2:
        raise click.UsageError(f"expected [METHOD] URL, found {len(request)} words")
    test = _test(request[0] if len(request) == 2 else "GET", request[-1], headers, cookies, claims)
    mesh = mesh_of(directory, as_json)
    try:
        found = explaining.explain(mesh, caller, test, version)
    except ConfigError as error:
        refuse(directory, error.problems, as_json)
    if as_json:
        click.echo(json.dumps({"ok": True, "is_answered": found.is_answered, **dataclasses.asdict(found)}))
    else:
        for line in _lines(directory, found):
            click.echo(line)
    if not found.is_answered:
        sys.exit(NOT_ANSWERED)


def _test(method: str, url: str, headers: Iterable[str], cookies: Iterable[str], claims: TextIO | None) -> RoutingTest:
    """The request as a test has it; a usage error for what is none."""
    token: dict[str, object] = {}
    if claims is not None:
        try:
            token = {"jwt": json.load(claims)}
        except ValueError:
            raise click.UsageError(f"--jwt: expected claims in JSON, found none in {claims.name}") from None
    written = {
        "name": "explain",
        "request": {
            "method": method,
            "url": url,
            "headers": dict(_pair(header, ":", "-H", "NAME: VALUE") for header in headers),
            "cookies": dict(_pair(cookie, "=", "--cookie", "NAME=VALUE") for cookie in cookies),
            **token,
        },
        "expect": {"status": 200},
    }
    try:
        return RoutingTest.model_validate(written)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        context = first.get("ctx", {})
        what = context.get("message", first["msg"])
        told = f"expected {what}, found `{first['input']}`" if first["type"] == "expected" else what
        hint = f"; {context['hint']}" if context.get("hint") else ""
        raise click.UsageError(f"{first['loc'][1]}: {told}{hint}") from None


def _pair(written: str, separator: str, option: str, form: str) -> tuple[str, str]:
    name, found, value = written.partition(separator)
    if not found:
        raise click.UsageError(f"{option}: expected {form}, found `{written}`")
    return name.strip(), value.strip()


def _lines(directory: str, found: explaining.Explanation) -> Iterable[str]:
    yield from _decision(directory, found.caller, found)
    for one in found.destinations:
        by = f"  ({one.discover})" if one.discover else ""
        yield f"  to     {one.upstream}  {one.share:.4g}" + by if one.share < 1 else f"  to     {one.upstream}{by}"
    if found.timeout_s is not None:
        yield f"  timeout {found.timeout_s:g}s"
    if found.note:
        yield f"  {found.note}"
    for admission in found.unjudged:
        word = "admits" if admission.is_admitted else "does not admit"
        yield f"{admission.service}: {word} {found.caller}: {admission.why}{_where(directory, admission.origin)}"
    for arrival in found.arrivals:
        if arrival.verdict is not None:
            yield _verdict(directory, arrival, arrival.verdict, found.caller)
        yield from _arrival(directory, arrival)


def _decision(directory: str, who: str, one: explaining.Explanation | Arrival) -> Iterable[str]:
    """Which route was taken, at the caller or at the callee, and whether its sidecar answers itself."""
    if one.route or not isinstance(one, Arrival) or one.verdict is None or one.verdict.outcome != "denied":
        yield f"{who}: route {one.route}{_where(directory, one.origin)}" if one.route else f"{who}: no route"
    for match in one.match:
        yield f"  match  {match}"
    if one.status is not None:
        yield f"  its sidecar answers {one.status}"


def _verdict(directory: str, one: Arrival, verdict: Verdict, caller: str) -> str:
    """Which rule lets it in, or does not."""
    said = {
        "allowed": "is allowed by the rule {}",
        "denied": "is refused by the rule {}",
        "audit_denied": "passes, and would be refused by the rule {}, which is in audit",
    }[verdict.outcome].format(verdict.rule)
    why = f": {verdict.why}" if verdict.why else ""
    who = verdict.identity or caller
    return f"{one.service}, port {one.port}: {who} {said}{_where(directory, verdict.origin)}{why}"


def _arrival(directory: str, one: Arrival) -> Iterable[str]:
    yield from _decision(directory, f"{one.service}, port {one.port}", one)
    for upstream in one.to:
        yield f"  to     {upstream}"
    if one.timeout_s is not None:
        yield f"  timeout {one.timeout_s:g}s"
    for limit in one.limits:
        yield f"  {limit}"


def _where(directory: str, mark: Mark | None) -> str:
    return f"  ({path_of(directory, mark.file)}:{mark.line})" if mark is not None else ""
