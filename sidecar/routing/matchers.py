"""
Questions about one value: a header, a cookie, a query parameter, a path. *Hot path; pure.*

Values are octets as received, patterns are text from the configuration, encoded as UTF-8. An absent value (None)
answers only `present`; every other question says no to it, and `invert` does not turn that around. That is what Envoy,
and so App Mesh, does: "not prod" is asked of a value that is there.

Regular expressions are RE2's (linear time, no back-references) and match the whole value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import re2

from sidecar.http1.grammar import TARGET
from sidecar.http1.target import normalise
from sidecar.routing.template import Template, lowered, make_template

ValueKind = Literal["exact", "prefix", "suffix", "contains", "regex", "range", "present"]
PathKind = Literal["exact", "prefix", "template", "starts_with", "suffix", "contains", "regex"]

_INT64: Final = 2**63
_MAX_REGEX_MEMORY: Final = 8 << 20
"""Bytes that RE2 may use for one pattern; its own default, 8 MiB. Larger patterns are refused when compiled."""

_PATH: Final = bytes(set(TARGET) - set(b"?"))
"""What a path may hold on the wire: visible ASCII without `#` and `?`."""


@dataclass(frozen=True, slots=True)
class ValueMatcher:
    """
    One question about one value.

    Attributes:
        kind: Which question.
        text: The question as a person reads it: `not prefix "beta-" (any case)`.
        test: Answers it; None is an absent value.
        operand: Of `exact` in this very case, the value that is asked for, whether inverted or not; else None.
    """

    kind: str
    text: str
    test: Callable[[bytes | None], bool] = field(compare=False, repr=False)
    operand: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def is_of_equality(self) -> bool:
        """Whether it asks for nothing but whether the value is there, and whether it is this one."""
        return self.kind == "present" or self.operand is not None


@dataclass(frozen=True, slots=True)
class PathMatcher:
    """
    One question about a normalised path.

    Attributes:
        kind: Which question.
        text: The question as a person reads it.
        value: The pattern in the normal form of paths; of `prefix`, without its trailing slash, so that `/` is empty;
            of `template` as written.
        is_plain: Neither inverted nor ignoring case: the table may find it by lookup.
        test: Answers it. CONNECT has no path, so that no question, inverted or not, says yes to it.
        alternatives: Of kind `any`, the questions of which one is enough; else empty.
        template: Of kind `template`, what it is; else None.
    """

    kind: str
    text: str
    value: bytes
    is_plain: bool
    is_inverted: bool
    test: Callable[[bytes], bool] = field(compare=False, repr=False)
    alternatives: tuple[PathMatcher, ...] = ()
    template: Template | None = None

    @property
    def replaceable(self) -> int | None:
        """How many octets of a matching path a prefix rewrite replaces; None if this question names no prefix."""
        if self.is_inverted or self.kind not in ("exact", "prefix", "starts_with"):
            return None
        return len(self.value)

    @property
    def http_route(self) -> str:
        """The template that every matching path has, as `http.route` shows it; empty if this question names none."""
        return "" if self.template is None or self.is_inverted else self.template.text


def value_matcher(
    kind: str, operand: str | bool | tuple[int, int], *, ignore_case: bool = False, invert: bool = False
) -> ValueMatcher:
    """
    Compile a question about a header, cookie or query parameter.

    Args:
        kind: One of `ValueKind`.
        operand: `(start, end)` for `range` (end excluded), a bool for `present`, else text.
        ignore_case: ASCII letters match in either case; of no use to `range` and `present`.
        invert: Turns the answer around for values that are there (and, for `present`, always).

    Raises:
        ValueError: The kind is unknown, the operand does not fit it, or the regular expression is invalid.
    """
    if kind not in get_args(ValueKind):
        raise ValueError(f"expected one of {', '.join(get_args(ValueKind))}, found {kind!r}")
    if kind == "present":
        return _present(operand, invert)
    if kind == "range":
        return ValueMatcher(kind, _text(kind, operand, False, invert), _value_test(_range(operand), invert))
    if not isinstance(operand, str):
        raise ValueError(f"{kind}: expected text, found {operand!r}")
    question = _octets_test(kind, operand.encode(), operand, ignore_case)
    value = operand.encode() if kind == "exact" and not ignore_case else None
    return ValueMatcher(kind, _text(kind, operand, ignore_case, invert), _value_test(question, invert), value)


def path_matcher(kind: str, operand: str, *, ignore_case: bool = False, invert: bool = False) -> PathMatcher:
    """
    Compile a question about the path.

    `exact`, `prefix` and `starts_with` are brought into the normal form in which paths are matched, so that
    `/caf%c3%a9`, `/caf%C3%A9` and the same in plain UTF-8 are one pattern. `prefix` matches whole segments: `/v1` and
    `/v1/` both match `/v1`, `/v1/` and `/v1/x`, and neither matches `/v1x`. `template` matches segment by segment
    (`path_template`), its literals in the normal form. `suffix`, `contains` and `regex` look at the normal form and are
    taken as written.

    Raises:
        ValueError: The kind is unknown, the operand is no path, or the regular expression is invalid.
    """
    if kind not in get_args(PathKind):
        raise ValueError(f"expected one of {', '.join(get_args(PathKind))}, found {kind!r}")
    value = _path_operand(kind, operand)
    template = make_template(operand, path_octets) if kind == "template" else None
    if template is not None:
        question = _template_test(template, ignore_case)
    elif kind == "prefix":
        question = _segments_test(value, ignore_case)
    else:
        question = _octets_test("prefix" if kind == "starts_with" else kind, value, operand, ignore_case)

    def test(path: bytes) -> bool:
        return path != b"" and question(path) is not invert

    is_plain = not (ignore_case or invert)
    return PathMatcher(kind, _text(kind, operand, ignore_case, invert), value, is_plain, invert, test, (), template)


def any_path(matchers: Sequence[PathMatcher]) -> PathMatcher:
    """One question of several: whether any of them says yes. At least one is needed."""
    if len(matchers) == 1:
        return matchers[0]
    tests = tuple(matcher.test for matcher in matchers)

    def test(path: bytes) -> bool:
        return any(one(path) for one in tests)

    text = " or ".join(matcher.text for matcher in matchers)
    return PathMatcher("any", text, b"", False, False, test, tuple(matchers))


def path_octets(text: str) -> bytes:
    """
    Text of the configuration as a path may hold it: what is not visible ASCII is percent-encoded as UTF-8.

    Raises:
        ValueError: It holds `?` or `#`, which end a path.
    """
    if "?" in text or "#" in text:
        raise ValueError(f"expected a path, found {text!r}: a query or fragment is no part of it")
    return b"".join(bytes([octet]) if octet in _PATH else b"%%%02X" % octet for octet in text.encode())


def compile_regex(pattern: str, *, ignore_case: bool = False, captures: bool = False) -> re2._Regexp:
    """
    Compile a regular expression for octets.

    A pattern of ASCII only reads a value octet by octet, so that `.*` misses no value, whatever its encoding. A
    pattern that speaks of characters, by others than ASCII, `\\p{...}` or `\\x{...}`, reads the value as UTF-8, so
    that `[äö]` is one of two letters; a value that is not UTF-8 then matches nothing. `.` matches the newline, which
    a decoded query can hold.

    Raises:
        ValueError: RE2 does not understand it, or it needs more than 8 MiB.
    """
    options = re2.Options()
    encodings = re2.Options.Encoding
    is_of_octets = pattern.isascii() and not any(mark in pattern for mark in ("\\p", "\\P", "\\x{"))
    options.encoding = encodings.LATIN1 if is_of_octets else encodings.UTF8
    options.case_sensitive = not ignore_case
    options.never_capture = not captures
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = _MAX_REGEX_MEMORY
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"regex {pattern!r}: {reason}; the syntax is RE2's") from None


def _present(operand: object, invert: bool) -> ValueMatcher:
    if not isinstance(operand, bool):
        raise ValueError(f"present: expected true or false, found {operand!r}")
    text = _text("present", operand, False, invert)
    if operand is not invert:
        return ValueMatcher("present", text, lambda value: value is not None)
    return ValueMatcher("present", text, lambda value: value is None)


def _value_test(question: Callable[[bytes], bool], invert: bool) -> Callable[[bytes | None], bool]:
    if invert:
        return lambda value: value is not None and not question(value)
    return lambda value: value is not None and question(value)


def _octets_test(kind: str, wanted: bytes, operand: str, ignore_case: bool) -> Callable[[bytes], bool]:
    if kind == "regex":
        fullmatch = compile_regex(operand, ignore_case=ignore_case).fullmatch
        return lambda value: fullmatch(value) is not None
    if kind != "exact" and not wanted:
        raise ValueError(f"{kind}: expected text, found nothing; use present: true for any value")
    if ignore_case:
        # bytes.lower changes ASCII letters only.
        question = _octets_test(kind, wanted.lower(), operand, False)
        return lambda value: question(value.lower())
    if kind == "exact":
        return lambda value: value == wanted
    if kind == "prefix":
        return lambda value: value.startswith(wanted)
    if kind == "suffix":
        return lambda value: value.endswith(wanted)
    return lambda value: value.find(wanted) >= 0


def _segments_test(wanted: bytes, ignore_case: bool) -> Callable[[bytes], bool]:
    if ignore_case:
        question = _segments_test(wanted.lower(), False)
        return lambda path: question(path.lower())
    below = wanted + b"/"
    return lambda path: path == wanted or path.startswith(below)


def _template_test(template: Template, ignore_case: bool) -> Callable[[bytes], bool]:
    if ignore_case:
        question = lowered(template).matches
        return lambda path: question(path.lower())
    return template.matches


def _range(operand: object) -> Callable[[bytes], bool]:
    if not (
        isinstance(operand, tuple) and len(operand) == 2 and all(type(bound) is int for bound in operand)
    ):  # a bool is an int, and no bound
        raise ValueError(f"range: expected [start, end), two integers, found {operand!r}")
    start: int = operand[0]
    end: int = operand[1]
    if not (-_INT64 <= start < end < _INT64):
        raise ValueError(f"range: expected start below end, both of 64 bits, found [{start}, {end})")

    def question(value: bytes) -> bool:
        sign = value[:1]
        digits = value[1:] if sign in (b"+", b"-") else value
        # bytes.isdigit is true for ASCII digits only. More than 19 of them are outside of 64 bits; int() of all that a
        # header may hold would be quadratic, and raises beyond a limit.
        if not digits.isdigit() or len(digits := digits.lstrip(b"0") or b"0") > 19:
            return False
        return start <= (-int(digits) if sign == b"-" else int(digits)) < end

    return question


def _path_operand(kind: str, operand: str) -> bytes:
    if kind in ("regex", "template"):
        return operand.encode()
    if kind in ("suffix", "contains"):
        return path_octets(operand)
    if kind == "exact" and operand == "*":  # OPTIONS *
        return b"*"
    if not operand.startswith("/"):
        raise ValueError(f"{kind}: expected a path that begins with /, found {operand!r}")
    path = path_octets(operand)
    if kind == "starts_with":
        # What follows may complete a segment: `/.` is the start of `/.git`, not a dot segment.
        return normalise(path + b"x")[:-1]
    path = normalise(path)
    return path[:-1] if kind == "prefix" and path.endswith(b"/") else path


def _text(kind: str, operand: object, ignore_case: bool, invert: bool) -> str:
    shown = f'"{operand}"' if isinstance(operand, str) else str(operand).lower()
    if isinstance(operand, tuple):
        shown = f"[{operand[0]}, {operand[1]})"
    return f"{'not ' if invert else ''}{kind} {shown}{' (any case)' if ignore_case else ''}"
