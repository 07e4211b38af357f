"""Questions about one value."""

from __future__ import annotations

import pytest

from sidecar.routing.matchers import any_path, path_matcher, path_octets, value_matcher

OPERANDS: dict[str, tuple[object, bytes, bytes]] = {
    # kind: operand, a value that matches, one that does not
    "exact": ("v", b"v", b"w"),
    "prefix": ("v", b"v1", b"1v"),
    "suffix": ("v", b"1v", b"v1"),
    "contains": ("v", b"1v1", b"w"),
    "regex": ("v+", b"vv", b"vw"),
    "range": ((1, 5), b"4", b"5"),
}


class TestAbsentValues:
    """As measured of Envoy 1.33: `invert_match` is not applied to a missing header, except by `present_match`."""

    @pytest.mark.parametrize("kind", OPERANDS)
    @pytest.mark.parametrize("invert", [False, True])
    def test_an_absent_value_matches_no_question_about_its_content(self, kind: str, invert: bool) -> None:
        """Inverted or not, there is nothing that could be compared."""
        assert value_matcher(kind, OPERANDS[kind][0], invert=invert).test(None) is False  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("wanted", "invert", "when_there", "when_absent"),
        [
            (True, False, True, False),
            (False, False, False, True),
            (True, True, False, True),
            (False, True, True, False),
        ],
    )
    def test_present_is_asked_of_absent_values_too(
        self, wanted: bool, invert: bool, when_there: bool, when_absent: bool
    ) -> None:
        """`present: false` is `present: true` inverted; an empty value is there."""
        test = value_matcher("present", wanted, invert=invert).test
        assert (test(b"x"), test(b""), test(None)) == (when_there, when_there, when_absent)


@pytest.mark.parametrize("kind", OPERANDS)
def test_every_kind_says_yes_and_no_and_the_contrary_when_inverted(kind: str) -> None:
    """`invert` turns the answer around for a value that is there."""
    operand, yes, no = OPERANDS[kind]
    plain = value_matcher(kind, operand).test  # type: ignore[arg-type]
    inverted = value_matcher(kind, operand, invert=True).test  # type: ignore[arg-type]
    assert (plain(yes), plain(no)) == (True, False)
    assert (inverted(yes), inverted(no)) == (False, True)


@pytest.mark.parametrize(
    ("kind", "operand", "value"),
    [("exact", "aBc", b"AbC"), ("prefix", "aB", b"Abc"), ("suffix", "bC", b"aBc"), ("contains", "B", b"abc"),
     ("regex", "a[b]c", b"ABC")],
)  # fmt: skip
def test_ignore_case_folds_ascii_letters_and_only_when_asked(kind: str, operand: str, value: bytes) -> None:
    """Both sides are folded."""
    assert value_matcher(kind, operand, ignore_case=True).test(value)
    assert not value_matcher(kind, operand).test(value)


def test_ignore_case_leaves_letters_beyond_ascii_alone() -> None:
    """Octets have no case without an encoding."""
    assert not value_matcher("exact", "É", ignore_case=True).test("é".encode())


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        (b"10", True), (b"+10", True), (b"0010", True), (b"19", True), (b"20", False), (b"9", False),
        (b"-10", False), (b"", False), (b"+", False), (b"--10", False), (b" 10", False), (b"10 ", False),
        (b"1_0", False), (b"10.0", False), (b"0x10", False), ("١٠".encode(), False), (b"1e1", False),
        (b"0" * 60_000 + b"10", True), (b"9" * 60_000, False), (b"10\n", False),
    ],
)  # fmt: skip
def test_range_reads_strict_integers_only(value: bytes, inside: bool) -> None:
    """An optional sign and ASCII digits; the start is in the range, the end is not; length is no danger."""
    assert value_matcher("range", (10, 20)).test(value) is inside
    assert value_matcher("range", (10, 20), invert=True).test(value) is not inside


def test_range_reaches_below_zero_and_to_64_bits() -> None:
    """Bounds are integers of 64 bits."""
    assert value_matcher("range", (-5, 0)).test(b"-1")
    assert value_matcher("range", (0, 2**63 - 1)).test(b"9223372036854775806")
    assert not value_matcher("range", (0, 2**63 - 1)).test(b"9223372036854775807")
    assert value_matcher("range", (-(2**63), 0)).test(b"-9223372036854775808")
    assert not value_matcher("range", (-(2**63), 0)).test(b"-" + b"9" * 30)


class TestRegularExpressions:
    """RE2 on octets; whole values."""

    def test_a_regular_expression_must_match_the_whole_value(self) -> None:
        """A part that matches is not enough, and a newline at the end is part of the value."""
        test = value_matcher("regex", "v[0-9]").test
        assert test(b"v1")
        assert not any(test(value) for value in (b"v10", b"xv1", b"v1\n", b""))

    def test_an_alternative_does_not_escape_the_anchors(self) -> None:
        """`a|b` is one of two whole values."""
        test = value_matcher("regex", "a|b").test
        assert test(b"b")
        assert not test(b"ax")

    @pytest.mark.parametrize("octet", range(256))
    def test_a_dot_matches_every_octet(self, octet: int) -> None:
        """So a rule with `.*` cannot be dodged by an odd encoding."""
        assert value_matcher("regex", ".").test(bytes([octet]))
        assert value_matcher("regex", "[^x]*x?.*").test(bytes([octet]))

    def test_a_pattern_with_characters_beyond_ascii_reads_utf_8(self) -> None:
        """A character class holds characters, not their octets; a value that is not UTF-8 has no characters."""
        test = value_matcher("regex", "caf[éè]").test
        assert test("café".encode())
        assert not test(b"caf\xc3")
        assert not test("café".encode("latin-1"))
        assert value_matcher("regex", r"\p{Greek}").test("λ".encode())

    def test_nested_repetition_takes_linear_time(self) -> None:
        """No back-tracking: this pattern would take a back-tracking engine longer than the universe has."""
        assert not value_matcher("regex", "(a*)*b").test(b"a" * 5000)

    @pytest.mark.parametrize("pattern", ["(", "(?=a)", "[a", r"(a)\1", "(a{1000}){1000}"])
    def test_an_invalid_pattern_is_refused_with_its_text(self, pattern: str) -> None:
        """The message quotes the pattern and says whose syntax it is."""
        with pytest.raises(ValueError, match="RE2") as caught:
            value_matcher("regex", pattern)
        assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "operand"),
    [("range", (5, 5)), ("range", (5, 1)), ("range", (0, 2**63)), ("range", (True, 5)), ("range", "1"),
     ("present", "1"), ("exact", (5, 6)), ("prefix", ""), ("suffix", ""), ("contains", ""), ("starts_with", "x"),
     ("like", "x")],
)  # fmt: skip
def test_an_operand_that_does_not_fit_is_refused(kind: str, operand: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError):
        value_matcher(kind, operand)  # type: ignore[arg-type]


def test_a_question_reads_as_text() -> None:
    """What an operator is shown."""
    assert value_matcher("prefix", "b", ignore_case=True, invert=True).text == 'not prefix "b" (any case)'
    assert value_matcher("range", (1, 5)).text == "range [1, 5)"
    assert value_matcher("present", False).text == "present false"


class TestPaths:
    """Paths arrive in normal form; patterns are brought into it."""

    @pytest.mark.parametrize(
        ("kind", "operand", "path", "matches"),
        [
            ("exact", "/v1", b"/v1", True), ("exact", "/v1", b"/v1/", False), ("exact", "/v1", b"/V1", False),
            ("exact", "*", b"*", True),
            ("prefix", "/v1", b"/v1", True), ("prefix", "/v1", b"/v1/", True), ("prefix", "/v1", b"/v1/x", True),
            ("prefix", "/v1", b"/v1x", False), ("prefix", "/v1", b"/v", False), ("prefix", "/v1", b"/", False),
            ("prefix", "/v1/", b"/v1", True), ("prefix", "/v1/", b"/v1/x", True), ("prefix", "/v1/", b"/v1x", False),
            ("prefix", "/", b"/", True), ("prefix", "/", b"/x", True), ("prefix", "/", b"*", False),
            ("prefix", "/v1//", b"/v1//x", True), ("prefix", "/v1//", b"/v1/x", False),
            ("starts_with", "/v1", b"/v1x", True), ("starts_with", "/v1", b"/v", False),
            ("starts_with", "/.", b"/.git", True), ("starts_with", "/.", b"/git", False),
            ("suffix", ".js", b"/a.js", True), ("suffix", ".js", b"/a.jsx", False),
            ("contains", "/admin", b"/x/admin/y", True), ("contains", "/admin", b"/x", False),
            ("regex", "/v[0-9]+/.*", b"/v12/x", True), ("regex", "/v[0-9]+", b"/v12/x", False),
        ],
    )  # fmt: skip
    def test_each_kind_of_question(self, kind: str, operand: str, path: bytes, matches: bool) -> None:
        """And its inversion says the contrary."""
        assert path_matcher(kind, operand).test(path) is matches
        assert path_matcher(kind, operand, invert=True).test(path) is not matches

    @pytest.mark.parametrize("kind", ["exact", "prefix", "starts_with"])
    @pytest.mark.parametrize("written", ["/café/~x", "/caf%c3%a9/%7ex", "/caf%C3%A9/~x", "/./caf%C3%A9/y/../~x"])
    def test_patterns_are_brought_into_the_normal_form_of_paths(self, kind: str, written: str) -> None:
        """However the pattern is written, the one path that arrives is found."""
        assert path_matcher(kind, written).test(b"/caf%C3%A9/~x")

    @pytest.mark.parametrize("kind", ["exact", "prefix", "starts_with", "suffix", "contains"])
    def test_ignore_case_folds_both_sides(self, kind: str) -> None:
        """ASCII letters only."""
        assert path_matcher(kind, "/Ab", ignore_case=True).test(b"/aB")
        assert not path_matcher(kind, "/Ab").test(b"/aB")

    @pytest.mark.parametrize("invert", [False, True])
    @pytest.mark.parametrize(
        ("kind", "operand"), [("exact", "/"), ("prefix", "/"), ("starts_with", "/"), ("regex", ".*")]
    )
    def test_connect_has_no_path_that_could_match(self, kind: str, operand: str, invert: bool) -> None:
        """Like an absent value, inverted or not."""
        assert path_matcher(kind, operand, invert=invert).test(b"") is False

    @pytest.mark.parametrize(
        ("kind", "operand"),
        [("exact", "v1"), ("exact", ""), ("prefix", "v1"), ("prefix", "*"), ("starts_with", ""), ("suffix", ""),
         ("contains", ""), ("exact", "/a?b"), ("prefix", "/a#b"), ("suffix", "?x"), ("exact", "/%zz"),
         ("starts_with", "/%4"), ("range", "/"), ("present", "/"), ("regex", "(")],
    )  # fmt: skip
    def test_what_no_path_can_be_is_refused(self, kind: str, operand: str) -> None:
        """It would be a route that silently never matches."""
        with pytest.raises(ValueError):
            path_matcher(kind, operand)

    def test_any_of_several_is_enough(self) -> None:
        """One alone is itself; it reads as all of them, and names no prefix that could be replaced."""
        one, other = path_matcher("exact", "/ready"), path_matcher("prefix", "/live", ignore_case=True)
        assert any_path([one]) is one
        both = any_path([one, other])
        assert [both.test(path) for path in (b"/ready", b"/LIVE/x", b"/ready/x", b"")] == [True, True, False, False]
        assert both.text == 'exact "/ready" or prefix "/live" (any case)'
        assert both.replaceable is None

    @pytest.mark.parametrize("octet", range(256))
    def test_every_octet_is_either_kept_or_encoded(self, octet: int) -> None:
        """Visible ASCII stays; the rest is percent-encoded as UTF-8; `?` and `#` end a path and are refused."""
        text = chr(octet)
        if text in "?#":
            with pytest.raises(ValueError):
                path_octets(text)
        elif 0x21 <= octet <= 0x7E:
            assert path_octets(text) == bytes([octet])
        else:
            assert path_octets(text) == b"".join(b"%%%02X" % part for part in text.encode())
