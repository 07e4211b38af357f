"""The token by which etcd knows its user: fetched when it is first needed, and again when it is refused. *Cold.*"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sidecar.control.engines.etcd.settings import EtcdSettings
from sidecar.control.engines.etcd.wire import FAILED_PRECONDITION, INVALID_ARGUMENT, EtcdError, unintelligible
from sidecar.process_log import event

logger = logging.getLogger(__name__)

Post = Callable[[str, Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]
"""(path, body, token) at one member. Raises EtcdError."""

_MAX_PASSWORD_BYTES: Final = 4096


class Tokens:
    """
    One token for all members: etcd's simple tokens live for 5 min after their last use (`--auth-token-ttl`), and die
    with the restart of a member, so that being refused is nothing special.

    Args:
        settings: Whose.
    """

    def __init__(self, settings: EtcdSettings) -> None:
        self._user = settings.user
        self._password_file = settings.password_file
        self._token = ""
        self._has_warned = False
        self._one_at_a_time = asyncio.Lock()

    async def current(self, post: Post) -> str:
        """A token, fetched through `post` if there is none; empty where there is no user. Raises EtcdError."""
        if not self._user:
            return ""
        async with self._one_at_a_time:
            if not self._token:
                self._token = await self._authenticate(post)
            return self._token

    def can_renew(self, error: EtcdError) -> bool:
        """Whether another token may help."""
        return bool(self._user) and error.is_token

    def forget(self, token: str) -> None:
        """This one was refused. Of many calls that were refused with it, one fetches the next."""
        if self._token == token:
            self._token = ""

    async def _authenticate(self, post: Post) -> str:
        try:
            password = await asyncio.to_thread(_read_password, self._password_file)
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise EtcdError(f"{self._password_file}: {why}", INVALID_ARGUMENT, is_unsent=True) from None
        try:
            answer = await post("/v3/auth/authenticate", {"name": self._user, "password": password}, "")
        except EtcdError as error:
            if error.code != FAILED_PRECONDITION:
                raise
            # etcd's own clients go on, too; when it is switched on, calls are refused and this is asked again.
            if not self._has_warned:
                self._has_warned = True
                logger.warning(event("etcd_without_authentication", user=self._user, said=error.text))
            return ""
        token = answer.get("token")
        if not isinstance(token, str) or not token:
            raise unintelligible("no token")
        return token


def _read_password(path: str) -> str:
    raw = Path(path).read_bytes()
    if len(raw) > _MAX_PASSWORD_BYTES:
        raise ValueError(f"expected a password of at most {_MAX_PASSWORD_BYTES} octets")
    # Editors end a file with a line end, and no password does.
    password = raw.decode().rstrip("\r\n")
    if not password:
        raise ValueError("expected a password, found nothing")
    return password
