"""
Calls and streams to the API of Kubernetes. *A shell: sockets and time.*

The API is one address, behind which there may be several servers; who answers is not ours to choose. What it does not
do because it has too much to do (429) is asked again within the call, when it says so; everything else is told.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from sidecar.control.engines.exchange import Lines, LongLine, body_of, why
from sidecar.control.engines.interface import EngineError
from sidecar.control.engines.kubernetes import wire
from sidecar.control.engines.kubernetes.settings import KubernetesSettings
from sidecar.control.engines.kubernetes.token import Token
from sidecar.control.engines.kubernetes.wire import ApiError, Kind, Object
from sidecar.control.engines.tls import Tls, TlsFiles

CONNECT_S: Final = 3.0
ATTEMPT_S: Final = 10.0
WHOLE_LIST_S: Final = 60.0
"""Of a list in one piece: the API itself gives up then."""

TRIES: Final = 3
MOST_WAIT_S: Final = 5.0
"""For the API to have time again, within a call."""

MERGE: Final = "application/merge-patch+json"
NAMES_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A watch whose other end is gone without a word is noticed within 25 s."""


class Client:
    """
    Args:
        settings: Where the API is.

    Attributes:
        mesh: As `KubernetesSettings` has it.
        namespace: In which all of our objects are; known once it is open.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self.mesh = settings.mesh
        self.namespace = settings.namespace
        self._settings = settings
        self._tls = Tls("kubernetes", TlsFiles(settings.ca) if settings.is_tls else None)
        self._token = Token(settings.token_file)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Read namespace, CA and token. Raises EngineError."""
        if not self.namespace:
            path = Path(self._settings.namespace_file)
            try:
                self.namespace = (await asyncio.to_thread(path.read_text)).strip()
            except (OSError, ValueError) as error:
                reason = (getattr(error, "strerror", None) or str(error)).lower()
                raise EngineError(f"{path}: {reason}; give --kubernetes-namespace") from None
            if not self.namespace:
                raise EngineError(f"{path}: expected a namespace, found nothing; give --kubernetes-namespace")
        await self._tls.context()
        await self._token.current()
        # No limit of connections: each watch has one, and a call must not wait for a watch to end.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=10), headers={"User-Agent": "sidecar-control"}
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def named(self, what: str, name: str = "") -> str:
        """The name of an object of ours."""
        prefix = f"sidecar-{self.mesh}.{what}"
        return wire.object_name(prefix, name) if name else prefix

    # --- objects --------------------------------------------------------------------------------------------------

    async def get(self, kind: Kind, name: str) -> Object | None:
        """One, not older than any write that was answered; None if there is none. Raises ApiError."""
        try:
            return await self.call("GET", kind.path(self.namespace, name))
        except ApiError as error:
            if error.is_absent:
                return None
            raise

    async def create(self, kind: Kind, values: Object) -> Object:
        """Write one that is not there. Raises ApiError, of which `is_conflict` says that it is."""
        return await self.call("POST", kind.path(self.namespace), body=_of_kind(kind, values))

    async def replace(self, kind: Kind, values: Object) -> Object:
        """Write over the `resourceVersion` that it has. Raises ApiError, of which `is_conflict` says it has another."""
        assert wire.version_of(values), "without one the API would write over anything"
        return await self.call("PUT", kind.path(self.namespace, wire.name_of(values)), body=_of_kind(kind, values))

    async def put(self, kind: Kind, values: Object, *, is_there: bool) -> None:
        """
        Write one, whatever it was: the newest write wins.

        Args:
            is_there: What is likely, and so is tried first.

        Raises:
            ApiError: It could not be written.
        """
        for _ in range(TRIES):
            try:
                await (self.patch(kind, values) if is_there else self.create(kind, values))
                return
            except ApiError as error:
                if not (error.is_absent if is_there else error.is_conflict):
                    raise
                last = error
                is_there = not is_there
        raise last

    async def patch(self, kind: Kind, values: Object) -> Object:
        """Change the fields that are said (RFC 7396). Raises ApiError, of which `is_absent` says there is none."""
        path = kind.path(self.namespace, wire.name_of(values))
        return await self.call("PATCH", path, body=values, content_type=MERGE)

    async def delete(self, kind: Kind, name: str, version: str = "") -> bool:
        """Delete one, if it still has this `resourceVersion`; whether it is gone. Raises ApiError."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if version:
            body["preconditions"] = {"resourceVersion": version}
        try:
            await self.call("DELETE", kind.path(self.namespace, name), body=body)
        except ApiError as error:
            if error.is_conflict:
                return False
            if not error.is_absent:
                raise
        return True

    async def list(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = "", page: int = 0, accept: str = ""
    ) -> tuple[list[Object], str]:
        """
        All of them at one moment, which is not older than any write that was answered.

        Args:
            page: How many are asked for at a time.
            accept: A form of the answer.

        Returns:
            The objects, and the `resourceVersion` from which to watch.

        Raises:
            ApiError: They could not be listed.
        """
        path = kind.path(namespace or self.namespace)
        chosen = {name: said for name, said in (("labelSelector", labels), ("fieldSelector", fields)) if said}
        paging: dict[str, str] = {"limit": str(page)} if page else {}
        found: list[Object] = []
        while True:
            limit_s = ATTEMPT_S if paging else WHOLE_LIST_S
            try:
                answer = await self.call("GET", path, query=chosen | paging, accept=accept, limit_s=limit_s)
            except ApiError as error:
                if not (error.is_too_old and "continue" in paging):
                    raise
                # What lies between the pages is forgotten. In one piece it cannot be, as Kubernetes' own clients do.
                found, paging = [], {}
                continue
            found += wire.parts(answer, "items")
            following = wire.text(wire.part(answer, "metadata"), "continue")
            if not following:
                return found, wire.version_of(answer)
            paging = paging | {"continue": following}

    # --- calls ----------------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        accept: str = "",
        limit_s: float = ATTEMPT_S,
    ) -> Object:
        """
        Ask, and wait a little where the API says that it has no time. What it may have done is not asked twice.

        Raises:
            ApiError: It did not do it; with status 0 that is not known.
        """
        headers = {"Accept": accept or "application/json", "Content-Type": content_type}
        for attempt in range(TRIES):
            try:
                response = await self._send(method, path, query or {}, body, headers, limit_s)
                try:
                    raw = await response.read()
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    raise ApiError(why(error)) from None
                finally:
                    response.release()
                return wire.read_answer(response.status, raw, response.headers.get("Retry-After", ""))
            except ApiError as error:
                is_last = attempt + 1 == TRIES
                if is_last or error.status != wire.TOO_MANY or error.retry_after_s > MOST_WAIT_S:
                    raise
                await asyncio.sleep(max(error.retry_after_s, 0.1) * (1 + random.random() / 4))
        raise AssertionError

    async def open_watch(self, path: str, query: Mapping[str, str]) -> Stream:
        """Open a watch. Raises ApiError."""
        headers = {"Accept": "application/json"}
        try:
            async with asyncio.timeout(ATTEMPT_S):
                response = await self._send("GET", path, query, None, headers, None)
                if response.status != 200:
                    raw = await response.read()
                    response.release()
                    wire.read_answer(response.status, raw, response.headers.get("Retry-After", ""))
                    raise wire.unintelligible(f"status {response.status} to a watch")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(why(error)) from None
        return Stream(response)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        headers: Mapping[str, str],
        limit_s: float | None,
    ) -> aiohttp.ClientResponse:
        """An answer whose token was not refused, or was the newest."""
        token = await self._token.current()
        response = await self._send_with(token, method, path, query, body, headers, limit_s)
        if response.status == 401 and token and await self._token.renew(token):
            response.release()
            newest = await self._token.current()
            return await self._send_with(newest, method, path, query, body, headers, limit_s)
        return response

    async def _send_with(
        self,
        token: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        headers: Mapping[str, str],
        limit_s: float | None,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "the engine is not open"
        try:
            context = await self._tls.context()
        except EngineError as error:
            raise ApiError(str(error), is_ours=True) from None
        try:
            return await self._session.request(
                method,
                self._settings.url + path,
                params=query,
                data=body_of(body) if body is not None else None,
                headers=dict(headers) | ({"Authorization": f"Bearer {token}"} if token else {}),
                timeout=aiohttp.ClientTimeout(total=limit_s, sock_connect=CONNECT_S, connect=CONNECT_S),
                allow_redirects=False,
                ssl=context,
            )
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError) as error:
            raise ApiError(f"its certificate is not trusted: {why(error)}", is_ours=True) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise ApiError(why(error)) from None


class Stream:
    """
    Events of a watch.

    Args:
        response: Whose body they are.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._lines = Lines(wire.MAX_LINE_BYTES)
        self._error: ApiError | None = None
        transport = response.connection.transport if response.connection is not None else None
        sock = transport.get_extra_info("socket") if transport is not None else None
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    async def read(self, wait_s: float) -> list[tuple[str, Object]] | None:
        """
        Events that have come, at least one; none if nothing came for `wait_s`; None: it has ended. How it ended says
        nothing: a server that goes, one that was killed and a limit of time look alike.

        Raises:
            ApiError: It ended with an error that the API told.
        """
        if self._error is not None:
            raise self._error
        deadline_s = time.monotonic() + wait_s
        while True:
            try:
                async with asyncio.timeout(max(deadline_s - time.monotonic(), 0.0)):
                    piece = await self._response.content.readany()
            except TimeoutError:
                return []
            except (aiohttp.ClientError, OSError):
                return None
            if not piece:
                return None
            try:
                lines = self._lines.feed(piece)
            except LongLine as error:
                raise wire.unintelligible(str(error)) from None
            found = []
            for line in lines:
                try:
                    found.append(wire.read_event(line))
                except ApiError as error:
                    # What came before it counts; nothing follows, and the next read says so.
                    if not found:
                        raise
                    self._error = error
                    break
            if found:
                return found

    def close(self) -> None:
        """Drop the connection, which nothing else can use."""
        self._response.close()


def _of_kind(kind: Kind, values: Object) -> Object:
    return {"apiVersion": kind.version, "kind": kind.name} | dict(values)
