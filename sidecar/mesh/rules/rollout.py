"""The rule of a rollout: its waves grow, and reach everyone. *Cold, pure.*"""

from __future__ import annotations

from sidecar.config.check import Report
from sidecar.mesh.model.root import RolloutSpec


def check_rollout(rollout: RolloutSpec, report: Report) -> None:
    """Check the waves."""
    at = ("rollout", "waves")
    before = 0.0
    for index, wave in enumerate(rollout.waves):
        if isinstance(wave, str):
            if index:
                report((*at, index), "`one` is the smallest wave and comes first", "move it, or remove it")
            continue
        if wave <= before:
            report((*at, index), "not larger than the wave before", "each wave adds instances to the one before")
        before = wave
    if before < 100:
        report(at, "the last wave is not `100%`", "add `100%`: a rollout ends with all instances", at_key=True)
