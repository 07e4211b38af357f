"""`Date`, written once a second (RFC 9110, 6.6.1). *Hot path of responses that lack one; pure.*"""

from __future__ import annotations

import time
from typing import Final

from sidecar import clock
from sidecar.http1.grammar import make_field
from sidecar.message import Field

_DAYS: Final = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS: Final = (
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"
)  # fmt: skip
_NS_A_SECOND: Final = 1_000_000_000


def http_date(seconds: int) -> bytes:
    """Seconds since the Unix epoch as an IMF-fixdate (RFC 9110, 5.6.7), which no locale changes."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[weekday], day, _MONTHS[month - 1], year, hour, minute, second
    )  # fmt: skip


class DateField:
    """The field of our own; the one of this second is remembered."""

    __slots__ = ("_field", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._field = make_field(b"date", http_date(0))

    def at(self, wall_ns: int) -> Field:
        """The field for a time, in nanoseconds since the Unix epoch."""
        second = wall_ns // _NS_A_SECOND
        if second != self._second:
            self._second = second
            self._field = make_field(b"date", http_date(second))
        return self._field

    def now(self) -> Field:
        """The field for the time of the clock."""
        return self.at(clock.wall_ns(clock.monotonic_ns()))


DATE: Final = DateField()
"""For all connections of the process."""
