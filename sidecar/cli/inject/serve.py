"""`sidecar inject serve`: the webhook that Kubernetes asks about each pod."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from sidecar.cli.inject.options import decision_options, judge, version, wanted_of
from sidecar.cli.mesh.authority.engine import api_options
from sidecar.cli.wait import seconds
from sidecar.mesh.model.words import parse_name
from sidecar.process_log import LEVELS, bounded_stderr, configure

if TYPE_CHECKING:
    from sidecar.webhook.start import Options

_NAME: Final = "serve"


class WithServe(click.Command):
    """`inject`, whose first word may be `serve`: a file that is called so is `./serve`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of whichever command it is."""
        if args[:1] == [_NAME]:
            return serve.make_context(f"{info_name} {_NAME}", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)


def _given(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    return version(context, parameter, value) if value else None


def _word(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return parse_name(value) if value else ""
    except ValueError:
        raise click.BadParameter(f"expected lower-case letters, digits and `-`, found {value!r}") from None


@click.command(_NAME, short_help="Answer the API of Kubernetes, which asks about each pod.")
@decision_options
@click.option("--listen", default="0.0.0.0:15017", show_default=True, metavar="HOST:PORT",
              envvar="SIDECAR_WEBHOOK_LISTEN", show_envvar=True, help="For the API, by HTTPS.")  # fmt: skip
@click.option("--ops-listen", default="127.0.0.1:15014", show_default=True, metavar="HOST:PORT",
              envvar="SIDECAR_WEBHOOK_OPS_LISTEN", show_envvar=True,
              help="For /ready, /live and /metrics.")  # fmt: skip
@click.option("--tls-cert", default="", envvar="SIDECAR_WEBHOOK_TLS_CERT", show_envvar=True, type=click.Path(),
              help="The certificate to show; followed. Default: its own, by an authority in a Secret.")  # fmt: skip
@click.option("--tls-key", default="", envvar="SIDECAR_WEBHOOK_TLS_KEY", show_envvar=True, type=click.Path(),
              help="Its key.")  # fmt: skip
@click.option("--tls-ca", default="", envvar="SIDECAR_WEBHOOK_TLS_CA", show_envvar=True, type=click.Path(),
              help="Certificates that the API is to believe; default: somebody else tells it.")  # fmt: skip
@click.option("--webhook-service", default="sidecar-webhook", show_default=True, metavar="NAME", callback=_word,
              help="The Service by which the API calls this.")  # fmt: skip
@click.option("--webhook-configuration", default="sidecar-webhook", show_default=True, metavar="NAME",
              help="The MutatingWebhookConfiguration in which it writes whom the API is to believe.")  # fmt: skip
@api_options
@click.option("--kubernetes-mesh", default="", envvar="SIDECAR_KUBERNETES_MESH", show_envvar=True, metavar="NAME",
              help="The Secret with its authority is called sidecar-NAME.webhook.  [default: mesh]")  # fmt: skip
@click.option("--kubernetes-version", default=None, callback=_given, help="Of the cluster; default: the API is asked.")
@click.option("--no-api", "has_no_api", is_flag=True,
              help="Ask the API of Kubernetes for nothing: certificate and version are given.")  # fmt: skip
@click.option("--linger", default="3s", show_default=True, callback=seconds,
              help="Go on for so long behind SIGTERM, until Services have heard of it.")  # fmt: skip
@click.option("--access-log/--no-access-log", "has_access_log", default=True, show_default=True,
              help="A line of JSON for each review on standard output.")  # fmt: skip
@click.option("--log-level", envvar="SIDECAR_LOG_LEVEL", default="info", show_default=True, show_envvar=True,
              type=click.Choice(LEVELS, case_sensitive=False), help="Of the process log on stderr.")  # fmt: skip
def serve(log_level: str, **options: Any) -> None:
    """
    Give pods their sidecars as the API of Kubernetes makes them: docs/inject.md.

    A mutating admission webhook. `sidecar mesh install` prints all that it needs. Runs until SIGTERM (it goes on for a
    moment, reviews that are open are answered) or SIGINT (without that moment). Exit codes: 0 ended as asked, 1 could
    not start or broke, 2 wrong usage.
    """
    wanted = wanted_of(options)
    judge(wanted)
    try:
        from sidecar.webhook.start import run
    except ModuleNotFoundError as error:
        if error.name not in ("aiohttp", "cryptography"):
            raise
        raise click.ClickException(f"install `sidecar-mesh[control]`: the webhook needs {error.name}") from None
    asked = _asked(options)
    bounded_stderr()
    configure(log_level)
    sys.exit(run(asked))


def _asked(options: dict[str, Any]) -> Options:
    """Options that fit each other. Raises UsageError."""
    from sidecar.control.engines.kubernetes.settings import read_settings
    from sidecar.webhook.start import Options

    if bool(options["tls_cert"]) != bool(options["tls_key"]):
        raise click.UsageError("give both of --tls-cert and --tls-key, or none")
    if options["tls_ca"] and not options["tls_cert"]:
        raise click.UsageError("--tls-ca is of a certificate that is given: give --tls-cert and --tls-key, too")
    settings = None
    if options["has_no_api"]:
        for name in ("tls_cert", "kubernetes_version"):
            if not options[name]:
                raise click.UsageError(f"--no-api needs --{name.replace('_', '-')}")
        if options["tls_ca"]:
            raise click.UsageError("--tls-ca is written to the API, which --no-api forbids")
    else:
        names = ("token_file", "ca", "namespace", "mesh")
        given = {name: options[f"kubernetes_{name}"] for name in names}
        try:
            settings = read_settings(os.environ, url=options["kubernetes"], **given)
        except ValueError as error:
            raise click.UsageError(f"{error}; or --no-api") from None
    is_told = not options["tls_cert"] or bool(options["tls_ca"])
    return Options(
        wanted=wanted_of(options),
        is_version_given=options["kubernetes_version"] is not None,
        settings=settings,
        listen=options["listen"],
        ops_listen=options["ops_listen"],
        service=options["webhook_service"],
        configuration=options["webhook_configuration"] if is_told else "",
        certificate=options["tls_cert"],
        key=options["tls_key"],
        ca=options["tls_ca"],
        has_access_log=options["has_access_log"],
        linger_s=options["linger"],
    )
