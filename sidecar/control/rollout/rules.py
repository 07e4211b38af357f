"""What `rollout:` in mesh.yaml says, as numbers. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

ONE = "one"
ALL = "100%"


def wave_size(wave: str, instances: int) -> int:
    """
    How many of so many instances a wave has: its share rounded down, but at least one where there is one.

    Args:
        wave: `one`, or a share as `10%`.

    Raises:
        ValueError: If it is neither, or a share outside of 0% to 100%.
    """
    if wave == ONE:
        return min(1, instances)
    digits = wave.removesuffix("%").strip()
    share = float(digits) if digits != wave.strip() else -1.0
    if not 0 < share <= 100:
        raise ValueError(f"expected `one` or a share above 0% up to 100%, found `{wave}`")
    # The product first: 0.29 * 100 is a little less than 29.
    return min(instances, max(1, int(share * instances / 100)))


@dataclass(frozen=True, slots=True)
class Rules:
    """
    How careful a rollout is.

    Attributes:
        waves: `one` or shares of a service's instances, growing; everyone is the last, said or not.
        hold_s: How long a wave is watched after all of it accepted.
        accept_timeout_s: How long an instance may take to accept.
        refused: How many refusals halt a service; 0: none does.
        worse_by: By how much the share of failures may be worse, 0 to 1; None: failures are not looked at.
        thin_after_s: How long is waited for requests to judge by.
        thin_then: What then: `go` or `hold`.
    """

    waves: tuple[str, ...] = (ONE, "10%", "50%", ALL)
    hold_s: float = 30.0
    accept_timeout_s: float = 30.0
    refused: int = 1
    worse_by: float | None = 0.02
    thin_after_s: float = 300.0
    thin_then: str = "go"

    def __post_init__(self) -> None:
        for wave in self.waves:
            wave_size(wave, 1)
        if self.thin_then not in ("go", "hold"):
            raise ValueError(f"thin.then: expected `go` or `hold`, found `{self.thin_then}`")
        if self.worse_by is not None and not 0 < self.worse_by <= 1:
            raise ValueError(f"error_rate.worse_by: expected a share above 0 up to 1, found {self.worse_by}")

    @property
    def steps(self) -> tuple[str, ...]:
        """The waves, everyone included."""
        return self.waves if self.waves[-1:] == (ALL,) else (*self.waves, ALL)

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return {**asdict(self), "waves": list(self.waves)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Rules:
        """What `to_json` wrote, by whichever release."""
        known = {one.name: said[one.name] for one in fields(cls) if one.name in said}
        return cls(**{**known, "waves": tuple(known.get("waves", cls().waves))})
