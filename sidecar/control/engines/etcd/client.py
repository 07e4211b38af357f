"""
Calls and streams to whichever member of etcd answers. *A shell: sockets and time.*

Members are tried in the order in which they are given; one that failed is tried last for a while that doubles with each
further failure. A call is one attempt at each member, so that it ends in `ATTEMPT_S` times their number, and what
must not be done twice is not repeated where it may have been done.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp

from sidecar.control.engines.etcd import wire
from sidecar.control.engines.etcd.settings import EtcdSettings
from sidecar.control.engines.etcd.tokens import Tokens
from sidecar.control.engines.etcd.wire import EtcdError
from sidecar.control.engines.exchange import Lines, LongLine, body_of, why
from sidecar.control.engines.interface import EngineError
from sidecar.control.engines.tls import Tls, TlsFiles

CONNECT_S: Final = 2.0
ATTEMPT_S: Final = 4.0
"""Of a call to one member: long against an election (1 s by default), short against etcd's own limit (7 s)."""

LEAST_BACK_OFF_S: Final = 0.5
MOST_BACK_OFF_S: Final = 15.0

_REVISIONS: Final = 256
_REVISION_PERIOD_S: Final = 1.0
_HAS_LEADER: Final = {"Grpc-Metadata-hasleader": "true"}
"""etcd then ends a stream some 3 s after its member lost the leader; without it a watch goes silent for ever."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Member:
    address: str
    failures: int = 0
    avoided_until_s: float = 0.0


class Members:
    """
    Who is tried, in which order.

    Args:
        addresses: As they were given.
        clock: Seconds, monotonic.
        share: Of a back-off that is waited, from 0 to 1: replicas shall not return all at once.
    """

    def __init__(
        self, addresses: tuple[str, ...], clock: Callable[[], float], share: Callable[[], float] = random.random
    ) -> None:
        self._members = [_Member(address) for address in addresses]
        self._clock = clock
        self._share = share

    def in_order(self) -> list[str]:
        """All of them: first those that did not fail lately, as they were given; then those whose time is nearest."""
        now = self._clock()
        return [
            one.address
            for one in sorted(self._members, key=lambda one: one.avoided_until_s if one.avoided_until_s > now else 0.0)
        ]

    def has_failed(self, address: str) -> None:
        """Avoid it for a while."""
        one = self._find(address)
        back_off_s = min(MOST_BACK_OFF_S, LEAST_BACK_OFF_S * 2.0 ** min(one.failures, 16))
        one.failures += 1
        one.avoided_until_s = self._clock() + back_off_s * (0.5 + self._share() / 2)

    def has_answered(self, address: str) -> None:
        """It is well."""
        one = self._find(address)
        one.failures, one.avoided_until_s = 0, 0.0

    def _find(self, address: str) -> _Member:
        return next(one for one in self._members if one.address == address)


class Client:
    """
    Args:
        settings: Where etcd is.
        clock: Seconds, monotonic.

    Attributes:
        prefix: Of all keys.
    """

    def __init__(self, settings: EtcdSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.prefix = settings.prefix.encode()
        self._scheme = "https" if settings.is_tls else "http"
        self._members = Members(settings.members, clock)
        self._tls = Tls("etcd", _tls_files(settings))
        self._tokens = Tokens(settings)
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._revisions: deque[tuple[float, int]] = deque(maxlen=_REVISIONS)

    async def open(self) -> None:
        """Read the certificates. Raises EngineError."""
        await self._tls.context()
        # No limit of connections: each watch has one, and a call must not wait for a watch to end.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=10), headers={"Content-Type": "application/json"}
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, path: str, body: Mapping[str, Any], *, is_repeatable: bool = True) -> Mapping[str, Any]:
        """
        Ask the members one after the other until one answers.

        Args:
            path: From `/v3` on.
            body: A message, as JSON.
            is_repeatable: Doing it twice is doing it once. Otherwise no other member is asked unless it is certain
                that it was not done.

        Raises:
            EtcdError: None did it. Whether it was done is not known, unless `is_unsent` or the code say so.
        """
        last: EtcdError | None = None
        for address in self._members.in_order():
            try:
                answer, _ = await self._with_token(address, partial(self._post, address, path, body))
            except EtcdError as error:
                last = error
                if not error.is_of_member:
                    self._members.has_answered(address)
                    break
                self._members.has_failed(address)
                if not is_repeatable and not error.is_unsent:
                    break
            else:
                self._members.has_answered(address)
                self._note(wire.revision(answer))
                return answer
        assert last is not None
        raise last

    async def open_watch(self, body: Mapping[str, Any]) -> Stream:
        """
        Open a watch at the first member that can have one.

        Raises:
            EtcdError: None can.
        """
        last: EtcdError | None = None
        for address in self._members.in_order():
            try:
                response, token = await self._with_token(address, partial(self._open, address, "/v3/watch", body))
            except EtcdError as error:
                last = error
                if not error.is_of_member:
                    break
                self._members.has_failed(address)
            else:
                return Stream(response, partial(self._has_ended, address, token))
        assert last is not None
        raise last

    def revision_before(self, age_s: float) -> int:
        """A revision that the store had at least so long ago; 0 if nothing is known of that time."""
        limit_s = self._clock() - age_s
        return next((revision for at_s, revision in reversed(self._revisions) if at_s <= limit_s), 0)

    def revision_since(self, age_s: float) -> int:
        """The first revision that is known of the time since then; 0 if nothing is. What is newer is younger."""
        limit_s = self._clock() - age_s
        return next((revision for at_s, revision in self._revisions if at_s >= limit_s), 0)

    def _note(self, revision: int) -> None:
        now = self._clock()
        if revision and (not self._revisions or now - self._revisions[-1][0] >= _REVISION_PERIOD_S):
            self._revisions.append((now, revision))

    def _has_ended(self, address: str, token: str, error: EtcdError) -> None:
        if self._tokens.can_renew(error):
            self._tokens.forget(token)
        elif error.is_of_member:
            self._members.has_failed(address)

    async def _with_token(self, address: str, act: Callable[[str], Awaitable[_T]]) -> tuple[_T, str]:
        """Do it with a token; if that is refused, once more with another."""
        post = partial(self._post, address)
        token = await self._tokens.current(post)
        try:
            return await act(token), token
        except EtcdError as error:
            if not self._tokens.can_renew(error):
                raise
        self._tokens.forget(token)
        token = await self._tokens.current(post)
        return await act(token), token

    async def _post(self, address: str, path: str, body: Mapping[str, Any], token: str) -> Mapping[str, Any]:
        response = await self._send(address, path, body, token, {}, ATTEMPT_S)
        try:
            raw = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EtcdError(why(error), at=address) from None
        finally:
            response.release()
        return wire.read_answer(response.status, raw)

    async def _open(self, address: str, path: str, body: Mapping[str, Any], token: str) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                response = await self._send(address, path, body, token, _HAS_LEADER, None)
                if response.status != 200:
                    raw = await response.read()
                    wire.read_answer(response.status, raw)
                    raise wire.unintelligible(f"status {response.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EtcdError(why(error), at=address) from None
        return response

    async def _send(
        self,
        address: str,
        path: str,
        body: Mapping[str, Any],
        token: str,
        headers: Mapping[str, str],
        total_s: float | None,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "the engine is not open"
        try:
            context = await self._tls.context()
        except EngineError as error:
            raise EtcdError(str(error), is_unsent=True) from None
        try:
            return await self._session.post(
                f"{self._scheme}://{address}{path}",
                data=body_of(body),
                headers=(dict(headers) | {"Authorization": token}) if token else headers,
                timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S, connect=CONNECT_S),
                allow_redirects=False,
                ssl=context,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ssl.SSLError) as error:
            raise EtcdError(why(error), at=address, is_unsent=True) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise EtcdError(why(error), at=address) from None


class Stream:
    """
    Messages of a watch.

    Args:
        response: Whose body they are.
        has_ended: Told the error that ended it.
    """

    def __init__(self, response: aiohttp.ClientResponse, has_ended: Callable[[EtcdError], None]) -> None:
        self._response = response
        self._has_ended = has_ended
        self._lines = Lines(wire.MAX_LINE_BYTES)

    async def read(self, wait_s: float) -> list[Mapping[str, Any]]:
        """
        What has come, at least one message; none if nothing came for `wait_s`.

        Raises:
            EtcdError: It ended.
        """
        deadline_s = time.monotonic() + wait_s
        try:
            while True:
                try:
                    async with asyncio.timeout(max(deadline_s - time.monotonic(), 0.0)):
                        piece = await self._response.content.readany()
                except TimeoutError:
                    return []
                if not piece:
                    raise self._ended()
                try:
                    found = [wire.read_message(line) for line in self._lines.feed(piece)]
                except LongLine as error:
                    raise wire.unintelligible(str(error)) from None
                if found:
                    return found
        except aiohttp.ClientPayloadError:
            # In the middle of its chunks: the member was killed.
            raise self.refuse(self._ended()) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self.refuse(EtcdError(why(error), at=self._response.url.authority)) from None
        except EtcdError as error:
            raise self.refuse(error) from None

    def _ended(self) -> EtcdError:
        return EtcdError("the watch has ended", at=self._response.url.authority)

    def refuse(self, error: EtcdError) -> EtcdError:
        """This is why it is read no longer: the next one is opened at another member."""
        self._has_ended(error)
        return error

    def close(self) -> None:
        """Drop the connection, which nothing else can use."""
        self._response.close()


def _tls_files(settings: EtcdSettings) -> TlsFiles | None:
    return TlsFiles(settings.ca, settings.certificate, settings.key) if settings.is_tls else None
