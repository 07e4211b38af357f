"""Which build runs is said truly, everywhere by the same word."""

from __future__ import annotations

from click.testing import CliRunner

from sidecar import __version__, build, exchange
from sidecar.cli.commands import cli
from tests.unit.telemetry.cases import Told


def test_the_build_is_what_is_loaded() -> None:
    """Found without loading, and right."""
    assert build.IS_COMPILED is not (exchange.__file__ or "").endswith(".py")
    assert {True: "compiled", False: "interpreted"}[build.IS_COMPILED] == build.KIND


def test_the_command_says_it() -> None:
    """Beside the version."""
    assert (
        CliRunner().invoke(cli, ["--version"], prog_name="sidecar").output
        == f"sidecar, version {__version__} ({build.KIND})\n"
    )


def test_the_metric_says_it() -> None:
    """As a label of the version's."""
    (series,) = (name for name in Told().samples() if name.startswith("sidecar_build_info"))
    assert f'build="{build.KIND}"' in series
