"""The files that joining reads: a token's, a root's. *Cold: on threads, within a time.*"""

from __future__ import annotations

from typing import Final

from sidecar.link.identity.messages import MAX_PEM_CHARS
from sidecar.link.identity.token_file import TokenFile, parse_token
from sidecar.link.transport.reading import Read, read_token

READ_LIMIT_S: Final = 5.0


class JoinFiles:
    """`interfaces.Files` by paths, which may be empty where nobody asks for one."""

    def __init__(self, token_file: str, trust_file: str) -> None:
        self._token = Read(lambda: parse_token(read_token(token_file)))
        self._trust = Read(lambda: _text(trust_file))

    async def token(self) -> TokenFile:
        """As in `Files`."""
        return await self._token.result(READ_LIMIT_S)

    async def trust(self) -> str:
        """As in `Files`."""
        return await self._trust.result(READ_LIMIT_S)


def _text(path: str) -> str:
    with open(path, "rb") as file:
        raw = file.read(MAX_PEM_CHARS + 1)
    if len(raw) > MAX_PEM_CHARS:
        raise ValueError(f"expected certificates in PEM, at most {MAX_PEM_CHARS} octets")
    return raw.decode("latin-1")
