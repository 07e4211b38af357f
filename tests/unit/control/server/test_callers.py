"""Who asks on 15010, and what that one may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.control.server.callers import Callers, Operator, scope_of
from sidecar.control.server.token import TokenError, Tokens

AWAY = "10.0.0.5"
HERE = "127.0.0.1"


class Shown:
    """A connection by TLS whose client has shown a certificate."""

    def __init__(self, *uris: str) -> None:
        self._names = tuple(("URI", one) for one in uris)

    def getpeercert(self) -> Any:
        return {"subjectAltName": self._names, "notAfter": "Jan  1 00:00:00 2100 GMT"}


def token_file(folder: Path, name: str) -> str:
    (folder / name).write_text(f"{name}-has-a-long-token\n")
    return str(folder / name)


def callers(folder: Path, *, has_tokens: bool = True, takes_clear: bool = False) -> Callers:
    tokens = Tokens(token_file(folder, "all")) if has_tokens else None
    operators = []
    if has_tokens:
        operators = [
            Operator(f"{name}:{may}:{token_file(folder, name)}") for name, may in (("ann", "read"), ("bob", "write"))
        ]
    accounts = {"spiffe://shop/ns/shop/sa/web": ("storefront",)}
    return Callers(
        tokens, operators, lambda: "shop", lambda identity: accounts.get(identity, ()), takes_clear=takes_clear
    )


@pytest.mark.parametrize(
    ("token", "name", "scopes"),
    [
        ("all", "token-file", {"read", "write", "sidecar", "replica"}),
        ("ann", "ann", {"read"}),
        ("bob", "bob", {"read", "write"}),
        ("eve", "", set()),
    ],
)
def test_token_says_who_and_what(tmp_path: Path, token: str, name: str, scopes: set[str]) -> None:
    """That of `--token-file` may everything, as before."""
    found = callers(tmp_path).of(f"Bearer {token}-has-a-long-token", None, AWAY)
    assert (found.name, set(found.scopes), found.services) == (name, scopes, None)


@pytest.mark.parametrize(
    ("uris", "scopes", "services"),
    [
        (("spiffe://shop/storefront",), {"sidecar"}, {"storefront"}),
        (("spiffe://shop/ns/shop/sa/web",), {"sidecar"}, {"storefront"}),
        (("spiffe://shop/ns/shop/sa/unknown",), {"sidecar"}, set()),
        (("spiffe://shop/control",), {"replica"}, None),
        (("spiffe://bank/storefront",), set(), None),
        (("spiffe://shop/storefront", "spiffe://shop/control"), set(), None),
        (("https://shop/storefront",), set(), None),
        ((), set(), None),
    ],
)
def test_certificate_says_for_whom_it_speaks(
    tmp_path: Path, uris: tuple[str, ...], scopes: set[str], services: set[str] | None
) -> None:
    """Exactly one identity, of this mesh."""
    found = callers(tmp_path).of("", Shown(*uris), AWAY)  # type: ignore[arg-type]
    assert set(found.scopes) == scopes
    assert (set(found.services) if found.services is not None else None) == services


def test_certificate_that_ended_in_the_middle_of_a_connection_says_nothing(tmp_path: Path) -> None:
    """TLS looks at it once, and connections last."""
    late = Callers(None, [], lambda: "shop", lambda identity: (), takes_clear=False, now_s=lambda: 4_200_000_000.0)
    assert not late.of("", Shown("spiffe://shop/storefront"), AWAY).scopes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "takes_clear", "has_tokens", "scopes"),
    [
        (HERE, False, False, {"read"}),
        (HERE, True, False, {"read", "write", "sidecar", "replica"}),
        (AWAY, True, False, set()),
        (HERE, True, True, set()),
    ],
)
def test_without_any_token_loopback_reads(
    tmp_path: Path, peer: str, takes_clear: bool, has_tokens: bool, scopes: set[str]
) -> None:
    """And does all that it ever could while clear is taken."""
    found = callers(tmp_path, has_tokens=has_tokens, takes_clear=takes_clear).of("", None, peer)
    assert set(found.scopes) == scopes


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/watch", "sidecar"),
        ("POST", "/v1/report", "sidecar"),
        ("GET", "/v1/here/summary", "replica"),
        ("POST", "/v1/push", "write"),
        ("POST", "/v1/tokens", "write"),
        ("DELETE", "/v1/tokens/ab", "write"),
        ("GET", "/v1/tokens", "read"),
        ("GET", "/v1/mesh", "read"),
        ("POST", "/v1/diff", "read"),
        ("GET", "/nothing", "read"),
    ],
)
def test_each_way_needs_its_right(method: str, path: str, scope: str) -> None:
    """What changes something is written."""
    assert scope_of(method, path) == scope


@pytest.mark.parametrize("written", ["", "ann", "ann:read", "ann:admin:/f", ":read:/f", "ann:read:"])
def test_operator_is_written_in_one_form(written: str) -> None:
    """Else it says which."""
    with pytest.raises(TokenError, match="NAME:read:FILE"):
        Operator(written)
