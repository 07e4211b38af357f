"""Where etcd is, and who we are to it. *Pure.*"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

DEFAULT_PORT: Final = 2379
DEFAULT_PREFIX: Final = "/sidecar/mesh/"
SCHEMES: Final = ("etcd", "etcds")

_URL: Final = re.compile(r"(?P<scheme>[a-z]+)://(?P<members>[^/?#]*)(?P<path>/[^?#]*)?")
_MEMBER: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """
    What `--engine etcd://...` and the options `--etcd-...` say.

    Attributes:
        members: `host:port` of each, in the order in which they are tried.
        prefix: Of all keys of this mesh; begins and ends with `/`. Each mesh has one of its own.
        is_tls: Whether members are spoken to by TLS.
        ca: Path of the certificates that members' are signed by; empty for the system's.
        certificate: Path of the client's certificate; empty for none.
        key: Path of its key; empty if it is in the certificate's file.
        user: Name for etcd's authentication; empty for none.
        password_file: Path of the file with the user's password, read anew at each authentication.
    """

    members: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    is_tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""


def is_etcd_url(written: str) -> bool:
    """Whether an `--engine` means this one."""
    return written.partition("://")[0] in SCHEMES


def parse_etcd_url(written: str) -> EtcdSettings:
    """
    Read `etcd://a:2379,b:2379,c:2379[/prefix]`; `etcds://` for TLS with the system's trust.

    Raises:
        ValueError: It is none; the text says what is wrong.
    """
    found = _URL.fullmatch(written)
    if found is None or found["scheme"] not in SCHEMES:
        raise ValueError(f"expected etcd://HOST:PORT,HOST:PORT[/PREFIX], found {_shown(written)}")
    if "@" in found["members"]:
        # Not shown: it may be a password, which does not belong into a command line that everybody can list.
        raise ValueError("expected no user in the address of etcd; give --etcd-user and --etcd-password-file")
    members = tuple(_member(one) for one in found["members"].split(","))
    twice = next((one for index, one in enumerate(members) if one in members[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return EtcdSettings(members, _prefix(found["path"] or ""), is_tls=found["scheme"] == "etcds")


def read_settings(
    url: str, *, ca: str = "", certificate: str = "", key: str = "", user: str = "", password_file: str = ""
) -> EtcdSettings:
    """
    Settings by `--engine`, `--etcd-ca`, `--etcd-cert`, `--etcd-key`, `--etcd-user` and `--etcd-password-file`.

    Raises:
        ValueError: They do not fit; the text names the option.
    """
    at = parse_etcd_url(url)
    if key and not certificate:
        raise ValueError("--etcd-key is given without --etcd-cert")
    if bool(user) != bool(password_file):
        given, missing = ("--etcd-user", "--etcd-password-file") if user else ("--etcd-password-file", "--etcd-user")
        raise ValueError(f"{given} is given without {missing}")
    # A certificate of either side means TLS: nobody gives one for a connection in clear.
    is_tls = at.is_tls or bool(ca or certificate)
    return EtcdSettings(at.members, at.prefix, is_tls, ca, certificate, key, user, password_file)


def _member(written: str) -> str:
    found = _MEMBER.fullmatch(written)
    if found is None:
        raise ValueError(f"expected HOST:PORT of a member of etcd, found {_shown(written)}")
    port = int(found["port"] or DEFAULT_PORT)
    if not 1 <= port <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, found {port}")
    return f"{found['host']}:{port}"


def _prefix(path: str) -> str:
    prefix = unquote(path, errors="strict").strip("/")
    if not prefix:
        return DEFAULT_PREFIX
    if not prefix.isprintable() or "//" in prefix:
        raise ValueError(f"expected a prefix of keys such as /sidecar/shop, found {_shown(path)}")
    return f"/{prefix}/"


def _shown(written: str) -> str:
    return repr(written if len(written) <= 80 else written[:80] + "...")
