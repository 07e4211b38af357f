"""A word of the input, if our language takes it. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic_core import PydanticCustomError

from sidecar.config.values.base import Reads
from sidecar.config.values.words import (
    grpc_method,
    grpc_service,
    parse_edited_header_name,
    parse_header_name,
    parse_header_value,
    parse_method,
    parse_parameter_name,
    parse_regex,
    path,
)
from sidecar.importing.field import Field, WrongError

PATH: Final = path()
ASKED_PATH: Final = path(may_have_query=True)
REGEX: Final = Reads(parse_regex, {})
METHOD: Final = Reads(parse_method, {})
HEADER: Final = Reads(parse_header_name, {})
EDITED_HEADER: Final = Reads(parse_edited_header_name, {})
HEADER_VALUE: Final = Reads(parse_header_value, {})
PARAMETER: Final = Reads(parse_parameter_name, {})
GRPC_SERVICE: Final = grpc_service()
GRPC_METHOD: Final = grpc_method()


def checked(found: Field, reads: Reads, text: str | None = None) -> str:
    """
    A word that our language takes.

    Args:
        text: What is made of the field; default: what it says.

    Raises:
        WrongError: It does not.
    """
    word = found.text() if text is None else text
    try:
        return str(reads.parse(word))
    except PydanticCustomError as error:
        context = error.context or {}
        message = str(context.get("message", ""))
        told = f"expected {message}, found `{word[:60]}`" if error.type == "expected" else message
        raise WrongError(found, told, str(context.get("hint", ""))) from None


def refuse_content_type(match: Field, tests: Sequence[Field]) -> None:
    """
    Refuse a test of the one header that makes a request a call of gRPC.

    Args:
        match: In which it stands.
        tests: All of its headers, or metadata.

    Raises:
        WrongError: One of them is such a test.
    """
    if any(test.need("name").text().lower() == "content-type" for test in tests):
        message = "a match of gRPC has a test of `content-type`, by which calls are known"
        raise WrongError(match, message, "leave it out, or make a route of HTTP of it")
