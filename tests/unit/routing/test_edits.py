"""Header edits."""

from __future__ import annotations

import pytest

from sidecar.http1.forward import NO_VIA, VIA
from sidecar.http1.grammar import field_of
from sidecar.http1.head import parse_response_head
from sidecar.message import Field, Kind, ResponseHead, Version
from sidecar.routing.edits import HeaderEdits, can_edit, header_edits, merge_edits, without_via

OURS = b"via: 1.1 sidecar"


def fields_of(*lines: bytes) -> list[Field]:
    return [field_of(line) for line in lines]


def wires(fields: list[Field]) -> list[bytes]:
    return [field.wire for field in fields]


def edits_of(**arguments: object) -> HeaderEdits:
    edits = header_edits(**arguments)  # type: ignore[arg-type]
    assert edits is not None
    return edits


def test_set_replaces_the_first_in_place_and_drops_the_others() -> None:
    """In any case of the name."""
    edits = edits_of(sets={"X-Env": "canary"})
    assert wires(edits.apply(fields_of(b"a: 1", b"x-env: x", b"b: 2", b"X-ENV: y"))) == [
        b"a: 1", b"X-Env: canary", b"b: 2",
    ]  # fmt: skip
    assert wires(edits.apply(fields_of(b"a: 1"))) == [b"a: 1", b"X-Env: canary"]


def test_add_appends_and_keeps_what_is_there() -> None:
    """A value or several."""
    edits = edits_of(adds={"x-tag": ["1", "2"], "x-other": "3"})
    assert wires(edits.apply(fields_of(b"x-tag: 0"))) == [b"x-tag: 0", b"x-tag: 1", b"x-tag: 2", b"x-other: 3"]


def test_remove_takes_every_field_of_the_name() -> None:
    """Others keep their order."""
    edits = edits_of(removes=["X-Debug"])
    assert wires(edits.apply(fields_of(b"a: 1", b"x-debug: 1", b"b: 2", b"X-DEBUG: 2"))) == [b"a: 1", b"b: 2"]
    assert wires(edits.apply([])) == []


def test_remove_comes_first_then_set_then_add() -> None:
    """So a name in all three ends with the values set and added."""
    edits = edits_of(sets={"x": "set"}, adds={"x": "added"}, removes=["x"])
    assert wires(edits.apply(fields_of(b"x: 1", b"x: 2"))) == [b"x: set", b"x: added"]
    assert wires(edits_of(adds={"x": "added"}, removes=["x"]).apply(fields_of(b"x: 1"))) == [b"x: added"]


def test_the_original_list_is_untouched() -> None:
    """Another attempt may need it."""
    fields = fields_of(b"x: 1", b"a: 2")
    edits_of(sets={"x": "2"}, removes=["a"]).apply(fields)
    assert wires(fields) == [b"x: 1", b"a: 2"]


def test_fields_that_are_brought_have_their_kind() -> None:
    """So the proxy still recognises an agent or an address that the configuration sets."""
    edits = edits_of(sets={"User-Agent": "1"}, adds={"x-forwarded-for": "192.0.2.7"})
    assert edits.kinds == Kind.USER_AGENT | Kind.FORWARDED_FOR
    assert [field.kind for field in edits.apply([])] == [Kind.USER_AGENT, Kind.FORWARDED_FOR]


def test_nothing_to_do_is_none() -> None:
    """The data path then asks nothing."""
    assert header_edits() is None
    assert header_edits({}, {}, []) is None


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Transfer-Encoding", "connection", "Keep-Alive", "TE", "trailer", "Upgrade", "Expect",
     "proxy-connection", "Proxy-Authorization", "proxy-authenticate", "http2-settings", "", "a b", "a:b", ":path",
     "x\n", "é"],
)  # fmt: skip
def test_headers_that_the_proxy_owns_cannot_be_edited(name: str) -> None:
    """They frame the message or belong to one connection; nor can what is no name."""
    assert not can_edit(name)
    for arguments in ({"sets": {name: "1"}}, {"adds": {name: "1"}}, {"removes": [name]}):
        with pytest.raises(ValueError, match="expected a header that may be edited"):
            header_edits(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x-env", "Cookie", "Authorization", "user-agent", "x-forwarded-for", "Set-Cookie"])
def test_other_headers_can_be_edited(name: str) -> None:
    """Those that end at the app."""
    assert can_edit(name)


@pytest.mark.parametrize("octet", range(256))
def test_no_value_can_break_out_of_its_line(octet: int) -> None:
    """Every octet, in the middle of a value: control characters other than the tab are refused."""
    value = f"a{chr(octet)}b"
    if (octet < 0x20 and octet != 0x09) or octet == 0x7F:
        with pytest.raises(ValueError, match="expected a header value"):
            header_edits({"x": value})
    else:
        assert wires(edits_of(sets={"x": value}).apply([])) == [b"x: " + value.encode()]


@pytest.mark.parametrize("octet", range(256))
def test_no_name_can_break_out_of_its_line(octet: int) -> None:
    """Every octet: tokens only (RFC 9110, 5.6.2)."""
    is_token = chr(octet).isascii() and (chr(octet).isalnum() or chr(octet) in "!#$%&'*+-.^_`|~")
    assert can_edit(f"x{chr(octet)}y") is is_token


def test_a_name_cannot_be_set_twice() -> None:
    """Names are the same in any case."""
    with pytest.raises(ValueError, match="twice"):
        header_edits({"x-env": "1", "X-Env": "2"})


def test_merging_with_nothing_changes_nothing() -> None:
    """The very object, even."""
    edits = edits_of(sets={"x": "1"})
    assert merge_edits(None, None) is None
    assert merge_edits(edits, None) is edits
    assert merge_edits(None, edits) is edits


def test_the_second_of_merged_edits_has_the_last_word() -> None:
    """As if one were applied after the other; equal edits are equal."""
    route = edits_of(sets={"x-env": "all", "x-a": "1"}, adds={"x-tag": "route"}, removes=["x-debug"])
    target = edits_of(sets={"x-env": "canary"}, adds={"x-debug": "1", "x-tag": "target"}, removes=["x-a"])
    merged = merge_edits(route, target)
    assert merged is not None
    assert sorted(wires(merged.apply(fields_of(b"x-debug: 0", b"x-a: 0")))) == [
        b"x-debug: 1", b"x-env: canary", b"x-tag: route", b"x-tag: target",
    ]  # fmt: skip


def test_edits_are_equal_when_they_do_the_same() -> None:
    """A reload can tell that nothing changed."""
    assert edits_of(sets={"x": "1", "y": "2"}) == edits_of(sets={"y": "2", "x": "1"})
    assert edits_of(sets={"x": "1"}) != edits_of(sets={"x": "2"})
    assert len({edits_of(removes=["x"]), edits_of(removes=["X"])}) == 1


class TestWhatTheProxyAdds:
    """Edits have the last word over lines of the proxy's own."""

    @pytest.mark.parametrize(
        ("arguments", "via"),
        [
            ({"sets": {"x-a": "1"}}, [b"via: 1.0 before", OURS]),
            ({"removes": ["Via"]}, []),
            ({"sets": {"via": "1.1 theirs"}}, [b"via: 1.1 theirs"]),
            ({"adds": {"via": "1.1 theirs"}}, [b"via: 1.0 before", OURS, b"via: 1.1 theirs"]),
        ],
    )
    def test_via(self, arguments: dict[str, object], via: list[bytes]) -> None:
        """In requests ours is a line beside the edited fields, in responses one of them."""
        edits = edits_of(**arguments)
        head = parse_response_head(b"HTTP/1.1 200 OK\r\nvia: 1.0 before", 100, b"GET")
        assert [field.wire for field in edits.apply_to_response(head) if field.name == b"via"] == via
        assert (edits.via == VIA) == (OURS in via)
        assert (edits.via == NO_VIA) == (OURS not in via)

    def test_via_of_a_response_says_which_version_came(self) -> None:
        """RFC 9110, 7.6.3."""
        head = ResponseHead(200, b"", Version.HTTP2)
        fields = edits_of(sets={"x-a": "1"}).apply_to_response(head)
        assert [field.wire for field in fields if field.name == b"via"] == [b"via: 2 sidecar"]

    @pytest.mark.parametrize(
        ("arguments", "received", "dates"),
        [
            ({"sets": {"x-a": "1"}}, b"x: 1", 1),
            ({"sets": {"x-a": "1"}}, b"Date: then", [b"Date: then"]),
            ({"removes": ["Date"]}, b"x: 1", []),
            ({"removes": ["Date"]}, b"Date: then", []),
            ({"sets": {"date": "now"}}, b"x: 1", [b"date: now"]),
        ],
    )
    def test_date(self, arguments: dict[str, object], received: bytes, dates: list[bytes] | int) -> None:
        """A response that lacks it gets it, and then it can be edited as if it had come."""
        head = parse_response_head(b"HTTP/1.1 200 OK\r\n" + received, 100, b"GET")
        found = [field.wire for field in edits_of(**arguments).apply_to_response(head) if field.name == b"date"]
        assert (len(found) if isinstance(dates, int) else found) == dates

    @pytest.mark.parametrize(
        ("arguments", "edits_forwarded"),
        [
            ({"removes": ["X-Forwarded-For"]}, True),
            ({"sets": {"x-forwarded-proto": "https"}}, True),
            ({"adds": {"x-forwarded-for": "5.6.7.8"}}, True),
            ({"removes": ["x-forwarded-host"], "sets": {"forwarded": "x"}}, False),
        ],
    )
    def test_forwarding_fields(self, arguments: dict[str, object], edits_forwarded: bool) -> None:
        """Whether these edits must see those of ours."""
        assert edits_of(**arguments).edits_forwarded is edits_forwarded

    def test_a_configuration_without_via_is_in_all_edits(self) -> None:
        """Also where there was nothing to edit, and after merging; the fields are a new list all the same."""
        alone = without_via(None)
        assert alone.via == NO_VIA
        assert alone.apply(fields := fields_of(b"a: 1")) == fields
        assert alone.apply(fields) is not fields
        assert without_via(edits_of(adds={"x-a": "1"})).via == NO_VIA
        merged = merge_edits(without_via(edits_of(adds={"x-a": "1"})), edits_of(removes=["x-b"]))
        assert merged is not None
        assert merged.via == NO_VIA
        assert without_via(edits_of(removes=["x-b"])) != edits_of(removes=["x-b"])
