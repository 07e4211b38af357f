"""The bearer tokens that let sidecars and people in: a file, followed. *Cold.*"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from typing import Final

from sidecar.files import Fingerprint, look
from sidecar.process_log import event, learn

logger = logging.getLogger(__name__)

PERIOD_S: Final = 1.0
MAX_BYTES: Final = 64 * 1024
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1: b64token
_LEAST_CHARS: Final = 16


class TokenError(Exception):
    """The file cannot be used; why, in one line."""


def read_tokens(path: str) -> tuple[bytes, ...]:
    """
    One token a line, so that a new one can be given out before the old one ends; empty lines and `#` are left out.
    Blocks.

    Raises:
        TokenError: There is none, or one that cannot be one.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TokenError(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    lines = [line.strip() for line in raw.splitlines()]
    tokens = tuple(line for line in lines if line and not line.startswith(b"#"))
    if len(raw) > MAX_BYTES or not tokens:
        raise TokenError(f"{path}: expected a token, one a line, found {'too much' if tokens else 'none'}")
    for number, line in enumerate(lines, 1):
        if line in tokens and (not _TOKEN.fullmatch(line) or len(line) < _LEAST_CHARS):
            raise TokenError(
                f"{path}:{number}: expected at least {_LEAST_CHARS} of the characters A-Z a-z 0-9 - . _ ~ + /,"
                " found something else; `openssl rand -base64 32` makes one"
            )
    return tokens


class Tokens:
    """
    Those that hold now. A file that cannot be used any more changes nothing: the last ones hold, and it is told.

    Raises:
        TokenError: At the start.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._tokens = read_tokens(path)
        self._seen: Fingerprint | None = None
        self._error = ""
        learn(token.decode() for token in self._tokens)

    def admits(self, authorization: str) -> bool:
        """Whether the value of an `Authorization` field has one of them."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        given = token.strip().encode("utf-8", "replace")
        # Each is compared in a time that tells nothing of it.
        return any(hmac.compare_digest(given, known) for known in self._tokens)

    @property
    def first(self) -> str:
        """The one that this control plane shows itself to others that have the same file."""
        return self._tokens[0].decode()

    async def follow(self) -> None:
        """Look at the file once a second; ends only by being cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                seen, _ = await asyncio.to_thread(look, self._path)
                if seen == self._seen:
                    continue
                tokens = await asyncio.to_thread(read_tokens, self._path)
            except (OSError, ValueError, TokenError) as error:
                if str(error) != self._error:
                    self._error = str(error)
                    logger.error(event("token_file_not_used", error=error))
                continue
            if self._error:
                self._error = ""
                logger.info(event("token_file_works", file=self._path))
            self._seen = seen
            if tokens != self._tokens:
                learn(token.decode() for token in tokens)
                self._tokens = tokens
                logger.info(event("tokens_changed", file=self._path, tokens=len(tokens)))
