"""
What the token of a request comes to: looked up if it was seen, verified if not. *Hot path: a look-up; pure.*

Tokens are remembered by their SHA-256, never themselves: those that are accepted for as long as what they say stays
true, at most `REMEMBERED_S`; those that are not for some seconds, apart, so that no flood of them drives out the
others. New keys empty both. Times are those of the machine's clock, as `exp` is.

A request has the token of its only `Authorization: Bearer` (RFC 6750, 2.1). Several fields of that name are none: a
server behind us might take another one of them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final, Protocol

from sidecar.message import RequestHead
from sidecar.peer import Token
from sidecar.security.tokens.library import KeySet, Read, UnreadableError, is_signed, read_token
from sidecar.security.tokens.rules import KeySource, TokenRule, Window, window_of

MAX_TOKEN_BYTES: Final = 8192
MAX_ACCEPTED: Final = 4096
MAX_REFUSED: Final = 1024
REMEMBERED_S: Final = 300.0
"""A token that was taken back is believed no longer than it says itself; this bounds what else may change."""
REFUSED_S: Final = 10.0

OUTCOMES: Final[Mapping[str, str]] = {
    "accepted": "",
    "several": "which comes with several `authorization` fields",
    "too_long": f"whose token is longer than {MAX_TOKEN_BYTES} bytes",
    "malformed": "whose token cannot be read",
    "algorithm": "whose token is signed by an algorithm that proves nothing here",
    "issuer": "whose token is of an issuer that no rule names",
    "no_keys": "whose token cannot be verified: its issuer's keys have not come yet",
    "unknown_key": "whose token names a key that its issuer does not have, or is by another algorithm",
    "signature": "whose token is not signed by a key of its issuer",
    "no_expiry": "whose token does not say when it ends (`exp`), or says a time that is none",
    "expired": "whose token has expired",
    "not_yet_valid": "whose token is not valid yet (`nbf`, `iat`)",
    "unmatched": "whose token is good and of no rule: its audience or claims are others",
}
"""What a token can come to, and how a person is told; a label of metrics."""

_SEVERAL: Final = Token("several", why=OUTCOMES["several"])
_TOO_LONG: Final = Token("too_long", why=OUTCOMES["too_long"])
_OUTCOME_RANK: Final = ("no_keys", "unknown_key", "signature", "no_expiry", "expired", "not_yet_valid", "unmatched")
"""Where rules differ in why they do not take it, the last of these is told: it came furthest."""


class Keyring(Protocol):
    """Has the keys of each source; `holder.TokenKeys` does."""

    def key_set(self, source: KeySource) -> KeySet | None:
        """What is held; None while nothing has come."""

    def miss(self, source: KeySource) -> None:
        """A token names a key that is not held: there may be a new one."""


class _Entry:
    __slots__ = ("token", "until_s")

    def __init__(self, token: Token, until_s: float) -> None:
        self.token = token
        self.until_s = until_s


class Tokens:
    """
    For one set of rules.

    Args:
        rules: All that ask for tokens.
        keys: Of their sources.
        counts: Counted up by outcome; it outlives this.
        now_s: Since the Unix epoch.
        most_accepted, most_refused: How many are remembered.
    """

    __slots__ = (
        "_accepted", "_by_issuer", "_counts", "_keys", "_most_accepted", "_most_refused", "_now_s", "_refused",
    )  # fmt: skip

    def __init__(
        self,
        rules: Sequence[TokenRule],
        keys: Keyring,
        counts: dict[str, int],
        now_s: Callable[[], float] = time.time,
        most_accepted: int = MAX_ACCEPTED,
        most_refused: int = MAX_REFUSED,
    ) -> None:
        self._by_issuer: dict[str, list[TokenRule]] = {}
        for rule in rules:
            self._by_issuer.setdefault(rule.issuer, []).append(rule)
        self._keys = keys
        self._counts = counts
        self._now_s = now_s
        self._most_accepted = most_accepted
        self._most_refused = most_refused
        self._accepted: OrderedDict[bytes, _Entry] = OrderedDict()
        self._refused: OrderedDict[bytes, _Entry] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Tokens {len(self._accepted)} accepted>"

    def of(self, head: RequestHead) -> Token | None:
        """What the request's token comes to; None if it has none."""
        found: bytes | None = None
        for field in head.fields:
            if field.name == b"authorization":
                if found is not None:
                    return self._counted(_SEVERAL)
                found = field.value
        if found is None or found[:7].lower() != b"bearer ":
            return None
        if len(found) > MAX_TOKEN_BYTES + 7:
            return self._counted(_TOO_LONG)
        now_s = self._now_s()
        key = sha256(found).digest()
        entry = self._accepted.get(key)
        if entry is not None and now_s < entry.until_s:
            self._accepted.move_to_end(key)
            return self._counted(entry.token)
        entry = self._refused.get(key)
        if entry is not None and now_s < entry.until_s:
            return self._counted(entry.token)
        token, until_s = self._judge(found[7:].strip(b" "), now_s)
        if token.outcome == "accepted":
            _keep(self._accepted, key, _Entry(token, until_s), self._most_accepted)
        else:
            _keep(self._refused, key, _Entry(token, until_s), self._most_refused)
        return self._counted(token)

    def forget(self) -> None:
        """Keys have changed."""
        self._accepted.clear()
        self._refused.clear()

    def _counted(self, token: Token) -> Token:
        self._counts[token.outcome] = self._counts.get(token.outcome, 0) + 1
        return token

    # --- cold --------------------------------------------------------------------------------------------------

    def _judge(self, token: bytes, now_s: float) -> tuple[Token, float]:
        """What a token comes to that is not remembered, and until when that is true."""
        until_s = now_s + REFUSED_S
        try:
            read = read_token(token)
        except UnreadableError as error:
            return _refused(str(error)), until_s
        issuer = read.claims.get("iss")
        rules = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if rules is None:
            return _refused("issuer"), until_s
        window = window_of(read.claims)
        outcomes: set[str] = set()
        words: set[str] = set()
        lasts_s = now_s + REMEMBERED_S
        signed: dict[KeySource, str] = {}
        for rule in rules:
            if rule.keys not in signed:
                signed[rule.keys] = self._signature(read, rule.keys)
            outcome = signed[rule.keys] or _when(window, rule.leeway_s, now_s)
            if not outcome and not rule.admits(read.claims):
                outcome = "unmatched"
            if outcome:
                outcomes.add(outcome)
            else:
                words.add(rule.word)
            if window is not None and not signed[rule.keys]:
                # What a rule says of it changes when it begins and when it ends.
                for moment_s in (window.begins_s - rule.leeway_s, window.ends_s + rule.leeway_s):
                    if now_s < moment_s:
                        lasts_s = min(lasts_s, moment_s)
        if words:
            return Token("accepted", str(issuer), tuple(sorted(words))), lasts_s
        outcome = max(outcomes, key=_OUTCOME_RANK.index)
        is_genuine = _OUTCOME_RANK.index(outcome) > _OUTCOME_RANK.index("signature")
        return _refused(outcome, str(issuer) if is_genuine else ""), min(until_s, lasts_s)

    def _signature(self, read: Read, source: KeySource) -> str:
        """Why no key of this source has signed it, or nothing."""
        held = self._keys.key_set(source)
        if held is None:
            return "no_keys"
        candidates = held.candidates(read.algorithm, read.kid)
        if not candidates:
            self._keys.miss(source)
            return "unknown_key"
        return "" if any(is_signed(read, key) for key in candidates) else "signature"


def _when(window: Window | None, leeway_s: float, now_s: float) -> str:
    if window is None:
        return "no_expiry"
    if now_s >= window.ends_s + leeway_s:
        return "expired"
    return "not_yet_valid" if now_s < window.begins_s - leeway_s else ""


def _refused(outcome: str, issuer: str = "") -> Token:
    return Token(outcome, issuer, why=OUTCOMES[outcome])


def _keep(entries: OrderedDict[bytes, _Entry], key: bytes, entry: _Entry, most: int) -> None:
    """Keep it, and of too many not the one that was used longest ago."""
    entries[key] = entry
    entries.move_to_end(key)
    if len(entries) > most:
        entries.popitem(last=False)
