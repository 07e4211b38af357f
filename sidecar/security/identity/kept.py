"""
What is kept up to date for some listeners or upstreams, and what is wrong with what came to replace it. *Cold.*

One for all that is made of the same files: the workload's own identity has one, each kind of TLS outside another.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from math import inf
from typing import Final, Literal

from sidecar.net.tls.sides import ClientSide, ServerSide
from sidecar.process_log import event
from sidecar.security.identity.certificates.trouble import Code, Trouble, TroubleError, moment, span
from sidecar.security.identity.certificates.validity import DAY_S, Life, Told, is_to_tell
from sidecar.security.identity.followed_files import FollowedFiles
from sidecar.security.identity.making import Held, Made

logger = logging.getLogger(__name__)

Purpose = Literal["identity", "listener", "upstream"]
Counts = dict[tuple[str, str], int]
"""What came to replace something, by purpose and outcome: `replaced` or `refused`."""
Maker = Callable[[Mapping[str, bytes], float, bool], Made]
"""Of what the files hold, at this time, and whether nothing is held yet; in a thread."""

_LIFE_EVENTS: Final[Mapping[Life, tuple[int, str]]] = {
    "not_yet": (logging.WARNING, "certificate_not_yet_valid"),
    "fine": (logging.INFO, "certificate_fine"),
    "due": (logging.WARNING, "certificate_renewal_overdue"),
    "last_quarter": (logging.WARNING, "certificate_ends_soon"),
    "expired": (logging.ERROR, "certificate_expired"),
}

_FINE: Final = Told()


class Outcome:
    """What a look came to; made in a thread, read on the loop."""

    __slots__ = ("made", "trouble")

    def __init__(self, made: Made | None, trouble: Trouble | None) -> None:
        self.made = made
        self.trouble = trouble


class Kept:
    """
    Args:
        purpose: For whom.
        maker: Makes what is held of what the files hold.
        files: Followed; None where a source hands over what there is.
        counts: Counted up; it outlives this.
        is_renewed_daily: Contexts are made anew each day, though nothing has changed: keys of tickets of TLS 1.2 would
            open what was recorded for as long as they are kept (RFC 9325, 4.4).

    Attributes:
        is_staged: It is for a plan that is not in force: nothing is told or counted.
        made: What is held; None for nothing yet.
        made_at_s: Since when, since the Unix epoch.
        trouble: What is wrong with what came last; what is held is not affected.
        trouble_since_s: Since when.
        replaced, refused: How often something took the place of another, and how often it was not let.
        servers, clients: Who is given contexts, by name and settings.
    """

    __slots__ = (
        "_counts",
        "_is_due",
        "_is_same",
        "_judged",
        "_refreshed_at_s",
        "_told",
        "_told_trouble",
        "clients",
        "files",
        "is_renewed_daily",
        "is_staged",
        "made",
        "made_at_s",
        "maker",
        "purpose",
        "refused",
        "replaced",
        "retry_at_s",
        "servers",
        "trouble",
        "trouble_since_s",
    )

    def __init__(
        self,
        purpose: Purpose,
        maker: Maker,
        files: FollowedFiles | None,
        counts: Counts,
        is_renewed_daily: bool = False,
    ) -> None:
        self.purpose = purpose
        self.maker = maker
        self.files = files
        self.is_renewed_daily = is_renewed_daily
        self.is_staged = False
        self.made: Made | None = None
        self.made_at_s = 0.0
        self.retry_at_s: float | None = None
        self.trouble: Trouble | None = None
        self.trouble_since_s = 0.0
        self.replaced = 0
        self.refused = 0
        self.servers: dict[tuple[str, object], ServerSide] = {}
        self.clients: dict[tuple[str, object], ClientSide] = {}
        self._counts = counts
        self._told: dict[str, Told] = {}
        self._told_trouble = _FINE
        self._is_due = False
        self._is_same = False
        self._judged: Trouble | None = None
        self._refreshed_at_s = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the listeners or upstreams that it is for; one, which is empty, for the identity."""
        if self.purpose == "identity":
            return ("",)
        return tuple(sorted({name for name, _ in (*self.servers, *self.clients)}))

    @property
    def _shown_names(self) -> str:
        return ", ".join(self.names)

    # --- in a thread -------------------------------------------------------------------------------------------

    def look(self, now_s: float, now_ns: int) -> Outcome | None:
        """Read what has changed and make something of it; None if nothing has. Blocks."""
        contents: Mapping[str, bytes] | None = {} if self._is_due else None
        if self.files is not None:
            try:
                contents = self.files.look(now_ns)
            except TroubleError as error:
                return Outcome(None, error.trouble)
        return None if contents is None else self._make(contents, now_s)

    def _make(self, contents: Mapping[str, bytes], now_s: float) -> Outcome:
        try:
            self._is_due = False
            return Outcome(made := self.maker(contents, now_s, self.made is None), made.trouble)
        except TroubleError as error:
            return Outcome(None, error.trouble)
        except (ssl.SSLError, ValueError) as error:
            # Of what is in a certificate and we do not look at: names that are no text, say.
            where = ", ".join(self.files.paths) if self.files is not None else "what was handed over"
            return Outcome(None, Trouble("malformed", f"{where}: OpenSSL cannot use this: {error}"))
        except OSError as error:
            # No descriptor left, most likely: what there is has not been judged.
            self._again()
            why = (error.strerror or str(error)).lower()
            return Outcome(None, Trouble("source_failed", f"cannot load a key now, and try again: {why}"))

    # --- on the loop -------------------------------------------------------------------------------------------

    def follow(self, maker: Maker, files: FollowedFiles | None) -> None:
        """Another source, or what it has now where there are no files: to be tried at the next look."""
        self.maker, self.files = maker, files
        self.retry_at_s = None
        self._again()

    def wait(self) -> None:
        """Nothing is followed, and nothing tried until `follow`."""
        self.files, self.retry_at_s, self._is_due = None, None, False
        self.trouble = self._judged = None

    def adopt(self, other: Kept, now_s: float) -> None:
        """Follow what another one follows, and take what it came to, if it came to anything."""
        self.maker, self.files, self.retry_at_s = other.maker, other.files, other.retry_at_s
        self._is_due = other._is_due
        if other.made is not None:
            self.take(Outcome(other.made, other.trouble), now_s)
        elif other.trouble is not None:
            self.take(Outcome(None, other.trouble), now_s)
        self.tell(now_s)

    def enter_force(self, now_s: float) -> None:
        """The plan that it was staged for is in force: tell what it came to."""
        self.is_staged = False
        if self.made is not None:
            self._tell_made(self.made, is_first=True)
        self.tell(now_s)

    def begin(self, now_s: float) -> None:
        """Before a look: what may be different by now though no file is."""
        is_old = self.is_renewed_daily and self.made is not None and not 0 <= now_s - self._refreshed_at_s < DAY_S
        is_time = self.retry_at_s is not None and now_s >= self.retry_at_s
        if is_old or is_time:
            self.retry_at_s = None
            self._refreshed_at_s = now_s
            self._is_same = not is_time
            self._again()

    def take(self, outcome: Outcome | None, now_s: float) -> None:
        """What a look came to: replace what is held, or keep it and say why."""
        if outcome is None:
            # What could not be read can be again, and is what it was.
            if self.trouble is not None and self.trouble.code in ("unreadable", "hangs"):
                self._set_trouble(self._judged, now_s)
            return
        if outcome.trouble is None or outcome.trouble.code != "unreadable":
            self._judged = outcome.trouble
        if outcome.made is not None:
            self._replace(outcome.made, now_s)
        elif outcome.trouble is not None and (self.trouble is None or self.trouble.text != outcome.trouble.text):
            self.refused += 1
            self._count("refused")
        self._is_same = False
        self._set_trouble(outcome.trouble, now_s)

    def fail(self, code: Code, text: str, now_s: float) -> None:
        """There is nothing to judge, for this reason."""
        self._set_trouble(Trouble(code, text), now_s)

    def recover(self, now_s: float) -> None:
        """A source that had nothing has again what it had before: what is wrong, if anything, is what was then."""
        self._set_trouble(self._judged, now_s)

    def add_server(self, key: tuple[str, object], side: ServerSide) -> None:
        """A listener that is to show what is held; one that is known already is given nothing new."""
        if key in self.servers:
            return
        self.servers[key] = side
        if self.made is not None:
            _give_server(side, self.made)
        elif self.trouble is not None:
            side.why_none = self.trouble.text

    def add_client(self, key: tuple[str, object], side: ClientSide) -> None:
        """An upstream that is to use what is held; as `add_server`."""
        if key in self.clients:
            return
        self.clients[key] = side
        if self.made is not None:
            _give_client(side, self.made)
        elif self.trouble is not None:
            side.why_none = self.trouble.text

    def why_not_ready(self, now_s: float) -> str | None:
        """
        Why listeners cannot serve, or None.

        An identity that has ended makes a process unready only if none of its listeners takes anything in clear: no
        outage of who signs may turn away those who never needed it.
        """
        if self.purpose == "upstream":
            return None
        what = "no identity" if self.purpose == "identity" else f"no certificate for the listener {self._shown_names}"
        if self.made is None:
            return f"{what} yet" + (f": {self.trouble.text}" if self.trouble is not None else "")
        ended = next((one for one in self.made.certificates if one.life(now_s) == "expired"), None)
        if self.purpose == "listener" or ended is None or not self.servers:
            return None
        if any(side.takes_clear for side in self.servers.values()):
            return None
        return f"{what} any more: {ended.facts.name} ended at {moment(ended.facts.not_after_s)}"

    def tell(self, now_s: float) -> None:
        """Lines about what ends and what is wrong: at each change, and once a day."""
        if self.is_staged:
            return
        told: dict[str, Told] = {}
        for one in self.made.certificates if self.made is not None else ():
            key, life = f"{one.which} {one.at} {one.facts.name}", one.life(now_s)
            told[key] = self._told.get(key, _FINE)
            if is_to_tell(told[key], life, now_s):
                told[key] = Told(life, now_s)
                self._tell_life(one, life, now_s)
        self._told = told
        text = self.trouble.text if self.trouble is not None else _FINE.state
        if is_to_tell(self._told_trouble, text, now_s):
            self._told_trouble = Told(text, now_s)
            self._tell_trouble()

    # ---

    def _count(self, outcome: str) -> None:
        if self.is_staged:
            return
        key = self.purpose, outcome
        self._counts[key] = self._counts.get(key, 0) + 1

    def _again(self) -> None:
        self._is_due = True
        if self.files is not None:
            self.files.again()

    def _replace(self, made: Made, now_s: float) -> None:
        is_first = self.made is None
        self.made = made
        self.made_at_s = self._refreshed_at_s = now_s
        for server in self.servers.values():
            _give_server(server, made)
        for client in self.clients.values():
            _give_client(client, made)
        if self._is_same:
            return
        if not is_first:
            self.replaced += 1
            self._count("replaced")
        self._tell_made(made, is_first=is_first)

    def _tell_made(self, made: Made, *, is_first: bool) -> None:
        if self.is_staged:
            return
        leaf = next((one for one in made.certificates if one.which == "leaf"), None)
        name = "certificate_loaded" if is_first else "certificate_replaced"
        if leaf is None:
            self._log(logging.INFO, "trust_loaded" if is_first else "trust_replaced")
        else:
            # SPIRE's certificates have a subject, which is the same in all of them.
            whose = made.credentials.identity if made.credentials is not None else None
            self._log(
                logging.INFO, name, certificate=leaf.facts.name, identity=whose if whose != leaf.facts.name else None,
                file=leaf.at, issuer=leaf.facts.issuer, not_after=moment(leaf.facts.not_after_s),
                sha256=leaf.facts.fingerprint,
            )  # fmt: skip

    def _set_trouble(self, trouble: Trouble | None, now_s: float) -> None:
        if trouble is not None and (self.trouble is None or self.trouble.code != trouble.code):
            self.trouble_since_s = now_s
        self.trouble = trouble
        self.retry_at_s = trouble.until_s if trouble is not None else None
        if self.made is None and trouble is not None:
            for server in self.servers.values():
                server.why_none = trouble.text
            for client in self.clients.values():
                client.why_none = trouble.text

    def _tell_life(self, held: Held, life: Life, now_s: float) -> None:
        left_s = held.facts.not_after_s - now_s
        level, name = _LIFE_EVENTS[life]
        self._log(
            level, name, which=held.which, certificate=held.facts.name, file=held.at, issuer=held.facts.issuer,
            not_after=moment(held.facts.not_after_s), left=span(left_s) if left_s > 0 else None,
            ended_ago=span(left_s) if left_s <= 0 else None,
        )  # fmt: skip

    def _tell_trouble(self) -> None:
        if self.trouble is None:
            self._log(logging.INFO, "certificate_trouble_over")
            return
        leaf = next((one for one in self.made.certificates if one.which == "leaf"), None) if self.made else None
        holds = f"until {moment(leaf.facts.not_after_s)}" if leaf is not None else "yes" if self.made else "nothing"
        self._log(logging.ERROR, "certificate_refused", code=self.trouble.code, problem=self.trouble.text, held=holds)

    def _log(self, level: int, name: str, **values: object) -> None:
        logger.log(level, event(name, purpose=self.purpose, of=self._shown_names or None, **values))


def _give_server(side: ServerSide, made: Made) -> None:
    server = made.stream_server if side.takes_streams and made.stream_server is not None else made.server
    if server is not None:
        held = made.credentials
        side.replace(server, held.trust_domain if held is not None else "", held.identity if held is not None else "")


def _give_client(side: ClientSide, made: Made) -> None:
    client = made.stream_client if side.is_stream and made.stream_client is not None else made.client
    if client is not None:
        ends_s = min((one.facts.not_after_s for one in made.certificates if one.which == "leaf"), default=inf)
        side.replace(client, ends_s, None if side.is_stream else made.shared_client)
