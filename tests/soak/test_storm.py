"""The storm: short by `make test-long`, long by `make soak`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.http2.swift import SwiftPlan
from tests.soak.storm import DESCRIPTOR_SLACK, Figures, Storm, StormPlan
from tests.soak.tls.siege import SiegePlan

MEMORY_SLACK_KIB = 12 * 1024
"""By so much may the memory of a sidecar at rest have grown; docs/soak.md says what it consists of."""
SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
RATE = float(os.environ.get("SOAK_RATE", "300"))
SEED = os.environ.get("SOAK_SEED", "1")


def check(figures: Figures) -> None:
    """What is held of every storm."""
    assert figures.verdict.is_good, figures
    assert figures.takeover.is_good, figures
    assert figures.drain.is_good, figures
    assert not any(figures.takeover_codes), figures.takeover_codes
    assert figures.verdict.answered > 0.8 * figures.storm_requests, figures
    assert not figures.siege.wrong, figures
    assert not figures.swift.wrong, figures
    assert not figures.unrecorded, figures
    assert figures.exit_code == 0, figures
    assert "Traceback" not in figures.stderr, figures.stderr[-5000:]
    assert "unhandled_exception" not in figures.stderr, figures.stderr[-5000:]
    assert not any(figures.gauges.values()), figures.gauges
    assert figures.dropped_lines == 0
    assert figures.logged == figures.counted, figures
    assert figures.descriptors_after <= figures.descriptors_before + DESCRIPTOR_SLACK, figures
    assert figures.memory_after_kib <= figures.memory_before_kib + MEMORY_SLACK_KIB, figures


def storm(directory: Path, plan: StormPlan) -> Figures:
    """Run it, and print what came of it."""
    with Storm(directory, plan) as one:
        figures = one.run()
    print(f"\nseed {plan.seed}, {plan.seconds:.0f} s at {plan.per_second:.0f} requests/s\n{figures}")  # noqa: T201
    return figures


@pytest.mark.skipif(SECONDS > 0, reason="the long form is asked for")
@pytest.mark.long
def test_short_storm(tmp_path: Path) -> None:
    """Every kind of fault once: nothing lost that could be saved, nothing sent twice, nothing left behind."""
    check(
        storm(
            tmp_path,
            StormPlan(
                seconds=7,
                pace=0.5,
                per_second=150,
                reloads=8,
                slow=100,
                slow_s=1.5,
                warm_up_s=2.0,
                takeovers=1,
                takeover_load_s=1.5,
                drain_load_s=1.0,
                header_timeout_s=6.0,
                siege=SiegePlan(is_short=True, visits_s=600.0, crowd=30, pace=0.5),
                swift=SwiftPlan(burst=30, talks=2, talk_s=3.0, stalls=1, pace=0.35),
                seed=SEED,
            ),
        )
    )


@pytest.mark.skipif(not SECONDS, reason="make soak")
@pytest.mark.timeout(SECONDS * 1.5 + 300)
def test_long_storm(tmp_path: Path) -> None:
    """Two hundred reloads and slow clients by the thousand, in SOAK_SECONDS, at SOAK_RATE."""
    check(
        storm(
            tmp_path,
            StormPlan(
                seconds=SECONDS,
                per_second=RATE,
                reloads=200,
                slow=int(RATE / 0.3),
                slow_s=8.0,
                takeovers=3,
                siege=SiegePlan(crowd=int(RATE / 1.5)),
                swift=SwiftPlan(burst=int(RATE), talks=max(1, int(RATE / 60))),
                seed=SEED,
            ),
        )
    )
