"""Host names, addresses and URLs as the file writes them. *Cold, pure.*"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from sidecar.config.values.base import OneOrMany, Reads, expected, refused
from sidecar.config.yaml.scalars import Spelled

# RFC 952 and RFC 1123, section 2.1, and the underscore, which Compose and Windows put in names.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_DOTTED_DIGITS: Final = re.compile(r"[0-9.]+")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+):([0-9]{1,5})")

MAX_UNIX_PATH_BYTES: Final = 107
"""`sun_path` of Linux is 108 bytes with its closing NUL."""


def is_host(name: str) -> bool:
    """Whether `name` (lower case) is a host name, an IPv4 address, or an IPv6 address in brackets."""
    if name.startswith("["):
        return name.endswith("]") and "%" not in name and _is_ip(name[1:-1], 6)
    if _DOTTED_DIGITS.fullmatch(name):
        return _is_ip(name, 4)
    return len(name) <= 253 and _NAME.fullmatch(name) is not None


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """
    Host (brackets kept) and port of an address that one of the parsers below accepted.

    A Unix socket has the path as host and the port -1.
    """
    if address.startswith("unix:"):
        return address[5:], -1
    host, _, port = address.rpartition(":")
    return host, int(port)


def address(*, lowest_port: int = 1, unix: bool = True, example: str = "10.0.0.11:8080") -> Reads:
    """`host:port`, `[v6]:port` or, if `unix`, `unix:/path`; returned in this form, the host in lower case."""
    what = f"an address such as `{example}`" + (" or `unix:/path`" if unix else "")

    def parse(written: object) -> str:
        if not isinstance(written, str):
            raise expected(what)
        if unix and written.startswith("unix:"):
            return _unix_address(written)
        match = _HOST_AND_PORT.fullmatch(written)
        if match is None:
            raise expected(what, _address_hint(written, example))
        host, port = match[1].lower(), int(match[2])
        if not is_host(host):
            raise expected(what, "the host is neither a name nor an IP address")
        if not lowest_port <= port <= 65535:
            raise expected(what, f"ports go from {lowest_port} to 65535")
        return f"{host}:{port}"

    pattern = r"^(unix:/.+|[^/\s]+:[0-9]{1,5})$" if unix else r"^[^/\s]+:[0-9]{1,5}$"
    return Reads(parse, {"type": "string", "pattern": pattern})


def _unix_address(written: str) -> str:
    path = written[5:]
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise expected("`unix:` with an absolute path", "such as `unix:/run/app.sock`")
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise expected(f"a socket path of at most {MAX_UNIX_PATH_BYTES} bytes")
    return str(written)


def _address_hint(written: str, example: str) -> str:
    default_host = example.rpartition(":")[0]
    if isinstance(written, Spelled) and re.fullmatch(r"[0-9]{1,5}", written):
        return f"write host and port: `{default_host}:{written}`"
    if re.fullmatch(r":[0-9]{1,5}", written):
        return f"write the host, too: `{default_host}{written}`"
    if "://" in written:
        return f"write host and port without a scheme: `{written.partition('://')[2].partition('/')[0]}`"
    if _is_ip(written, 6) or _is_ip(written.rpartition(":")[0], 6):
        return "put an IPv6 address in brackets: `[::1]:8080`"
    if is_host(written.lower()):
        return f"write the port, too: `{written}:8080`"
    return ""


def parse_host_pattern(written: object) -> str:
    """
    Read an exact host, `*.example.com` or `*`; returned in lower case, without a dot at the end.

    This is the form of `RequestHead.host`, with which it is compared.
    """
    what = "a host such as `shop`, `shop.example.com`, `*.example.com` or `*`"
    if not isinstance(written, str):
        raise expected(what)
    host = written.lower()
    if host == "*":
        return "*"
    rest = host[2:] if host.startswith("*.") else host
    if is_host(rest) and not (rest is not host and _DOTTED_DIGITS.fullmatch(rest)):
        return host.removesuffix(".")
    raise expected(what, _host_hint(host))


def _host_hint(host: str) -> str:
    bare = host.partition("://")[2].partition("/")[0] if "://" in host else host
    if re.fullmatch(r".+:[0-9]{1,5}", bare) and not _is_ip(bare, 6):
        bare = bare.rpartition(":")[0]
    if bare != host and is_host(bare.removeprefix("*.")):
        return f"hosts are compared without scheme and port: write `{bare}`"
    if _is_ip(host, 6):
        return f"write an IPv6 address in brackets: `[{host}]`"
    if "*" in host:
        return "a `*` may only stand alone or before the first dot"
    if not host.isascii():
        return "write an international name in its ASCII form, `xn--...`"
    return ""


def parse_host(written: object) -> str:
    """Read one host, without wildcards; returned in lower case, without a dot at the end."""
    host = parse_host_pattern(written)
    if "*" in host:
        raise expected("one host, without `*`")
    return host


def parse_authority_pattern(written: object) -> str:
    """Read a host as `parse_host_pattern` does, with or without a port: `shop:9090`, `*.example.com:9090`."""
    what = "a host, with or without a port, such as `shop`, `shop:9090`, `*.example.com` or `*`"
    match = _HOST_AND_PORT.fullmatch(written) if isinstance(written, str) else None
    if match is not None and not 1 <= int(match[2]) <= 65535:
        raise expected(what, "ports go from 1 to 65535")
    try:
        return parse_host_pattern(written) if match is None else f"{parse_host_pattern(match[1])}:{int(match[2])}"
    except PydanticCustomError as error:
        hint = str((error.context or {}).get("hint", ""))
        if isinstance(written, str) and "://" in written:
            bare = written.lower().partition("://")[2].partition("/")[0]
            hint = f"hosts are compared without a scheme: write `{bare}`" if is_host(split_pattern(bare)[0]) else ""
        raise expected(what, hint) from None


def parse_listened_host(written: object) -> str:
    """Read one host, without wildcards, with or without a port."""
    host = parse_authority_pattern(written)
    if "*" in host:
        raise expected("one host, without `*`")
    return host


def split_pattern(pattern: str) -> tuple[str, int | None]:
    """Host, or its pattern, and port of what `parse_authority_pattern` returned."""
    match = _HOST_AND_PORT.fullmatch(pattern)
    return (pattern, None) if match is None else (match[1], int(match[2]))


def parse_ip(written: object) -> str:
    """Read an IP address, an IPv6 address without brackets."""
    if not isinstance(written, str) or not (_is_ip(written, 4) or _is_ip(written, 6)):
        raise expected("an IP address such as `10.0.0.7` or `::1`")
    return str(written)


def parse_network(written: object) -> str:
    """Read a network in the notation of CIDR, an IP address, or `unix`; returned with its length."""
    what = "a network such as `10.0.0.0/8`, an IP address, or `unix`"
    if not isinstance(written, str):
        raise expected(what)
    if written == "unix":
        return "unix"
    try:
        return str(ipaddress.ip_network(written))
    except ValueError:
        pass
    try:
        hint = f"did you mean `{ipaddress.ip_network(written, strict=False)}`?"
    except ValueError:
        hint = "names are not looked up" if is_host(written.lower()) else ""
    raise expected(what, hint)


def parse_authority(written: object) -> str:
    """Read a host, with or without a port, for a `Host` field that is sent."""
    what = "a host, with or without a port"
    if isinstance(written, str):
        host = written.lower()
        if is_host(host):
            return host
        match = _HOST_AND_PORT.fullmatch(host)
        if match is not None and is_host(match[1]) and 1 <= int(match[2]) <= 65535:
            return host
        raise expected(what, _host_hint(host) if "://" in host else "")
    raise expected(what)


def parse_http_url(written: object) -> str:
    """Read an absolute `http` or `https` URL of visible ASCII characters."""
    what = "a URL such as `http://127.0.0.1:4318`"
    if not isinstance(written, str):
        raise expected(what)
    try:
        parts = urlsplit(written)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        raise expected(what) from None
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    if parts.scheme not in ("http", "https") or not is_host(host) or not port_is_good:
        raise expected(what, f"did you mean `http://{written}`?" if "://" not in written else "")
    if re.fullmatch(r"[\x21-\x7e]+", written) is None:
        raise refused("the URL holds a character that must be percent-encoded")
    return str(written)


HostPattern = Annotated[str, Reads(parse_host_pattern, {"type": "string"})]
Host = Annotated[str, Reads(parse_host, {"type": "string"})]
AuthorityPattern = Annotated[str, Reads(parse_authority_pattern, {"type": "string"})]
ListenedHost = Annotated[str, Reads(parse_listened_host, {"type": "string"})]
IpAddress = Annotated[str, Reads(parse_ip, {"type": "string"})]
IpNetwork = Annotated[str, Reads(parse_network, {"type": "string"})]
ListenAddress = Annotated[str, address(lowest_port=0, example="127.0.0.1:15001")]
"""Port 0: the system chooses one."""
TcpListenAddress = Annotated[str, address(lowest_port=0, unix=False, example="127.0.0.1:9901")]
TcpListenAddresses = Annotated[list[TcpListenAddress], OneOrMany()]
EndpointAddress = Annotated[str, address()]
DnsAddress = Annotated[str, address(unix=False, example="shop.default.svc.cluster.local:8080")]
Authority = Annotated[str, Reads(parse_authority, {"type": "string"})]
HttpUrl = Annotated[str, Reads(parse_http_url, {"type": "string", "pattern": "^https?://"})]
