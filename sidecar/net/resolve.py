"""
Names to addresses: bounded lookups, and the loop that asks again. *Cold.*

The system's resolver (`getaddrinfo`) is the one that knows `/etc/hosts`, search domains and the cluster's name server.
It blocks, has no deadline, and does not tell a record's TTL. So it runs on threads of its own, is given up after a
while, and a name is asked for again every few seconds, which is what a short TTL would come to.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from functools import partial
from ipaddress import ip_address
from typing import Any, Literal, Protocol, TypeVar

logger = logging.getLogger("sidecar.upstream")

LOOKUP_TIMEOUT_S = 5.0
"""Until a lookup is given up: what resolv.conf(5) gives one name server before it tries the next."""

REFRESH_PERIOD_S = 5.0
"""Between two lookups of a name that has an answer; Envoy's `dns_refresh_rate` has the same default."""

RETRY_PERIOD_S = 1.0
"""Between two lookups of a name that never had one: it is being deployed at this moment, or misspelt."""

JITTER = 0.1
"""Part of a period by which it is shortened at random, so that names and sidecars do not ask in step."""

MAX_THREADS = 16
"""Names whose lookups may hang at once before others have to wait for them; a thread is started when it is needed."""

Lookup = Callable[[str], Awaitable[Iterable[str]]]
"""Ask for every address of a name; raises OSError if there is no answer."""

_T = TypeVar("_T")


Cause = Literal["failed", "timeout", "refused"]
"""The name has no address; no name server answered; as many names are being looked up as may be at once."""


class ResolveError(Exception):
    """
    A name has no usable answer; the text says why, for the log.

    Attributes:
        cause: Whose fault that is.
    """

    def __init__(self, text: str, cause: Cause = "failed") -> None:
        super().__init__(text)
        self.cause: Cause = cause


class TooManyLookupsError(OSError):
    """As many names are being looked up as may be at once."""


class Watcher(Protocol):
    """Who wants to know a name's addresses."""

    def on_answer(self, hosts: tuple[str, ...]) -> None:
        """The name has these addresses now: at least one, none twice, in order."""

    def on_failure(self, error: str) -> None:
        """A lookup failed; what was known before still holds."""


class DaemonThreads:
    """
    A few threads that do not keep the process from ending.

    `ThreadPoolExecutor` joins its threads at exit: a resolver that hangs would hold up the shutdown for as long.
    """

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._is_closed = False

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        """
        Run `call` on one of the threads, which are started when needed; only the event loop's thread may ask.

        The future cannot be cancelled, so that one of several who wait for it can leave without harm to the others.

        Raises:
            OSError: The threads were given up.
        """
        if self._is_closed:
            raise OSError("the resolver is closed")
        future: Future[_T] = Future()
        future.set_running_or_notify_cancel()

        self._work.put(partial(_work, call, future))
        if not self._idle.acquire(blocking=False) and self._threads < self._max_threads:
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        return future

    def close(self) -> None:
        """Let each thread end after what it is at; waits for none."""
        self._is_closed = True
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._idle.release()


def _work(call: Callable[[], _T], future: Future[_T]) -> None:
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
        # Its traceback has this frame, and with it the future that now has the exception: no cycle is left behind.
        del future
    else:
        future.set_result(result)


class SystemLookup:
    """
    `getaddrinfo` on threads of its own, at most one lookup of a name at a time.

    Args:
        max_threads: Lookups that run at once; more wait for their turn.
        max_names: Lookups that run or wait, at most; None for any number, where the names are the configuration's.
        flags: Of `getaddrinfo`. AI_ADDRCONFIG (RFC 3493, 6.1): no IPv6 addresses where this host has no IPv6, for
            whoever takes each address for an endpoint, of which every second would fail.
    """

    def __init__(
        self,
        max_threads: int = MAX_THREADS,
        getaddrinfo: Callable[..., Any] = socket.getaddrinfo,
        *,
        max_names: int | None = None,
        flags: int = socket.AI_ADDRCONFIG,
    ) -> None:
        self._threads = DaemonThreads(max_threads, "resolve")
        self._getaddrinfo = getaddrinfo
        self._max_names = max_names
        self._flags = flags
        self._under_way: dict[str, Future[list[str]]] = {}

    async def __call__(self, name: str) -> list[str]:
        """
        Every address of the name. A caller that gives up leaves the lookup to the next caller for the same name.

        Raises:
            TooManyLookupsError: `max_names` others are under way; a lookup that hangs is until it returns.
            OSError: The resolver's, or the threads were given up.
        """
        for other in [other for other, future in self._under_way.items() if future.done()]:
            del self._under_way[other]
        future = self._under_way.get(name)
        if future is None:
            if self._max_names is not None and len(self._under_way) >= self._max_names:
                raise TooManyLookupsError(f"{self._max_names} names are being looked up")
            # One at a time, or a name whose lookup hangs would take one thread after the other.
            future = self._under_way[name] = self._threads.submit(partial(self._look_up, name))
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # which has the exception, whose traceback has this frame

    def close(self) -> None:
        """Start no more lookups; one that hangs is left behind."""
        self._threads.close()

    def _look_up(self, name: str) -> list[str]:
        found = self._getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=self._flags)
        hosts: list[str] = []
        for family, _, _, _, address in found:
            if family == socket.AF_INET6 and address[3]:
                hosts.append(f"{address[0]}%{address[3]}")  # A link-local address means nothing without its scope.
            elif family in (socket.AF_INET, socket.AF_INET6):
                hosts.append(address[0])
        return hosts


class Resolver:
    """
    Lookups with a deadline and a tidy answer.

    Args:
        lookup: Asks for a name; default: the system's resolver.
        timeout_s: Seconds until a lookup is given up.
        keeps_order: Whether addresses are returned in the resolver's order (RFC 6724), the best to connect to first.
    """

    def __init__(
        self, lookup: Lookup | None = None, timeout_s: float = LOOKUP_TIMEOUT_S, *, keeps_order: bool = False
    ) -> None:
        self._close: Callable[[], None] | None = None
        if lookup is None:
            lookup = system = SystemLookup()
            self._close = system.close
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._keeps_order = keeps_order

    async def resolve(self, name: str) -> tuple[str, ...]:
        """
        Look a name up.

        Returns:
            Its addresses, at least one, none twice: IPv4 first, each family in order of number, so that the order of
            records in an answer, which name servers rotate, is no change; or in the resolver's.

        Raises:
            ResolveError: No answer in time, a failure, or an answer without addresses.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                hosts = await self._lookup(name)
            answer = tuple(dict.fromkeys(hosts) if self._keeps_order else sorted(set(hosts), key=_in_order))
        except TimeoutError:
            raise ResolveError(f"no answer within {self._timeout_s:g} s", "timeout") from None
        except TooManyLookupsError as error:
            raise ResolveError(str(error), "refused") from error
        except socket.gaierror as error:
            # "Temporary failure in name resolution": no name server answered, or none that knew what to say.
            raise ResolveError(str(error), "timeout" if error.errno == socket.EAI_AGAIN else "failed") from error
        except (OSError, ValueError) as error:
            # ValueError: the idna codec, for a label that is empty or longer than 63; or what is no address.
            raise ResolveError(str(error)) from error
        if not answer:
            raise ResolveError("the answer has no addresses")
        return answer

    def close(self) -> None:
        """Give the threads up; lookups that hang do not hold up the process."""
        if self._close is not None:
            self._close()


def _in_order(host: str) -> tuple[int, int, str]:
    address = ip_address(host)
    return address.version, int(address), host


async def refresh_forever(
    resolver: Resolver,
    name: str,
    watcher: Watcher,
    *,
    has_answer: bool = False,
    chance: Callable[[], float] = random.random,
) -> None:
    """
    Ask for a name again and again and tell the watcher; ends only by being cancelled.

    The first lookup comes after one period, because the caller has just made one.

    Args:
        resolver: Answers; its deadline bounds each lookup.
        name: What to ask for.
        watcher: Told of each result.
        has_answer: Whether a lookup ever succeeded: every `REFRESH_PERIOD_S` if so, else every `RETRY_PERIOD_S`.
        chance: From 0 to 1, for the jitter.
    """
    while True:
        period_s = REFRESH_PERIOD_S if has_answer else RETRY_PERIOD_S
        await asyncio.sleep(period_s * (1 - JITTER * chance()))
        try:
            hosts = await resolver.resolve(name)
        except ResolveError as error:
            watcher.on_failure(str(error))
            continue
        except Exception as error:  # A fault of ours must not end the refreshing for good.
            logger.exception("dns_lookup_broken name=%s", name)
            watcher.on_failure(repr(error))
            continue
        has_answer = True
        watcher.on_answer(hosts)
