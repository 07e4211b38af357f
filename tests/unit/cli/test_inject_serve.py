"""`sidecar inject serve`: what the options must say before anything is listened on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.cli.commands import cli
from sidecar.cli.inject.options import decision_options
from sidecar.cli.inject.serve import _asked
from tests.support.commands import sidecar_command

URL = ("--kubernetes", "http://127.0.0.1:8001", "--kubernetes-namespace", "mesh")
GIVEN = ("--tls-cert", "c", "--tls-key", "k")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "this is no pod of Kubernetes"),
        (("--mesh", "shop", *URL), "--mesh is of a control plane: give --control, too"),
        (("--tls-cert", "c", *URL), "give both of --tls-cert and --tls-key, or none"),
        (("--tls-ca", "c", *URL), "--tls-ca is of a certificate that is given"),
        (("--no-api",), "--no-api needs --tls-cert"),
        (("--no-api", *GIVEN), "--no-api needs --kubernetes-version"),
        (("--no-api", *GIVEN, "--tls-ca", "a", "--kubernetes-version", "1.30"), "--tls-ca is written to the API"),
        (("--kubernetes-version", "new", *URL), "expected a version such as 1.30, found 'new'"),
        (("--webhook-service", "A B", *URL), "expected lower-case letters, digits and `-`, found 'A B'"),
        (("--kubernetes", "http://127.0.0.1:8001"), "--kubernetes is given without --kubernetes-namespace"),
        (("--cpu", "much", *URL), "expected an amount"),
        (("file.yaml",), "unexpected extra argument"),
        (("--uninject",), "No such option"),
    ],
)
def test_options_that_do_not_fit_are_told(arguments: tuple[str, ...], message: str) -> None:
    """By exit code 2 and a sentence; nothing is begun."""
    result = sidecar_command("inject", "serve", *arguments, env={"KUBERNETES_SERVICE_HOST": ""})
    assert (result.returncode, result.stdout) == (2, "")
    assert message.lower() in result.stderr.lower()


def test_a_file_may_be_called_serve_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `./serve`; and `inject` itself says where the webhook's help is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serve").write_text("kind: A\n")
    result = sidecar_command("inject", "./serve", "--config", "c")
    assert (result.returncode, result.stdout) == (0, "kind: A\n")
    help_ = " ".join(sidecar_command("inject", "--help").stdout.split())
    assert "sidecar inject serve --help" in help_
    assert "Usage: sidecar inject serve" in sidecar_command("inject", "serve", "--help").stdout


def options(*arguments: str) -> dict[str, object]:
    with cli.make_context("sidecar", ["inject", "serve", *arguments]) as context:
        command = cli.get_command(context, "inject")
        assert command is not None
        found = command.make_context("inject", ["serve", *arguments], parent=context)
        return dict(found.params)


def test_every_option_that_decides_is_one_of_files_and_of_the_webhook() -> None:
    """They stand in one place, so that neither can learn one without the other."""

    def nothing() -> None:
        """Has no options of its own."""

    shared = {option.name for option in decision_options(nothing).__click_params__}  # type: ignore[attr-defined]
    assert {"image", "control", "plain", "capture", "memory_limit"} <= shared
    assert shared <= options(*URL).keys()
    with cli.make_context("sidecar", ["inject"]) as context:
        command = cli.get_command(context, "inject")
        assert command is not None
        assert shared <= {parameter.name for parameter in command.params}


def test_whom_the_api_believes_is_written_unless_somebody_else_does() -> None:
    """With a certificate of its own, or with `--tls-ca`; else cert-manager or an operator sees to it."""
    assert _asked(options(*URL)).configuration == "sidecar-webhook"
    assert _asked(options(*URL, *GIVEN)).configuration == ""
    assert _asked(options(*URL, *GIVEN, "--tls-ca", "a")).configuration == "sidecar-webhook"
    alone = _asked(options("--no-api", *GIVEN, "--kubernetes-version", "v1.31.2-eks", "--plain"))
    assert (alone.settings, alone.wanted.kubernetes, alone.wanted.is_plain) == (None, (1, 31), True)
    assert alone.is_version_given
    assert not _asked(options(*URL)).is_version_given
