"""Signed tokens that a request may show (RFC 7519), and where the keys are that they are verified by. *Cold, pure.*"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from sidecar.config.model.tls import SYSTEM
from sidecar.config.values.addresses import HttpUrl
from sidecar.config.values.base import Model, OneOrMany, Reads, Short, expected, setting, table
from sidecar.config.values.units import PositiveDuration, parse_positive_duration, value_of
from sidecar.config.values.words import FilePath
from sidecar.config.yaml.scalars import Spelled

MAX_LEEWAY_S: Final = 600.0
_MAX_CHARS: Final = 1000


def parse_printable(written: object) -> str:
    """Read a name that somebody else has given: an issuer, an audience, a claim."""
    if not isinstance(written, str) or not written.strip() or len(written) > _MAX_CHARS or not written.isprintable():
        raise expected(f"a text of 1 to {_MAX_CHARS} printable characters")
    return str(written)


def parse_scalar(written: object) -> str | int | float | bool:
    """Read a text, a number or a boolean, each as what it is: a claim that is `1` is not one that is `"1"`."""
    value = value_of(written)
    if not isinstance(value, str | int | float | bool):
        raise expected("a text, a number or a boolean", "text that looks like a number needs quotes")
    return str(value) if isinstance(value, str) else value


def parse_leeway(written: object) -> float:
    """Read by how much clocks may differ."""
    seconds = parse_positive_duration(written)
    if seconds > MAX_LEEWAY_S:
        raise expected("at most `10m`", "so much longer is a token believed than it says")
    return seconds


def parse_claims(written: object) -> dict[str, Any]:
    """Read what a token of a test claims, of any shape."""
    if not isinstance(written, dict):
        raise expected("what the token claims, such as `{iss: https://id.example.com, aud: shop, scope: read}`")
    return {str(key): _plain(value) for key, value in written.items()}


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Spelled) else value


_PRINTABLE: Final = {"type": "string", "minLength": 1, "maxLength": _MAX_CHARS}
_Printable = Annotated[str, Reads(parse_printable, _PRINTABLE)]
_Scalar = Annotated[str | int | float | bool, Reads(parse_scalar, {"type": ["string", "number", "boolean"]})]

Claims = Annotated[dict[str, Any], Reads(parse_claims, {"type": "object"})]


class JwtKeys(Model):
    """Where the issuer's keys are, as a set of JSON Web Keys (RFC 7517): exactly one of the two."""

    is_one_value: ClassVar[bool] = True

    file: FilePath | None = setting(None, "A file, which is followed.")
    url: HttpUrl | None = setting(None, "An address, which is asked every five minutes, and when a key is unknown.")
    trust: FilePath = setting(SYSTEM, "Roots (PEM) by which the server at `url` is believed; `system`: the machine's.")


class Jwt(Model):
    """A token in `Authorization: Bearer`, signed by a key of its issuer; all that is given must hold."""

    is_one_value: ClassVar[bool] = True

    issuer: _Printable = setting(..., "Who made it: its `iss`, exactly.")
    audience: Annotated[list[_Printable], OneOrMany()] | None = setting(
        None, "For whom it was made: its `aud` has any of these; default: it is not looked at."
    )
    claims: dict[_Printable, Annotated[list[_Scalar], OneOrMany()]] = table(
        "What it claims: of each name any of the values; names of claims within claims by dots, `realm_access.roles`."
    )
    keys: Annotated[JwtKeys, Short("file", "`{file: PATH}` or `{url: URL}`")] = setting(
        ..., "Where its issuer's keys are: `{file: PATH}` or `{url: URL}`."
    )
    leeway: Annotated[PositiveDuration, Reads(parse_leeway, {"type": "string"})] = setting(
        60.0, "By how much the issuer's clock and ours may differ.", "60s"
    )
