"""Servers of HTTP/2 as processes, and what befalls them: one of the swift ones at a time, as with the shaky ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.soak.http2.recorder import SwiftTemper
from tests.soak.servers import Server

SWIFT_CALM = SwiftTemper(
    close_idle=0.01, go_away=0.01, two_steps=0.01, early=0.02, ping=0.02, games=0.01, large_head=0.02, delay_max_s=0.03
)
"""
Of the swift servers when nothing is wrong: connections end, announced or not, settings change, and answers come before
requests are read, all the time.
"""
TEMPERS: dict[str, SwiftTemper] = {
    "reset_before": replace(SWIFT_CALM, reset_before=0.5),
    "reset_within": replace(SWIFT_CALM, reset_within=0.5),
    "refuse": replace(SWIFT_CALM, refuse=0.7),
    "leave_out": replace(SWIFT_CALM, leave_out=0.3),
    "go_away": replace(SWIFT_CALM, go_away=0.2, two_steps=0.2),
    "games": replace(SWIFT_CALM, games=0.5),
    "early": replace(SWIFT_CALM, early=0.8),
    "cut": replace(SWIFT_CALM, cut=0.2),
    "garbage": replace(SWIFT_CALM, garbage=0.3),
    "too_little": replace(SWIFT_CALM, too_little=0.5),
    "error": replace(SWIFT_CALM, error=0.7),
    "mute": replace(SWIFT_CALM, mute=0.4),
    "slow": replace(SWIFT_CALM, delay_min_s=0.05, delay_max_s=0.7),
    "one at a time": replace(SWIFT_CALM, most_streams=1, delay_max_s=0.05),
    "no window": replace(SWIFT_CALM, window=0),
    "small window": replace(SWIFT_CALM, window=1000, most_streams=5),
}
KINDS = ("kill", "stop", *TEMPERS)


class SwiftServer(Server):
    """One recorder that speaks HTTP/2, too."""

    def __init__(self, name: str, directory: Path, *addresses: str, calm: SwiftTemper = SwiftTemper()) -> None:  # noqa: B008
        super().__init__(name, directory, *addresses, calm=calm)

    def program(self) -> list[str]:
        """A module and its arguments."""
        return ["tests.soak.http2.recorder", self.name, str(self.journal), *self.addresses]
