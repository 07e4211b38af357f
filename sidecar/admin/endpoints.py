"""
What the admin and the metrics listeners answer. *Cold.*

The names are those that users of App Mesh, Envoy and Istio already have in their health checks and scrape
configurations. Whatever changes something is POST only, so that a crawler, a browser's prefetch or a curious GET
never drains a sidecar.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl

from sidecar.admin import live
from sidecar.admin.negotiate import accepts_gzip, format_of, wants_page
from sidecar.admin.page import PREFIX as PAGE
from sidecar.admin.page import read_page
from sidecar.admin.recent import RequestsWish, requests_wish
from sidecar.telemetry.metrics.exposition import Format

JSON_TYPE = b"application/json"
TEXT_TYPE = b"text/plain; charset=utf-8"

WORKER = "worker"
"""Parameter of what is read: the number of the one worker that is to answer for itself."""

APP_PORT = "/app-health/"
"""What precedes the number of a port of the app."""

FOR_OUR_PAGE = frozenset({"/preview"})
"""What changes nothing, though it is asked by POST: the page of this listener may ask it, and no other page."""

Params = Sequence[tuple[str, str]]

_MAX_NAME_CHARS = 1000


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """
    What a reload came to.

    Attributes:
        is_ok: Whether the file is now live.
        detail: JSON-ready; holds `problems` when it was refused.
    """

    is_ok: bool
    detail: Mapping[str, object]


class PreviewError(Exception):
    """A preview cannot be made, for a reason that is not in the file; the message is one line."""


class Process(Protocol):
    """What this room needs of the process; `runtime` has the class. All mappings are ready for `json.dumps`."""

    def not_ready(self) -> str | None:
        """Why no traffic should come, in one line, or None when it should."""
        ...

    def app_health(self) -> tuple[bool, str]:
        """Whether the app is well, and how each of its ports is, a line each."""
        ...

    async def app_port(self, port: str) -> tuple[bool, str] | None:
        """Whether a port of the app accepts connections, and why not; None if nobody may ask about it."""
        ...

    async def metrics(self, form: Format, *, is_compressed: bool) -> bytes:
        """All metrics in one of Prometheus' formats, gzipped if so asked; never holds the event loop for long."""
        ...

    async def tap(self, params: Params) -> Stream | None:
        """
        Requests as they happen, from now on; None if too many look on already.

        Raises:
            ValueError: A parameter is unknown or its value is; as `live.tap_of`.
        """
        ...

    async def of_worker(self, number: str, request: Request) -> Reply | None:
        """
        One worker's own answer to a request; None where this process is that worker.

        Raises:
            LookupError: There is no such worker; the text says which there are.
        """
        ...

    async def server_info(self) -> Mapping[str, object]:
        """Version, uptime, listeners, and `state`: INITIALIZING, LIVE or DRAINING."""
        ...

    async def config_dump(self) -> Mapping[str, object]:
        """The file, its hash, the last reload's outcome, the effective configuration without secrets."""
        ...

    async def routes_dump(self) -> Mapping[str, object]:
        """Routes of both directions in matching order."""
        ...

    async def requests_dump(self, wish: RequestsWish) -> Mapping[str, object]:
        """The last requests, newest first."""
        ...

    async def upstreams_dump(self) -> Mapping[str, object]:
        """Clusters with their endpoints and counters."""
        ...

    async def explain(self, params: Params) -> Mapping[str, object]:
        """
        Where a request goes, why, and with which settings; the parameters are those of `insight.explain.asked`.

        Raises:
            ValueError: What is asked makes no sense; the text says why.
            LookupError: There is no such request; likewise.
        """
        ...

    async def certs_dump(self) -> Mapping[str, object]:
        """Certificates that are held, when they end, who signed them, and what is wrong; never anything of a key."""
        ...

    async def preview(self, name: str, text: bytes) -> Mapping[str, object]:
        """
        What a file with this text would do with the last requests.

        Raises:
            PreviewError: That cannot be found out.
        """
        ...

    async def reload(self, *, is_forced: bool = False) -> ReloadReport:
        """Read the file again now and say what came of it; forced: whatever `reload.guard` says."""
        ...

    def drain(self) -> None:
        """Stop accepting inbound connections and fail readiness; the process stays."""
        ...

    def quit(self) -> None:
        """What SIGTERM does: drain, then exit."""
        ...

    def log_level(self) -> str:
        """Level of the process log, lower case."""
        ...

    def set_log_level(self, level: str) -> None:
        """
        Change the level of the process log.

        Raises:
            ValueError: There is no such level.
        """
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """
    One request to an admin endpoint.

    Attributes:
        method: GET, HEAD, POST and so on; HEAD is answered as GET.
        path: Without the query.
        query: First value of every parameter.
        is_from_page: Whether a browser says that a page sent it.
        params: All parameters in order.
        accept: Value of `Accept`, or empty.
        accept_encoding: Value of `Accept-Encoding`, or empty.
        if_none_match: Value of `If-None-Match`, or empty.
        is_from_own_page: Whether that page is of this listener.
        body: Of a request to an endpoint that takes one (`takes_body`); else empty.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    is_from_page: bool = False
    params: Sequence[tuple[str, str]] = ()
    accept: str = ""
    accept_encoding: str = ""
    if_none_match: str = ""
    is_from_own_page: bool = False
    body: bytes = b""


class Stream(Protocol):
    """A body without a known end, already open; whoever was given one must `close` it."""

    async def next(self) -> bytes:
        """The next piece, waiting for it; empty at the end."""
        ...

    def finish(self) -> None:
        """Come to an end soon."""
        ...

    def close(self) -> None:
        """Give back what it holds; nobody reads."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """
    The answer to a `Request`.

    Attributes:
        status: Of HTTP.
        body: Whole; for HEAD only its length is sent.
        content_type: Of the body; empty where `headers` say it.
        headers: Further fields; of those that every answer has, instead of them.
        stream: What comes instead of `body`, if there is one.
    """

    status: int
    body: bytes
    content_type: bytes = TEXT_TYPE
    headers: Sequence[tuple[bytes, bytes]] = ()
    stream: Stream | None = None


def authority_of(target: str) -> str:
    """The authority of a request's target in absolute form; empty in origin form."""
    before_query = target.partition("?")[0]
    return before_query.partition("://")[2].partition("/")[0].rpartition("@")[2]


def request_of(
    method: str,
    target: str,
    is_from_page: bool,
    accept: str = "",
    accept_encoding: str = "",
    *,
    if_none_match: str = "",
    is_from_own_page: bool = False,
) -> Request:
    """A `Request` from the target of an HTTP request line, in origin or absolute form."""
    path, _, query = target.partition("?")
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    values: dict[str, str] = {}
    params = parse_qsl(query, keep_blank_values=True)
    for name, value in params:
        values.setdefault(name, value)
    return Request(
        method, path, values, is_from_page, tuple(params), accept, accept_encoding, if_none_match, is_from_own_page
    )


def text(status: int, line: str) -> Reply:
    """One line of plain text."""
    return Reply(status, line.encode() + b"\n")


def as_json(status: int, value: Mapping[str, object]) -> Reply:
    """
    A JSON document with one key a line.

    The spelling `"state": "LIVE"`, with one space, is what health checks written for App Mesh grep for.
    """
    return Reply(status, json.dumps(value, indent=2, default=str).encode() + b"\n", JSON_TYPE)


ENCODED_AT_ONCE = 4096
"""Pieces of JSON between two turns of the event loop: a millisecond or two."""


async def as_large_json(status: int, value: Mapping[str, object]) -> Reply:
    """
    The same of what may be megabytes, as of a thousand routes: written in turns, for the loop is the data path's.

    Args:
        value: Nothing in it may change meanwhile.
    """
    pieces: list[str] = []
    for piece in json.JSONEncoder(indent=2, default=str).iterencode(value):
        pieces.append(piece)
        if len(pieces) % ENCODED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return Reply(status, "".join(pieces).encode() + b"\n", JSON_TYPE)


Handler = Callable[[Process, Request], Reply | Awaitable[Reply]]


async def _metrics(process: Process, request: Request) -> Reply:
    form, is_compressed = format_of(request.accept), accepts_gzip(request.accept_encoding)
    headers = [(b"vary", b"accept, accept-encoding")]
    if is_compressed:
        headers.append((b"content-encoding", b"gzip"))
    return Reply(HTTPStatus.OK, await process.metrics(form, is_compressed=is_compressed), form.value, headers)


def _ready(process: Process, _: Request) -> Reply:
    why = process.not_ready()
    return text(HTTPStatus.OK, "ready") if why is None else text(HTTPStatus.SERVICE_UNAVAILABLE, why)


def _app_health(process: Process, _: Request) -> Reply:
    is_well, how = process.app_health()
    return text(HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE, how)


async def _app_port(process: Process, request: Request) -> Reply:
    found = await process.app_port(request.path.removeprefix(APP_PORT))
    if found is None:
        return text(
            HTTPStatus.NOT_FOUND, "nobody may ask about this port; SIDECAR_PROBED_PORTS lists those that one may"
        )
    is_well, how = found
    return text(HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE, how)


def _live(_: Process, __: Request) -> Reply:
    # Answering at all is the proof: a stuck event loop would not.
    return text(HTTPStatus.OK, "live")


async def _server_info(process: Process, _: Request) -> Reply:
    return as_json(HTTPStatus.OK, await process.server_info())


async def _config(process: Process, _: Request) -> Reply:
    return await as_large_json(HTTPStatus.OK, await process.config_dump())


async def _routes(process: Process, _: Request) -> Reply:
    return await as_large_json(HTTPStatus.OK, await process.routes_dump())


async def _requests(process: Process, request: Request) -> Reply:
    try:
        wish = requests_wish([pair for pair in request.params if pair[0] != WORKER])
    except ValueError as error:
        return text(HTTPStatus.BAD_REQUEST, str(error))
    return as_json(HTTPStatus.OK, await process.requests_dump(wish))


async def _upstreams(process: Process, _: Request) -> Reply:
    return as_json(HTTPStatus.OK, await process.upstreams_dump())


async def _explain(process: Process, request: Request) -> Reply:
    params = [(name, value) for name, value in request.params if name != WORKER]
    try:
        return as_json(HTTPStatus.OK, await process.explain(params))
    except ValueError as error:
        return text(HTTPStatus.BAD_REQUEST, str(error))
    except LookupError as error:
        return text(HTTPStatus.NOT_FOUND, str(error.args[0]))


async def _certs(process: Process, _: Request) -> Reply:
    return as_json(HTTPStatus.OK, await process.certs_dump())


async def _tap(process: Process, request: Request) -> Reply:
    params = [(name, value) for name, value in request.params if name != WORKER]
    try:
        if request.method == "HEAD":
            live.wish_of(params)
            return Reply(HTTPStatus.OK, b"", live.CONTENT_TYPE)
        tap = await process.tap(params)
    except ValueError as error:
        return text(HTTPStatus.BAD_REQUEST, str(error))
    if tap is None:
        return text(HTTPStatus.SERVICE_UNAVAILABLE, "too many look on already; end one of the taps")
    return Reply(HTTPStatus.OK, b"", live.CONTENT_TYPE, stream=tap)


async def _preview(process: Process, request: Request) -> Reply:
    if not request.body:
        return text(HTTPStatus.BAD_REQUEST, "expected the text of a file in the body: curl --data-binary @NEW_FILE")
    name = request.query.get("name") or "preview.yaml"
    try:
        report = await process.preview(name[:_MAX_NAME_CHARS], request.body)
        # In one line: a report may be large, and only so it is written in C, in less than a millisecond.
        return Reply(HTTPStatus.OK, json.dumps(report).encode() + b"\n", JSON_TYPE)
    except PreviewError as error:
        return text(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


async def _reload(process: Process, request: Request) -> Reply:
    report = await process.reload(is_forced="force" in request.query)
    return as_json(HTTPStatus.OK if report.is_ok else HTTPStatus.BAD_REQUEST, report.detail)


def _drain(process: Process, _: Request) -> Reply:
    process.drain()
    return text(HTTPStatus.OK, "draining: inbound connections end after their current exchange; the process stays")


def _quit(process: Process, _: Request) -> Reply:
    process.quit()
    return text(HTTPStatus.OK, "draining, then exiting")


def _get_logging(process: Process, _: Request) -> Reply:
    return as_json(HTTPStatus.OK, {"level": process.log_level()})


def _set_logging(process: Process, request: Request) -> Reply:
    try:
        process.set_log_level(request.query.get("level", ""))
    except ValueError as error:
        return text(HTTPStatus.BAD_REQUEST, str(error))
    return as_json(HTTPStatus.OK, {"level": process.log_level()})


_READ_ONLY: Mapping[str, Mapping[str, Handler]] = {
    "/metrics": {"GET": _metrics},
    "/stats/prometheus": {"GET": _metrics},
    "/ready": {"GET": _ready},
    "/healthz/ready": {"GET": _ready},
    "/live": {"GET": _live},
    "/app-health": {"GET": _app_health},
    APP_PORT: {"GET": _app_port},
}

_EVERYTHING: Mapping[str, Mapping[str, Handler]] = {
    **_READ_ONLY,
    "/server_info": {"GET": _server_info},
    "/config": {"GET": _config},
    "/routes": {"GET": _routes},
    "/requests": {"GET": _requests},
    "/upstreams": {"GET": _upstreams},
    "/explain": {"GET": _explain},
    "/certs": {"GET": _certs},
    "/tap": {"GET": _tap},
    "/logging": {"GET": _get_logging, "POST": _set_logging},
    "/preview": {"POST": _preview},
    "/reload": {"POST": _reload},
    "/drain": {"POST": _drain},
    "/quitquitquit": {"POST": _quit},
}


def takes_body(method: str, target: str) -> bool:
    """Whether the body of a request means something, and so may be as large as a file."""
    return method == "POST" and target.partition("?")[0] == "/preview"


class Endpoints:
    """The endpoints of one listener, bound to the process that they speak for."""

    __slots__ = ("_has_page", "_process", "_table")

    def __init__(self, process: Process, table: Mapping[str, Mapping[str, Handler]], *, has_page: bool = False) -> None:
        self._process = process
        self._table = table
        self._has_page = has_page

    @classmethod
    def read_only(cls, process: Process) -> Endpoints:
        """Metrics and health, for the listener that the network reaches."""
        return cls(process, _READ_ONLY)

    @classmethod
    def everything(cls, process: Process) -> Endpoints:
        """All endpoints, and the page for browsers, for the loopback listener."""
        return cls(process, _EVERYTHING, has_page=True)

    def has(self, path: str) -> bool:
        """Whether there is such an endpoint."""
        return path in self._table

    async def answer(self, request: Request) -> Reply:
        """Answer one request; every refusal says what would have been accepted."""
        if request.path == "/" and request.method in ("GET", "HEAD"):
            if not self._has_page:
                return self._index()
            index = self._index(((b"vary", b"accept"),))
            return await _page(request, index) if wants_page(request.accept) else index
        if self._has_page and request.path.startswith(PAGE):
            return await _page(request, text(HTTPStatus.NOT_FOUND, "the page has no such file"))
        methods = self._table.get(APP_PORT if request.path.startswith(APP_PORT) else request.path)
        if methods is None:
            return text(HTTPStatus.NOT_FOUND, f"no such endpoint; there are: {' '.join(self._table)}")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            return _method_not_allowed(methods)
        is_ours = request.is_from_own_page and request.path in FOR_OUR_PAGE
        if request.method == "POST" and request.is_from_page and not is_ours:
            # A web page can make the browser of somebody at this machine POST to the loopback address; curl,
            # orchestrators and health checks send neither Origin nor Sec-Fetch-Site.
            return text(HTTPStatus.FORBIDDEN, "requests from web pages may not change anything here")
        if WORKER in request.query and request.method != "POST":
            try:
                own = await self._process.of_worker(request.query[WORKER], request)
            except LookupError as error:
                return text(HTTPStatus.NOT_FOUND, str(error.args[0]))
            if own is not None:
                return own
        reply = handler(self._process, request)
        return reply if isinstance(reply, Reply) else await reply

    def _index(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
        lines = [
            f"{method:4} {path}{'PORT' if path == APP_PORT else ''}"
            for path, methods in self._table.items()
            for method in methods
        ]
        return Reply(HTTPStatus.OK, "\n".join(lines).encode() + b"\n", headers=headers)


async def _page(request: Request, otherwise: Reply) -> Reply:
    if request.method not in ("GET", "HEAD"):
        return _method_not_allowed({"GET": _live})
    found = await asyncio.to_thread(read_page, request.path, request.if_none_match)
    if found is None:
        return otherwise
    status, headers, body = found
    if request.path == "/":
        headers.append((b"vary", b"accept"))
    return Reply(status, body, b"", headers)


def _method_not_allowed(methods: Mapping[str, Handler]) -> Reply:
    allowed = [*methods, "HEAD"] if "GET" in methods else [*methods]
    reply = text(HTTPStatus.METHOD_NOT_ALLOWED, f"use {' or '.join(methods)} here")
    return Reply(reply.status, reply.body, headers=((b"allow", ", ".join(allowed).encode()),))
