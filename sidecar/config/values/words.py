"""The words of HTTP and the names of things as the file writes them. *Cold, pure.*"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import re2

from sidecar.config.values.base import Reads, expected, refused
from sidecar.config.yaml.scalars import Spelled
from sidecar.path_template import TemplateError, parse_template

# RFC 9110, section 5.6.2: token = 1*tchar.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110, section 5.5, without obs-text as octets: text goes out as UTF-8, whose octets are obs-text.
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,127}")
_UPSTREAM_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_PORT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_GRPC_SERVICE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_GRPC_METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COOKIE_NAME: Final = re.compile(r"[^\x00-\x20\x7f;=,\"]+")
_ENCODED_END: Final = re.compile(r"%0[0aAdD]")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_STANDARD_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})

FIXED_HEADERS: Final = frozenset(
    {
        "b3", "connection", "content-length", "content_length", "expect", "host", "http2-settings", "keep-alive",
        "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "traceparent", "tracestate", "trailer",
        "transfer-encoding", "transfer_encoding", "upgrade", "x-amzn-trace-id", "x-b3-flags", "x-b3-parentspanid",
        "x-b3-sampled", "x-b3-spanid", "x-b3-traceid", "x-request-id",
    }
)  # fmt: skip
"""
Fields that frame a message or belong to one connection (RFC 9110, 7.6.1), `Host`, and those that tie a request to its
trace: the proxy alone writes them.

`routing.edits.can_edit` says the same to the data path; a test compares the two.
"""


def text(what: str, *, may_be_empty: bool = True, max_chars: int = 65536) -> Reads:
    """A string as written; of booleans and numbers the spelling."""

    def parse(written: object) -> str:
        if not isinstance(written, str):
            raise expected(what)
        if not written and not may_be_empty:
            raise expected(what, "an empty string matches everything")
        if len(written) > max_chars:
            raise expected(f"{what} of at most {max_chars} characters")
        return str(written)

    schema: dict[str, Any] = {"type": ["string", "number", "boolean"]}
    if not may_be_empty:
        schema["minLength"] = 1
    return Reads(parse, schema)


def _named(pattern: re.Pattern[str], what: str) -> Reads:
    def parse(written: object) -> str:
        if not isinstance(written, str) or pattern.fullmatch(written) is None:
            raise expected(what)
        return str(written)

    return Reads(parse, {"type": "string", "pattern": f"^{pattern.pattern}$"})


def grpc_service() -> Reads:
    """A service of gRPC, as it stands in the path of its calls."""
    return _named(_GRPC_SERVICE, "a gRPC service with its package, such as `shop.Recommendations`")


def grpc_method() -> Reads:
    """A method of one."""
    return _named(_GRPC_METHOD, "a method of a gRPC service, such as `List`")


def parse_free_name(written: object) -> str:
    """Read a name for people: 1 to 200 printable characters."""
    if not isinstance(written, str) or not written.strip() or len(written) > 200 or not written.isprintable():
        raise expected("a name of 1 to 200 printable characters")
    return str(written)


def parse_method(written: object) -> str:
    """Read a method; they are case-sensitive (RFC 9110, section 9.1)."""
    what = "a method such as `GET`"
    if not isinstance(written, str) or _TOKEN.fullmatch(written) is None:
        raise expected(what)
    if written not in _STANDARD_METHODS and written.upper() in _STANDARD_METHODS:
        raise expected(what, f"methods are case-sensitive: did you mean `{written.upper()}`?")
    return str(written)


def parse_header_name(written: object) -> str:
    """Read a field name; returned in lower case."""
    if isinstance(written, str) and _TOKEN.fullmatch(written):
        return written.lower()
    pseudo = {":authority": "host", ":method": "methods", ":path": "path"}
    hint = f"use `{pseudo[written]}` of `match`" if isinstance(written, str) and written in pseudo else ""
    raise expected("a header name", hint)


def parse_edited_header_name(written: object) -> str:
    """Read the name of a field that may be set, added or removed; returned in lower case."""
    name = parse_header_name(written)
    if name not in FIXED_HEADERS:
        return name
    hint = "it belongs to one connection or frames the message"
    if name == "host":
        hint = "use `rewrite: {host: ...}`"
    elif name == "b3" or name.startswith(("traceparent", "tracestate", "x-")):
        hint = "the sidecar writes it, and the log, the span and the next hop must agree on it"
    raise refused(f"the header `{name}` cannot be edited", hint)


def parse_upgrade(written: object) -> str:
    """Read the name of a protocol that `Upgrade` may offer; returned in lower case."""
    what = "a protocol such as `websocket`"
    if not isinstance(written, str) or isinstance(written, Spelled):
        raise expected(what)
    name, slash, _ = written.lower().partition("/")
    if slash and _TOKEN.fullmatch(name):
        raise expected(f"{what}, without a version", f"`{name}` allows all of them")
    if _TOKEN.fullmatch(name) is None:
        raise expected(what)
    if name in ("h2c", "http"):
        hint = "HTTP/2 over TCP begins without it, and behind a switch requests would go by all routes and rules"
        raise refused(f"an upgrade to `{name}` cannot be allowed", hint)
    return name


def parse_header_value(written: object) -> str:
    """Read a field value; sent as UTF-8."""
    if not isinstance(written, str):
        raise expected("a string")
    if _FIELD_VALUE.fullmatch(written) is None:
        raise refused("a header value holds a line break or another control character", "remove it")
    if written != written.strip(" \t"):
        raise refused("a header value begins or ends with white space", "remove it: no receiver would see it")
    return str(written)


def parse_file_path(written: object) -> str:
    """Read the path of a file."""
    if not isinstance(written, str) or not written or "\0" in written or len(written) > 4096:
        raise expected("the path of a file")
    return str(written)


def parse_cookie_name(written: object) -> str:
    """Read a cookie's name; in the case in which it is sent."""
    if not isinstance(written, str) or _COOKIE_NAME.fullmatch(written) is None:
        raise expected("a cookie name")
    return str(written)


def parse_parameter_name(written: object) -> str:
    """Read the name of a query parameter, decoded."""
    if not isinstance(written, str) or not written:
        raise expected("the name of a query parameter")
    return str(written)


def regex_options(pattern: str) -> re2.Options:
    """The options with which `routing.matchers` compiles: octets for a pattern of ASCII, else UTF-8; 8 MiB at most."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1 if pattern.isascii() else re2.Options.Encoding.UTF8
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = 8 << 20
    return options


def parse_regex(written: object) -> str:
    """Read a regular expression of RE2's syntax (linear time: no look-around, no back-references)."""
    if not isinstance(written, str):
        raise expected("a regular expression")
    if not written:
        raise expected("a regular expression", "an empty one matches only an empty value")
    try:
        re2.compile(written.encode(), regex_options(written))
    except re2.error as error:
        said = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else error
        hint = "the syntax is RE2's: https://github.com/google/re2/wiki/Syntax"
        raise refused(f"not a regular expression: {said}", hint) from None
    return str(written)


def path(*, may_have_query: bool = False) -> Reads:
    """A path, or the first part of one; `routing` brings it into the normal form in which paths are compared."""
    what = "a path that begins with `/`"

    def parse(written: object) -> str:
        if not isinstance(written, str):
            raise expected(what)
        if not written.startswith("/"):
            hint = "for every path, leave `path` out" if written in ("", "*", ".*") else f"did you mean `/{written}`?"
            raise expected(what, hint)
        if "#" in written:
            raise refused("a path does not hold `#`", "a server never sees fragments; the character itself is `%23`")
        if "?" in written and not may_have_query:
            hint = "match the query by `query`; the character itself is `%3F`"
            raise refused("a path does not hold `?`", hint)
        if _BAD_PERCENT.search(written):
            raise refused("the path holds a `%` without two hexadecimal digits", "the character itself is `%25`")
        if "\\" in written.partition("?")[0] or _ENCODED_END.search(written.partition("?")[0]):
            hint = "requests for such a path are refused: servers read them in different ways"
            raise refused("the path holds a backslash or an encoded NUL, CR or LF", hint)
        return str(written)

    return Reads(parse, {"type": "string", "pattern": "^/"})


def path_template() -> Reads:
    """A template of paths, segment by segment (`path_template`)."""
    read_path = path().parse

    def parse(written: object) -> str:
        # Of what is no path at all, a path's problem is told.
        text = str(read_path(written))
        try:
            parse_template(text)
        except TemplateError as error:
            raise refused(str(error.args[0]), error.hint) from None
        return text

    return Reads(parse, {"type": "string", "pattern": "^/"})


def parse_url_scheme(written: object) -> str:
    """Read `http` or `https`."""
    if written not in ("http", "https"):
        raise expected("`http` or `https`")
    return str(written)


_TEXT_SCHEMA: Final = {"type": ["string", "number", "boolean"]}

Text = Annotated[str, text("a string")]
Part = Annotated[str, text("a string that is not empty", may_be_empty=False)]
RouteName = Annotated[str, _named(_NAME, "a name of up to 128 letters, digits and `_.:/@-`")]
UpstreamName = Annotated[str, _named(_UPSTREAM_NAME, "an upstream's name: up to 128 letters, digits and `_.-`")]
PortName = Annotated[str, _named(_PORT_NAME, "a port's name: up to 63 letters, digits and `_-`")]
"""Behind `app.` it is the name of an upstream."""
GrpcService = Annotated[str, grpc_service()]
GrpcMethod = Annotated[str, grpc_method()]
FreeName = Annotated[str, Reads(parse_free_name, _TEXT_SCHEMA)]
Method = Annotated[str, Reads(parse_method, {"type": "string"})]
HeaderName = Annotated[str, Reads(parse_header_name, {"type": "string"})]
EditedHeaderName = Annotated[str, Reads(parse_edited_header_name, {"type": "string"})]
HeaderValue = Annotated[str, Reads(parse_header_value, _TEXT_SCHEMA)]
UpgradeName = Annotated[str, Reads(parse_upgrade, {"type": "string"})]
CookieName = Annotated[str, Reads(parse_cookie_name, {"type": "string"})]
ParameterName = Annotated[str, Reads(parse_parameter_name, {"type": "string"})]
Regex = Annotated[str, Reads(parse_regex, {"type": "string", "minLength": 1})]
FilePath = Annotated[str, Reads(parse_file_path, {"type": "string", "minLength": 1})]
Path = Annotated[str, path()]
PathTemplate = Annotated[str, path_template()]
PathAndQuery = Annotated[str, path(may_have_query=True)]
UrlScheme = Annotated[str, Reads(parse_url_scheme, {"enum": ["http", "https"]})]
