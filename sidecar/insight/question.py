"""A request as a person asks about it, and as the data path would see it. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from sidecar.http1.head import parse_request_head
from sidecar.message import RequestHead

if TYPE_CHECKING:
    from sidecar.config.model import root as model

MAX_HEADERS = 1000
NOBODY = "127.0.0.1"
"""Whose address stands for a client of which nothing is said."""


@dataclass(frozen=True, slots=True)
class Question:
    """
    What is asked about.

    Attributes:
        method: As it is sent.
        url: Absolute; only host, path and query count.
        headers: Names and values, in order; a name may come several times.
        cookies: Names and values.
        source_ip: Address of whoever connects.
        requester: SPIFFE ID of whoever asks, or empty for nobody known.
        claims: What its token claims, taken as verified; None: it has none.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    cookies: tuple[tuple[str, str], ...] = ()
    source_ip: str = NOBODY
    requester: str = ""
    claims: Mapping[str, object] | None = None


def question_of(request: model.TestRequest, requester: str = "") -> Question:
    """What a test asks about; `requester` is the SPIFFE ID of what stands under `from`."""
    return Question(
        request.method, request.url, tuple(request.headers.items()), tuple(request.cookies.items()),
        request.source_ip or NOBODY, requester, request.jwt,
    )  # fmt: skip


def head_of(question: Question) -> RequestHead:
    """
    The request, written as HTTP and read by the data path's parser.

    Raises:
        ProtocolError: The data path would answer 400.
    """
    url = urlsplit(question.url)
    target = quote(url.path or "/", safe="/%:@!$&'()*+,;=~-._[]") + (f"?{url.query}" if url.query else "")
    lines = [f"{question.method} {target} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in question.headers):
        lines.append(f"Host: {url.netloc}")
    lines += [f"{name}: {value}" for name, value in question.headers]
    if question.cookies:
        lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in question.cookies))
    return parse_request_head("\r\n".join(lines).encode(), MAX_HEADERS)
