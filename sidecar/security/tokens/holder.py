"""
Has the keys that tokens are verified by: follows files, asks addresses, and gives them to who verifies. *Cold.*

What is held goes on until something better has come, for ever if need be: an issuer that is not there turns nobody
away. What came last and cannot be used is told: in the log, by a metric, on `/certs`. Each source has a task of its
own, which reads in a thread; nobody waits for it but `settle`, and that not for long.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from sidecar.process_log import event
from sidecar.security.identity.certificates.roots import machine_roots
from sidecar.security.identity.certificates.trouble import Trouble, TroubleError
from sidecar.security.identity.certificates.validity import Told, is_to_tell
from sidecar.security.identity.followed_files import FollowedFiles
from sidecar.security.tokens.fetching import fetch
from sidecar.security.tokens.library import KeySet, read_keys
from sidecar.security.tokens.remembered import Tokens
from sidecar.security.tokens.rules import KeySource, TokenRule

logger = logging.getLogger(__name__)

LOOK_PERIOD_S: Final = 2.0
"""Between looks at a file; a change counts when two agree."""
ASK_PERIOD_S: Final = 300.0
"""Between questions to an address, and by a tenth less or more."""
ASK_AGAIN_S: Final = 1.0
"""After a question that failed, then twice as long each time."""
MISS_PERIOD_S: Final = 10.0
"""At least so long after the question before, because of a key that is unknown: anybody can name one."""
SLOW_S: Final = 15.0
"""After which it is told that a look takes long."""


class Followed:
    """
    What is held of one source.

    Attributes:
        source: Of which.
        keys: None while nothing has come that can be used.
        since_s: Since when, since the Unix epoch.
        trouble: What is wrong with what came last; what is held goes on.
        replaced: How often other keys took the place of some.
        has_looked: Set once the first look is over, however it ended.
    """

    __slots__ = (
        "_digest", "_failures", "_files", "_is_missed", "_judged", "_looked_at", "_told", "has_looked", "keys",
        "replaced", "since_s", "source", "task", "trouble", "wake",
    )  # fmt: skip

    def __init__(self, source: KeySource) -> None:
        self.source = source
        self.keys: KeySet | None = None
        self.since_s = 0.0
        self.trouble: Trouble | None = None
        self.replaced = 0
        self.has_looked = asyncio.Event()
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._files = FollowedFiles([source.file]) if source.file else None
        self._digest = ""
        self._failures = 0
        self._is_missed = False
        self._judged: Trouble | None = None
        self._looked_at = 0.0
        self._told = Told()

    @property
    def state(self) -> str:
        """`fresh`, `last_good` or `none`."""
        if self.keys is None:
            return "none"
        return "fresh" if self.trouble is None else "last_good"

    def miss(self) -> None:
        """A token names a key that is not held."""
        if self._files is None and not self._is_missed:
            self._is_missed = True
            self.wake.set()

    def look(self, now_ns: int, machine_trust: str) -> tuple[str, KeySet] | None:
        """
        In a thread: what there is, with its digest; None for a file that is as it was.

        Raises:
            TroubleError: It cannot be had, or cannot be used.
        """
        if self._files is not None:
            contents = self._files.look(now_ns)
            if contents is None:
                return None
            content = contents[self.source.file]
        else:
            content = fetch(self.source, machine_trust)
        digest = hashlib.sha256(content).hexdigest()
        if digest == self._digest and self.keys is not None:
            return digest, self.keys
        return digest, read_keys(content, str(self.source))

    def took(self, found: tuple[str, KeySet] | None, trouble: Trouble | None, now_s: float) -> bool:
        """On the loop: what a look came to. Returns whether there are other keys now."""
        self._failures = 0 if trouble is None else self._failures + 1
        if found is not None or trouble is not None:
            self.trouble = trouble
        elif self.trouble is not None and self.trouble.code in ("unreadable", "hangs"):
            # It can be read again, and is as it was; what else was wrong with it still is.
            self.trouble = self._judged
        if trouble is None or trouble.code not in ("unreadable", "hangs"):
            self._judged = self.trouble
        self.has_looked.set()
        is_other = found is not None and found[0] != self._digest
        if found is not None and is_other:
            is_first = self.keys is None
            self._digest, self.keys = found
            self.since_s = now_s
            self.replaced += not is_first
            told = {"source": str(self.source), "keys": len(self.keys.keys), "ignored": self.keys.ignored}
            logger.info(event("token_keys_loaded" if is_first else "token_keys_replaced", **told))
        text = self.trouble.text if self.trouble is not None else "fine"
        if is_to_tell(self._told, text, now_s):
            self._told = Told(text, now_s)
            if self.trouble is None:
                logger.info(event("token_keys_fine", source=str(self.source)))
            else:
                goes_on = "last_good" if self.keys is not None else "no_token_is_believed"
                shown = {"code": self.trouble.code, "error": self.trouble.text, "until_then": goes_on}
                logger.warning(event("token_keys_failed", **shown))
        return is_other

    async def wait(self, clock_s: Callable[[], float]) -> None:
        """Until it is time for another look."""
        self._looked_at = clock_s()
        if self._files is not None:
            await asyncio.sleep(LOOK_PERIOD_S)
            return
        period_s = ASK_PERIOD_S
        if self._failures:
            period_s = min(ASK_PERIOD_S, ASK_AGAIN_S * 2.0 ** min(self._failures - 1, 16))
        # Not all sidecars of a service at once.
        due_s = self._looked_at + period_s * random.uniform(0.9, 1.1)
        while (left_s := due_s - clock_s()) > 0:
            try:
                await asyncio.wait_for(self.wake.wait(), left_s)
            except TimeoutError:
                break
            self.wake.clear()
            due_s = min(due_s, self._looked_at + MISS_PERIOD_S)
        self._is_missed = False


class TokenKeys:
    """
    Args:
        now_ns: Since the Unix epoch, by which tokens are judged.
        machine_trust: Path of the roots that `system` means; None: where machines have them, which blocks.

    Attributes:
        counts: What tokens came to, by outcome.
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns, machine_trust: str | None = None) -> None:
        self.counts: dict[str, int] = {}
        self._now_ns = now_ns
        self._machine_trust = machine_roots() if machine_trust is None else machine_trust
        self._followed: dict[KeySource, Followed] = {}
        self._judges: dict[frozenset[TokenRule], Tokens] = {}

    @property
    def followed(self) -> tuple[Followed, ...]:
        """All sources."""
        return tuple(self._followed.values())

    def key_set(self, source: KeySource) -> KeySet | None:
        """What is held of it; None while nothing has come."""
        followed = self._followed.get(source)
        return followed.keys if followed is not None else None

    def miss(self, source: KeySource) -> None:
        """A token names a key of it that is not held: it is asked again, now and then."""
        followed = self._followed.get(source)
        if followed is not None:
            followed.miss()

    def tokens(self, rules: Iterable[TokenRule]) -> Tokens:
        """
        Who verifies tokens for these rules, and remembers them: the same for the same rules, so that a reload which
        changes nothing of them forgets nothing. Their sources are followed from now on.
        """
        key = frozenset(rules)
        found = self._judges.get(key)
        if found is None:
            found = self._judges[key] = Tokens(tuple(key), self, self.counts, lambda: self._now_ns() / 1e9)
        for rule in key:
            if rule.keys not in self._followed:
                self._followed[rule.keys] = followed = Followed(rule.keys)
                followed.task = asyncio.get_running_loop().create_task(self._follow(followed))
        return found

    async def settle(self, limit_s: float) -> None:
        """Wait until all sources have been looked at once, but no longer than this."""
        try:
            async with asyncio.timeout(limit_s):
                for followed in self.followed:
                    await followed.has_looked.wait()
        except TimeoutError:
            pass  # they go on, and what is wrong is told

    def keep_only(self, rules: Iterable[TokenRule]) -> None:
        """What no plan needs any more is forgotten, and not asked for again."""
        key = frozenset(rules)
        self._judges = {one: tokens for one, tokens in self._judges.items() if one == key}
        wanted = {rule.keys for rule in key}
        for source in [source for source in self._followed if source not in wanted]:
            _end(self._followed.pop(source))

    def stop(self) -> None:
        """Follow nothing any more."""
        for followed in self.followed:
            _end(followed)

    async def _follow(self, followed: Followed) -> None:
        loop = asyncio.get_running_loop()
        while True:
            look = partial(followed.look, self._now_ns(), self._machine_trust)
            running = loop.run_in_executor(None, look)
            done, _ = await asyncio.wait({running}, timeout=SLOW_S)
            if not done:
                why = f"{followed.source}: not read within {SLOW_S:g} s"
                followed.took(None, Trouble("hangs", why), self._now_ns() / 1e9)
                await asyncio.wait({running})
            found, trouble = None, None
            try:
                found = running.result()
            except TroubleError as error:
                trouble = error.trouble
            except Exception:  # a fault of ours; what is held goes on
                logger.exception(event("token_keys_look_failed", source=str(followed.source)))
                trouble = Trouble("source_failed", "a fault of the sidecar: see the process log")
            if followed.took(found, trouble, self._now_ns() / 1e9):
                for tokens in self._judges.values():
                    tokens.forget()
            await followed.wait(loop.time)


def _end(followed: Followed) -> None:
    if followed.task is not None:
        followed.task.cancel()
