"""Names of workloads, and what is said of certificates, as the file writes it. *Cold, pure.*"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Annotated, Final, Literal, cast

from sidecar.config.values.base import Reads, expected, refused
from sidecar.spiffe import MAX_BYTES, SCHEME, SpiffeError, check_trust_domain, parse_workload_id

MIN_LIFETIME_S: Final = 3600.0
MAX_LIFETIME_S: Final = 30 * 86_400.0

_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_LIFETIME: Final = re.compile(r"([0-9]{1,9})([mhd])")
_SECONDS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
_VERSION: Final = re.compile(r"(?:tls)?[ _-]?v?1[._]?([0-3])", re.IGNORECASE)
_SOCKET: Final = "unix:///run/spire/agent.sock"


def parse_identity(written: object) -> str:
    """Read the SPIFFE ID of a workload."""
    what = "the SPIFFE ID of a workload such as `spiffe://shop/storefront`"
    if not isinstance(written, str):
        raise expected(what)
    try:
        parse_workload_id(written)
    except SpiffeError as error:
        hint = str(error)
        with suppress(SpiffeError):
            hint = f"did you mean `{parse_workload_id(_likely(written))}`?"
        raise expected(what, hint) from None
    return str(written)


def _likely(written: str) -> str:
    """What somebody may have meant: the scheme was left out, is not in lower case, or a slash stands at the end."""
    scheme, separator, rest = written[: MAX_BYTES + 1].partition("://")
    domain, slash, path = (rest if separator else scheme).rstrip("/").partition("/")
    return f"{SCHEME}{domain.lower()}{slash}{path}" if scheme.lower() == "spiffe" or not separator else ""


def parse_trust_domain(written: object) -> str:
    """Read the name of a trust domain."""
    what = "the name of a trust domain such as `shop`"
    if not isinstance(written, str):
        raise expected(what)
    try:
        check_trust_domain(written)
    except SpiffeError as error:
        bare = written.lower().removeprefix(SCHEME).partition("/")[0]
        hint = str(error)
        with suppress(SpiffeError):
            check_trust_domain(bare)
            hint = f"did you mean `{bare}`?"
        raise expected(what, hint) from None
    return str(written)


def parse_workload_api(written: object) -> str:
    """Read where an agent listens; returned as `unix:///path` or `tcp://IP:PORT` (SPIFFE Workload Endpoint, 4)."""
    what = f"the socket of an agent such as `{_SOCKET}`"
    if not isinstance(written, str):
        raise expected(what)
    if written.startswith("tcp:"):
        return _tcp(written)
    path = written.removeprefix("unix:")
    if path is not written and path.startswith("///"):
        path = path[2:]
    if path == written or not path.startswith("/") or path.startswith("//") or path.endswith("/") or "\0" in path:
        hint = f"did you mean `unix://{written}`?" if written.startswith("/") and not written.endswith("/") else ""
        raise expected(what, hint)
    if len(path.encode("utf-8", "surrogatepass")) > 107:
        raise expected("a socket path of at most 107 bytes")
    return f"unix://{path}"


def _tcp(written: str) -> str:
    """RFC 3986; "the scheme, host, and port components are mandatory, and no other component may be set"."""
    host, separator, port = written.removeprefix("tcp://").rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
        is_right = (address.version == 6) == (bare != host) and "%" not in bare
    except ValueError:
        is_right = False
    if not (is_right and written.startswith("tcp://") and separator and _PORT.fullmatch(port) and int(port) <= 65535):
        raise expected("an IP address and a port such as `tcp://127.0.0.1:8081`")
    return f"tcp://{host.lower()}:{int(port)}"


def is_on_this_machine(workload_api: str) -> bool:
    """Whether nobody else can be on the way to an agent."""
    if not workload_api.startswith("tcp://"):
        return True
    address = ipaddress.ip_address(workload_api.removeprefix("tcp://").rpartition(":")[0].strip("[]"))
    return address.is_loopback or address.is_link_local


def parse_lifetime(written: object) -> float:
    """Read how long a certificate is to last, `1h` to `30d`, as seconds."""
    what = "a time from `1h` to `30d`, such as `7d`"
    match = _LIFETIME.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise expected(what)
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not MIN_LIFETIME_S <= seconds <= MAX_LIFETIME_S:
        raise expected(what)
    return seconds


def parse_min_version(written: object) -> Literal["1.2", "1.3"]:
    """Read the oldest version of TLS that is spoken, quoted or not."""
    what = '`"1.2"` or `"1.3"`'
    if not isinstance(written, str):
        raise expected(what)
    if written in ("1.2", "1.3"):
        return cast('Literal["1.2", "1.3"]', str(written))
    match = _VERSION.fullmatch(written)
    if match is not None and match[1] in "01":
        raise refused(f"TLS 1.{match[1]} is not spoken", "it is broken (RFC 8996); the oldest is `1.2`")
    raise expected(what, f'did you mean `"1.{match[1]}"`?' if match is not None else "")


SpiffeIdentity = Annotated[str, Reads(parse_identity, {"type": "string", "pattern": "^spiffe://[a-z0-9._-]+/."})]
TrustDomain = Annotated[str, Reads(parse_trust_domain, {"type": ["string", "number"]})]
WorkloadApi = Annotated[str, Reads(parse_workload_api, {"type": "string", "pattern": "^(unix:/|tcp://)"})]
Lifetime = Annotated[float, Reads(parse_lifetime, {"type": "string", "pattern": "^[0-9]+[mhd]$"})]
"""Seconds."""
MinVersion = Annotated[Literal["1.2", "1.3"], Reads(parse_min_version, {"enum": ["1.2", "1.3", 1.2, 1.3]})]
"""As `net.tls.settings` has it; a test compares the two."""
