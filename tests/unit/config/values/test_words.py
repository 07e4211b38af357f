"""Names, header fields, paths and regular expressions; each table over all 256 octets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic_core import PydanticCustomError

from sidecar.config.values.words import (
    FIXED_HEADERS,
    parse_cookie_name,
    parse_edited_header_name,
    parse_free_name,
    parse_header_name,
    parse_header_value,
    parse_method,
    parse_regex,
    parse_upgrade,
    path,
)
from sidecar.http1 import grammar
from sidecar.routing.edits import can_edit, editable_field
from sidecar.routing.matchers import path_matcher, value_matcher

TOKEN = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def accepted(parse: Callable[[object], object], frame: str = "a{}b") -> set[str]:
    """The characters U+0000 to U+00FF that may stand inside of a value."""
    characters = set()
    for octet in range(256):
        try:
            parse(frame.format(chr(octet)))
        except PydanticCustomError:
            continue
        characters.add(chr(octet))
    return characters


@pytest.mark.parametrize("parse", [parse_header_name, parse_edited_header_name, parse_method])
def test_tokens_hold_tchars_only(parse: Callable[[object], object]) -> None:
    """RFC 9110, section 5.6.2, at every octet."""
    assert accepted(parse) == TOKEN


def test_header_values_hold_no_control_characters() -> None:
    """RFC 9110, section 5.5: neither CR, LF, NUL nor another control character but the tab."""
    assert accepted(parse_header_value) == {chr(octet) for octet in range(256) if octet >= 32 and octet != 127} | {"\t"}
    for value in ("a\n", "\na", " a", "a ", "\t", "a\r\nx: y"):
        with pytest.raises(PydanticCustomError):
            parse_header_value(value)


def test_cookie_names_hold_no_separators() -> None:
    """No white space, control character, comma, semicolon, equals sign or quote."""
    assert accepted(parse_cookie_name) == {
        chr(octet) for octet in range(256) if octet > 32 and octet != 127 and chr(octet) not in ';=,"'
    }


def test_free_names_are_printable() -> None:
    """A service's or a test's name goes into logs; it holds no control character."""
    assert all(character.isprintable() for character in accepted(parse_free_name))
    for name in ("", "  ", "x" * 201, "a\nb", None):
        with pytest.raises(PydanticCustomError):
            parse_free_name(name)


@pytest.mark.parametrize("end", ["\n", "\r", "\0", " "])
def test_a_line_break_at_the_end_is_no_part_of_a_name(end: str) -> None:
    """The fault of patterns that end in `$`."""
    for parse in (parse_header_name, parse_method, parse_cookie_name):
        with pytest.raises(PydanticCustomError):
            parse("ab" + end)


def test_the_router_agrees_on_which_headers_may_be_edited() -> None:
    """`FIXED_HEADERS` and `routing.edits.can_edit` say the same of every header that the grammar knows."""
    known = {name.decode() for name in grammar._KINDS} | FIXED_HEADERS | {"x-env", "cookie", "via", "trailer"}
    assert {name for name in known if not can_edit(name)} == FIXED_HEADERS


def test_the_router_accepts_what_is_accepted_here() -> None:
    """Every character that a header value may hold here can be compiled."""
    for character in accepted(parse_header_value):
        assert editable_field("x-a", f"a{character}b").name == b"x-a"


def test_fixed_headers_are_refused_with_what_to_do_instead() -> None:
    """`Host` has a key of its own."""
    with pytest.raises(PydanticCustomError) as caught:
        parse_edited_header_name("Host")
    assert caught.value.context == {
        "message": "the header `host` cannot be edited", "hint": "use `rewrite: {host: ...}`",
    }  # fmt: skip


def test_pseudo_headers_are_refused_with_what_to_do_instead() -> None:
    """Users of Envoy know `:authority`."""
    with pytest.raises(PydanticCustomError) as caught:
        parse_header_name(":authority")
    assert caught.value.context is not None
    assert caught.value.context["hint"] == "use `host` of `match`"


def test_methods_are_case_sensitive() -> None:
    """`get` is a slip; an unknown method in lower case is a method."""
    assert parse_method("GET") == "GET"
    assert parse_method("purge") == "purge"
    with pytest.raises(PydanticCustomError):
        parse_method("get")


@pytest.mark.parametrize("written", ["/", "/v1", "/v1/", "/caf%c3%a9", "/café", "/a b", "/%7Euser", "/a/../b", "/a//b"])
def test_paths_are_those_of_the_router(written: str) -> None:
    """The router brings what is accepted here into its normal form."""
    assert path().parse(written) == written
    assert path_matcher("prefix", written).kind == "prefix"


@pytest.mark.parametrize("written", ["", "*", "v1", "/a?b", "/a#b", "/1%", "/%g0", "/%00", "/a%0D", "/a\\b", None, []])
def test_other_paths_are_refused(written: object) -> None:
    """Relative paths, queries, fragments, broken encodings, and what no request can have."""
    with pytest.raises(PydanticCustomError):
        path().parse(written)


@pytest.mark.parametrize(("written", "name"), [("websocket", "websocket"), ("TCP", "tcp"), ("spdy", "spdy")])
def test_protocols_are_named_without_versions(written: str, name: str) -> None:
    """In any case."""
    assert parse_upgrade(written) == name


@pytest.mark.parametrize("written", ["", "a b", "websocket/13", "h2c", "H2C", "HTTP/2.0", "http", "a,b", None, True])
def test_protocols_that_hide_requests_cannot_be_switched_to(written: object) -> None:
    """And what is no name of one."""
    with pytest.raises(PydanticCustomError):
        parse_upgrade(written)


def test_a_redirects_path_may_have_a_query() -> None:
    """It then replaces the query of the request."""
    assert path(may_have_query=True).parse("/a?b=c") == "/a?b=c"


def test_regular_expressions_are_compiled_as_the_router_does(capfd: pytest.CaptureFixture[str]) -> None:
    """What RE2 cannot read is refused, and RE2 itself writes nothing to the log."""
    assert parse_regex("^/v[0-9]+$") == "^/v[0-9]+$"
    assert value_matcher("regex", "^/v[0-9]+$").kind == "regex"
    for pattern in ("(", "(?=x)", r"(a)\1", "", "a{1001}", None):
        with pytest.raises(PydanticCustomError):
            parse_regex(pattern)
    assert capfd.readouterr().err == ""
