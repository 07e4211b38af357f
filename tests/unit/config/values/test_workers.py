"""How many workers a file asks for, and how many `auto` are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic_core import PydanticCustomError

from sidecar.config.values.workers import MAX_WORKERS, parse_workers, usable_cpus
from sidecar.config.yaml.scalars import Spelled, resolve_plain


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four of them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


@pytest.mark.parametrize("text", ["1", "2", str(MAX_WORKERS)])
def test_numbers_are_read(text: str) -> None:
    """From 1 to the most that there may be."""
    assert parse_workers(resolve_plain(text)) == int(text)


@pytest.mark.parametrize(
    "written", [Spelled("0", 0), Spelled("65", 65), Spelled("1.5", 1.5), Spelled("true", True), "2", "many", [], -1]
)
def test_everything_else_is_refused(written: object) -> None:
    """With what was expected."""
    with pytest.raises(PydanticCustomError) as refusal:
        parse_workers(written)
    assert refusal.value.context == {"message": "an integer from 1 to 64, or `auto`", "hint": ""}


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 4), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("900000 100000", 4), ("", 4)],
)
def test_auto_heeds_the_quota_of_the_control_group(tmp_path: Path, quota: str, expected: int) -> None:
    """Half a CPU more is a worker more; never more than there are CPUs, never none."""
    (tmp_path / "own").write_text("0::/pod/app\n")
    (tmp_path / "pod" / "app").mkdir(parents=True)
    (tmp_path / "pod" / "app" / "cpu.max").write_text("max 100000\n")
    (tmp_path / "pod" / "cpu.max").write_text(quota)
    assert usable_cpus(tmp_path / "own", tmp_path) == expected


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(("quota", "expected"), [("-1", 4), ("300000", 3)])
def test_auto_heeds_the_quota_of_the_first_version_of_control_groups(tmp_path: Path, quota: str, expected: int) -> None:
    """Where the controllers are mounted one by one."""
    (tmp_path / "own").write_text("7:cpu,cpuacct:/pod\n1:memory:/pod\n")
    (tmp_path / "cpu" / "pod").mkdir(parents=True)
    (tmp_path / "cpu" / "pod" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "pod" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path / "own", tmp_path) == expected


def test_auto_is_what_this_machine_has() -> None:
    """For real."""
    assert 1 <= parse_workers("auto") <= len(os.sched_getaffinity(0))
