"""What is asked of the admin listener: the parameters of `/explain`. *Cold, pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from sidecar.exchange import Direction
from sidecar.insight.explain.curl import question_of_curl
from sidecar.insight.question import NOBODY, Question
from sidecar.insight.walk import listener_of_any_host
from sidecar.proxy.plan import Listener, Plan, Side

_KNOWN: Final = (
    "url", "curl", "method", "header", "cookie", "source_ip", "from", "direction", "listener", "request_id", "all",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What somebody wants to know.

    Attributes:
        question: The request; None where `request_id` names one that was served.
        request_id: Of that.
        direction: `inbound` or `outbound`; empty: whichever there is, outbound first.
        listener: Name or address of the listener by which it comes; empty: any of its direction.
        is_whole: Every route is told by itself.
    """

    question: Question | None
    request_id: str = ""
    direction: str = ""
    listener: str = ""
    is_whole: bool = False


def asked_by(params: Sequence[tuple[str, str]]) -> Asked:
    """
    Read the parameters of a query.

    Raises:
        ValueError: One is unknown or makes no sense; the text says what would.
    """
    unknown = [name for name, _ in params if name not in _KNOWN]
    if unknown:
        raise ValueError(f"unknown parameter `{unknown[0]}`; there are: {' '.join(_KNOWN)}")
    values = dict(reversed(params))
    url, curl, request_id = (values.get(name, "") for name in ("url", "curl", "request_id"))
    if [bool(url), bool(curl), bool(request_id)].count(True) != 1:
        raise ValueError("expected `url`, `curl` or `request_id`, such as /explain?url=http://orders/v1&method=POST")
    direction = values.get("direction", "")
    if direction not in ("", "inbound", "outbound"):
        raise ValueError(f"direction: expected inbound or outbound, found `{direction}`")
    # A command that was pasted has lines; what it says is looked at when it is read.
    _check_printable(value for name, value in params if name != "curl")
    question: Question | None = None
    if url or curl:
        said = question_of_curl([curl]) if curl else Question(values.get("method", "GET"), url)
        _check_printable((said.method, said.url, *(part for pair in (*said.headers, *said.cookies) for part in pair)))
        url = said.url
        if not url.lower().startswith(("http://", "https://")):
            raise ValueError(f"url: expected http://HOST/PATH, found `{url}`")
        headers = tuple(_pair(value, ":", "header", "NAME: VALUE") for name, value in params if name == "header")
        cookies = tuple(_pair(value, "=", "cookie", "NAME=VALUE") for name, value in params if name == "cookie")
        question = Question(
            said.method, url, said.headers + headers, said.cookies + cookies,
            values.get("source_ip", NOBODY), values.get("from", ""),
        )  # fmt: skip
    is_whole = values.get("all", "no") not in ("no", "0", "false")
    return Asked(question, request_id, direction, values.get("listener", ""), is_whole)


def query_of(asked: Asked) -> str:
    """The query that asks this; the other way round of `asked_by`."""
    question = asked.question
    params: list[tuple[str, str]] = []
    if question is not None:
        params = [("url", question.url), ("method", question.method), ("source_ip", question.source_ip)]
        params += [("header", f"{name}: {value}") for name, value in question.headers]
        params += [("cookie", f"{name}={value}") for name, value in question.cookies]
        params += [("from", question.requester)] if question.requester else []
    params += [(name, getattr(asked, name)) for name in ("request_id", "direction", "listener") if getattr(asked, name)]
    params += [("all", "yes")] if asked.is_whole else []
    return urlencode(params)


def way_in(plan: Plan, asked: Asked) -> tuple[Side, Listener | None]:
    """
    By whose routes a request is decided, and by which listener it comes.

    Raises:
        ValueError: There is no such listener, or nothing of that direction.
    """
    if asked.listener:
        for one in plan.listeners:
            if asked.listener in (one.address, one.side, one.side.partition(".")[2]):
                return plan.side_of[one.side], one
        there = ", ".join(one.address for one in plan.listeners)
        raise ValueError(f"there is no listener `{asked.listener}`; there are: {there}")
    labels = {one.direction.label for one in plan.listeners}
    if asked.direction and asked.direction not in labels:
        raise ValueError(f"the configuration has nothing {asked.direction}")
    is_named = asked.question is not None and bool(asked.question.requester or asked.question.claims)
    wanted = asked.direction or ("inbound" if is_named and "inbound" in labels else "outbound")
    if wanted not in labels:
        wanted = "inbound"
    side = plan.sides[Direction.INBOUND if wanted == "inbound" else Direction.OUTBOUND]
    return side, listener_of_any_host(plan, side)


def _check_printable(values: Iterable[str]) -> None:
    if any(character < " " or character == "\x7f" for value in values for character in value):
        raise ValueError("a parameter has a control character, which no request may have")


def _pair(written: str, separator: str, what: str, form: str) -> tuple[str, str]:
    name, found, value = written.partition(separator)
    if not found or not name.strip():
        raise ValueError(f"{what}: expected {form}, found `{written}`")
    return name.strip(), value.strip()
