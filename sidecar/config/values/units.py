"""Numbers, words, durations, sizes and percentages as the file writes them. *Cold, pure.*"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Final

from sidecar.config.problems import did_you_mean
from sidecar.config.values.base import Reads, expected
from sidecar.config.yaml.scalars import Spelled

MAX_DURATION_S: Final = 7 * 24 * 3600.0
"""A week; what is meant to last longer is meant to have no limit."""
MAX_WEIGHT: Final = 1e9

_DURATION: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_LOOSE_DURATION: Final = re.compile(r"\s*([0-9.]{1,15})\s*([A-Za-z]*)\s*")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_WORDS: Final = {
    "": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "S": "s", "min": "m", "mins": "m", "minute": "m",
    "minutes": "m", "M": "m", "hour": "h", "hours": "h", "H": "h", "hr": "h", "msec": "ms", "millis": "ms", "MS": "ms",
}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]{1,15})(B|KB|MB|GB|KiB|MiB|GiB)?")
_LOOSE_SIZE: Final = re.compile(r"\s*([0-9]{1,15})\s*([kKmMgG])[iI]?[bB]?\s*")
_BYTES: Final = {
    None: 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_PERCENT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)%")


def value_of(written: object) -> object:
    """The boolean or number that was written, not its spelling; other values as they are."""
    return written.value if isinstance(written, Spelled) else written


def parse_boolean(written: object) -> bool:
    """Read `true` or `false`."""
    value = value_of(written)
    if isinstance(value, bool):
        return value
    known = {"yes": "true", "on": "true", "no": "false", "off": "false"}
    hint = f"did you mean `{known[value.lower()]}`?" if isinstance(value, str) and value.lower() in known else ""
    raise expected("`true` or `false`", hint)


def integer(lowest: int, highest: int) -> Reads:
    """An integer within bounds, both included."""
    what = f"an integer from {lowest} to {highest}"

    def parse(written: object) -> int:
        value = value_of(written)
        if not isinstance(value, int) or isinstance(value, bool):
            raise expected(what, _unquote_hint(value))
        if not lowest <= value <= highest:
            raise expected(what)
        return value

    return Reads(parse, {"type": "integer", "minimum": lowest, "maximum": highest})


def number(lowest: float, highest: float) -> Reads:
    """A number within bounds, both included."""
    what = f"a number from {lowest:g} to {highest:g}"

    def parse(written: object) -> float:
        value = _number(written, what)
        if not lowest <= value <= highest:
            raise expected(what)
        return value

    return Reads(parse, {"type": "number", "minimum": lowest, "maximum": highest})


def _number(written: object, what: str) -> float:
    value = value_of(written)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise expected(what, _unquote_hint(value))
    return float(value)


def _unquote_hint(value: object) -> str:
    is_number = isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value) is not None
    return "remove the quotes" if is_number else ""


def choice(*words: str, later: Callable[[str], str] | None = None) -> Reads:
    """One of `words`; `later` may return a message for a word that is part of the language but not read yet."""
    what = " or ".join([", ".join(f"`{word}`" for word in words[:-1]), f"`{words[-1]}`"])

    def parse(written: object) -> str:
        if isinstance(written, str) and not isinstance(written, Spelled):
            if written in words:
                return str(written)
            hint = later(written) if later is not None else ""
            raise expected(what, hint or did_you_mean(written, words))
        raise expected(what)

    return Reads(parse, {"enum": list(words)})


def parse_duration(written: object) -> float:
    """Read `250ms`, `2s`, `1.5s`, `5m`, `1h` as seconds; a bare `0` is zero."""
    value = value_of(written)
    what = "a duration such as `250ms`, `2s`, `5m` or `1h`"
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if not isinstance(written, str) or isinstance(value, bool):
        raise expected(what)
    match = _DURATION.fullmatch(written)
    if match is None:
        loose = _LOOSE_DURATION.fullmatch(written)
        likely = loose[1] + _DURATION_WORDS.get(loose[2], loose[2]) if loose else ""
        raise expected(what, f"did you mean `{likely}`?" if _DURATION.fullmatch(likely) else "")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > MAX_DURATION_S:
        raise expected("a duration of at most a week (`168h`)", "leave the key out where no limit is meant")
    return seconds


def parse_positive_duration(written: object) -> float:
    """Like `parse_duration`, but at least a millisecond."""
    seconds = parse_duration(written)
    if seconds < 0.001:
        raise expected("a duration of at least `1ms`", "to have no limit, leave the key out where it has no default")
    return seconds


def size(lowest: int, highest: int) -> Reads:
    """A size in bytes within bounds, both included: `64KiB`, `1MiB`, `10KB`, or a bare number."""
    what = "a size such as `64KiB`, `1MiB` or `10KB`"

    def parse(written: object) -> int:
        match = _SIZE.fullmatch(written) if isinstance(written, str) else None
        if match is None:
            loose = _LOOSE_SIZE.fullmatch(written) if isinstance(written, str) else None
            hint = f"did you mean `{loose[1]}{loose[2].upper()}iB`?" if loose else ""
            raise expected(what, hint)
        value = int(match[1]) * _BYTES[match[2]]
        if not lowest <= value <= highest:
            raise expected(f"a size from {_spell_size(lowest)} to {_spell_size(highest)}")
        return value

    pattern = r"^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)?$"
    return Reads(parse, {"anyOf": [{"type": "string", "pattern": pattern}, {"type": "integer", "minimum": lowest}]})


def _spell_size(value: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value and value % factor == 0:
            return f"`{value // factor}{unit}`"
    return f"`{value}`"


def parse_percent(written: object) -> float:
    """Read `5%` or a number from 0 to 100 as a number from 0 to 100."""
    what = "a percentage from `0%` to `100%`"
    match = _PERCENT.fullmatch(written) if isinstance(written, str) else None
    value = float(match[1]) if match else _number(written, what)
    if not 0 <= value <= 100:
        raise expected(what)
    return value


def parse_ratio(written: object) -> float:
    """Read a number from 0 to 1, or a percentage, as a number from 0 to 1."""
    what = "a number from 0 to 1, or a percentage such as `10%`"
    if isinstance(written, str) and written.endswith("%"):
        return parse_percent(written) / 100
    value = _number(written, what)
    if not 0 <= value <= 1:
        raise expected(what, f"did you mean `{written}%`?" if 1 < value <= 100 else "")
    return value


def parse_weight(written: object) -> float:
    """Read a number that is not negative, or a percentage, as a number."""
    what = "a weight: a number that is not negative, or a percentage"
    if isinstance(written, str) and written.endswith("%"):
        return parse_percent(written)
    value = _number(written, what)
    if not 0 <= value <= MAX_WEIGHT:
        raise expected(what)
    return value


def parse_positive_weight(written: object) -> float:
    """Like `parse_weight`, but more than zero."""
    value = parse_weight(written)
    if value <= 0:
        raise expected("a weight of more than 0", "to send nothing to it, remove it")
    return value


_DURATION_SCHEMA: Final = {
    "anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"}, {"const": 0}],
}
_PERCENT_SCHEMA: Final = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"}
_WEIGHT_SCHEMA: Final = {"anyOf": [{"type": "number", "minimum": 0}, _PERCENT_SCHEMA]}

Boolean = Annotated[bool, Reads(parse_boolean, {"type": "boolean"})]
Duration = Annotated[float, Reads(parse_duration, _DURATION_SCHEMA)]
"""Seconds; may be zero."""
PositiveDuration = Annotated[float, Reads(parse_positive_duration, _DURATION_SCHEMA["anyOf"][0])]
"""Seconds, at least 0.001."""
Ratio = Annotated[
    float, Reads(parse_ratio, {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, _PERCENT_SCHEMA]})
]
"""0 to 1."""
Weight = Annotated[float, Reads(parse_weight, _WEIGHT_SCHEMA)]
PositiveWeight = Annotated[float, Reads(parse_positive_weight, _WEIGHT_SCHEMA)]
Percent = Annotated[
    float, Reads(parse_percent, {"anyOf": [{"type": "number", "minimum": 0, "maximum": 100}, _PERCENT_SCHEMA]})
]
"""0 to 100."""
