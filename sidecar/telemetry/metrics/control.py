"""What a scrape shows of the control plane that is followed. *Cold.* Of several workers the supervisor tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sidecar.telemetry.metrics import catalogue
from sidecar.telemetry.metrics.exposition import Numbers, Section, labelled


class ControlNumbers:
    """
    What is known, told by whoever follows.

    Attributes:
        is_connected: The control plane is heard.
        connects: Times that it began to be.
        refused: Configurations that were.
        revision: Newest that was heard of.
        heard_s: Says when something came last, since the Unix epoch.
    """

    def __init__(self) -> None:
        self.is_connected = False
        self.connects = 0
        self.refused = 0
        self.revision = 0
        self.heard_s: Callable[[], float] = lambda: 0.0
        self._config_revision = 0
        self._config_time_s = 0.0
        self._source = ""

    def connected(self, is_connected: bool, revision: int) -> None:
        """How the link stands."""
        self.connects += is_connected and not self.is_connected
        self.is_connected = is_connected
        self.revision = revision

    def in_force(self, revision: int, source: str, since_s: float) -> None:
        """This is, since then (Unix epoch)."""
        self._config_revision, self._source, self._config_time_s = revision, source, since_s

    def sections(self) -> Iterator[Section]:
        """All its series."""
        for row, value in (
            (catalogue.CONTROL_CONNECTED, int(self.is_connected)),
            (catalogue.CONTROL_CONNECTS, self.connects),
            (catalogue.CONTROL_HEARD, self.heard_s()),
            (catalogue.CONTROL_REVISION, self.revision),
            (catalogue.CONTROL_CONFIG_REVISION, self._config_revision),
            (catalogue.CONTROL_CONFIG_TIME, self._config_time_s),
            (catalogue.CONTROL_REFUSED, self.refused),
        ):
            yield Numbers(row, [(b"", value)])
        source = catalogue.CONTROL_CONFIG_SOURCE
        yield Numbers(source, labelled(source, [((self._source,), 1)] if self._source else []))
