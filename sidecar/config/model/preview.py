"""What is kept of recent requests, and what a reload may do to them. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from sidecar.config.values.base import Model, OneOrMany, Reads, Short, expected, setting
from sidecar.config.values.units import Percent, integer, size, value_of
from sidecar.config.values.words import CookieName, HeaderName, ParameterName
from sidecar.config.yaml.scalars import Spelled

MAX_KEPT: Final = 100_000
OFF: Final = "off"


def parse_keep(written: object) -> int:
    """Read a number of requests, or `off` for none."""
    value = value_of(written)
    if value == OFF and not isinstance(written, Spelled):
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_KEPT:
        raise expected(f"an integer from 0 to {MAX_KEPT}, or `off`")
    return value


class RecentRequests(Model):
    """Which heads of requests are kept, for `sidecar preview` and `sidecar explain`."""

    is_one_value: ClassVar[bool] = True

    keep: Annotated[
        int, Reads(parse_keep, {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_KEPT}, {"const": OFF}]})
    ] = setting(2000, "How many requests; 0 or `off`: none.")
    max_size: Annotated[int, size(64 * 1024, 256 * 1024 * 1024)] = setting(
        2 * 1024 * 1024, "What they may take of memory, of each worker.", "2MiB"
    )
    headers: Annotated[list[HeaderName], OneOrMany(may_be_empty=True)] = setting(
        [], "Headers that are kept besides those that routes, rules and keys read."
    )
    cookies: Annotated[list[CookieName], OneOrMany(may_be_empty=True)] = setting([], "Cookies, likewise.")
    query: Annotated[list[ParameterName], OneOrMany(may_be_empty=True)] = setting([], "Query parameters, likewise.")


RecentSetting = Annotated[
    RecentRequests,
    Short(
        "keep",
        "`off`, a number, or a mapping `{keep, max_size, headers, cookies, query}`",
        {"anyOf": [{"const": OFF}, {"type": "integer", "minimum": 0, "maximum": MAX_KEPT}]},
    ),
]


class Guard(Model):
    """What a reload may do to recent requests before it is refused."""

    max_moved: Percent = setting(..., "Share of the recent requests that may go elsewhere.")
    min_requests: Annotated[int, integer(1, MAX_KEPT)] = setting(
        100, "With fewer recent requests than that nothing is refused."
    )


class Reload(Model):
    """When a changed file is put in force."""

    guard: Guard | None = setting(None, "Refuses a file that sends too many of the recent requests elsewhere.")
